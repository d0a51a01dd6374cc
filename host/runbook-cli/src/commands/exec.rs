//! `runbook exec` and `runbook plan`.

use std::sync::Arc;

use runbook_engine::journal::{self, Watcher};
use runbook_engine::run::Ended;
use runbook_model::event::{RunOutcome, Verb};
use runbook_model::exit_code;
use runbook_model::report::Report;
use runbook_model::summary::last_line;

use crate::args;
use crate::asks::Afterwards;
use crate::commands::drill;
use crate::display::{self, Pages, hint, print};
use crate::error::CliError;
use crate::gate::Gatekeeper;
use crate::launch::{Launch, Launched};
use crate::locks::{AtWork, Locks};
use crate::prompts::Terminal;
use crate::runs_dir;
use crate::session;

/// Carries a runbook out.
pub(crate) async fn exec(args: args::Exec) -> Result<u8, CliError> {
    let faults = drill::faults(&args.drill)?;
    let session = session::prepare(&args.inputs).await?;
    let (watcher, bars) = display::progress(args.inputs.json);
    let gate = Gatekeeper::new(args.yes, &args.approve, bars.clone());
    gate.before_the_run(&session.runbook, session.catalog.as_ref(), |step| session.selected(step))?;
    let run = runs_dir::new_name(&session.runbook.name);
    let folder = runs_dir::root()?.join(&run);
    let locks = Locks::take(&run, &session.inventory, &session.used(), args.abandon)?;
    let file = journal::create(&folder).map_err(|error| runs_dir::cannot_keep(&folder, &error))?;
    let at_work = AtWork::on(&folder)?;
    let path = std::path::absolute(&args.inputs.file).map_err(CliError::internal)?;
    let mut begun = session.begun(path);
    (begun.yes, begun.approve) = (args.yes, args.approve);
    begun.save(&folder)?;
    let mut launch = Launch::new(Verb::Exec, run.clone(), folder, gate, Terminal::new(bars));
    launch.file = Some(file);
    launch.at_work = Some(at_work);
    launch.watchers = vec![watcher];
    launch.faults = faults;
    let target = session.runbook.targets.rto_ms;
    let afterwards = Afterwards::of(&session);
    let ended = go(launch.start(session)?).await;
    locks.give_back(holds_targets(&run));
    let ended = ended?;
    recovered(&run, &ended, target);
    afterwards.point_out(&run);
    end(&run, Verb::Exec, &ended, args.inputs.json)
}

/// Runs an engine to its end.
pub(crate) async fn go(mut launched: Launched) -> Result<Ended, CliError> {
    let inputs = std::mem::take(&mut launched.inputs);
    let ended = launched.engine.run(&launched.runbook, inputs, launched.header.clone()).await;
    launched.close().await;
    ended.map_err(journal_broke)
}

/// What is said where the journal could not be written.
pub(crate) fn journal_broke(error: journal::JournalError) -> CliError {
    CliError::internal(error).hint("nothing was done after that; free some space, then `runbook resume` goes on")
}

/// Whether something of the run is still open. What cannot be read is.
pub(crate) fn holds_targets(run: &str) -> bool {
    runs_dir::history(run).map_or(true, |history| history.state.holds_targets())
}

/// Says how long the recovery took, where the runbook states a target. Who waits for that number reads no report first.
pub(crate) fn recovered(run: &str, ended: &Ended, target: Option<u64>) {
    use std::io::Write as _;
    if target.is_none() || ended.outcome != RunOutcome::Succeeded {
        return;
    }
    // A journal that cannot be read is told of by those who need it.
    let report = runs_dir::read(run).ok().and_then(|records| Report::of(records).ok());
    if let Some(report) = report {
        let _ = writeln!(anstream::stderr().lock(), "{}", report.recovery_line());
    }
}

/// Says how a run ended, and what can be done about it.
pub(crate) fn end(run: &str, verb: Verb, ended: &Ended, json: bool) -> Result<u8, CliError> {
    match ended.outcome {
        RunOutcome::Succeeded => {}
        _ if holds_targets(run) => {
            hint(&format!("something of it is still open: runbook next {run} tells what, and which command goes on"));
        }
        RunOutcome::Failed | RunOutcome::Cancelled | RunOutcome::Stuck => {
            hint(&format!(
                "runbook show {run} tells what was done; after mending, runbook resume {run} goes on; runbook undo {run} takes it back"
            ));
        }
    }
    if !json {
        print(&last_line(verb, ended.outcome, &ended.summary));
    }
    Ok(exit_code::of(ended.outcome))
}

/// Shows what a run would change.
pub(crate) async fn plan(args: args::Plan) -> Result<u8, CliError> {
    let session = session::prepare(&args.inputs).await?;
    let (watcher, bars) = display::progress(args.inputs.json);
    let pages = Arc::new(Pages::default());
    let gate = Gatekeeper::new(true, &[], None);
    let mut launch = Launch::new(Verb::Plan, "plan".to_owned(), session.scratch(), gate, Terminal::new(bars));
    launch.watchers = vec![watcher, Arc::clone(&pages) as Arc<dyn Watcher>];
    let ended = go(launch.start(session)?).await?;
    if !args.inputs.json {
        let mut out = anstream::stdout().lock();
        let _ = pages.with(|page| page.write_steps(&mut out).and_then(|()| page.write_end(&mut out)));
    }
    let changes = ended.summary.changed + ended.summary.may_change > 0;
    Ok(match exit_code::of(ended.outcome) {
        exit_code::SUCCESS if args.detailed_exitcode && changes => exit_code::CHANGES,
        code => code,
    })
}
