//! Where runs are killed to see whether they go on.

use std::collections::BTreeMap;

use runbook_model::event::{Event, Record};

use crate::env::TestEnv;

/// Set to have runs killed at all of their records, not at some.
const EVERY_CUT: &str = "RUNBOOK_SOAK_EVERY_CUT";

/// Whether runs are to be killed at all of their records, which takes hours.
pub fn every_cut() -> bool {
    std::env::var_os(EVERY_CUT).is_some()
}

/// The records of an undisturbed run after which others are killed, as `--drill-kill` takes them: one of each kind of event and of
/// each step's changes, and two that nobody chose; all of them where [`every_cut`].
pub fn cuts(records: &[Record]) -> Vec<String> {
    let last = records.len() as u64;
    let mut chosen: Vec<u64> = if every_cut() { (1..last).collect() } else { by_kind(records).into_values().collect() };
    let seed = u64::from(std::process::id());
    chosen.extend([seed * 31, seed * 17].iter().map(|n| 2 + n % (last - 2)));
    chosen.sort_unstable();
    chosen.dedup();
    chosen.into_iter().filter(|record| *record < last).map(|record| format!("@{record}")).collect()
}

fn by_kind(records: &[Record]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for record in records {
        let value = serde_json::to_value(&record.event).expect("an event is JSON");
        let step = value.pointer("/instance/step").map(ToString::to_string).unwrap_or_default();
        let kind = match &record.event {
            Event::Intended { .. } | Event::Changed { .. } => format!("{} {step}", value["kind"]),
            _ => value["kind"].to_string(),
        };
        kinds.entry(kind).or_insert(record.seq);
    }
    kinds
}

impl TestEnv {
    /// Runs `exec` with these arguments, which is killed at the cut, and then `resume`. False where the run had come to its end before:
    /// on a busy machine answers come in another order, and fewer things are said on the way.
    ///
    /// # Panics
    ///
    /// When it was not killed, or did not go on.
    pub fn cut_and_resume(&self, exec: &[&str], cut: &str) -> bool {
        let killed = self.run(&[exec, &["--drill-kill", cut]].concat());
        assert_eq!(killed.signal, Some(9), "{cut}: {killed}");
        let out = self.run(&["resume"]);
        let ended = out.stderr.contains("came to its end");
        assert!(ended || out.code == Some(0), "{cut}: {out}");
        !ended
    }

    /// The journal of the latest run.
    ///
    /// # Panics
    ///
    /// When there is none, or none that can be read.
    pub fn journal(&self) -> Vec<Record> {
        let text = std::fs::read_to_string(self.last_run().join(runbook_model::journal::FILE));
        runbook_model::journal::decode(&text.expect("a run has a journal")).unwrap_or_else(|error| panic!("{error}"))
    }
}
