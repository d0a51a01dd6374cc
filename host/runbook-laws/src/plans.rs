//! Laws 1 and 2: a plan changes nothing, and predicts what apply does.

use std::collections::BTreeSet;

use runbook_model::call::CallError;
use runbook_model::event::{Diff, Event, Instance, Record, StepOutcome, Verb};
use runbook_model::words;
use runbook_world::{contrast, differences};

use crate::evening::{Evening, Undisturbed, calls, failure, made, short};
use crate::{Breach, Case, Harness, Judgement, Tried};

impl Harness {
    pub(crate) async fn pure(&self, case: &Case) -> Tried {
        let evening = Evening::new(self, case, case.world.clone())?;
        evening.run(Verb::Plan).await?;
        evening.gaps()?;
        let after = evening.world.state().clone();
        let records = evening.records();
        if let Some(thing) = differences(&case.world, &after).first() {
            let told = contrast(thing, &after, &case.world);
            let breach = Breach::of(format!("after the plan, {thing} is another: {told}"));
            return Err(breach.after(calls(&records, u64::MAX)).into());
        }
        if after.violations > 0 {
            return Err(Breach::of("the plan asked for a change").after(calls(&records, u64::MAX)).into());
        }
        Ok(Judgement::holds(1))
    }

    pub(crate) async fn predicts(&self, case: &Case, undisturbed: &Undisturbed) -> Tried {
        let evening = Evening::new(self, case, case.world.clone())?;
        evening.run(Verb::Plan).await?;
        evening.gaps()?;
        let records = evening.records();
        if let Some(why) = failure(&records) {
            let breach = Breach::of(format!("apply ends well, and the plan fails: {why}"));
            return Err(breach.after(calls(&records, u64::MAX)).into());
        }
        let open = open(&records);
        for instance in instances(&undisturbed.records).union(&instances(&records)) {
            let is = |other: &Instance| other == instance;
            let planned = planned(&records, &is);
            // A proof that needs a change is no part of the plan, where it leaves nothing that lasts.
            let proofs = proofs(&undisturbed.records, instance);
            let applied: Vec<Step> = made(&undisturbed.records)
                .filter(|made| {
                    is(made.instance) && !(made.change.effect.repeats && proofs.is_some_and(|seq| seq < made.seq))
                })
                .map(|made| Step {
                    text: short(&words::request(made.request)),
                    act: &made.change.act,
                    diff: made.diff,
                    perhaps: false,
                })
                .collect();
            let breach = match open.contains(instance) {
                true => missing(&planned, &applied),
                false => different(&planned, &applied),
            };
            if let Some(what) = breach {
                return Err(Breach::of(format!("{instance}: {what}")).after(calls(&records, u64::MAX)).into());
            }
        }
        let open: Vec<String> = open.iter().map(ToString::to_string).collect();
        let note =
            (!open.is_empty()).then(|| format!("as the plan says, more may change than it shows: {}", open.join(", ")));
        Ok(Judgement::Holds { trials: 1, notes: note.into_iter().collect() })
    }
}

/// A change as it was planned or made.
pub(crate) struct Step<'a> {
    pub(crate) text: String,
    pub(crate) act: &'a runbook_model::call::Act,
    pub(crate) diff: &'a Diff,
    pub(crate) perhaps: bool,
}

impl Step<'_> {
    fn is(&self, other: &Self) -> bool {
        self.act == other.act && self.diff == other.diff
    }
}

fn planned<'a>(records: &'a [Record], is: &dyn Fn(&Instance) -> bool) -> Vec<Step<'a>> {
    let planned = records.iter().filter_map(|record| match &record.event {
        Event::Planned { instance, request, diff, perhaps, .. } if is(instance) => match &request.call {
            runbook_model::call::Call::Change(change) => {
                Some(Step { text: short(&words::request(request)), act: &change.act, diff, perhaps: *perhaps })
            }
            _ => None,
        },
        _ => None,
    });
    planned.collect()
}

fn instances(records: &[Record]) -> BTreeSet<Instance> {
    let ended = records.iter().filter_map(|record| match &record.event {
        Event::StepFinished { instance, .. } => Some(instance.clone()),
        _ => None,
    });
    ended.collect()
}

/// Instances whose plan says that it does not know all.
pub(crate) fn open(records: &[Record]) -> BTreeSet<Instance> {
    let open = records.iter().filter_map(|record| match &record.event {
        Event::StepFinished { instance, outcome: StepOutcome::MayChange, .. }
        | Event::Looked { instance, response: Err(CallError::Unknown(_)), .. }
        | Event::Planned { instance, perhaps: true, .. } => Some(instance.clone()),
        _ => None,
    });
    open.collect()
}

/// Where the post-conditions of an instance were looked at.
pub(crate) fn proofs(records: &[Record], of: &Instance) -> Option<u64> {
    let verifying = |record: &&Record| matches!(&record.event, Event::Verifying { instance } if instance == of);
    records.iter().find(verifying).map(|record| record.seq)
}

/// What was planned without a doubt and not made.
pub(crate) fn missing(planned: &[Step], applied: &[Step]) -> Option<String> {
    let sure = planned.iter().filter(|step| !step.perhaps);
    let missing = sure.into_iter().find(|step| !applied.iter().any(|made| made.act == step.act))?;
    Some(format!("the plan says without a doubt: {}; apply does not do it", missing.text))
}

pub(crate) fn different(planned: &[Step], applied: &[Step]) -> Option<String> {
    let count = planned.len().max(applied.len());
    (0..count).find_map(|place| match (planned.get(place), applied.get(place)) {
        (Some(step), Some(made)) if step.is(made) => None,
        (Some(step), Some(made)) if step.act == made.act => Some(format!(
            "the difference that the plan shows of `{}` is another than the one that apply makes",
            step.text
        )),
        (Some(step), Some(made)) => Some(format!("the plan says: {}; apply does: {}", step.text, made.text)),
        (Some(step), None) => Some(format!("the plan says: {}; apply does not do it", step.text)),
        (None, Some(made)) => Some(format!("apply does what the plan does not say: {}", made.text)),
        (None, None) => None,
    })
}
