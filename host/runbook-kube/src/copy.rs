//! Files into pods and out of them, streamed, with the same SHA-256 at both ends or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use runbook_engine::backend::CallContext;
use runbook_model::bytes::Bytes;
use runbook_model::call::{CallError, FilePrior, SourceRef, Target, Verdict};
use sha2::{Digest as _, Sha256};
use tokio::fs;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};

use crate::exec::{Container, Feed, Kept, Take};
use crate::session::Api;

/// Progress is told each so many bytes.
const STEP: u64 = 1 << 20;
/// How often a copy out of a pod is tried: some servers lose the end of a long output.
const TRIES: u32 = 3;
/// Tells files apart that are on their way at the same time.
static PARTIALS: AtomicU64 = AtomicU64::new(0);

/// Takes exactly `$2` bytes of input beside the path `$1`, checks them against the SHA-256 `$3`, then puts them in place
/// with mode and owner of what was there. The shell stays, so that stdout and stderr stay open: containerd ends the input
/// of a process early that closes them. Exit code 65: what arrived is not what was sent.
const RECEIVE: &str = r#"
new="$1.runbook-tmp"
if [ -d "$1" ]; then echo "it is a directory" >&2; exit 73; fi
rm -f "$new" || exit 73
head -c "$2" > "$new" || { rm -f "$new"; exit 74; }
sum=$(sha256sum < "$new") || { rm -f "$new"; exit 74; }
if [ "${sum%% *}" != "$3" ]; then
  rm -f "$new"; echo "what arrived has the SHA-256 ${sum%% *}" >&2; exit 65
fi
if [ -f "$1" ] && [ ! -L "$1" ]; then
  chown "$(stat -c %u:%g "$1")" "$new" 2>/dev/null
  chmod "$(stat -c %a "$1")" "$new" 2>/dev/null
fi
mv -f "$new" "$1" || { rm -f "$new"; exit 73; }
"#;

impl Api {
    /// SHA-256 of a file in a pod; none: there is no such file.
    pub(crate) async fn sha256(&self, container: Container<'_>, path: &str) -> Result<Option<String>, CallError> {
        let what = format!("check {path} in {}", container.pod);
        check_path(path)?;
        let output = self.observe(container, &["sha256sum".to_owned(), path.to_owned()]).await?;
        if output.exit_code == 0 {
            // A backslash stands before the sum where the name holds characters that it escapes.
            let text = output.stdout.lossy().trim_start_matches('\\').to_owned();
            let sum: String = text.chars().take_while(char::is_ascii_hexdigit).collect();
            if sum.len() == 64 {
                return Ok(Some(sum.to_ascii_lowercase()));
            }
            return Err(CallError::Failed(format!("{}: sha256sum said {text:?}", self.at(&what))));
        }
        let said = output.stderr.lossy();
        if said.contains("No such file or directory") {
            return Ok(None);
        }
        Err(CallError::Failed(format!("{}: {}", self.at(&what), said.trim())))
    }

    /// The content of a file in a pod that has this SHA-256; none where it is larger than what is kept.
    pub(crate) async fn kept(
        &self,
        container: Container<'_>,
        path: &str,
        sha256: &str,
    ) -> Result<Option<Bytes>, CallError> {
        let what = format!("keep {path} in {}", container.pod);
        // One byte more tells that there is more.
        let argv = ["head", "-c", &(FilePrior::KEEP + 1).to_string(), path].map(str::to_owned);
        for _ in 0..TRIES {
            let mut sink = Whole(Vec::new());
            let (exit_code, stderr) = self.process(container, &argv, false, None, &mut sink).await?;
            if exit_code != 0 {
                return Err(CallError::Failed(format!("{}: {}", self.at(&what), stderr.lossy().trim())));
            }
            if sink.0.len() as u64 > FilePrior::KEEP {
                return Ok(None);
            }
            if hex::encode(Sha256::digest(&sink.0)) == sha256 {
                return Ok(Some(Bytes(sink.0)));
            }
        }
        Err(self.broken_off(&what))
    }

    /// Puts a file in a pod back to what it was before, as long as it is what we left there.
    pub(crate) async fn put_back(
        &self,
        container: Container<'_>,
        path: &str,
        before: Option<&Bytes>,
        left: &str,
    ) -> Result<Verdict, CallError> {
        let what = format!("put {path} in {} back", container.pod);
        let wanted = before.map(|before| hex::encode(Sha256::digest(&before.0)));
        let now = self.sha256(container, path).await?;
        if now == wanted {
            return Ok(Verdict::Unchanged);
        }
        if now.as_deref() != Some(left) {
            let now = now.map_or_else(|| "there is no such file".to_owned(), |sum| format!("its SHA-256 is {sum}"));
            return Err(CallError::Conflict(format!(
                "{}: it is not what was left there (SHA-256 {left}): {now}; put it as it should be by hand",
                self.at(&what)
            )));
        }
        let (Some(before), Some(sha256)) = (before, wanted) else {
            let argv = ["rm", "-f", path].map(str::to_owned);
            let output = self.change(container, &argv, &[]).await?;
            return match output.exit_code {
                0 => Ok(Verdict::Changed),
                _ => Err(CallError::Failed(format!("{}: {}", self.at(&what), output.stderr.lossy().trim()))),
            };
        };
        let path_here = "what was kept of it".to_owned();
        let source = SourceRef { target: Target::Controller, path: path_here, size: before.0.len() as u64, sha256 };
        self.copy_in(container, &source, Box::new(io::Cursor::new(before.0.clone())), path).await
    }

    fn broken_off(&self, what: &str) -> CallError {
        CallError::Conflict(format!(
            "{}: it did not arrive whole {TRIES} times; something writes to it, or the connection loses data",
            self.at(what)
        ))
    }

    /// Copies a source into a pod.
    pub(crate) async fn copy_in(
        &self,
        container: Container<'_>,
        source: &SourceRef,
        reader: Box<dyn AsyncRead + Send + Unpin>,
        path: &str,
    ) -> Result<Verdict, CallError> {
        check_path(path)?;
        let what = format!("copy {} to {path} in {}", source.path, container.pod);
        let sent = Arc::new(Mutex::new(Sent::default()));
        let metered = Metered {
            inner: reader,
            sent: Arc::clone(&sent),
            ctx: self.ctx.clone(),
            what: what.clone(),
            size: source.size,
        };
        let argv = ["sh", "-c", RECEIVE, "sh", path, &source.size.to_string(), &source.sha256].map(str::to_owned);
        let feed = Feed { reader: Box::new(metered), close: false };
        let mut stdout = Kept::default();
        let (exit_code, stderr) = self.process(container, &argv, true, Some(feed), &mut stdout).await?;
        if exit_code == 0 {
            return Ok(Verdict::Changed);
        }
        let (size, sum) = {
            let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            (sent.size, hex::encode(sent.hash.clone().finalize()))
        };
        let said = stderr.lossy();
        if size >= source.size && sum != source.sha256 {
            return Err(CallError::Conflict(format!(
                "{}: the source is not what it was when it was opened: its SHA-256 is {sum}, not {}",
                self.at(&what),
                source.sha256
            )));
        }
        Err(CallError::Failed(format!("{}: {} (exit code {exit_code})", self.at(&what), said.trim())))
    }

    /// Copies a file of a pod to the artifacts.
    pub(crate) async fn copy_out(&self, container: Container<'_>, path: &str) -> Result<SourceRef, CallError> {
        let what = format!("copy {path} out of {}", container.pod);
        let folder = &self.ctx.artifacts;
        let failed = |error: io::Error| {
            CallError::Failed(format!("{}: cannot write to {}: {error}", self.at(&what), folder.display()))
        };
        fs::create_dir_all(folder).await.map_err(failed)?;
        let folder = fs::canonicalize(folder).await.map_err(failed)?;
        let mut tries = 0;
        loop {
            let Some(expected) = self.sha256(container, path).await? else {
                return Err(CallError::NotFound(format!("{}: there is no such file", self.at(&what))));
            };
            let serial = PARTIALS.fetch_add(1, Ordering::Relaxed);
            let partial = Partial(folder.join(format!(".{expected}.{}.{serial}.partial", std::process::id())));
            let mut create = fs::OpenOptions::new();
            create.write(true).create_new(true).mode(0o600);
            let mut sink = Download {
                file: create.open(&partial.0).await.map_err(failed)?,
                hash: Sha256::new(),
                size: 0,
                told: 0,
                ctx: &self.ctx,
                what: &what,
            };
            let argv = ["cat".to_owned(), path.to_owned()];
            let (exit_code, stderr) = self.process(container, &argv, false, None, &mut sink).await?;
            if exit_code != 0 {
                return Err(CallError::Failed(format!("{}: {}", self.at(&what), stderr.lossy().trim())));
            }
            sink.file.flush().await.map_err(failed)?;
            sink.file.sync_all().await.map_err(failed)?;
            let sha256 = hex::encode(sink.hash.finalize());
            if sha256 == expected {
                let place = folder.join(format!("{}-{}", &sha256[..12], base_name(path)));
                fs::rename(&partial.0, &place).await.map_err(failed)?;
                let path = place.to_string_lossy().into_owned();
                return Ok(SourceRef { target: Target::Controller, path, size: sink.size, sha256 });
            }
            tries += 1;
            if tries == TRIES {
                return Err(self.broken_off(&what));
            }
        }
    }
}

fn check_path(path: &str) -> Result<(), CallError> {
    if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') {
        return Ok(());
    }
    Err(CallError::Invalid(format!("{path:?} is not the absolute path of a file")))
}

/// The last part of a path, fit for a file's name here.
fn base_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().take(100).map(plain).collect()
}

/// Removed when dropped; nothing is left to remove after a rename.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(Path::new(&self.0));
    }
}

/// What was sent so far.
#[derive(Default)]
struct Sent {
    hash: Sha256,
    size: u64,
    told: u64,
}

/// A source on its way into a pod: never more than it had when it was opened.
struct Metered {
    inner: Box<dyn AsyncRead + Send + Unpin>,
    sent: Arc<Mutex<Sent>>,
    ctx: CallContext,
    what: String,
    size: u64,
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut sent = this.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let room = usize::try_from(this.size - sent.size).unwrap_or(usize::MAX).min(buf.remaining());
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        match Pin::new(&mut this.inner).poll_read(cx, &mut part) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        let read = part.filled().len();
        if read == 0 {
            let text =
                format!("the source ends after {} of {} bytes: it changed since it was opened", sent.size, this.size);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
        }
        sent.hash.update(part.filled());
        sent.size += read as u64;
        if sent.size - sent.told >= STEP || sent.size == this.size {
            sent.told = sent.size;
            this.ctx.progress.progress(&this.what, sent.size, Some(this.size), "bytes");
        }
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

/// A file in memory. What reads it in the pod knows the limit.
struct Whole(Vec<u8>);

#[async_trait]
impl Take for Whole {
    async fn take(&mut self, data: &[u8]) -> Result<(), CallError> {
        if self.0.len() + data.len() > 2 * FilePrior::KEEP as usize {
            return Err(CallError::Failed("the pod sends more than it was asked for".to_owned()));
        }
        self.0.extend_from_slice(data);
        Ok(())
    }
}

/// A file on its way out of a pod.
struct Download<'a> {
    file: fs::File,
    hash: Sha256,
    size: u64,
    told: u64,
    ctx: &'a CallContext,
    what: &'a str,
}

#[async_trait]
impl Take for Download<'_> {
    async fn take(&mut self, data: &[u8]) -> Result<(), CallError> {
        self.file
            .write_all(data)
            .await
            .map_err(|e| CallError::Failed(format!("cannot write to {}: {e}", self.ctx.artifacts.display())))?;
        self.hash.update(data);
        self.size += data.len() as u64;
        if self.size - self.told >= STEP {
            self.told = self.size;
            self.ctx.progress.progress(self.what, self.size, None, "bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_names_stay_names() {
        assert!(check_path("/data/a b").is_ok());
        for path in ["", "data", "-rf", "/data/", "/a\0b"] {
            assert!(matches!(check_path(path), Err(CallError::Invalid(_))), "{path:?}");
        }
        assert_eq!(base_name("/data/../a b;c$.mp3"), "a_b_c_.mp3");
        assert_eq!(base_name("/.."), "..");
    }
}
