//! The guest program, built once, and calls into it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use runbook_engine::plugin::{PluginCall, PluginError, Road};
use runbook_plugins::{Host, Limits, Options};
use serde_json::{Value, json};

use crate::road::FakeRoad;

/// Long enough for a busy machine, where nothing is expected to take long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The component `probe` of tests/components.
pub(crate) fn probe() -> &'static [u8] {
    static PROBE: OnceLock<Vec<u8>> = OnceLock::new();
    PROBE.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/components");
        let target: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("components");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2", "--target-dir"]);
        cargo.arg(&target).current_dir(&workspace);
        // What cargo, clippy or a coverage tool set for the host is not meant for the guest.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_", "RUSTFLAGS", "RUSTC", "LLVM_"].iter().any(|prefix| text.starts_with(prefix))
                && text != "CARGO_HOME"
            {
                cargo.env_remove(&name);
            }
        }
        let done = cargo.output().expect("cargo runs");
        assert!(
            done.status.success(),
            "the guest programs do not build (missing target? `rustup target add wasm32-wasip2`):\n{}",
            String::from_utf8_lossy(&done.stderr)
        );
        std::fs::read(target.join("wasm32-wasip2/release/probe.wasm")).expect("was built")
    })
}

/// A folder for compiled plugins that all tests share, as all runs of a user do.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-plugins")
}

pub(crate) fn limits() -> Limits {
    Limits { memory: 64 << 20, ..Limits::default() }
}

/// A host that knows the probe.
pub(crate) fn host(limits: Limits) -> Host {
    let host = Host::new(Options { cache_dir: Some(cache()), limits }).unwrap();
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
