//! Cassettes: what a step of a real run asked and was answered, in one file that plugin tests replay without hosts and clusters.
//!
//! A cassette holds what the journal shows in plain, and less: no sealed contents, nothing of other steps, no differences, nothing of what
//! was there before a change. Secrets are names in it, as in the journal; addresses and file contents that a plugin was answered are in it.
//! The user's home is written as `/home/user`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::call::Prior;
use crate::delta::sha256;
use crate::event::{Diff, Event, Instance, PluginPin, Record, VERSION, Verb};
use crate::history::{self, Attempt, History};
use crate::manifest::Manifest;
use crate::plan::{Allow, Step, Uses};

/// The version that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// Bytes: no cassette is larger.
pub const LARGEST: usize = 32 << 20;

/// What stands for the user's home.
const HOME: &str = "/home/user";

/// Characters of a path, as systems have it.
const LONGEST_PATH: usize = 4096;

/// A recorded step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cassette {
    /// Version of the format.
    pub cassette: u32,
    /// The plugin that was recorded.
    pub plugin: PluginPin,
    /// SHA-256 of its manifest as JSON, lower-case hex.
    pub manifest_sha256: String,
    /// Name of the action.
    pub action: String,
    /// Name of the step.
    pub step: String,
    /// Name of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What the step's owner gave.
    pub allow: Allow,
    /// What was asked and answered.
    pub records: Vec<Record>,
}

/// Why there is no cassette.
#[derive(Debug, thiserror::Error)]
pub enum CassetteError {
    /// The step includes a runbook.
    #[error("the step `{0}` includes a runbook: record one of its steps")]
    Includes(String),
    /// Nothing of it was recorded.
    #[error("nothing of the step `{0}` is recorded")]
    Nothing(String),
    /// It is too large.
    #[error("it is larger than {} MiB", LARGEST >> 20)]
    Large,
    /// It is no cassette.
    #[error("it is no cassette: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Of another version.
    #[error("it is a cassette of version {0}, and this program reads version {FORMAT}")]
    Version(u64),
    /// Its records make no sense.
    #[error("its records cannot follow each other: {0}")]
    Records(String),
}

impl Cassette {
    /// Makes one from the journal of a run. `step` is the path of a step in it, `of` what the runbook says of that, `home` the home of the
    /// user who ran it.
    ///
    /// # Errors
    ///
    /// There is nothing to be recorded.
    pub fn record(
        records: &[Record],
        step: &str,
        of: &Step,
        plugin: PluginPin,
        manifest: &Manifest,
        home: &str,
    ) -> Result<Self, CassetteError> {
        let Uses::Action { action, .. } = &of.uses else { return Err(CassetteError::Includes(step.to_owned())) };
        let mut kept = Vec::new();
        for record in records {
            match &record.event {
                // What was taken back later is another story.
                Event::Reopened { verb: Verb::Undo | Verb::Redo | Verb::Done, .. } => break,
                Event::RunStarted { .. } | Event::Reopened { .. } => {}
                event if instance(event).is_some_and(|instance| instance.is_of(step)) => {}
                _ => continue,
            }
            kept.extend(without_the_rest(record.event.clone()).map(|event| (record.at, event)));
        }
        if !kept.iter().any(|(_, event)| matches!(event, Event::StepStarted { .. })) {
            return Err(CassetteError::Nothing(step.to_owned()));
        }
        let numbered = (1..).zip(kept).map(|(seq, (at, event))| Record { seq, at, event }).collect();
        let cassette = Self {
            cassette: FORMAT,
            plugin,
            manifest_sha256: manifest_digest(manifest),
            action: action.clone(),
            step: step.to_owned(),
            cluster: of.cluster.clone(),
            allow: of.allow.clone(),
            records: numbered,
        };
        let mut plain = serde_json::to_value(&cassette)?;
        if home.len() > 1 {
            replace(&mut plain, home.trim_end_matches('/'));
        }
        Ok(serde_json::from_value(plain)?)
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// It is none, or of another version.
    pub fn read(text: &str) -> Result<Self, CassetteError> {
        if text.len() > LARGEST {
            return Err(CassetteError::Large);
        }
        let value: Value = serde_json::from_str(text)?;
        match value["cassette"].as_u64() {
            Some(version) if version != u64::from(FORMAT) => Err(CassetteError::Version(version)),
            _ => Ok(serde_json::from_value(value)?),
        }
    }

    /// The text of its file.
    ///
    /// # Errors
    ///
    /// It is too large.
    pub fn text(&self) -> Result<String, CassetteError> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        if text.len() > LARGEST { Err(CassetteError::Large) } else { Ok(text) }
    }

    /// What was recorded, attempt by attempt, and all of it.
    ///
    /// # Errors
    ///
    /// The records make no sense.
    pub fn attempts(&self) -> Result<(Vec<Attempt>, History), CassetteError> {
        let attempts = history::attempts(self.records.iter().cloned()).map_err(CassetteError::Records)?;
        let history = History::of(self.records.iter().cloned());
        Ok((attempts, history.map_err(|error| CassetteError::Records(error.to_string()))?))
    }
}

/// What a manifest is pinned by.
pub fn manifest_digest(manifest: &Manifest) -> String {
    sha256(&serde_json::to_vec(manifest).unwrap_or_default())
}

fn instance(event: &Event) -> Option<Instance> {
    serde_json::to_value(event).ok().and_then(|event| serde_json::from_value(event["instance"].clone()).ok())
}

/// An event without what a replay does not need.
fn without_the_rest(event: Event) -> Option<Event> {
    Some(match event {
        Event::Log { .. }
        | Event::Progress { .. }
        | Event::Drilled { .. }
        | Event::TookOver { .. }
        | Event::Confirmed { .. } => return None,
        Event::RunStarted { verb, .. } => Event::RunStarted {
            run: "cassette".to_owned(),
            version: VERSION.to_owned(),
            program: String::new(),
            verb,
            runbook: String::new(),
            file: String::new(),
            sha256: String::new(),
            steps: Vec::new(),
            plugins: Vec::new(),
            inputs: json!({}),
            pid: 0,
            boot_id: String::new(),
            rto_ms: None,
        },
        Event::Reopened { verb, session, .. } => Event::Reopened {
            verb,
            session,
            program: String::new(),
            sha256: String::new(),
            steps: Vec::new(),
            plugins: Vec::new(),
            edits: Vec::new(),
            force: false,
            pid: 0,
            boot_id: String::new(),
        },
        Event::Looked { instance, call, request, response, .. } => {
            Event::Looked { instance, call, request, response, elapsed_us: 0, kept: None }
        }
        Event::Intended { instance, call, request, jail, undoes, .. } => {
            let diff = Diff { summary: String::new(), text: None };
            Event::Intended { instance, call, request, prior: Prior::None, diff, jail, undoes, kept: None }
        }
        Event::Deferred { instance, call, request, jail, .. } => {
            Event::Deferred { instance, call, request, jail, kept: None }
        }
        event => event,
    })
}

/// Writes the home of somebody as that of anybody, keys included.
fn replace(value: &mut Value, home: &str) {
    match value {
        Value::String(text) if text.contains(home) => *text = anybodys(text, home),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, home)),
        Value::Object(map) => {
            if map.keys().any(|key| key.contains(home)) {
                *map = std::mem::take(map).into_iter().map(|(key, value)| (anybodys(&key, home), value)).collect();
            }
            map.values_mut().for_each(|item| replace(item, home));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A text with another home in it. Paths that only have the same letters in them, such as `/rootfs` and `/srv/root`, stay: what the plugin's
/// manifest asks for is not rewritten either.
fn anybodys(text: &str, home: &str) -> String {
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for (at, _) in text.match_indices(home) {
        let (before, after) = (&text[..at], &text[at + home.len()..]);
        let of_path = |c: &char| c.is_alphanumeric() || "._-/".contains(*c);
        let path: String = before.chars().rev().take(LONGEST_PATH).take_while(of_path).collect();
        let is_deeper = path.ends_with('/') && path.contains(|c| c != '/');
        let mut next = after.chars();
        let is_longer = match next.next() {
            // Not the end of a sentence.
            Some('.') => next.next().is_some_and(char::is_alphanumeric),
            Some(c) => c.is_alphanumeric() || "_-".contains(c),
            None => false,
        };
        if !is_deeper && !is_longer {
            out.push_str(&text[done..at]);
            out.push_str(HOME);
            done = at + home.len();
        }
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_and_nothing_that_looks_like_it() {
        for (text, home, wanted) in [
            ("/home/ann/.kube/config", "/home/ann", "/home/user/.kube/config"),
            ("/home/ann", "/home/ann", "/home/user"),
            ("PATH=/home/ann/bin:/home/ann/.local/bin", "/home/ann", "PATH=/home/user/bin:/home/user/.local/bin"),
            ("-I/home/ann/include file:///home/ann/x", "/home/ann", "-I/home/user/include file:///home/user/x"),
            ("It is in /home/ann. Or in \"/home/ann\"?", "/home/ann", "It is in /home/user. Or in \"/home/user\"?"),
            ("/home/annette/x /home/ann-2 /home/ann.old", "/home/ann", "/home/annette/x /home/ann-2 /home/ann.old"),
            ("/rootfs/etc /root/x /srv/root/x", "/root", "/rootfs/etc /home/user/x /srv/root/x"),
            ("/home/änn/ö", "/home/änn", "/home/user/ö"),
            ("/roots", "/root", "/roots"),
        ] {
            assert_eq!(anybodys(text, home), wanted);
        }
    }
}
