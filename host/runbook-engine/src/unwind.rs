//! Takes back what a run did: the last change first, each after a look whether the world is still as the run left it.
//!
//! Changes and deferred changes form one stack, which lies in the journal: so a step that fails is unwound by the same code as a run
//! of last week. What was deferred to the end of a step is carried out when that step is unwound (a service is restarted with its old
//! configuration), what was deferred to the end of a block at its place in the stack.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use runbook_model::call::{Act, Call, CallError, Change, KubeAct, ObjectRef, Prior, Request, Target, Timing};
use runbook_model::event::{Event, Instance};
use runbook_model::grant::holds_data;
use runbook_model::history::{Entry, History, Made, What};
use runbook_model::state::is_done;
use runbook_model::undo::{self, Inverse};

use crate::back::{Back, Fate, Obstacle};
use crate::broker::{Broker, Deferred, Pulse, is_process};
use crate::change::{Passage, judged};
use crate::clock;
use crate::journal::JournalError;
use crate::replay::Doubt;
use crate::shared::Shared;

/// How long a target may take to be taken charge of, once more.
const GOODBYE: Duration = Duration::from_secs(20);

/// What is to be taken back.
pub(crate) struct Scope<'a> {
    /// Of which instances.
    pub(crate) includes: &'a (dyn Fn(&Instance) -> bool + Sync),
    /// Which of them are left as they are, since their step says so.
    pub(crate) spares: &'a (dyn Fn(&Instance) -> bool + Sync),
    /// Conflicts do not keep it from going on.
    pub(crate) force: bool,
    /// What an undo did is taken back.
    pub(crate) redo: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unwound {
    /// Changes that are not in effect any more.
    pub taken_back: usize,
    /// Changes that are left as they are.
    pub left: usize,
    /// Why it could not go on.
    pub stuck: Option<String>,
}

/// Takes back what the run did.
///
/// # Errors
///
/// The journal cannot be read or written.
pub(crate) async fn unwind(shared: &Arc<Shared>, scope: Scope<'_>) -> Result<Unwound, JournalError> {
    let history = shared.history().await?;
    let unwinding = Unwinding { shared, history: &history, scope };
    unwinding.run().await
}

/// Brings to its end what earlier sessions left open of an instance that is not gone on with as it was: a change in doubt, and what waited for the end
/// of the step. What waits for the end of its block waits on.
///
/// # Errors
///
/// Something of it failed, or nobody can tell what became of it.
pub(crate) async fn close(shared: &Arc<Shared>, instance: &Instance) -> Result<(), CallError> {
    let state = &shared.past.state;
    let mut open = state.in_doubt().chain(state.deferred());
    if !open.any(|(of, _)| of == instance) {
        return Ok(());
    }
    close_now(shared, instance).await
}

/// The same, where this session may have left something open.
///
/// # Errors
///
/// As [`close`].
pub(crate) async fn close_now(shared: &Arc<Shared>, instance: &Instance) -> Result<(), CallError> {
    let history = shared.history().await.map_err(|error| CallError::Failed(error.to_string()))?;
    let changed = history.in_effect(false).any(|entry| entry.instance == *instance);
    let pulse = Pulse::after(history.past(instance), shared.now_ms());
    for entry in history.stack.iter().rev().filter(|entry| entry.instance == *instance) {
        let Some(change) = entry.change() else { continue };
        let road = road(shared, entry, &pulse);
        match &entry.what {
            What::Change(made) if history.state.is_in_doubt(&entry.id()) && !was_deferred(&history, entry) => {
                road.find_out(&passage(entry, change, made.undoes), Doubt::of(entry, made, &shared.vault)).await?;
            }
            What::Deferred if history.state.is_deferred(&entry.id()) => match change.effect.timing {
                Timing::BlockEnd => {}
                Timing::StepEndIfChanged if !changed && !history.state.is_in_doubt(&entry.id()) => {
                    road.note(Event::Lapsed { instance: instance.clone(), call: entry.call }, false).await?;
                }
                Timing::StepEnd | Timing::StepEndIfChanged | Timing::Now => {
                    carry_out(shared, &history, entry, &pulse).await?;
                }
            },
            What::Change(_) | What::Deferred => {}
        }
    }
    Ok(())
}

/// Takes charge of what earlier sessions changed, where nothing is in doubt any more: their marks are cleared when the run says goodbye.
/// A target that does not answer keeps them.
///
/// # Errors
///
/// The journal cannot be read.
pub(crate) async fn take_charge(shared: &Arc<Shared>) -> Result<(), JournalError> {
    if shared.past.state.sessions() == 0 || shared.cancel.is_cancelled() {
        return Ok(());
    }
    let history = shared.history().await?;
    if history.state.in_doubt().next().is_some() {
        return Ok(());
    }
    let mut targets: BTreeMap<&Target, Vec<(&Entry, &Act)>> = BTreeMap::new();
    for entry in history.stack.iter().filter(|entry| entry.record <= shared.past.records) {
        if let (Some(change), Some(_)) = (entry.change(), entry.made()) {
            targets.entry(&entry.request.target).or_default().push((entry, &change.act));
        }
    }
    let charge = targets.into_iter().map(|(target, changes)| async move {
        for (entry, act) in changes {
            let road = road(shared, entry, &Pulse::after(None, shared.now_ms()));
            let mut context = road.context(None, entry.call, Some(entry.record));
            context.deadline = clock::now() + GOODBYE;
            // Whoever does not answer now is not asked for the other changes.
            if shared.backend.take_charge(target, act, &context).await.is_err() {
                return;
            }
        }
    });
    futures::future::join_all(charge).await;
    Ok(())
}

/// A road for what stands in the journal.
fn road(shared: &Arc<Shared>, entry: &Entry, pulse: &Arc<Pulse>) -> Arc<Broker> {
    Broker::of_journal(shared, &entry.instance, &entry.request.target, entry.jail.clone(), Arc::clone(pulse))
}

fn passage(entry: &Entry, change: &Change, undoes: Option<u32>) -> Passage {
    let target = entry.request.target.clone();
    Passage { call: entry.call, target, change: change.clone(), jail: entry.jail.clone(), undoes }
}

/// Whether a change is one that had waited for its time.
fn was_deferred(history: &History, entry: &Entry) -> bool {
    history.stack.iter().any(|other| matches!(other.what, What::Deferred) && other.id() == entry.id())
}

/// Whether two references mean one object, in whatever version of its kind.
fn is_same(one: &ObjectRef, other: &ObjectRef) -> bool {
    let kind = |object: &ObjectRef| (object.kind.group.clone(), object.kind.kind.clone());
    (kind(one), &one.namespace, &one.name) == (kind(other), &other.namespace, &other.name)
}

/// Carries out a change that waits, or brings it to its end where it had begun.
///
/// # Errors
///
/// It failed, or nobody can tell what became of it.
pub(crate) async fn carry_out(
    shared: &Arc<Shared>,
    history: &History,
    entry: &Entry,
    pulse: &Arc<Pulse>,
) -> Result<(), CallError> {
    let Some(change) = entry.change() else { return Ok(()) };
    let road = road(shared, entry, pulse);
    let begun = history.stack.iter().rev().find_map(|other| {
        let made = other.made().filter(|_| other.id() == entry.id() && history.state.is_in_doubt(&entry.id()))?;
        Some(Doubt::of(other, made, &shared.vault))
    });
    if let Some(doubt) = begun
        && let Some(answer) = road.find_out(&passage(entry, change, None), doubt).await?
    {
        return judged(&change.effect.summary, Ok(answer));
    }
    road.carry_out(deferred(shared, entry, change)).await
}

/// A change that waits, as it was asked for.
fn deferred(shared: &Shared, entry: &Entry, change: &Change) -> Deferred {
    let kept: Option<Request> = entry.kept.as_ref().and_then(|kept| shared.vault.recall(kept).ok());
    let change = match kept.map(|request| request.call) {
        Some(Call::Change(change)) => change,
        _ => change.clone(),
    };
    Deferred { call: entry.call, target: entry.request.target.clone(), change }
}

pub(crate) struct Unwinding<'a> {
    shared: &'a Arc<Shared>,
    pub(crate) history: &'a History,
    pub(crate) scope: Scope<'a>,
}

impl Unwinding<'_> {
    async fn run(&self) -> Result<Unwound, JournalError> {
        let mut unwound = Unwound::default();
        let entries: Vec<&Entry> =
            self.history.stack.iter().rev().filter(|entry| (self.scope.includes)(&entry.instance)).collect();
        let mut rest: BTreeMap<&Instance, usize> = BTreeMap::new();
        entries.iter().for_each(|entry| *rest.entry(&entry.instance).or_default() += 1);
        let mut pulses: BTreeMap<&Instance, Arc<Pulse>> = BTreeMap::new();
        let mut touched: BTreeSet<&Instance> = BTreeSet::new();
        // What was deferred to the end of the step waits for the end of its unwinding.
        let mut at_the_end: BTreeMap<&Instance, Vec<&Entry>> = BTreeMap::new();
        for entry in &entries {
            let instance = &entry.instance;
            let past = self.history.past(instance);
            let pulse = pulses.entry(instance).or_insert_with(|| Pulse::after(past, self.shared.now_ms()));
            let pulse = Arc::clone(pulse);
            let result = match &entry.what {
                What::Change(made) if self.is_due(entry, made) => {
                    self.one(entry, made, &pulse, &mut unwound, &mut touched).await?
                }
                What::Change(_) => Ok(()),
                What::Deferred if self.scope.redo => Ok(()),
                What::Deferred => match entry.change().map(|change| change.effect.timing) {
                    Some(Timing::BlockEnd) if self.history.state.is_deferred(&entry.id()) => {
                        self.carry_out(entry, &pulse).await
                    }
                    Some(Timing::StepEnd | Timing::StepEndIfChanged) => {
                        at_the_end.entry(instance).or_default().push(entry);
                        Ok(())
                    }
                    _ => Ok(()),
                },
            };
            let mut result = result;
            if let Some(left) = rest.get_mut(instance) {
                *left -= 1;
                if *left == 0 && result.is_ok() {
                    let was_touched = touched.contains(instance);
                    for entry in at_the_end.remove(instance).unwrap_or_default() {
                        result = result.and(self.last(entry, was_touched, &pulse).await);
                    }
                }
            }
            if let Err(obstacle) = result {
                self.stuck(entry, &obstacle).await?;
                unwound.stuck = Some(format!("{instance}: {}", obstacle.why));
                return Ok(unwound);
            }
        }
        Ok(unwound)
    }

    /// Whether a change is to be taken back.
    fn is_due(&self, entry: &Entry, made: &Made) -> bool {
        let id = entry.id();
        let in_doubt = self.history.state.is_in_doubt(&id) && !was_deferred(self.history, entry);
        let in_effect = self.history.state.is_in_effect(&id) || in_doubt;
        // A change that was intended twice under one number was made once.
        let last = self.history.stack.iter().rev().find(|other| other.made().is_some() && other.id() == id);
        made.is_undo == self.scope.redo && in_effect && last.is_some_and(|last| last.record == entry.record)
    }

    async fn one<'e>(
        &self,
        entry: &'e Entry,
        made: &Made,
        pulse: &Arc<Pulse>,
        unwound: &mut Unwound,
        touched: &mut BTreeSet<&'e Instance>,
    ) -> Result<Result<(), Obstacle>, JournalError> {
        let (instance, call) = (entry.instance.clone(), entry.call);
        let summary = made.diff.summary.clone();
        self.append(Event::TakingBack { instance: instance.clone(), call, summary }).await?;
        match self.take_back(entry, made, pulse).await? {
            Ok(Some(Fate::TakenBack(how))) => {
                unwound.taken_back += 1;
                touched.insert(&entry.instance);
                self.append(Event::TakenBack { instance, call, how }).await?;
            }
            Ok(Some(Fate::Left(why))) => {
                unwound.left += 1;
                self.append(Event::Left { instance, call, why }).await?;
            }
            // It turned out never to have been made.
            Ok(None) => {}
            Err(obstacle) => return Ok(Err(obstacle)),
        }
        Ok(Ok(()))
    }

    async fn take_back(
        &self,
        entry: &Entry,
        made: &Made,
        pulse: &Arc<Pulse>,
    ) -> Result<Result<Option<Fate>, Obstacle>, JournalError> {
        if (self.scope.spares)(&entry.instance) {
            return Ok(Ok(Some(Fate::Left("its step says `undo = \"none\"`".to_owned()))));
        }
        if !self.scope.redo
            && let Some(object) = self.replaced(&entry.instance)
        {
            return Ok(Ok(Some(Fate::Left(format!(
                "{object} was deleted and made anew, and the one that was deleted cannot come back: what belongs to it stays"
            )))));
        }
        let Some(change) = entry.change() else { return Ok(Ok(None)) };
        let road = road(self.shared, entry, pulse);
        let response = match &made.response {
            Some(response) => response.clone(),
            None => {
                let doubt = Doubt::of(entry, made, &self.shared.vault);
                match road.find_out(&passage(entry, change, made.undoes), doubt).await {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => return Ok(Ok(None)),
                    Err(error) => {
                        let told = road.tally().stuck.is_some();
                        return Ok(Err(Obstacle { told, ..Obstacle::new(error.to_string(), Vec::new()) }));
                    }
                }
            }
        };
        let kept = entry.kept.as_ref().map(|kept| self.shared.vault.recall::<Prior>(kept));
        let prior = match kept {
            Some(Ok(prior)) => prior,
            Some(Err(error)) => {
                let manual = vec![format!("look at what was changed: {}", made.diff.summary)];
                return Ok(Err(Obstacle::new(format!("what was there before cannot be read: {error}"), manual)));
            }
            None => made.prior.clone(),
        };
        if let Err(obstacle) = self.settle_inverses(entry, pulse).await {
            return Ok(Err(obstacle));
        }
        match self.begun_before(entry, pulse).await {
            Ok(false) => {}
            Ok(true) => return Ok(Ok(Some(Fate::TakenBack("an earlier undo had carried its inverse out".to_owned())))),
            Err(obstacle) => return Ok(Err(obstacle)),
        }
        let target = &entry.request.target;
        let back = Back { unwinding: self, entry, road: &road, summary: &made.diff.summary };
        match undo::inverse(target, change, &prior, &response) {
            Inverse::Nothing(why) => Ok(Ok(Some(Fate::Left(why)))),
            Inverse::Irreversible(consequence) => {
                Ok(Ok(Some(Fate::Left(format!("it cannot be taken back: {consequence}")))))
            }
            Inverse::ByHand(what) => {
                let place = match target {
                    Target::Machine(name) => format!("on {name}: {what}"),
                    Target::Controller | Target::Cluster(_) | Target::Run => what,
                };
                Ok(Err(Obstacle::new("only a person can take this back", vec![place])))
            }
            Inverse::Files { acts, left } => back.files(acts, &left).await,
            Inverse::Command { act, only_if, unless_undone } => {
                Ok(back.command(Act::Ssh(act), only_if, unless_undone).await)
            }
            Inverse::Kube => Ok(back.kube(change, &prior).await),
        }
    }

    /// What an instance deleted for good and made anew. To take the rest of it back would leave neither: no claim, and volumes that go.
    fn replaced(&self, instance: &Instance) -> Option<ObjectRef> {
        let changes = self.history.stack.iter().filter(|entry| entry.instance == *instance);
        let mut in_effect = changes.filter(|entry| {
            entry.made().is_some_and(|made| !made.is_undo) && self.history.state.is_in_effect(&entry.id())
        });
        let (mut made, mut deleted): (Vec<ObjectRef>, Vec<ObjectRef>) = Default::default();
        let has = |objects: &[ObjectRef], object: &ObjectRef| objects.iter().any(|other| is_same(other, object));
        in_effect.find_map(|entry| match &entry.change()?.act {
            Act::Kube(KubeAct::Delete { object, .. }) if holds_data(&object.kind) && !has(&made, object) => {
                deleted.push(object.clone());
                None
            }
            Act::Kube(KubeAct::Apply { manifest, .. }) => {
                let object = ObjectRef::of(manifest).ok()?;
                made.push(object.clone());
                has(&deleted, &object).then_some(object)
            }
            Act::Kube(_) | Act::Ssh(_) | Act::Files(_) => None,
        })
    }

    /// Finds out what became of inverses of this change, on files and objects, at which an earlier undo broke off: else they were in
    /// doubt for ever. Whether something is left to take back, the target then tells by itself.
    async fn settle_inverses(&self, entry: &Entry, pulse: &Arc<Pulse>) -> Result<(), Obstacle> {
        for inverse in self.history.stack.iter().filter(|other| other.instance == entry.instance) {
            let (Some(change), Some(made)) = (inverse.change(), inverse.made()) else { continue };
            let is_meant = made.undoes == Some(entry.call) && !is_process(&change.act);
            if !is_meant || !self.history.state.is_in_doubt(&inverse.id()) {
                continue;
            }
            let road = road(self.shared, inverse, pulse);
            let doubt = Doubt::of(inverse, made, &self.shared.vault);
            let found = road.find_out(&passage(inverse, change, made.undoes), doubt).await;
            if let Err(error) = found
                && !self.scope.force
            {
                let told = road.tally().stuck.is_some();
                return Err(Obstacle { told, ..Obstacle::new(error.to_string(), Vec::new()) });
            }
        }
        Ok(())
    }

    /// Whether an undo that broke off had carried out the inverse of this change: a command that may not be run twice. Files and objects
    /// tell by themselves.
    async fn begun_before(&self, entry: &Entry, pulse: &Arc<Pulse>) -> Result<bool, Obstacle> {
        // What was deferred is carried out once more when its step is unwound, which is no inverse of it.
        if was_deferred(self.history, entry) {
            return Ok(false);
        }
        match self.last_inverse(entry).filter(|(_, change, _)| is_process(&change.act)) {
            Some(inverse) => self.was_carried_out(inverse, pulse).await,
            None => Ok(false),
        }
    }

    /// The last change that an earlier undo began because of this one.
    fn last_inverse(&self, entry: &Entry) -> Option<(&Entry, &Change, &Made)> {
        self.history.stack.iter().rev().find_map(|other| {
            let made =
                other.made().filter(|made| made.undoes == Some(entry.call) && other.instance == entry.instance)?;
            Some((other, other.change()?, made))
        })
    }

    async fn was_carried_out(
        &self,
        (inverse, change, made): (&Entry, &Change, &Made),
        pulse: &Arc<Pulse>,
    ) -> Result<bool, Obstacle> {
        if let Some(response) = &made.response {
            return Ok(is_done(response));
        }
        let road = road(self.shared, inverse, pulse);
        let doubt = Doubt::of(inverse, made, &self.shared.vault);
        match road.find_out(&passage(inverse, change, made.undoes), doubt).await {
            Ok(answer) => Ok(answer.is_some_and(|answer| is_done(&Ok(answer)))),
            Err(error) => {
                let told = road.tally().stuck.is_some();
                Err(Obstacle { told, ..Obstacle::new(error.to_string(), Vec::new()) })
            }
        }
    }

    /// Carries out what waits, at its place in the stack.
    async fn carry_out(&self, entry: &Entry, pulse: &Arc<Pulse>) -> Result<(), Obstacle> {
        let Some(change) = entry.change() else { return Ok(()) };
        let summary = &change.effect.summary;
        let result = carry_out(self.shared, self.history, entry, pulse).await;
        result.map_err(|error| Obstacle::new(format!("{summary}: {error}"), vec![format!("do by hand: {summary}")]))
    }

    /// Carries out what was deferred to the end of the step, now that the step is unwound.
    async fn last(&self, entry: &Entry, touched: bool, pulse: &Arc<Pulse>) -> Result<(), Obstacle> {
        let Some(change) = entry.change() else { return Ok(()) };
        let waits = self.history.state.is_deferred(&entry.id());
        let in_doubt = self.history.state.is_in_doubt(&entry.id());
        match change.effect.timing {
            Timing::StepEndIfChanged if !touched && waits && !in_doubt => {
                let event = Event::Lapsed { instance: entry.instance.clone(), call: entry.call };
                self.append(event).await.map_err(|error| Obstacle::new(error.to_string(), Vec::new()))
            }
            Timing::StepEnd | Timing::StepEndIfChanged if waits => self.carry_out(entry, pulse).await,
            // It was carried out with what is not there any more: once more with what is there again.
            Timing::StepEndIfChanged if self.history.state.is_in_effect(&entry.id()) => {
                let mut last_time = entry.record;
                if let Some(again) = self.last_inverse(entry)
                    && self.was_carried_out(again, pulse).await?
                {
                    last_time = again.0.record;
                }
                let past = self.history.past(&entry.instance);
                // Also where an earlier undo broke off before it.
                if !touched && past.and_then(|past| past.taken_back).is_none_or(|record| record < last_time) {
                    return Ok(());
                }
                let summary = format!("{}, with what is there again", change.effect.summary);
                let begins = Event::TakingBack { instance: entry.instance.clone(), call: entry.call, summary };
                self.append(begins).await.map_err(|error| Obstacle::new(error.to_string(), Vec::new()))?;
                let again = deferred(self.shared, entry, change);
                let road = road(self.shared, entry, pulse);
                let passage = Passage {
                    call: pulse.next(),
                    target: again.target,
                    change: again.change,
                    jail: entry.jail.clone(),
                    undoes: Some(entry.call),
                };
                let result = judged(&change.effect.summary, road.pass(passage).await);
                result.map_err(|error| {
                    Obstacle::new(error.to_string(), vec![format!("do by hand: {}", change.effect.summary)])
                })
            }
            Timing::StepEnd | Timing::StepEndIfChanged | Timing::BlockEnd | Timing::Now => Ok(()),
        }
    }

    pub(crate) async fn append(&self, event: Event) -> Result<(), JournalError> {
        self.shared.journal.append(event, false).await.map(drop)
    }

    async fn stuck(&self, entry: &Entry, obstacle: &Obstacle) -> Result<(), JournalError> {
        if obstacle.told {
            return Ok(());
        }
        let event = Event::Stuck {
            instance: entry.instance.clone(),
            call: Some(entry.call),
            why: self.shared.redactor.text(&obstacle.why),
            manual: obstacle.manual.clone(),
        };
        self.shared.journal.append(event, true).await.map(drop)
    }
}
