//! One run in a world, through all of its sessions.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use runbook_engine::backend::{Backend, NoRuns, Secrets};
use runbook_engine::journal::{self, Journal, JournalError, Start, Watcher};
use runbook_engine::receipts::Receipts;
use runbook_engine::run::{Ended, Engine, Gate, Header, Options, Undo, Unwound, Verdict};
use runbook_engine::shared::Shared;
use runbook_engine::vault::Vault;
use runbook_model::call::{Act, Call, Change, Request, SshAct, Undo as Means};
use runbook_model::event::{Event, Instance, Record, RunOutcome, StepOutcome, Verb};
use runbook_model::history::History;
use runbook_model::redact::Redactor;
use runbook_model::words;
use runbook_world::{Crash, How, State, World};

use crate::case::FOLDER;
use crate::hasty::Hasty;
use crate::{Case, Harness, Trouble};

/// Calls that are shown of a breach.
const SHOWN: usize = 12;

/// A run, and where it is kept.
pub(crate) struct Evening<'a> {
    case: &'a Case,
    pub(crate) harness: &'a Harness,
    pub(crate) world: Arc<World>,
    /// Stands before the world, where somebody does.
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) plugins: Arc<Hasty>,
    folder: tempfile::TempDir,
    records: Arc<Mutex<Vec<Record>>>,
}

/// Keeps what is told.
struct Listener(Arc<Mutex<Vec<Record>>>);

impl Watcher for Listener {
    fn record(&self, record: &Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
    }
}

/// A person who agrees.
struct Yes;

#[async_trait]
impl Gate for Yes {
    async fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Verdict {
        Verdict { approved: true, by: "--yes".to_owned() }
    }
}

impl<'a> Evening<'a> {
    pub(crate) fn new(harness: &'a Harness, case: &'a Case, state: State) -> Result<Self, Trouble> {
        let world = Arc::new(World::new(state));
        // A journal in memory: thousands of them are written, and a loss of power is not among what is tried.
        let memory = std::path::Path::new("/dev/shm");
        let made = tempfile::Builder::new().prefix("runbook-law-").tempdir_in(memory).or_else(|_| tempfile::tempdir());
        let folder = made.map_err(|error| Trouble::Unjudged(format!("no folder for a run: {error}")))?;
        let backend = Arc::clone(&world) as Arc<dyn Backend>;
        let plugins = Hasty::new(&harness.plugins);
        Ok(Self { case, harness, world, backend, plugins, folder, records: Arc::default() })
    }

    fn engine(&self, verb: Verb, crash: Option<(u64, How)>) -> Result<Engine, Trouble> {
        let folder: PathBuf = self.folder.path().join("run");
        let (file, past) = match journal::create(&folder) {
            Ok(file) => (file, History::default()),
            Err(_) => journal::reopen(&folder)?,
        };
        let mut watchers: Vec<Arc<dyn Watcher>> = vec![Arc::new(Listener(Arc::clone(&self.records)))];
        watchers.extend(crash.map(|(after, how)| Crash::watcher(&self.world, after, how)));
        let start = Start::after(&past);
        let redactor = Redactor::new(&self.case.secrets);
        let vault = Vault::open(&self.folder.path().join("key"), folder.join("blobs"))
            .map_err(|error| Trouble::Unjudged(format!("no vault for a run: {error}")))?;
        let shared = Shared {
            backend: Arc::clone(&self.backend),
            journal: Journal::new(Some(file), start, redactor.clone(), watchers),
            redactor,
            secrets: Arc::new(Secrets(self.case.secrets.clone())),
            vault: Arc::new(vault),
            receipts: Arc::new(Receipts::at(self.folder.path().join("receipts.jsonl"))),
            owner: "a law".to_owned(),
            runs: Arc::new(NoRuns),
            baselines: Mutex::new(past.baselines.clone()),
            past,
            artifacts: folder.join("artifacts"),
            cancel: Default::default(),
            run: "law".to_owned(),
            foresight: Arc::default(),
        };
        let options = Options {
            verb,
            only: Default::default(),
            from: None,
            hosts_at_once: 10,
            home: "/root".to_owned(),
            folder: FOLDER.to_owned(),
        };
        Ok(Engine {
            shared: Arc::new(shared),
            plugins: Arc::clone(&self.plugins) as _,
            actions: Arc::clone(&self.harness.actions),
            gate: Arc::new(Yes),
            options,
            entered: Default::default(),
        })
    }

    /// A session that goes on with the run. The outer error: it cannot even begin.
    pub(crate) async fn go(
        &self,
        verb: Verb,
        crash: Option<(u64, How)>,
    ) -> Result<Result<Ended, JournalError>, Trouble> {
        let engine = self.engine(verb, crash)?;
        let header = Header { program: "law".to_owned(), pid: 1, ..Header::default() };
        let ended = engine.run(&self.case.runbook, self.case.inputs.clone(), header).await;
        if let (Err(_), Some((after, _))) = (&ended, crash) {
            self.tear(after)?;
        }
        self.goodbye(ended.is_ok()).await;
        Ok(ended)
    }

    /// What came after the last record never reached the disk, but for a piece of it.
    fn tear(&self, after: u64) -> Result<(), Trouble> {
        let path = self.folder.path().join("run").join(runbook_model::journal::FILE);
        let text = self.journal();
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        let whole: usize = text.split_inclusive('\n').take(after).map(str::len).sum();
        let piece = text.get(whole..whole + after % 40).unwrap_or_default();
        let piece = piece.split('\n').next().unwrap_or_default();
        std::fs::write(&path, format!("{}{piece}", &text[..whole]))
            .map_err(|error| Trouble::Unjudged(format!("the journal of a trial: {error}")))?;
        self.records.lock().unwrap_or_else(PoisonError::into_inner).truncate(after);
        // What a plugin asked for that could not be told of the end of its run is nobody's to describe.
        self.world.state().gaps.clear();
        Ok(())
    }

    /// A session that nothing disturbs.
    pub(crate) async fn run(&self, verb: Verb) -> Result<Ended, Trouble> {
        Ok(self.go(verb, None).await??)
    }

    /// What was done is taken back.
    pub(crate) async fn undo(&self) -> Result<(Ended, Unwound), Trouble> {
        let header = Header { program: "law".to_owned(), pid: 1, ..Header::default() };
        let undone = self.engine(Verb::Undo, None)?.undo(&self.case.runbook, &Undo::default(), header).await?;
        self.goodbye(true).await;
        Ok(undone)
    }

    async fn goodbye(&self, well: bool) {
        {
            let mut power = self.world.power();
            (power.off, power.cut) = (false, false);
        }
        if well {
            self.backend.close().await;
        }
    }

    /// What was written into the journal.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that lies in the folder of the run, as text, but for the key and what is sealed with it.
    pub(crate) fn journal(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("run").join(runbook_model::journal::FILE)).unwrap_or_default()
    }

    /// What was asked that the world does not describe.
    pub(crate) fn gaps(&self) -> Result<(), Trouble> {
        match self.world.state().gaps.first() {
            None => Ok(()),
            Some(gap) => Err(Trouble::Unjudged(format!("the world of the case does not say: {gap}"))),
        }
    }
}

/// The case without anything that goes wrong.
pub(crate) struct Undisturbed {
    pub(crate) before: State,
    pub(crate) end: State,
    pub(crate) records: Vec<Record>,
    outcome: RunOutcome,
    gap: Option<String>,
}

impl Undisturbed {
    /// Whether it says something of the other laws.
    pub(crate) fn is_good(&self) -> Result<(), String> {
        if let Some(gap) = &self.gap {
            return Err(format!("the world of the case does not say: {gap}"));
        }
        match (self.outcome, failure(&self.records)) {
            (RunOutcome::Succeeded, _) => Ok(()),
            (_, Some(why)) => Err(format!("the case does not end well: {why}")),
            (outcome, None) => Err(format!("the case does not end well: {outcome:?}")),
        }
    }
}

impl Harness {
    pub(crate) async fn undisturbed(&self, case: &Case) -> Result<Undisturbed, String> {
        let told = |trouble: Trouble| match trouble {
            Trouble::Unjudged(why) => why,
            Trouble::Breach(breach) => breach.what,
        };
        let evening = Evening::new(self, case, case.world.clone()).map_err(told)?;
        let ended = evening.run(Verb::Exec).await.map_err(told)?;
        let end = evening.world.state().clone();
        let gap = end.gaps.first().cloned();
        Ok(Undisturbed { before: case.world.clone(), end, records: evening.records(), outcome: ended.outcome, gap })
    }

    /// Whether what an instance leaves is not meant to last.
    pub(crate) fn is_fleeting(&self, case: &Case, instance: &Instance) -> bool {
        let step = case.runbook.trail(&instance.step).and_then(|trail| trail.last().copied());
        let action = step.and_then(|step| match &step.uses {
            runbook_model::plan::Uses::Action { plugin, action } => self.actions.action(plugin, action),
            runbook_model::plan::Uses::Include { .. } => None,
        });
        action.is_some_and(|(action, _)| action.needs_block)
    }
}

/// Why a step did not end well.
pub(crate) fn failure(records: &[Record]) -> Option<String> {
    records.iter().find_map(|record| match &record.event {
        Event::StepFinished { instance, outcome, reason, .. }
            if !outcome.is_ok() && *outcome != StepOutcome::Skipped =>
        {
            Some(format!("{instance}: {}", reason.as_deref().unwrap_or("no reason is given")))
        }
        _ => None,
    })
}

/// A change that left.
pub(crate) struct Made<'a> {
    pub(crate) seq: u64,
    pub(crate) instance: &'a Instance,
    pub(crate) call: u32,
    pub(crate) request: &'a Request,
    pub(crate) change: &'a Change,
    pub(crate) diff: &'a runbook_model::event::Diff,
}

impl Made<'_> {
    /// Whether it is a process: it may be killed while it is at work.
    pub(crate) fn is_process(&self) -> bool {
        match &self.change.act {
            Act::Ssh(act) => !matches!(act, SshAct::Reboot { .. }),
            Act::Kube(act) => matches!(act, runbook_model::call::KubeAct::Exec { .. }),
            Act::Files(_) => false,
        }
    }

    /// Whether it may be done again without harm, as it says itself.
    pub(crate) fn is_harmless(&self) -> bool {
        match &self.change.act {
            Act::Ssh(SshAct::Run { undo, .. } | SshAct::Http { undo, .. }) => *undo == Means::Harmless,
            Act::Kube(runbook_model::call::KubeAct::Exec { undo, .. }) => {
                *undo == runbook_model::call::PodUndo::Harmless
            }
            Act::Ssh(_) | Act::Kube(_) | Act::Files(_) => false,
        }
    }
}

/// The changes that left and take nothing back.
pub(crate) fn made(records: &[Record]) -> impl Iterator<Item = Made<'_>> {
    records.iter().filter_map(|record| match &record.event {
        Event::Intended { instance, call, request, diff, undoes: None, .. } => match &request.call {
            Call::Change(change) => Some(Made { seq: record.seq, instance, call: *call, request, change, diff }),
            Call::Look(_) | Call::Note(_) => None,
        },
        _ => None,
    })
}

/// A text in one line: of a script, what tells which one it is, and what it was given.
pub(crate) fn short(text: &str) -> String {
    const HEAD: usize = 50;
    const TAIL: usize = 90;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let count = line.chars().count();
    if count <= HEAD + TAIL {
        return line;
    }
    let (head, tail): (String, String) = (line.chars().take(HEAD).collect(), line.chars().skip(count - TAIL).collect());
    format!("{head} ... {tail}")
}

/// The last calls up to a record, in words.
pub(crate) fn calls(records: &[Record], up_to: u64) -> Vec<String> {
    let lines: Vec<String> = records
        .iter()
        .take_while(|record| record.seq <= up_to)
        .filter_map(|record| {
            let (instance, call, request, what) = match &record.event {
                Event::Looked { instance, call, request, .. } => (instance, call, request, "looks"),
                Event::Planned { instance, call, request, .. } => (instance, call, request, "plans"),
                Event::Intended { instance, call, request, .. } => (instance, call, request, "changes"),
                Event::Unchanged { instance, call, request } => (instance, call, request, "finds so already"),
                Event::Deferred { instance, call, request, .. } => (instance, call, request, "defers"),
                Event::Denied { instance, call, request, .. } => (instance, call, request, "is denied"),
                _ => return None,
            };
            Some(format!("record {}: {instance} #{call} {what}: {}", record.seq, short(&words::request(request))))
        })
        .collect();
    lines[lines.len().saturating_sub(SHOWN)..].to_vec()
}
