//! The macros of `runbook-sdk`, which re-exports them and documents them. `plugin!` reads `plugin.toml` while a plugin is
//! compiled, so that a manifest that says something else than the code is a compile error.

mod attributes;
mod check;
mod derive;
mod expand;

/// What `manifest.rs` finds beside it in the host: there a schema can be compiled, too.
mod input_schema {
    pub(crate) use serde_json::Value as Schema;
}

/// The manifest's shape, from the one place where it is written down: the host reads it back with the same types.
#[path = "../../../host/runbook-model/src/manifest.rs"]
#[expect(unreachable_pub, reason = "the host's file; this crate needs a part of it")]
mod manifest;
mod parse;

/// See `runbook_sdk::plugin`.
#[proc_macro]
pub fn plugin(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let plugin = syn::parse_macro_input!(input as parse::Plugin);
    expand::expand(&plugin).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// See `runbook_sdk::InputType`.
#[proc_macro_derive(Input, attributes(input))]
pub fn input(item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derived(derive::Side::Input, item)
}

/// See `runbook_sdk::OutputType`.
#[proc_macro_derive(Output, attributes(output))]
pub fn output(item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derived(derive::Side::Output, item)
}

fn derived(side: derive::Side, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let item = syn::parse_macro_input!(item as syn::DeriveInput);
    derive::derive(side, &item).unwrap_or_else(|error| error.into_compile_error()).into()
}
