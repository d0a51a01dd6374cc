//! Journals as the versions wrote them that brought their format out. They stay readable: none of these files is ever changed.

use runbook_model::event::{Event, RunOutcome, StepOutcome, Verb};
use runbook_model::history::{self, History};
use runbook_model::journal;
use runbook_model::report::Report;

fn read(text: &str) -> History {
    let records = journal::decode(text).expect("it can be read");
    assert!(!records.iter().any(|record| matches!(record.event, Event::Unknown)), "each kind is known");
    assert!(!Report::of(records.iter().cloned()).expect("it can be told").steps.is_empty());
    History::of(records).expect("it makes sense")
}

/// A step that was skipped in one session, and begun on its host in another, has two instances.
fn outcome(history: &History, step: &str) -> Option<StepOutcome> {
    let of_step = history.past.iter().filter(|(instance, _)| instance.step == step);
    of_step.filter_map(|(_, past)| past.ended.as_ref()).map(|ended| ended.outcome).max()
}

#[test]
fn a_journal_of_1_0() {
    let history = read(include_str!("journals/1.0.jsonl"));
    assert_eq!((history.verb, history.state.sessions()), (Some(Verb::Exec), 1));
    assert_eq!(history.state.finished(), Some(RunOutcome::Failed));
    assert!(!history.state.holds_targets());
    assert_eq!(outcome(&history, "conf"), Some(StepOutcome::Changed));
    assert_eq!(outcome(&history, "again"), Some(StepOutcome::Unchanged));
    assert_eq!(outcome(&history, "fails"), Some(StepOutcome::Failed));
    let made: Vec<_> = history.in_effect(false).map(|entry| entry.instance.step.as_str()).collect();
    assert_eq!(made, ["fails", "says", "old", "conf", "folder"], "the last one first");
}

#[test]
fn a_journal_of_1_1() {
    let text = include_str!("journals/1.1.jsonl");
    let history = read(text);
    // It was killed, resumed, failed, mended, resumed, taken back to a change that only a person can, and to its beginning after that.
    assert_eq!((history.verb, history.state.sessions()), (Some(Verb::Undo), 6));
    assert_eq!(history.state.finished(), Some(RunOutcome::Succeeded));
    assert!(!history.state.holds_targets() && !history.is_complete());
    assert_eq!(history.in_effect(false).count(), 0);
    assert_eq!(history.receipts.len(), 1);
    // As it was before the undo.
    let records = journal::decode(text).expect("it can be read");
    let undo =
        records.iter().position(|r| matches!(r.event, Event::Reopened { verb: Verb::Undo, .. })).expect("an undo");
    let before = History::of(records[..undo].to_vec()).expect("it makes sense");
    assert!(before.is_complete());
    assert_eq!(before.in_effect(false).count(), 6);
    for step in ["folder", "conf", "old", "says", "inner", "last"] {
        assert_eq!(outcome(&before, step), Some(StepOutcome::Changed), "{step}");
    }
    // `fails` failed, and was begun once more.
    let attempts = history::attempts(records).expect("it makes sense");
    assert_eq!(attempts.iter().filter(|attempt| attempt.instance.step == "fails").count(), 2);
}
