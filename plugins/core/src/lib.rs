//! The `core` plugin: files, commands, services, packages, waits and objects of Kubernetes.
//!
//! What each action takes and may touch stands in `plugin.toml`.

mod apt;
mod assert;
mod command;
mod edit;
mod files;
mod halt;
mod kube;
mod manual;
mod package;
mod probe;
mod reboot;
mod receipt;
mod service;
mod snap;
mod wait;

runbook_sdk::plugin! {
    manifest: "plugin.toml",
    actions: {
        "directory" => files::directory;
        "file" => files::file;
        "line" => edit::line;
        "block" => edit::block;
        "link" => files::link;
        "absent" => files::absent;
        "command" => command::command;
        "script" => command::script;
        "service" => service::converge, verify service::verify;
        "package" => package::converge;
        "wait" => wait::converge;
        "kube-apply" => kube::apply;
        "kube-wait" => kube::wait;
        "kube-scale" => halt::scale;
        "kube-cordon" => halt::cordon;
        "reboot" => reboot::converge;
        "assert" => assert::converge;
        "manual" => manual::converge;
        "receipt" => receipt::converge;
    }
}
