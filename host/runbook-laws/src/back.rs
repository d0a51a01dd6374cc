//! Law 5: after an undo all is as before, or it was declared that the change is left.

use std::collections::BTreeSet;

use runbook_model::call::{Act, KubeAct, PodUndo, SshAct, Undo};
use runbook_model::event::{Event, Instance, Record, RunOutcome, Verb};
use runbook_world::{State, Thing, differences};

use crate::evening::{Evening, calls, failure, made};
use crate::{Breach, Case, Harness, Judgement, Tried};

impl Harness {
    pub(crate) async fn undoes(&self, case: &Case) -> Tried {
        let evening = Evening::new(self, case, case.world.clone())?;
        evening.run(Verb::Exec).await?;
        let (ended, unwound) = evening.undo().await?;
        evening.gaps()?;
        let records = evening.records();
        let told = |what: String| Breach::of(what).after(calls(&records, u64::MAX));
        if let Some(why) = &unwound.stuck {
            return match by_hand(&records) {
                // What was done before it stays until a person did their part.
                Some(what) => {
                    Ok(Judgement::Holds { trials: 1, notes: vec![format!("declared: only a person can: {what}")] })
                }
                None => Err(told(format!("the undo ends stuck: {why}")).into()),
            };
        }
        if ended.outcome != RunOutcome::Succeeded {
            return Err(told(format!("the undo fails: {}", failure(&records).unwrap_or_default())).into());
        }
        let state = evening.world.state().clone();
        let excused = touched(&state, &left(&records));
        for thing in differences(&case.world, &state) {
            if !excused.contains(&thing) {
                return Err(told(format!("after the undo, {thing} is not as it was before")).into());
            }
        }
        Ok(Judgement::Holds { trials: 1, notes: notes(&records) })
    }
}

/// The changes that the undo left as they are, which it does only where that was declared.
fn left(records: &[Record]) -> BTreeSet<(Instance, u32)> {
    let left = records.iter().filter_map(|record| match &record.event {
        Event::Left { instance, call, .. } => Some((instance.clone(), *call)),
        _ => None,
    });
    let harmless = made(records).filter(|made| made.is_harmless()).map(|made| (made.instance.clone(), made.call));
    left.chain(harmless).collect()
}

fn touched(state: &State, calls: &BTreeSet<(Instance, u32)>) -> BTreeSet<Thing> {
    let done =
        state.done.iter().filter(|done| !done.is_undo && done.call.as_ref().is_some_and(|call| calls.contains(call)));
    done.flat_map(|done| done.touched.iter().cloned()).collect()
}

/// What only a person can take back, as the change says, where the undo ended there.
fn by_hand(records: &[Record]) -> Option<String> {
    let stuck = records.iter().rev().find_map(|record| match &record.event {
        Event::Stuck { instance, call: Some(call), .. } => Some((instance, *call)),
        _ => None,
    })?;
    let made = made(records).find(|made| (made.instance, made.call) == stuck)?;
    match &made.change.act {
        Act::Ssh(SshAct::Run { undo: Undo::ByHand(what), .. } | SshAct::Http { undo: Undo::ByHand(what), .. })
        | Act::Kube(KubeAct::Exec { undo: PodUndo::ByHand(what), .. }) => {
            Some(if what.is_empty() { made.change.effect.summary.clone() } else { what.clone() })
        }
        _ => None,
    }
}

fn notes(records: &[Record]) -> Vec<String> {
    let left = records.iter().filter_map(|record| match &record.event {
        Event::Left { why, .. } => Some(format!("left, as declared: {why}")),
        _ => None,
    });
    left.collect::<BTreeSet<String>>().into_iter().collect()
}
