//! `#[input(...)]`, and doc comments.

use serde_json::Value;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, ExprLit, Lit, LitStr, Meta, Token, UnOp, punctuated::Punctuated};

use crate::derive::Side;

/// What `#[input(...)]` says.
#[derive(Default)]
pub(crate) struct Attributes {
    /// The key or the word, where it is not the name.
    pub(crate) name: Option<String>,
    /// What it is when it is left out.
    pub(crate) default: Option<WhenLeftOut>,
    /// Keywords of JSON Schema with their values as JSON.
    pub(crate) keywords: Vec<(&'static str, Value)>,
    /// Keys of which exactly one is given.
    pub(crate) one_of: Vec<LitStr>,
    /// Keys of which one at least is given.
    pub(crate) any_of: Vec<LitStr>,
}

/// What a field is when it is left out.
pub(crate) enum WhenLeftOut {
    /// What the trait `Default` gives.
    OfType,
    /// This.
    Json(Value),
}

/// Keywords of JSON Schema, as attribute and as keyword.
const KEYWORDS: [(&str, &str); 9] = [
    ("pattern", "pattern"),
    ("format", "format"),
    ("min_length", "minLength"),
    ("max_length", "maxLength"),
    ("min_items", "minItems"),
    ("max_items", "maxItems"),
    ("minimum", "minimum"),
    ("maximum", "maximum"),
    ("secret", "x-secret"),
];

impl Attributes {
    /// Those of a struct.
    pub(crate) fn of_struct(attributes: &[Attribute]) -> syn::Result<Self> {
        Self::read(attributes, |this, meta| {
            let list = if meta.path.is_ident("one_of") {
                &mut this.one_of
            } else if meta.path.is_ident("any_of") {
                &mut this.any_of
            } else {
                return Err(meta.error("a struct knows `one_of(\"a\", \"b\")` and `any_of(\"a\", \"b\")`"));
            };
            let content;
            syn::parenthesized!(content in meta.input);
            list.extend(Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?);
            Ok(())
        })
    }

    /// Those of an enum's variant.
    pub(crate) fn of_variant(attributes: &[Attribute]) -> syn::Result<Self> {
        Self::read(attributes, |this, meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("a variant knows `name = \"...\"`"));
            }
            this.name = Some(meta.value()?.parse::<LitStr>()?.value());
            Ok(())
        })
    }

    /// Those of a field.
    pub(crate) fn of_field(side: Side, attributes: &[Attribute]) -> syn::Result<Self> {
        Self::read(attributes, |this, meta| {
            if meta.path.is_ident("name") {
                this.name = Some(meta.value()?.parse::<LitStr>()?.value());
            } else if side == Side::Output {
                return Err(meta.error("a field of an output knows `name = \"...\"`"));
            } else if meta.path.is_ident("default") {
                let value = meta.input.peek(Token![=]).then(|| json(&meta.value()?.parse()?)).transpose()?;
                this.default = Some(value.map_or(WhenLeftOut::OfType, WhenLeftOut::Json));
            } else {
                let known = KEYWORDS.iter().find(|(name, _)| meta.path.is_ident(name));
                let Some((name, keyword)) = known else {
                    let names = KEYWORDS.map(|(name, _)| format!("`{name}`")).join(", ");
                    return Err(meta.error(format!("a field knows `name`, `default`, {names}")));
                };
                let value = if *name == "secret" { Value::Bool(true) } else { json(&meta.value()?.parse()?)? };
                this.keywords.push((keyword, value));
            }
            Ok(())
        })
    }

    fn read(
        attributes: &[Attribute],
        mut read: impl FnMut(&mut Self, &ParseNestedMeta<'_>) -> syn::Result<()>,
    ) -> syn::Result<Self> {
        let mut this = Self::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("input") || a.path().is_ident("output")) {
            attribute.parse_nested_meta(|meta| read(&mut this, &meta))?;
        }
        Ok(this)
    }

    /// The default that stands in the schema.
    pub(crate) fn json_default(&self) -> Option<String> {
        match &self.default {
            Some(WhenLeftOut::Json(value)) => Some(value.to_string()),
            Some(WhenLeftOut::OfType) | None => None,
        }
    }

    /// Whether the default is what its type gives.
    pub(crate) fn takes_default(&self) -> bool {
        matches!(self.default, Some(WhenLeftOut::OfType))
    }
}

/// A literal as JSON.
fn json(expr: &Expr) -> syn::Result<Value> {
    let wrong = || syn::Error::new_spanned(expr, "a text, a number, a boolean, or a list of them");
    match expr {
        Expr::Lit(ExprLit { lit, .. }) => match lit {
            Lit::Str(text) => Ok(text.value().into()),
            Lit::Bool(yes) => Ok(yes.value.into()),
            Lit::Int(number) => Ok(number.base10_parse::<i64>()?.into()),
            Lit::Float(number) => Ok(number.base10_parse::<f64>()?.into()),
            _ => Err(wrong()),
        },
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => match json(&unary.expr)? {
            Value::Number(number) if number.is_i64() => Ok(number.as_i64().map(|n| -n).into()),
            Value::Number(number) => Ok(number.as_f64().map(|n| -n).into()),
            _ => Err(wrong()),
        },
        Expr::Array(array) => array.elems.iter().map(json).collect(),
        Expr::Group(group) => json(&group.expr),
        _ => Err(wrong()),
    }
}

/// A doc comment as one line. A blank line in it ends what people read of it: the rest is for the author.
pub(crate) fn doc(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let Meta::NameValue(pair) = &attribute.meta else { continue };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { continue };
        let text = text.value();
        let line = text.trim();
        if line.is_empty() && !lines.is_empty() {
            break;
        }
        lines.extend((!line.is_empty()).then(|| line.to_owned()));
    }
    lines.join(" ")
}
