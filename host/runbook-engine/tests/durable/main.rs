//! Runs that are cut off at every place, and gone on with or taken back: the end is the same as that of an undisturbed run, or the world
//! as it was before.

mod cuts;
mod fit;
mod plugin;
mod programs;
mod replay;
mod simulation;
mod time;
mod undo;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plugin::{Catalog, Odd, Yes};
use runbook_engine::backend::{NoRuns, Runs};
use runbook_engine::clock::Clock;
use runbook_engine::journal::{self, Journal, JournalError, Start, Watcher};
use runbook_engine::receipts::Receipts;
use runbook_engine::run::{Ended, Engine, Header, Options, Undo, Unwound};
use runbook_engine::scope::Inputs;
use runbook_engine::shared::Shared;
use runbook_engine::vault::Vault;
use runbook_model::event::Verb;
use runbook_model::expr::HostView;
use runbook_model::history::History;
use runbook_model::plan::Runbook;
use runbook_model::{diagnostic, parse};
use runbook_world::{Crash, How, World};

const HOSTS: &str = r#"
schema = 1
name = "test"
[hosts.n1]
address = "192.0.2.1"
labels = ["all"]
[hosts.n2]
address = "192.0.2.2"
labels = ["all"]
[clusters.c]
kubeconfig = "/kubeconfig"
"#;

/// In milliseconds since 1970.
const NEW_YEAR_2026: u64 = 1_767_225_600_000;

struct Nothing;

impl parse::Files for Nothing {
    fn read(&self, _: &str) -> Result<String, String> {
        Err("no such file".to_owned())
    }
}

fn runbook(top: &str, steps: &str) -> Runbook {
    let text = format!("{}{steps}", HOSTS.replace("name = \"test\"\n", &format!("name = \"test\"\n{top}\n")));
    let (runbook, diagnostics) = parse::load("test.toml", &text, &Nothing, &Catalog::default());
    runbook.unwrap_or_else(|| panic!("{}", diagnostic::render_all(&diagnostics, false)))
}

/// One run in a folder, through all of its sessions.
struct Run<'a> {
    folder: &'a Path,
    world: Arc<World>,
    runbook: &'a Runbook,
    /// The controller's. The world's time is tokio's, which stands still while anybody is at work.
    clock: Clock,
    receipts: Arc<Receipts>,
    watcher: Option<Arc<dyn Watcher>>,
    name: &'a str,
    /// What its controller knows of others.
    runs: Arc<dyn Runs>,
}

impl Run<'_> {
    fn engine(&self, verb: Verb, crash: Option<(u64, How)>) -> Engine {
        let (file, past) = match journal::create(self.folder) {
            Ok(file) => (file, History::default()),
            Err(_) => journal::reopen(self.folder).expect("a journal that can be read"),
        };
        let mut watchers: Vec<Arc<dyn Watcher>> = self.watcher.iter().cloned().collect();
        if let Some((after, how)) = crash {
            watchers.push(Crash::watcher(&self.world, after, how));
        }
        let start = Start::after(&past);
        let shared = Shared {
            backend: Arc::clone(&self.world) as _,
            journal: Journal::simulated(Some(file), start, Default::default(), watchers, self.clock.clone()),
            redactor: Default::default(),
            secrets: Arc::default(),
            vault: Arc::new(Vault::open(&self.folder.join("key"), self.folder.join("blobs")).expect("a vault")),
            receipts: Arc::clone(&self.receipts),
            owner: "a test".into(),
            runs: Arc::clone(&self.runs),
            baselines: Mutex::new(past.baselines.clone()),
            past,
            artifacts: "/tmp".into(),
            cancel: Default::default(),
            run: self.name.into(),
            foresight: Arc::default(),
        };
        let options = Options {
            verb,
            only: Default::default(),
            from: None,
            hosts_at_once: 10,
            home: "/root".into(),
            folder: "/".into(),
        };
        Engine {
            shared: Arc::new(shared),
            plugins: Arc::new(Odd),
            actions: Arc::new(Catalog::default()),
            gate: Arc::new(Yes),
            options,
            entered: Default::default(),
        }
    }

    fn header() -> Header {
        Header { program: "test".into(), pid: 1, ..Header::default() }
    }

    async fn go(&self, verb: Verb, crash: Option<(u64, How)>) -> Result<Ended, JournalError> {
        let hosts = self.runbook.hosts.iter().map(|h| HostView { name: h.name.clone(), ..HostView::default() });
        let inputs = Inputs { hosts: Arc::new(hosts.collect()), ..Inputs::default() };
        let ended = self.engine(verb, crash).run(self.runbook, inputs, Self::header()).await;
        self.after_a_session(ended.is_err().then_some(crash).flatten()).await;
        ended
    }

    async fn undo(&self, what: &Undo, crash: Option<(u64, How)>) -> Result<(Ended, Unwound), JournalError> {
        let verb = if what.redo { Verb::Redo } else { Verb::Undo };
        let undone = self.engine(verb, crash).undo(self.runbook, what, Self::header()).await;
        self.after_a_session(undone.is_err().then_some(crash).flatten()).await;
        undone
    }

    /// The power comes back; the last record may be torn.
    async fn after_a_session(&self, crash: Option<(u64, How)>) {
        // What had left by then arrives, or does not, as the crash says.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if let Some((after, _)) = crash {
            let path = self.folder.join(runbook_model::journal::FILE);
            let text = std::fs::read_to_string(&path).expect("a journal");
            let whole: usize = text.split_inclusive('\n').take(after as usize).map(str::len).sum();
            let torn = text.get(whole..whole + after as usize % 40).unwrap_or_default();
            let torn = torn.split('\n').next().unwrap_or_default();
            std::fs::write(&path, format!("{}{torn}", &text[..whole])).expect("our own file");
        }
        self.world.hang_up();
        let mut power = self.world.power();
        (power.off, power.cut) = (false, false);
        let state = self.world.state();
        assert_eq!(state.gaps, Default::default());
        assert_eq!(state.violations, 0, "nothing is changed where nothing may be changed");
    }

    /// What there is in the world.
    fn end(&self) -> programs::Things {
        programs::end(&self.world)
    }

    fn history(&self) -> History {
        journal::reopen(self.folder).expect("a journal that can be read").1
    }

    /// How often each program was run.
    fn ran(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        programs::ran(&self.world).into_iter().for_each(|line| *count.entry(line).or_default() += 1);
        count
    }
}

/// A folder for a run, and the run in it.
async fn in_a_folder<T>(world: World, runbook: &Runbook, body: impl AsyncFnOnce(Run<'_>) -> T) -> T {
    // In memory: a loss of power is none that a disk would see.
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = memory.expect("a folder");
    let path = folder.path().join("run");
    let receipts = Arc::new(Receipts::at(folder.path().join("receipts.jsonl")));
    let clock = Clock::simulated(NEW_YEAR_2026);
    let (world, runs) = (Arc::new(world), Arc::new(NoRuns));
    body(Run { folder: &path, world, runbook, clock, receipts, watcher: None, name: "r", runs }).await
}
