//! The journal's lines: a record as JSON, with a checksum.
//!
//! A journal is read by newer programs for ever, and by older ones as far as they understand it: the version of its writer
//! stands in the first record. A line that was cut by a crash is left out; a line in the middle that does not match its
//! checksum is damage, and is refused with the number of the record.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::event::{Event, Record, VERSION};
use crate::redact::{self, Redactor};
use crate::state::State;

/// Name of the journal in the folder of a run.
pub const FILE: &str = "journal.jsonl";

/// Why a journal cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A record in the middle is damaged.
    #[error("record {seq} of the journal is damaged: {why}")]
    Damaged {
        /// Which, counted from 1.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The writer's major version is another one.
    #[error("the journal was written in version {found}, this program reads {VERSION}")]
    Version {
        /// The writer's version.
        found: String,
    },
    /// An event came where it cannot.
    #[error("record {seq} of the journal cannot follow: {why}")]
    Illegal {
        /// Which.
        seq: u64,
        /// Why not.
        why: String,
    },
}

#[derive(Deserialize)]
struct Line<'a> {
    /// The first 8 bytes of the SHA-256 of the record's text, as hex.
    sum: String,
    #[serde(borrow)]
    record: &'a serde_json::value::RawValue,
}

/// What stands in a line before the record's text; the zeros are replaced by its checksum.
const HEAD: &[u8] = b"{\"sum\":\"0000000000000000\",\"record\":";
/// Where in it the checksum stands.
const SUM: std::ops::Range<usize> = 8..24;

/// Bytes that a line has besides what may be large in it, more often than not.
const USUAL: usize = 512;

/// A record as a line of the journal, its newline included.
pub fn encode(record: &Record) -> String {
    let mut line = HEAD.to_vec();
    if serde_json::to_writer(&mut line, record).is_err() {
        line.truncate(HEAD.len());
        line.extend_from_slice(b"null");
    }
    close(&mut line, 0);
    String::from_utf8_lossy(&line).into_owned()
}

/// Puts a record as a line behind `lines`, what a plugin or an error text may have brought of secrets taken out. Gives the record
/// as it was written.
pub fn encode_clean(record: Record, redactor: &Redactor, lines: &mut Vec<u8>) -> Record {
    let start = lines.len();
    lines.reserve(HEAD.len() + record.event.weight() + USUAL);
    lines.extend_from_slice(HEAD);
    let text = lines.len();
    let written = serde_json::to_writer(&mut *lines, &record).is_ok();
    // Nearly no record has one: its text is searched once, and it is taken apart only where there is something.
    if written && !redactor.may_be_in(&lines[text..]) && !redact::may_hold_kubernetes_secret(&lines[text..]) {
        close(lines, start);
        return record;
    }
    lines.truncate(start);
    let record = clean(record, redactor);
    lines.extend_from_slice(encode(&record).as_bytes());
    record
}

fn clean(record: Record, redactor: &Redactor) -> Record {
    cleaned(&record, redactor).unwrap_or(Record { event: Event::Unknown, ..record })
}

/// Something as it stands in a journal: without secrets. None: it cannot be told without them.
pub fn cleaned<T: Serialize + DeserializeOwned>(thing: &T, redactor: &Redactor) -> Option<T> {
    let mut clean = redactor.json(serde_json::to_value(thing).ok()?);
    redact::hide_kubernetes_secrets(&mut clean);
    serde_json::from_value(clean).ok()
}

/// Puts the checksum into the line that begins at `start`, and ends it.
fn close(lines: &mut Vec<u8>, start: usize) {
    let sum = checksum(&lines[start + HEAD.len()..]);
    lines[start + SUM.start..start + SUM.end].copy_from_slice(sum.as_bytes());
    lines.extend_from_slice(b"}\n");
}

fn checksum(text: &[u8]) -> String {
    hex::encode(&Sha256::digest(text)[..8])
}

/// Reads a journal.
///
/// # Errors
///
/// Damage in the middle, another major version, or events in an order that cannot be. A torn tail is no error.
pub fn decode(text: &str) -> Result<Vec<Record>, ReadError> {
    let mut records: Vec<Record> = Vec::new();
    let mut state = State::default();
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let seq = records.len() as u64 + 1;
        let last = lines.peek().is_none();
        let record = match decode_line(line) {
            Ok(record) => record,
            Err(_) if last => break,
            Err(why) => return Err(ReadError::Damaged { seq, why }),
        };
        if record.seq != seq {
            return Err(ReadError::Damaged { seq, why: format!("it says that it is record {}", record.seq) });
        }
        if let Event::RunStarted { version, .. } = &record.event {
            let major = |version: &str| version.split('.').next().map(str::to_owned);
            if major(version) != major(VERSION) {
                return Err(ReadError::Version { found: version.clone() });
            }
        }
        state = state.next(&record.event).map_err(|why| ReadError::Illegal { seq, why })?;
        records.push(record);
    }
    Ok(records)
}

fn decode_line(line: &str) -> Result<Record, String> {
    if !line.ends_with('\n') {
        return Err("it is cut".to_owned());
    }
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if checksum(line.record.get().as_bytes()) != line.sum {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_str(line.record.get()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Instance, RunOutcome, StepOutcome, Summary, Verb};

    fn started() -> Event {
        Event::RunStarted {
            run: "r".into(),
            version: VERSION.into(),
            program: "0.1.0".into(),
            verb: Verb::Exec,
            runbook: "x".into(),
            file: "x.toml".into(),
            sha256: String::new(),
            steps: Vec::new(),
            plugins: Vec::new(),
            inputs: serde_json::json!({}),
            pid: 1,
            boot_id: String::new(),
            rto_ms: None,
        }
    }

    fn journal() -> String {
        let instance = Instance { step: "a".into(), host: None, item: None };
        let events = [
            started(),
            Event::StepStarted {
                instance: instance.clone(),
                attempt: 1,
                calls: 0,
                inputs: serde_json::Value::Null,
                roles: Vec::new(),
                fingerprint: String::new(),
            },
            Event::StepFinished {
                instance,
                outcome: StepOutcome::Unchanged,
                outputs: serde_json::Value::Null,
                reason: None,
                elapsed_ms: 1,
            },
            Event::RunFinished { outcome: RunOutcome::Succeeded, summary: Summary::default(), elapsed_ms: 2 },
        ];
        events.into_iter().enumerate().map(|(i, event)| encode(&Record { seq: i as u64 + 1, at: 0, event })).collect()
    }

    #[test]
    fn every_cut_is_a_torn_tail() {
        let text = journal();
        let all = decode(&text).expect("whole").len();
        for cut in 0..text.len() {
            let records = decode(&text[..cut]).expect("a cut is no damage");
            assert!(records.len() < all || cut == text.len());
        }
    }

    #[test]
    fn damage_in_the_middle_is_refused_with_its_number() {
        let text = journal().replacen("\"attempt\":1", "\"attempt\":2", 1);
        assert!(matches!(decode(&text), Err(ReadError::Damaged { seq: 2, .. })));
    }

    #[test]
    fn a_newer_minor_is_read_and_another_major_refused() {
        let newer = "{\"seq\":2,\"at\":0,\"event\":{\"kind\":\"from_the_future\",\"x\":1}}";
        let first = journal().split_inclusive('\n').next().expect("a line").to_owned();
        let text = format!("{first}{{\"sum\":\"{}\",\"record\":{newer}}}\n", checksum(newer.as_bytes()));
        let records = decode(&text).expect("tolerated");
        assert_eq!(records[1].event, Event::Unknown);

        let first = encode(&Record { seq: 1, at: 0, event: started() });
        let record = first.replace(&format!("\"version\":\"{VERSION}\""), "\"version\":\"2.0\"");
        let record = record.split_once("\"record\":").expect("a record").1.trim_end().strip_suffix('}').expect("end");
        let text = format!("{{\"sum\":\"{}\",\"record\":{record}}}\n", checksum(record.as_bytes()));
        assert_eq!(decode(&text), Err(ReadError::Version { found: "2.0".into() }));
    }

    #[test]
    fn nothing_follows_the_end() {
        let mut text = journal();
        text.push_str(&encode(&Record { seq: 5, at: 0, event: Event::Entered { block: "b".into() } }));
        assert!(matches!(decode(&text), Err(ReadError::Illegal { seq: 5, .. })));
    }
}
