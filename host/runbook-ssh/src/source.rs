//! Content that is streamed from where it lies, without ever being held as a whole.

use std::sync::Arc;

use runbook_engine::backend::CallContext;
use runbook_model::call::{CallError, SourceRef};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::command::Item;
use crate::machine::Machine;
use crate::shell::Feed;

/// Pieces in flight between the machine that gives and the one that takes.
const IN_FLIGHT: usize = 8;

const READ: &str = r#"[ -f "$1" ] || { echo "no file is there any more" >&2; exit 1; }
exec cat <"$1"
"#;

/// Reads a pinned file from a machine. Ends with an error where it is not what it was when it was pinned.
pub(crate) fn feed(machine: Arc<Machine>, source: SourceRef, ctx: CallContext) -> Feed {
    let (send, feed) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(async move {
        let what = format!("reading {}", source.path);
        let (sink, pieces) = mpsc::channel::<Vec<u8>>(IN_FLIGHT);
        let item = Item::script(what.clone(), READ, vec![source.path.clone().into_bytes()]);
        let reading = machine.run_out(machine.privileged(), item, sink, source.size, &ctx);
        let (to, progress, copying, total) =
            (send.clone(), ctx.progress.clone(), format!("copying {}", source.path), source.size);
        // It owns the pieces, so that reading stops when nobody takes them.
        let passing = async move {
            let mut pieces = pieces;
            let (mut hash, mut size) = (Sha256::new(), 0);
            while let Some(piece) = pieces.recv().await {
                hash.update(&piece);
                size += piece.len() as u64;
                progress.progress(&copying, size, Some(total), "bytes");
                if to.send(Ok(piece)).await.is_err() {
                    break;
                }
            }
            (hex::encode(hash.finalize()), size)
        };
        let (frame, (sha256, size)) = tokio::join!(reading, passing);
        let end = frame.and_then(|frame| machine.script_output(&what, frame)).and_then(|_| {
            if (size, sha256.as_str()) == (source.size, source.sha256.as_str()) {
                return Ok(());
            }
            Err(CallError::Conflict(format!(
                "{} on {} is not what it was when it was opened: {size} bytes, sha256 {sha256}; it was {} bytes, sha256 {}",
                source.path, machine.name, source.size, source.sha256
            )))
        });
        if let Err(error) = end {
            // Whoever took the pieces may be gone, with an error of its own.
            let _gone = send.send(Err(error)).await;
        }
    });
    feed
}
