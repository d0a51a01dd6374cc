//! One run at a time for each target, among the runs of this controller.
//!
//! A lock is a file that names the run, and the process that works on it: by id, start time and boot, so that a process that is gone is
//! known to be gone. A lock whose process is gone says that its run did not come to its end; whether anything of it is still open, its
//! journal tells. Other controllers are kept away by leases at the targets themselves.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use runbook_engine::backend::{Runs, Standing};
use runbook_engine::journal;
use runbook_model::delta::sha256;
use runbook_model::event::Event;
use runbook_model::plan::{Kubeconfig, Transport};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::runs_dir;
use crate::world::Inventory;

/// What a lock says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lock {
    /// For a person: "node1 (192.168.1.10:22)".
    target: String,
    run: String,
    owner: Owner,
}

/// A process of this machine, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pid: u32,
    /// When it started, in ticks since the boot.
    start: u64,
    boot_id: String,
}

/// The locks of a run. Those that are still needed when it ends stay, without a process.
pub(crate) struct Locks {
    folder: PathBuf,
    run: String,
    held: Vec<PathBuf>,
}

/// A target, by what it is.
struct Held {
    /// What tells it from all others.
    key: String,
    shown: String,
}

impl Locks {
    /// Takes the locks of all targets, or none. `abandon`: runs that did not come to their end give theirs up.
    pub(crate) fn take(run: &str, inventory: &Inventory, used: &Used, abandon: bool) -> Result<Self, CliError> {
        let folder = runs_dir::state()?.join("locks");
        let failed = |error: std::io::Error| runs_dir::cannot_keep(&folder, &error);
        runs_dir::make_private(&folder).map_err(failed)?;
        let _guard = guard(&folder).map_err(failed)?;
        let targets = targets(inventory, used);
        let mut abandoned = BTreeSet::new();
        for target in &targets {
            let Some(lock) = read(&folder.join(file_name(target))) else { continue };
            // Also where it is a session of the same run: on a file system that cannot tell of it by itself.
            if lock.owner.is_alive() {
                return Err(CliError::refused(format!(
                    "the run {} is at work on {} (process {}); nothing was touched",
                    lock.run, target.shown, lock.owner.pid
                ))
                .hint("wait for its end, or end it with Ctrl-C where it runs"));
            }
            if lock.run == run {
                continue;
            }
            let history = runs_dir::history(&lock.run).ok().filter(|history| history.state.holds_targets());
            if history.is_none() || abandoned.contains(&lock.run) {
                continue;
            }
            if !abandon {
                return Err(unfinished(&lock));
            }
            give_up(&lock.run, run)?;
            abandoned.insert(lock.run);
        }
        let owner = Owner::this();
        let mut held = Vec::new();
        for target in targets {
            let path = folder.join(file_name(&target));
            let lock = Lock { target: target.shown, run: run.to_owned(), owner: owner.clone() };
            write(&path, &lock).map_err(failed)?;
            held.push(path);
        }
        Ok(Self { folder, run: run.to_owned(), held })
    }

    /// Gives the locks back. `keep`: something of the run is still open, so nobody else may use its targets.
    pub(crate) fn give_back(self, keep: bool) {
        let Ok(_guard) = guard(&self.folder) else { return };
        if keep {
            return;
        }
        for path in &self.held {
            if read(path).is_some_and(|lock| lock.run == self.run) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Makes this process the only one that is at work on a run, while it lives. The system ends that with the process, however it ends.
pub(crate) struct AtWork {
    _folder: File,
}

impl AtWork {
    /// On the run in this folder.
    pub(crate) fn on(folder: &Path) -> Result<Self, CliError> {
        let file = File::open(folder).map_err(|error| CliError::invalid(format!("{}: {error}", folder.display())))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let run = folder.file_name().unwrap_or_default().to_string_lossy();
                Err(CliError::refused(format!("another process is at work on the run {run}; nothing was touched"))
                    .hint("wait for its end, or end it with Ctrl-C where it runs"))
            }
            // A file system that has no such locks: those of the targets must do.
            Ok(()) | Err(_) => Ok(Self { _folder: file }),
        }
    }
}

/// Whether a process is at work on the run in this folder.
fn is_at_work(folder: &Path) -> bool {
    let Ok(file) = File::open(folder) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// The runs of this controller, as its disk tells.
pub(crate) struct Disk;

impl Runs for Disk {
    fn standing(&self, run: &str, session: u32) -> Standing {
        // A target says what it likes: a path, too. What is no run here is looked for nowhere.
        let is_ours = runs_dir::names().is_ok_and(|names| names.iter().any(|name| name == run));
        let (true, Ok(root), Ok(history)) = (is_ours, runs_dir::root(), runs_dir::history(run)) else {
            return Standing::Foreign;
        };
        // A later session than those that are known here belongs to who has a copy of this run.
        if session == 0 || session > history.state.sessions() {
            return Standing::Foreign;
        }
        // After its journal: who begins to work on it now finds that its lease is gone, or changes that before it is taken over.
        if is_at_work(&root.join(run)) || has_process(run) {
            return Standing::AtWork;
        }
        if history.state.holds_targets() { Standing::Unfinished } else { Standing::Over }
    }
}

/// Whether a process that is alive holds a target for this run.
fn has_process(run: &str) -> bool {
    let Ok(folder) = runs_dir::state().map(|state| state.join("locks")) else { return true };
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().filter_map(|entry| read(&entry.path())).any(|lock| lock.run == run && lock.owner.is_alive())
}

/// The targets that a run uses.
#[derive(Default)]
pub(crate) struct Used {
    pub(crate) hosts: BTreeSet<String>,
    pub(crate) clusters: BTreeSet<String>,
}

fn targets(inventory: &Inventory, used: &Used) -> Vec<Held> {
    let mut all = Vec::new();
    for name in &used.hosts {
        let Some(host) = inventory.hosts.get(name) else { continue };
        match host.transport {
            Transport::Local => all.push(Held { key: "this machine".to_owned(), shown: name.clone() }),
            // By its name alone: nothing runs on it.
            Transport::None => all.push(Held { key: format!("api {name}"), shown: name.clone() }),
            Transport::Ssh => {
                let place = host.addresses.first().map_or(name.as_str(), String::as_str);
                let port = host.port.unwrap_or(22);
                let shown = format!("{name} ({place}:{port})");
                all.push(Held { key: format!("ssh {place}:{port}"), shown });
            }
        }
    }
    for name in &used.clusters {
        let Some(cluster) = inventory.clusters.get(name) else { continue };
        let place = match &cluster.kubeconfig {
            Kubeconfig::File(path) => runbook_model::prepare::absolute(path, &inventory.folder, &inventory.home),
            Kubeconfig::Host { hosts, command, .. } => format!("{}: {}", hosts.join(","), command.join(" ")),
        };
        let context = cluster.context.as_deref().unwrap_or_default();
        all.push(Held { key: format!("cluster {place} {context}"), shown: format!("the cluster {name}") });
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all.dedup_by(|a, b| a.key == b.key);
    all
}

fn unfinished(lock: &Lock) -> CliError {
    let Lock { target, run, .. } = lock;
    CliError::refused(format!(
        "the run {run} did not come to its end, and {target} is one of its targets; nothing was touched"
    ))
    .hint(format!("runbook next {run} tells what is still open"))
    .hint(format!("runbook resume {run} goes on with it, runbook undo {run} takes back what it did"))
    .hint("--abandon leaves everything as it is, for good, and begins anew")
}

/// Records that a run will not be gone on with.
fn give_up(run: &str, for_the_sake_of: &str) -> Result<(), CliError> {
    use std::io::Write as _;
    let folder = runs_dir::root()?.join(run);
    let _at_work = AtWork::on(&folder)?;
    let ((path, mut file), history) = journal::reopen(&folder).map_err(CliError::internal)?;
    let records = runs_dir::read(run)?;
    let because = format!("the run {for_the_sake_of} was begun with --abandon");
    let event = Event::Abandoned { because };
    history.state.next(&event).map_err(CliError::internal)?;
    let at = records.last().map_or(0, |record| record.at);
    let record = runbook_model::event::Record { seq: records.len() as u64 + 1, at, event };
    let line = runbook_model::journal::encode(&record);
    file.write_all(line.as_bytes())
        .and_then(|()| file.sync_data())
        .map_err(|error| CliError::internal(format!("{}: {error}", path.display())))
}

impl Owner {
    /// This process.
    pub(crate) fn this() -> Self {
        let pid = std::process::id();
        Self { pid, start: start_time(pid).unwrap_or_default(), boot_id: boot_id() }
    }

    /// Whether the process is still there. An id may have gone to another process: that one started at another time.
    fn is_alive(&self) -> bool {
        self.boot_id == boot_id() && start_time(self.pid) == Some(self.start)
    }
}

/// Changes with each boot of this machine.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold anything, so what follows it is counted from its end: proc_pid_stat(5), field 22.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn file_name(target: &Held) -> String {
    format!("{}.json", &sha256(target.key.as_bytes())[..24])
}

/// While it lives, no other process takes or gives back locks. The system gives it back when this process ends.
fn guard(folder: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file =
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join(".guard"))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn read(path: &Path) -> Option<Lock> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write(path: &Path, lock: &Lock) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(lock).map_err(std::io::Error::other)?)?;
    std::fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_id_start_and_boot() {
        let this = Owner::this();
        assert!(this.is_alive());
        assert!(!Owner { start: this.start + 1, ..this.clone() }.is_alive());
        assert!(!Owner { boot_id: "another".into(), ..this.clone() }.is_alive());
        let mut child = std::process::Command::new("true").spawn().expect("it starts");
        let gone = Owner { pid: child.id(), ..this };
        child.wait().expect("it ends");
        assert!(!gone.is_alive());
    }
}
