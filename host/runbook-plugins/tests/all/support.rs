//! Calls into the probe.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook_engine::plugin::{PluginCall, PluginError, Road};
use runbook_plugins::{Host, Limits, Options};
use serde_json::{Value, json};

pub(crate) use crate::probe::{cache, probe};
use crate::road::FakeRoad;

/// Long enough for a busy machine, where nothing is expected to take long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) fn limits() -> Limits {
    Limits { memory: 64 << 20, ..Limits::default() }
}

/// A host that knows the probe.
pub(crate) fn host(limits: Limits) -> Host {
    let host = Host::new(Options { cache_dir: Some(cache()), limits, ..Options::default() }).unwrap();
    host.load("probe", probe()).unwrap();
    host
}

pub(crate) fn call(action: &str, how: &str, road: Arc<dyn Road>, time: Duration) -> PluginCall {
    PluginCall {
        plugin: "probe".to_owned(),
        action: action.to_owned(),
        inputs: json!({ "how": how }),
        road,
        deadline: Instant::now() + time,
    }
}

/// Lets the probe misbehave.
pub(crate) async fn misbehave(how: &str) -> Result<Value, PluginError> {
    misbehave_on(how, limits(), FakeRoad::new().into_arc(), SOON).await
}

pub(crate) async fn misbehave_on(
    how: &str,
    limits: Limits,
    road: Arc<FakeRoad>,
    time: Duration,
) -> Result<Value, PluginError> {
    let host = host(limits);
    host.prepare("probe").await.unwrap();
    host.plugins().converge(call("misbehave", how, road, time)).await
}

/// The strings of the outputs.
pub(crate) fn results(outputs: &Value) -> Vec<&str> {
    outputs["results"].as_array().unwrap().iter().map(|result| result.as_str().unwrap()).collect()
}
