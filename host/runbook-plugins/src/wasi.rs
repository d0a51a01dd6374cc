//! WASI with nothing behind it: no files, no sockets, no environment, no arguments. Time and chance are the run's.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::ChaCha12Rng;
use runbook_engine::plugin::Road;
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder};

use crate::output::Output;

/// Random bytes that a guest gets at once.
const MAX_RANDOM: u64 = 1 << 20;

/// The surroundings of one call.
pub(crate) fn surroundings(road: &Arc<dyn Road>, output: &Output) -> WasiCtx {
    let seed = road.seed();
    // A stream of its own for each of WASI's generators: what is drawn from one does not shift another.
    let generator = |stream: u64| {
        let mut generator = ChaCha12Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        generator
    };
    WasiCtxBuilder::new()
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .stdout(output.clone())
        .stderr(output.clone())
        .secure_random(generator(0))
        .insecure_random(generator(1))
        .insecure_random_seed(u128::from(seed))
        .max_random_size(MAX_RANDOM)
        .wall_clock(RunClock(Arc::clone(road)))
        .build()
}

/// The time of the last answer, so that a replay sees the same.
struct RunClock(Arc<dyn Road>);

impl HostWallClock for RunClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now_ms())
    }
}
