//! The `net` plugin: addresses of machines.
//!
//! What each action takes and may touch stands in `plugin.toml`, what it knows in `README.md`.

mod static_ip;

runbook_sdk::plugin! {
    manifest: "plugin.toml",
    actions: {
        "static-ip" => static_ip::converge, verify static_ip::verify;
    }
}
