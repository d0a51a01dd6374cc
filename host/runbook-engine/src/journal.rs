//! Where events go: the journal on disk, and whoever watches.
//!
//! One thread writes. It takes all that waits at once, so that the intents of concurrent steps share one `fdatasync`. An
//! append that asks for it returns after its record is durable, and with it all before it. All other events ride along: nobody
//! waits for them, and the writer is not woken for each.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runbook_model::event::{Event, Record};
use runbook_model::history::History;
use runbook_model::journal;
use runbook_model::redact::Redactor;
use runbook_model::state::State;
use tokio::sync::oneshot;

use crate::clock::{self, Clock};
use crate::shared::lock;

/// How long events are gathered that nobody waits for. A display cannot tell it from at once.
const LINGER: Duration = Duration::from_millis(5);

/// Events that are not gathered any longer.
const MANY: usize = 256;

/// Bytes of events that may wait to be written, about. Whoever appends more waits until they are.
const MOST: usize = 8 << 20;

/// Told of every event of a run, in order: a display, a stream of JSON lines.
pub trait Watcher: Send + Sync {
    /// The record holds no secret.
    fn record(&self, record: &Record);
}

/// Why an event was not written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the journal {path} cannot be written: {why}", path = .path.display())]
pub struct JournalError {
    /// Which.
    pub path: PathBuf,
    /// What the system says.
    pub why: String,
}

/// Where an event stands in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of its record.
    pub seq: u64,
    /// Its time, in milliseconds since 1970.
    pub at: u64,
}

/// Where a journal goes on.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Number of the last record that is there.
    pub seq: u64,
    /// Its time, in milliseconds since 1970.
    pub at: u64,
    /// What the records tell.
    pub state: State,
}

impl Start {
    /// After what the journal tells already.
    pub fn after(past: &History) -> Self {
        Self { seq: past.records, at: past.last_at, state: past.state.clone() }
    }
}

struct Append {
    /// None: nothing is written; whoever waits learns that all before it was seen by the watchers.
    event: Option<Event>,
    at: u64,
    durable: bool,
    done: Option<oneshot::Sender<Result<(), JournalError>>>,
}

/// The event stream of one run.
#[derive(Clone)]
pub struct Journal {
    queue: Arc<Queue>,
    path: Option<PathBuf>,
    /// In a simulation, who writes at once what is appended.
    here: Option<Arc<Mutex<Option<Writer>>>>,
    /// The writer ends when the last handle is dropped.
    _open: Arc<Open>,
}

impl Journal {
    /// Writes to `file` (none: nothing is kept, as in a plan) and tells the watchers.
    pub fn new(
        file: Option<(PathBuf, std::fs::File)>,
        start: Start,
        redactor: Redactor,
        watchers: Vec<Arc<dyn Watcher>>,
    ) -> Self {
        let (journal, writer) = Self::begin(file, start, redactor, watchers, Clock::default());
        std::thread::spawn(move || writer.run());
        journal
    }

    /// The same with a clock of its own, written by whoever appends: nothing happens beside the run, so a run is the same each time.
    pub fn simulated(
        file: Option<(PathBuf, std::fs::File)>,
        start: Start,
        redactor: Redactor,
        watchers: Vec<Arc<dyn Watcher>>,
        clock: Clock,
    ) -> Self {
        let (journal, writer) = Self::begin(file, start, redactor, watchers, clock);
        Self { here: Some(Arc::new(Mutex::new(Some(writer)))), ..journal }
    }

    fn begin(
        file: Option<(PathBuf, std::fs::File)>,
        start: Start,
        redactor: Redactor,
        watchers: Vec<Arc<dyn Watcher>>,
        clock: Clock,
    ) -> (Self, Writer) {
        let Start { seq, at, state } = start;
        let time = Mutex::new(Time { at, since: clock::now() });
        let waiting = Mutex::new(Waiting { seq, ..Waiting::default() });
        let queue = Arc::new(Queue { clock, time, waiting, arrived: Condvar::new(), syncs: AtomicU64::new(0) });
        let path = file.as_ref().map(|(path, _)| path.clone());
        let writer = Writer { queue: Arc::clone(&queue), file, redactor, watchers, seq, state };
        (Self { _open: Arc::new(Open(Arc::clone(&queue))), queue, path, here: None }, writer)
    }

    /// The wall clock that its times come from.
    pub fn clock(&self) -> &Clock {
        &self.queue.clock
    }

    /// The time that an event would get now, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        self.queue.now_ms()
    }

    fn push(&self, event: Option<Event>, durable: bool) -> (Place, Option<JournalError>, Option<Done>) {
        let pushed = self.queue.push(event, durable);
        if let Some(here) = &self.here {
            let mut here = lock(here);
            let appends = lock(&self.queue.waiting).take();
            // A watcher that panics ends the writer, not whoever appends.
            let write = || here.as_mut().map(|writer| writer.take_in(appends));
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).is_err() {
                *here = None;
            }
        }
        pushed
    }

    /// What it tells so far of the run.
    ///
    /// # Errors
    ///
    /// It is not kept, or cannot be read.
    pub fn read(&self) -> Result<History, JournalError> {
        let Some(path) = &self.path else {
            return Err(JournalError { path: PathBuf::new(), why: "nothing is kept of this run".to_owned() });
        };
        let failed = |why: String| JournalError { path: path.clone(), why };
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let records = journal::decode(&String::from_utf8_lossy(&bytes)).map_err(|error| failed(error.to_string()))?;
        History::of(records).map_err(|error| failed(error.to_string()))
    }

    /// Appends an event; gives its place. `durable`: returns after it is on the disk, and all events
    /// before it are. Else it is written soon, and before all events that are appended after it.
    ///
    /// # Errors
    ///
    /// The journal is broken: it, or an event before it, was not written. Nothing that depends on it may be done.
    pub async fn append(&self, event: Event, durable: bool) -> Result<Place, JournalError> {
        let (place, broken, done) = self.push(Some(event), durable);
        if let Some(error) = broken {
            // It ends the run: whoever watches is to have seen what led to it.
            self.settle().await;
            return Err(error);
        }
        if let Some(done) = done {
            done.await.map_err(|_| ended())??;
        }
        Ok(place)
    }

    /// Appends an event that nobody waits for: progress.
    pub fn tell(&self, event: Event) {
        // Whoever is waited for meets the error.
        let _ = self.push(Some(event), false);
    }

    /// Returns when the watchers have seen all events so far.
    pub async fn settle(&self) {
        if let (_, _, Some(done)) = self.push(None, false) {
            let _ = done.await;
        }
    }

    /// How often it was waited for the disk so far.
    pub fn syncs(&self) -> u64 {
        self.queue.syncs.load(Ordering::Relaxed)
    }
}

/// What waits to be written.
struct Queue {
    clock: Clock,
    time: Mutex<Time>,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    syncs: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    appends: Vec<Append>,
    /// Of the events in it.
    weight: usize,
    /// The number of the last event.
    seq: u64,
    /// The writer is to begin at once.
    urgent: bool,
    /// Nothing more comes.
    closed: bool,
    /// Nobody takes anything out any more.
    gone: bool,
    /// A journal with a hole is worse than one that ends: after the first failure nothing more is written.
    broken: Option<JournalError>,
}

impl Waiting {
    fn take(&mut self) -> Vec<Append> {
        (self.urgent, self.weight) = (false, 0);
        std::mem::take(&mut self.appends)
    }
}

/// Told when an append is done.
type Done = oneshot::Receiver<Result<(), JournalError>>;

/// A moment by both clocks.
struct Time {
    at: u64,
    since: Instant,
}

impl Queue {
    /// The wall clock may be set back, and a computer may have slept: the time goes on by the clock that is ahead.
    fn now_ms(&self) -> u64 {
        let mut time = lock(&self.time);
        let went_on = time.at.saturating_add(clock::whole_ms(clock::since(time.since)));
        let wall = self.clock.now_ms();
        if wall > went_on {
            *time = Time { at: wall, since: clock::now() };
        }
        wall.max(went_on)
    }

    /// Gives the event's place, the error that came before it, and what to wait for, if anything.
    fn push(&self, event: Option<Event>, durable: bool) -> (Place, Option<JournalError>, Option<Done>) {
        let weight = event.as_ref().map_or(0, Event::weight);
        let mut waiting = lock(&self.waiting);
        let broken = waiting.broken.clone();
        waiting.seq += u64::from(event.is_some() && !waiting.gone);
        let (seq, at) = (waiting.seq, self.now_ms());
        if waiting.gone {
            return (Place { seq, at }, broken, None);
        }
        waiting.weight += weight;
        let awaited = durable || event.is_none() || waiting.weight > MOST;
        let (done, result) = oneshot::channel();
        let first = waiting.appends.is_empty();
        // A change whose end was not written would be in doubt after a crash.
        let urgent = awaited || matches!(event, Some(Event::Changed { .. })) || waiting.appends.len() >= MANY;
        let hurry = urgent && !std::mem::replace(&mut waiting.urgent, true);
        waiting.appends.push(Append { event, at, durable, done: awaited.then_some(done) });
        drop(waiting);
        if first || hurry {
            self.arrived.notify_one();
        }
        (Place { seq, at }, broken, awaited.then_some(result))
    }

    /// Waits for appends, and gathers them. None: no more come.
    fn take(&self) -> Option<Vec<Append>> {
        let waiting = lock(&self.waiting);
        let nothing = |waiting: &mut Waiting| waiting.appends.is_empty() && !waiting.closed;
        let waiting = self.arrived.wait_while(waiting, nothing).unwrap_or_else(PoisonError::into_inner);
        let gathers = |waiting: &mut Waiting| !waiting.urgent && !waiting.closed;
        let (mut waiting, _) =
            self.arrived.wait_timeout_while(waiting, LINGER, gathers).unwrap_or_else(PoisonError::into_inner);
        let appends = waiting.take();
        (!appends.is_empty()).then_some(appends)
    }
}

/// While it lives, there may be events.
struct Open(Arc<Queue>);

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0.waiting).closed = true;
        self.0.arrived.notify_one();
    }
}

struct Writer {
    queue: Arc<Queue>,
    file: Option<(PathBuf, std::fs::File)>,
    redactor: Redactor,
    watchers: Vec<Arc<dyn Watcher>>,
    seq: u64,
    state: State,
}

impl Writer {
    fn run(mut self) {
        while let Some(appends) = self.queue.take() {
            self.take_in(appends);
        }
    }

    fn take_in(&mut self, appends: Vec<Append>) {
        let durable = appends.iter().any(|append| append.durable);
        let mut lines = Vec::new();
        let mut written = Vec::with_capacity(appends.len());
        let mut legal = Ok(());
        for Append { event, at, done, .. } in appends {
            let mut record = None;
            if let (Some(event), Ok(())) = (event, &legal) {
                self.seq += 1;
                legal = self.follow(&event);
                if legal.is_ok() {
                    let event = Record { seq: self.seq, at, event };
                    record = Some(journal::encode_clean(event, &self.redactor, &mut lines));
                }
            }
            written.push((record, done));
        }
        let result = self.write(&lines, durable).and(legal).inspect_err(|error| {
            lock(&self.queue.waiting).broken.get_or_insert_with(|| error.clone());
        });
        for (record, done) in written {
            // Before the one who waits goes on: after the last event that is the end of the process.
            for (record, watcher) in record.iter().flat_map(|r| self.watchers.iter().map(move |w| (r, w))) {
                watcher.record(record);
            }
            if let Some(done) = done {
                let _ = done.send(result.clone());
            }
        }
    }

    /// Only what can follow is written: a journal that cannot be read again would be worth nothing.
    fn follow(&mut self, event: &Event) -> Result<(), JournalError> {
        let next = std::mem::take(&mut self.state).next(event);
        let path = self.file.as_ref().map(|(path, _)| path.clone()).unwrap_or_default();
        match next {
            Ok(state) => {
                self.state = state;
                Ok(())
            }
            Err(why) => Err(JournalError { path, why: format!("internal error: {why}") }),
        }
    }

    fn write(&mut self, lines: &[u8], durable: bool) -> Result<(), JournalError> {
        use std::io::Write as _;
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        if let Some(error) = &lock(&self.queue.waiting).broken {
            return Err(error.clone());
        }
        let written = file.write_all(lines).and_then(|()| {
            if durable {
                self.queue.syncs.fetch_add(1, Ordering::Relaxed);
                file.sync_data()?;
            }
            Ok(())
        });
        written.map_err(|error| JournalError { path: path.clone(), why: error.to_string() })
    }
}

impl Drop for Writer {
    /// Also where a watcher panicked: whoever waits, or appends from now on, is told.
    fn drop(&mut self) {
        let mut waiting = lock(&self.queue.waiting);
        waiting.broken.get_or_insert_with(ended);
        waiting.gone = true;
        waiting.appends.clear();
    }
}

fn ended() -> JournalError {
    JournalError { path: PathBuf::new(), why: "its writer has ended".to_owned() }
}

/// Creates the folder of a run, for its owner alone, and the journal in it.
///
/// # Errors
///
/// What the system says.
pub fn create(folder: &Path) -> std::io::Result<(PathBuf, std::fs::File)> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(journal::FILE);
    let file = std::fs::OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?;
    // Also the way to the file must outlive a loss of power.
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok((path, file))
}

/// Opens the journal of a run to go on with it. What a crash left of its last line is cut off.
///
/// # Errors
///
/// It cannot be read or written, or is damaged.
pub fn reopen(folder: &Path) -> Result<((PathBuf, std::fs::File), History), JournalError> {
    let path = folder.join(journal::FILE);
    let failed = |why: String| JournalError { path: path.clone(), why };
    let system = |error: std::io::Error| failed(error.to_string());
    let bytes = std::fs::read(&path).map_err(system)?;
    let records = journal::decode(&String::from_utf8_lossy(&bytes)).map_err(|error| failed(error.to_string()))?;
    let file = std::fs::OpenOptions::new().append(true).open(&path).map_err(system)?;
    let whole: usize = bytes.split_inclusive(|byte| *byte == b'\n').take(records.len()).map(<[u8]>::len).sum();
    if whole < bytes.len() {
        file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(system)?;
    }
    let history = History::of(records).map_err(|error| failed(error.to_string()))?;
    Ok(((path, file), history))
}
