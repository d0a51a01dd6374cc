//! `#[derive(Input)]` and `#[derive(Output)]`: the JSON Schema of a type, and serde's traits.
//!
//! serde's code is made by serde's own derive, for a copy of the type (`remote`): so there is one set of attributes, `#[input]`,
//! and what the schema says of a field is what is read.

use proc_macro2::TokenStream;
use quote::quote;
use serde_json::Value;
use syn::spanned::Spanned as _;
use syn::{Data, DataEnum, DataStruct, DeriveInput, Fields, Ident, Type};

use crate::attributes::{Attributes, doc};

/// Which of the two it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Input,
    Output,
}

impl Side {
    fn path(self) -> TokenStream {
        match self {
            Self::Input => quote! { ::runbook_sdk::InputType },
            Self::Output => quote! { ::runbook_sdk::OutputType },
        }
    }
}

/// JSON text: pieces that are known here, and those of other types.
#[derive(Default)]
struct Pieces {
    done: Vec<TokenStream>,
    text: String,
}

impl Pieces {
    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Text within a JSON string.
    fn within_string(&mut self, text: &str) {
        let quoted = Value::from(text).to_string();
        self.text(&quoted[1..quoted.len() - 1]);
    }

    fn of(&mut self, pieces: &TokenStream) {
        self.flush();
        self.done.push(quote! { ::runbook_sdk::__private::Piece::Of(#pieces) });
    }

    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            self.done.push(quote! { ::runbook_sdk::__private::Piece::Text(#text) });
        }
    }

    fn end(mut self) -> TokenStream {
        self.flush();
        let done = self.done;
        quote! { &[#(#done),*] }
    }
}

/// The code of the derive, or what is wrong with the type.
pub(crate) fn derive(side: Side, input: &DeriveInput) -> syn::Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new(input.generics.span(), "it must not be generic: the schema is that of one type"));
    }
    match &input.data {
        Data::Struct(data) => of_struct(side, input, data),
        Data::Enum(data) => of_enum(side, input, data),
        Data::Union(_) => Err(syn::Error::new(input.ident.span(), "a union has no JSON Schema")),
    }
}

/// A field, as far as both halves of the code need it.
struct Field<'a> {
    ident: &'a Ident,
    ty: &'a Type,
    key: String,
    doc: String,
    attributes: Attributes,
}

impl Field<'_> {
    fn may_be_left_out(&self) -> bool {
        self.attributes.default.is_some() || is_option(self.ty)
    }
}

fn of_struct(side: Side, input: &DeriveInput, data: &DataStruct) -> syn::Result<TokenStream> {
    let whole = Attributes::of_struct(&input.attrs)?;
    let named = match &data.fields {
        Fields::Named(fields) => fields.named.iter().collect(),
        Fields::Unit => Vec::new(),
        Fields::Unnamed(fields) => {
            return Err(syn::Error::new(fields.span(), "its fields need names: they are the keys"));
        }
    };
    let mut fields = Vec::new();
    for field in named {
        let Some(ident) = &field.ident else { continue };
        let attributes = Attributes::of_field(side, &field.attrs)?;
        let doc = doc(&field.attrs);
        if doc.is_empty() {
            return Err(syn::Error::new(field.span(), "it needs a doc comment: that is what people read of it"));
        }
        let key = attributes.name.clone().unwrap_or_else(|| ident.to_string().trim_start_matches("r#").to_owned());
        fields.push(Field { ident, ty: &field.ty, key, doc, attributes });
    }
    for key in whole.one_of.iter().chain(&whole.any_of) {
        if !fields.iter().any(|field| field.key == key.value() && field.may_be_left_out()) {
            return Err(syn::Error::new(key.span(), "there is no field of this name that may be left out"));
        }
    }

    let path = side.path();
    let schema = struct_schema(&path, &fields, &whole);
    let name = &input.ident;
    let known = (side == Side::Input).then(|| {
        let fields = fields.iter().map(|Field { key, ty, .. }| {
            quote! { ::runbook_sdk::__private::Field { name: #key, spread: <#ty as ::runbook_sdk::InputType>::SPREAD } }
        });
        quote! { const FIELDS: &'static [::runbook_sdk::__private::Field] = &[#(#fields),*]; }
    });
    let shadow = fields.iter().map(|Field { ident, ty, key, attributes, .. }| {
        let serde = match side {
            Side::Input if attributes.takes_default() => quote! { #[serde(rename = #key, default)] },
            Side::Output if is_option(ty) => {
                quote! { #[serde(rename = #key, skip_serializing_if = "Option::is_none")] }
            }
            Side::Input | Side::Output => quote! { #[serde(rename = #key)] },
        };
        quote! { #serde #ident: #ty }
    });
    let shadow = quote! { struct Shadow { #(#shadow),* } };
    let defaults = fields.iter().filter_map(|field| Some((&field.key, field.attributes.json_default()?)));
    let defaults = defaults.map(|(key, json)| quote! { (#key, #json) });
    let read = quote! { ::runbook_sdk::__private::with_defaults(deserializer, &[#(#defaults),*])? };
    let serde = serde(side, name, &shadow, &read);
    Ok(quote! {
        impl #path for #name {
            const SCHEMA: ::runbook_sdk::__private::Pieces = #schema;
            #known
        }
        #serde
    })
}

fn struct_schema(path: &TokenStream, fields: &[Field<'_>], whole: &Attributes) -> TokenStream {
    let mut pieces = Pieces::default();
    let needed: Vec<&str> = fields.iter().filter(|f| !f.may_be_left_out()).map(|field| field.key.as_str()).collect();
    pieces.text(r#""type":"object","additionalProperties":false"#);
    if !needed.is_empty() {
        pieces.text(&format!(r#","required":{}"#, Value::from(needed)));
    }
    for (keyword, keys) in [("oneOf", &whole.one_of), ("anyOf", &whole.any_of)] {
        if !keys.is_empty() {
            let alternatives: Vec<Value> =
                keys.iter().map(|key| serde_json::json!({ "required": [key.value()] })).collect();
            pieces.text(&format!(",{}:{}", Value::from(keyword), Value::from(alternatives)));
        }
    }
    pieces.text(r#","properties":{"#);
    for (index, Field { ty, key, doc, attributes, .. }) in fields.iter().enumerate() {
        if index > 0 {
            pieces.text(",");
        }
        pieces.text(&format!("{}:{{", Value::from(key.as_str())));
        pieces.of(&quote! { <#ty as #path>::SCHEMA });
        pieces.text(r#","description":""#);
        pieces.within_string(doc);
        pieces.of(&quote! { <#ty as #path>::MEANING });
        pieces.text("\"");
        for (keyword, value) in &attributes.keywords {
            pieces.text(&format!(",{}:{value}", Value::from(*keyword)));
        }
        if let Some(json) = attributes.json_default() {
            pieces.text(&format!(r#","default":{json}"#));
        }
        pieces.text("}");
    }
    pieces.text("}");
    pieces.end()
}

fn of_enum(side: Side, input: &DeriveInput, data: &DataEnum) -> syn::Result<TokenStream> {
    let (name, path) = (&input.ident, side.path());
    let mut words = Vec::new();
    let mut meaning = String::new();
    let mut shadow = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(syn::Error::new(variant.span(), "its variants are words: they hold no fields"));
        }
        let word =
            Attributes::of_variant(&variant.attrs)?.name.unwrap_or_else(|| hyphenated(&variant.ident.to_string()));
        let doc = doc(&variant.attrs);
        if !doc.is_empty() {
            meaning.extend([" `", &word, "`: ", &doc]);
        }
        let ident = &variant.ident;
        shadow.push(quote! { #[serde(rename = #word)] #ident });
        words.push(word);
    }
    let mut schema = Pieces::default();
    schema.text(&format!(r#""type":"string","enum":{}"#, Value::from(words)));
    let schema = schema.end();
    let mut pieces = Pieces::default();
    pieces.within_string(&meaning);
    let meaning = pieces.end();
    let shadow = quote! { enum Shadow { #(#shadow),* } };
    let serde = serde(side, name, &shadow, &quote! { deserializer });
    Ok(quote! {
        impl #path for #name {
            const SCHEMA: ::runbook_sdk::__private::Pieces = #schema;
            const MEANING: ::runbook_sdk::__private::Pieces = #meaning;
        }
        #serde
    })
}

/// serde's trait for a type, by a copy of it that serde's derive is made for.
fn serde(side: Side, name: &Ident, shadow: &TokenStream, read: &TokenStream) -> TokenStream {
    let remote = name.to_string();
    let head = |derive: TokenStream| {
        quote! {
            #[derive(#derive)]
            #[serde(crate = "::runbook_sdk::__private::serde", remote = #remote, deny_unknown_fields)]
            #[allow(dead_code, reason = "it lends its fields to serde")]
            #shadow
        }
    };
    match side {
        Side::Input => {
            let shadow = head(quote! { ::runbook_sdk::__private::serde::Deserialize });
            quote! {
                const _: () = {
                    #shadow

                    impl<'de> ::runbook_sdk::__private::serde::Deserialize<'de> for #name {
                        fn deserialize<D: ::runbook_sdk::__private::serde::Deserializer<'de>>(
                            deserializer: D,
                        ) -> ::core::result::Result<Self, D::Error> {
                            let given = #read;
                            Shadow::deserialize(given).map_err(::runbook_sdk::__private::serde::de::Error::custom)
                        }
                    }
                };
            }
        }
        Side::Output => {
            let shadow = head(quote! { ::runbook_sdk::__private::serde::Serialize });
            quote! {
                const _: () = {
                    #shadow

                    impl ::runbook_sdk::__private::serde::Serialize for #name {
                        fn serialize<S: ::runbook_sdk::__private::serde::Serializer>(
                            &self,
                            serializer: S,
                        ) -> ::core::result::Result<S::Ok, S::Error> {
                            Shadow::serialize(self, serializer)
                        }
                    }
                };
            }
        }
    }
}

/// By its name, as serde does it: a type that is called otherwise is not recognised.
fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Option"))
}

/// `ThisBoot` as `this-boot`.
fn hyphenated(name: &str) -> String {
    let mut word = String::new();
    for (index, c) in name.char_indices() {
        if c.is_ascii_uppercase() && index > 0 {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn mistakes_are_named() {
        let cases: [(DeriveInput, &str); 8] = [
            (parse_quote! { struct A { a: String } }, "needs a doc comment"),
            (parse_quote! { struct A(String); }, "its fields need names"),
            (parse_quote! { struct A<T> { /** x */ a: T } }, "must not be generic"),
            (parse_quote! { enum A { B(String) } }, "hold no fields"),
            (
                parse_quote! { struct A { /** x */ #[input(patern = "x")] a: String } },
                "a field knows `name`, `default`",
            ),
            (parse_quote! { struct A { /** x */ #[input(default = 1 + 1)] a: u8 } }, "a text, a number"),
            (parse_quote! { #[input(one_of("b"))] struct A { /** x */ a: Option<u8> } }, "no field of this name"),
            (parse_quote! { #[input(one_of("a"))] struct A { /** x */ a: u8 } }, "may be left out"),
        ];
        for (item, expect) in cases {
            let error = derive(Side::Input, &item).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error:?} does not say {expect:?}");
        }
    }

    #[test]
    fn only_the_first_paragraph_of_a_comment_is_shown() {
        let item: DeriveInput =
            parse_quote! { #[doc = " One"] #[doc = " line."] #[doc = ""] #[doc = " Mine."] struct A; };
        assert_eq!(doc(&item.attrs), "One line.");
    }

    #[test]
    fn words_have_hyphens() {
        assert_eq!((hyphenated("ThisBoot"), hyphenated("All")), ("this-boot".to_owned(), "all".to_owned()));
    }
}
