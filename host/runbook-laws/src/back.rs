//! Law 5: after an undo all is as before, or it was declared that the change is left. A run that was cut off is taken back as well.

use std::collections::BTreeSet;

use runbook_model::call::{Act, KubeAct, PodUndo, SshAct, Undo};
use runbook_model::event::{Event, Instance, Record, RunOutcome, Verb};
use runbook_world::{How, State, Thing, contrast, differences};

use crate::cuts::{trial, words};
use crate::evening::{Evening, Undisturbed, calls, failure, made, short};
use crate::{Breach, Case, Harness, Judgement, Tried, Trouble};

/// The trial that is not cut off.
const WHOLE: &str = "whole";

impl Harness {
    pub(crate) async fn undoes(&self, case: &Case, undisturbed: &Undisturbed) -> Tried {
        let (mut trials, mut stuck, mut notes) = (0, Vec::new(), BTreeSet::new());
        if self.is_meant(WHOLE) {
            trials += 1;
            match self.undone(case, None, WHOLE).await? {
                Undone::Back(said) => notes.extend(said),
                Undone::Stuck { by_hand: Some(what), .. } => {
                    notes.insert(format!("declared: only a person can: {what}"));
                }
                Undone::Stuck { why, breach, .. } => {
                    return Err(Breach { what: format!("the undo ends stuck: {why}"), ..breach }.into());
                }
            }
        }
        // What a person does who was cut off and does not want to go on.
        for made in made(&undisturbed.records) {
            for how in [How::Before, How::After] {
                let name = trial(made.seq, how);
                if self.is_meant(&name) {
                    trials += 1;
                    if let Undone::Stuck { why, .. } = self.undone(case, Some((made.seq, how)), &name).await? {
                        stuck.push(format!("after {name}: {}", short(&why)));
                    }
                }
            }
        }
        let stuck = stuck.first().map(|first| {
            format!("the undo of {} of {trials} runs that were cut off ended stuck; {first}", stuck.len())
        });
        Ok(Judgement::Holds { trials, notes: notes.into_iter().chain(stuck).collect() })
    }

    /// Takes a run back that came to its end, or was cut off.
    async fn undone(&self, case: &Case, crash: Option<(u64, How)>, name: &str) -> Result<Undone, Trouble> {
        let evening = Evening::new(self, case, case.world.clone())?;
        // That it did not come to its end is what a cut is for.
        let ended = evening.go(Verb::Exec, crash).await?;
        if crash.is_none() {
            ended?;
        }
        let (ended, unwound) = evening.undo().await?;
        evening.gaps()?;
        let records = evening.records();
        let when = crash.map(|crash| format!("{}, ", words(crash))).unwrap_or_default();
        let told = |what: String| Breach::of(format!("{when}{what}")).at(name).after(calls(&records, u64::MAX));
        if let Some(why) = unwound.stuck {
            // What was done before it stays until a person did their part.
            return Ok(Undone::Stuck { by_hand: by_hand(&records), breach: told(String::new()), why });
        }
        if ended.outcome != RunOutcome::Succeeded {
            return Err(told(format!("the undo fails: {}", failure(&records).unwrap_or_default())).into());
        }
        let state = evening.world.state().clone();
        let excused = touched(&state, &left(&records));
        for thing in differences(&case.world, &state) {
            if !excused.contains(&thing) {
                let contrast = contrast(&thing, &state, &case.world);
                return Err(told(format!("after the undo, {thing} is not as it was before: {contrast}")).into());
            }
        }
        Ok(Undone::Back(notes(&records)))
    }
}

/// What became of an undo that breaks no law by itself.
enum Undone {
    /// All is as before; what is to be said of it.
    Back(BTreeSet<String>),
    /// It could not go on.
    Stuck { by_hand: Option<String>, why: String, breach: Breach },
}

/// The changes that the undo left as they are, which it does only where that was declared.
pub(crate) fn left(records: &[Record]) -> BTreeSet<(Instance, u32)> {
    let left = records.iter().filter_map(|record| match &record.event {
        Event::Left { instance, call, .. } => Some((instance.clone(), *call)),
        _ => None,
    });
    let harmless = made(records).filter(|made| made.is_harmless()).map(|made| (made.instance.clone(), made.call));
    left.chain(harmless).collect()
}

pub(crate) fn touched(state: &State, calls: &BTreeSet<(Instance, u32)>) -> BTreeSet<Thing> {
    let done =
        state.done.iter().filter(|done| !done.is_undo && done.call.as_ref().is_some_and(|call| calls.contains(call)));
    done.flat_map(|done| done.touched.iter().cloned()).collect()
}

/// What only a person can take back, as the change says, where the undo ended there.
pub(crate) fn by_hand(records: &[Record]) -> Option<String> {
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

pub(crate) fn notes(records: &[Record]) -> BTreeSet<String> {
    let left = records.iter().filter_map(|record| match &record.event {
        Event::Left { why, .. } => Some(format!("left, as declared: {why}")),
        _ => None,
    });
    left.collect()
}
