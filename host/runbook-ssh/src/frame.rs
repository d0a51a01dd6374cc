//! Finds a command's output in what a helper shell writes.
//!
//! Each command has a nonce that it never sees. The shell writes marks, from the nonce to the end of the line, around the
//! command's output on both streams. A mark holds no other line end: some shells write line by line, and what else writes to
//! the stream at that moment must not come in between. Whatever stands before the start mark is noise and is dropped; whatever stands between
//! start and end is the command's, byte for byte, whatever it looks like. What the worker does by itself it says on standard output alone.

use std::io;
use std::sync::Arc;

use memchr::{memchr, memmem};
use runbook_engine::backend::Progress;

use crate::spool::Spool;

/// Bytes: a longer mark is not one of ours.
const LONGEST_MARK: usize = 4 << 10;
/// Bytes before the start mark that are kept for messages.
const NOISE: usize = 1 << 10;
/// Bytes: longer lines are shown in pieces.
const LONGEST_LINE: usize = 4 << 10;

/// What one command gave.
#[derive(Default)]
pub(crate) struct Frame {
    /// Standard output.
    pub(crate) stdout: Spool,
    /// Standard error.
    pub(crate) stderr: Spool,
    /// As the shell's `$?` says.
    pub(crate) status: i32,
    /// The parts of a pipeline that failed, by their place.
    pub(crate) failed_parts: Vec<(usize, i32)>,
    /// Why the shell did not even start it.
    pub(crate) refused: Option<String>,
    /// Whether it was started.
    pub(crate) started: bool,
    /// The last of what was written before it was started.
    pub(crate) noise: Vec<u8>,
    /// Its processes, as far as they said so.
    pub(crate) pids: Vec<u32>,
    /// The folder of its temporary files.
    pub(crate) folder: Option<String>,
}

/// How to read one frame.
pub(crate) struct FrameSpec {
    /// Its nonce.
    pub(crate) nonce: String,
    /// Told every line.
    pub(crate) follow: Option<Arc<dyn Progress>>,
    /// Bytes of each stream; more is too much.
    pub(crate) limit: u64,
    /// Standard output is passed on and not kept.
    pub(crate) pass_on: bool,
}

/// Why reading cannot go on.
pub(crate) enum FrameError {
    /// More output than the limit.
    TooMuch { limit: u64 },
    /// The controller's temporary directory does not take it.
    Spool(io::Error),
    /// Not what a helper shell writes.
    Garbled,
    /// Processes of an earlier command still hold the shell's output. Nothing was run.
    Stale,
}

/// Reads the frames of several commands from both streams of a shell.
pub(crate) struct Frames {
    specs: Vec<FrameSpec>,
    needles: Vec<Vec<u8>>,
    frames: Vec<Frame>,
    streams: [Stream; 2],
    /// Output to pass on.
    pub(crate) passed_on: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Stream {
    carry: Vec<u8>,
    at: usize,
    started: bool,
    lines: Lines,
}

impl Frames {
    pub(crate) fn new(specs: Vec<FrameSpec>) -> Self {
        let needles = specs.iter().map(|spec| format!("{} ", spec.nonce).into_bytes()).collect();
        let frames = specs.iter().map(|_| Frame::default()).collect();
        Self { specs, needles, frames, streams: Default::default(), passed_on: Vec::new() }
    }

    /// The first ones are operations of the worker: nothing of them comes on standard error.
    pub(crate) fn beginning_with(mut self, operations: usize) -> Self {
        self.streams[1].at = operations;
        self
    }

    /// The command that is running: the first that has not ended on both streams.
    pub(crate) fn current(&self) -> usize {
        self.streams[0].at.min(self.streams[1].at)
    }

    /// Whether every command has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.current() == self.specs.len()
    }

    pub(crate) fn frame(&self, index: usize) -> Option<&Frame> {
        self.frames.get(index)
    }

    pub(crate) fn into_frames(self) -> Vec<Frame> {
        self.frames
    }

    /// Takes bytes of standard output (0) or standard error (1).
    pub(crate) fn push(&mut self, which: usize, bytes: &[u8]) -> Result<(), FrameError> {
        self.streams[which].carry.extend_from_slice(bytes);
        loop {
            let at = self.streams[which].at;
            let Some(needle) = self.needles.get(at) else {
                self.streams[which].carry.clear();
                return Ok(());
            };
            let length = needle.len();
            let carry = &self.streams[which].carry;
            let Some(found) = memmem::find(carry, needle) else {
                let keep = possible_start(carry, needle);
                let rest = self.streams[which].carry.split_off(carry.len() - keep);
                let data = std::mem::replace(&mut self.streams[which].carry, rest);
                self.data(which, at, &data)?;
                return Ok(());
            };
            let Some(end) = memchr(b'\n', &carry[found + length..]) else {
                return if carry.len() - found > LONGEST_MARK { Err(FrameError::Garbled) } else { Ok(()) };
            };
            let mark = String::from_utf8_lossy(&carry[found + length..found + length + end]).into_owned();
            let rest = self.streams[which].carry.split_off(found + length + end + 1);
            let mut data = std::mem::replace(&mut self.streams[which].carry, rest);
            data.truncate(found);
            self.data(which, at, &data)?;
            self.mark(which, at, &mark)?;
        }
    }

    fn data(&mut self, which: usize, at: usize, data: &[u8]) -> Result<(), FrameError> {
        if data.is_empty() {
            return Ok(());
        }
        let (frame, spec, stream) = (&mut self.frames[at], &self.specs[at], &mut self.streams[which]);
        if !stream.started {
            frame.noise.extend_from_slice(&data[data.len().saturating_sub(NOISE)..]);
            let surplus = frame.noise.len().saturating_sub(NOISE);
            frame.noise.drain(..surplus);
            return Ok(());
        }
        if let Some(progress) = &spec.follow {
            stream.lines.push(data, progress.as_ref());
        }
        if which == 0 && spec.pass_on {
            self.passed_on.push(data.to_vec());
            return Ok(());
        }
        let spool = if which == 0 { &mut frame.stdout } else { &mut frame.stderr };
        if spool.size() + data.len() as u64 > spec.limit {
            return Err(FrameError::TooMuch { limit: spec.limit });
        }
        spool.push(data).map_err(FrameError::Spool)
    }

    fn mark(&mut self, which: usize, at: usize, mark: &str) -> Result<(), FrameError> {
        let (frame, stream) = (&mut self.frames[at], &mut self.streams[which]);
        let (kind, rest) = mark.split_at_checked(1).ok_or(FrameError::Garbled)?;
        let rest = rest.trim_start();
        match kind {
            "S" => {
                stream.started = true;
                frame.started = true;
                frame.pids.extend(rest.parse().ok().filter(|pid: &u32| *pid > 1));
            }
            "Q" => frame.pids.extend(rest.parse().ok().filter(|pid: &u32| *pid > 1)),
            "D" => frame.folder = Some(rest.to_owned()),
            "F" => frame.refused = Some(rest.to_owned()),
            "P" => {
                let (place, status) = rest.split_once(' ').ok_or(FrameError::Garbled)?;
                let status = status.parse().map_err(|_| FrameError::Garbled)?;
                if status != 0 {
                    frame.failed_parts.push((place.parse().map_err(|_| FrameError::Garbled)?, status));
                }
            }
            "E" => {
                frame.status = rest.parse().map_err(|_| FrameError::Garbled)?;
                if let Some(progress) = &self.specs[at].follow {
                    stream.lines.finish(progress.as_ref());
                }
                stream.started = false;
                stream.at += 1;
            }
            "B" => return Err(FrameError::Stale),
            _ => return Err(FrameError::Garbled),
        }
        Ok(())
    }
}

/// How many bytes at the end may be the start of the needle.
fn possible_start(carry: &[u8], needle: &[u8]) -> usize {
    let longest = carry.len().min(needle.len() - 1);
    (1..=longest).rev().find(|length| carry[carry.len() - length..] == needle[..*length]).unwrap_or(0)
}

/// Cuts a stream into lines for whoever watches.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
}

impl Lines {
    fn push(&mut self, data: &[u8], progress: &dyn Progress) {
        for part in data.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() > LONGEST_LINE {
                self.finish(progress);
            }
        }
    }

    fn finish(&mut self, progress: &dyn Progress) {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end_matches(['\n', '\r']);
        if !line.is_empty() {
            progress.line(line);
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn spec(nonce: &str) -> FrameSpec {
        FrameSpec { nonce: nonce.to_owned(), follow: None, limit: 1 << 20, pass_on: false }
    }

    #[test]
    fn any_cut_gives_the_same_frames() {
        let good = "login noiseN1 S 7\nout\n\nN1N1 E 3\nstrayN2 S 0\n\nN2 E 0\n";
        let stderr = b"N1 S 7\nerrN1 E 3\nN2 S 0\nN2 E 0\n";
        for size in 1..good.len() {
            let mut frames = Frames::new(vec![spec("N1"), spec("N2")]);
            for chunk in good.as_bytes().chunks(size) {
                assert!(frames.push(0, chunk).is_ok());
            }
            assert!(!frames.is_done());
            for chunk in stderr.chunks(size) {
                assert!(frames.push(1, chunk).is_ok());
            }
            assert!(frames.is_done());
            let mut frames = frames.into_frames();
            let second = frames.pop().expect("two frames");
            let first = frames.pop().expect("two frames");
            assert_eq!(first.status, 3);
            assert_eq!(first.pids, [7, 7]);
            assert_eq!(first.stdout.into_bytes().expect("in memory"), b"out\n\nN1");
            assert_eq!(first.stderr.into_bytes().expect("in memory"), b"err");
            assert_eq!(second.stdout.into_bytes().expect("in memory"), b"\n");
        }
    }

    #[test]
    fn operations_speak_on_one_stream() {
        let stdout = "N1 S 0\noneN1 E 0\nN2 S 0\ntwoN2 E 3\nN3 S 7\nthreeN3 E 0\n";
        let stderr = "a warning\nN3 S 7\nerrN3 E 0\n";
        // Whichever is read first.
        for order in [[0, 1], [1, 0]] {
            for size in 1..stdout.len() {
                let mut frames = Frames::new(vec![spec("N1"), spec("N2"), spec("N3")]).beginning_with(2);
                for which in order {
                    for chunk in [stdout, stderr][which].as_bytes().chunks(size) {
                        assert!(!frames.is_done());
                        assert!(frames.push(which, chunk).is_ok());
                    }
                }
                assert!(frames.is_done());
                let text = |spool: Spool| String::from_utf8(spool.into_bytes().expect("in memory")).expect("a text");
                let ended = |frame: Frame| (frame.status, text(frame.stdout), text(frame.stderr));
                let ended: Vec<_> = frames.into_frames().into_iter().map(ended).collect();
                let expected = [(0, "one", ""), (3, "two", ""), (0, "three", "err")];
                assert_eq!(ended, expected.map(|(status, out, err)| (status, out.to_owned(), err.to_owned())));
            }
        }
        let mut all = Frames::new(vec![spec("N1")]).beginning_with(1);
        assert!(all.push(1, b"a warning\n").is_ok());
        assert!(!all.is_done());
        assert!(all.push(0, b"N1 S 0\nN1 E 0\n").is_ok());
        assert!(all.is_done());
    }

    #[test]
    fn lines_are_shown_when_they_end() {
        #[derive(Default)]
        struct Seen(Mutex<Vec<String>>);
        impl Progress for Seen {
            fn progress(&self, _: &str, _: u64, _: Option<u64>, _: &str) {}
            fn line(&self, line: &str) {
                self.0.lock().expect("not poisoned").push(line.to_owned());
            }
            fn took_over(&self, _: &str, _: &str, _: u32) {}
        }
        let seen = Arc::new(Seen::default());
        let mut frames = Frames::new(vec![FrameSpec { follow: Some(seen.clone()), ..spec("N") }]);
        assert!(frames.push(0, b"N S 0\nfirst\n").is_ok());
        assert_eq!(*seen.0.lock().expect("not poisoned"), ["first"]);
        assert!(frames.push(0, b"second\nthirdN E 0\n").is_ok());
        assert_eq!(*seen.0.lock().expect("not poisoned"), ["first", "second", "third"]);
    }
}
