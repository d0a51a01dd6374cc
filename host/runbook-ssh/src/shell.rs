//! Helper shells: long-lived `sh` processes on a machine, each of which runs one list of commands after the other.
//!
//! The text of a command goes to the shell's standard input, so that it costs one round trip, one fork, and no process whose
//! arguments hold a secret. A shell whose commands did not all end in good order is never used again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook_engine::backend::CallContext;
use runbook_model::call::CallError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::r#become::{Kind, Opener, SET_UP, WHO};
use crate::command::{Item, Library, Stdin, block};
use crate::frame::{Frame, FrameError, FrameSpec, Frames};
use crate::quote::{nonce, quote, tail};
use crate::script::script;
use crate::transport::{Output, Process};

/// Bytes sent at once.
const CHUNK: usize = 32 << 10;
/// Time for everything that stopping a command takes: a new shell, the polite signal, the rude one.
const KILL_LIMIT: Duration = Duration::from_secs(12);
/// Characters; Linux has 36.
const LONGEST_BOOT_ID: usize = 64;
/// Pieces of output that wait for whom they are passed on to.
const PASSED_ON: usize = 4;

/// A helper shell that reads commands.
pub(crate) struct Shell {
    opener: Opener,
    kind: Kind,
    stdin: Option<mpsc::Sender<Vec<u8>>>,
    output: mpsc::Receiver<Output>,
    /// None before its first job, which sets it up.
    pid: Option<u32>,
    /// What is defined in it.
    libraries: Vec<Library>,
    /// The process groups of the last job.
    previous: Vec<u32>,
}

/// What a shell is to do.
pub(crate) struct Job {
    /// One after the other, in one round trip.
    pub(crate) items: Vec<Arc<Item>>,
    pub(crate) deadline: Instant,
    pub(crate) cancel: CancellationToken,
    /// Standard input of the only command, on a shell that is used for nothing else.
    pub(crate) feed: Option<Feed>,
    /// Takes the standard output of the only command.
    pub(crate) sink: Option<mpsc::Sender<Vec<u8>>>,
    /// Paths on the machine that are removed where the commands had to be stopped.
    pub(crate) leftovers: Vec<String>,
}

impl Job {
    /// A job that neither is fed nor streams its output.
    pub(crate) fn new(items: Vec<Arc<Item>>, ctx: &CallContext) -> Self {
        let (deadline, cancel) = (ctx.deadline, ctx.cancel.clone());
        Self { items, deadline, cancel, feed: None, sink: None, leftovers: Vec::new() }
    }
}

/// Bytes that come in pieces, until the end or an error.
pub(crate) type Feed = mpsc::Receiver<Result<Vec<u8>, CallError>>;

/// Why a job has no frames.
pub(crate) enum Halt {
    /// The shell could not be used, and nothing was run: another one may try.
    Stale,
    /// For the caller.
    Error(CallError),
}

/// The frames of the items that ended, and why the others did not.
pub(crate) type Ended = (Vec<Frame>, Result<(), Halt>);

/// Why a job stops early.
enum Stop {
    TimedOut,
    Cancelled,
    Abandoned,
    Ended,
    Feed(CallError),
    Frame(FrameError),
}

impl Shell {
    pub(crate) fn new(opener: Opener, process: Process, kind: Kind) -> Self {
        let (stdin, output) = (Some(process.stdin), process.output);
        Self { opener, kind, stdin, output, pid: None, libraries: Vec::new(), previous: Vec::new() }
    }

    /// Whether it may still be used. Drops what came while nobody was listening.
    pub(crate) fn is_alive(&mut self) -> bool {
        loop {
            match self.output.try_recv() {
                Ok(Output::Exit(_)) | Err(mpsc::error::TryRecvError::Disconnected) => return false,
                Ok(_) => {}
                Err(mpsc::error::TryRecvError::Empty) => return !self.opener.transport.is_closed(),
            }
        }
    }

    /// Whether nothing that ran in it may still be there.
    pub(crate) fn is_clean(&self) -> bool {
        self.previous.is_empty()
    }

    /// Runs a job. Gives the shell back where it can be used again, and the frames of the items that ended.
    ///
    /// `abandoned` is cancelled when nobody waits for the result any more: then what runs is stopped.
    pub(crate) async fn run(mut self, mut job: Job, abandoned: CancellationToken) -> (Option<Self>, Ended) {
        let is_new = self.pid.is_none();
        if is_new {
            let boot_id_file = self.opener.boot_id_file.as_bytes().to_vec();
            job.items
                .insert(0, Arc::new(Item::script("setting the helper shell up", WHO, vec![boot_id_file]).or("who")));
        }
        let specs = job.items.iter().map(|item| FrameSpec {
            nonce: nonce(),
            follow: item.follow.clone(),
            limit: item.limit,
            pass_on: job.sink.is_some(),
        });
        let mut specs: Vec<FrameSpec> = specs.collect();
        if let (true, Some(spec)) = (is_new, specs.first_mut()) {
            spec.pass_on = false;
        }
        let (text, operations) = self.text(&job.items, &specs);
        // Data goes to whoever reads it: to an operation of the worker, or to the shell behind it.
        let letter = (self.kind == Kind::Perl).then_some(if operations == job.items.len() { 'D' } else { 'S' });
        let mut frames = Frames::new(specs).beginning_with(operations);
        // A shell that feeds a command to the end is told to end after it, and so is one whose script did not read its part: what is
        // left unread must not be read as text.
        let part = job.items.iter().find_map(|item| match item.stdin() {
            Some(Stdin::Part(bytes)) => Some(*bytes),
            _ => None,
        });
        let fed = job.feed.is_some();
        let result = self
            .converse(
                &job.items,
                text,
                &mut frames,
                job.deadline,
                &job.cancel,
                &abandoned,
                job.feed,
                part,
                letter,
                job.sink,
            )
            .await;
        if is_new {
            self.pid = frames.frame(0).and_then(|frame| self.introduced(frame));
        }
        let ended = |mut frames: Vec<Frame>| {
            if is_new && !frames.is_empty() {
                frames.remove(0);
            }
            frames
        };
        match result {
            Ok(()) if self.pid.is_none() => {
                let text = format!("the helper shell on {} gave a garbled answer", self.opener.machine);
                (None, (Vec::new(), Err(Halt::Error(CallError::Unreachable(text)))))
            }
            Ok(()) => {
                let frames = ended(frames.into_frames());
                self.previous = frames.iter().flat_map(|frame| frame.pids.iter().copied()).collect();
                // Each was said on both streams.
                self.previous.sort_unstable();
                self.previous.dedup();
                let is_over = fed && (part.is_none() || frames.iter().any(|frame| frame.status != 0));
                ((!is_over).then_some(self), (frames, Ok(())))
            }
            Err(Stop::Frame(FrameError::Stale)) => (None, (Vec::new(), Err(Halt::Stale))),
            Err(stop) => {
                let error = self.stopped(stop, &job.items, &frames, job.leftovers).await;
                let current = frames.current();
                let mut frames = frames.into_frames();
                frames.truncate(current);
                (None, (ended(frames), Err(Halt::Error(error))))
            }
        }
    }

    /// What it is told to do, and how many of the items, from the first on, the worker does by itself.
    fn text(&mut self, items: &[Arc<Item>], specs: &[FrameSpec]) -> (Vec<u8>, usize) {
        let mut text = Vec::new();
        let mut operations = 0;
        if self.kind == Kind::Perl {
            for (item, spec) in items.iter().zip(specs) {
                let Some(operation) = item.operation(&spec.nonce) else { break };
                if operations == 0 && !self.previous.is_empty() {
                    // What an earlier command left behind could write in between.
                    let groups = self.previous.iter().map(|group| format!(" {group}")).collect::<String>();
                    text.extend(block('B', format!("{}{groups}", spec.nonce).as_bytes()));
                }
                text.extend(operation);
                operations += 1;
            }
        }
        let (items, specs) = (&items[operations..], &specs[operations..]);
        if items.is_empty() {
            return (text, operations);
        }
        let mut first: Vec<&str> = Vec::new();
        for library in [SET_UP].iter().chain(items.iter().flat_map(|item| item.needs())) {
            // By its address: there is one text of each.
            if !self.libraries.iter().any(|known| std::ptr::eq(*known, *library)) {
                self.libraries.push(library);
                first.push(library);
            }
        }
        let shell = script(items, specs, &first, &self.previous);
        match self.kind {
            Kind::Sh => text = shell,
            Kind::Perl => text.extend(block('S', &shell)),
        }
        (text, operations)
    }

    /// Reads what it said of itself when it was set up.
    fn introduced(&self, frame: &Frame) -> Option<u32> {
        let said = String::from_utf8_lossy(frame.stdout.tail());
        let mut words = said.trim_end().splitn(3, ' ').map(str::trim);
        let mut next = || words.next().unwrap_or_default();
        let (pid, boot_id, tool) = (next(), next(), next());
        // All shells of a connection live in one boot.
        let plain = boot_id.chars().filter(char::is_ascii_graphic).take(LONGEST_BOOT_ID);
        let _ = self.opener.boot_id.set(if boot_id == "-" { String::new() } else { plain.collect() });
        if tool.is_empty() {
            tracing::warn!(
                machine = self.opener.machine,
                "neither setsid nor perl there: a command that must be stopped is found by its parents only"
            );
        }
        pid.parse().ok()
    }

    #[expect(clippy::too_many_arguments, reason = "a job in pieces, since they are borrowed apart")]
    async fn converse(
        &mut self,
        items: &[Arc<Item>],
        text: Vec<u8>,
        frames: &mut Frames,
        deadline: Instant,
        cancel: &CancellationToken,
        abandoned: &CancellationToken,
        mut feed: Option<Feed>,
        part: Option<u64>,
        letter: Option<char>,
        sink: Option<mpsc::Sender<Vec<u8>>>,
    ) -> Result<(), Stop> {
        let mut left = part.unwrap_or(u64::MAX);
        let mut pending: VecDeque<Vec<u8>> = text.chunks(CHUNK).map(<[u8]>::to_vec).collect();
        let mut passed_on: VecDeque<Vec<u8>> = VecDeque::new();
        let (mut current, mut since) = (0, Instant::now());
        loop {
            if frames.is_done() && passed_on.is_empty() {
                return Ok(());
            }
            if frames.current() != current {
                (current, since) = (frames.current(), Instant::now());
            }
            let limit = items.get(current).and_then(|item| item.timeout).map_or(deadline, |t| deadline.min(since + t));
            let mut feed_ended = false;
            let started = frames.frame(items.len() - 1).is_some_and(|frame| frame.started);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Stop::Cancelled),
                () = abandoned.cancelled() => return Err(Stop::Abandoned),
                () = tokio::time::sleep_until(limit.into()) => return Err(Stop::TimedOut),
                slot = reserve(sink.as_ref()), if !passed_on.is_empty() => match slot {
                    Some(slot) => slot.send(passed_on.pop_front().unwrap_or_default()),
                    None => return Err(Stop::Abandoned),
                },
                heard = self.output.recv(), if passed_on.len() < PASSED_ON => {
                    match heard {
                        Some(Output::Stdout(bytes)) => frames.push(0, &bytes).map_err(Stop::Frame)?,
                        Some(Output::Stderr(bytes)) => frames.push(1, &bytes).map_err(Stop::Frame)?,
                        Some(Output::Exit(_)) | None => return Err(Stop::Ended),
                    }
                    passed_on.extend(frames.passed_on.drain(..));
                },
                slot = reserve(self.stdin.as_ref()), if !pending.is_empty() => match slot {
                    Some(slot) => slot.send(pending.pop_front().unwrap_or_default()),
                    // It ended; what it said last is still to be read.
                    None => pending.clear(),
                },
                // Data only follows when the shell has read the whole text: it must never read data as text.
                piece = next(&mut feed), if feed.is_some() && started && pending.is_empty() => match piece {
                    // Not one byte more than the script reads: the shell would take it for text.
                    Some(Ok(bytes)) => match left.checked_sub(bytes.len() as u64) {
                        Some(rest) => {
                            left = rest;
                            pending.push_back(letter.map_or_else(|| bytes.clone(), |letter| block(letter, &bytes)));
                        }
                        None => return Err(Stop::Feed(CallError::Conflict("there is more of it than before".to_owned()))),
                    },
                    Some(Err(error)) => return Err(Stop::Feed(error)),
                    None => feed_ended = true,
                },
            }
            if feed_ended {
                feed = None;
                if part.is_none() {
                    self.stdin = None;
                } else if left > 0 {
                    return Err(Stop::Feed(CallError::Conflict(format!("{left} bytes of it are missing"))));
                }
            }
        }
    }

    /// Stops what runs, and says what is known of it.
    async fn stopped(&self, stop: Stop, items: &[Arc<Item>], frames: &Frames, mut leftovers: Vec<String>) -> CallError {
        let machine = &self.opener.machine;
        let current = frames.current().min(items.len() - 1);
        let what = items.get(current).map_or("", |item| item.what.as_str());
        let running: Vec<&Frame> = (current..items.len()).filter_map(|n| frames.frame(n)).collect();
        let pids: Vec<u32> = running.iter().flat_map(|frame| frame.pids.iter().copied()).collect();
        leftovers.extend(running.iter().filter_map(|frame| frame.folder.clone()));
        let said = running.first().map(|frame| {
            let (out, err) = (tail(frame.stdout.tail()), tail(frame.stderr.tail()));
            let said = [out, err].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("\n");
            if said.is_empty() { said } else { format!("; the last that it said: {said}") }
        });
        let said = said.unwrap_or_default();
        let lost = matches!(stop, Stop::Ended);
        let killed = match tokio::time::timeout(KILL_LIMIT, self.kill(lost, &pids, &leftovers)).await {
            Ok(result) => result,
            Err(_) => Err("the machine does not answer".to_owned()),
        };
        if lost {
            let how =
                if self.opener.transport.is_closed() { "the connection was lost" } else { "the helper shell ended" };
            return CallError::Unreachable(format!(
                "{how} on {machine} while {what} ran: cannot say what became of it{said}"
            ));
        }
        if let Err(why) = killed {
            return CallError::Unreachable(format!(
                "{what} on {machine} had to be stopped and could not be ({why}): cannot say whether it still runs{said}"
            ));
        }
        match stop {
            Stop::TimedOut => {
                CallError::TimedOut(format!("{what} on {machine} did not end in time; it was stopped{said}"))
            }
            Stop::Cancelled | Stop::Abandoned => {
                CallError::Failed(format!("cancelled while {what} ran on {machine}; it was stopped{said}"))
            }
            Stop::Feed(error) => error,
            Stop::Frame(FrameError::TooMuch { limit }) => CallError::Invalid(format!(
                "{what} on {machine} wrote more than {limit} bytes; it was stopped: let it write less, or to a file"
            )),
            Stop::Frame(FrameError::Spool(error)) => CallError::Failed(format!(
                "cannot keep the output of {what} in the controller's temporary directory: {error}"
            )),
            Stop::Frame(_) | Stop::Ended => {
                CallError::Unreachable(format!("the helper shell on {machine} gave a garbled answer while {what} ran"))
            }
        }
    }

    /// Kills the shell, unless it ended by itself, and all that descends from it, and makes sure that nothing of it is left.
    async fn kill(&self, ended: bool, pids: &[u32], leftovers: &[String]) -> Result<(), String> {
        if self.opener.transport.is_closed() {
            return Err("the connection is lost".to_owned());
        }
        let mut helper = self.opener.open(Instant::now() + KILL_LIMIT).await.map_err(|error| error.to_string())?;
        let said = nonce();
        let mut text = format!("{{\n{SET_UP}").into_bytes();
        text.extend_from_slice(
            format!(
                "RB_SHELL={}\nRB_PIDS='",
                self.pid.filter(|_| !ended).map_or("none".to_owned(), |pid| pid.to_string())
            )
            .as_bytes(),
        );
        text.extend(pids.iter().flat_map(|pid| format!("{pid} ").into_bytes()));
        text.extend_from_slice(b"'\n");
        text.extend_from_slice(KILL.as_bytes());
        for path in leftovers {
            text.extend_from_slice(b"rm -rf -- ");
            quote(&mut text, path.as_bytes());
            text.push(b'\n');
        }
        text.extend_from_slice(format!("printf '%s %s.\\n' {said} \"$RB_L\"\nexit\n}}\n").as_bytes());
        if helper.kind == Kind::Perl {
            text = block('S', &text);
        }
        if let Some(stdin) = &helper.stdin {
            stdin.send(text).await.map_err(|_| "the connection was lost".to_owned())?;
        }
        let mut heard = Vec::new();
        loop {
            match helper.output.recv().await {
                Some(Output::Stdout(bytes)) => heard.extend_from_slice(&bytes),
                Some(Output::Stderr(_)) => {}
                Some(Output::Exit(_)) | None => break,
            }
        }
        let heard = String::from_utf8_lossy(&heard);
        let Some((_, left)) = heard.split_once(&format!("{said} ")) else {
            return Err("the connection was lost".to_owned());
        };
        match left.split('.').next().unwrap_or_default().trim() {
            "" => Ok(()),
            left => Err(format!("still there after SIGKILL: {left}")),
        }
    }
}

async fn reserve<T>(to: Option<&mpsc::Sender<T>>) -> Option<mpsc::Permit<'_, T>> {
    match to {
        Some(to) => to.reserve().await.ok(),
        None => None,
    }
}

async fn next(feed: &mut Option<Feed>) -> Option<Result<Vec<u8>, CallError>> {
    match feed {
        Some(feed) => feed.recv().await,
        None => None,
    }
}

/// Stops the shell first, so that it starts nothing new; then everything that descends from it, lives in a session or process
/// group of such a process, politely for two seconds, then not. Zombies do not count. `RB_L` is what is left.
const KILL: &str = r#"
RB_T=" $RB_SHELL $RB_PIDS"
scan() {
RB_L=
if [ ! -r /proc/self/stat ]; then
for RB_X in $RB_PIDS; do if kill -0 -$RB_X 2>/dev/null; then RB_L="$RB_L -$RB_X"; fi; done
return
fi
RB_MORE=1
while [ -n "$RB_MORE" ]; do
RB_MORE=
for RB_F in /proc/[0-9]*/stat; do
RB_S=
while read -r RB_X || [ -n "$RB_X" ]; do RB_S="$RB_S $RB_X"; done 2>/dev/null <"$RB_F"
[ -n "$RB_S" ] || continue
RB_P=${RB_F#/proc/}; RB_P=${RB_P%/stat}
set -- ${RB_S##*) }
case $1 in Z|X) continue ;; esac
case " $RB_L " in *" $RB_P "*) continue ;; esac
[ "$RB_P" != "$RB_SHELL" ] || continue
case "$RB_T" in
*" $RB_P "*) RB_L="$RB_L $RB_P" ;;
*" $2 "*|*" $3 "*|*" $4 "*) RB_L="$RB_L $RB_P"; RB_T="$RB_T$RB_P "; RB_MORE=1 ;;
esac
done
done
}
[ $RB_SHELL = none ] || kill -STOP $RB_SHELL
scan
[ $RB_SHELL = none ] || kill -KILL $RB_SHELL
[ -z "$RB_L" ] || { kill -TERM $RB_L; kill -CONT $RB_L; }
RB_N=0
while scan; [ -n "$RB_L" ] && [ $RB_N -lt 20 ]; do RB_N=$((RB_N+1)); sleep 0.1 || sleep 1; done
RB_N=0
while scan; [ -n "$RB_L" ] && [ $RB_N -lt 20 ]; do kill -KILL $RB_L; RB_N=$((RB_N+1)); sleep 0.1 || sleep 1; done
"#;
