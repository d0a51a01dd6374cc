//! Lines of the journal: what is written is read back, and no secret stands in it in any of its forms.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Act, Answer, Call, CallError, Change, Command, Effect, Exit, FilesLook, KubeAct, Look, Output, Request, Response,
    SshLook, Target,
};
use runbook_model::event::{Event, Instance, Record, VERSION, Verb};
use runbook_model::journal;
use runbook_model::redact::{self, Redactor};
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["plain", "awkward", "lines"];
const VALUES: [&str; 3] = ["hunter22", "s3\"cr\\et\t/\u{e4}", "first line of it\nsecond line of it is longer\n"];

/// It takes longer to make than to use.
static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
    let pairs = NAMES.iter().zip(VALUES).map(|(name, value)| ((*name).to_owned(), value.to_owned()));
    Redactor::new(&pairs.collect::<BTreeMap<_, _>>())
});

/// The forms in which a secret is looked for, and texts that only look a little like one.
fn forms() -> Vec<String> {
    let mut forms =
        vec!["hunter2".to_owned(), "kind".to_owned(), "Secret".to_owned(), "\u{27E6}secret:plain\u{27E7}".to_owned()];
    for value in VALUES {
        let json = Value::String(value.to_owned()).to_string();
        forms.extend([
            value.to_owned(),
            STANDARD.encode(value),
            json[1..json.len() - 1].to_owned(),
            value.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ]);
    }
    forms
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![3 => "[ -~\\n\\t\"\\\\\u{e4}\u{0}]{0,12}", 1 => prop::sample::select(forms())];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        text().prop_map(Value::String),
        any::<i32>().prop_map(Value::from),
        Just(json!({"kind": "Secret", "data": {"a": "b"}}))
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        text().prop_map(|text| Bytes(text.into_bytes())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes)
    ]
}

fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        bytes().prop_map(|bytes| Ok(Answer::Bytes(bytes))),
        text().prop_map(|text| Ok(Answer::Text(text))),
        value().prop_map(|value| Ok(Answer::Object(Some(value)))),
        (bytes(), bytes()).prop_map(|(stdout, stderr)| Ok(Answer::Outputs(vec![Output {
            exit: Exit::Code(0),
            stdout,
            stderr
        }]))),
        text().prop_map(|text| Err(CallError::Failed(text))),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        text().prop_map(|path| Call::Look(Look::Files(FilesLook::Read { path, limit: 1 }))),
        prop::collection::vec(text(), 1..3).prop_map(|argv| {
            let commands = vec![Command { argv, ..Command::default() }];
            Call::Look(Look::Ssh(SshLook::Observe { commands }))
        }),
        value().prop_map(|manifest| {
            let act = Act::Kube(KubeAct::Apply { manifest, force: false });
            Call::Change(Change { act, effect: Effect::default() })
        }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let instance = || Instance { step: "a".to_owned(), host: Some("n1".to_owned()), item: None };
    let request = |call| Request { target: Target::Machine("n1".to_owned()), call };
    prop_oneof![
        (call(), response()).prop_map(move |(call, response)| {
            Event::Looked { instance: instance(), call: 1, request: request(call), response, elapsed_us: 5, kept: None }
        }),
        (call(), text()).prop_map(move |(call, reason)| {
            Event::Denied { instance: instance(), call: 1, request: request(call), reason }
        }),
        value().prop_map(move |value| Event::Baseline { instance: instance(), key: "k".to_owned(), value }),
        prop::collection::vec(text(), 0..3).prop_map(move |left| Event::Checked { instance: instance(), left }),
    ]
}

/// Each record taken apart and put together again, as slowly and surely as can be.
fn by_the_book(record: &Record, redactor: &Redactor) -> (Record, String) {
    let mut value = redactor.json(serde_json::to_value(record).expect("a record"));
    redact::hide_kubernetes_secrets(&mut value);
    let record = serde_json::from_value(value).unwrap_or(Record { event: Event::Unknown, ..*record });
    let line = journal::encode(&record);
    (record, line)
}

fn begun() -> Vec<Event> {
    let started = Event::RunStarted {
        run: "r".into(),
        version: VERSION.into(),
        program: "0.1.0".into(),
        verb: Verb::Exec,
        runbook: "x".into(),
        file: "x.toml".into(),
        sha256: String::new(),
        steps: Vec::new(),
        plugins: Vec::new(),
        inputs: json!({}),
        pid: 1,
        boot_id: String::new(),
        rto_ms: None,
    };
    let instance = Instance { step: "a".into(), host: Some("n1".into()), item: None };
    vec![started, step_started(instance)]
}

proptest! {
    #[test]
    fn what_is_written_quickly_is_what_is_written_surely(event in event(), before in text()) {
        let record = Record { seq: 7, at: 1_700_000_000_000, event };
        let (sure, line) = by_the_book(&record, &REDACTOR);
        let mut lines = before.clone().into_bytes();
        let quick = journal::encode_clean(record.clone(), &REDACTOR, &mut lines);
        prop_assert_eq!(&quick, &sure);
        prop_assert_eq!(String::from_utf8(lines).expect("text"), before + &line);
        let mut again = Vec::new();
        prop_assert_eq!(journal::encode_clean(quick.clone(), &REDACTOR, &mut again), quick);
    }

    #[test]
    fn what_is_written_is_read_back(events in prop::collection::vec(event(), 0..6)) {
        let mut lines = Vec::new();
        let mut written = Vec::new();
        for (index, event) in begun().into_iter().chain(events).enumerate() {
            let record = Record { seq: index as u64 + 1, at: 5, event };
            written.push(journal::encode_clean(record, &REDACTOR, &mut lines));
        }
        let text = String::from_utf8(lines).expect("text");
        prop_assert_eq!(journal::decode(&text), Ok(written));
    }
}

#[test]
fn a_token_that_stood_there_before_gives_no_secret() {
    let answer = Ok(Answer::Text("\u{27E6}secret:awkward\u{27E7} hunter22".to_owned()));
    let (clean, found) = REDACTOR.response(answer);
    assert_eq!(clean, Ok(Answer::Text("\u{27E6}secret:awkward\u{27E7} \u{27E6}secret:plain\u{27E7}".to_owned())));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["plain"]);
}

fn step_started(instance: Instance) -> Event {
    let (inputs, roles, fingerprint) = (serde_json::Value::Null, Vec::new(), String::new());
    Event::StepStarted { instance, attempt: 1, calls: 0, inputs, roles, fingerprint }
}
