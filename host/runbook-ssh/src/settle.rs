//! Settles what became of a change that left an earlier session of the run, and whose answer was lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook_engine::backend::{CallContext, Mark};
use runbook_model::bytes::Bytes;
use runbook_model::call::{Answer, CallError, Command, Finding, Outcome, Output, Prior, SshAct, Undo};

use crate::command::exit;
use crate::doubt::{self, Doubt, Known, Settled, Word};
use crate::lease;
use crate::machine::{Machine, Sources, Who};
use crate::marks::{self, Marks};
use crate::quote::describe;
use crate::shells::Lane;
use crate::system;

/// Between two looks at something that is at work.
const BETWEEN: Duration = Duration::from_secs(2);
/// Between two looks at something that may only just have ended: its shell notes that a moment later.
const MOMENT: Duration = Duration::from_millis(500);
/// Of these, before it counts as gone, or its output as lost.
const MOMENTS: u32 = 4;

/// A command, or several joined by pipes, or what carries an HTTP request.
pub(crate) struct Change<'a> {
    /// For people.
    pub(crate) what: String,
    pub(crate) who: Who,
    pub(crate) done_when: Option<&'a Command>,
    pub(crate) undo: &'a Undo,
    /// How to make an answer of what was kept of it. None: nobody can tell whether it was carried out.
    pub(crate) answer: fn(Output) -> Option<Output>,
}

impl<'a> Change<'a> {
    /// A change by commands.
    pub(crate) fn of_commands(
        machine: &Machine,
        pipeline: &'a [Command],
        done_when: Option<&'a Command>,
        undo: &'a Undo,
    ) -> Self {
        let what = pipeline.iter().map(|command| describe(&command.argv)).collect::<Vec<_>>().join(" | ");
        let who = pipeline.first().map_or(Who::Login, |first| machine.who(first));
        Self { what, who, done_when, undo, answer: Some }
    }
}

/// The boot id that was seen before a change; empty: none was.
pub(crate) fn boot_id_of(prior: &Prior) -> &str {
    match prior {
        Prior::Process { boot_id, .. } => boot_id,
        Prior::None | Prior::DoneWhen(_) | Prior::File(_) | Prior::Object { .. } | Prior::PodFile { .. } => "",
    }
}

/// Whether a change's output is kept: where nothing else tells how it ended, and doing it again would not give its answer, or takes so
/// long that somebody watches it, and should not end because nobody listens any more.
pub(crate) fn is_precious(act: &SshAct) -> bool {
    match act {
        SshAct::Run { pipeline, done_when, undo, .. } => {
            done_when.is_none() && (*undo != Undo::Harmless || pipeline.iter().any(|command| command.follow))
        }
        SshAct::Http { undo, .. } => *undo != Undo::Harmless,
        SshAct::Reboot { .. } | SshAct::Confirm { .. } => false,
    }
}

/// Settles what became of a change that leaves marks.
pub(crate) async fn marked(
    machine: &Arc<Machine>,
    change: &Change<'_>,
    prior: &Prior,
    mark: &Mark,
    sources: &dyn Sources,
    ctx: &CallContext,
) -> Result<Finding, CallError> {
    let held = lease::acquire(machine, change.who, mark, ctx).await?;
    let boot_id = machine.boot_id(change.who, ctx).await?;
    let known = Known {
        boot_id_before: boot_id_of(prior),
        boot_id: &boot_id,
        // Only a session that came to its end clears the notes: not the one that lost the answer.
        complete: held.since == 1 || mark.session <= 2,
    };
    let began = Instant::now();
    let mut moments = 0;
    let (doubt, marks) = loop {
        let marks = marks::look(machine, change.who, &held, mark, ctx).await?;
        match doubt::word(&marks, known) {
            Word::NeverRan => return Ok(Finding::NotDone),
            Word::Ended(status) => return ended(machine, change, &marks, status, sources, ctx).await,
            Word::AtWork => at_work(machine, change, &marks, began, ctx).await?,
            Word::Open(Doubt::Vanished) if moments < MOMENTS => {
                moments += 1;
                machine.wait(tokio::time::sleep(MOMENT), ctx, &change.what).await?;
            }
            Word::Open(doubt) => break (doubt, marks),
        }
    };
    tracing::debug!(?doubt, ?marks, "the marks do not tell");
    let done = done(machine, change.done_when, sources, ctx).await?;
    Ok(match doubt::settled(doubt, done, *change.undo == Undo::Harmless) {
        Settled::Already => Finding::Done(Answer::Outcome(Outcome::Already)),
        Settled::NotDone => Finding::NotDone,
        Settled::Unclear => Finding::Unclear(doubt::words(doubt, &change.what, &machine.name, done)),
    })
}

/// Waits a little for something that is at work.
async fn at_work(
    machine: &Arc<Machine>,
    change: &Change<'_>,
    marks: &Marks,
    began: Instant,
    ctx: &CallContext,
) -> Result<(), CallError> {
    let (what, name) = (&change.what, &machine.name);
    let groups = marks.start.iter().flat_map(|start| &start.groups).map(u32::to_string).collect::<Vec<_>>().join(", ");
    let waiting = format!("{what} of an earlier session (process group {groups})");
    ctx.progress.progress(&format!("waiting on {name} for {waiting}"), began.elapsed().as_secs(), None, "seconds");
    machine.wait(tokio::time::sleep(BETWEEN), ctx, &waiting).await
}

async fn done(
    machine: &Arc<Machine>,
    done_when: Option<&Command>,
    sources: &dyn Sources,
    ctx: &CallContext,
) -> Result<Option<bool>, CallError> {
    let Some(command) = done_when else { return Ok(None) };
    let output = machine.one(std::slice::from_ref(command), Lane::Look, None, sources, ctx).await?;
    Ok(Some(output.exit.success()))
}

/// The answer of something that ended: as it was, where its output was kept to the end.
async fn ended(
    machine: &Arc<Machine>,
    change: &Change<'_>,
    marks: &Marks,
    status: i32,
    sources: &dyn Sources,
    ctx: &CallContext,
) -> Result<Finding, CallError> {
    let (what, name) = (&change.what, &machine.name);
    for moment in 0..=MOMENTS {
        if moment > 0 {
            machine.wait(tokio::time::sleep(MOMENT), ctx, &format!("the output of {what}")).await?;
        }
        match marks::kept(machine, change.who, what, marks, ctx).await? {
            marks::Kept::Whole(output) => {
                return Ok(match (change.answer)(output) {
                    Some(output) => Finding::Done(Answer::Outcome(Outcome::Done(output))),
                    None if *change.undo == Undo::Harmless => Finding::NotDone,
                    None => Finding::Unclear(format!(
                        "{what} from {name} ended without an answer of the server: look there whether it was carried out"
                    )),
                });
            }
            marks::Kept::Part => {}
            marks::Kept::Nothing => break,
        }
    }
    if done(machine, change.done_when, sources, ctx).await? == Some(true) {
        return Ok(Finding::Done(Answer::Outcome(Outcome::Already)));
    }
    if *change.undo == Undo::Harmless {
        // Its end may be that nobody listened any more, and its answer is lost.
        return Ok(Finding::NotDone);
    }
    let text = format!(
        "runbook: {what} ended on {name} after the connection to it was lost; what it wrote was lost with the connection\n"
    );
    let output = Output { exit: exit(status), stdout: Bytes::default(), stderr: Bytes::from(text.as_str()) };
    Ok(Finding::Done(Answer::Outcome(Outcome::Done(output))))
}

/// Settles what became of a reboot: waits until the machine answers.
pub(crate) async fn reboot(
    machine: &Arc<Machine>,
    timeout: Duration,
    prior: &Prior,
    mark: &Mark,
    ctx: &CallContext,
) -> Result<Finding, CallError> {
    let before = boot_id_of(prior);
    let boot_id = system::wait_for(machine, "", timeout, ctx).await?;
    lease::acquire(machine, machine.privileged(), mark, ctx).await?;
    Ok(if before.is_empty() {
        Finding::Unclear(format!(
            "nobody noted the boot id of {} before its reboot: look there whether it has rebooted",
            machine.name
        ))
    } else if before == boot_id {
        Finding::NotDone
    } else {
        Finding::Done(Answer::Outcome(Outcome::Done(system::rebooted(&boot_id))))
    })
}
