//! What wit-bindgen makes of `wit/`: raw, and not part of the SDK's surface. Away from WebAssembly its imports
//! compile and panic when called: there, `world` leads to a fake instead.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "runbook:plugin/plugin",
    generate_all,
    pub_export_macro: true,
    default_bindings_module: "runbook_sdk::bindings",
});
