//! What takes bytes of machines and is private otherwise, for fuzzers. No program may use it.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use runbook_model::call::{CallError, Exit, Output};

use crate::r#become::Become;
use crate::confirm::state::State;
use crate::dns::{self, RecordType};
use crate::frame::{FrameSpec, Frames};
use crate::machine::{Connector, Machine, Ways};
use crate::marks::Marks;
use crate::transport::Transport;
use crate::{files, net, system};

/// What begins the marks of the commands in [`frames`]: two, one after the other.
pub const NONCES: [&str; 2] = ["n0nce-a", "n0nce-b"];

/// Bytes of output that a command of [`frames`] may give.
const LIMIT: u64 = 1 << 16;

/// What is made of one command in what a helper shell wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed {
    /// Exit status.
    pub status: i32,
    /// Whether it was started.
    pub started: bool,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Parts of a pipeline that failed.
    pub failed_parts: Vec<(usize, i32)>,
    /// Its processes.
    pub pids: Vec<u32>,
}

/// What two commands gave, where a helper shell wrote these streams and they arrived in pieces of this size. None: they were
/// not ended, or refused.
pub fn frames(stdout: &[u8], stderr: &[u8], piece: usize) -> Option<Vec<Framed>> {
    let spec = |nonce: &str| FrameSpec { nonce: nonce.to_owned(), follow: None, limit: LIMIT, pass_on: false };
    let mut frames = Frames::new(NONCES.iter().map(|nonce| spec(nonce)).collect());
    for (which, stream) in [stdout, stderr].into_iter().enumerate() {
        for piece in stream.chunks(piece.max(1)) {
            frames.push(which, piece).ok()?;
        }
    }
    if !frames.is_done() {
        return None;
    }
    let framed = frames.into_frames().into_iter().map(|frame| {
        Some(Framed {
            status: frame.status,
            started: frame.started,
            stdout: frame.stdout.into_bytes().ok()?,
            stderr: frame.stderr.into_bytes().ok()?,
            failed_parts: frame.failed_parts,
            pids: frame.pids,
        })
    });
    framed.collect()
}

/// What a machine answers: to a question of DNS, with its marks of a change, about a confirmed change, over HTTP, of itself.
pub fn answers(bytes: &[u8]) {
    for record in ["A", "AAAA", "CNAME", "MX", "TXT", "SRV", "NS", "PTR"] {
        if let Ok(record) = RecordType::named(record) {
            let id = bytes.get(..2).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]));
            let _ = dns::answers(id, record, bytes);
        }
    }
    let _ = Marks::read(bytes);
    let _ = State::parse(bytes).map(|state| state.output());
    if let Some(response) = net::response(bytes) {
        let output = net::outcome(response);
        let _ = net::kept_outcome(output);
    }
    let said = Output { exit: Exit::Code(1), stdout: Vec::new().into(), stderr: bytes.to_vec().into() };
    let _ = net::wget_response(&said);
    let text = String::from_utf8_lossy(bytes);
    let _ = (system::os_release(&text, "ID"), system::os_release(&text, "VERSION_ID"));
}

/// A machine that is never reached.
struct Nowhere;

#[async_trait]
impl Connector for Nowhere {
    async fn connect(&self, machine: &str, _: Instant) -> Result<Arc<dyn Transport>, CallError> {
        Err(CallError::Unreachable(machine.to_owned()))
    }

    fn become_of(&self, _: &str) -> Become {
        Become::None
    }
}

/// What is made of a helper's answer to file operations: the names of a listing, and how many bytes of content there were.
pub fn file_answers(bytes: &[u8]) -> (Vec<String>, usize) {
    files::read_anything(&Machine::new("n1", Arc::new(Nowhere), Ways::default()), bytes)
}
