//! What a plugin costs: to load it once for a process, to call it once for a step, and one capability call of it.
//!
//! The guest is the probe of tests/components. Its road answers at once: no broker, no journal, no network.
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/all/probe.rs"]
mod probe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use runbook_engine::plugin::{PluginCall, Road};
use runbook_model::call::{Answer, Request, Response};
use runbook_plugins::{Host, Options};
use serde_json::json;
use tokio::runtime::Runtime;

/// Capability calls of the guest in one call into it.
const LOOKS: u64 = 1000;

struct NothingThere;

#[async_trait]
impl Road for NothingThere {
    async fn call(&self, _: Request) -> Response {
        Ok(Answer::Stat(None))
    }

    fn targets(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn cluster(&self) -> Option<String> {
        None
    }

    fn now_ms(&self) -> u64 {
        0
    }

    fn seed(&self) -> u64 {
        7
    }
}

fn host() -> Host {
    let host = Host::new(Options { cache_dir: Some(probe::cache()), ..Options::default() }).unwrap();
    host.load("probe", probe::probe()).unwrap();
    host
}

fn call(how: &str) -> PluginCall {
    PluginCall {
        plugin: "probe".to_owned(),
        action: "misbehave".to_owned(),
        inputs: json!({ "how": how }),
        road: Arc::new(NothingThere),
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

fn guests(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let ready = host();
    // Fills the cache.
    runtime.block_on(ready.prepare("probe")).unwrap();
    let plugins = ready.plugins();
    let mut group = criterion.benchmark_group("plugin");

    group.sample_size(20).bench_function("load what was compiled", |bencher| {
        let load = |host: Host| {
            runtime.block_on(host.prepare("probe")).unwrap();
            host
        };
        bencher.iter_batched(host, load, BatchSize::PerIteration);
    });
    group.sample_size(100).bench_function("one call: store, instance, a guest that returns, their end", |bencher| {
        bencher.iter(|| runtime.block_on(plugins.verify(call("return"))).unwrap());
    });
    // What is left of the former without it is the guest's.
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    group.sample_size(100).bench_function("of that, the way to the threads for guests and back", |bencher| {
        bencher.iter(|| runtime.block_on(elsewhere.spawn(async {})).unwrap());
    });
    group.sample_size(100).bench_function("one capability call that is answered at once", |bencher| {
        bencher.iter_custom(|wanted| {
            let visits = wanted.div_ceil(LOOKS);
            let started = Instant::now();
            for _ in 0..visits {
                runtime.block_on(plugins.converge(call("thousand looks"))).unwrap();
            }
            started.elapsed().mul_f64(wanted as f64 / (visits * LOOKS) as f64)
        });
    });
}

criterion_group!(benches, guests);
criterion_main!(benches);
