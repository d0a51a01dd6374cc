//! What one call into a plugin may use, and how much of it is left.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use runbook_model::call::Request;
use runbook_model::manifest::WantedLimits;
use runbook_model::{duration, size};

use crate::pool::Pool;

/// What one call into a plugin may use. Time is not among them: it is the step's, or else what its action wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory, all memories together. An interpreter in WebAssembly wants some 100 MiB.
    pub memory: usize,
    /// Entries of all tables together.
    pub table_entries: usize,
    /// Capability calls, messages included. A loop that polls ten times a second for two hours stays below.
    pub calls: usize,
    /// Bytes of messages to the run: they all go into the journal.
    pub log: usize,
    /// Bytes that leave in requests, all of them together. Larger content is streamed from a source.
    pub sent: usize,
    /// Bytes that one call may carry, there or back.
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

/// The longest time that an action may want for itself. A step may give it any.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Limits {
    /// The most that an action may want: what a laptop with 4 GiB can spare while a house is down.
    pub fn ceilings() -> Self {
        Self {
            memory: 1 << 30,
            table_entries: 10_000_000,
            calls: 1_000_000,
            log: 16 << 20,
            sent: 4 << 30,
            one_call: 256 << 20,
            outputs: 4 << 20,
        }
    }

    /// These limits, with what an action wants instead.
    ///
    /// # Errors
    ///
    /// All that it wants too much of, in words.
    pub fn wanted(&self, wanted: &WantedLimits) -> Result<Self, Vec<String>> {
        let (mut limits, mut most, mut over) = (self.clone(), Self::ceilings(), Vec::new());
        let sizes = wanted.sizes().map(|(name, text)| (name, size::parse(text), format!("{text:?}")));
        let counts = wanted.counts().map(|(name, count)| (name, Ok(count), count.to_string()));
        for (name, amount, written) in sizes.chain(counts) {
            let (Some(field), Some(most)) = (limits.field(name), most.field(name)) else { continue };
            match amount.map(|amount| usize::try_from(amount).unwrap_or(usize::MAX)) {
                Ok(amount) if amount <= *most => *field = amount,
                Ok(_) if matches!(name, "calls" | "table_entries") => {
                    over.push(format!("`{name} = {written}`, and {most} is the most"));
                }
                Ok(_) => over.push(format!("`{name} = {written}`, and {} is the most", size::show(*most as u64))),
                Err(wrong) => over.push(format!("`{name} = {written}`, which {wrong}")),
            }
        }
        let hours = LONGEST.as_secs() / 3600;
        match wanted.time.as_deref().map(|text| (text, duration::parse(text))) {
            Some((text, Ok(ms))) if Duration::from_millis(ms) > LONGEST => {
                over.push(format!("`time = {text:?}`, and {hours} h are the most"));
            }
            Some((text, Err(wrong))) => over.push(format!("`time = {text:?}`, which {wrong}")),
            _ => {}
        }
        if over.is_empty() { Ok(limits) } else { Err(over) }
    }

    /// A limit by the name that manifests have for it.
    fn field(&mut self, name: &str) -> Option<&mut usize> {
        Some(match name {
            "memory" => &mut self.memory,
            "table_entries" => &mut self.table_entries,
            "calls" => &mut self.calls,
            "log" => &mut self.log,
            "sent" => &mut self.sent,
            "one_call" => &mut self.one_call,
            "outputs" => &mut self.outputs,
            _ => return None,
        })
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
    #[error(
        "memory: it wanted {} MiB while the plugins at work had {} MiB, and {} MiB is the most for all of them together \
         (`serial` at the step lets fewer hosts be at work at once)",
        .wanted.div_ceil(1 << 20), .taken >> 20, .most >> 20
    )]
    Together { wanted: usize, taken: usize, most: usize },
    #[error("tables: it wanted {wanted} entries, and {most} is the most")]
    Tables { wanted: usize, most: usize },
    #[error("calls: it made more than {most}")]
    Calls { most: usize },
    #[error("log: it wrote more than {} KiB of messages", .most >> 10)]
    Log { most: usize },
    #[error("data: it sent more than {} MiB", .most >> 20)]
    Sent { most: usize },
    #[error("handles: it held more than {most} at once")]
    Handles { most: usize },
    #[error("time: the step's time was over, and it was waiting for no call")]
    Time,
}

/// What is left of the limits. When it goes, the guest's memory is there for others.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    pool: Arc<Pool>,
    memory: usize,
    table_entries: usize,
    calls: usize,
    log: usize,
    sent: usize,
}

impl Meter {
    pub(crate) fn new(limits: Limits, pool: Arc<Pool>) -> Self {
        Self { limits, pool, memory: 0, table_entries: 0, calls: 0, log: 0, sent: 0 }
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

impl Drop for Meter {
    fn drop(&mut self) {
        self.pool.give_back(self.memory);
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
        self.pool.take(self.memory, wanted - self.memory)?;
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
