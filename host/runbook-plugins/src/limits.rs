//! What one call into a plugin may use, and how much of it is left.

use std::io;

use runbook_model::call::Request;

/// What one call into a plugin may use. Time is not among them: it is the step's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory, all memories together. An interpreter in WebAssembly wants some 100 MiB.
    pub memory: usize,
    /// Entries of all tables together.
    pub table_entries: usize,
    /// Capability calls, messages included. A loop that polls ten times a second for two hours stays below.
    pub calls: u32,
    /// Bytes of messages to the run: they all go into the journal.
    pub log: usize,
    /// Bytes that leave in requests, all of them together. Larger content is streamed from a source.
    pub sent: usize,
    /// Bytes that one call may carry.
    pub one_call: usize,
    /// Bytes of the outputs as JSON.
    pub outputs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            table_entries: 1_000_000,
            calls: 100_000,
            log: 1 << 20,
            sent: 256 << 20,
            one_call: 64 << 20,
            outputs: 1 << 20,
        }
    }
}

/// Core instances, memories and tables of one component: those of the largest interpreters are below 30.
pub(crate) const PARTS: usize = 100;

/// Handles that a plugin may hold at once, WASI's included.
pub(crate) const HANDLES: usize = 10_000;

/// A limit that was passed. Ends the call as a trap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    #[error("memory: it wanted {} MiB, and {} MiB is the most", .wanted.div_ceil(1 << 20), .most >> 20)]
    Memory { wanted: usize, most: usize },
    #[error("tables: it wanted {wanted} entries, and {most} is the most")]
    Tables { wanted: usize, most: usize },
    #[error("calls: it made more than {most}")]
    Calls { most: u32 },
    #[error("log: it wrote more than {} KiB of messages", .most >> 10)]
    Log { most: usize },
    #[error("data: it sent more than {} MiB", .most >> 20)]
    Sent { most: usize },
    #[error("handles: it held more than {most} at once")]
    Handles { most: usize },
    #[error("time: the step's time was over, and it was waiting for no call")]
    Time,
}

/// What is left of the limits.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    memory: usize,
    table_entries: usize,
    calls: u32,
    log: usize,
    sent: usize,
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, memory: 0, table_entries: 0, calls: 0, log: 0, sent: 0 }
    }

    /// Counts a call, and what it carries.
    pub(crate) fn call(&mut self, request: &Request) -> Result<(), Breach> {
        self.calls += 1;
        if self.calls > self.limits.calls {
            return Err(Breach::Calls { most: self.limits.calls });
        }
        self.sent = self.sent.saturating_add(weight(request));
        if self.sent > self.limits.sent {
            return Err(Breach::Sent { most: self.limits.sent });
        }
        Ok(())
    }

    /// Counts a message to the run.
    pub(crate) fn log(&mut self, bytes: usize) -> Result<(), Breach> {
        // Each message is a record of its own, however short it is.
        self.log = self.log.saturating_add(bytes).saturating_add(16);
        if self.log > self.limits.log {
            return Err(Breach::Log { most: self.limits.log });
        }
        Ok(())
    }
}

/// Bytes of a request as the journal would write it.
fn weight(request: &Request) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither the counter nor a request can fail to serialise; if one did, it would count as too much.
    if serde_json::to_writer(&mut count, request).is_err() { usize::MAX } else { count.0 }
}

impl wasmtime::ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.memory.saturating_add(desired.saturating_sub(current));
        if wanted > self.limits.memory {
            // Not `false`: a guest that is merely refused breaks somewhere else, and the reason would be lost.
            return Err(Breach::Memory { wanted, most: self.limits.memory }.into());
        }
        self.memory = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.table_entries.saturating_add(desired.saturating_sub(current));
        if wanted > self.limits.table_entries {
            return Err(Breach::Tables { wanted, most: self.limits.table_entries }.into());
        }
        self.table_entries = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}
