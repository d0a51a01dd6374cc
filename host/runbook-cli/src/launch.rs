//! From a session to an engine at work: its world, its journal, the signals that it listens to.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runbook_engine::backend::Backend as _;
use runbook_engine::drill::{Drill, Faults};
use runbook_engine::journal::{Journal, Start, Watcher};
use runbook_engine::receipts::Receipts;
use runbook_engine::run::{Engine, Header, Options};
use runbook_engine::scope::Inputs;
use runbook_engine::shared::Shared;
use runbook_engine::vault::Vault;
use runbook_model::call::{Act, Change, SshAct, Target};
use runbook_model::event::Verb;
use runbook_model::exit_code;
use runbook_model::history::History;
use runbook_model::plan::Runbook;
use runbook_model::redact::Redactor;
use runbook_ssh::connect::ConnectOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::display::hint;
use crate::error::CliError;
use crate::gate::Gatekeeper;
use crate::locks::{self, AtWork};
use crate::prompts::Terminal;
use crate::runs_dir;
use crate::session::Session;
use crate::world::{Inventory, World};

/// Hosts of one step at once, where it does not say `serial`.
const HOSTS_AT_ONCE: usize = 50;

/// How long hosts may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);

/// What a session of a run is.
pub(crate) struct Launch {
    pub(crate) verb: Verb,
    /// Name of the run.
    pub(crate) run: String,
    /// Its folder, or one for what has to lie somewhere.
    pub(crate) folder: PathBuf,
    /// Its journal; none: nothing is kept.
    pub(crate) file: Option<(PathBuf, std::fs::File)>,
    /// What earlier sessions did.
    pub(crate) past: History,
    pub(crate) watchers: Vec<Arc<dyn Watcher>>,
    pub(crate) gate: Gatekeeper,
    pub(crate) prompts: Terminal,
    /// What became different in the runbook.
    pub(crate) edits: Vec<String>,
    pub(crate) force: bool,
    pub(crate) faults: Faults,
    /// Nobody else is at work on the run; none: nothing is kept of it.
    pub(crate) at_work: Option<AtWork>,
}

/// An engine, with all that it needs.
pub(crate) struct Launched {
    pub(crate) engine: Engine,
    pub(crate) runbook: Runbook,
    pub(crate) inputs: Inputs,
    pub(crate) header: Header,
    world: Arc<World>,
    listening: JoinHandle<()>,
    /// Until the connections have ended.
    _at_work: Option<AtWork>,
}

impl Launch {
    /// A session whose events go to a display.
    pub(crate) fn new(verb: Verb, run: String, folder: PathBuf, gate: Gatekeeper, prompts: Terminal) -> Self {
        Self {
            verb,
            run,
            folder,
            file: None,
            past: History::default(),
            watchers: Vec::new(),
            gate,
            prompts,
            edits: Vec::new(),
            force: false,
            faults: Faults::default(),
            at_work: None,
        }
    }

    /// Makes the engine.
    pub(crate) fn start(mut self, mut session: Session) -> Result<Launched, CliError> {
        follow(&mut session.inventory, &self.past);
        let header = Header { edits: self.edits, force: self.force, ..session.header() };
        let redactor = Redactor::new(&session.secrets.0);
        let options = Options {
            verb: self.verb,
            only: session.only.clone(),
            from: session.from.clone(),
            hosts_at_once: HOSTS_AT_ONCE,
            home: session.inventory.home.clone(),
            folder: session.inventory.folder.clone(),
        };
        let vault = match &self.file {
            Some(_) => Vault::open(&runs_dir::key()?, self.folder.join("blobs")),
            None => Vault::fleeting(),
        };
        let vault = vault.map_err(|error| {
            CliError::internal(format!("the key of this installation: {error}"))
                .hint("it seals what was there before each change; XDG_STATE_HOME says where it lies")
        })?;
        let world = Arc::new(World::new(session.inventory, ConnectOptions::from_env(Arc::new(self.prompts))));
        let cancel = CancellationToken::new();
        let start = Start::after(&self.past);
        self.watchers.extend(self.faults.watcher());
        let journal = Journal::new(self.file, start, redactor.clone(), self.watchers);
        let backend: Arc<dyn runbook_engine::backend::Backend> = match self.faults.is_empty() {
            true => Arc::clone(&world) as _,
            false => Arc::new(Drill::new(Arc::clone(&world) as _, journal.clone(), self.faults)),
        };
        let shared = Shared {
            backend,
            journal,
            redactor,
            secrets: Arc::new(session.secrets),
            vault: Arc::new(vault),
            receipts: Arc::new(Receipts::at(runs_dir::state()?.join("receipts.jsonl"))),
            artifacts: self.folder.join("artifacts"),
            cancel: cancel.clone(),
            run: self.run,
            owner: owner(),
            runs: Arc::new(locks::Disk),
            baselines: Mutex::new(self.past.baselines.clone()),
            past: self.past,
            foresight: Default::default(),
        };
        let engine = Engine {
            shared: Arc::new(shared),
            plugins: session.catalog.host().plugins(),
            actions: session.catalog,
            gate: Arc::new(self.gate),
            options,
            entered: Default::default(),
        };
        let listening = tokio::spawn(listen(cancel));
        let (runbook, inputs) = (session.runbook, session.inputs);
        Ok(Launched { engine, runbook, inputs, header, world, listening, _at_work: self.at_work })
    }
}

impl Launched {
    /// Ends the connections.
    pub(crate) async fn close(self) {
        self.listening.abort();
        // A host that does not say goodbye is left behind.
        let _ = tokio::time::timeout(GOODBYE, self.world.close()).await;
    }
}

/// Where machines may be since earlier sessions of the run changed their addresses: looked at after where the inventory says, under the same
/// host key.
fn follow(inventory: &mut Inventory, past: &History) {
    for entry in &past.stack {
        let Target::Machine(name) = &entry.request.target else { continue };
        let Some(Change { act: Act::Ssh(SshAct::Confirm { addresses, .. }), .. }) = entry.change() else { continue };
        let Some(host) = inventory.hosts.get_mut(name) else { continue };
        for address in addresses {
            if !host.addresses.contains(address) {
                host.addresses.push(address.clone());
            }
        }
    }
}

/// Who works on the targets, for people who find the marks: "ann@laptop, process 4711".
fn owner() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{}, process {}", host.trim(), std::process::id())
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
            hint(
                "cancelling: what runs now is ended, then the run stops; once more ends it at once, and it can be resumed",
            );
            cancel.cancel();
        } else {
            std::process::exit(i32::from(exit_code::CANCELLED));
        }
    }
}
