//! Evenings on which everything goes wrong: calls and answers are lost, the process is killed again and again, somebody changes their mind
//! and takes back what was done. Each is told by a seed alone. `cargo xtask soak` plays many.

use runbook_engine::run::Undo;
use runbook_model::event::{RunOutcome, Verb};
use runbook_world::Weather;

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

#[tokio::test]
async fn a_run_comes_to_its_end_through_any_evening() {
    // A block that is undone after a failure does all of it again, which is another test's matter.
    let steps = STEPS.replace("id = \"maintenance\"", "id = \"maintenance\"\non_failure = \"release\"");
    let runbook = runbook("", &steps);
    let (end, ran) = in_a_folder(world(), &runbook, async |run| {
        run.go(Verb::Exec, None).await.expect("the journal is written");
        (run.end(), run.ran())
    })
    .await;
    let once = |mut ran: std::collections::BTreeMap<String, usize>| {
        // A service may be started once more, and the pause is made anew after it was released.
        ran.retain(|line, _| !line.contains("restart") && !line.contains("resume") && !line.contains("paused"));
        ran
    };
    let mut sessions = 0;
    for seed in seeds() {
        let mut weather = Weather::new(seed, 0, false);
        in_a_folder(world(), &runbook, async |run| {
            for session in 0.. {
                assert!(session < STORM + 5, "seed {seed}: it does not come to its end: {:?}", run.history().stuck);
                sessions += 1;
                // A step that cannot look fails, and begins from its start, which is for its plugin to be fit for; this one is not.
                let crash = evening(&run, &mut weather, session, false);
                let verb = if session == 0 { Verb::Exec } else { Verb::Resume };
                let ended = run.go(verb, crash).await;
                assert!(crash.is_some() || ended.is_ok(), "seed {seed}: {ended:?}\n{}", tail(&run));
                let Ok(ended) = ended else { continue };
                assert_ne!(ended.outcome, RunOutcome::Stuck, "seed {seed}: {:?}", run.history().stuck);
                if ended.outcome == RunOutcome::Succeeded {
                    break;
                }
            }
            assert_eq!(run.end(), end, "seed {seed}");
            assert_eq!(once(run.ran()), once(ran.clone()), "seed {seed}");
            assert!(!run.history().state.holds_targets(), "seed {seed}: {:?}\n{}", run.history().state, tail(&run));
        })
        .await;
    }
    assert!(sessions > 3 * seeds().count(), "the evenings are bad: {sessions} sessions");
}

#[tokio::test]
async fn whoever_changes_their_mind_gets_back_what_was_there() {
    let runbook = runbook("", undo::STEPS);
    let before = programs::end(&world());
    for seed in seeds() {
        let mut weather = Weather::new(!seed, 0, false);
        in_a_folder(world(), &runbook, async |run| {
            let forward = 1 + u32::try_from(weather.below(6)).expect("a small number");
            let mut taken_back = false;
            for session in 0..STORM + 5 {
                let crash = evening(&run, &mut weather, session, true);
                if session < forward {
                    let verb = if session == 0 { Verb::Exec } else { Verb::Resume };
                    let ended = run.go(verb, crash).await;
                    assert!(crash.is_some() || ended.is_ok(), "seed {seed}: {ended:?}\n{}", tail(&run));
                    continue;
                }
                let undone = run.undo(&Undo::default(), crash).await;
                assert!(crash.is_some() || undone.is_ok(), "seed {seed}: {undone:?}\n{}", tail(&run));
                let Ok((ended, unwound)) = undone else { continue };
                if session < STORM && unwound.stuck.is_some() {
                    continue;
                }
                assert_eq!((ended.outcome, &unwound.stuck), (RunOutcome::Succeeded, &None), "seed {seed}");
                taken_back = true;
                break;
            }
            assert!(taken_back, "seed {seed}: it does not come to its end: {:?}", run.history().stuck);
            assert_eq!(run.end(), before, "seed {seed}");
            assert!(!run.history().state.holds_targets(), "seed {seed}: {:?}\n{}", run.history().state, tail(&run));
        })
        .await;
    }
}

/// The last records, for whoever looks for a mistake.
fn tail(run: &Run<'_>) -> String {
    let text = std::fs::read_to_string(run.folder.join(runbook_model::journal::FILE)).expect("a journal");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(300)..].join("\n")
}

/// What the weather is in a session, and when the process is killed in it.
fn evening(run: &Run<'_>, weather: &mut Weather, session: u32, looks: bool) -> Option<(u64, How)> {
    if session >= STORM {
        run.world.power().weather = Weather::default();
        return None;
    }
    run.world.power().weather = Weather::new(weather.below(u64::MAX), 4, looks);
    let records = if session == 0 { 0 } else { run.history().records };
    let how = if weather.below(2) == 0 { How::Before } else { How::After };
    let after = records + 1 + weather.below(40);
    (weather.below(3) > 0).then_some((after, how))
}
