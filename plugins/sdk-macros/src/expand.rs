//! From a manifest and handlers to the code of a component.

use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::LitStr;

use crate::check::{self, Reference, Spread, Typed};
use crate::manifest::{Manifest, SECTION};
use crate::parse::{Handler, Plugin};

/// The component's code, or what is wrong with manifest or handlers.
pub(crate) fn expand(plugin: &Plugin) -> syn::Result<TokenStream> {
    let Read { path, mut manifest, typed, references } = read(&plugin.manifest)?;
    matches_handlers(plugin, &manifest)?;
    for action in &mut manifest.actions {
        action.verifies =
            plugin.actions.iter().any(|known| known.name.value() == action.name && known.verify.is_some());
    }
    let handler = |action: usize| {
        let name = manifest.actions.get(action).map(|action| action.name.as_str());
        plugin.actions.iter().find(|known| Some(known.name.value().as_str()) == name).map(|known| &known.converge)
    };
    let refers = references.iter().filter_map(|Reference { action, name, spread, otherwise }| {
        let converge = handler(*action)?;
        let message = format!("{}: action {}: {otherwise}", plugin.manifest.value(), manifest.actions[*action].name);
        let spread = match spread {
            None => quote! { None },
            Some(Spread::List) => quote! { List },
            Some(Spread::Table) => quote! { Table },
        };
        let spread = quote! { ::runbook_sdk::__private::Spread::#spread };
        Some(quote! { ::runbook_sdk::__private::refers(&#converge, #name, #spread, #message); })
    });
    let refers: Vec<TokenStream> = refers.collect();
    let pieces = pieces(&mut manifest, plugin, &typed)?;

    let path = path.to_string_lossy();
    let section = SECTION;
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

            // What asks say of inputs whose types are known only now.
            const _: () = { #(#refers)* };

            const PIECES: ::runbook_sdk::__private::Pieces = #pieces;
            const LENGTH: usize = ::runbook_sdk::__private::length(PIECES);
            static MANIFEST: [u8; LENGTH] = ::runbook_sdk::__private::joined::<LENGTH>(PIECES);

            // Never read by the plugin itself: the linker makes a custom section of it, which is not loaded.
            #[cfg(target_arch = "wasm32")]
            #[used]
            #[unsafe(link_section = #section)]
            static SECTION: [u8; LENGTH] = ::runbook_sdk::__private::joined::<LENGTH>(PIECES);

            struct Component;

            impl ::runbook_sdk::__private::Guest for Component {
                fn describe() -> ::std::string::String {
                    ::std::string::String::from_utf8_lossy(&MANIFEST).into_owned()
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

/// The manifest as JSON text, with the schemas of the handlers' types in the places that it leaves to them.
fn pieces(manifest: &mut Manifest, plugin: &Plugin, typed: &[Typed]) -> syn::Result<TokenStream> {
    // No text of a manifest contains the first character: each is one line.
    let mark = |what: &str, action: usize| format!("\u{1}{what} {action}");
    let mut marks = Vec::new();
    for (index, (action, typed)) in manifest.actions.iter_mut().zip(typed).enumerate() {
        let Some(handler) = plugin.actions.iter().find(|known| known.name.value() == action.name) else { continue };
        let converge = &handler.converge;
        if typed.inputs {
            action.inputs = mark("inputs", index).into();
            marks.push((action.inputs.to_string(), quote! { ::runbook_sdk::__private::inputs_of(&#converge) }));
        }
        if typed.outputs {
            action.outputs = mark("outputs", index).into();
            marks.push((action.outputs.to_string(), quote! { ::runbook_sdk::__private::outputs_of(&#converge) }));
        }
    }
    let json = serde_json::to_string(manifest).map_err(|e| syn::Error::new(plugin.manifest.span(), e))?;
    let mut rest = json.as_str();
    let mut pieces = Vec::new();
    // They come in the order of the actions, inputs before outputs.
    for (mark, schema) in marks {
        let Some((before, after)) = rest.split_once(&mark) else { continue };
        let before = format!("{before}{{");
        pieces.push(quote! { ::runbook_sdk::__private::Piece::Text(#before) });
        pieces.push(quote! { ::runbook_sdk::__private::Piece::Of(#schema) });
        pieces.push(quote! { ::runbook_sdk::__private::Piece::Text("}") });
        rest = after;
    }
    pieces.push(quote! { ::runbook_sdk::__private::Piece::Text(#rest) });
    Ok(quote! { &[#(#pieces),*] })
}

/// A manifest that was read and holds together, as far as that can be known here.
struct Read {
    path: PathBuf,
    manifest: Manifest,
    typed: Vec<Typed>,
    references: Vec<Reference>,
}

fn read(literal: &LitStr) -> syn::Result<Read> {
    let fail = |message: String| syn::Error::new(literal.span(), message);
    let folder = std::env::var("CARGO_MANIFEST_DIR").map_err(|e| fail(format!("CARGO_MANIFEST_DIR: {e}")))?;
    let path = Path::new(&folder).join(literal.value());
    let text = std::fs::read_to_string(&path).map_err(|e| fail(format!("{}: {e}", path.display())))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|e| fail(format!("{}: {e}", path.display())))?;
    let Said { actions } = toml::from_str(&text).map_err(|e| fail(format!("{}: {e}", path.display())))?;
    let typed: Vec<Typed> = actions
        .iter()
        .map(|action| Typed { inputs: !action.contains_key("inputs"), outputs: !action.contains_key("outputs") })
        .collect();
    let (mistakes, references) = check::check(&manifest, &typed);
    if mistakes.is_empty() {
        Ok(Read { path, manifest, typed, references })
    } else {
        Err(fail(format!("{}:\n- {}", path.display(), mistakes.join("\n- "))))
    }
}

/// What a manifest says literally, before anything is filled in.
#[derive(serde::Deserialize)]
struct Said {
    #[serde(rename = "action")]
    actions: Vec<serde_json::Map<String, serde_json::Value>>,
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
