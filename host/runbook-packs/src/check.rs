//! Does a manifest hold together? Every mistake at once.

use std::collections::BTreeSet;

use runbook_model::manifest::{Action, Manifest};
use runbook_model::{duration, size};

use crate::pattern;
pub use crate::pattern::PatternError;
use crate::schema::{Schema, SchemaError};

/// Characters of a name, which stands in every line of the display.
const MAX_NAME: usize = 64;

/// Characters of a summary or a reason: one line.
const MAX_LINE: usize = 500;

/// Actions of a plugin, roles of an action, asks of an action: far more than anybody reads.
const MAX_ITEMS: usize = 200;

/// One mistake in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {wrong}")]
pub struct Mistake {
    /// Where: "action `registry`, ask 2".
    pub place: String,
    /// What.
    pub wrong: Wrong,
}

/// What a manifest can get wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A name that could not be written in a runbook.
    #[error("`{0}` is not a name: use lower-case letters, digits and `{1}`, at most {MAX_NAME}, a letter first")]
    Name(String, char),
    /// A name that stands there twice.
    #[error("the name stands there twice")]
    Twice,
    /// Not a semantic version.
    #[error("`{0}` is not a semantic version such as 1.2.3")]
    Version(String),
    /// Text that a person reads, and that is not one short line.
    #[error("`{0}` must be one line of 1 to {MAX_LINE} characters")]
    Line(&'static str),
    /// Nothing to do.
    #[error("it has no action")]
    NoAction,
    /// More than anybody reads.
    #[error("it has more than {MAX_ITEMS} of `{0}`")]
    TooMany(&'static str),
    /// A schema that is none.
    #[error("`{0}`: {1}")]
    Schema(&'static str, SchemaError),
    /// A limit that is no amount.
    #[error("`limits.{name}`: `{text}` {wrong}")]
    Limit {
        /// Which one.
        name: &'static str,
        /// As it is written.
        text: String,
        /// What is wrong with it.
        wrong: String,
    },
    /// An ask that makes no sense.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Everything that is wrong with a manifest; empty when all is well.
pub fn check(manifest: &Manifest) -> Vec<Mistake> {
    let mut found = Found(Vec::new());
    found.name("plugin", &manifest.name, '-');
    if semver::Version::parse(&manifest.version).is_err() {
        found.add("plugin", Wrong::Version(clip(&manifest.version)));
    }
    found.line("plugin", "summary", &manifest.summary);
    if manifest.actions.is_empty() {
        found.add("plugin", Wrong::NoAction);
    }
    if manifest.actions.len() > MAX_ITEMS {
        found.add("plugin", Wrong::TooMany("action"));
        return found.0;
    }
    let mut names = BTreeSet::new();
    for action in &manifest.actions {
        let place = format!("action `{}`", clip(&action.name));
        if !names.insert(&action.name) {
            found.add(&place, Wrong::Twice);
        }
        check_action(action, &place, &mut found);
    }
    found.0
}

fn check_action(action: &Action, place: &str, found: &mut Found) {
    found.name(place, &action.name, '-');
    found.line(place, "summary", &action.summary);
    for (what, schema) in [("inputs", &*action.inputs), ("outputs", &action.outputs)] {
        if let Err(error) = Schema::compile(schema) {
            found.add(place, Wrong::Schema(what, error));
        }
    }
    check_limits(action, place, found);
    if action.roles.len() > MAX_ITEMS {
        found.add(place, Wrong::TooMany("role"));
    }
    let mut roles = BTreeSet::new();
    for role in action.roles.iter().take(MAX_ITEMS) {
        let place = format!("{place}, role `{}`", clip(&role.name));
        found.name(&place, &role.name, '_');
        if !roles.insert(&role.name) {
            found.add(&place, Wrong::Twice);
        }
        if !role.summary.is_empty() {
            found.line(&place, "summary", &role.summary);
        }
    }
    if action.asks.len() > MAX_ITEMS {
        found.add(place, Wrong::TooMany("ask"));
    }
    for (i, ask) in action.asks.iter().take(MAX_ITEMS).enumerate() {
        let place = format!("{place}, ask {}", i + 1);
        found.line(&place, "reason", &ask.reason);
        if let Some(consequence) = &ask.irreversible {
            found.line(&place, "irreversible", consequence);
        }
        for wrong in pattern::check(action, ask) {
            found.add(&place, wrong.into());
        }
    }
}

/// Whether they are amounts. Whether they are too large is for the host to say, whose ceilings they meet.
fn check_limits(action: &Action, place: &str, found: &mut Found) {
    let limits = &action.limits;
    let sizes = limits.sizes().map(|(name, text)| (name, text.to_owned(), size::parse(text)));
    let counts = limits.counts().map(|(name, count)| (name, count.to_string(), Ok(count)));
    let time = limits.time.iter().map(|text| ("time", text.clone(), duration::parse(text)));
    for (name, text, amount) in sizes.chain(counts).chain(time) {
        let wrong = match amount {
            Ok(0) => "is nothing".to_owned(),
            Ok(_) => continue,
            Err(wrong) => wrong,
        };
        found.add(place, Wrong::Limit { name, text: clip(&text), wrong });
    }
}

struct Found(Vec<Mistake>);

impl Found {
    fn add(&mut self, place: &str, wrong: Wrong) {
        self.0.push(Mistake { place: place.to_owned(), wrong });
    }

    /// Lower-case letters, digits and one joining character, a letter first.
    fn name(&mut self, place: &str, name: &str, join: char) {
        let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == join;
        if name.len() > MAX_NAME || !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(rest) {
            self.add(place, Wrong::Name(clip(name), join));
        }
    }

    fn line(&mut self, place: &str, what: &'static str, text: &str) {
        if text.trim().is_empty() || text.chars().count() > MAX_LINE || text.chars().any(char::is_control) {
            self.add(place, Wrong::Line(what));
        }
    }
}

/// Names go into messages, and those to a terminal.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()
}
