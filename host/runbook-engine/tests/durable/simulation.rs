//! Evenings on which everything goes wrong: calls and answers are lost or take hours, the process is killed again and again and resumed at
//! once or days later, somebody changes their mind and takes back what was done. Each is told by a seed alone. `cargo xtask soak` plays many.

use std::collections::BTreeMap;
use std::time::Duration;

use runbook_engine::clock;
use runbook_engine::run::Undo;
use runbook_model::call::{SourceRef, Target};
use runbook_model::delta::sha256;
use runbook_model::event::{Event, Receipt, RunOutcome, Verb};
use runbook_model::journal;
use runbook_world::{Pace, Weather};
use serde_json::Value;

use super::cuts::STEPS;
use super::programs::{self, world};
use super::{How, Run, in_a_folder, runbook, undo};

/// How many evenings: a hundred, or as many as the environment says.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("RUNBOOK_SOAK_FIRST_SEED").unwrap_or(0);
    first..first + number("RUNBOOK_SOAK_SEEDS").unwrap_or(100)
}

/// After so many sessions the weather is fine.
const STORM: u32 = 25;

/// Of all evenings of a test, for whoever plays many.
#[derive(Default)]
struct Figures {
    evenings: u64,
    sessions: u64,
    cuts: u64,
    virtual_time: Duration,
}

impl Figures {
    #[allow(clippy::print_stderr, reason = "asked for")]
    fn told(&self, test: &str) {
        if std::env::var_os("RUNBOOK_SOAK_SEEDS").is_some() {
            let Self { evenings, sessions, cuts, virtual_time } = self;
            let hours = virtual_time.as_secs() / 3600;
            eprintln!("{test}: {evenings} evenings, {sessions} sessions, {cuts} cuts, {hours} hours of virtual time");
        }
        assert!(self.sessions > 3 * self.evenings, "the evenings are bad: {} sessions", self.sessions);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_comes_to_its_end_through_any_evening() {
    // A block that is undone after a failure does all of it again, which is another test's matter.
    let steps = STEPS.replace("id = \"maintenance\"", "id = \"maintenance\"\non_failure = \"release\"");
    let runbook = runbook("", &steps);
    let (end, ran) = in_a_folder(world(), &runbook, async |run| {
        run.go(Verb::Exec, None).await.expect("the journal is written");
        (run.end(), run.ran())
    })
    .await;
    let once = |mut ran: BTreeMap<String, usize>| {
        // A service may be started once more, and the pause is made anew after it was released.
        ran.retain(|line, _| !line.contains("restart") && !line.contains("resume") && !line.contains("paused"));
        ran
    };
    let mut figures = Figures::default();
    for seed in seeds() {
        let mut weather = Weather::new(seed, 0, false);
        figures.evenings += 1;
        in_a_folder(world(), &runbook, async |run| {
            let began = clock::now();
            for session in 0.. {
                assert!(session < STORM + 5, "seed {seed}: it does not come to its end: {:?}", run.history().stuck);
                // A step that cannot look fails, and begins from its start, which is for its plugin to be fit for; this one is not.
                let crash = evening(&run, &mut weather, session, false).await;
                figures.sessions += 1;
                let verb = if session == 0 { Verb::Exec } else { Verb::Resume };
                let ended = run.go(verb, crash).await;
                figures.cuts += u64::from(ended.is_err());
                assert!(crash.is_some() || ended.is_ok(), "seed {seed}: {ended:?}\n{}", tail(&run));
                let Ok(ended) = ended else { continue };
                assert_ne!(ended.outcome, RunOutcome::Stuck, "seed {seed}: {:?}", run.history().stuck);
                if ended.outcome == RunOutcome::Succeeded {
                    break;
                }
            }
            figures.virtual_time += clock::now() - began;
            settled_down(&run).await;
            assert_eq!(run.end(), end, "seed {seed}");
            assert_eq!(once(run.ran()), once(ran.clone()), "seed {seed}");
            assert!(!run.history().state.holds_targets(), "seed {seed}: {:?}\n{}", run.history().state, tail(&run));
        })
        .await;
    }
    figures.told("to its end");
}

#[tokio::test(start_paused = true)]
async fn whoever_changes_their_mind_gets_back_what_was_there() {
    let runbook = runbook("", undo::STEPS);
    let before = programs::end(&world());
    let mut figures = Figures::default();
    for seed in seeds() {
        figures.evenings += 1;
        let mut weather = Weather::new(!seed, 0, false);
        in_a_folder(world(), &runbook, async |run| {
            let forward = 1 + u32::try_from(weather.below(6)).expect("a small number");
            let mut taken_back = false;
            let began = clock::now();
            for session in 0..STORM + 5 {
                let crash = evening(&run, &mut weather, session, true).await;
                figures.sessions += 1;
                if session < forward {
                    let verb = if session == 0 { Verb::Exec } else { Verb::Resume };
                    let ended = run.go(verb, crash).await;
                    figures.cuts += u64::from(ended.is_err());
                    assert!(crash.is_some() || ended.is_ok(), "seed {seed}: {ended:?}\n{}", tail(&run));
                    continue;
                }
                let undone = run.undo(&Undo::default(), crash).await;
                figures.cuts += u64::from(undone.is_err());
                assert!(crash.is_some() || undone.is_ok(), "seed {seed}: {undone:?}\n{}", tail(&run));
                let Ok((ended, unwound)) = undone else { continue };
                if session < STORM && unwound.stuck.is_some() {
                    continue;
                }
                assert_eq!((ended.outcome, &unwound.stuck), (RunOutcome::Succeeded, &None), "seed {seed}");
                taken_back = true;
                break;
            }
            figures.virtual_time += clock::now() - began;
            assert!(taken_back, "seed {seed}: it does not come to its end: {:?}", run.history().stuck);
            settled_down(&run).await;
            assert_eq!(run.end(), before, "seed {seed}");
            assert!(!run.history().state.holds_targets(), "seed {seed}: {:?}\n{}", run.history().state, tail(&run));
        })
        .await;
    }
    figures.told("taken back");
}

/// What still goes on although nobody hears of it, comes to its end.
async fn settled_down(run: &Run<'_>) {
    let weather = Weather::default();
    run.world.power().weather = weather;
    tokio::time::sleep(Duration::from_secs(4 * 60 * 60)).await;
}

/// The last records, for whoever looks for a mistake.
fn tail(run: &Run<'_>) -> String {
    let text = std::fs::read_to_string(run.folder.join(runbook_model::journal::FILE)).expect("a journal");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(300)..].join("\n")
}

/// What the weather is in a session, and when the process is killed in it.
async fn evening(run: &Run<'_>, weather: &mut Weather, session: u32, looks: bool) -> Option<(u64, How)> {
    if session >= STORM {
        let mut power = run.world.power();
        power.weather = Weather::default();
        power.outages.clear();
        return None;
    }
    let night = Weather::new(weather.below(u64::MAX), 4, looks).at_a_pace(Pace::Swift);
    run.world.power().weather = night;
    // It is resumed at once, or the next day.
    let pause = [0, 60, 24 * 60 * 60][usize::try_from(weather.below(3)).expect("a small number")];
    tokio::time::sleep(Duration::from_secs(weather.below(pause + 1))).await;
    let records = if session == 0 { 0 } else { run.history().records };
    let how = if weather.below(2) == 0 { How::Before } else { How::After };
    let after = records + 1 + weather.below(40);
    (weather.below(3) > 0).then_some((after, how))
}

/// Steps that wait, that have little time, that are tried again, and one that asks for a backup which must not be old.
const TIMED: &str = r#"
[[step]]
id = "backup"
uses = "t/backup"
on = "n2"
with = { name = "db" }
timeout = "30m"
retry = { attempts = 3, backoff = "30s" }
[[step]]
id = "migrate"
uses = "t/fit"
on = "n1"
with = { name = "migrate", burns = true }
needs_receipt = { kind = "backup", subject = "db", max_age = "6h", off_host = true }
timeout = "40m"
retry = { attempts = 2, backoff = "1m" }
on_unreachable = "wait"
[[step]]
id = "beside"
needs = []
uses = "t/fit"
on = "n2"
with = { name = "beside", burns = true }
timeout = "2h"
[[step]]
id = "shop"
needs = ["migrate"]
uses = "t/fitshop"
cluster = "c"
timeout = "30m"
retry = { attempts = 4, backoff = "2m" }
[[step]]
id = "last"
uses = "t/fit"
on = "all"
with = { name = "last", burns = true, waits = false }
timeout = "1h"
on_unreachable = "wait"
"#;

/// The hours of one seed: gives how often it was begun and cut, and asserts where it ends.
async fn hours(run: &Run<'_>, seed: u64, figures: &mut Figures) {
    let mut dice = Weather::new(seed, 0, false);
    let mut below = |end: u64| dice.below(end);
    for session in 0.. {
        assert!(session < STORM + 8, "seed {seed}: it does not come to its end: {}", tail(run));
        let is_storm = session < STORM;
        figures.sessions += 1;
        // Minutes, a quarter of an hour and more, days: leases end, and proofs grow old.
        let pause = [60, 30 * 60, 3 * 24 * 60 * 60][usize::try_from(below(3)).expect("a small number")];
        tokio::time::sleep(Duration::from_secs(below(pause))).await;
        if is_storm && below(3) == 0 {
            let (host, time) = (["n1", "n2", "c"][usize::try_from(below(3)).expect("small")], below(2 * 60 * 60));
            run.world.visit(host, "another", Duration::from_secs(time));
        }
        {
            let mut power = run.world.power();
            power.outages.clear();
            power.weather = match is_storm {
                true => Weather::new(below(u64::MAX), 3, true).at_a_pace(Pace::Slow),
                false => Weather::default(),
            };
        }
        // Somebody sets the clock of the controller, or it does so itself, between two sessions or in one.
        let two_days = 2 * 24 * 60 * 60 * 1000;
        let sets = is_storm && below(4) == 0;
        let (clock, at, by) =
            (run.clock.clone(), below(60 * 60), below(2 * two_days).cast_signed() - two_days.cast_signed());
        let setting = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(at)).await;
            if sets {
                clock.set_by(by);
            }
        });
        let records = if session == 0 { 0 } else { run.history().records };
        let how = if below(2) == 0 { How::Before } else { How::After };
        let after = records + 1 + below(50);
        let crash = (is_storm && below(2) > 0).then_some((after, how));
        let verb = if session == 0 { Verb::Exec } else { Verb::Resume };
        let ended = run.go(verb, crash).await;
        setting.abort();
        figures.cuts += u64::from(ended.is_err());
        assert!(crash.is_some() || ended.is_ok(), "seed {seed}: {ended:?}\n{}", tail(run));
        let Ok(ended) = ended else { continue };
        assert_ne!(ended.outcome, RunOutcome::Stuck, "seed {seed}: {:?}", run.history().stuck);
        if ended.outcome == RunOutcome::Succeeded {
            return;
        }
        let history = run.history();
        let mut reasons = history.past.values().filter_map(|past| past.ended.as_ref()?.reason.as_deref());
        if reasons.any(|reason| reason.contains("it needs a receipt")) {
            // A person makes another backup, as they are told.
            let (path, content) = ("/srv/backup".to_owned(), b"all of it");
            let size = content.len() as u64;
            let place = SourceRef { target: Target::Machine("n2".into()), path, size, sha256: sha256(content) };
            let made_at = run.clock.now_ms();
            let receipt = Receipt { kind: "backup".into(), subject: "db".into(), place, made_at };
            run.receipts.add(&receipt).expect("our own file");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hours_days_and_wrong_clocks_do_not_keep_a_run_from_its_end() {
    let runbook = runbook("", TIMED);
    let (end, ran) = in_a_folder(world(), &runbook, async |run| {
        let ended = run.go(Verb::Exec, None).await.expect("the journal is written");
        assert_eq!(ended.outcome, RunOutcome::Succeeded, "{}", tail(&run));
        (run.end(), run.ran())
    })
    .await;
    let burns = |ran: BTreeMap<String, usize>| -> BTreeMap<String, usize> {
        ran.into_iter().filter(|(line, _)| line.contains("burn")).collect()
    };
    let mut figures = Figures::default();
    for seed in seeds() {
        figures.evenings += 1;
        in_a_folder(world(), &runbook, async |run| {
            let began = clock::now();
            hours(&run, seed, &mut figures).await;
            figures.virtual_time += clock::now() - began;
            settled_down(&run).await;
            assert_eq!(run.end(), end, "seed {seed}");
            assert_eq!(burns(run.ran()), burns(ran.clone()), "seed {seed}: once and no more\n{}", tail(&run));
            assert!(!run.history().state.holds_targets(), "seed {seed}: {:?}\n{}", run.history().state, tail(&run));
            in_order(&run);
        })
        .await;
    }
    figures.told("hours");
}

/// The times of a journal never go back, whatever becomes of the clock.
fn in_order(run: &Run<'_>) {
    let records = records(run);
    assert!(records.is_sorted_by_key(|record| record.at), "{}", tail(run));
}

fn records(run: &Run<'_>) -> Vec<runbook_model::event::Record> {
    let text = std::fs::read_to_string(run.folder.join(journal::FILE)).expect("a journal");
    journal::decode(&text).expect("a journal that can be read")
}

/// The journal, without what a random key is in.
fn story(run: &Run<'_>) -> Vec<Value> {
    fn scrub(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|key, _| key != "kept" && key != "fingerprint");
                map.values_mut().for_each(scrub);
            }
            Value::Array(items) => items.iter_mut().for_each(scrub),
            _ => {}
        }
    }
    let told = |event: &Event| {
        let mut value = serde_json::to_value(event).expect("JSON");
        scrub(&mut value);
        value
    };
    let records = records(run).into_iter();
    records.map(|record| serde_json::json!([record.seq, record.at, told(&record.event)])).collect()
}

#[tokio::test(start_paused = true)]
async fn a_seed_tells_the_same_story_each_time() {
    let runbook = runbook("", TIMED);
    for seed in seeds().take(20) {
        let once = async || {
            in_a_folder(world(), &runbook, async |run| {
                hours(&run, seed, &mut Figures::default()).await;
                story(&run)
            })
            .await
        };
        let (one, other) = (once().await, once().await);
        let place = one.iter().zip(&other).position(|(one, other)| one != other);
        assert_eq!(place.map(|place| (&one[place], &other[place])), None, "seed {seed}, record {place:?}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
