//! The `{{name}}` plugin. What its actions take and ask for stands in `plugin.toml`.

mod settings;

runbook_sdk::plugin! {
    manifest: "plugin.toml",
    actions: {
        "settings" => settings::converge, verify settings::verify;
    }
}
