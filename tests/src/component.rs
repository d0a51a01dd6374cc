//! The guest programs of `components/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use crate::tools::tests_dir;

/// The built component of this name. The first call in a process builds all of them.
///
/// # Panics
///
/// When they do not build.
pub fn component(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    // TARGET/PROFILE/deps/TEST: beside the host's own artefacts, where the tests of `runbook-plugins` build them, too.
    let test = std::env::current_exe().expect("a process knows its own executable");
    let target = test.ancestors().nth(3).expect("cargo puts tests three levels down").join("components");
    BUILT.call_once(|| build(&target));
    target.join(format!("wasm32-wasip2/release/{name}.wasm"))
}

fn build(target: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2", "--target-dir"]);
    cargo.arg(target).current_dir(tests_dir().join("components"));
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
}
