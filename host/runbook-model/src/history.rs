//! What a journal tells of a run, for those who go on with it: what each step came to, what its plugin asked and was answered, what
//! is in effect and what is still open.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::call::{CallError, Change, Prior, Request, Response, Timing};
use crate::event::{
    Diff, Event, Instance, PluginPin, Receipt, Record, RunOutcome, Settlement, StepOutcome, StepSketch, Verb,
};
use crate::journal::ReadError;
use crate::state::{Call, State};

/// A run, as its journal tells it.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Where it is.
    pub state: State,
    /// How many records there are.
    pub records: u64,
    /// Its name.
    pub run: String,
    /// SHA-256 of the runbook's file in the last session.
    pub sha256: String,
    /// What the last session was for.
    pub verb: Option<Verb>,
    /// The steps of the runbook in the last session.
    pub steps: Vec<StepSketch>,
    /// The plugins of the last session.
    pub plugins: Vec<PluginPin>,
    /// The inputs; secrets by name.
    pub inputs: Value,
    /// When it began, in milliseconds since 1970.
    pub began_at: u64,
    /// When its last record was written, in milliseconds since 1970.
    pub last_at: u64,
    /// What each instance did.
    pub past: BTreeMap<Instance, Past>,
    /// Changes and deferred changes in the order in which they came.
    pub stack: Vec<Entry>,
    /// The first value under each key, by instance as text.
    pub baselines: BTreeMap<(String, String), Value>,
    /// Steps that a person agreed to.
    pub confirmed: BTreeSet<String>,
    /// Proofs that were issued.
    pub receipts: Vec<(Instance, Receipt)>,
    /// Where a person is needed.
    pub stuck: BTreeMap<Instance, Stuck>,
    /// How the last session ended that carried the runbook out; none where it did not, or where something was taken back since.
    pub carried_out: Option<RunOutcome>,
}

/// Why a person is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// For which call.
    pub call: Option<u32>,
    /// Why.
    pub why: String,
    /// What to do by hand.
    pub manual: Vec<String>,
}

/// What one instance of a step did.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// Attempts so far.
    pub attempts: u32,
    /// The highest number that a call of it has.
    pub calls: u32,
    /// How its last attempt began.
    pub started: Option<Started>,
    /// What was asked and answered in its last attempt.
    pub tape: Tape,
    /// How it ended. None where it did not, where a change of it is in doubt, and where what it did was taken back.
    pub ended: Option<Ended>,
    /// Something is in effect that it did in an attempt before the last one.
    pub changed_before: bool,
    /// The record that tells of the last change of it that was taken back.
    pub taken_back: Option<u64>,
    changed: bool,
}

/// One attempt of an instance, as it was recorded.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Of which instance.
    pub instance: Instance,
    /// What it did.
    pub past: Past,
}

/// All attempts of a run, in the order in which they ended, with those that did not end at the end.
///
/// # Errors
///
/// The records cannot follow each other.
pub fn attempts(records: impl IntoIterator<Item = Record>) -> Result<Vec<Attempt>, String> {
    let (mut history, mut attempts) = (History::default(), Vec::new());
    let take = |history: &History, attempts: &mut Vec<Attempt>, instance: &Instance| {
        if let Some(past) = history.past(instance).filter(|past| past.started.is_some()) {
            attempts.push(Attempt { instance: instance.clone(), past: past.clone() });
        }
    };
    for record in records {
        if let Event::StepStarted { instance, .. } | Event::TakenBack { instance, .. } = &record.event {
            take(&history, &mut attempts, instance);
        }
        history.read(record)?;
    }
    for instance in history.past.keys() {
        take(&history, &mut attempts, instance);
    }
    Ok(attempts)
}

/// How an attempt began.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// How many calls the instance had made before.
    pub calls: u32,
    /// Its inputs.
    pub inputs: Value,
    /// The machines, by role.
    pub roles: Vec<(String, Vec<String>)>,
    /// Keyed hash over all that it depends on.
    pub fingerprint: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// In a word.
    pub outcome: StepOutcome,
    /// Its outputs.
    pub outputs: Value,
    /// Why, where it did not end well.
    pub reason: Option<String>,
}

/// Calls of one attempt, by their number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tape(pub BTreeMap<u32, Taped>);

/// A call, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Taped {
    /// What was asked.
    pub request: Request,
    /// When it was answered, in milliseconds since 1970.
    pub at: u64,
    /// What became of it.
    pub what: Heard,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An observation.
    Looked {
        /// Its answer.
        response: Response,
        /// The same sealed, where its values are hidden.
        kept: Option<String>,
    },
    /// It was not granted; why, as the guest was told.
    Denied(String),
    /// A change that was so already.
    Unchanged,
    /// A change that waits for its time.
    Deferred,
    /// A change: its answer.
    Changed(Response),
    /// A change whose answer was lost.
    InDoubt,
}

impl Tape {
    /// The number of the last call in it; 0 where there is none.
    pub fn last(&self) -> u32 {
        self.0.keys().next_back().copied().unwrap_or_default()
    }

    /// Whether it ends in a change whose answer was lost.
    pub fn is_in_doubt(&self) -> bool {
        self.0.values().any(|taped| taped.what == Heard::InDoubt)
    }
}

/// A change, or one that waits for its time.
#[derive(Debug, Clone)]
pub struct Entry {
    /// By which instance.
    pub instance: Instance,
    /// The number of its call.
    pub call: u32,
    /// Number of the record that says so.
    pub record: u64,
    /// What was done, or will be.
    pub request: Request,
    /// The granted path that let it pass.
    pub jail: Option<String>,
    /// Sealed: what was there before a change, with contents; the request of a change that waits, where its values are hidden.
    pub kept: Option<String>,
    /// What it is.
    pub what: What,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum What {
    /// A change that left the process.
    Change(Box<Made>),
    /// A change that waits for its time, or waited.
    Deferred,
}

/// A change that left the process.
#[derive(Debug, Clone)]
pub struct Made {
    /// What was there before, without contents.
    pub prior: Prior,
    /// What it altered.
    pub diff: Diff,
    /// The call of the instance that it took back.
    pub undoes: Option<u32>,
    /// Whether it is a step of an undo: takes back what a step made, or what an undo of an undo did.
    pub is_undo: bool,
    /// Its answer; none while it is in doubt.
    pub response: Option<Response>,
    /// What a person said: whether it is done.
    pub resolved: Option<bool>,
}

impl Entry {
    /// Its call.
    pub fn id(&self) -> Call {
        (self.instance.clone(), self.call)
    }

    /// The change.
    pub fn change(&self) -> Option<&Change> {
        match &self.request.call {
            crate::call::Call::Change(change) => Some(change),
            crate::call::Call::Look(_) | crate::call::Call::Note(_) => None,
        }
    }

    /// What was made, where something was.
    pub fn made(&self) -> Option<&Made> {
        match &self.what {
            What::Change(made) => Some(made),
            What::Deferred => None,
        }
    }
}

impl History {
    /// Reads the records of a run.
    ///
    /// # Errors
    ///
    /// Events in an order that cannot be.
    pub fn of(records: impl IntoIterator<Item = Record>) -> Result<Self, ReadError> {
        let mut history = Self::default();
        for record in records {
            let seq = record.seq;
            history.read(record).map_err(|why| ReadError::Illegal { seq, why })?;
        }
        Ok(history)
    }

    /// What an instance did, where it did something.
    pub fn past(&self, instance: &Instance) -> Option<&Past> {
        self.past.get(instance)
    }

    /// Changes in effect that were made by steps, and those in doubt; the last one first. `undone`: instead of them the changes by
    /// which an undo took others back.
    pub fn in_effect(&self, undone: bool) -> impl Iterator<Item = &Entry> {
        self.stack.iter().rev().filter(move |entry| {
            let made = entry.made().is_some_and(|made| made.is_undo == undone);
            made && (self.state.is_in_effect(&entry.id()) || self.state.is_in_doubt(&entry.id()))
        })
    }

    /// Whether a state that this instance left for the time of its block was put back.
    pub fn was_put_back(&self, instance: &Instance) -> bool {
        let first = self.past(instance).and_then(|past| past.started.as_ref()).map_or(0, |started| started.calls);
        let of_block = |entry: &&Entry| {
            let waits = entry.change().is_some_and(|change| change.effect.timing == Timing::BlockEnd);
            let is_last = entry.instance == *instance && entry.call > first;
            is_last && waits && matches!(entry.what, What::Deferred)
        };
        self.stack.iter().filter(of_block).any(|entry| !self.state.is_deferred(&entry.id()))
    }

    /// Whether a step was begun, and all of its instances ended well.
    pub fn ended_well(&self, step: &str) -> bool {
        let mut ends = self.past.iter().filter(|(instance, _)| instance.step == step).map(|(_, past)| &past.ended);
        let is_well = |ended: &Option<Ended>| ended.as_ref().is_some_and(|ended| ended.outcome.is_ok());
        ends.next().is_some_and(is_well) && ends.all(is_well)
    }

    /// Whether the runbook was carried out, and nothing of it is left to do.
    pub fn is_complete(&self) -> bool {
        self.carried_out == Some(RunOutcome::Succeeded) && !self.state.holds_targets()
    }

    /// Changes that still wait for their time, the last one first.
    pub fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.stack
            .iter()
            .rev()
            .filter(|entry| matches!(entry.what, What::Deferred) && self.state.is_deferred(&entry.id()))
    }

    /// Takes one record in.
    ///
    /// # Errors
    ///
    /// Why it cannot follow.
    pub fn read(&mut self, record: Record) -> Result<(), String> {
        self.state = std::mem::take(&mut self.state).next(&record.event)?;
        let Record { seq, at, event } = record;
        (self.records, self.last_at) = (seq, at);
        match event {
            Event::RunStarted { run, sha256, steps, plugins, inputs, verb, .. } => {
                (self.run, self.sha256, self.steps) = (run, sha256, steps);
                (self.plugins, self.inputs, self.verb) = (plugins, inputs, Some(verb));
                self.began_at = at;
            }
            Event::Reopened { sha256, steps, plugins, verb, .. } => {
                (self.sha256, self.steps, self.plugins, self.verb) = (sha256, steps, plugins, Some(verb));
                if verb == Verb::Resume {
                    self.carried_out = None;
                }
            }
            // What a person did or said is no end of the runbook, and a failed one goes on after it.
            Event::RunFinished { outcome, .. } if matches!(self.verb, Some(Verb::Exec | Verb::Resume)) => {
                self.carried_out = Some(outcome);
            }
            Event::Stuck { instance, call, why, manual } => {
                self.stuck.insert(instance, Stuck { call, why, manual });
            }
            Event::Exited { block, .. } => {
                self.stuck.remove(&Instance { step: block, host: None, item: None });
            }
            Event::StepStarted { instance, attempt, calls, inputs, roles, fingerprint } => {
                self.stuck.remove(&instance);
                let past = self.past.entry(instance).or_default();
                past.changed_before |= past.changed;
                past.attempts = attempt;
                past.started = Some(Started { calls, inputs, roles, fingerprint, at });
                past.tape = Tape::default();
                past.ended = None;
            }
            Event::StepFinished { instance, outcome, outputs, reason, .. } => {
                let past = self.past.entry(instance).or_default();
                if !past.tape.is_in_doubt() {
                    past.ended = Some(Ended { outcome, outputs, reason });
                }
            }
            Event::Looked { instance, call, request, response, kept, .. } => {
                self.heard(&instance, call, request, at, Heard::Looked { response, kept });
            }
            Event::Denied { instance, call, request, reason } => {
                let said = reason.strip_prefix("denied: ").map_or_else(|| reason.clone(), str::to_owned);
                self.heard(&instance, call, request, at, Heard::Denied(said));
            }
            Event::Unchanged { instance, call, request } => {
                self.heard(&instance, call, request, at, Heard::Unchanged);
            }
            Event::Deferred { instance, call, request, jail, kept } => {
                self.heard(&instance, call, request.clone(), at, Heard::Deferred);
                self.stack.push(Entry { instance, call, record: seq, request, jail, kept, what: What::Deferred });
            }
            Event::Intended { instance, call, request, prior, diff, jail, undoes, kept } => {
                if undoes.is_none() {
                    self.heard(&instance, call, request.clone(), at, Heard::InDoubt);
                }
                self.numbered(&instance, call);
                let is_undo = undoes.is_some_and(|call| !self.made(&instance, call).is_some_and(|made| made.is_undo));
                let made = Made { prior, diff, undoes, is_undo, response: None, resolved: None };
                let what = What::Change(Box::new(made));
                self.stack.push(Entry { instance, call, record: seq, request, jail, kept, what });
            }
            Event::Changed { instance, call, response, .. } => self.came_back(&instance, call, at, response),
            Event::Resolved { instance, call, done: true, .. } => {
                self.stuck.remove(&instance);
                if let Some(made) = self.made(&instance, call) {
                    made.resolved = Some(true);
                }
            }
            Event::Resolved { instance, call, done: false, .. }
            | Event::Settled { instance, call, finding: Settlement::NotDone | Settlement::Again, .. } => {
                self.stuck.remove(&instance);
                self.never_was(&instance, call);
            }
            Event::TakenBack { instance, .. } => {
                self.stuck.remove(&instance);
                self.carried_out = None;
                // What it did is not there any more: a resume does it again.
                let past = self.past.entry(instance).or_default();
                past.taken_back = Some(seq);
                past.ended = None;
                past.started = None;
                past.tape = Tape::default();
            }
            Event::Baseline { instance, key, value } => {
                self.baselines.entry((instance.to_string(), key)).or_insert(value);
            }
            Event::Confirmed { step, approved: true, .. } => {
                self.confirmed.insert(step);
            }
            Event::Receipt { instance, receipt } => self.receipts.push((instance, receipt)),
            Event::Diverged { instance, .. } => {
                self.past.entry(instance).or_default().tape = Tape::default();
            }
            Event::Confirmed { .. }
            | Event::Abandoned { .. }
            | Event::Kept { .. }
            | Event::Verifying { .. }
            | Event::Lost { .. }
            | Event::Settled { finding: Settlement::Done | Settlement::Unclear, .. }
            | Event::Lapsed { .. }
            | Event::Left { .. }
            | Event::TakingBack { .. }
            | Event::Overridden { .. }
            | Event::Entered { .. }
            | Event::ByHand { .. }
            | Event::Drilled { .. }
            | Event::TookOver { .. }
            | Event::Planned { .. }
            | Event::Log { .. }
            | Event::Progress { .. }
            | Event::Retrying { .. }
            | Event::Checked { .. }
            | Event::Verified { .. }
            | Event::RunFinished { .. }
            | Event::Unknown => {}
        }
        Ok(())
    }

    fn numbered(&mut self, instance: &Instance, call: u32) -> &mut Past {
        let past = self.past.entry(instance.clone()).or_default();
        past.calls = past.calls.max(call);
        past
    }

    fn heard(&mut self, instance: &Instance, call: u32, request: Request, at: u64, what: Heard) {
        let tape = &mut self.numbered(instance, call).tape.0;
        // What was deferred is asked once and carried out later, under the same number: the guest heard that it waits.
        let waits = tape.get(&call).is_some_and(|taped| taped.what == Heard::Deferred);
        if !waits {
            tape.insert(call, Taped { request, at, what });
        }
    }

    fn came_back(&mut self, instance: &Instance, call: u32, at: u64, response: Response) {
        let past = self.past.entry(instance.clone()).or_default();
        past.changed |= crate::state::may_have_changed(&response);
        if let Some(taped) = past.tape.0.get_mut(&call)
            && taped.what == Heard::InDoubt
        {
            taped.at = at;
            taped.what = Heard::Changed(response.clone());
        }
        if let Some(made) = self.made(instance, call) {
            made.response = Some(response);
        }
    }

    /// Forgets a change that left the process and was not carried out: it may be intended again under the same number.
    fn never_was(&mut self, instance: &Instance, call: u32) {
        let is_it = |entry: &Entry| entry.made().is_some() && entry.call == call && entry.instance == *instance;
        if let Some(place) = self.stack.iter().rposition(is_it) {
            self.stack.remove(place);
        }
        let tape = &mut self.past.entry(instance.clone()).or_default().tape.0;
        if tape.get(&call).is_some_and(|taped| taped.what == Heard::InDoubt) {
            tape.remove(&call);
        }
    }

    fn made(&mut self, instance: &Instance, call: u32) -> Option<&mut Made> {
        self.stack.iter_mut().rev().find_map(|entry| match &mut entry.what {
            What::Change(made) if entry.call == call && entry.instance == *instance => Some(made.as_mut()),
            What::Change(_) | What::Deferred => None,
        })
    }
}

/// What a call that was denied answers.
pub fn denied(said: &str) -> CallError {
    CallError::Denied(said.to_owned())
}
