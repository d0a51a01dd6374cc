//! The compiler and runtime that all plugins share, the clock that interrupts them, and the threads that they run on.

use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use wasmtime::{Config, Engine, WasmBacktraceDetails};

/// How often a guest that only computes lets others run, and notices that its time is over.
const TICK: Duration = Duration::from_millis(10);

/// Bytes of the stack of WebAssembly. Rust guests keep their own 1 MiB stack in linear memory, so this suffices for them;
/// interpreters recurse deeper.
const WASM_STACK: usize = 1 << 20;

/// Bytes of the stack that WebAssembly and the host functions below it run on.
const HOST_STACK: usize = 2 << 20;

/// Threads for guests: they compute little and wait a lot.
const MAX_THREADS: usize = 4;

/// An engine with its ticking clock, which stops when the last engine is gone.
pub(crate) fn start() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(HOST_STACK)
        // The environment of whoever runs us must not change what plugins compile to or report.
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_memory64(false);
    let engine = Engine::new(&config)?;
    let weak = engine.weak();
    thread::Builder::new().name("runbook-ticks".to_owned()).spawn(move || {
        loop {
            thread::sleep(TICK);
            match weak.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    })?;
    Ok(engine)
}

/// Threads of their own for guests. On the runtime of the connections, a few guests that only compute would starve those: tokio
/// looks for input and output only every 61 turns, and a turn of such a guest takes a whole [`TICK`].
pub(crate) struct GuestThreads(Option<Runtime>);

impl GuestThreads {
    pub(crate) fn start() -> std::io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from).clamp(2, MAX_THREADS);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("runbook-guest")
            // Timers of guests that wait must fire on time beside guests that compute.
            .event_interval(1)
            .enable_time()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> Option<&tokio::runtime::Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        // Dropping a runtime inside of another one panics, and waiting for guests here could take long.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
