//! How trials are judged, by tables of journals and worlds that nobody ran.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::call::{
    Act, Answer, Call, Change, Command, Effect, FileWant, FilesAct, FilesLook, Look, Prior, Request, SshAct, Target,
    Undo,
};
use runbook_model::event::{Diff, Event, Instance, Record, StepOutcome};
use runbook_world::{Done, How, State, Thing};
use serde_json::Value;

use crate::back::{by_hand, left, notes, touched};
use crate::contained::denied;
use crate::cuts::{irreversible, trial, words};
use crate::evening::{calls, failure, made, short};
use crate::plans::{Step, different, missing, open, proofs};
use crate::{Breach, Judgement, Law, Trouble, judged};

fn of(step: &str) -> Instance {
    Instance { step: step.to_owned(), host: None, item: None }
}

fn n1() -> Target {
    Target::Machine("n1".to_owned())
}

/// A file that is to be gone.
fn file(path: &str) -> Act {
    Act::Files(FilesAct { path: path.to_owned(), want: FileWant::Absent })
}

fn run(program: &str, undo: Undo) -> Act {
    let command = Command { argv: vec![program.to_owned()], ..Command::default() };
    Act::Ssh(SshAct::Run { pipeline: vec![command], done_when: None, undo })
}

fn change(act: &Act, repeats: bool) -> Request {
    let effect = Effect { summary: "as told".to_owned(), repeats, ..Effect::default() };
    Request { target: n1(), call: Call::Change(Change { act: act.clone(), effect }) }
}

fn intended(step: &str, call: u32, act: &Act) -> Event {
    Event::Intended {
        instance: of(step),
        call,
        request: change(act, false),
        prior: Prior::None,
        diff: Diff::default(),
        jail: None,
        undoes: None,
        kept: None,
    }
}

fn undoing(step: &str, call: u32, act: &Act) -> Event {
    match intended(step, call, act) {
        Event::Intended { instance, call, request, prior, diff, .. } => {
            Event::Intended { instance, call, request, prior, diff, jail: None, undoes: Some(1), kept: None }
        }
        other => other,
    }
}

fn planned(step: &str, act: &Act, perhaps: bool) -> Event {
    Event::Planned { instance: of(step), call: 1, request: change(act, false), diff: Diff::default(), perhaps }
}

fn finished(step: &str, outcome: StepOutcome, reason: Option<&str>) -> Event {
    let reason = reason.map(str::to_owned);
    Event::StepFinished { instance: of(step), outcome, outputs: Value::Null, reason, elapsed_ms: 0 }
}

fn journal(events: impl IntoIterator<Item = Event>) -> Vec<Record> {
    (1..).zip(events).map(|(seq, event)| Record { seq, at: 0, event }).collect()
}

#[test]
fn a_plan_is_compared_with_the_work_in_its_order() {
    // A change, what its difference shows, and whether the plan is not sure of it.
    type Told<'a> = &'a [(&'a str, &'a str, bool)];
    let cases: [(Told<'_>, Told<'_>, Option<&str>, Option<&str>); 7] = [
        (&[("/a", "+", false)], &[("/a", "+", false)], None, None),
        (&[], &[], None, None),
        (
            &[("/a", "+", false)],
            &[("/a", "-", false)],
            Some("the difference that the plan shows of `/a` is another"),
            None,
        ),
        (&[("/a", "+", false)], &[], Some("the plan says: /a; apply does not do it"), Some("without a doubt: /a")),
        (&[], &[("/b", "+", false)], Some("apply does what the plan does not say: /b"), None),
        (
            &[("/a", "+", false), ("/b", "+", false)],
            &[("/b", "+", false), ("/a", "+", false)],
            Some("the plan says: /a; apply does: /b"),
            // Where more may change, the order says nothing.
            None,
        ),
        (&[("/a", "+", true)], &[("/b", "+", false)], Some("the plan says: /a; apply does: /b"), None),
    ];
    for (planned, applied, strict, lenient) in cases {
        let acts: BTreeMap<&str, Act> = ["/a", "/b"].map(|path| (path, file(path))).into();
        let diff = |text: &str| Diff { summary: text.to_owned(), text: None };
        let diffs: BTreeMap<&str, Diff> = ["+", "-"].map(|text| (text, diff(text))).into();
        let step = |path: &str, shown: &str, perhaps: bool| Step {
            text: path.to_owned(),
            act: acts.get(path).expect("one of the two"),
            diff: diffs.get(shown).expect("one of the two"),
            perhaps,
        };
        let steps =
            |told: Told<'_>| told.iter().map(|(path, shown, perhaps)| step(path, shown, *perhaps)).collect::<Vec<_>>();
        let (planned, applied) = (steps(planned), steps(applied));
        for (said, expected) in [(different(&planned, &applied), strict), (missing(&planned, &applied), lenient)] {
            let fits = match expected {
                None => said.is_none(),
                Some(expected) => said.as_ref().is_some_and(|said| said.contains(expected)),
            };
            assert!(fits, "{said:?}, and not {expected:?}");
        }
    }
}

#[test]
fn a_plan_that_says_that_it_does_not_know_is_open() {
    for (event, is_open) in [
        (finished("a", StepOutcome::MayChange, None), true),
        (finished("a", StepOutcome::Changed, None), false),
        (planned("a", &file("/a"), true), true),
        (planned("a", &file("/a"), false), false),
    ] {
        let expected: BTreeSet<Instance> = is_open.then(|| of("a")).into_iter().collect();
        assert_eq!(open(&journal([event.clone()])), expected, "{event:?}");
    }
    let records = journal([planned("a", &file("/a"), false), Event::Verifying { instance: of("b") }]);
    assert_eq!((proofs(&records, &of("a")), proofs(&records, &of("b"))), (None, Some(2)));
}

#[test]
fn what_was_left_excuses_what_it_touched() {
    let done = |call: u32, is_undo: bool, path: &str| Done {
        target: n1(),
        act: file(path),
        call: Some((of("a"), call)),
        is_undo,
        touched: [Thing::Path("n1".to_owned(), path.to_owned())].into(),
    };
    let mut state = State::default();
    state.done = vec![done(1, false, "/1"), done(2, false, "/2"), done(2, true, "/3")];
    let leaves = |call: u32| Event::Left { instance: of("a"), call, why: "it cannot be taken back: burnt".to_owned() };
    for (events, excused, said) in [
        (vec![], vec![], 0),
        (vec![intended("a", 1, &file("/1"))], vec![], 0),
        (vec![leaves(2), leaves(2)], vec!["/2"], 1),
        // Harmless to leave, as the change says itself.
        (vec![intended("a", 1, &run("restart", Undo::Harmless))], vec!["/1"], 0),
        (vec![undoing("a", 1, &run("restart", Undo::Harmless))], vec![], 0),
        (vec![Event::Left { instance: of("b"), call: 1, why: String::new() }], vec![], 1),
    ] {
        let records = journal(events);
        let touched: Vec<String> = touched(&state, &left(&records)).iter().map(ToString::to_string).collect();
        let expected: Vec<String> = excused.iter().map(|path| format!("{path} on n1")).collect();
        assert_eq!((touched, notes(&records).len()), (expected, said), "{records:?}");
    }
}

#[test]
fn only_a_change_that_says_so_may_end_with_a_person() {
    let stuck = |call: Option<u32>| Event::Stuck { instance: of("a"), call, why: "no".to_owned(), manual: Vec::new() };
    for (undo, at, expected) in [
        (Undo::ByHand("turn the key".to_owned()), Some(1), Some("turn the key")),
        (Undo::ByHand(String::new()), Some(1), Some("as told")),
        (Undo::ByHand("turn the key".to_owned()), Some(2), None),
        (Undo::ByHand("turn the key".to_owned()), None, None),
        (Undo::Harmless, Some(1), None),
        (Undo::Irreversible("burnt".to_owned()), Some(1), None),
    ] {
        let records = journal([intended("a", 1, &run("x", undo.clone())), stuck(at)]);
        assert_eq!(by_hand(&records).as_deref(), expected, "{undo:?} at {at:?}");
    }
}

#[test]
fn what_cannot_be_taken_back_is_counted() {
    let done = |undo: Undo| Done {
        target: n1(),
        act: run("burn", undo),
        call: None,
        is_undo: false,
        touched: BTreeSet::new(),
    };
    let burnt = || Undo::Irreversible("burnt".to_owned());
    let mut state = State::default();
    state.done = vec![done(burnt()), done(Undo::Harmless), done(burnt())];
    assert_eq!(irreversible(&state), BTreeMap::from([("`burn` on n1".to_owned(), 2)]));
}

#[test]
fn a_cut_has_a_name_and_words() {
    for (how, name, said) in [
        (How::Before, "7:before", "after record 7"),
        (How::After, "7:after", "its answer not heard"),
        (How::During, "7:during", "at work"),
    ] {
        assert_eq!(trial(7, how), name);
        assert!(words((7, how)).contains(said), "{name}");
    }
}

#[test]
fn a_breach_shows_the_last_calls_and_nothing_after_it() {
    let looks = |n: u32| Event::Looked {
        instance: of("a"),
        call: n,
        request: Request { target: n1(), call: Call::Look(Look::Files(FilesLook::Stat { path: format!("/{n}") })) },
        response: Ok(Answer::Unit),
        elapsed_us: 0,
        kept: None,
    };
    let records = journal((1..=30).map(looks));
    for (up_to, first, last) in [(u64::MAX, 19, Some(30)), (20, 9, Some(20)), (3, 1, Some(3)), (0, 0, None)] {
        let shown = calls(&records, up_to);
        let number = |line: Option<&String>| {
            line.and_then(|line| line.strip_prefix("record ")?.split(':').next()?.parse::<u64>().ok())
        };
        assert_eq!((number(shown.first()).unwrap_or_default(), number(shown.last())), (first, last), "{up_to}");
        assert!(shown.len() <= 12);
    }
}

#[test]
fn a_script_is_one_line_with_what_it_was_given() {
    let script = format!("sh -c # Takes an address.\n{}static-ip eth0 free 192.0.2.1 on n1", "true\n".repeat(50));
    let line = short(&script);
    assert!(
        line.starts_with("sh -c # Takes an address. true") && line.ends_with("static-ip eth0 free 192.0.2.1 on n1")
    );
    assert!(line.len() < 150 && !line.contains('\n') && line.contains(" ... "), "{line}");
    assert_eq!(short("write /etc/x on n1"), "write /etc/x on n1");
    assert_eq!(short(&"é".repeat(200)).chars().count(), 145);
}

#[test]
fn the_first_step_that_did_not_end_well_is_the_reason() {
    for (events, expected) in [
        (vec![finished("a", StepOutcome::Changed, None)], None),
        (vec![finished("a", StepOutcome::Skipped, Some("when is false"))], None),
        (
            vec![finished("a", StepOutcome::Failed, Some("no room")), finished("b", StepOutcome::Failed, Some("no"))],
            Some("a: no room"),
        ),
        (vec![finished("a", StepOutcome::Stuck, None)], Some("a: no reason is given")),
    ] {
        assert_eq!(failure(&journal(events)).as_deref(), expected);
    }
}

#[test]
fn a_refusal_is_found_and_an_undo_is_no_change_of_the_plugin() {
    let refused =
        Event::Denied { instance: of("a"), call: 2, request: change(&file("/etc"), false), reason: "no".to_owned() };
    let records = journal([intended("a", 1, &file("/a")), undoing("a", 3, &file("/a")), refused]);
    assert_eq!(made(&records).map(|made| made.call).collect::<Vec<_>>(), [1]);
    let breach = denied(&records).expect("it is there");
    assert!(breach.what.starts_with("a asks for what it is not granted") && breach.calls.len() == 3, "{breach:?}");
    assert_eq!(denied(&records[..2]), None);
}

#[test]
fn what_gives_no_pass_is_told_apart() {
    assert_eq!(judged(Err(Trouble::Unjudged("a gap".to_owned()))), Judgement::Unjudged("a gap".to_owned()));
    assert_eq!(judged(Err(Breach::of("it is broken").into())), Judgement::Broken(Breach::of("it is broken")));
    assert_eq!(judged(Ok(Judgement::holds(3))), Judgement::holds(3));
    for (number, law) in (1..).zip(Law::ALL) {
        assert_eq!((law.number(), Law::numbered(number)), (number, Some(law)));
    }
    assert_eq!((Law::numbered(0), Law::numbered(8)), (None, None));
}
