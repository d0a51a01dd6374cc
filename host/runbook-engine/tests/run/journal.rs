//! What the journal promises, and what it costs: how often a run waits for the disk.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use runbook_engine::journal::{Journal, Place, Watcher, create};
use runbook_model::event::{Event, Instance, Record, Verb};
use runbook_model::journal::decode;
use runbook_model::redact::Redactor;

use super::fakes::{begun, step_started};
use super::{Bench, Seen};

fn steps(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, step| {
        let with = format!("{{ path = \"/etc/{step}\", content = \"1\" }}");
        let _ = write!(text, "[[step]]\nid = \"s{step}\"\nuses = \"t/write\"\non = \"all\"\nwith = {with}\n");
        text
    })
}

async fn kept(bench: &Bench, steps: &str) -> super::Ran {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, file) = create(folder.path()).expect("a journal");
    bench.world.state().journal = Some(path.clone());
    *bench.file.lock().expect("sound") = Some((path.clone(), file));
    let ran = bench.exec(steps).await;
    let read = decode(&std::fs::read_to_string(path).expect("it is there")).expect("a journal");
    assert_eq!(read, ran.records, "what is on the disk is what was shown");
    ran
}

#[tokio::test]
async fn a_change_waits_for_the_disk_once_and_what_is_unchanged_never() {
    let bench = Bench::default();
    let first = kept(&bench, &steps(8)).await;
    assert_eq!(bench.done().len(), 16);
    assert!((3..=16 + 2).contains(&first.syncs), "one for each change, the first and the last event: {}", first.syncs);
    let second = kept(&bench, &steps(8)).await;
    assert_eq!(bench.done(), Vec::<String>::new());
    assert_eq!(second.syncs, 2, "the first and the last event");
}

#[tokio::test]
async fn what_is_deferred_waits_for_the_disk_only_where_something_is_changed() {
    let bench = Bench::default();
    let configure =
        "[[step]]\nid = \"c\"\nuses = \"t/configure\"\non = \"n1\"\nwith = { path = \"/etc/x\", content = \"1\" }\n";
    let first = kept(&bench, configure).await;
    assert_eq!(bench.done().len(), 2);
    assert_eq!(first.syncs, 4, "one for each of two changes, the first and the last event");
    let second = kept(&bench, configure).await;
    assert_eq!(second.syncs, 2, "the first and the last event");
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_stops_all() {
    let full = Path::new("/dev/full");
    let seen = Arc::new(Seen::default());
    let file = OpenOptions::new().append(true).open(full).expect("it is there");
    let journal = Journal::new(Some((full.into(), file)), begun(), Redactor::default(), vec![Arc::clone(&seen) as _]);
    let _ = journal.append(started(1), false).await;
    let error = journal.append(started(2), true).await.expect_err("there is no space");
    assert!(error.to_string().contains("/dev/full cannot be written"), "{error}");
    assert!(journal.append(started(3), false).await.is_err(), "nothing goes on after it");
    assert!(journal.append(started(4), true).await.is_err(), "nothing goes on after it");
    journal.settle().await;
    assert_eq!(seen.0.lock().expect("sound").len(), 4, "whoever watches sees all the same");
    assert_eq!(journal.syncs(), 0);
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_soon() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, file) = create(folder.path()).expect("a journal");
    let journal = Journal::new(Some((path.clone(), file)), begun(), Redactor::default(), Vec::new());
    journal.append(started(1), false).await.expect("written");
    journal.tell(started(2));
    let patience = Instant::now() + Duration::from_secs(20);
    while std::fs::read_to_string(&path).expect("it is there").lines().count() < 2 {
        assert!(Instant::now() < patience, "it is not written");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(journal.syncs(), 0);
}

/// Holds the writer at its first record until it is let go.
struct Gate(std::sync::Mutex<mpsc::Receiver<()>>);

impl Watcher for Gate {
    fn record(&self, record: &Record) {
        if record.seq == 1 {
            let _ = self.0.lock().expect("sound").recv();
        }
    }
}

#[tokio::test]
async fn those_who_wait_at_once_share_one_wait_for_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, file) = create(folder.path()).expect("a journal");
    let (go, gate) = mpsc::channel();
    let journal =
        Journal::new(Some((path.clone(), file)), begun(), Redactor::default(), vec![Arc::new(Gate(gate.into()))]);
    let first = tokio::spawn({
        let journal = journal.clone();
        async move { journal.append(started(1), true).await }
    });
    while journal.syncs() < 1 {
        tokio::task::yield_now().await;
    }
    let others = (0..100).map(|number| journal.append(started(number), true));
    let (others, ()) = tokio::join!(futures::future::join_all(others), async {
        // All of them have been appended: they were looked at before this.
        go.send(()).expect("the writer waits");
    });
    let mut told: Vec<Place> = others.into_iter().collect::<Result<_, _>>().expect("written");
    told.insert(0, first.await.expect("no panic").expect("written"));
    assert_eq!(journal.syncs(), 2);
    let text = std::fs::read_to_string(path).expect("it is there");
    let kept: Vec<(u64, u64)> = text.lines().map(place).collect();
    let told: Vec<(u64, u64)> = told.into_iter().map(|place| (place.seq, place.at)).collect();
    assert_eq!(kept, told, "the order and the times are those that were told");
    assert!(kept.is_sorted(), "no event is older than the one before it");
}

struct Broken;

impl Watcher for Broken {
    fn record(&self, _: &Record) {
        panic!("as asked");
    }
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_is_gone() {
    let journal = Journal::new(None, begun(), Redactor::default(), vec![Arc::new(Broken)]);
    let error = journal.append(started(1), true).await.expect_err("its writer panics");
    assert!(error.to_string().contains("its writer has ended"), "{error}");
    journal.settle().await;
    assert!(journal.append(started(2), false).await.is_err());
}

#[tokio::test]
async fn a_run_without_a_journal_waits_for_no_disk() {
    let ran = Bench::default().go(Verb::Plan, &steps(2)).await;
    assert_eq!(ran.syncs, 0);
}

fn started(attempt: u32) -> Event {
    step_started(Instance { step: "a".into(), host: None, item: None }, attempt)
}

/// Number and time of a line's record.
fn place(line: &str) -> (u64, u64) {
    let line: serde_json::Value = serde_json::from_str(line).expect("json");
    let number = |name: &str| line["record"][name].as_u64().expect("a number");
    (number("seq"), number("at"))
}
