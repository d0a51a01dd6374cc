//! Where a run is, as its events tell: the one transition function that live run and recovery share.

use std::collections::BTreeSet;

use crate::call::{Answer, CallError, Outcome, Response, Verdict};
use crate::event::{Event, Instance, RunOutcome, Settlement};

/// A call of an instance: its number counts on through all attempts.
pub type Call = (Instance, u32);

/// Where a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Sessions so far; the first one begins the run.
    session: u32,
    finished: Option<RunOutcome>,
    abandoned: bool,
    /// The steps at work.
    open: BTreeSet<Instance>,
    /// Changes that left the process and have not come back.
    in_flight: BTreeSet<Call>,
    /// Of those, the ones that only a person can settle.
    unclear: BTreeSet<Call>,
    /// Changes that were carried out and not taken back.
    in_effect: BTreeSet<Call>,
    /// Changes that wait for their timing; they may outlive their step.
    deferred: BTreeSet<Call>,
    /// Blocks that were entered and not left.
    blocks: BTreeSet<String>,
    /// The instances of which something is being taken back.
    unwinding: BTreeSet<Instance>,
}

impl State {
    /// How the run ended; none: it has not, or nobody lived to write it.
    pub fn finished(&self) -> Option<RunOutcome> {
        self.finished
    }

    /// Whether a person said that the run will not be gone on with.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// How many sessions there were.
    pub fn sessions(&self) -> u32 {
        self.session
    }

    /// The steps that were begun and not ended, or ended with a change in doubt.
    pub fn open(&self) -> impl Iterator<Item = &Instance> {
        self.open.iter()
    }

    /// The changes in doubt: each left the process, and its result is not known.
    pub fn in_doubt(&self) -> impl Iterator<Item = &Call> {
        self.in_flight.iter()
    }

    /// Whether nobody but a person can say what became of this call.
    pub fn is_unclear(&self, call: &Call) -> bool {
        self.unclear.contains(call)
    }

    /// The changes that wait for their time.
    pub fn deferred(&self) -> impl Iterator<Item = &Call> {
        self.deferred.iter()
    }

    /// The blocks that were entered and not left.
    pub fn blocks(&self) -> impl Iterator<Item = &str> {
        self.blocks.iter().map(String::as_str)
    }

    /// Whether this change is in effect: carried out, and not taken back.
    pub fn is_in_effect(&self, call: &Call) -> bool {
        self.in_effect.contains(call)
    }

    /// Whether a part of this change still waits for its time.
    pub fn is_deferred(&self, call: &Call) -> bool {
        self.deferred.contains(call)
    }

    /// Whether this change left the process and its result is not known.
    pub fn is_in_doubt(&self, call: &Call) -> bool {
        self.in_flight.contains(call)
    }

    /// Whether something is still open because of the run: nobody else may use its targets before it is resumed, undone or abandoned.
    pub fn holds_targets(&self) -> bool {
        let ended = self.finished.is_some_and(|outcome| outcome != RunOutcome::Stuck);
        let settled = self.in_flight.is_empty() && self.deferred.is_empty() && self.blocks.is_empty();
        self.session > 0 && !self.abandoned && !(ended && settled)
    }

    /// The state after an event.
    ///
    /// # Errors
    ///
    /// Why the event cannot follow.
    pub fn next(mut self, event: &Event) -> Result<Self, String> {
        if self.abandoned {
            return Err("the run was abandoned".to_owned());
        }
        match event {
            Event::RunStarted { .. } if self.session > 0 => return Err("the run has begun already".to_owned()),
            Event::RunStarted { .. } => {
                self.session = 1;
                return Ok(self);
            }
            Event::Unknown => {
                // It may be a newer program's word for going on.
                self.finished = None;
                return Ok(self);
            }
            _ if self.session == 0 => return Err("the run has not begun".to_owned()),
            Event::Reopened { session, .. } => {
                if *session != self.session + 1 {
                    return Err(format!("session {session} cannot follow session {}", self.session));
                }
                self.session += 1;
                self.finished = None;
                self.unwinding.clear();
                return Ok(self);
            }
            Event::Abandoned { .. } => {
                self.abandoned = true;
                return Ok(self);
            }
            _ if self.finished.is_some() => return Err("the run has ended".to_owned()),
            _ => {}
        }
        self.within(event)?;
        Ok(self)
    }

    /// The same for events within a session.
    fn within(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::StepStarted { instance, .. } => {
                self.open.insert(instance.clone());
            }
            // A step that is not begun (skipped, not to be looked at yet) is ended all the same, so that all are accounted for.
            // One with a change in doubt is gone on with in the middle, when it is known what became of that.
            Event::StepFinished { instance, .. } => {
                if !self.in_flight.iter().any(|(of, _)| of == instance) {
                    self.open.remove(instance);
                }
            }
            Event::Deferred { instance, call, .. } => {
                self.at_work(instance, None)?;
                self.deferred.insert((instance.clone(), *call));
            }
            Event::Intended { instance, call, undoes, .. } => self.intended((instance.clone(), *call), *undoes)?,
            Event::Changed { instance, call, response, .. } => {
                let call = self.came_back(instance, *call)?;
                self.unclear.remove(&call);
                if is_done(response) {
                    self.deferred.remove(&call);
                }
                if may_have_changed(response) {
                    self.in_effect.insert(call);
                }
            }
            Event::Settled { instance, call, finding, .. } => match finding {
                Settlement::Done => self.is_flying(instance, *call)?,
                Settlement::NotDone | Settlement::Again => {
                    let call = self.came_back(instance, *call)?;
                    self.unclear.remove(&call);
                }
                Settlement::Unclear => {
                    self.is_flying(instance, *call)?;
                    self.unclear.insert((instance.clone(), *call));
                }
            },
            Event::Resolved { instance, call, done, .. } => {
                self.is_flying(instance, *call)?;
                let call = (instance.clone(), *call);
                self.unclear.remove(&call);
                if !done {
                    self.in_flight.remove(&call);
                }
            }
            Event::Lost { instance, call, .. } => self.is_flying(instance, *call)?,
            Event::Unchanged { instance, call, .. } => {
                self.at_work(instance, Some(*call))?;
                self.deferred.remove(&(instance.clone(), *call));
            }
            Event::Lapsed { instance, call } => {
                if !self.deferred.remove(&(instance.clone(), *call)) {
                    return Err(format!("call {call} of {instance} does not wait"));
                }
            }
            Event::TakingBack { instance, .. } => {
                self.unwinding.insert(instance.clone());
            }
            Event::TakenBack { instance, call, .. } => {
                self.unwinding.remove(instance);
                if !self.in_effect.remove(&(instance.clone(), *call)) {
                    return Err(format!("call {call} of {instance} is not in effect"));
                }
            }
            Event::Looked { instance, call, .. }
            | Event::Planned { instance, call, .. }
            | Event::Denied { instance, call, .. } => self.at_work(instance, Some(*call))?,
            Event::Baseline { instance, .. }
            | Event::Receipt { instance, .. }
            | Event::Diverged { instance, .. }
            | Event::Verifying { instance }
            | Event::Checked { instance, .. }
            | Event::Verified { instance, .. }
            | Event::Retrying { instance, .. } => self.at_work(instance, None)?,
            Event::Entered { block } => {
                self.blocks.insert(block.clone());
            }
            Event::Exited { block, .. } => {
                if !self.blocks.remove(block) {
                    return Err(format!("the block {block} was not entered"));
                }
            }
            Event::Left { instance, .. } => {
                self.unwinding.remove(instance);
            }
            Event::RunFinished { outcome, .. } => {
                self.unwinding.clear();
                self.finished = Some(*outcome);
            }
            Event::Log { .. }
            | Event::Progress { .. }
            | Event::Confirmed { .. }
            | Event::Kept { .. }
            | Event::ByHand { .. }
            | Event::Stuck { .. }
            | Event::Overridden { .. }
            | Event::Drilled { .. }
            | Event::TookOver { .. }
            | Event::RunStarted { .. }
            | Event::Reopened { .. }
            | Event::Abandoned { .. }
            | Event::Unknown => {}
        }
        Ok(())
    }

    fn intended(&mut self, call: Call, undoes: Option<u32>) -> Result<(), String> {
        match undoes {
            Some(undone) if !self.in_effect.contains(&(call.0.clone(), undone)) => {
                return Err(format!("call {undone} of {} is not in effect: it cannot be taken back", call.0));
            }
            Some(_) => {}
            None => self.at_work(&call.0, Some(call.1))?,
        }
        let said = format!("call {} of {} is in flight already", call.1, call.0);
        if self.in_flight.insert(call) { Ok(()) } else { Err(said) }
    }

    fn is_flying(&self, instance: &Instance, call: u32) -> Result<(), String> {
        if self.in_flight.contains(&(instance.clone(), call)) {
            return Ok(());
        }
        Err(format!("call {call} of {instance} was not in flight"))
    }

    fn came_back(&mut self, instance: &Instance, call: u32) -> Result<Call, String> {
        self.is_flying(instance, call)?;
        let call = (instance.clone(), call);
        self.in_flight.remove(&call);
        Ok(call)
    }

    fn at_work(&self, instance: &Instance, call: Option<u32>) -> Result<(), String> {
        let deferred = call.is_some_and(|call| self.deferred.contains(&(instance.clone(), call)));
        if deferred || self.open.contains(instance) || self.unwinding.contains(instance) {
            Ok(())
        } else {
            Err(format!("{instance} is not at work"))
        }
    }
}

/// Whether a change came to its end as it was meant to.
pub fn is_done(response: &Response) -> bool {
    match response {
        Ok(Answer::Outcome(Outcome::Done(output))) => output.exit.success(),
        Ok(Answer::Outcome(Outcome::PodDone(output))) => output.exit_code == 0,
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Whether the target may be another one after a change that came back so.
pub fn may_have_changed(response: &Response) -> bool {
    match response {
        Ok(Answer::Verdict(Verdict::Unchanged) | Answer::Outcome(Outcome::Already)) => false,
        Ok(_) => true,
        // It was not even begun.
        Err(
            CallError::Denied(_)
            | CallError::Unknown(_)
            | CallError::NotFound(_)
            | CallError::Conflict(_)
            | CallError::Invalid(_),
        ) => false,
        Err(CallError::Unreachable(_) | CallError::TimedOut(_) | CallError::Failed(_)) => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::event::StepOutcome;
    use serde_json::Value;

    #[test]
    fn a_step_with_a_change_in_doubt_is_gone_on_with_where_it_was() {
        let instance = Instance { step: "s".to_owned(), host: None, item: None };
        let finished = |outcome| Event::StepFinished {
            instance: instance.clone(),
            outcome,
            outputs: Value::Null,
            reason: None,
            elapsed_ms: 0,
        };
        let goes_on = Event::Verifying { instance: instance.clone() };
        for done in [true, false] {
            let mut state = State { session: 1, ..State::default() };
            state.open.insert(instance.clone());
            state.in_flight.insert((instance.clone(), 3));
            let state = state.next(&finished(StepOutcome::Stuck)).unwrap();
            let because = "it was looked at".to_owned();
            let said = Event::Resolved { instance: instance.clone(), call: 3, done, because };
            let state = state.next(&said).unwrap().next(&goes_on).unwrap();
            assert_eq!(state.is_in_doubt(&(instance.clone(), 3)), done);
        }
        let mut state = State { session: 1, ..State::default() };
        state.open.insert(instance.clone());
        assert!(state.next(&finished(StepOutcome::Failed)).unwrap().next(&goes_on).is_err(), "it begins anew");
    }
}
