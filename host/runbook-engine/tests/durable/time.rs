//! Hours that pass in milliseconds: timeouts, pauses between attempts, hosts that are waited for, proofs that grow old, leases that end.

use std::sync::Arc;
use std::time::Duration;

use runbook_engine::clock;
use runbook_engine::journal::Watcher;
use runbook_model::event::{Event, Record, RunOutcome, StepOutcome, Verb};
use runbook_model::journal;
use runbook_world::World;

use super::programs::world;
use super::{How, Run, in_a_folder, runbook};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn fit(more: &str) -> String {
    format!("[[step]]\nid = \"a\"\nuses = \"t/fit\"\non = \"n1\"\nwith = {{ name = \"a\", burns = true }}\n{more}\n")
}

fn events(run: &Run<'_>) -> Vec<Event> {
    let text = std::fs::read_to_string(run.folder.join(journal::FILE)).expect("a journal");
    journal::decode(&text).expect("a journal that can be read").into_iter().map(|record| record.event).collect()
}

/// How the instances of a step ended that did not end well, in order: outcome, reason, and time.
fn ends(run: &Run<'_>, step: &str) -> Vec<(StepOutcome, String, Duration)> {
    let end = |event| match event {
        Event::StepFinished { instance, outcome, reason, elapsed_ms, .. } if instance.step == step => {
            Some((outcome, reason.unwrap_or_default(), Duration::from_millis(elapsed_ms)))
        }
        _ => None,
    };
    events(run).into_iter().filter_map(end).collect()
}

fn retries(run: &Run<'_>) -> Vec<Duration> {
    let retry = |event| match event {
        Event::Retrying { after_ms, .. } => Some(Duration::from_millis(after_ms)),
        _ => None,
    };
    events(run).into_iter().filter_map(retry).collect()
}

async fn go(run: &Run<'_>, verb: Verb) -> RunOutcome {
    run.go(verb, None).await.expect("the journal is written").outcome
}

#[tokio::test(start_paused = true)]
async fn a_step_waits_for_what_comes_and_no_longer_than_it_may() {
    // What it waits for comes after ten minutes.
    for (timeout, outcome, time) in [("1h", RunOutcome::Succeeded, 10 * MINUTE), ("5m", RunOutcome::Failed, 5 * MINUTE)]
    {
        let runbook = runbook("", &fit(&format!("timeout = \"{timeout}\"")));
        in_a_folder(world(), &runbook, async |run| {
            assert_eq!(go(&run, Verb::Exec).await, outcome);
            let (_, reason, took) = ends(&run, "a").remove(0);
            assert!((time..time + MINUTE).contains(&took), "{took:?}: {reason}");
            assert_eq!(reason.contains("time is over"), outcome == RunOutcome::Failed, "{reason}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_grow_up_to_an_hour() {
    let shop = |attempts: u32, backoff: &str| {
        format!(
            "[[step]]\nid = \"shop\"\nuses = \"t/fitshop\"\ncluster = \"c\"\n\
             retry = {{ attempts = {attempts}, backoff = \"{backoff}\" }}\n"
        )
    };
    let minutes = |all: &[u32]| all.iter().map(|minutes| *minutes * MINUTE).collect::<Vec<_>>();
    for (attempts, backoff, hours, wanted, outcome) in [
        (3, "20m", 1, minutes(&[20, 40]), RunOutcome::Succeeded),
        (3, "20m", 2, minutes(&[20, 40]), RunOutcome::Failed),
        (6, "20m", 3, minutes(&[20, 40, 60, 60]), RunOutcome::Succeeded),
        (3, "2h", 1, minutes(&[120]), RunOutcome::Succeeded),
    ] {
        let runbook = runbook("", &shop(attempts, backoff));
        in_a_folder(world(), &runbook, async |run| {
            let end = clock::now() + hours * HOUR;
            run.world.power().outages.insert("c".into(), (500, end - MINUTE));
            assert_eq!(go(&run, Verb::Exec).await, outcome, "{attempts} {backoff} {hours}");
            assert_eq!(retries(&run), wanted, "{attempts} {backoff} {hours}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_is_waited_for() {
    for (hours, outcome) in [(5, RunOutcome::Succeeded), (7, RunOutcome::Failed)] {
        let runbook = runbook("", &fit("on_unreachable = \"wait\"\ntimeout = \"6h\""));
        in_a_folder(world(), &runbook, async |run| {
            let end = clock::now() + hours * HOUR;
            run.world.power().outages.insert("n1".into(), (503, end));
            assert_eq!(go(&run, Verb::Exec).await, outcome);
            let (outcome, reason, took) = ends(&run, "a").remove(0);
            let patience = hours.min(6) * HOUR;
            assert!((patience..patience + 15 * MINUTE).contains(&took), "{outcome:?} after {took:?}: {reason}");
        })
        .await;
    }
}

/// To wait for a host is no attempt: however long it took, the step is tried again as often as its owner said.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_host_uses_up_no_attempts() {
    let runbook =
        runbook("", &fit("on_unreachable = \"wait\"\ntimeout = \"6h\"\nretry = { attempts = 2, backoff = \"1m\" }"));
    in_a_folder(world(), &runbook, async |run| {
        let now = clock::now();
        run.world.power().outages.insert("n1".into(), (503, now + HOUR));
        let world = std::sync::Arc::clone(&run.world);
        // Then it refuses for half a minute, and is well.
        let refuses = tokio::spawn(async move {
            tokio::time::sleep(HOUR - Duration::from_secs(1)).await;
            world.power().outages.insert("n1".into(), (500, now + HOUR + MINUTE / 2));
        });
        assert_eq!(go(&run, Verb::Exec).await, RunOutcome::Succeeded, "{:?}", ends(&run, "a"));
        refuses.await.expect("it ends");
        assert_eq!(retries(&run).last(), Some(&MINUTE));
    })
    .await;
}

/// A machine that goes away after a change, for ten minutes.
struct GoesAway(Arc<World>, u32);

impl Watcher for GoesAway {
    fn record(&self, record: &Record) {
        if matches!(&record.event, Event::Changed { call, .. } if *call == self.1) {
            self.0.power().outages.insert("n1".into(), (503, clock::now() + 10 * MINUTE));
        }
    }
}

/// What was deferred to the end of a step is not forgotten when the next attempt finds nothing left to do.
#[tokio::test(start_paused = true)]
async fn what_waits_for_the_end_of_a_step_is_carried_out_however_often_it_is_tried() {
    for more in ["retry = { attempts = 3, backoff = \"6m\" }", "on_unreachable = \"wait\""] {
        let runbook = runbook("", &fit(more).replace("burns = true", "waits = false"));
        in_a_folder(world(), &runbook, async |run| {
            // Its last change, before a service is restarted.
            let run = Run { watcher: Some(Arc::new(GoesAway(Arc::clone(&run.world), 7))), ..run };
            assert_eq!(go(&run, Verb::Exec).await, RunOutcome::Succeeded);
            assert!(!retries(&run).is_empty());
            assert_eq!(run.ran().get("n1: restart a"), Some(&1));
            assert!(!run.history().state.holds_targets());
        })
        .await;
    }
}

const PROVEN: &str = r#"
[[step]]
id = "backup"
uses = "t/backup"
on = "n2"
with = { name = "db" }
[[step]]
id = "a"
uses = "t/odd"
on = "n1"
with = { name = "a", burns = true }
needs_receipt = { kind = "backup", subject = "db", max_age = "6h" }
"#;

/// The records of a step's changes in an undisturbed run.
async fn changes(steps: &str, step: &str) -> Vec<u64> {
    let runbook = runbook("", steps);
    in_a_folder(world(), &runbook, async |run| {
        assert_eq!(go(&run, Verb::Exec).await, RunOutcome::Succeeded);
        let events = events(&run);
        let is_change = |event: &Event| matches!(event, Event::Changed { instance, .. } if instance.step == step);
        (1..).zip(events).filter(|(_, event)| is_change(event)).map(|(seq, _)| seq).collect()
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_proof_that_is_too_old_after_a_resume_lets_nothing_begin() {
    let runbook = runbook("", PROVEN);
    let first = changes(PROVEN, "a").await[0];
    for (hours, outcome) in [(5, RunOutcome::Succeeded), (7, RunOutcome::Failed)] {
        in_a_folder(world(), &runbook, async |run| {
            // Before the intent of its first change.
            run.go(Verb::Exec, Some((first - 2, How::Before))).await.expect_err("it is cut off");
            tokio::time::sleep(hours * HOUR).await;
            assert_eq!(go(&run, Verb::Resume).await, outcome);
            let ran = run.ran().keys().any(|line| line.starts_with("n1"));
            assert_eq!(ran, outcome == RunOutcome::Succeeded);
            if outcome == RunOutcome::Failed {
                let reason = ends(&run, "a").remove(0).1;
                assert!(reason.contains("is 420 minutes old"), "{reason}");
            }
        })
        .await;
    }
}

/// A backup is for what there was before the step changed something. In the middle of it a newer one would be of something half done.
#[tokio::test(start_paused = true)]
async fn what_began_under_a_proof_comes_to_its_end_under_it() {
    let runbook = runbook("", PROVEN);
    let all = changes(PROVEN, "a").await;
    for after in all[0]..*all.last().expect("a change") {
        for how in [How::Before, How::After] {
            in_a_folder(world(), &runbook, async |run| {
                run.go(Verb::Exec, Some((after, how))).await.expect_err("it is cut off");
                tokio::time::sleep(70 * HOUR).await;
                assert_eq!(
                    go(&run, Verb::Resume).await,
                    RunOutcome::Succeeded,
                    "cut after {after} {how:?}: {:?}",
                    ends(&run, "a")
                );
                assert!(run.ran().iter().filter(|(line, _)| line.contains("burn")).all(|(_, count)| *count == 1));
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proof_from_the_future_proves_nothing() {
    let runbook = runbook("", PROVEN);
    let first = changes(PROVEN, "a").await[0];
    in_a_folder(world(), &runbook, async |run| {
        let days = |days: i64| days * 24 * 3_600_000;
        run.clock.set_by(days(300));
        run.go(Verb::Exec, Some((first - 2, How::Before))).await.expect_err("it is cut off");
        // The proof is another run's now: this one is taken away, and the clock is right again.
        std::fs::remove_dir_all(run.folder).expect("our own folder");
        run.clock.set_by(-days(300));
        run.world.hang_up();
        let only = Run {
            runbook: &super::runbook("", &PROVEN[PROVEN.rfind("[[step]]").expect("a step")..]),
            receipts: run.receipts.clone(),
            clock: run.clock.clone(),
            world: run.world.clone(),
            folder: run.folder,
            watcher: None,
            name: run.name,
            runs: Arc::clone(&run.runs),
        };
        assert_eq!(go(&only, Verb::Exec).await, RunOutcome::Failed);
        let reason = ends(&only, "a").remove(0).1;
        assert!(reason.contains("in the future"), "{reason}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_outlives_its_run_by_a_quarter_of_an_hour() {
    let steps = fit("");
    let runbook = runbook("", &steps);
    let first = changes(&steps, "a").await[0];
    in_a_folder(world(), &runbook, async |run| {
        run.go(Verb::Exec, Some((first + 1, How::After))).await.expect_err("it is cut off");
        assert!(!run.world.visit("n1", "another", HOUR), "it is still leased to the run");
        tokio::time::sleep(16 * MINUTE).await;
        assert!(run.world.visit("n1", "another", HOUR), "nobody holds it any more");
        let before = run.world.state().done.len();
        assert_eq!(go(&run, Verb::Resume).await, RunOutcome::Failed);
        let (_, reason, _) = ends(&run, "a").remove(0);
        assert!(reason.contains("is leased to the run another"), "{reason}");
        assert_eq!(run.world.state().done.len(), before, "nothing is changed under somebody else's eyes");
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(go(&run, Verb::Resume).await, RunOutcome::Succeeded);
    })
    .await;
}

/// The guest's clock and the report go by the times of the journal.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_set_the_journal_back() {
    let runbook = runbook("", &fit(""));
    in_a_folder(world(), &runbook, async |run| {
        run.go(Verb::Exec, Some((14, How::After))).await.expect_err("it is cut off");
        let clock = run.clock.clone();
        clock.set_by(-5 * 3_600_000);
        let again = tokio::spawn(async move {
            tokio::time::sleep(MINUTE).await;
            clock.set_by(-3_600_000);
        });
        assert_eq!(go(&run, Verb::Resume).await, RunOutcome::Succeeded);
        again.await.expect("it ends");
        let text = std::fs::read_to_string(run.folder.join(journal::FILE)).expect("a journal");
        let times: Vec<u64> = journal::decode(&text).expect("a journal").iter().map(|record| record.at).collect();
        assert!(times.is_sorted(), "{times:?}");
        // The service that it waits for takes ten minutes: nor does the journal stand still.
        assert!(times[times.len() - 1] - times[0] >= 9 * 60 * 1000, "{times:?}");
    })
    .await;
}
