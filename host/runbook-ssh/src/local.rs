//! The controller as a machine: the same trait as over SSH, with processes of this machine.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use runbook_model::call::{CallError, Exit};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::channel::{self, Ends};
use crate::transport::{Output, Process, Transport};

/// Bytes read at once, as much as one SSH packet carries.
const PIECE: usize = 32 << 10;

/// Process groups that were started and have not ended.
type Groups = Arc<Mutex<BTreeSet<i32>>>;

/// This machine. Each process is the leader of its own process group, in the user's home directory, as over SSH.
#[derive(Default)]
pub struct LocalTransport {
    directory: Option<PathBuf>,
    kill_on_close: bool,
    closed: AtomicBool,
    groups: Groups,
}

impl LocalTransport {
    /// Processes start in `directory` (none: where this program runs) and live on when the transport is closed.
    pub fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, ..Self::default() }
    }

    /// On closing, process groups that have not ended are killed.
    #[must_use]
    pub fn kill_on_close(mut self) -> Self {
        self.kill_on_close = true;
        self
    }
}

#[async_trait]
impl Transport for LocalTransport {
    async fn start(&self, command_line: &str) -> Result<Process, CallError> {
        if self.is_closed() {
            return Err(CallError::Unreachable("this machine: the transport is closed".to_owned()));
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(command_line).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let child =
            command.spawn().map_err(|e| CallError::Unreachable(format!("this machine: cannot start sh: {e}")))?;
        let (process, ends) = channel::process();
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = group {
            self.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(group);
        }
        tokio::spawn(carry(child, ends, Arc::clone(&self.groups), group));
        Ok(process)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        if !self.kill_on_close {
            return;
        }
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups.iter().filter_map(|g| Pid::from_raw(*g)) {
            // One that has just ended is as good as killed.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Carries input and output until both outputs are closed and the process has ended; it is waited for in any case.
async fn carry(mut child: Child, ends: Ends, groups: Groups, group: Option<i32>) {
    let Ends { input, out } = ends;
    let feeder = child.stdin.take().map(|stdin| AbortOnDropHandle::new(tokio::spawn(feed(stdin, input))));
    let readers = (child.stdout.take(), child.stderr.take());
    let reading = async {
        let stdout = drain(readers.0, &out, Output::Stdout);
        let stderr = drain(readers.1, &out, Output::Stderr);
        tokio::join!(stdout, stderr);
    };
    // A caller who drops the output is gone: then the pipes close, and only the end is waited for.
    tokio::select! {
        () = reading => {}
        () = out.closed() => {}
    }
    let status = child.wait().await;
    drop(feeder);
    if let Some(group) = group {
        groups.lock().unwrap_or_else(PoisonError::into_inner).remove(&group);
    }
    let Ok(status) = status else { return };
    let exit = match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(number)) => Exit::Signal(name(number)),
        (None, None) => return,
    };
    let _ = out.send(Output::Exit(exit)).await;
}

/// Passes on what comes at the caller's pace: each process has a pipe of its own, so nobody else waits.
async fn drain<R: AsyncRead + Unpin>(from: Option<R>, out: &mpsc::Sender<Output>, wrap: fn(Vec<u8>) -> Output) {
    let Some(mut from) = from else { return };
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        match from.read_buf(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(_) if out.send(wrap(piece)).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

/// Passes input on, then closes it. A process that does not read it is no error.
async fn feed(mut stdin: ChildStdin, mut input: mpsc::Receiver<Vec<u8>>) {
    while let Some(piece) = input.recv().await {
        if stdin.write_all(&piece).await.is_err() {
            return;
        }
    }
}

fn name(number: i32) -> String {
    let known = [
        (libc::SIGHUP, "HUP"),
        (libc::SIGINT, "INT"),
        (libc::SIGQUIT, "QUIT"),
        (libc::SIGILL, "ILL"),
        (libc::SIGTRAP, "TRAP"),
        (libc::SIGABRT, "ABRT"),
        (libc::SIGBUS, "BUS"),
        (libc::SIGFPE, "FPE"),
        (libc::SIGKILL, "KILL"),
        (libc::SIGUSR1, "USR1"),
        (libc::SIGSEGV, "SEGV"),
        (libc::SIGUSR2, "USR2"),
        (libc::SIGPIPE, "PIPE"),
        (libc::SIGALRM, "ALRM"),
        (libc::SIGTERM, "TERM"),
        (libc::SIGXCPU, "XCPU"),
        (libc::SIGXFSZ, "XFSZ"),
        (libc::SIGSYS, "SYS"),
    ];
    known.iter().find(|(n, _)| *n == number).map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}
