//! Content that is streamed from where it lies, without ever being held as a whole.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use runbook_engine::backend::CallContext;
use runbook_model::call::{CallError, SourceRef, Target};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::command::Item;
use crate::files::here::remembered;
use crate::machine::Machine;
use crate::shell::Feed;

/// Pieces in flight between the machine that gives and the one that takes.
const IN_FLIGHT: usize = 8;
/// Bytes of a piece of a file of the controller.
const PIECE: usize = 64 << 10;

const READ: &str = r#"[ -f "$1" ] || { echo "no file is there any more" >&2; exit 1; }
exec cat <"$1"
"#;

/// Reads a pinned file from a machine. Ends with an error where it is not what it was when it was pinned: the last piece is held
/// back until that is known, so that whoever got all of it got the right thing.
pub(crate) fn feed(machine: Arc<Machine>, source: SourceRef, ctx: CallContext) -> Feed {
    let (send, feed) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(async move {
        let end = if source.target == Target::Controller {
            let to = send.clone();
            let reading = tokio::task::spawn_blocking(move || here(&source, &to, &ctx));
            reading.await.unwrap_or_else(|_| Err(CallError::Failed("the program is ending".to_owned())))
        } else {
            there(&machine, &source, &send, &ctx).await
        };
        if let Err(error) = end {
            // Whoever took the pieces may be gone, with an error of its own.
            let _gone = send.send(Err(error)).await;
        }
    });
    feed
}

type To = mpsc::Sender<Result<Vec<u8>, CallError>>;

/// From the controller: by the program itself. Ends early where nobody takes the pieces any more.
fn here(source: &SourceRef, to: &To, ctx: &CallContext) -> Result<(), CallError> {
    let mut passed = Passed::new(source, ctx);
    let failed = |e: io::Error| CallError::Failed(format!("reading {} on the controller: {e}", source.path));
    // What has become a named pipe is not waited for.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&source.path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("no file is there any more")));
    }
    // What was hashed when it was pinned is hashed again only where it was touched since.
    let is_as_pinned = |file: &File| remembered(file).is_some_and(|sha256| sha256 == source.sha256);
    passed.hashes = !is_as_pinned(&file);
    let mut last = None;
    loop {
        let mut piece = vec![0; PIECE];
        let read = match file.read(&mut piece) {
            Ok(0) if !passed.hashes && !is_as_pinned(&file) => {
                let path = &source.path;
                return Err(CallError::Conflict(format!("{path} on the controller was changed while it was copied")));
            }
            Ok(0) => {
                passed.check("the controller")?;
                // Where nobody takes it any more, nobody needs it.
                let _ = last.map(|last| to.blocking_send(Ok(last)));
                return Ok(());
            }
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        piece.truncate(read);
        passed.add(&piece);
        if let Some(before) = last.replace(piece)
            && to.blocking_send(Ok(before)).is_err()
        {
            return Ok(());
        }
    }
}

/// From a machine.
async fn there(machine: &Arc<Machine>, source: &SourceRef, to: &To, ctx: &CallContext) -> Result<(), CallError> {
    let what = format!("reading {}", source.path);
    let (sink, pieces) = mpsc::channel::<Vec<u8>>(IN_FLIGHT);
    let item = Item::script(what.clone(), READ, vec![source.path.clone().into_bytes()]);
    let reading = machine.run_out(machine.privileged(), item, sink, source.size, ctx);
    // It owns the pieces, so that reading stops when nobody takes them.
    let passing = async move {
        let (mut pieces, mut passed) = (pieces, Passed::new(source, ctx));
        let mut last = None;
        while let Some(piece) = pieces.recv().await {
            passed.add(&piece);
            if let Some(before) = last.replace(piece)
                && to.send(Ok(before)).await.is_err()
            {
                break;
            }
        }
        (passed, last)
    };
    let (frame, (passed, last)) = tokio::join!(reading, passing);
    machine.script_output(&what, frame?)?;
    passed.check(&machine.name)?;
    if let Some(last) = last {
        // Where nobody takes it any more, nobody needs it.
        let _ = to.send(Ok(last)).await;
    }
    Ok(())
}

/// What was passed on so far.
struct Passed<'a> {
    source: &'a SourceRef,
    ctx: &'a CallContext,
    what: String,
    /// Whether what is passed on is not known to be the right thing.
    hashes: bool,
    hash: Sha256,
    size: u64,
}

impl<'a> Passed<'a> {
    fn new(source: &'a SourceRef, ctx: &'a CallContext) -> Self {
        Self { source, ctx, what: format!("copying {}", source.path), hashes: true, hash: Sha256::new(), size: 0 }
    }

    fn add(&mut self, piece: &[u8]) {
        if self.hashes {
            self.hash.update(piece);
        }
        self.size += piece.len() as u64;
        self.ctx.progress.progress(&self.what, self.size, Some(self.source.size), "bytes");
    }

    /// An error where it is not what it was when it was pinned.
    fn check(self, name: &str) -> Result<(), CallError> {
        let (source, size) = (self.source, self.size);
        let sha256 = if self.hashes { hex::encode(self.hash.finalize()) } else { source.sha256.clone() };
        if (size, sha256.as_str()) == (source.size, source.sha256.as_str()) {
            return Ok(());
        }
        Err(CallError::Conflict(format!(
            "{} on {name} is not what it was when it was opened: {size} bytes, sha256 {sha256}; it was {} bytes, sha256 {}",
            source.path, source.size, source.sha256
        )))
    }
}
