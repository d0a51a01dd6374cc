//! `runbook resume` and `runbook undo`: later sessions of a run.

use std::path::PathBuf;

use runbook_engine::journal;
use runbook_engine::run::Undo;
use runbook_model::delta::sha256;
use runbook_model::edits;
use runbook_model::event::{RunOutcome, Verb};
use runbook_model::exit_code;
use runbook_model::history::History;

use crate::args;
use crate::asks::Afterwards;
use crate::commands::drill;
use crate::commands::exec::{end, go, holds_targets, journal_broke, recovered};
use crate::display::{self, Styles, hint, print};
use crate::error::CliError;
use crate::gate::Gatekeeper;
use crate::launch::Launch;
use crate::locks::{AtWork, Locks};
use crate::prompts::Terminal;
use crate::runs_dir::{self, Begun};
use crate::session::{self, Loaded, Selection, Session};

/// A run that is gone on with.
pub(crate) struct Opened {
    pub(crate) run: String,
    pub(crate) folder: PathBuf,
    pub(crate) begun: Begun,
    pub(crate) file: (PathBuf, std::fs::File),
    pub(crate) past: History,
    at_work: AtWork,
}

impl Opened {
    /// Opens a run whose name begins so, to go on with it.
    pub(crate) fn new(run: String) -> Result<Self, CliError> {
        let begun = Begun::load(&run)?;
        let folder = runs_dir::root()?.join(&run);
        // Before its journal is read: what another process is just writing is no torn tail.
        let at_work = AtWork::on(&folder)?;
        let (file, past) = journal::reopen(&folder).map_err(CliError::invalid)?;
        if past.state.is_abandoned() {
            return Err(CliError::usage(format!("the run {run} was abandoned: it is not gone on with")));
        }
        Ok(Self { run, folder, begun, file, past, at_work })
    }

    /// What the run was given, given again.
    pub(crate) async fn session(&self, loaded: Loaded, vars: &[(String, String)]) -> Result<Session, CliError> {
        let selection = Selection { only: self.begun.only.clone(), from: self.begun.from.clone() };
        session::prepare_again(loaded, &self.past.inputs, vars, selection).await
    }

    /// The launch of its next session.
    pub(crate) fn launch(self, verb: Verb, gate: Gatekeeper, prompts: Terminal) -> Launch {
        let mut launch = Launch::new(verb, self.run, self.folder, gate, prompts);
        launch.file = Some(self.file);
        launch.past = self.past;
        launch.at_work = Some(self.at_work);
        launch
    }
}

/// Goes on with a run.
pub(crate) async fn resume(args: args::Resume) -> Result<u8, CliError> {
    let faults = drill::faults(&args.drill)?;
    let mut opened = Opened::new(runs_dir::find_open(args.run.as_deref())?)?;
    let run = opened.run.clone();
    if opened.past.is_complete() {
        return Err(CliError::usage(format!("the run {run} came to its end: there is nothing to go on with"))
            .hint(format!("runbook exec {} begins a new one", opened.begun.path.display())));
    }
    let (loaded, edits) = newest(&opened.begun)?;
    show_edits(&edits);
    let session = opened.session(loaded, &args.vars).await?;
    let (watcher, bars) = display::progress(args.json);
    // What was agreed to when the run began is agreed to.
    let approve: Vec<String> = opened.begun.approve.iter().chain(&args.approve).cloned().collect();
    let yes = args.yes || opened.begun.yes;
    let gate = Gatekeeper::new(yes, &approve, bars.clone());
    gate.before_going_on(&session.runbook, session.catalog.as_ref(), |step| session.selected(step), &opened.past)?;
    let locks = Locks::take(&run, &session.inventory, &session.used(), false)?;
    let begun = session.begun(opened.begun.path.clone());
    opened.begun = Begun { yes, approve, ..begun };
    opened.begun.save(&opened.folder)?;
    let mut launch = opened.launch(Verb::Resume, gate, Terminal::new(bars));
    launch.watchers = vec![watcher];
    launch.edits = edits;
    launch.faults = faults;
    let target = session.runbook.targets.rto_ms;
    let afterwards = Afterwards::of(&session);
    let ended = go(launch.start(session)?).await;
    locks.give_back(holds_targets(&run));
    let ended = ended?;
    recovered(&run, &ended, target);
    afterwards.point_out(&run);
    end(&run, Verb::Resume, &ended, args.json)
}

/// The runbook as its file has it now, and what is different from what the run has.
fn newest(begun: &Begun) -> Result<(Loaded, Vec<String>), CliError> {
    let text = match std::fs::read(&begun.path) {
        Ok(text) => text,
        Err(error) => {
            hint(&format!("{}: {error}; the run goes on with the runbook that it began with", begun.path.display()));
            return Ok((session::of_begun(begun)?, Vec::new()));
        }
    };
    // Included files may have changed where the runbook did not.
    let is_same = sha256(&text) == begun.runbook.sha256 && begun.runbook.with_includes().len() == 1;
    if is_same {
        return Ok((session::of_begun(begun)?, Vec::new()));
    }
    let loaded = session::load(&begun.path)?;
    let edits = edits::between(&begun.runbook, &loaded.runbook);
    Ok((loaded, edits))
}

fn show_edits(edits: &[String]) {
    use std::io::Write as _;
    let mut out = anstream::stderr().lock();
    if !edits.is_empty() {
        let bold = Styles::BOLD;
        let _ = writeln!(out, "{bold}The runbook is not what it was:{bold:#}");
    }
    for line in edits {
        let _ = writeln!(out, "  {line}");
    }
}

/// Takes back what a run did.
pub(crate) async fn undo(args: args::Undo) -> Result<u8, CliError> {
    let faults = drill::faults(&args.drill)?;
    let opened = Opened::new(runs_dir::find_open(args.run.as_deref())?)?;
    let run = opened.run.clone();
    if opened.past.in_effect(args.redo).next().is_none() && opened.past.waiting().next().is_none() {
        let what = if args.redo { "no undo of it is in effect" } else { "nothing that it did is in effect" };
        print(&format!("nothing to take back in the run {run}: {what}"));
        return Ok(exit_code::SUCCESS);
    }
    if let Some(step) = args.step.as_deref().filter(|step| !knows(&opened.past, &opened.begun, step)) {
        return Err(CliError::usage(format!("the run {run} has no step `{step}`"))
            .hint(format!("runbook show {run} lists them")));
    }
    let session = opened.session(session::of_begun_without_plugins(&opened.begun)?, &[]).await?;
    let (watcher, bars) = display::progress(args.json);
    let gate = Gatekeeper::new(false, &[], bars.clone());
    let locks = Locks::take(&run, &session.inventory, &session.used(), false)?;
    let verb = if args.redo { Verb::Redo } else { Verb::Undo };
    let mut launch = opened.launch(verb, gate, Terminal::new(bars));
    launch.watchers = vec![watcher];
    launch.force = args.force;
    launch.faults = faults;
    let launched = launch.start(session)?;
    let what = Undo { step: args.step.clone(), force: args.force, redo: args.redo };
    let result = launched.engine.undo(&launched.runbook, &what, launched.header.clone()).await;
    launched.close().await;
    locks.give_back(holds_targets(&run));
    let (ended, unwound) = result.map_err(journal_broke)?;
    let word = match (ended.outcome, args.redo) {
        (RunOutcome::Succeeded, false) => "undone",
        (RunOutcome::Succeeded, true) => "redone",
        _ => "stuck",
    };
    if let Some(why) = &unwound.stuck {
        use std::io::Write as _;
        let bad = Styles::BAD;
        let _ = writeln!(anstream::stderr().lock(), "{bad}stuck:{bad:#} {why}");
        hint(&format!("runbook next {run} tells what to do by hand, and which command goes on"));
    }
    if !args.json {
        print(&format!("{word}: {} changes taken back, {} left as they are", unwound.taken_back, unwound.left));
    }
    Ok(exit_code::of(ended.outcome))
}

fn knows(past: &History, begun: &Begun, step: &str) -> bool {
    past.past.keys().any(|instance| instance.is_of(step)) || begun.runbook.block(step).is_some()
}
