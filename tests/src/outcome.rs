//! A command that was run: how it ended and what it wrote.

use std::fmt;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use regex::Regex;
use runbook_model::event::{Event, Record};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Generous: what it bounds is a command that hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// How a command ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From start to end.
    pub elapsed: Duration,
    /// The most memory that it had at a time, in KiB; 0 where it was over at once.
    pub peak: u64,
}

/// A command that is running, in a process group of its own. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    start: Instant,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts a command with nothing on its standard input.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        fn drain(mut pipe: impl std::io::Read + Send + 'static) -> JoinHandle<Vec<u8>> {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // A pipe of our own child: what was read until an error is what there is.
                drop(pipe.read_to_end(&mut bytes));
                bytes
            })
        }
        let words: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
        let start = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("starting `{}`: {e}", words.join(" ")));
        let stdout = child.stdout.take().map(drain);
        let stderr = child.stderr.take().map(drain);
        Self { command: words.join(" "), child, start, stdout, stderr }
    }

    /// Its process id, which is also its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, as a terminal or a service manager does: to its process alone.
    ///
    /// # Panics
    ///
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.raw(), signal).unwrap_or_else(|e| panic!("signalling `{}`: {e}", self.command));
    }

    fn raw(&self) -> Pid {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a positive process id")
    }

    /// Whether it is still running.
    ///
    /// # Panics
    ///
    /// When it cannot be waited for.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end within five minutes: then it is killed.
    #[must_use = "say how it is to end"]
    pub fn wait(mut self) -> Outcome {
        let mut ended = None;
        let mut peak = 0;
        while ended.is_none() && self.start.elapsed() < LIMIT {
            peak = peak_of(self.child.id()).unwrap_or(peak);
            ended = self.child.try_wait().expect("a child can be waited for");
            if ended.is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let elapsed = self.start.elapsed();
        let hung = ended.is_none();
        if hung {
            let _ = kill_process_group(self.raw(), Signal::KILL);
        }
        let status = ended.unwrap_or_else(|| self.child.wait().expect("a killed child can be waited for"));
        let text = |reader: Option<JoinHandle<Vec<u8>>>| {
            let bytes = reader.map(|r| r.join().expect("a reader does not panic")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let outcome = Outcome {
            command: self.command.clone(),
            code: status.code(),
            signal: status.signal(),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            elapsed,
            peak,
        };
        assert!(!hung, "it was killed because it had not ended after {LIMIT:?}: {outcome}");
        outcome
    }
}

/// As the kernel keeps it: it does not sink again.
fn peak_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.raw(), Signal::KILL);
            drop(self.child.wait());
        }
    }
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or does not end within five minutes.
    #[must_use = "say how it is to end"]
    pub fn of(command: &mut Command) -> Self {
        Running::start(command).wait()
    }

    /// It ended with this exit code.
    ///
    /// # Panics
    ///
    /// When it did not.
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// It ended well: exit code 0.
    ///
    /// # Panics
    ///
    /// When it did not.
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// The last line of its standard output is this, to the letter.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub fn last_line(self, line: &str) -> Self {
        assert_eq!(self.stdout.lines().last().unwrap_or_default(), line, "{self}");
        self
    }

    /// Its standard output has this in it.
    ///
    /// # Panics
    ///
    /// When it has not.
    pub fn stdout_has(self, part: &str) -> Self {
        assert!(self.stdout.contains(part), "no `{part}` in stdout; {self}");
        self
    }

    /// Its standard error has this in it.
    ///
    /// # Panics
    ///
    /// When it has not.
    pub fn stderr_has(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "no `{part}` in stderr; {self}");
        self
    }

    /// Neither of its outputs has this in it: a secret, say.
    ///
    /// # Panics
    ///
    /// When one has.
    pub fn nowhere(self, part: &str) -> Self {
        assert!(!self.stdout.contains(part) && !self.stderr.contains(part), "`{part}` was written; {self}");
        self
    }

    /// Its standard output as the records of `--json`, which count from 1 without a gap.
    ///
    /// # Panics
    ///
    /// When a line is none.
    pub fn records(&self) -> Vec<Record> {
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in the line {line}; {self}"));
        let records: Vec<Record> = self.stdout.lines().map(read).collect();
        for (i, record) in records.iter().enumerate() {
            assert_eq!(record.seq, i as u64 + 1, "records are to count from 1; {self}");
        }
        records
    }

    /// The events of [`records`](Self::records).
    ///
    /// # Panics
    ///
    /// When a line of the standard output is no record.
    pub fn events(&self) -> Vec<Event> {
        self.records().into_iter().map(|r| r.event).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with ", self.command)?;
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, signal) => write!(f, "signal {}", signal.unwrap_or_default())?,
        }
        write!(f, " after {:?}\n--- stdout\n{}\n--- stderr\n{}\n---", self.elapsed, self.stdout, self.stderr)
    }
}

/// Text with what differs from run to run replaced: the given values by their names, then times, digests, dates and process ids.
///
/// # Panics
///
/// Never: the patterns are constants.
pub fn filtered(text: &str, values: &[(&str, &str)]) -> String {
    let patterns = [
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", "[DATE]"),
        (r"\d{8}-?T?\d{6}[-a-z0-9]*", "[RUN]"),
        (r"\b[0-9a-f]{64}\b", "[SHA256]"),
        (r"\b\d+(\.\d+)?\s?(µs|us|ms|s|m \d+s|min)\b", "[TIME]"),
        (r"\bpid \d+", "pid [PID]"),
    ];
    let named = values.iter().fold(text.to_owned(), |t, (value, name)| t.replace(value, name));
    patterns.iter().fold(named, |t, (pattern, name)| {
        Regex::new(pattern).expect("the pattern is a constant").replace_all(&t, *name).into_owned()
    })
}
