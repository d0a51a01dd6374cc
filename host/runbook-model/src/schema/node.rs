//! A TOML document as an owned tree in which every value and key knows its place.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};
use toml::Spanned as TomlSpanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Source};

/// A value and its place in bytes.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it stands; for a `[table]` its header.
    pub span: Range<usize>,
    /// What it is.
    pub data: Data,
}

/// What a value is.
#[derive(Debug, Clone)]
pub enum Data {
    /// A string.
    String(String),
    /// A number without fraction.
    Integer(i64),
    /// A number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A date or time, as it is written.
    Date(String),
    /// A list.
    List(Vec<Node>),
    /// A table, in the order of the file.
    Table(Vec<Entry>),
    /// A value that could not be read; that was reported already.
    Broken,
}

/// A key of a table, and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where it stands.
    pub key_span: Range<usize>,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The kind of value, with its article.
    pub fn kind(&self) -> &'static str {
        match &self.data {
            Data::String(_) => "a string",
            Data::Integer(_) => "an integer",
            Data::Float(_) => "a float",
            Data::Bool(_) => "a boolean",
            Data::Date(_) => "a date",
            Data::List(_) => "a list",
            Data::Table(_) => "a table",
            Data::Broken => "nothing",
        }
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entries, if it is a table.
    pub fn as_table(&self) -> Option<&[Entry]> {
        match &self.data {
            Data::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entry of a table with this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_table()?.iter().find(|e| e.key == key)
    }

    /// As JSON. Dates become strings.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::String(text) | Data::Date(text) => Value::String(text.clone()),
            Data::Integer(number) => Value::from(*number),
            Data::Float(number) => Value::from(*number),
            Data::Bool(flag) => Value::Bool(*flag),
            Data::List(nodes) => Value::Array(nodes.iter().map(Self::to_json).collect()),
            Data::Table(entries) => Value::Object(table_to_json(entries)),
            Data::Broken => Value::Null,
        }
    }

    /// The nearest node at or above a JSON pointer.
    pub fn at(&self, pointer: &str) -> &Self {
        let mut node = self;
        for raw in pointer.split('/').skip(1) {
            let key = raw.replace("~1", "/").replace("~0", "~");
            let next = match &node.data {
                Data::Table(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.value),
                Data::List(nodes) => key.parse::<usize>().ok().and_then(|i| nodes.get(i)),
                _ => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        node
    }

    /// Calls `visit` with each string in it and the JSON pointer to it.
    pub fn strings<'n>(&'n self, pointer: &str, visit: &mut dyn FnMut(&str, &'n Self, &'n str)) {
        match &self.data {
            Data::String(text) => visit(pointer, self, text),
            Data::List(nodes) => {
                for (i, node) in nodes.iter().enumerate() {
                    node.strings(&format!("{pointer}/{i}"), visit);
                }
            }
            Data::Table(entries) => {
                for entry in entries {
                    entry.value.strings(&join_pointer(pointer, &entry.key), visit);
                }
            }
            _ => {}
        }
    }

    /// Whether something in it could not be read.
    pub fn has_broken(&self) -> bool {
        match &self.data {
            Data::Broken => true,
            Data::List(nodes) => nodes.iter().any(Self::has_broken),
            Data::Table(entries) => entries.iter().any(|e| e.value.has_broken()),
            _ => false,
        }
    }
}

/// A table's entries as JSON.
pub fn table_to_json(entries: &[Entry]) -> Map<String, Value> {
    entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect()
}

/// A JSON pointer, one key deeper.
pub fn join_pointer(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Reads a document: what could be read, and the syntax errors.
pub fn parse(source: &Arc<Source>) -> (Node, Vec<Diagnostic>) {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let mut out: Vec<Diagnostic> = Vec::new();
    let mut broken: Vec<Range<usize>> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        // The parser may say several things of one place; the first is the cause.
        if out.iter().any(|known| known.span == span) {
            continue;
        }
        let diagnostic = Diagnostic::error("syntax", error.message().trim_end()).at(source, span.clone());
        out.push(diagnostic.maybe_help(syntax_help(error.message(), &source.text, span.start)));
        broken.push(span);
    }
    let mut reader = TreeReader { source, broken: &broken, out: &mut out };
    let entries = reader.table(table.get_ref());
    (Node { span: 0..0, data: Data::Table(entries) }, out)
}

fn syntax_help(message: &str, text: &str, offset: usize) -> Option<String> {
    let rest = text.get(offset..).unwrap_or_default();
    if message.contains("must be quoted") {
        let word: String =
            rest.chars().take_while(|c| !c.is_whitespace() && *c != ',' && *c != ']' && *c != '}').collect();
        return Some(if word.is_empty() { "there is no value".to_owned() } else { format!("write \"{word}\"") });
    }
    if message == "duplicate key" {
        return Some(
            "each key may stand once in its table; a further step begins with its own `[[step]]` line".to_owned(),
        );
    }
    None
}

struct TreeReader<'a> {
    source: &'a Arc<Source>,
    broken: &'a [Range<usize>],
    out: &'a mut Vec<Diagnostic>,
}

impl TreeReader<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| Entry {
                key: key.get_ref().to_string(),
                key_span: key.span(),
                value: self.value(value, &key.span()),
            })
            .collect();
        entries.sort_by_key(|e| e.key_span.start);
        entries
    }

    fn value(&mut self, value: &TomlSpanned<DeValue<'_>>, key: &Range<usize>) -> Node {
        let span = value.span();
        let scalar_is_broken =
            || self.broken.iter().any(|b| b.start >= key.start && b.start <= span.end && b.start >= span.start);
        let data = match value.get_ref() {
            DeValue::Table(table) => Data::Table(self.table(table)),
            DeValue::Array(nodes) => Data::List(nodes.iter().map(|n| self.value(n, &n.span())).collect()),
            _ if scalar_is_broken() => Data::Broken,
            DeValue::String(text) => Data::String(text.to_string()),
            DeValue::Boolean(flag) => Data::Bool(*flag),
            DeValue::Datetime(date) => Data::Date(date.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Data::Integer(number),
                Err(_) => self.bad_number(&span),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Data::Float(number),
                _ => self.bad_number(&span),
            },
        };
        Node { span, data }
    }

    fn bad_number(&mut self, span: &Range<usize>) -> Data {
        let diagnostic =
            Diagnostic::error("wrong-type", "this number cannot be used here: it is not finite or too large");
        self.out.push(diagnostic.at(self.source, span.clone()));
        Data::Broken
    }
}
