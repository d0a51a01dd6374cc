//! Laws 3 and 6: where all is as it was left, nothing is done; where it is not, that is noticed.

use std::collections::BTreeSet;

use runbook_model::event::{Event, RunOutcome, Verb};
use runbook_model::words;
use runbook_world::{State, Thing, differences};

use crate::evening::{Evening, Undisturbed, calls, failure, made, short};
use crate::{Breach, Case, Harness, Judgement, Tried, Trouble};

/// Something that is not as it was left.
pub(crate) struct Harm {
    pub(crate) what: String,
    /// It undoes a change of the case.
    undoes: bool,
    /// The world with it; none: it leaves no trace.
    pub(crate) state: Option<State>,
}

impl Harness {
    pub(crate) async fn converges(&self, case: &Case, undisturbed: &Undisturbed) -> Tried {
        let evening = Evening::new(self, case, undisturbed.end.clone())?;
        let ended = evening.run(Verb::Exec).await?;
        evening.gaps()?;
        let records = evening.records();
        if ended.outcome != RunOutcome::Succeeded {
            let why = failure(&records).unwrap_or_default();
            return Err(Breach::of(format!("the second apply fails: {why}")).after(calls(&records, u64::MAX)).into());
        }
        let again = made(&records).find(|made| !made.change.effect.repeats && !self.is_fleeting(case, made.instance));
        if let Some(made) = again {
            let what = format!("the second apply changes something: {}", short(&words::request(made.request)));
            return Err(Breach::of(what).after(calls(&records, made.seq)).into());
        }
        Ok(Judgement::holds(1))
    }

    pub(crate) async fn notices(&self, case: &Case, undisturbed: &Undisturbed) -> Tried {
        let harms = self.harms(case, undisturbed);
        let named = |what: &String| harms.iter().any(|harm| harm.undoes && harm.what == *what);
        if let Some(what) = case.unnoticed.keys().find(|what| !named(what)) {
            return Err(Trouble::Unjudged(format!("`unnoticed` of the case names {what}, which it does not change")));
        }
        let mut trials = 0;
        for (number, harm) in harms.into_iter().enumerate().filter(|(number, _)| self.is_meant(&number.to_string())) {
            let Harm { what, state, .. } = harm;
            if let Some(state) = state {
                trials += 1;
                self.is_noticed(case, state, &what, number).await?;
            }
        }
        match trials {
            0 => Err(Trouble::Unjudged(
                "the case leaves nothing that could be undone behind its back; `[[sabotage]]` in its world says what harm is to be noticed"
                    .to_owned(),
            )),
            trials => {
                let declared =
                    case.unnoticed.iter().map(|(what, why)| format!("declared: {what} is not missed: {why}"));
                Ok(Judgement::Holds { trials, notes: declared.collect() })
            }
        }
    }

    /// Each of the case's lasting changes undone behind everybody's back, and the sabotage that it describes.
    pub(crate) fn harms(&self, case: &Case, undisturbed: &Undisturbed) -> Vec<Harm> {
        let Undisturbed { before, end, .. } = undisturbed;
        let lasting = self.lasting(case, undisturbed);
        let things = differences(before, end).into_iter().filter(|thing| lasting.contains(thing)).map(|thing| {
            let mut state = end.clone();
            state.sabotage(&thing, before);
            // A controller may have put it right at once.
            let state = (!differences(&state, end).is_empty()).then_some(state);
            Harm { what: thing.to_string(), undoes: true, state }
        });
        let described = case.sabotage.iter().map(|sabotage| {
            let mut state = end.clone();
            sabotage.strike(&mut state);
            Harm { what: sabotage.to_string(), undoes: false, state: Some(state) }
        });
        things.chain(described).collect()
    }

    /// What was changed by changes that are to last: neither declared harmless to leave, nor repeated by nature.
    fn lasting(&self, case: &Case, undisturbed: &Undisturbed) -> BTreeSet<Thing> {
        let lasting: BTreeSet<_> = made(&undisturbed.records)
            .filter(|made| !made.change.effect.repeats && !made.is_harmless() && !self.is_fleeting(case, made.instance))
            .map(|made| (made.instance.clone(), made.call))
            .collect();
        let done =
            undisturbed.end.done.iter().filter(|done| done.call.as_ref().is_some_and(|call| lasting.contains(call)));
        done.flat_map(|done| done.touched.iter().cloned()).collect()
    }

    async fn is_noticed(&self, case: &Case, state: State, what: &str, number: usize) -> Result<(), Trouble> {
        let evening = Evening::new(self, case, state)?;
        let ended = evening.run(Verb::Exec).await?;
        evening.gaps()?;
        let records = evening.records();
        let says = |event: &Event| matches!(event, Event::Verified { wrong, .. } if !wrong.is_empty());
        let noticed = ended.outcome != RunOutcome::Succeeded
            || made(&records).any(|made| !made.change.effect.repeats && !self.is_fleeting(case, made.instance))
            || records.iter().any(|record| says(&record.event));
        let what = match (noticed, case.unnoticed.contains_key(what)) {
            (true, false) | (false, true) => return Ok(()),
            (false, false) => format!("somebody undid {what}, and neither converge nor verify notices"),
            (true, true) => format!("`unnoticed` of the case is not true any more: {what} is missed"),
        };
        Err(Breach::of(what).at(number.to_string()).after(calls(&records, u64::MAX)).into())
    }
}
