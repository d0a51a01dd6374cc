//! One connection to a machine, on which processes are started: over SSH, or on the controller itself.

use async_trait::async_trait;
use runbook_model::call::CallError;
use tokio::sync::mpsc;

/// A connection on which processes can be started.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Starts `command_line` with the login user's `sh` (as sshd does: `sh -c`), without a terminal.
    ///
    /// # Errors
    ///
    /// `unreachable` where nothing was started; then it is safe to try again.
    async fn start(&self, command_line: &str) -> Result<Process, CallError>;

    /// Whether the connection is known to be dead.
    fn is_closed(&self) -> bool;

    /// Fingerprint ("SHA256:...") of the host key that the machine showed; none where nobody had to prove who it is.
    fn host_key(&self) -> Option<String> {
        None
    }

    /// The address that answered; none where there is none.
    fn address(&self) -> Option<&str> {
        None
    }

    /// Ends the connection. Processes on it may live on: whoever started them has to end them.
    async fn close(&self);
}

/// A process on a machine. Its output is drained by a task of its own, so that one slow reader does not stop the connection.
pub struct Process {
    /// Its standard input; dropping it closes it. Bounded: sending waits while the other side is slow.
    pub stdin: mpsc::Sender<Vec<u8>>,
    /// What it writes and how it ends. Ends with [`Output::Exit`], or without one where the connection was lost.
    pub output: mpsc::Receiver<Output>,
}

/// Something that a process gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes of its standard output.
    Stdout(Vec<u8>),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// It ended; nothing follows.
    Exit(runbook_model::call::Exit),
}
