//! One instance of a step: attempts, the check of convergence, the post-conditions.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use runbook_model::call::{CallError, Target, secrets_of_inputs};
use runbook_model::event::{Event, Instance, StepOutcome};
use runbook_model::grant::{Grants, Terms};
use runbook_model::manifest::Action;
use runbook_model::overlay::Overlay;
use runbook_model::plan::{OnUnreachable, Step};
use serde_json::Value;

use crate::ahead::{Foreseen, Lookout, Slot};
use crate::backend::Backend;
use crate::broker::{self, Broker, Deferred, Mode, Setup, Shared, lock};
use crate::plugin::{PluginCall, PluginError, Plugins};

/// How long a step may take where it does not say: nothing hangs for ever, and a restore of a night still fits.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60);

/// Between two looks at a host that does not answer, where the step waits for it.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(5);

/// One instance of a step, with everything that is known before it runs.
pub(crate) struct Task<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) plugins: &'a Arc<dyn Plugins>,
    pub(crate) step: &'a Step,
    pub(crate) plugin: &'a str,
    pub(crate) action: &'a Action,
    pub(crate) standard: bool,
    pub(crate) instance: Instance,
    pub(crate) roles: Vec<(String, Vec<String>)>,
    pub(crate) inputs: Value,
    pub(crate) computed: std::collections::BTreeSet<String>,
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
        Self { outcome, outputs, reason: Some(reason.into()), later: Vec::new() }
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
        Broker::new(Setup {
            shared: Arc::clone(self.shared),
            world,
            instance: self.instance.clone(),
            grants: Arc::clone(self.grants.get_or_init(|| Arc::new(self.grants()))),
            secrets: secrets_of_inputs(&self.inputs),
            roles: self.roles.clone(),
            cluster: self.step.cluster.clone(),
            mode,
            deadline,
        })
    }

    fn grants(&self) -> Grants {
        Grants::new(Terms {
            targets: &broker::targets(&self.roles, self.step.cluster.as_deref()),
            action: self.action,
            inputs: &self.inputs,
            computed: &self.computed,
            allow: &self.step.allow,
            standard: self.standard,
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

    fn timeout(&self) -> Duration {
        self.step.timeout_ms.map_or(DEFAULT_TIMEOUT, Duration::from_millis)
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
        let deadline = Instant::now() + self.timeout();
        let overlay = Arc::new(Mutex::new(Overlay::default()));
        let road = self.broker(Arc::clone(&world), Mode::Check(overlay), deadline);
        let result = self.plugins.converge(self.call(&road, deadline)).await;
        let finished = road.finish().await;
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
        let deadline = Instant::now() + self.timeout();
        let road = self.broker(world, mode, deadline);
        let result = self.plugins.converge(self.call(&road, deadline)).await;
        let result = match result {
            Ok(outputs) => road.finish().await.map(|_| outputs).map_err(PluginError::Call),
            Err(error) => Err(error),
        };
        let tally = road.tally();
        let pending = || self.targets().iter().find_map(|target| before.pending(target).map(str::to_owned));
        let would_change = !tally.planned.is_empty();
        match result {
            Ok(outputs) => {
                let known = !tally.perhaps && !tally.planned.iter().any(|planned| planned.process);
                Finished {
                    outcome: if would_change { StepOutcome::Changed } else { StepOutcome::Unchanged },
                    outputs: if known { Outputs::Known(outputs) } else { Outputs::Unknown },
                    reason: None,
                    later: Vec::new(),
                }
            }
            Err(PluginError::Call(CallError::Unknown(reason))) => {
                let outcome = if would_change { StepOutcome::Changed } else { StepOutcome::MayChange };
                Finished { outcome, outputs: Outputs::Unknown, reason: Some(reason), later: Vec::new() }
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
        let patience = Instant::now() + self.timeout();
        let mut attempt = 1;
        // What an earlier attempt changed must be verified, though a later one finds nothing left to change.
        let mut changed = false;
        let mut world = self.foreseen().await;
        loop {
            if let Err(error) = self.tell(Event::StepStarted { instance: self.instance.clone(), attempt }).await {
                return Finished::without_outputs(StepOutcome::Failed, error.to_string());
            }
            let error = match self.attempt(&world, &mut changed, meanwhile).await {
                Ok(finished) => return finished,
                Err(error) => error,
            };
            let (pause, again) = match &error {
                _ if self.shared.cancel.is_cancelled() => (backoff, false),
                PluginError::Call(CallError::Unreachable(_))
                    if self.step.on_unreachable == OnUnreachable::Wait && Instant::now() < patience =>
                {
                    (UNREACHABLE_PAUSE, true)
                }
                PluginError::Call(
                    CallError::Unreachable(_)
                    | CallError::TimedOut(_)
                    | CallError::Conflict(_)
                    | CallError::NotFound(_)
                    | CallError::Failed(_),
                ) => (backoff, attempt < attempts),
                // Another attempt would meet the same.
                PluginError::Call(CallError::Denied(_) | CallError::Unknown(_) | CallError::Invalid(_))
                | PluginError::Crashed { .. }
                | PluginError::Limit { .. }
                | PluginError::Unfit { .. }
                | PluginError::BadAnswer { .. } => (backoff, false),
            };
            if !again {
                return self.failed(error, &None);
            }
            self.shared.foresight.disturb();
            world = Arc::clone(&self.shared.backend);
            let event = Event::Retrying {
                instance: self.instance.clone(),
                error: CallError::Failed(error.to_string()),
                after_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            };
            if let Err(error) = self.tell(event).await {
                return Finished::without_outputs(StepOutcome::Failed, error.to_string());
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shared.cancel.cancelled() => {}
            }
            backoff = backoff.saturating_mul(2);
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        world: &Arc<dyn Backend>,
        changed: &mut bool,
        meanwhile: &(dyn Fn() + Sync),
    ) -> Result<Finished, PluginError> {
        let deadline = Instant::now() + self.timeout();
        let acting = self.shared.foresight.acts();
        let road = self.broker(Arc::clone(world), Mode::Apply, deadline);
        let converged = self.plugins.converge(self.call(&road, deadline)).await;
        road.settled().await;
        // What was deferred runs however the step ended; it gets time of its own.
        let later = road.finish().await;
        let tally = road.tally();
        *changed |= tally.changed + tally.repeated > 0;
        let outputs = converged?;
        let later = later?;
        drop(acting);
        if tally.changed > 0 {
            meanwhile();
            self.check().await?;
        }
        self.verify(world, *changed, deadline).await?;
        Ok(Finished {
            outcome: if *changed { StepOutcome::Changed } else { StepOutcome::Unchanged },
            outputs: Outputs::Known(outputs),
            reason: None,
            later: later.into_iter().map(|deferred| (Arc::clone(&road), deferred)).collect(),
        })
    }

    /// After a change, the same function in plan mode must find nothing left to do.
    async fn check(&self) -> Result<(), PluginError> {
        let deadline = Instant::now() + self.timeout();
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
    async fn verify(&self, world: &Arc<dyn Backend>, changed: bool, deadline: Instant) -> Result<(), PluginError> {
        if !self.action.verifies {
            return Ok(());
        }
        let mode = if changed { Mode::Apply } else { Mode::Check(Arc::default()) };
        let road = self.broker(Arc::clone(world), mode, deadline);
        let wrong = self.plugins.verify(self.call(&road, deadline)).await;
        let finished = road.finish().await;
        let wrong = match wrong {
            Err(PluginError::Call(CallError::Unknown(_))) if !changed => return Ok(()),
            wrong => wrong?,
        };
        finished?;
        if changed || !wrong.is_empty() {
            self.tell(Event::Verified { instance: self.instance.clone(), wrong: wrong.clone() }).await?;
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(PluginError::Call(CallError::Failed(format!("it does not serve its purpose: {}", wrong.join("; ")))))
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
