//! Rules: what asks and permits come to with the inputs of a step, each of which is a literal in them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::call::ResourceKind;
use crate::duration;
use crate::facet::at_or_below;
use crate::manifest::{Ask, AskReceipt, Pattern, Power};
use crate::plan::{NeedsReceipt, Permit};

use super::Terms;

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) power: Power,
    pub(super) privileged: bool,
    pub(super) irreversible: bool,
    pub(super) argv: Option<Vec<Token>>,
    pub(super) env: Vec<Name>,
    pub(super) path: Option<Path>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<Name>,
    pub(super) name: Option<Name>,
    pub(super) url: Option<Name>,
    /// It refers to an input that was computed from outputs.
    pub(super) computed: bool,
    /// The number of the ask that it was made of.
    pub(super) ask: Option<usize>,
    pub(super) needs_receipt: Option<NeedsReceipt>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Literal(String),
    Prefix(String),
    /// Any one argument that does not begin with `-`.
    One,
    /// Any further arguments.
    Rest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Exact(String),
    Prefix(String),
}

impl Name {
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()) && !climbs(prefix, name),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) top: String,
    pub(super) below: bool,
}

impl Rule {
    /// None where an input that it refers to is not given: then there is nothing to grant.
    pub(super) fn of_ask(ask: &Ask, terms: Terms<'_>) -> Option<Self> {
        let mut rule = Self::build(ask.call, &ask.on, ask.privileged, ask.irreversible.is_some(), terms)?;
        rule.needs_receipt = match &ask.needs_receipt {
            Some(needs) => Some(receipt(needs, terms)?),
            None => None,
        };
        Some(rule)
    }

    /// A permit without a pattern stands for whatever is asked for with this call.
    pub(super) fn of_permit(permit: &Permit, terms: Terms<'_>) -> Vec<Self> {
        if permit.on.is_empty() {
            let asks = terms.action.asks.iter().filter(|ask| ask.call == permit.call);
            return asks
                .filter(|ask| permit.privileged || !ask.privileged)
                .filter_map(|ask| Self::of_ask(ask, terms))
                .collect();
        }
        let mut pattern = permit.on.clone();
        if pattern.env.is_none() {
            // The owner gives a command; with which variables is between the plugin's ask and its inputs.
            pattern.env = Some(vec!["*".to_owned()]);
        }
        Self::build(permit.call, &pattern, permit.privileged, true, terms).into_iter().collect()
    }

    fn build(power: Power, on: &Pattern, privileged: bool, irreversible: bool, terms: Terms<'_>) -> Option<Self> {
        let mut fill = Fill { inputs: terms.inputs, computed_names: terms.computed, computed: false };
        let argv = match &on.argv {
            Some(elements) => Some(fill.argv(elements)?),
            None => None,
        };
        let env = match &on.env {
            Some(names) => fill.names(names)?,
            None => Vec::new(),
        };
        let path = match &on.path {
            Some(path) => Some(fill.path(path)?),
            None => None,
        };
        let mut name = |pattern: &Option<String>| match pattern {
            Some(pattern) => fill.name(pattern).map(Some),
            None => Some(None),
        };
        let namespace = name(&on.namespace)?;
        let object = name(&on.name)?;
        let url = name(&on.url)?;
        Some(Self {
            power,
            privileged,
            irreversible,
            argv,
            env,
            path,
            kind: on.kind.clone(),
            namespace,
            name: object,
            url,
            computed: fill.computed,
            ask: None,
            needs_receipt: None,
        })
    }

    pub(super) fn object_matches(&self, kind: &ResourceKind, namespace: Option<&str>, name: Option<&str>) -> bool {
        let kind_matches = match self.kind.as_deref() {
            None => false,
            Some("*") => true,
            Some(pattern) => {
                let (wanted, group) = pattern.split_once('.').unwrap_or((pattern, ""));
                wanted == kind.kind && group == kind.group
            }
        };
        let namespace_matches = match (&self.namespace, namespace) {
            (None, _) => true,
            (Some(Name::Exact(exact)), None) => exact.is_empty(),
            (Some(Name::Prefix(_)), None) => false,
            (Some(granted), Some(namespace)) => granted.matches(namespace),
        };
        let name_matches = match (&self.name, name) {
            (None, _) => true,
            (Some(granted), Some(name)) => granted.matches(name),
            (Some(_), None) => false,
        };
        kind_matches && namespace_matches && name_matches
    }
}

/// None where an input that it refers to is not given.
fn receipt(needs: &AskReceipt, terms: Terms<'_>) -> Option<NeedsReceipt> {
    let mut fill = Fill { inputs: terms.inputs, computed_names: terms.computed, computed: false };
    let subject = match &needs.subject {
        Some(subject) => match fill.name(subject)? {
            Name::Exact(subject) | Name::Prefix(subject) => Some(subject),
        },
        None => None,
    };
    // An age that cannot be read lets nothing pass.
    let max_age_ms = needs.max_age.as_ref().map(|age| duration::parse(age).unwrap_or(0));
    Some(NeedsReceipt { kind: needs.kind.clone(), subject, max_age_ms, off_host: needs.off_host })
}

/// Puts a step's inputs into patterns, literally: a `*` in a value matches itself.
pub(super) struct Fill<'a> {
    inputs: &'a Value,
    computed_names: &'a BTreeSet<String>,
    computed: bool,
}

impl<'a> Fill<'a> {
    fn input(&mut self, name: &str) -> Option<&'a Value> {
        let top = name.split('.').next().unwrap_or(name);
        if self.computed_names.contains(top) {
            self.computed = true;
        }
        let value = match name.contains('.') {
            true => self.inputs.pointer(&format!("/{}", name.replace('.', "/"))),
            false => self.inputs.get(name),
        };
        value.filter(|value| !value.is_null())
    }

    /// The elements of a list, the keys of a table.
    fn each(&mut self, name: &str) -> Option<Vec<String>> {
        match self.input(name)? {
            Value::Array(items) => items.iter().map(plain).collect(),
            Value::Object(map) => Some(map.keys().cloned().collect()),
            other => Some(vec![plain(other)?]),
        }
    }

    fn argv(&mut self, elements: &[String]) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        for element in elements {
            match whole_reference(element) {
                Some((name, true)) => tokens.extend(self.each(name)?.into_iter().map(Token::Literal)),
                Some((name, false)) => tokens.push(Token::Literal(plain(self.input(name)?)?)),
                None => match element.as_str() {
                    "*" => tokens.push(Token::One),
                    "**" => tokens.push(Token::Rest),
                    _ => match element.strip_suffix('*') {
                        Some(prefix) => tokens.push(Token::Prefix(self.text(prefix)?)),
                        None => tokens.push(Token::Literal(self.text(element)?)),
                    },
                },
            }
        }
        Some(tokens)
    }

    fn names(&mut self, patterns: &[String]) -> Option<Vec<Name>> {
        let mut names = Vec::new();
        for pattern in patterns {
            match whole_reference(pattern) {
                // A table of variables that is not given gives no variables; the command may still run.
                Some((name, true)) => names.extend(self.each(name).unwrap_or_default().into_iter().map(Name::Exact)),
                Some((_, false)) | None => names.push(self.name(pattern)?),
            }
        }
        Some(names)
    }

    fn name(&mut self, pattern: &str) -> Option<Name> {
        match whole_reference(pattern) {
            Some((name, _)) => Some(Name::Exact(plain(self.input(name)?)?)),
            None => match pattern.strip_suffix('*') {
                Some(prefix) => Some(Name::Prefix(self.text(prefix)?)),
                None => Some(Name::Exact(self.text(pattern)?)),
            },
        }
    }

    fn path(&mut self, pattern: &str) -> Option<Path> {
        let (pattern, below) = match pattern.strip_suffix("/**") {
            Some(top) => (top, true),
            None => (pattern, false),
        };
        let text = self.text(pattern)?;
        // `/**` alone is the whole tree.
        let top = if text.is_empty() { "/".to_owned() } else { normal_path(&text)? };
        Some(Path { top, below })
    }

    /// A text with `${input.NAME}` in it.
    fn text(&mut self, pattern: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = pattern;
        while let Some(start) = rest.find("${input.") {
            out.push_str(&rest[..start]);
            let after = &rest[start + "${input.".len()..];
            let end = after.find('}')?;
            out.push_str(&plain(self.input(&after[..end])?)?);
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        Some(out)
    }
}

/// `${input.NAME}` or `${input.NAME...}` and nothing else: the name, and whether each element is meant.
fn whole_reference(pattern: &str) -> Option<(&str, bool)> {
    let name = pattern.strip_prefix("${input.")?.strip_suffix('}')?;
    if name.contains('}') {
        return None;
    }
    Some(match name.strip_suffix("...") {
        Some(name) => (name, true),
        None => (name, false),
    })
}

/// The literal text of a scalar. A secret has none: it cannot be part of a grant.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

impl Path {
    pub(super) fn covers(&self, path: &str) -> bool {
        path == self.top || (self.below && at_or_below(path, &self.top))
    }
}

/// A path without empty and `.` parts; none where it is relative, or has `..` or a NUL in it.
pub fn normal_path(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// Whether a text that begins with a path climbs out of it again by `..`.
fn climbs(prefix: &str, text: &str) -> bool {
    let ups = |parts: &str| parts.split('/').filter(|part| *part == "..").count();
    prefix.rsplit_once('/').is_some_and(|(whole, _)| ups(text) > ups(whole))
}

pub(super) fn argv_matches(tokens: &[Token], argv: &[String]) -> bool {
    let mut arguments = argv.iter();
    for token in tokens {
        if *token == Token::Rest {
            return true;
        }
        let Some(argument) = arguments.next() else { return false };
        let matches = match token {
            Token::Literal(literal) => literal == argument,
            Token::Prefix(prefix) => argument.starts_with(prefix.as_str()) && !climbs(prefix, argument),
            Token::One => !argument.starts_with('-'),
            Token::Rest => true,
        };
        if !matches {
            return false;
        }
    }
    arguments.next().is_none()
}

pub(super) fn shown(argv: &[String]) -> String {
    let text = format!("{argv:?}");
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
