//! The helper shells of one user on a connection, and who gets which.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use crate::shell::Shell;

/// How long a shell that is at work is waited for before another one is opened.
const PATIENCE: Duration = Duration::from_millis(100);

/// Which helper shells a job may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The one for changes.
    Change,
    /// One of those for observations.
    Look,
}

/// Helper shells of one user. One change and two observations run at once; whichever shell is idle serves them, so that what runs one
/// after the other needs a single one.
pub(crate) struct Shells {
    change: Arc<Semaphore>,
    look: Arc<Semaphore>,
    idle: Mutex<Idle>,
    freed: Notify,
}

#[derive(Default)]
struct Idle {
    /// The last used at the end.
    shells: Vec<Shell>,
    /// Shells that are at work or being opened.
    busy: usize,
}

/// A place for a shell: an idle one was taken, or one may be opened. Ends with the shell's going back.
pub(crate) struct Seat {
    shells: Arc<Shells>,
    pub(crate) shell: Option<Shell>,
}

impl Seat {
    /// The shell was not needed.
    pub(crate) fn give_back(mut self, shell: Shell) {
        self.shell = Some(shell);
    }
}

impl Shells {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            change: Arc::new(Semaphore::new(1)),
            look: Arc::new(Semaphore::new(2)),
            idle: Mutex::default(),
            freed: Notify::new(),
        })
    }

    pub(crate) fn permits(&self, lane: Lane) -> Arc<Semaphore> {
        match lane {
            Lane::Change => self.change.clone(),
            Lane::Look => self.look.clone(),
        }
    }

    /// Ends those that wait.
    pub(crate) fn clear(&self) {
        self.idle().shells.clear();
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shell that waits, or the right to open one. Most commands are over at once, and opening a shell costs more than they do: where others
    /// are at work, one of them is waited for a little.
    pub(crate) async fn seat(self: &Arc<Self>) -> Seat {
        let patience = Instant::now() + PATIENCE;
        loop {
            let freed = self.freed.notified();
            {
                let mut idle = self.idle();
                while let Some(mut shell) = idle.shells.pop() {
                    if shell.is_alive() {
                        idle.busy += 1;
                        return Seat { shells: self.clone(), shell: Some(shell) };
                    }
                }
                if idle.busy == 0 || Instant::now() >= patience {
                    idle.busy += 1;
                    return Seat { shells: self.clone(), shell: None };
                }
            }
            // The time is over, or somebody else may have been quicker.
            let _ = tokio::time::timeout_at(patience.into(), freed).await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut idle = self.shells.idle();
        idle.busy -= 1;
        idle.shells.extend(self.shell.take());
        drop(idle);
        self.shells.freed.notify_one();
    }
}
