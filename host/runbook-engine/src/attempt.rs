//! One instance of a step: attempts, replays of them, the check of convergence, the post-conditions.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use runbook_model::call::{CallError, Target, secrets_of_inputs};
use runbook_model::consent::Consent;
use runbook_model::duration;
use runbook_model::event::{Event, Instance, StepOutcome};
use runbook_model::grant::{Grants, Terms};
use runbook_model::history::{Heard, Past};
use runbook_model::manifest::Action;
use runbook_model::overlay::Overlay;
use runbook_model::plan::{NeedsReceipt, OnUnreachable, Step};
use runbook_model::state::may_have_changed;
use serde_json::Value;

use crate::ahead::{Foreseen, Lookout, Slot};
use crate::backend::Backend;
use crate::broker::{self, Broker, Deferred, Mode, Pulse, Setup};
use crate::clock;
use crate::journal::JournalError;
use crate::plugin::{PluginCall, PluginError, Plugins};
use crate::replay::Replay;
use crate::run::Gate;
use crate::shared::{Shared, lock};
use crate::unwind;

/// How long a step may take where it does not say: nothing hangs for ever, and a restore of a night still fits.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60);

/// Between two looks at a host that does not answer, where the step waits for it.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(5);

/// Pauses between attempts double up to here, or to what the step says where that is longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60 * 60);

/// One instance of a step, with everything that is known before it runs.
pub(crate) struct Task<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) plugins: &'a Arc<dyn Plugins>,
    pub(crate) gate: &'a dyn Gate,
    pub(crate) step: &'a Step,
    pub(crate) plugin: &'a str,
    pub(crate) action: &'a Action,
    pub(crate) consent: Consent,
    pub(crate) instance: Instance,
    pub(crate) roles: Vec<(String, Vec<String>)>,
    pub(crate) inputs: Value,
    pub(crate) computed: std::collections::BTreeSet<String>,
    pub(crate) needs_receipt: Option<NeedsReceipt>,
    /// A failure of it is unwound: what it deferred is carried out on the way.
    pub(crate) unwinds: bool,
    /// What its calls may do: the same in every attempt.
    pub(crate) grants: OnceLock<Arc<Grants>>,
}

/// How an instance ended.
pub(crate) struct Finished {
    pub(crate) outcome: StepOutcome,
    pub(crate) outputs: Outputs,
    pub(crate) reason: Option<String>,
    /// What waits for the end of the block or run.
    pub(crate) later: Vec<(Arc<Broker>, Deferred)>,
    /// It ended so in an earlier session.
    pub(crate) kept: bool,
}

/// What later steps may know of an instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outputs {
    /// These.
    Known(Value),
    /// Not before it ran.
    Unknown,
    /// It was skipped, or failed.
    None,
}

impl Finished {
    pub(crate) fn without_outputs(outcome: StepOutcome, reason: impl Into<String>) -> Self {
        let outputs = if outcome == StepOutcome::MayChange { Outputs::Unknown } else { Outputs::None };
        Self { reason: Some(reason.into()), ..Self::of(outcome, outputs) }
    }

    fn of(outcome: StepOutcome, outputs: Outputs) -> Self {
        Self { outcome, outputs, reason: None, later: Vec::new(), kept: false }
    }
}

/// What goes on from one attempt to the next.
struct Going {
    pulse: Arc<Pulse>,
    world: Arc<dyn Backend>,
    replay: Option<Arc<Replay>>,
    /// What an earlier attempt changed must be verified, though a later one finds nothing left to change.
    changed: bool,
    attempt: u32,
    /// An attempt is to be begun from its start.
    begins: bool,
    /// What was to be carried out at the end of an attempt may not have been.
    is_open: bool,
    /// What waits for the end of the block or run.
    later: Vec<(Arc<Broker>, Deferred)>,
}

/// Why an attempt gave no result.
enum Broke {
    /// The plugin, or a call of it.
    Plugin(PluginError),
    /// It asks something else than what the journal says.
    Diverged { call: u32, why: String },
    /// Nobody can tell what became of a change.
    Stuck(String),
    /// The answer to a change was lost.
    Lost(PluginError),
}

impl From<PluginError> for Broke {
    fn from(error: PluginError) -> Self {
        Self::Plugin(error)
    }
}

impl From<CallError> for Broke {
    fn from(error: CallError) -> Self {
        Self::Plugin(error.into())
    }
}

impl Task<'_> {
    pub(crate) fn targets(&self) -> Vec<Target> {
        broker::targets(&self.roles, self.step.cluster.as_deref())
            .into_iter()
            .filter(|target| *target != Target::Controller)
            .collect()
    }

    fn broker(&self, world: Arc<dyn Backend>, mode: Mode, deadline: Instant) -> Arc<Broker> {
        self.road(world, mode, deadline, Pulse::after(None, self.shared.now_ms()), None)
    }

    fn road(
        &self,
        world: Arc<dyn Backend>,
        mode: Mode,
        deadline: Instant,
        pulse: Arc<Pulse>,
        replay: Option<Arc<Replay>>,
    ) -> Arc<Broker> {
        let setup = Setup {
            shared: Arc::clone(self.shared),
            world,
            instance: self.instance.clone(),
            grants: Arc::clone(self.grants.get_or_init(|| Arc::new(self.grants()))),
            secrets: secrets_of_inputs(&self.inputs),
            roles: self.roles.clone(),
            cluster: self.step.cluster.clone(),
            mode,
            deadline,
            pulse,
            needs_receipt: self.needs_receipt.clone(),
        };
        Broker::going_on(setup, replay)
    }

    fn grants(&self) -> Grants {
        Grants::new(Terms {
            targets: &broker::targets(&self.roles, self.step.cluster.as_deref()),
            action: self.action,
            inputs: &self.inputs,
            computed: &self.computed,
            allow: &self.step.allow,
            consent: self.consent,
        })
    }

    fn call(&self, road: &Arc<Broker>, deadline: Instant) -> PluginCall {
        PluginCall {
            plugin: self.plugin.to_owned(),
            action: self.action.name.clone(),
            inputs: self.inputs.clone(),
            road: Arc::clone(road) as Arc<dyn crate::plugin::Road>,
            deadline,
        }
    }

    /// The step's own, else what the action wants.
    fn timeout(&self) -> Duration {
        let wanted = || self.action.limits.time.as_deref().and_then(|text| duration::parse(text).ok());
        self.step.timeout_ms.or_else(wanted).map_or(DEFAULT_TIMEOUT, Duration::from_millis)
    }

    /// Keyed hash over all that it depends on: whether a finished instance would do the same again.
    pub(crate) fn fingerprint(&self) -> String {
        let secrets: Vec<_> = secrets_of_inputs(&self.inputs)
            .into_iter()
            .map(|name| (name.clone(), self.shared.secrets.0.get(&name).cloned()))
            .collect();
        let uses = (self.plugin, &self.action.name);
        let all = (uses, &self.inputs, &self.roles, &self.step.cluster, secrets);
        self.shared.vault.fingerprint(&serde_json::to_vec(&all).unwrap_or_default())
    }

    fn past(&self) -> Option<&Past> {
        self.shared.past.past(&self.instance)
    }

    /// How it ended in an earlier session, where it ended well and would do the same again.
    pub(crate) async fn kept(&self) -> Result<Option<Finished>, JournalError> {
        let Some(past) = self.past() else { return Ok(None) };
        let (Some(ended), Some(started)) = (&past.ended, &past.started) else { return Ok(None) };
        let is_done = matches!(ended.outcome, StepOutcome::Unchanged | StepOutcome::Changed);
        if !is_done || started.fingerprint != self.fingerprint() {
            return Ok(None);
        }
        let event = Event::Kept { instance: self.instance.clone(), outcome: ended.outcome };
        self.shared.journal.append(event, false).await?;
        let outputs = Outputs::Known(ended.outputs.clone());
        Ok(Some(Finished { kept: true, ..Finished::of(ended.outcome, outputs) }))
    }

    /// The world, as far as it is not known ahead.
    async fn foreseen(&self) -> Arc<dyn Backend> {
        let world = Arc::clone(&self.shared.backend);
        match self.shared.foresight.take(&self.instance).await {
            Some(slot) => Arc::new(Foreseen { world, foresight: Arc::clone(&self.shared.foresight), slot }),
            None => world,
        }
    }

    /// Looks at what the step will look at when its time has come.
    pub(crate) async fn foresee(&self, slot: Arc<Slot>) {
        let foresight = Arc::clone(&self.shared.foresight);
        let world: Arc<dyn Backend> = Arc::new(Lookout { world: Arc::clone(&self.shared.backend), foresight, slot });
        let deadline = clock::now() + self.timeout();
        let overlay = Arc::new(Mutex::new(Overlay::default()));
        let road = self.broker(Arc::clone(&world), Mode::Check(overlay), deadline);
        let result = self.plugins.converge(self.call(&road, deadline)).await;
        let finished = road.finish().await.1;
        let tally = road.tally();
        let is_well = result.is_ok() && finished.is_ok() && tally.planned.is_empty() && !tally.perhaps;
        if is_well && self.action.verifies {
            let road = self.broker(world, Mode::Check(Arc::default()), deadline);
            // What it finds wrong, it finds again when the step runs.
            let _ = self.plugins.verify(self.call(&road, deadline)).await;
        }
    }

    /// Finds the changes, makes none.
    pub(crate) async fn plan(&self, overlay: &Arc<Mutex<Overlay>>) -> Finished {
        let before = lock(overlay).clone();
        let world = self.foreseen().await;
        let finished = self.look_only(world, Mode::Plan(Arc::clone(overlay)), &before).await;
        if finished.outcome == StepOutcome::MayChange {
            // Nobody knows what it will do: what it may alter is unknown until then.
            let mut overlay = lock(overlay);
            for target in self.targets() {
                overlay.cover(&target, &self.instance.step);
            }
        }
        finished
    }

    /// Whether the step would change something now, for the question to a person. Leaves no trace.
    pub(crate) async fn is_due(&self) -> Finished {
        let overlay = Arc::new(Mutex::new(Overlay::default()));
        self.look_only(Arc::clone(&self.shared.backend), Mode::Check(overlay), &Overlay::default()).await
    }

    async fn look_only(&self, world: Arc<dyn Backend>, mode: Mode, before: &Overlay) -> Finished {
        let deadline = clock::now() + self.timeout();
        let road = self.broker(world, mode, deadline);
        let result = self.plugins.converge(self.call(&road, deadline)).await;
        let result = match result {
            Ok(outputs) => road.finish().await.1.map(|()| outputs).map_err(PluginError::Call),
            Err(error) => Err(error),
        };
        let tally = road.tally();
        let pending = || self.targets().iter().find_map(|target| before.pending(target).map(str::to_owned));
        let would_change = !tally.planned.is_empty();
        match result {
            Ok(outputs) => {
                let known = !tally.perhaps && !tally.planned.iter().any(|planned| planned.process);
                let outcome = if would_change { StepOutcome::Changed } else { StepOutcome::Unchanged };
                Finished::of(outcome, if known { Outputs::Known(outputs) } else { Outputs::Unknown })
            }
            Err(PluginError::Call(CallError::Unknown(reason))) => {
                let outcome = if would_change { StepOutcome::Changed } else { StepOutcome::MayChange };
                Finished { reason: Some(reason), ..Finished::of(outcome, Outputs::Unknown) }
            }
            Err(error) => match (&error, pending()) {
                // What fails on a target that is not ready yet, may be well when its time has come.
                (PluginError::Call(call), Some(step)) if !matches!(call, CallError::Denied(_)) => {
                    Finished::without_outputs(
                        StepOutcome::MayChange,
                        format!("cannot be looked at before {step} ({error})"),
                    )
                }
                _ => self.failed(error, &tally.denied),
            },
        }
    }

    /// Carries the step out. `meanwhile` is called when all that is left of it is to look whether it is well.
    pub(crate) async fn apply(&self, meanwhile: &(dyn Fn() + Sync)) -> Finished {
        let attempts = self.step.retry.map_or(1, |retry| retry.attempts);
        let mut backoff = Duration::from_millis(self.step.retry.map_or(0, |retry| retry.backoff_ms));
        let longest = backoff.max(LONGEST_BACKOFF);
        let patience = clock::now() + self.timeout();
        let mut going = match self.set_out().await {
            Ok(going) => going,
            Err(finished) => return finished,
        };
        // Of this session.
        let mut tried = 1;
        loop {
            let waits = || self.step.on_unreachable == OnUnreachable::Wait && clock::now() < patience;
            let error = match self.attempt(&mut going, attempts > tried || waits(), meanwhile).await {
                Ok(finished) => return Finished { later: going.later, ..finished },
                Err(Broke::Stuck(why)) => {
                    return Finished { later: going.later, ..Finished::without_outputs(StepOutcome::Stuck, why) };
                }
                Err(Broke::Diverged { call, why }) => match self.diverged(&mut going, call, why).await {
                    Ok(()) => continue,
                    Err(finished) => return Finished { later: going.later, ..finished },
                },
                Err(Broke::Lost(error)) => {
                    // Not to be tried anew: what was lost is found out first.
                    going.replay = self.replay_now().await;
                    if going.replay.is_none() {
                        return Finished { later: going.later, ..self.failed(error, &None) };
                    }
                    error
                }
                Err(Broke::Plugin(error)) => {
                    going.replay = None;
                    error
                }
            };
            // To wait for a host is no attempt.
            let waits = matches!(error, PluginError::Call(CallError::Unreachable(_))) && waits();
            let (pause, again) = match &error {
                _ if self.shared.cancel.is_cancelled() => (backoff, false),
                _ if waits => (UNREACHABLE_PAUSE, true),
                PluginError::Call(
                    CallError::Unreachable(_)
                    | CallError::TimedOut(_)
                    | CallError::Conflict(_)
                    | CallError::NotFound(_)
                    | CallError::Failed(_),
                ) => (backoff, tried < attempts),
                // Another attempt would meet the same.
                PluginError::Call(CallError::Denied(_) | CallError::Unknown(_) | CallError::Invalid(_))
                | PluginError::Crashed { .. }
                | PluginError::Limit { .. }
                | PluginError::Unfit { .. }
                | PluginError::BadAnswer { .. } => (backoff, false),
            };
            if !again {
                // Also what an earlier attempt left, and nobody could bring to its end.
                let lost = going.replay.is_some() || (going.begins && going.is_open);
                let finished = self.failed(error, &None);
                // A change in doubt is nothing to be passed over.
                let outcome = match finished.outcome {
                    StepOutcome::Skipped if lost => StepOutcome::Unreachable,
                    outcome => outcome,
                };
                return Finished { outcome, later: going.later, ..finished };
            }
            self.shared.foresight.disturb();
            going.world = Arc::clone(&self.shared.backend);
            let event = Event::Retrying {
                instance: self.instance.clone(),
                error: CallError::Failed(error.to_string()),
                after_ms: clock::whole_ms(pause),
            };
            if let Err(error) = self.tell(event).await {
                return Finished::without_outputs(StepOutcome::Failed, error.to_string());
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shared.cancel.cancelled() => {}
            }
            if !waits {
                backoff = backoff.saturating_mul(2).min(longest);
                tried += 1;
            }
            going.begins = going.replay.is_none();
        }
    }

    /// Begins the first attempt of this session, or goes on with the last one of an earlier session.
    async fn set_out(&self) -> Result<Going, Finished> {
        let past = self.past();
        let mut going = Going {
            pulse: Pulse::after(past, self.shared.now_ms()),
            world: self.foreseen().await,
            replay: None,
            changed: past.is_some_and(|past| past.changed_before),
            attempt: past.map_or(0, |past| past.attempts),
            begins: false,
            is_open: false,
            later: Vec::new(),
        };
        let failed = |error: &dyn std::fmt::Display| Finished::without_outputs(StepOutcome::Failed, error.to_string());
        let replay = Replay::of(&self.shared.past, &self.instance, &self.shared.vault);
        if let (Some(replay), Some(started)) = (replay, past.and_then(|past| past.started.as_ref())) {
            going.world = Arc::clone(&self.shared.backend);
            if started.fingerprint == self.fingerprint() {
                going.replay = Some(Arc::new(replay));
                return Ok(going);
            }
            let why = "its inputs are not what they were".to_owned();
            self.diverged(&mut going, 0, why).await?;
            return Ok(going);
        }
        unwind::close(self.shared, &self.instance).await.map_err(|error| failed(&error))?;
        self.begin(&mut going).await.map_err(|error| failed(&error))?;
        Ok(going)
    }

    /// Begins an attempt from its start.
    async fn begin(&self, going: &mut Going) -> Result<(), JournalError> {
        going.attempt += 1;
        going.replay = None;
        let calls = going.pulse.calls();
        let event = Event::StepStarted {
            instance: self.instance.clone(),
            attempt: going.attempt,
            calls,
            inputs: self.inputs.clone(),
            roles: self.roles.clone(),
            fingerprint: self.fingerprint(),
        };
        let place = self.shared.journal.append(event, false).await?;
        going.pulse.begin(calls, place.at);
        Ok(())
    }

    /// What the journal knows of the attempt that is going on.
    async fn replay_now(&self) -> Option<Arc<Replay>> {
        let history = self.shared.history().await.ok()?;
        Replay::of(&history, &self.instance, &self.shared.vault).map(Arc::new)
    }

    /// The step is looked at from its start. Where it has changed something already, a person is asked first.
    async fn diverged(&self, going: &mut Going, call: u32, why: String) -> Result<(), Finished> {
        let failed = |error: &dyn std::fmt::Display| Finished::without_outputs(StepOutcome::Failed, error.to_string());
        let changed = self.past().is_some_and(|past| {
            past.tape
                .0
                .values()
                .any(|taped| matches!(&taped.what, Heard::Changed(response) if may_have_changed(response)))
        });
        if changed {
            let text = format!(
                "it had changed something before the run broke off, and does not ask now what it asked then ({why}). Look at it again \
                 from its start?"
            );
            let verdict = self.gate.confirm(&self.instance.to_string(), &text, None).await;
            let (step, by) = (format!("{}: from its start", self.instance), verdict.by);
            let event = Event::Confirmed { step, by, approved: verdict.approved };
            self.tell(event).await.map_err(|error| failed(&error))?;
            if !verdict.approved {
                let why = format!("{why}; it was not agreed to look at it again from its start");
                return Err(Finished::without_outputs(StepOutcome::Cancelled, why));
            }
        }
        unwind::close(self.shared, &self.instance).await.map_err(|error| failed(&error))?;
        let event = Event::Diverged { instance: self.instance.clone(), call, why };
        self.tell(event).await.map_err(|error| failed(&error))?;
        going.changed |= changed;
        self.begin(going).await.map_err(|error| failed(&error))
    }

    async fn attempt(&self, going: &mut Going, more: bool, meanwhile: &(dyn Fn() + Sync)) -> Result<Finished, Broke> {
        let deadline = clock::now() + self.timeout();
        if going.begins {
            // Nobody asks for it again where all else is as it should be.
            if going.is_open {
                unwind::close_now(self.shared, &self.instance).await?;
                going.is_open = false;
            }
            self.begin(going).await.map_err(|error| CallError::Failed(error.to_string()))?;
            going.begins = false;
        }
        if let Some(replay) = &going.replay {
            going.pulse.begin(replay.first(), replay.began_at());
        }
        let acting = self.shared.foresight.acts();
        let replay = going.replay.clone();
        let road = self.road(Arc::clone(&going.world), Mode::Apply, deadline, Arc::clone(&going.pulse), replay.clone());
        let converged = self.plugins.converge(self.call(&road, deadline)).await;
        road.settled().await;
        if let Some((call, why)) = replay.as_ref().and_then(|replay| replay.diverged()) {
            return Err(Broke::Diverged { call, why });
        }
        // What was deferred runs however the step ended; it gets time of its own. Where the step is unwound, its time comes on the way.
        let unwinds = self.unwinds && converged.is_err() && !more;
        let finished = if unwinds { Ok(()) } else { self.finish(&road, going).await };
        going.is_open = unwinds || finished.is_err();
        let tally = road.tally();
        going.changed |= tally.changed + tally.repeated > 0;
        if let Some(why) = tally.stuck {
            return Err(Broke::Stuck(why));
        }
        let outputs = converged.map_err(|error| if tally.lost { Broke::Lost(error) } else { error.into() })?;
        finished.map_err(|error| if tally.lost { Broke::Lost(error.into()) } else { error.into() })?;
        drop(acting);
        if tally.changed > 0 {
            meanwhile();
            self.check().await?;
        }
        self.verify(going, deadline).await?;
        let outcome = if going.changed { StepOutcome::Changed } else { StepOutcome::Unchanged };
        Ok(Finished::of(outcome, Outputs::Known(outputs)))
    }

    /// Carries out what was deferred to the end of the step; what waits longer goes along.
    async fn finish(&self, road: &Arc<Broker>, going: &mut Going) -> Result<(), CallError> {
        let (later, finished) = road.finish().await;
        going.later.extend(later.into_iter().map(|deferred| (Arc::clone(road), deferred)));
        finished
    }

    /// After a change, the same function in plan mode must find nothing left to do.
    async fn check(&self) -> Result<(), PluginError> {
        let deadline = clock::now() + self.timeout();
        let overlay = Arc::new(Mutex::new(Overlay::default()));
        let road = self.broker(Arc::clone(&self.shared.backend), Mode::Check(overlay), deadline);
        let result = self.plugins.converge(self.call(&road, deadline)).await;
        let mut left: Vec<String> =
            road.tally().planned.into_iter().filter(|p| !p.repeats).map(|planned| planned.summary).collect();
        match result {
            Ok(_) => {}
            // Behind a change that repeats by nature, a plan cannot see.
            Err(PluginError::Call(CallError::Unknown(_))) if road.tally().planned.iter().any(|p| p.repeats) => {}
            Err(error) => left.push(format!("the look afterwards failed: {error}")),
        }
        self.tell(Event::Checked { instance: self.instance.clone(), left: left.clone() }).await?;
        if left.is_empty() {
            return Ok(());
        }
        let text = format!("it was carried out, but a second look would still: {}", left.join("; "));
        Err(PluginError::Call(CallError::Failed(text)))
    }

    /// The post-conditions: also where nothing was changed, since an earlier run may have left them unfulfilled. Then only by
    /// looking; a proof that needs a change (a pod that pulls) was given when something was changed.
    async fn verify(&self, going: &mut Going, deadline: Instant) -> Result<(), Broke> {
        if !self.action.verifies {
            return Ok(());
        }
        let world = Arc::clone(&going.world);
        let road = if going.changed {
            self.tell(Event::Verifying { instance: self.instance.clone() }).await?;
            self.road(world, Mode::Apply, deadline, Arc::clone(&going.pulse), going.replay.clone())
        } else {
            self.broker(world, Mode::Check(Arc::default()), deadline)
        };
        let wrong = self.plugins.verify(self.call(&road, deadline)).await;
        if let Some((call, why)) = road.replay().and_then(Replay::diverged) {
            return Err(Broke::Diverged { call, why });
        }
        let finished = road.finish().await.1;
        going.is_open |= finished.is_err();
        let tally = road.tally();
        if let Some(why) = tally.stuck {
            return Err(Broke::Stuck(why));
        }
        let wrong = match wrong {
            Err(PluginError::Call(CallError::Unknown(_))) if !going.changed => return Ok(()),
            Err(error) if tally.lost => return Err(Broke::Lost(error)),
            wrong => wrong?,
        };
        finished?;
        if going.changed || !wrong.is_empty() {
            self.tell(Event::Verified { instance: self.instance.clone(), wrong: wrong.clone() }).await?;
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let text = format!("it does not serve its purpose: {}", wrong.join("; "));
        Err(PluginError::Call(CallError::Failed(text)).into())
    }

    /// Whether the step's purpose is fulfilled as things are: nothing left to do, and its post-conditions hold. What is wrong, in words.
    pub(crate) async fn judge(&self) -> Vec<String> {
        let due = self.is_due().await;
        let mut wrong = match due.outcome {
            StepOutcome::Unchanged => Vec::new(),
            StepOutcome::Changed => vec!["the step would still change something".to_owned()],
            _ => vec![due.reason.unwrap_or_else(|| "it cannot be looked at".to_owned())],
        };
        if wrong.is_empty() && self.action.verifies {
            let deadline = clock::now() + self.timeout();
            let world = Arc::clone(&self.shared.backend);
            let road = self.broker(world, Mode::Check(Arc::default()), deadline);
            match self.plugins.verify(self.call(&road, deadline)).await {
                Ok(found) => wrong = found,
                // A proof that needs a change cannot be given by looking.
                Err(PluginError::Call(CallError::Unknown(_))) => {}
                Err(error) => wrong.push(error.to_string()),
            }
        }
        wrong
    }

    /// A person did what the step is for: it is recorded as an attempt that found nothing to do.
    pub(crate) async fn by_hand(&self, because: &str) -> Result<Finished, JournalError> {
        let past = self.past();
        let mut going = Going {
            pulse: Pulse::after(past, self.shared.now_ms()),
            world: Arc::clone(&self.shared.backend),
            replay: None,
            changed: false,
            attempt: past.map_or(0, |past| past.attempts),
            begins: false,
            is_open: false,
            later: Vec::new(),
        };
        self.begin(&mut going).await?;
        let event = Event::ByHand { instance: self.instance.clone(), because: because.to_owned() };
        self.shared.journal.append(event, false).await?;
        let outputs = self.is_due().await.outputs;
        let reason = Some(format!("done by hand: {because}"));
        Ok(Finished { reason, ..Finished::of(StepOutcome::Unchanged, outputs) })
    }

    async fn tell(&self, event: Event) -> Result<(), CallError> {
        let written = self.shared.journal.append(event, false).await;
        written.map(|_| ()).map_err(|error| CallError::Failed(error.to_string()))
    }

    fn failed(&self, error: PluginError, denied: &Option<String>) -> Finished {
        let outcome = match &error {
            _ if self.shared.cancel.is_cancelled() => StepOutcome::Cancelled,
            PluginError::Call(CallError::Denied(_)) => StepOutcome::Denied,
            PluginError::Call(CallError::Unreachable(_)) if self.step.on_unreachable == OnUnreachable::Skip => {
                StepOutcome::Skipped
            }
            PluginError::Call(CallError::Unreachable(_)) => StepOutcome::Unreachable,
            PluginError::Call(_)
            | PluginError::Crashed { .. }
            | PluginError::Limit { .. }
            | PluginError::Unfit { .. }
            | PluginError::BadAnswer { .. } => StepOutcome::Failed,
        };
        let mut reason = error.to_string();
        if let (Some(denied), false) = (denied, outcome == StepOutcome::Denied) {
            reason = format!("{reason} (a call was denied before: {denied})");
        }
        Finished::without_outputs(outcome, reason)
    }
}
