//! Where events go: the journal on disk, and whoever watches.
//!
//! One thread writes. It takes all that waits at once, so that the intents of concurrent steps share one `fdatasync`. An
//! append that asks for it returns after its record is durable.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use runbook_model::event::{Event, Record};
use runbook_model::journal;
use runbook_model::redact::{self, Redactor};
use tokio::sync::{mpsc, oneshot};

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

struct Append {
    /// None: nothing is written; whoever waits learns that all before it was seen by the watchers.
    event: Option<Event>,
    durable: bool,
    done: oneshot::Sender<Result<u64, JournalError>>,
}

/// The event stream of one run.
#[derive(Clone)]
pub struct Journal {
    queue: mpsc::UnboundedSender<Append>,
}

impl Journal {
    /// Writes to `file` (none: nothing is kept, as in a plan) and tells the watchers.
    pub fn new(file: Option<(PathBuf, std::fs::File)>, redactor: Redactor, watchers: Vec<Arc<dyn Watcher>>) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        // The thread ends when the last handle is dropped.
        std::thread::spawn(move || Writer { file, redactor, watchers, seq: 0, broken: None }.run(waiting));
        Self { queue }
    }

    /// Appends an event; gives its time in milliseconds since 1970. `durable`: returns after it is on the disk.
    ///
    /// # Errors
    ///
    /// It was not written. Nothing that depends on it may be done.
    pub async fn append(&self, event: Event, durable: bool) -> Result<u64, JournalError> {
        let (done, result) = oneshot::channel();
        let gone = || JournalError { path: PathBuf::new(), why: "its writer has ended".to_owned() };
        self.queue.send(Append { event: Some(event), durable, done }).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Appends an event that nobody waits for: progress.
    pub fn tell(&self, event: Event) {
        let (done, _) = oneshot::channel();
        // The writer is gone only when the run is over.
        let _ = self.queue.send(Append { event: Some(event), durable: false, done });
    }

    /// Returns when the watchers have seen all events so far.
    pub async fn settle(&self) {
        let (done, seen) = oneshot::channel();
        if self.queue.send(Append { event: None, durable: false, done }).is_ok() {
            let _ = seen.await;
        }
    }
}

struct Writer {
    file: Option<(PathBuf, std::fs::File)>,
    redactor: Redactor,
    watchers: Vec<Arc<dyn Watcher>>,
    seq: u64,
    /// A journal with a hole is worse than one that ends: after the first failure nothing more is written.
    broken: Option<JournalError>,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Append>) {
        let mut batch = Vec::new();
        while waiting.blocking_recv_many(&mut batch, 256) > 0 {
            let durable = batch.iter().any(|append| append.durable);
            let mut lines = String::new();
            let mut written = Vec::with_capacity(batch.len());
            for append in batch.drain(..) {
                let record = append.event.map(|event| {
                    self.seq += 1;
                    self.clean(Record { seq: self.seq, at: now_ms(), event })
                });
                lines.extend(record.as_ref().map(journal::encode));
                written.push((record, append.done));
            }
            let result = self.write(&lines, durable);
            for (record, done) in written {
                // Before the one who waits goes on: after the last event that is the end of the process.
                for (record, watcher) in record.iter().flat_map(|r| self.watchers.iter().map(move |w| (r, w))) {
                    watcher.record(record);
                }
                let at = record.as_ref().map_or(0, |record| record.at);
                let _ = done.send(result.clone().map(|()| at));
            }
        }
    }

    /// Takes out what a plugin or an error text may have brought in.
    fn clean(&self, record: Record) -> Record {
        match serde_json::to_value(&record) {
            Ok(value) => {
                let mut clean = self.redactor.json(value.clone());
                redact::hide_kubernetes_secrets(&mut clean);
                if clean == value {
                    return record;
                }
                serde_json::from_value(clean).unwrap_or(Record { event: Event::Unknown, ..record })
            }
            Err(_) => Record { event: Event::Unknown, ..record },
        }
    }

    fn write(&mut self, lines: &str, durable: bool) -> Result<(), JournalError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let written = file.write_all(lines.as_bytes()).and_then(|()| if durable { file.sync_data() } else { Ok(()) });
        written.map_err(|error| {
            let error = JournalError { path: path.clone(), why: error.to_string() };
            self.broken = Some(error.clone());
            error
        })
    }
}

/// Milliseconds since 1970 on the controller's clock.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
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
    Ok((path, file))
}
