//! One call into a plugin: a store of its own, limits, deadline; and what became of it, in words.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook_engine::plugin::{PluginError, Road};
use runbook_model::call::CallError;
use tokio::runtime::Handle;
use tokio::time::{timeout, timeout_at};
use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::bindings::PluginPre;
use crate::convert;
use crate::limits::{Breach, HANDLES, Limits, Meter, PARTS};
use crate::output::Output;
use crate::pool::Pool;
use crate::state::{State, Waiting};
use crate::wasi;

/// How long after the deadline a capability call that is under way may still come back, and the guest may tell what it makes
/// of it. Capability calls end at the deadline themselves, with an error that says more than we could.
const GRACE: Duration = Duration::from_secs(2);

/// Lines of a guest's output in the message of its crash.
const CRASH_LINES: usize = 20;

/// Functions in the message of a crash.
const CRASH_FRAMES: usize = 6;

/// What a plugin is asked.
pub(crate) enum Question {
    Describe,
    Converge { action: String, inputs: String },
    Verify { action: String, inputs: String },
}

/// What it answers.
pub(crate) enum Reply {
    Json(String),
    Wrong(Vec<String>),
}

/// Everything that a call needs.
pub(crate) struct Visit {
    pub(crate) pre: PluginPre<State>,
    pub(crate) limits: Limits,
    /// What it shares with all other guests.
    pub(crate) pool: Arc<Pool>,
    pub(crate) road: Arc<dyn Road>,
    pub(crate) deadline: Instant,
    /// Where capability calls run.
    pub(crate) home: Handle,
    pub(crate) output: Output,
    pub(crate) question: Question,
}

impl Visit {
    /// Runs the guest. To be polled on the threads for guests.
    pub(crate) async fn run(self) -> Result<Reply, PluginError> {
        let waiting = Waiting::default();
        let surroundings = wasi::surroundings(&self.road, &self.output);
        let one_call = self.limits.one_call;
        let meter = Meter::new(self.limits, self.pool);
        let state = State::new(self.road, surroundings, meter, self.home, self.deadline, waiting.clone());
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.meter);
        store.set_hostcall_fuel(one_call);
        store.set_max_component_handles(HANDLES);
        // The second alone does not arm the first tick.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);

        let mut guest = pin!(ask(self.pre, store, self.question));
        let deadline = tokio::time::Instant::from_std(self.deadline);
        let mut finished = timeout_at(deadline, &mut guest).await;
        if finished.is_err() && waiting.now().is_some() {
            finished = timeout(GRACE, &mut guest).await;
        }
        match finished {
            Ok(Ok(reply)) => reply.map_err(PluginError::Call),
            Ok(Err(error)) => Err(explain(&error, &self.output, one_call)),
            Err(_) => Err(match waiting.now() {
                Some(what) => CallError::TimedOut(format!("the step's time was over while waiting for {what}")).into(),
                None => limit(&Breach::Time),
            }),
        }
    }
}

async fn ask(
    pre: PluginPre<State>,
    mut store: Store<State>,
    question: Question,
) -> wasmtime::Result<Result<Reply, CallError>> {
    let plugin = pre.instantiate_async(&mut store).await?;
    let exports = plugin.runbook_plugin_action();
    let reply = match question {
        Question::Describe => Ok(Reply::Json(exports.call_describe(&mut store).await?)),
        Question::Converge { action, inputs } => {
            exports.call_converge(&mut store, &action, &inputs).await?.map(Reply::Json)
        }
        Question::Verify { action, inputs } => {
            exports.call_verify(&mut store, &action, &inputs).await?.map(Reply::Wrong)
        }
    };
    Ok(reply.map_err(convert::error_from_guest))
}

pub(crate) fn limit(breach: &Breach) -> PluginError {
    PluginError::Limit { limit: breach.to_string() }
}

/// What ended a guest, in words.
fn explain(error: &wasmtime::Error, output: &Output, one_call: usize) -> PluginError {
    if let Some(breach) = error.downcast_ref::<Breach>() {
        return limit(breach);
    }
    let cause = error.root_cause().to_string();
    // wasmtime has no type for this one; a test holds on to the words.
    if cause.contains("fuel allocated for hostcalls") {
        return PluginError::Limit { limit: format!("data: one call carried more than {} MiB", one_call >> 20) };
    }
    // Nor for this one.
    if cause.contains("resource limit exceeded") {
        return PluginError::Limit { limit: format!("parts: it has more than {PARTS} instances, tables or memories") };
    }
    let mut message = match (error.downcast_ref::<I32Exit>(), error.downcast_ref::<Trap>()) {
        (Some(exit), _) => format!("it ended itself with exit code {}", exit.0),
        // Rust guests keep a stack in linear memory, below address 0 of which there is nothing.
        (_, Some(Trap::MemoryOutOfBounds)) => format!("{cause} (endless recursion ends like this, too)"),
        _ => cause,
    };
    let mut wrote = output.last_lines(CRASH_LINES);
    // The environment of a guest is empty, whatever ours is.
    wrote.retain(|line| !line.starts_with("note: run with `RUST_BACKTRACE"));
    if !wrote.is_empty() {
        message.push_str("\nit wrote:");
        wrote.iter().for_each(|line| push_line(&mut message, line));
    }
    let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    if !frames.is_empty() {
        message.push_str("\nit was in:");
        frames.iter().for_each(|line| push_line(&mut message, line));
    }
    PluginError::Crashed { message }
}

fn push_line(message: &mut String, line: &str) {
    message.push_str("\n  ");
    message.push_str(line);
}

/// The innermost functions, those that only carry a panic left out.
fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let text = backtrace.to_string();
    // A frame's line reads `0: 0x1234 - module.wasm!function`.
    let names = text.lines().filter_map(|line| line.rsplit_once(" - ").map(|(_, name)| name));
    let all: Vec<String> = names.map(|name| plain(name.split_once('!').map_or(name, |(_, name)| name))).collect();
    let carries = |name: &String| {
        let name = name.trim_start_matches('<');
        ["std::", "core::", "alloc::", "__rust", "rust_", "abort", "dlmalloc"].iter().any(|p| name.starts_with(p))
    };
    let own: Vec<String> = all.iter().filter(|name| !carries(name)).take(CRASH_FRAMES).cloned().collect();
    if own.is_empty() { all.into_iter().take(CRASH_FRAMES).collect() } else { own }
}

/// A function's name without the hashes of its crates: `std[d123b7a1a2ed1472]::process::abort`.
fn plain(name: &str) -> String {
    let mut parts = name.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest)) if hash.len() >= 8 && hash.chars().all(|c| c.is_ascii_hexdigit()) => {
                plain.push_str(rest)
            }
            _ => {
                plain.push('[');
                plain.push_str(part);
            }
        }
    }
    convert::line(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_hashes_and_nothing_else() {
        assert_eq!(plain("std[d123b7a1a2ed1472]::process::abort"), "std::process::abort");
        assert_eq!(plain("<[u8] as core[6d9e98711c484d2e]::fmt::Debug>::fmt"), "<[u8] as core::fmt::Debug>::fmt");
        assert_eq!(plain("<wasm function 57>"), "<wasm function 57>");
    }
}
