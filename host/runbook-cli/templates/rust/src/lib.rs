//! The `{{name}}` plugin. What its actions ask for stands in `plugin.toml`, what they take and do in their modules.

mod settings;

runbook_sdk::plugin! {
    manifest: "plugin.toml",
    actions: {
        "settings" => settings::converge, verify settings::verify;
    }
}
