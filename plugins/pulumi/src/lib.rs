//! The `pulumi` plugin: a cluster's objects from the program that describes them.
//!
//! What the action takes and may touch stands in `plugin.toml`, what it knows in `README.md`.

mod up;

runbook_sdk::plugin! {
    manifest: "plugin.toml",
    actions: {
        "up" => up::converge, verify up::verify;
    }
}
