//! What a run did is taken back: after failures at every change, and with the undo itself cut off after every record.

use runbook_engine::drill::{Drill, Faults, Point};
use runbook_engine::run::Undo;
use runbook_model::event::{RunOutcome, Verb};

use super::programs::{self, world};
use super::{How, in_a_folder, runbook};
use runbook_world::{Node, Thing};

pub(crate) const STEPS: &str = r#"
[[step]]
id = "a"
uses = "t/odd"
on = "all"
with = { name = "a" }
[[step]]
id = "b"
uses = "t/odd"
on = "n1"
with = { name = "b" }
[[step]]
id = "shop"
uses = "t/shop"
cluster = "c"
with = { name = "shop" }
"#;

#[tokio::test(start_paused = true)]
async fn an_undo_leaves_the_world_as_it_was_and_can_be_undone_itself() {
    let runbook = runbook("", STEPS);
    let before = programs::end(&world());
    in_a_folder(world(), &runbook, async |run| {
        run.go(Verb::Exec, None).await.expect("the journal is written");
        let after = run.end();
        assert_ne!(after, before);
        let (ended, unwound) = run.undo(&Undo::default(), None).await.expect("the journal is written");
        assert_eq!((ended.outcome, unwound.stuck), (RunOutcome::Succeeded, None));
        assert_eq!(run.end(), before);
        let (_, again) = run.undo(&Undo::default(), None).await.expect("the journal is written");
        assert_eq!(again.taken_back, 0, "there is nothing left to take back");

        let redo = Undo { redo: true, ..Undo::default() };
        let (ended, unwound) = run.undo(&redo, None).await.expect("the journal is written");
        assert_eq!((ended.outcome, unwound.stuck), (RunOutcome::Succeeded, None));
        assert_eq!(run.end(), after);
        run.undo(&Undo::default(), None).await.expect("the journal is written");
        assert_eq!(run.end(), before);
        // What was taken back is done again by a resume.
        assert_eq!(run.go(Verb::Resume, None).await.expect("written").outcome, RunOutcome::Succeeded);
        assert_eq!(run.end(), after);
    })
    .await;
}

/// A claim that was made anew in the place of one that cannot come back: without it there would be none at all.
#[tokio::test(start_paused = true)]
async fn what_took_the_place_of_deleted_data_stays_with_all_that_belongs_to_it() {
    for (with, taken_back) in [("", 0), ("with = { anew = false }", 3)] {
        let steps = format!("[[step]]\nid = \"renew\"\nuses = \"t/renew\"\ncluster = \"c\"\n{with}\n");
        in_a_folder(world(), &runbook("", &steps), async |run| {
            run.go(Verb::Exec, None).await.expect("the journal is written");
            let after = run.end();
            let (ended, unwound) = run.undo(&Undo::default(), None).await.expect("the journal is written");
            assert_eq!((ended.outcome, unwound.stuck), (RunOutcome::Succeeded, None));
            assert_eq!((unwound.taken_back, unwound.left), (taken_back, 4 - taken_back));
            assert_eq!(run.end() == after, taken_back == 0);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_step_is_taken_back_alone() {
    let runbook = runbook("", STEPS);
    in_a_folder(world(), &runbook, async |run| {
        run.go(Verb::Exec, None).await.expect("the journal is written");
        let what = Undo { step: Some("b".into()), ..Undo::default() };
        run.undo(&what, None).await.expect("the journal is written");
        let trees = run.end();
        let has = |path: &str| trees.contains_key(&Thing::Path("n1".into(), path.into()));
        assert!(has("/srv/a/done") && !has("/srv/b"), "{trees:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_is_cut_off_anywhere_comes_to_the_same_end() {
    let runbook = runbook("", STEPS);
    let before = programs::end(&world());
    let (first, last) = in_a_folder(world(), &runbook, async |run| {
        run.go(Verb::Exec, None).await.expect("the journal is written");
        let first = run.history().records;
        run.undo(&Undo::default(), None).await.expect("the journal is written");
        (first, run.history().records)
    })
    .await;
    for after in first + 1..=last {
        for how in [How::Before, How::After] {
            in_a_folder(world(), &runbook, async |run| {
                run.go(Verb::Exec, None).await.expect("the journal is written");
                if run.undo(&Undo::default(), Some((after, how))).await.is_err() {
                    let (ended, unwound) = run.undo(&Undo::default(), None).await.expect("the journal is written");
                    assert_eq!((ended.outcome, unwound.stuck), (RunOutcome::Succeeded, None), "{after} {how:?}");
                }
                assert_eq!(run.end(), before, "cut after record {after}, {how:?}");
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_any_change_is_unwound() {
    let before = programs::end(&world());
    for top in ["on_failure = \"undo_run\"", "on_failure = \"undo_step\""] {
        let runbook = runbook(top, STEPS);
        for call in 1..=16 {
            in_a_folder(world(), &runbook, async |run| {
                let mut engine = run.engine(Verb::Exec, None);
                let fail = vec![Point { step: "b".into(), call: Some(call) }];
                let shared = std::sync::Arc::get_mut(&mut engine.shared).expect("nobody else has it");
                let faults = Faults { fail, ..Faults::default() };
                shared.backend = std::sync::Arc::new(Drill::new(run.world.clone(), shared.journal.clone(), faults));
                let hosts = runbook
                    .hosts
                    .iter()
                    .map(|h| runbook_model::expr::HostView { name: h.name.clone(), ..Default::default() });
                let inputs =
                    runbook_engine::scope::Inputs { hosts: std::sync::Arc::new(hosts.collect()), ..Default::default() };
                let ended = engine.run(&runbook, inputs, super::Run::header()).await.expect("written");
                drop(engine);
                if ended.outcome == RunOutcome::Succeeded {
                    // That call is no change.
                    return;
                }
                assert_eq!(ended.outcome, RunOutcome::Failed, "{top}, call {call}");
                let trees = run.end();
                if top.contains("undo_run") {
                    assert_eq!(trees, before, "{top}, call {call}");
                } else {
                    let of_b = |thing: &&Thing| matches!(thing, Thing::Path(_, path) if path.starts_with("/srv/b"));
                    assert_eq!(trees.keys().find(of_b), None, "{top}, call {call}");
                    assert!(trees.contains_key(&Thing::Path("n2".into(), "/srv/a/done".into())));
                }
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_changed_is_not_overwritten_unless_asked() {
    let runbook = runbook("", STEPS);
    in_a_folder(world(), &runbook, async |run| {
        run.go(Verb::Exec, None).await.expect("the journal is written");
        {
            let mut state = run.world.state();
            let machine = state.machines.get_mut("n1").expect("a machine");
            machine.tree.put("/srv/b/conf", Node::file("mine", 0o640));
        }
        let (ended, unwound) = run.undo(&Undo::default(), None).await.expect("the journal is written");
        assert_eq!(ended.outcome, RunOutcome::Stuck);
        assert!(unwound.stuck.is_some_and(|why| why.contains("/srv/b/conf is not as it was left")));
        assert!(run.history().stuck.values().all(|stuck| !stuck.manual.is_empty()));
        let force = Undo { force: true, ..Undo::default() };
        let (ended, _) = run.undo(&force, None).await.expect("the journal is written");
        assert_eq!(ended.outcome, RunOutcome::Succeeded);
        assert_eq!(run.end(), programs::end(&world()));
    })
    .await;
}
