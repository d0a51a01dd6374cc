//! What a guest writes to stdout and stderr: the end of it is kept, for the journal and for the message of a crash.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes that are kept. What comes before is forgotten: writing must never be a reason to fail.
const KEPT: usize = 64 << 10;

/// Stdout and stderr of one call, in the order of writing. Clones are the same output.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Tail>>);

#[derive(Default)]
struct Tail {
    kept: VecDeque<u8>,
    forgotten: u64,
}

impl Output {
    /// The last lines, at most `most`, with what is left out said in the first.
    pub(crate) fn last_lines(&self, most: usize) -> Vec<String> {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let from = lines.len().saturating_sub(most);
        let mut last: Vec<String> = lines[from..].iter().map(|line| crate::convert::line(line)).collect();
        if tail.forgotten > 0 || from > 0 {
            last.insert(0, "(earlier output left out)".to_owned());
        }
        last
    }

    fn append(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.kept.extend(bytes);
        let excess = tail.kept.len().saturating_sub(KEPT);
        tail.kept.drain(..excess);
        tail.forgotten += excess as u64;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(KEPT)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_end() {
        let output = Output::default();
        for i in 0..20_000 {
            output.append(format!("line {i}\n").as_bytes());
        }
        let last = output.last_lines(2);
        assert_eq!(last, ["(earlier output left out)", "line 19998", "line 19999"]);
        assert!(output.0.lock().expect("not poisoned").kept.len() <= KEPT);
    }

    #[test]
    fn says_nothing_of_what_was_not_left_out() {
        let output = Output::default();
        output.append(b"one\n\n\x1b[31mtwo\xff");
        assert_eq!(output.last_lines(20), ["one", " [31mtwo\u{fffd}"]);
    }
}
