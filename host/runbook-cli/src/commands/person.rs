//! What a person asks and says of a run: `runbook next`, `done` and `resolve`.

use std::io::Write;

use runbook_engine::journal::{Journal, Start};
use runbook_engine::run::ByHand;
use runbook_model::event::{Event, Instance, RunOutcome, Verb};
use runbook_model::exit_code;
use runbook_model::history::{Entry, History};
use runbook_model::redact::Redactor;

use crate::args;
use crate::commands::again::Opened;
use crate::commands::exec::{holds_targets, journal_broke};
use crate::display::{self, Styles, elapsed, hint, print};
use crate::error::CliError;
use crate::gate::Gatekeeper;
use crate::locks::{Locks, boot_id};
use crate::prompts::Terminal;
use crate::runs_dir;
use crate::session;

/// Tells where a run is, what of it is still open, and which command goes on.
pub(crate) fn next(args: &args::Next) -> Result<u8, CliError> {
    let run = runs_dir::find_open(args.run.as_deref())?;
    let records = runs_dir::read(&run)?;
    let (began, last) = (records.first().map_or(0, |r| r.at), records.last().map_or(0, |r| r.at));
    let history = runs_dir::history(&run)?;
    let mut out = anstream::stdout().lock();
    let _ = write_next(&mut out, &run, &history, last.saturating_sub(began));
    Ok(exit_code::SUCCESS)
}

fn write_next(out: &mut impl Write, run: &str, history: &History, elapsed_ms: u64) -> std::io::Result<()> {
    let (bold, dim, bad) = (Styles::BOLD, Styles::DIM, Styles::BAD);
    let state = &history.state;
    let undoing =
        matches!(history.verb, Some(Verb::Undo | Verb::Redo)) && state.finished() != Some(RunOutcome::Succeeded);
    let word = match history.carried_out.or(state.finished()) {
        _ if state.is_abandoned() => "was abandoned",
        _ if state.finished().is_none() => "did not come to its end",
        _ if undoing => "is stuck: its undo needs you",
        _ if history.carried_out.is_none() => "was taken back",
        None => "did not come to its end",
        Some(RunOutcome::Succeeded) => "came to its end",
        Some(RunOutcome::Failed) => "failed",
        Some(RunOutcome::Stuck) => "is stuck: it needs you",
        Some(RunOutcome::Cancelled) => "was cancelled",
    };
    writeln!(
        out,
        "{bold}{run}{bold:#} {word} {dim}after {}, session {}{dim:#}",
        elapsed(elapsed_ms),
        state.sessions()
    )?;
    for step in &history.steps {
        let of_step = |instance: &Instance| instance.is_of(&step.id);
        let ended =
            history.past.iter().filter(|(instance, _)| of_step(instance)).filter_map(|(_, past)| past.ended.as_ref());
        let (sign, style) = match ended.map(|ended| ended.outcome).max() {
            Some(outcome) => Styles::outcome(outcome),
            None => ("·", Styles::DIM),
        };
        let at_work = state.open().any(of_step);
        let note = if at_work { "  was at work when it broke off" } else { "" };
        writeln!(out, "  {style}{sign}{style:#} {} {dim}{}{dim:#}{note}", step.id, step.uses)?;
    }
    let open: Vec<String> = open_things(history).collect();
    if !open.is_empty() {
        writeln!(out, "\n{bold}Still open because of it:{bold:#}")?;
        for line in &open {
            writeln!(out, "  {line}")?;
        }
    }
    for (instance, stuck) in &history.stuck {
        writeln!(out, "\n{bad}{instance} needs you:{bad:#} {}", display::safe(&stuck.why))?;
        for line in &stuck.manual {
            writeln!(out, "  {}", display::safe(line))?;
        }
        if let Some(call) = stuck.call {
            let on = instance.host.as_ref().map(|host| format!(" --host {host}")).unwrap_or_default();
            let step = &instance.step;
            if state.is_in_doubt(&(instance.clone(), call)) {
                writeln!(
                    out,
                    "  runbook resolve {run} {step}{on} --done | --not-done   when you know whether it is done"
                )?;
            } else {
                writeln!(out, "  runbook resolve {run} {step}{on} --done   when you have taken it back by hand")?;
            }
        }
    }
    writeln!(out, "\n{bold}Goes on:{bold:#}")?;
    if state.is_abandoned() {
        writeln!(out, "  nothing: it was abandoned")
    } else if history.is_complete() {
        writeln!(out, "  nothing is left to do; runbook undo {run} takes back what it did")
    } else if undoing {
        writeln!(out, "  runbook undo {run}")
    } else {
        writeln!(out, "  runbook resume {run}   goes on where it was")?;
        match history.in_effect(false).next() {
            Some(_) => writeln!(out, "  runbook undo {run}     takes back what it did"),
            None if history.in_effect(true).next().is_some() => {
                writeln!(out, "  runbook undo {run} --redo   takes the undo back")
            }
            None => Ok(()),
        }
    }
}

fn open_things(history: &History) -> impl Iterator<Item = String> + '_ {
    let state = &history.state;
    let last = |id: &(Instance, u32)| history.stack.iter().rev().find(|entry| entry.id() == *id);
    let words = |entry: Option<&Entry>| match entry {
        Some(entry) => match entry.made() {
            Some(made) => made.diff.summary.clone(),
            None => entry.change().map(|change| change.effect.summary.clone()).unwrap_or_default(),
        },
        None => "a change".to_owned(),
    };
    let doubt = state.in_doubt().map(move |id| {
        format!("in doubt: {} {}: it left this machine, and nobody has heard what became of it", id.0, words(last(id)))
    });
    let waits = history.waiting().map(|entry| {
        let what = entry.change().map(|change| change.effect.summary.clone()).unwrap_or_default();
        format!("to be done at its time: {} {what}", entry.instance)
    });
    let blocks = state.blocks().map(|block| format!("the block {block} was entered and has not ended"));
    doubt.chain(waits).chain(blocks)
}

/// Records what a person did in place of a step.
pub(crate) async fn done(args: args::Done) -> Result<u8, CliError> {
    let opened = Opened::new(runs_dir::find_open(args.run.as_deref())?)?;
    let run = opened.run.clone();
    let of_step = |instance: &Instance| instance.step == args.step;
    if opened.past.state.in_doubt().any(|(instance, _)| of_step(instance)) {
        return Err(CliError::usage(format!("a change of {} is in doubt", args.step))
            .hint(format!("say first what became of it: runbook resolve {run} {} --done | --not-done", args.step)));
    }
    let session = opened.session(session::of_begun(&opened.begun)?, &[]).await?;
    if session.runbook.step(&args.step).is_none() {
        return Err(CliError::usage(format!("the runbook has no step `{}`", args.step)));
    }
    let (watcher, bars) = display::progress(false);
    let locks = Locks::take(&run, &session.inventory, &session.used(), false)?;
    let gate = Gatekeeper::new(false, &[], bars.clone());
    let mut launch = opened.launch(Verb::Done, gate, Terminal::new(bars));
    launch.watchers = vec![watcher];
    let mut launched = launch.start(session)?;
    let by_hand = ByHand { step: args.step.clone(), because: args.because };
    let inputs = std::mem::take(&mut launched.inputs);
    let result = launched.engine.done_by_hand(&launched.runbook, inputs, launched.header.clone(), &by_hand).await;
    launched.close().await;
    locks.give_back(holds_targets(&run));
    let (_, wrong) = result.map_err(journal_broke)?;
    if wrong.is_empty() {
        print(&format!("{}: done by hand, and the step agrees", args.step));
        hint(&format!("runbook resume {run} goes on after it"));
        return Ok(exit_code::SUCCESS);
    }
    for wrong in &wrong {
        let bad = Styles::BAD;
        let _ = writeln!(anstream::stderr().lock(), "{bad}not yet:{bad:#} {}", display::safe(wrong));
    }
    print(&format!("{}: the step does not agree that it is done", args.step));
    Ok(exit_code::STEP_FAILED)
}

/// Records what a person knows of a change.
pub(crate) async fn resolve(args: args::Resolve) -> Result<u8, CliError> {
    let opened = Opened::new(runs_dir::find(Some(&args.run))?)?;
    if args.release {
        return release(opened, &args.step).await;
    }
    let run = opened.run.clone();
    let is_meant = |instance: &Instance| {
        instance.step == args.step && args.host.as_ref().is_none_or(|host| instance.host.as_ref() == Some(host))
    };
    let doubts = opened.past.state.in_doubt().filter(|(instance, _)| is_meant(instance));
    let stuck = opened.past.stuck.iter().filter(|(instance, _)| is_meant(instance)).filter_map(|(instance, stuck)| {
        let id = (instance.clone(), stuck.call?);
        opened.past.state.is_in_effect(&id).then_some(id)
    });
    let calls: Vec<(Instance, u32)> = doubts.cloned().chain(stuck).collect();
    let [(instance, call)] = calls.as_slice() else {
        let error = match calls.is_empty() {
            true => format!("nothing of {} waits for a person's word", args.step),
            false => format!("several instances of {} wait for a person's word", args.step),
        };
        let hosts: Vec<&str> = calls.iter().filter_map(|(instance, _)| instance.host.as_deref()).collect();
        let error = CliError::usage(error).hint(format!("runbook next {run} tells what does"));
        return Err(if hosts.is_empty() {
            error
        } else {
            error.hint(format!("name one: --host {}", hosts.join(" or ")))
        });
    };
    let (instance, call, because) = (instance.clone(), *call, args.because.clone());
    let event = match (opened.past.state.is_in_doubt(&(instance.clone(), call)), args.done) {
        (true, done) => Event::Resolved { instance, call, done, because },
        (false, true) => Event::TakenBack { instance, call, how: format!("by hand: {because}") },
        (false, false) => {
            return Err(CliError::usage("it is not taken back: nothing is to be recorded")
                .hint(format!("runbook undo {run} tries again")));
        }
    };
    let outcome = opened.past.state.finished().unwrap_or(RunOutcome::Stuck);
    let reopened = Event::Reopened {
        verb: opened.past.verb.unwrap_or(Verb::Done),
        session: opened.past.state.sessions() + 1,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        sha256: opened.past.sha256.clone(),
        steps: opened.past.steps.clone(),
        plugins: opened.past.plugins.clone(),
        edits: Vec::new(),
        force: false,
        pid: std::process::id(),
        boot_id: boot_id(),
    };
    let finished = Event::RunFinished { outcome, summary: Default::default(), elapsed_ms: 0 };
    let start = Start::after(&opened.past);
    let journal = Journal::new(Some(opened.file), start, Redactor::default(), Vec::new());
    for event in [reopened, event, finished] {
        journal.append(event, true).await.map_err(journal_broke)?;
    }
    print(&format!("recorded for {}", args.step));
    hint(&format!("runbook next {run} tells which command goes on"));
    Ok(exit_code::SUCCESS)
}

async fn release(opened: Opened, block: &str) -> Result<u8, CliError> {
    let run = opened.run.clone();
    if !opened.past.state.blocks().any(|open| open == block) {
        return Err(CliError::usage(format!("the block `{block}` is not open in the run {run}")));
    }
    let session = opened.session(session::of_begun_without_plugins(&opened.begun)?, &[]).await?;
    let (watcher, bars) = display::progress(false);
    let locks = Locks::take(&run, &session.inventory, &session.used(), false)?;
    let gate = Gatekeeper::new(false, &[], bars.clone());
    let mut launch = opened.launch(Verb::Done, gate, Terminal::new(bars));
    launch.watchers = vec![watcher];
    let launched = launch.start(session)?;
    let result = launched.engine.release(&launched.runbook, block, launched.header.clone()).await;
    launched.close().await;
    locks.give_back(holds_targets(&run));
    let ended = result.map_err(journal_broke)?;
    print(&format!("{block}: {}", if ended.outcome == RunOutcome::Succeeded { "released" } else { "not released" }));
    Ok(exit_code::of(ended.outcome))
}
