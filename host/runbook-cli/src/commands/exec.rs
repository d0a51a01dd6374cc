//! `runbook exec` and `runbook plan`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use runbook_engine::backend::Backend as _;
use runbook_engine::broker::Shared;
use runbook_engine::journal::{self, Journal, Watcher};
use runbook_engine::run::{Ended, Engine, Options};
use runbook_model::event::{RunOutcome, Verb};
use runbook_model::exit_code;
use runbook_model::redact::Redactor;
use runbook_model::summary::last_line;
use runbook_ssh::connect::ConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::display::{self, Pages};
use crate::error::CliError;
use crate::gate::Gatekeeper;
use crate::prompts::Terminal;
use crate::runs_dir;
use crate::session::{self, Session};
use crate::world::World;

/// Hosts of one step at once, where it does not say `serial`.
const HOSTS_AT_ONCE: usize = 50;

/// Carries a runbook out.
pub(crate) async fn exec(args: args::Exec) -> Result<u8, CliError> {
    let session = session::prepare(&args.inputs).await?;
    let (watcher, bars) = display::progress(args.inputs.json);
    let gate = Gatekeeper::new(args.yes, &args.approve, bars.clone());
    gate.before_the_run(&session.runbook, session.catalog.as_ref(), |step| session.selected(step))?;
    let run = runs_dir::new_name(&session.runbook.name);
    let folder = runs_dir::root()?.join(&run);
    let file = journal::create(&folder).map_err(|error| {
        CliError::internal(format!("the journal cannot be made: {}: {error}", folder.display()))
            .hint("without a journal nothing is carried out; XDG_STATE_HOME says where it lies")
    })?;
    let ended =
        go(session, Verb::Exec, run.clone(), folder, Some(file), vec![watcher], gate, Terminal::new(bars)).await?;
    if ended.outcome != RunOutcome::Succeeded {
        hint(&format!(
            "runbook show {run} tells what was done; after mending, run it again: what is done is found unchanged"
        ));
    }
    if !args.inputs.json {
        print(&last_line(Verb::Exec, ended.outcome, &ended.summary));
    }
    Ok(exit_code::of(ended.outcome))
}

/// Shows what a run would change.
pub(crate) async fn plan(args: args::Plan) -> Result<u8, CliError> {
    let session = session::prepare(&args.inputs).await?;
    let (watcher, bars) = display::progress(args.inputs.json);
    let pages = Arc::new(Pages::default());
    let watchers = vec![watcher, Arc::clone(&pages) as Arc<dyn Watcher>];
    let gate = Gatekeeper::new(true, &[], None);
    let artifacts = session.scratch();
    let ended =
        go(session, Verb::Plan, "plan".to_owned(), artifacts, None, watchers, gate, Terminal::new(bars)).await?;
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

#[expect(clippy::too_many_arguments, reason = "a run is made of these")]
async fn go(
    session: Session,
    verb: Verb,
    run: String,
    folder: PathBuf,
    file: Option<(PathBuf, std::fs::File)>,
    watchers: Vec<Arc<dyn Watcher>>,
    gate: Gatekeeper,
    prompts: Terminal,
) -> Result<Ended, CliError> {
    let header = session.header();
    let redactor = Redactor::new(&session.secrets.0);
    let options = Options {
        verb,
        only: session.only.clone(),
        from: session.from.clone(),
        hosts_at_once: HOSTS_AT_ONCE,
        home: session.inventory.home.clone(),
        folder: session.inventory.folder.clone(),
    };
    let world = Arc::new(World::new(session.inventory, ConnectOptions::from_env(Arc::new(prompts))));
    let cancel = CancellationToken::new();
    let shared = Shared {
        backend: Arc::clone(&world) as _,
        journal: Journal::new(file, redactor.clone(), watchers),
        redactor,
        secrets: Arc::new(session.secrets),
        artifacts: folder.join("artifacts"),
        cancel: cancel.clone(),
        run,
        baselines: Mutex::default(),
        foresight: Default::default(),
    };
    let engine = Engine {
        shared: Arc::new(shared),
        plugins: session.catalog.host().plugins(),
        actions: session.catalog,
        gate: Arc::new(gate),
        options,
    };
    let listening = tokio::spawn(listen(cancel));
    let ended = engine.run(&session.runbook, session.inputs, header).await;
    listening.abort();
    // A host that does not say goodbye is left behind.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), world.close()).await;
    ended.map_err(|error| {
        CliError::internal(error).hint("nothing was done after that; free some space and run it again")
    })
}

/// The first signal cancels the run, which ends its calls and its journal. A second one ends the process.
async fn listen(cancel: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
    for count in 0.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        if count == 0 {
            hint("cancelling: what runs now is ended, then the run stops; once more ends it at once");
            cancel.cancel();
        } else {
            std::process::exit(i32::from(exit_code::CANCELLED));
        }
    }
}

fn hint(text: &str) {
    use std::io::Write as _;
    let style = display::Styles::PERHAPS;
    let _ = writeln!(anstream::stderr().lock(), "{style}hint:{style:#} {text}");
}

fn print(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(anstream::stdout().lock(), "{line}");
}
