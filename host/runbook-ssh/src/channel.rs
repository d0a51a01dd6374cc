//! One process on one SSH channel: its input and output between russh and the [`Process`] that the caller holds.
//!
//! russh gives the window back as soon as bytes arrive, and stops reading the whole connection once a channel's own queue of
//! messages is full. So each channel has a task that always takes what comes, and parks it while the caller is slow:
//!
//! - up to [`PARKED`] bytes for each channel, other channels are not held up at all;
//! - beyond it the connection is read at the pace of that caller; one that takes nothing for [`STALLED`] loses the process
//!   (its output ends without an exit), and the others go on;
//! - on a connection of its own (`bulk`), nothing is parked and nobody is cut off: the caller's pace is the sender's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use runbook_model::call::Exit;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use crate::transport::{Output, Process};

/// Bytes of output that wait for a slow caller before the connection slows down.
const PARKED: usize = 64 << 20;
/// How long a caller with that much waiting may take nothing.
const STALLED: Duration = Duration::from_secs(10);
/// Pieces of output (of at most 32 KiB each) in the caller's own queue.
const OUTPUT_QUEUE: usize = 32;
/// Pieces of input on their way.
const INPUT_QUEUE: usize = 8;

/// The caller's ends and ours.
pub(crate) fn process() -> (Process, Ends) {
    let (stdin, input) = mpsc::channel(INPUT_QUEUE);
    let (out, output) = mpsc::channel(OUTPUT_QUEUE);
    (Process { stdin, output }, Ends { input, out })
}

/// Our ends of a [`Process`].
pub(crate) struct Ends {
    pub(crate) input: mpsc::Receiver<Vec<u8>>,
    pub(crate) out: mpsc::Sender<Output>,
}

/// What is known of how a process ended.
#[derive(Default)]
struct End {
    exit: Option<Exit>,
    /// All output has come.
    complete: bool,
}

/// Carries input and output until the channel ends or the caller drops the output; then gives `slot` back.
///
/// Output ends with an exit only where the server told it and all output came before it.
pub(crate) async fn carry<S>(
    mut read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    ends: Ends,
    bulk: bool,
    label: &str,
    slot: S,
) {
    let write = Arc::new(write);
    let feeder = AbortOnDropHandle::new(tokio::spawn(feed(Arc::clone(&write), ends.input)));
    let out = ends.out;
    let mut end = End::default();
    let mut parked: VecDeque<Output> = VecDeque::new();
    let mut bytes = 0;
    let mut full_since = None;
    let over = loop {
        let room = if bulk { parked.is_empty() } else { bytes < PARKED };
        let full = if room || bulk { None } else { Some(*full_since.get_or_insert_with(Instant::now)) };
        tokio::select! {
            biased;
            permit = out.reserve(), if !parked.is_empty() => match (permit, parked.pop_front()) {
                (Ok(permit), Some(piece)) => {
                    bytes -= size(&piece);
                    full_since = None;
                    permit.send(piece);
                }
                _ => break false,
            },
            () = out.closed(), if parked.is_empty() => break false,
            message = read.wait(), if room => match message {
                // A late refusal to run it ends it too: nothing else would.
                Some(ChannelMsg::Close | ChannelMsg::Failure) => {
                    end.complete = true;
                    break true;
                }
                Some(message) => {
                    if let Some(piece) = take(message, &mut end) {
                        bytes += size(&piece);
                        parked.push_back(piece);
                    }
                }
                None => break true,
            },
            () = sleep_until(full.map_or_else(Instant::now, |since| since + STALLED)), if full.is_some() => {
                tracing::warn!(host = label, "a process was cut off: {PARKED} bytes of its output were not taken for {STALLED:?}");
                parked.clear();
                end.exit = None;
                break false;
            }
        }
    };
    drop(feeder);
    if !over {
        // First of all, since the connection may be waiting for us to take something.
        drop(read);
        // Closing takes its input from the process, and lets the server forget the channel.
        let _ = write.close().await;
        drop(slot);
        return;
    }
    // The channel is over, so what is still parked holds nobody up.
    drop((read, write, slot));
    for piece in parked {
        if out.send(piece).await.is_err() {
            return;
        }
    }
    if let (Some(exit), true) = (end.exit, end.complete) {
        let _ = out.send(Output::Exit(exit)).await;
    }
}

fn take(message: ChannelMsg, end: &mut End) -> Option<Output> {
    match message {
        ChannelMsg::Data { data } => return Some(Output::Stdout(data.into())),
        ChannelMsg::ExtendedData { data, ext: 1 } => return Some(Output::Stderr(data.into())),
        ChannelMsg::Eof => end.complete = true,
        // The protocol carries 32 bits; machines that people run give 8.
        ChannelMsg::ExitStatus { exit_status } => end.exit = Some(Exit::Code(exit_status.cast_signed())),
        ChannelMsg::ExitSignal { signal_name, .. } => end.exit = Some(Exit::Signal(signal(signal_name))),
        _ => {}
    }
    None
}

/// What it takes here, so that a flood of single bytes counts as what it is.
fn size(piece: &Output) -> usize {
    size_of::<Output>()
        + match piece {
            Output::Stdout(data) | Output::Stderr(data) => data.len(),
            Output::Exit(_) => 0,
        }
}

fn signal(signal: Sig) -> String {
    match signal {
        // Host data: names are short words, but nothing makes them so.
        Sig::Custom(name) => name.chars().filter(char::is_ascii_alphanumeric).take(20).collect(),
        known => format!("{known:?}"),
    }
}

/// Sends input as the other side takes it, then closes it.
async fn feed(write: Arc<ChannelWriteHalf<Msg>>, mut input: mpsc::Receiver<Vec<u8>>) {
    while let Some(piece) = input.recv().await {
        if write.data_bytes(piece).await.is_err() {
            return;
        }
    }
    let _ = write.eof().await;
}
