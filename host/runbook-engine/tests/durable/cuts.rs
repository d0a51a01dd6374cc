//! The process ends after every single record, with what is on its way done or not done; then the run is resumed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use runbook_engine::backend::{Runs, Standing};
use runbook_model::event::{Event, RunOutcome, Verb};
use runbook_model::journal;
use runbook_model::plan::Runbook;

use super::programs::{Things, world};
use super::{How, Run, in_a_folder, runbook};

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) const STEPS: &str = r#"
[[step]]
id = "first"
uses = "t/odd"
on = "all"
with = { name = "first", burns = true }
[[step]]
id = "beside"
needs = []
uses = "t/odd"
on = "n1"
with = { name = "beside", list = "/etc/other" }
[[step]]
id = "shop"
uses = "t/shop"
cluster = "c"
with = { name = "shop" }
[[step]]
id = "maintenance"
[[step.do]]
id = "pause"
uses = "t/pause"
on = "n2"
with = { name = "app" }
[[step.do]]
id = "work"
uses = "t/odd"
on = "n2"
with = { name = "work", burns = true }
[[step]]
id = "last"
uses = "t/odd"
on = "n1"
with = { name = "{{ steps.work.outputs.lines }}", burns = true }
"#;

/// Resumes until the run has ended; gives how.
async fn resume(run: &Run<'_>) -> RunOutcome {
    run.go(Verb::Resume, None).await.expect("the journal is written").outcome
}

/// Before the resume: nothing; or another controller was at work everywhere, and is gone; or days went by, and somebody set the clock back.
async fn time_goes_by(run: &Run<'_>, cut: u64) {
    match cut % 3 {
        0 => {}
        1 => {
            tokio::time::sleep(16 * MINUTE).await;
            for target in ["n1", "n2", "c"] {
                assert!(run.world.visit(target, "another", 30 * MINUTE), "nobody holds {target} any more");
            }
            tokio::time::sleep(31 * MINUTE).await;
        }
        _ => {
            tokio::time::sleep(3 * 24 * 60 * MINUTE).await;
            run.clock.set_by(-4 * 24 * 60 * 60 * 1000);
        }
    }
}

async fn undisturbed(runbook: &Runbook) -> (Things, std::collections::BTreeMap<String, usize>, u64) {
    in_a_folder(world(), runbook, async |run| {
        let ended = run.go(Verb::Exec, None).await.expect("the journal is written");
        assert_eq!(ended.outcome, RunOutcome::Succeeded, "{:?}", run.history().past);
        assert!(!run.history().state.holds_targets());
        (run.end(), run.ran(), run.history().records)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cut_off_anywhere_comes_to_the_same_end() {
    let runbook = runbook("", STEPS);
    let (end, ran, records) = undisturbed(&runbook).await;
    assert!(records > 60, "there is something to be cut: {records}");
    for after in 1..=records {
        for how in [How::Before, How::After] {
            in_a_folder(world(), &runbook, async |run| {
                let first = run.go(Verb::Exec, Some((after, how))).await;
                // Steps beside each other come in any order, so a run may be a little shorter.
                if first.is_ok_and(|ended| ended.outcome == RunOutcome::Succeeded) {
                    return;
                }
                time_goes_by(&run, after).await;
                assert_eq!(resume(&run).await, RunOutcome::Succeeded, "cut after record {after}, {how:?}");
                assert_eq!(run.end(), end, "cut after record {after}, {how:?}");
                let mut again = run.ran();
                // A service may be started once more, nothing else.
                again.retain(|line, _| !line.contains("restart") && !line.contains("resume"));
                let mut once = ran.clone();
                once.retain(|line, _| !line.contains("restart") && !line.contains("resume"));
                assert_eq!(again, once, "cut after record {after}, {how:?}");
                assert!(!run.history().state.holds_targets());
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cut_off_again_and_again_comes_to_the_same_end() {
    let runbook = runbook("", STEPS);
    let (end, _, _) = undisturbed(&runbook).await;
    for stride in [12, 17, 30] {
        in_a_folder(world(), &runbook, async |run| {
            let mut after = stride;
            for session in 0..200 {
                let verb = if session == 0 { Verb::Exec } else { Verb::Resume };
                let how = if session % 2 == 0 { How::After } else { How::Before };
                match run.go(verb, Some((after, how))).await {
                    Ok(ended) => {
                        assert_eq!(ended.outcome, RunOutcome::Succeeded);
                        assert_eq!(run.end(), end, "cut after every {stride} records");
                        return;
                    }
                    Err(_) => after = run.history().records + stride,
                }
            }
            panic!("it does not come to its end, cut after every {stride} records");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_program_that_was_cut_off_itself_is_never_run_again_on_a_guess() {
    let runbook = runbook("", STEPS);
    let (end, _, records) = undisturbed(&runbook).await;
    let mut stuck = 0;
    for after in 1..=records {
        in_a_folder(world(), &runbook, async |run| {
            let first = run.go(Verb::Exec, Some((after, How::During))).await;
            if first.is_ok() {
                return;
            }
            match resume(&run).await {
                RunOutcome::Succeeded => {}
                RunOutcome::Stuck => {
                    stuck += 1;
                    let history = run.history();
                    assert!(history.state.holds_targets());
                    assert!(!history.stuck.is_empty());
                    assert!(history.stuck.values().all(|stuck| stuck.why.contains("has not ended")));
                }
                other => panic!("cut after record {after}: {other:?}"),
            }
            for (line, count) in run.ran() {
                let may_repeat = line.contains("restart") || line.contains("resume");
                assert!(count == 1 || may_repeat, "cut after record {after}: {line} {count} times");
            }
            if run.history().state.finished() == Some(RunOutcome::Succeeded) {
                assert_eq!(run.end(), end, "cut after record {after}");
            }
        })
        .await;
    }
    assert!(stuck >= 4, "there are programs that only a person can tell of: {stuck}");
}

/// Every run that is met stands so.
struct All(Standing);

impl Runs for All {
    fn standing(&self, _: &str, _: u32) -> Standing {
        self.0.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_died_in_its_goodbye_holds_nobody_up() {
    let next = "[[step]]\nid = \"next\"\nuses = \"t/odd\"\non = \"all\"\nwith = { name = \"next\", burns = true }\n";
    let (runbook, next_runbook) = (runbook("", STEPS), runbook("", next));
    in_a_folder(world(), &runbook, async |run| {
        // It does not come to give its targets back.
        let ended = run.go(Verb::Exec, None).await.expect("the journal is written");
        assert_eq!(ended.outcome, RunOutcome::Succeeded);
        for (number, standing) in
            [Standing::Foreign, Standing::AtWork, Standing::Unfinished, Standing::Over].into_iter().enumerate()
        {
            let is_over = standing == Standing::Over;
            let next = Run {
                folder: &run.folder.with_extension(number.to_string()),
                world: Arc::clone(&run.world),
                runbook: &next_runbook,
                clock: run.clock.clone(),
                receipts: Arc::clone(&run.receipts),
                watcher: None,
                name: "next",
                runs: Arc::new(All(standing)),
            };
            let before = run.end();
            let ended = next.go(Verb::Exec, None).await.expect("the journal is written");
            let text = std::fs::read_to_string(next.folder.join(journal::FILE)).expect("a journal");
            let records = journal::decode(&text).expect("it can be read");
            let taken = records.iter().filter_map(|record| match &record.event {
                Event::TookOver { target, run, session: 1, .. } => Some((target.as_str(), run.as_str())),
                _ => None,
            });
            let taken: BTreeSet<_> = taken.collect();
            if is_over {
                assert_eq!(ended.outcome, RunOutcome::Succeeded);
                assert_eq!(taken, BTreeSet::from([("n1", "r"), ("n2", "r")]));
            } else {
                assert_eq!(ended.outcome, RunOutcome::Failed);
                assert_eq!(taken, BTreeSet::new());
                assert_eq!(next.end(), before, "nothing was touched");
            }
        }
    })
    .await;
}
