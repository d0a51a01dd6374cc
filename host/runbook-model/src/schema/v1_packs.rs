//! `[plugins]` and `[packs]` of version 1, as they are written.

use crate::diagnostic::Diagnostic;
use crate::pack_source::PackSource;
use crate::schema::node::Data;
use crate::schema::read::{Fields, Reading, Spanned};

/// A name, and the path or source that stands behind it.
pub type Named = (Spanned<String>, Spanned<String>);

/// Reads `[plugins]`.
pub fn read_plugins(r: &Reading<'_>, f: &Fields<'_, '_>) -> Vec<Named> {
    read(r, f, "plugins", "a plugin", "the path of a component")
}

/// Reads `[packs]`.
pub fn read_packs(r: &Reading<'_>, f: &Fields<'_, '_>) -> Vec<Named> {
    let mut packs = read(r, f, "packs", "a pack", "the source of a pack");
    packs.retain(|(_, source)| match PackSource::parse(&source.value) {
        Ok(_) => true,
        Err(wrong) => {
            r.report(&source.span, Diagnostic::error("bad-value", wrong.to_string()).help(wrong.help));
            false
        }
    });
    packs
}

fn read(r: &Reading<'_>, f: &Fields<'_, '_>, key: &'static str, what: &str, value: &str) -> Vec<Named> {
    let Some(node) = f.node(key) else { return Vec::new() };
    let Data::Table(entries) = &node.data else {
        r.wrong_type(key, "a table", node);
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in entries {
        let name_ok = entry.key.starts_with(|c: char| c.is_ascii_lowercase())
            && entry.key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
        if !name_ok {
            let message = format!("`{}` cannot be the name of {what}", entry.key);
            r.report(
                &entry.key_span,
                Diagnostic::error("bad-id", message).help("lower-case letters, digits, `-` and `_`"),
            );
            continue;
        }
        match entry.value.as_str() {
            Some(text) if !text.is_empty() => all.push((
                Spanned::new(entry.key.clone(), entry.key_span.clone()),
                Spanned::new(text.to_owned(), entry.value.span.clone()),
            )),
            Some(_) => r.report(&entry.value.span, Diagnostic::error("empty", format!("{value} is empty"))),
            None => r.wrong_type(&entry.key, value, &entry.value),
        }
    }
    all
}
