//! `[plugins]` and `[packs]` of version 1, as they are written.

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::pack_source::PackSource;
use crate::schema::node::{Data, Entry, Node};
use crate::schema::read::{Fields, Reading, Spanned};

/// A name, and the path or source that stands behind it.
pub type Named = (Spanned<String>, Spanned<String>);

const NAME_HELP: &str = "lower-case letters, digits, `-` and `_`";

/// A pack as it is written.
#[derive(Debug)]
pub struct Pack {
    /// Its name in the runbook.
    pub name: Spanned<String>,
    /// Where it comes from.
    pub source: Spanned<String>,
    /// Plugins of it that have another name in the runbook: their own names, and those.
    pub rename: Vec<Named>,
}

/// Reads `[plugins]`.
pub fn read_plugins(r: &Reading<'_>, f: &Fields<'_, '_>) -> Vec<Named> {
    let path = |entry: &Entry| text(r, &entry.key, "the path of a component", &entry.value);
    named(r, f, "plugins", "a plugin", |entry, name| Some((name, path(entry)?)))
}

/// Reads `[packs]`.
pub fn read_packs(r: &Reading<'_>, f: &Fields<'_, '_>) -> Vec<Pack> {
    named(r, f, "packs", "a pack", |entry, name| match &entry.value.data {
        Data::Table(entries) => {
            let f = r.entries(entries, entry.value.span.clone(), "a pack");
            let source = f.required("source", "source = \"NAME:VERSION\", or the path of a pack");
            let source = source.and_then(|node| read_source(r, "source", node));
            let rename = renamed(r, &f);
            f.finish();
            Some(Pack { name, source: source?, rename })
        }
        _ => Some(Pack { name, source: read_source(r, &entry.key, &entry.value)?, rename: Vec::new() }),
    })
}

/// The plugins of a pack that get another name.
fn renamed(r: &Reading<'_>, f: &Fields<'_, '_>) -> Vec<Named> {
    named(r, f, "rename", "a plugin", |entry, itself| {
        let name = text(r, &entry.key, "the name of a plugin", &entry.value)?;
        if is_name(&name.value) {
            return Some((itself, name));
        }
        let message = format!("`{}` cannot be the name of a plugin", name.value);
        r.report(&name.span, Diagnostic::error("bad-id", message).help(NAME_HELP));
        None
    })
}

/// The new names of a table under `rename`, wrong ones left out: for who looks at a file before it is checked.
pub fn rename_of(pack: &Node) -> BTreeMap<String, String> {
    let entries = pack.entry("rename").and_then(|entry| entry.value.as_table()).unwrap_or_default();
    let texts = entries.iter().filter_map(|entry| Some((entry.key.clone(), entry.value.as_str()?.to_owned())));
    texts.filter(|(_, name)| is_name(name)).collect()
}

fn read_source(r: &Reading<'_>, key: &str, node: &Node) -> Option<Spanned<String>> {
    let source = text(r, key, "the source of a pack", node)?;
    match PackSource::parse(&source.value) {
        Ok(_) => Some(source),
        Err(wrong) => {
            r.report(&source.span, Diagnostic::error("bad-value", wrong.to_string()).help(wrong.help));
            None
        }
    }
}

/// Whether a plugin or a pack can be called so.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

/// What `read` makes of the entries of a table whose keys are names.
fn named<T>(
    r: &Reading<'_>,
    f: &Fields<'_, '_>,
    key: &'static str,
    what: &str,
    read: impl Fn(&Entry, Spanned<String>) -> Option<T>,
) -> Vec<T> {
    let Some(node) = f.node(key) else { return Vec::new() };
    let Data::Table(entries) = &node.data else {
        r.wrong_type(key, "a table", node);
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in entries {
        if is_name(&entry.key) {
            all.extend(read(entry, Spanned::new(entry.key.clone(), entry.key_span.clone())));
        } else {
            let message = format!("`{}` cannot be the name of {what}", entry.key);
            r.report(&entry.key_span, Diagnostic::error("bad-id", message).help(NAME_HELP));
        }
    }
    all
}

/// A text that is not empty.
fn text(r: &Reading<'_>, key: &str, what: &str, node: &Node) -> Option<Spanned<String>> {
    match node.as_str() {
        Some(text) if !text.is_empty() => Some(Spanned::new(text.to_owned(), node.span.clone())),
        Some(_) => {
            r.report(&node.span, Diagnostic::error("empty", format!("{what} is empty")));
            None
        }
        None => {
            r.wrong_type(key, what, node);
            None
        }
    }
}
