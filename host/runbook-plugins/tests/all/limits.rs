//! What a guest may use, and what is said when it wants more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runbook_engine::plugin::PluginError;
use runbook_model::call::{Answer, CallError, Level};
use runbook_plugins::{Host, Limits, Options};

use crate::road::FakeRoad;
use crate::support::{SOON, cache, call, host, limits, misbehave, misbehave_on, probe};

/// Time for a guest that uses all of it.
const SHORT: Duration = Duration::from_millis(500);

fn limit(error: PluginError) -> String {
    match error {
        PluginError::Limit { limit } => limit,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn memory() {
    let said = limit(misbehave("memory").await.unwrap_err());
    assert!(said.starts_with("memory: it wanted ") && said.ends_with("64 MiB is the most"), "{said}");
}

#[tokio::test]
async fn the_memory_of_all_guests_together() {
    let options =
        Options { cache_dir: Some(cache()), limits: limits(), memory_of_all: Some(40 << 20), ..Options::default() };
    let host = Host::new(options).unwrap();
    host.load("probe", probe()).unwrap();
    host.prepare("probe").await.unwrap();
    // Each may have 64 MiB, and all of them together less than that.
    let bombs: Vec<_> = (0..20)
        .map(|_| {
            let call = call("misbehave", "memory", FakeRoad::new().into_arc(), SOON);
            let plugins = host.plugins();
            tokio::spawn(async move { plugins.converge(call).await })
        })
        .collect();
    for bomb in bombs {
        let said = limit(bomb.await.unwrap().unwrap_err());
        assert!(said.starts_with("memory: it wanted ") && said.contains("for all of them together"), "{said}");
    }
    // What they had is there again, more often than it would last if it were not.
    for _ in 0..30 {
        let road = FakeRoad::with(|_| Some(Ok(Answer::Stat(None)))).into_arc();
        host.plugins().converge(call("fail", "", road, SOON)).await.unwrap();
    }
}

#[tokio::test]
async fn a_plugin_that_does_not_even_start_in_its_memory() {
    let road = FakeRoad::new().into_arc();
    let error = host(Limits { memory: 1 << 20, ..limits() }).plugins().converge(call("fail", "", road, SOON)).await;
    assert!(limit(error.unwrap_err()).starts_with("memory: it wanted 2 MiB"), "a Rust guest needs 17 pages");
}

#[tokio::test]
async fn messages() {
    let road = FakeRoad::new().into_arc();
    let error = misbehave_on("log", limits(), road.clone(), SOON).await.unwrap_err();
    assert_eq!(limit(error), "log: it wrote more than 1024 KiB of messages");
    assert!(road.logged(Level::Info).len() <= 1049);
    assert!(limit(misbehave("progress").await.unwrap_err()).starts_with("log:"));
}

#[tokio::test]
async fn calls() {
    let road = FakeRoad::new().into_arc();
    let error = misbehave_on("calls", Limits { calls: 500, ..limits() }, road.clone(), SOON).await.unwrap_err();
    assert_eq!(limit(error), "calls: it made more than 500");
    assert_eq!(road.requests().len(), 500);
}

#[tokio::test]
async fn handles() {
    assert!(limit(misbehave("handles").await.unwrap_err()).starts_with("handles:"));
}

#[tokio::test]
async fn data() {
    let limits = Limits { sent: 10 << 20, one_call: 32 << 20, ..limits() };
    let road = FakeRoad::new().into_arc();
    let error = misbehave_on("send", limits.clone(), road.clone(), SOON).await.unwrap_err();
    assert_eq!(limit(error), "data: it sent more than 10 MiB");
    assert_eq!(road.requests().len(), 9);
    let error = misbehave_on("huge call", limits, road, SOON).await.unwrap_err();
    assert_eq!(limit(error), "data: one call carried more than 32 MiB");
}

#[tokio::test]
async fn time_of_a_guest_that_computes_or_sleeps() {
    for how in ["loop", "sleep"] {
        let started = Instant::now();
        let error = misbehave_on(how, limits(), FakeRoad::new().into_arc(), SHORT).await.unwrap_err();
        assert_eq!(limit(error), "time: the step's time was over, and it was waiting for no call", "{how}");
        assert!(started.elapsed() < SOON / 2, "{how} took {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn time_of_a_call_that_never_comes_back() {
    let road = FakeRoad::with(|_| None).into_arc();
    let host = host(limits());
    host.prepare("probe").await.unwrap();
    let started = Instant::now();
    let call = call("misbehave", "pause", road, SHORT);
    // Its output is not kept either: this road takes nothing.
    let error = tokio::time::timeout(SOON, host.plugins().converge(call)).await.unwrap().unwrap_err();
    let expected = CallError::TimedOut("the step's time was over while waiting for a pause".to_owned());
    assert_eq!(error, PluginError::Call(expected));
    assert!(started.elapsed() < SOON / 2, "took {:?}", started.elapsed());
}

#[tokio::test]
async fn a_call_that_ends_at_the_deadline_may_still_say_what_it_waited_for() {
    // The answer comes a little late, as that of a backend that first cleans up behind itself.
    struct Late(Instant);
    #[async_trait::async_trait]
    impl runbook_engine::plugin::Road for Late {
        async fn call(&self, _: runbook_model::call::Request) -> runbook_model::call::Response {
            tokio::time::sleep_until(tokio::time::Instant::from_std(self.0 + Duration::from_millis(100))).await;
            Err(CallError::TimedOut("waiting for the moon".to_owned()))
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
            0
        }
    }
    let host = host(Limits { calls: usize::MAX, ..limits() });
    host.prepare("probe").await.unwrap();
    for (how, waited) in [("pause", "waiting for the moon"), ("swallow", "")] {
        let mut call = call("misbehave", how, FakeRoad::new().into_arc(), SHORT);
        call.road = Arc::new(Late(call.deadline));
        let error = tokio::time::timeout(SOON, host.plugins().converge(call)).await.unwrap().unwrap_err();
        match how {
            "pause" => assert_eq!(error, PluginError::Call(CallError::TimedOut(waited.to_owned()))),
            // A guest that does not take the hint gets no second one.
            _ => assert!(limit(error).starts_with("time:")),
        }
    }
}

#[tokio::test]
async fn guests_that_compute_starve_nobody() {
    let host = host(limits());
    host.prepare("probe").await.unwrap();
    let time = Duration::from_secs(4);
    let spinners: Vec<_> = (0..8)
        .map(|_| {
            let call = call("misbehave", "loop", FakeRoad::new().into_arc(), time);
            let plugins = host.plugins();
            tokio::spawn(async move { plugins.converge(call).await })
        })
        .collect();
    let started = Instant::now();
    // On the runtime of the connections time goes by as if nothing were.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(started.elapsed() < time / 4, "20 short sleeps took {:?}", started.elapsed());
    // Another guest comes to its turn, too.
    let road = FakeRoad::with(|_| Some(Ok(Answer::Stat(None)))).into_arc();
    host.plugins().converge(call("fail", "", road, SOON)).await.unwrap();
    assert!(started.elapsed() < time, "took {:?}", started.elapsed());
    for spinner in spinners {
        limit(spinner.await.unwrap().unwrap_err());
    }
}

#[tokio::test]
async fn a_guest_ends_when_nobody_waits_for_it() {
    let host = host(limits());
    host.prepare("probe").await.unwrap();
    let road = FakeRoad::new().into_arc();
    let call = call("misbehave", "loop", road.clone(), SOON);
    tokio::time::timeout(SHORT, host.plugins().converge(call)).await.expect_err("it computes on");
    let started = Instant::now();
    while Arc::strong_count(&road) > 1 {
        assert!(started.elapsed() < SOON / 2, "its store is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_call_under_way_comes_to_its_end_without_the_guest() {
    struct Slow(Arc<AtomicBool>);
    #[async_trait::async_trait]
    impl runbook_engine::plugin::Road for Slow {
        async fn call(&self, _: runbook_model::call::Request) -> runbook_model::call::Response {
            tokio::time::sleep(SHORT).await;
            self.0.store(true, Ordering::SeqCst);
            Ok(Answer::Unit)
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
            0
        }
    }
    let host = host(limits());
    host.prepare("probe").await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let mut call = call("misbehave", "pause", FakeRoad::new().into_arc(), SOON);
    call.road = Arc::new(Slow(Arc::clone(&ended)));
    tokio::time::timeout(SHORT / 2, host.plugins().converge(call)).await.expect_err("it waits");
    assert!(!ended.load(Ordering::SeqCst));
    tokio::time::sleep(SHORT * 4).await;
    assert!(ended.load(Ordering::SeqCst), "the journal would not know how it ended");
}
