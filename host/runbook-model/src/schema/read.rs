//! Reading keys out of a tree: each asks for what it expects, and all that is not so is reported.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source, did_you_mean, list, name_help};
use crate::duration;
use crate::schema::node::{Data, Entry, Node};

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place in bytes.
    pub span: Range<usize>,
}

impl<T> Spanned<T> {
    /// The value and its place.
    pub fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }
}

/// A file that is being read, and where its mistakes are gathered.
pub struct Reading<'o> {
    /// The file.
    pub source: Arc<Source>,
    /// The mistakes of all files.
    pub out: &'o RefCell<Vec<Diagnostic>>,
}

impl Reading<'_> {
    /// Reports a mistake at a place of this file.
    pub fn report(&self, span: &Range<usize>, diagnostic: Diagnostic) {
        self.out.borrow_mut().push(diagnostic.at(&self.source, span.clone()));
    }

    /// Reports a value of the wrong kind, unless it was found to be broken before.
    pub fn wrong_type(&self, key: &str, want: &str, node: &Node) {
        if !matches!(node.data, Data::Broken) {
            let message = format!("`{key}` must be {want}, not {}", node.kind());
            self.report(&node.span, Diagnostic::error("wrong-type", message).label(format!("expected {want}")));
        }
    }

    /// A list of strings.
    pub fn texts(&self, key: &str, node: &Node) -> Option<Vec<Spanned<String>>> {
        let Data::List(nodes) = &node.data else {
            self.wrong_type(key, "a list of strings", node);
            return None;
        };
        let mut texts = Vec::new();
        for node in nodes {
            match node.as_str() {
                Some(text) => texts.push(Spanned::new(text.to_owned(), node.span.clone())),
                None => self.wrong_type(key, "a list of strings", node),
            }
        }
        Some(texts)
    }

    /// A string, or a list of strings.
    pub fn text_or_texts(&self, key: &str, node: &Node) -> Option<Vec<Spanned<String>>> {
        match &node.data {
            Data::String(text) => Some(vec![Spanned::new(text.clone(), node.span.clone())]),
            Data::List(_) => self.texts(key, node),
            _ => {
                self.wrong_type(key, "a string or a list of strings", node);
                None
            }
        }
    }

    /// A table that is being read; reports a value that is none.
    pub fn fields<'n>(&self, node: &'n Node, key: &str, what: &'static str) -> Option<Fields<'n, '_>> {
        match &node.data {
            Data::Table(entries) => Some(self.entries(entries, node.span.clone(), what)),
            _ => {
                self.wrong_type(key, "a table", node);
                None
            }
        }
    }

    /// Entries that are being read.
    pub fn entries<'n>(&self, entries: &'n [Entry], span: Range<usize>, what: &'static str) -> Fields<'n, '_> {
        Fields { reading: self, entries, span, what, asked: RefCell::new(Vec::new()) }
    }

    /// Whether a name is an id; reports it where it is not.
    pub fn check_id(&self, what: &str, id: &str, span: &Range<usize>) -> bool {
        if is_id(id) {
            return true;
        }
        let mut help = "ids are lower-case letters, digits and `_`, and begin with a letter".to_owned();
        if id.contains('-') {
            help = "a hyphen would be a minus sign in expressions".to_owned();
        }
        let mut better: String =
            id.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if better.starts_with(|c: char| c.is_ascii_digit()) {
            better.insert(0, 'n');
        }
        if is_id(&better) {
            help = format!("{help}: write `{better}`");
        }
        self.report(span, Diagnostic::error("bad-id", format!("`{id}` cannot be the id of {what}")).help(help));
        false
    }
}

/// Whether a text matches `[a-z][a-z0-9_]*`.
pub fn is_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A table that is being read.
pub struct Fields<'n, 'r> {
    reading: &'r Reading<'r>,
    entries: &'n [Entry],
    /// Where the table begins.
    pub span: Range<usize>,
    what: &'static str,
    asked: RefCell<Vec<&'static str>>,
}

impl<'n> Fields<'n, '_> {
    /// The entry with this key, which is known from now on.
    pub fn entry(&self, key: &'static str) -> Option<&'n Entry> {
        self.asked.borrow_mut().push(key);
        self.entries.iter().find(|e| e.key == key)
    }

    /// The value of a key.
    pub fn node(&self, key: &'static str) -> Option<&'n Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// The value of a key that must be there.
    pub fn required(&self, key: &'static str, help: &str) -> Option<&'n Node> {
        let node = self.node(key);
        if node.is_none() {
            self.missing(key, help);
        }
        node
    }

    /// Reports a key that is not there.
    pub fn missing(&self, key: &str, help: &str) {
        let diagnostic = Diagnostic::error("missing-key", format!("{} needs the key `{key}`", self.what)).help(help);
        self.reading.report(&self.span, diagnostic);
    }

    /// A string.
    pub fn text(&self, key: &'static str) -> Option<Spanned<String>> {
        self.as_text(key, self.node(key)?)
    }

    /// A string that must be there and is not empty.
    pub fn required_text(&self, key: &'static str, help: &str) -> Option<Spanned<String>> {
        let text = self.as_text(key, self.required(key, help)?)?;
        if text.value.is_empty() {
            self.reading.report(&text.span, Diagnostic::error("empty", format!("`{key}` is empty")).help(help));
            return None;
        }
        Some(text)
    }

    fn as_text(&self, key: &str, node: &Node) -> Option<Spanned<String>> {
        match node.as_str() {
            Some(text) => Some(Spanned::new(text.to_owned(), node.span.clone())),
            None => {
                self.reading.wrong_type(key, "a string", node);
                None
            }
        }
    }

    /// True or false.
    pub fn flag(&self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match node.data {
            Data::Bool(flag) => Some(flag),
            _ => {
                self.reading.wrong_type(key, "true or false", node);
                None
            }
        }
    }

    /// A number without fraction within limits.
    pub fn integer(&self, key: &'static str, limits: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let node = self.node(key)?;
        match node.data {
            Data::Integer(number) if limits.contains(&number) => Some(number),
            Data::Integer(number) => {
                let message = format!("`{key}` must be from {} to {}, not {number}", limits.start(), limits.end());
                self.reading.report(&node.span, Diagnostic::error("bad-value", message));
                None
            }
            _ => {
                self.reading.wrong_type(key, "an integer", node);
                None
            }
        }
    }

    /// A duration, in milliseconds.
    pub fn duration(&self, key: &'static str) -> Option<u64> {
        const HELP: &str = "write a number with a unit, such as \"500ms\", \"5s\", \"10m\" or \"1h30m\"";
        let node = self.node(key)?;
        if let Data::Integer(number) = node.data {
            let message = format!("`{key}` must be a duration in quotes, not a number");
            self.reading.report(
                &node.span,
                Diagnostic::error("wrong-type", message).help(format!("write \"{number}s\" if you mean seconds")),
            );
            return None;
        }
        let text = self.as_text(key, node)?;
        match duration::parse(&text.value) {
            Ok(ms) => Some(ms),
            Err(wrong) => {
                let message = format!("`{key}`: \"{}\" {wrong}", text.value);
                self.reading.report(&text.span, Diagnostic::error("bad-duration", message).help(HELP));
                None
            }
        }
    }

    /// One of some words.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        self.pick(key, &text, words)
    }

    /// What a word stands for.
    pub fn pick<T: Copy>(&self, key: &str, text: &Spanned<String>, words: &[(&'static str, T)]) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help = match did_you_mean(&text.value, names.iter().copied()) {
            Some(best) => format!("did you mean \"{best}\"?"),
            None => format!("it is one of {}", list(&names)),
        };
        let message = format!("`{key}` cannot be \"{}\"", text.value);
        self.reading.report(&text.span, Diagnostic::error("bad-value", message).help(help));
        None
    }

    /// A list of strings.
    pub fn texts(&self, key: &'static str) -> Option<Vec<Spanned<String>>> {
        self.reading.texts(key, self.node(key)?)
    }

    /// The entries of a table of tables, such as `[hosts.NAME]`; keys that are no ids are reported and left out.
    pub fn named(&self, key: &'static str, what: &str) -> Vec<&'n Entry> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let Data::Table(entries) = &node.data else {
            self.reading.wrong_type(key, "a table", node);
            return Vec::new();
        };
        entries.iter().filter(|e| self.reading.check_id(what, &e.key, &e.key_span)).collect()
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        let known = self.asked.borrow();
        for entry in self.entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            let diagnostic = Diagnostic::error("unknown-key", format!("{} has no key `{}`", self.what, entry.key))
                .maybe_help(name_help(&entry.key, "keys", known.iter().copied()));
            self.reading.report(&entry.key_span, diagnostic);
        }
    }
}
