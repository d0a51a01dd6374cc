//! What stands between the parentheses of `plugin!`.

use syn::parse::{Parse, ParseStream};
use syn::{Expr, Ident, LitStr, Token, braced};

/// `manifest: "plugin.toml", actions: { ... }`.
pub(crate) struct Plugin {
    /// Path of the manifest, relative to the plugin's `Cargo.toml`.
    pub(crate) manifest: LitStr,
    /// What carries out each action.
    pub(crate) actions: Vec<Handler>,
}

/// `"NAME" => converge, verify verify;`.
pub(crate) struct Handler {
    /// Name of the action.
    pub(crate) name: LitStr,
    /// Function that converges.
    pub(crate) converge: Expr,
    /// Function that verifies.
    pub(crate) verify: Option<Expr>,
}

impl Parse for Plugin {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        keyword(input, "manifest")?;
        input.parse::<Token![:]>()?;
        let manifest = input.parse()?;
        input.parse::<Token![,]>()?;
        keyword(input, "actions")?;
        input.parse::<Token![:]>()?;
        let body;
        braced!(body in input);
        let mut actions = Vec::new();
        while !body.is_empty() {
            actions.push(body.parse()?);
        }
        input.parse::<Option<Token![,]>>()?;
        Ok(Self { manifest, actions })
    }
}

impl Parse for Handler {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name = input.parse()?;
        input.parse::<Token![=>]>()?;
        let converge = input.parse()?;
        let verify = if input.parse::<Option<Token![,]>>()?.is_some() {
            keyword(input, "verify")?;
            Some(input.parse()?)
        } else {
            None
        };
        input.parse::<Token![;]>()?;
        Ok(Self { name, converge, verify })
    }
}

fn keyword(input: ParseStream<'_>, word: &str) -> syn::Result<()> {
    let ident: Ident = input.parse()?;
    if ident == word { Ok(()) } else { Err(syn::Error::new(ident.span(), format!("expected `{word}`"))) }
}
