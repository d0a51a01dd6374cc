//! The guest program of tests and benchmarks, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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
