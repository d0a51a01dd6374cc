//! The `microk8s` plugin: what nodes of MicroK8s need after they were installed.
//!
//! What each action takes and may touch stands in `plugin.toml`, what it knows in `README.md`.

mod registry;

runbook_sdk::plugin! {
    manifest: "plugin.toml",
    actions: {
        "registry" => registry::converge, verify registry::verify;
    }
}
