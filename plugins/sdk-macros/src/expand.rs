//! From a manifest and handlers to the code of a component.

use std::path::{Path, PathBuf};

use proc_macro2::{Literal, Span, TokenStream};
use quote::quote;
use syn::LitStr;

use crate::check;
use crate::manifest::{Manifest, SECTION};
use crate::parse::{Handler, Plugin};

/// The component's code, or what is wrong with manifest or handlers.
pub(crate) fn expand(plugin: &Plugin) -> syn::Result<TokenStream> {
    let (path, mut manifest) = read(&plugin.manifest)?;
    matches_handlers(plugin, &manifest)?;
    for action in &mut manifest.actions {
        action.verifies =
            plugin.actions.iter().any(|known| known.name.value() == action.name && known.verify.is_some());
    }
    let json = serde_json::to_string(&manifest).map_err(|e| syn::Error::new(plugin.manifest.span(), e))?;

    let path = path.to_string_lossy();
    let section = SECTION;
    let bytes = Literal::byte_string(json.as_bytes());
    let length = json.len();
    let converge = plugin.actions.iter().map(|Handler { name, converge, .. }| {
        quote! { #name => ::runbook_sdk::__private::converge(#converge, &inputs), }
    });
    let verify = plugin.actions.iter().filter_map(|Handler { name, verify, .. }| {
        let verify = verify.as_ref()?;
        Some(quote! { #name => ::runbook_sdk::__private::verify(#verify, &inputs), })
    });

    Ok(quote! {
        const _: () = {
            // Never read; a change of the file compiles the plugin anew.
            const _: &[u8] = ::core::include_bytes!(#path);

            // Never read by the plugin itself: the linker makes a custom section of it, which is not loaded.
            #[cfg(target_arch = "wasm32")]
            #[used]
            #[unsafe(link_section = #section)]
            static MANIFEST: [u8; #length] = *#bytes;

            struct Component;

            impl ::runbook_sdk::__private::Guest for Component {
                fn describe() -> ::std::string::String {
                    ::std::string::String::from(#json)
                }

                fn converge(
                    action: ::std::string::String,
                    inputs: ::std::string::String,
                ) -> ::core::result::Result<::std::string::String, ::runbook_sdk::__private::CallError> {
                    match action.as_str() {
                        #(#converge)*
                        other => ::core::result::Result::Err(::runbook_sdk::__private::no_such_action(other)),
                    }
                }

                #[allow(clippy::match_single_binding, unused_variables, reason = "a plugin may verify nothing")]
                fn verify(
                    action: ::std::string::String,
                    inputs: ::std::string::String,
                ) -> ::core::result::Result<
                    ::std::vec::Vec<::std::string::String>,
                    ::runbook_sdk::__private::CallError,
                > {
                    match action.as_str() {
                        #(#verify)*
                        _ => ::core::result::Result::Ok(::std::vec::Vec::new()),
                    }
                }
            }

            ::runbook_sdk::__private::export!(Component with_types_in ::runbook_sdk::__private::bindings);
        };
    })
}

fn read(literal: &LitStr) -> syn::Result<(PathBuf, Manifest)> {
    let fail = |message: String| syn::Error::new(literal.span(), message);
    let folder = std::env::var("CARGO_MANIFEST_DIR").map_err(|e| fail(format!("CARGO_MANIFEST_DIR: {e}")))?;
    let path = Path::new(&folder).join(literal.value());
    let text = std::fs::read_to_string(&path).map_err(|e| fail(format!("{}: {e}", path.display())))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|e| fail(format!("{}: {e}", path.display())))?;
    let mistakes = check::check(&manifest);
    if mistakes.is_empty() {
        Ok((path, manifest))
    } else {
        Err(fail(format!("{}:\n- {}", path.display(), mistakes.join("\n- "))))
    }
}

/// Each action has a handler, and each handler an action.
fn matches_handlers(plugin: &Plugin, manifest: &Manifest) -> syn::Result<()> {
    let mut mistakes: Option<syn::Error> = None;
    let mut add = |span: Span, message: String| {
        let error = syn::Error::new(span, message);
        match &mut mistakes {
            Some(all) => all.combine(error),
            None => mistakes = Some(error),
        }
    };
    for (index, Handler { name, .. }) in plugin.actions.iter().enumerate() {
        let value = name.value();
        if manifest.action(&value).is_none() {
            add(name.span(), format!("the manifest has no action {value:?}"));
        }
        if plugin.actions.iter().take(index).any(|other| other.name.value() == value) {
            add(name.span(), format!("action {value:?} is handled twice"));
        }
    }
    for action in &manifest.actions {
        if !plugin.actions.iter().any(|handler| handler.name.value() == action.name) {
            add(plugin.manifest.span(), format!("nothing handles the manifest's action {:?}", action.name));
        }
    }
    mistakes.map_or(Ok(()), Err)
}
