//! One step in a run: its items, its hosts, the question to a person, what it came to.

use std::sync::OnceLock;
use std::time::Instant;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use runbook_model::call::Target;
use runbook_model::consent::Consent;
use runbook_model::event::{Event, Instance, StepOutcome};
use runbook_model::manifest::{Action, Arity};
use runbook_model::plan::{BlockOnFailure, On, OnFailure, RoleOn, Runbook, Step, StepOnFailure, UndoMode, Uses};
use serde_json::Value;

use crate::ahead::{self, Lookouts};
use crate::attempt::{Finished, Outputs, Task};
use crate::clock;
use crate::journal::JournalError;
use crate::run::{ByHand, Engine, Later, Progress, SharedOverlay, members_of, millis};
use crate::scope::{Item, Level, Trouble};
use crate::shared::lock;

/// Names of the machines, by role of the action.
type Roles = Vec<(String, Vec<String>)>;

/// The host that an instance is for, where the step fans out, and its machines.
type Member = (Option<String>, Roles);

/// A step's place in a run. `'run` is the life of the level, `'a` that of the step's turn.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'a, 'run> {
    pub(crate) level: &'run Level<'run>,
    pub(crate) index: usize,
    pub(crate) step: &'run Step,
    pub(crate) item: Option<&'a Item>,
    /// Of a plan.
    pub(crate) overlay: Option<&'run SharedOverlay>,
    pub(crate) progress: &'run Progress,
    pub(crate) later: &'a Later,
    pub(crate) lookouts: &'a Lookouts<'run>,
}

/// The action that a step uses.
#[derive(Clone, Copy)]
struct Used<'a> {
    plugin: &'a str,
    action: &'a Action,
    consent: Consent,
}

impl Spot<'_, '_> {
    fn instance(&self, host: Option<&str>) -> Instance {
        self.level.instance(self.step, host, self.item)
    }
}

impl Engine {
    /// Gives the worst outcome of the step's instances.
    pub(crate) async fn step<'run>(&'run self, spot: Spot<'_, 'run>) -> Result<StepOutcome, JournalError> {
        let started = clock::now();
        let skip = |reason: &str| Finished::without_outputs(StepOutcome::Skipped, reason);
        if !self.selected(spot) {
            return self.ended(spot, None, skip("it was not selected"), started).await;
        }
        let items = match spot.level.items(spot.step) {
            Ok(items) => items,
            Err(trouble) => return self.ended(spot, None, in_trouble(trouble, spot), started).await,
        };
        if items.is_empty() {
            return self.ended(spot, None, skip("its `for_each` has no element"), started).await;
        }
        let mut worst = StepOutcome::Skipped;
        for item in &items {
            let spot = Spot { item: item.as_ref(), ..spot };
            let outcome = match &spot.step.uses {
                Uses::Action { plugin, action } => self.action(spot, plugin, action).await?,
                Uses::Include { runbook, .. } => self.include(spot, runbook).await?,
            };
            worst = worst.max(outcome);
            if !outcome.is_ok() && spot.overlay.is_none() {
                break;
            }
        }
        Ok(worst)
    }

    fn selected(&self, spot: Spot<'_, '_>) -> bool {
        if !spot.level.prefix.is_empty() {
            return true;
        }
        let named = self.options.only.is_empty() || self.options.only.contains(&spot.step.id);
        let position = |id: &str| spot.level.runbook.steps.iter().position(|s| s.id == id);
        let late_enough = self.options.from.as_deref().is_none_or(|from| position(from) <= position(&spot.step.id));
        named && late_enough
    }

    async fn include(&self, spot: Spot<'_, '_>, runbook: &Runbook) -> Result<StepOutcome, JournalError> {
        let Spot { level, step, item, overlay, progress, .. } = spot;
        let inner = level.condition(step, None, item).and_then(|()| level.include(step, runbook, item, &self.options));
        let inner = match inner {
            Ok(inner) => inner,
            Err(trouble) => return self.ended(spot, None, in_trouble(trouble, spot), clock::now()).await,
        };
        let well = self.level(&inner, overlay, progress, false).await?;
        let outcome = if well { inner.worst() } else { inner.worst().max(StepOutcome::Failed) };
        level.remember(&spot.instance(None), outcome, Outputs::Known(Value::Object(serde_json::Map::new())));
        Ok(outcome)
    }

    async fn action<'run>(
        &'run self,
        spot: Spot<'_, 'run>,
        plugin: &'run str,
        action: &str,
    ) -> Result<StepOutcome, JournalError> {
        let started = clock::now();
        let Some((action, consent)) = self.actions.action(plugin, action) else {
            let reason = format!("there is no action {plugin}/{action}");
            return self.ended(spot, None, Finished::without_outputs(StepOutcome::Failed, reason), started).await;
        };
        let used = Used { plugin, action, consent };
        let members = match roles(spot, action, None) {
            Ok(roles) => members(action, roles),
            Err(trouble) => return self.ended(spot, None, in_trouble(trouble, spot), started).await,
        };
        if let Some(refused) = self.ask(spot, used, &members).await? {
            return self.ended(spot, None, refused, started).await;
        }
        self.fan_out(spot, used, members).await
    }

    /// The hosts run beside each other; the first that fails lets the others finish and keeps new ones from starting.
    async fn fan_out<'run>(
        &'run self,
        spot: Spot<'_, 'run>,
        used: Used<'run>,
        members: Vec<Member>,
    ) -> Result<StepOutcome, JournalError> {
        let at_once = spot.step.serial.map_or(self.options.hosts_at_once, |n| n as usize).max(1);
        let mut waiting = members.into_iter();
        let mut running = FuturesUnordered::new();
        let (mut worst, mut stopped) = (StepOutcome::Skipped, false);
        loop {
            while running.len() < at_once && !stopped && !self.shared.cancel.is_cancelled() {
                let Some((host, roles)) = waiting.next() else { break };
                running.push(async move {
                    let started = clock::now();
                    let finished = match self.task(spot, used, host.as_deref(), roles) {
                        Ok(task) => self.one(&task, spot, host.as_deref()).await?,
                        Err(trouble) => in_trouble(trouble, spot),
                    };
                    Ok::<_, JournalError>((host, finished, started))
                });
            }
            let Some(result) = running.next().await else { break };
            let (host, mut finished, started) = result?;
            lock(spot.later).append(&mut finished.later);
            let outcome = self.ended(spot, host.as_deref(), finished, started).await?;
            worst = worst.max(outcome);
            stopped |= !outcome.is_ok() && spot.step.on_failure == StepOnFailure::Stop && spot.overlay.is_none();
        }
        for (host, _) in waiting {
            let finished = if self.shared.cancel.is_cancelled() {
                Finished::without_outputs(StepOutcome::Cancelled, "the run was cancelled")
            } else {
                Finished::without_outputs(StepOutcome::Skipped, "another host did not end well")
            };
            worst = worst.max(self.ended(spot, host.as_deref(), finished, clock::now()).await?);
        }
        Ok(worst)
    }

    /// Whether a state that this instance left for the time of its block is not there any more, though the steps of the block did not all
    /// end well: then it is made anew.
    fn was_released(&self, spot: Spot<'_, '_>, instance: &Instance) -> bool {
        let (runbook, past) = (spot.level.runbook, &self.shared.past);
        let block = spot.step.block.as_ref().and_then(|block| runbook.block(block));
        block.is_some_and(|block| {
            let members = members_of(runbook, block, &spot.level.prefix);
            past.was_put_back(instance) && !members.iter().all(|step| past.ended_well(step))
        })
    }

    async fn one<'run>(
        &'run self,
        task: &Task<'run>,
        spot: Spot<'_, 'run>,
        host: Option<&str>,
    ) -> Result<Finished, JournalError> {
        let foresight = &self.shared.foresight;
        let targets = task.targets();
        let Some(overlay) = spot.overlay else {
            if !self.was_released(spot, &task.instance)
                && let Some(kept) = task.kept().await?
            {
                return Ok(kept);
            }
            self.enter(spot).await?;
            self.look_ahead(spot, host, &targets, foresight.window());
            // While it is checked, the next one can be looked at; not while somebody else may still change something.
            let meanwhile = || {
                if foresight.is_quiet() {
                    self.look_ahead(spot, host, &targets, foresight.window().max(1));
                }
            };
            let finished = task.apply(&meanwhile).await;
            foresight.ended(finished.outcome);
            return Ok(finished);
        };
        self.look_ahead(spot, host, &targets, ahead::MOST);
        let event = Event::StepStarted {
            instance: task.instance.clone(),
            attempt: 1,
            calls: 0,
            inputs: Value::Null,
            roles: Vec::new(),
            fingerprint: String::new(),
        };
        self.shared.journal.append(event, false).await?;
        Ok(task.plan(overlay).await)
    }

    /// The first step of a block that does something enters it.
    async fn enter(&self, spot: Spot<'_, '_>) -> Result<(), JournalError> {
        let Some(block) = &spot.step.block else { return Ok(()) };
        let level = spot.level;
        let path = level.path(block);
        if lock(&self.entered).contains_key(&path) {
            return Ok(());
        }
        let members = level.runbook.block(block).map(|block| members_of(level.runbook, block, &level.prefix));
        lock(&self.entered).insert(path.clone(), members.unwrap_or_default());
        self.shared.journal.append(Event::Entered { block: path }, false).await.map(drop)
    }

    /// Records what a person did in place of a step, unless something of it is wrong. Gives what is.
    pub(crate) async fn judge(
        &self,
        level: &Level<'_>,
        progress: &Progress,
        by_hand: &ByHand,
    ) -> Result<Vec<String>, JournalError> {
        let runbook = level.runbook;
        let Some(index) = runbook.steps.iter().position(|step| step.id == by_hand.step) else {
            return Ok(vec![format!("the runbook has no step `{}`", by_hand.step)]);
        };
        let step = &runbook.steps[index];
        let Uses::Action { plugin, action } = &step.uses else {
            return Ok(vec!["it includes another runbook: name a step of that one".to_owned()]);
        };
        let Some((action, consent)) = self.actions.action(plugin, action) else {
            return Ok(vec![format!("there is no action {plugin}/{action}")]);
        };
        let used = Used { plugin, action, consent };
        let (later, lookouts) = (Later::default(), Lookouts::default());
        let spot = Spot { level, index, step, item: None, overlay: None, progress, later: &later, lookouts: &lookouts };
        let items = match level.items(step) {
            Ok(items) => items,
            Err(trouble) => return Ok(vec![in_trouble(trouble, spot).reason.unwrap_or_default()]),
        };
        let (mut tasks, mut wrong) = (Vec::new(), Vec::new());
        for item in &items {
            let spot = Spot { item: item.as_ref(), ..spot };
            for (host, roles) in roles(spot, action, None).map(|roles| members(action, roles)).unwrap_or_default() {
                match self.task(spot, used, host.as_deref(), roles) {
                    Ok(task) => tasks.push((item, host, task)),
                    Err(trouble) => wrong.push(in_trouble(trouble, spot).reason.unwrap_or_default()),
                }
            }
        }
        for (_, _, task) in &tasks {
            wrong.extend(task.judge().await.into_iter().map(|wrong| format!("{}: {wrong}", task.instance)));
        }
        if wrong.is_empty() {
            for (item, host, task) in &tasks {
                let finished = task.by_hand(&by_hand.because).await?;
                let spot = Spot { item: item.as_ref(), ..spot };
                self.ended(spot, host.as_deref(), finished, clock::now()).await?;
            }
        }
        Ok(wrong)
    }

    /// Begins to look at what the next steps will look at, for a host whose `targets` are connected anyway.
    fn look_ahead<'run>(&'run self, spot: Spot<'_, 'run>, host: Option<&str>, targets: &[Target], steps: usize) {
        let all = &spot.level.runbook.steps;
        let end = (spot.index + steps).min(all.len() - 1);
        let foresight = &self.shared.foresight;
        let first = spot.lookouts.first(foresight, host, spot.index + 1);
        for (index, step) in all.iter().enumerate().take(end + 1).skip(first) {
            // Not past a person's decision, nor into another runbook.
            let (Uses::Action { plugin, action }, None) = (&step.uses, &step.confirm) else { break };
            // Nor out of a block, whose end is carried out first.
            if step.block != spot.step.block {
                break;
            }
            if spot.lookouts.is_full() {
                break;
            }
            spot.lookouts.reach(foresight, host, index + 1);
            let spot = Spot { index, step, item: None, ..spot };
            let Some((action, consent)) = self.actions.action(plugin, action) else { continue };
            let Ok(items) = spot.level.items(step) else { continue };
            if !self.selected(spot) {
                continue;
            }
            for item in &items {
                let spot = Spot { item: item.as_ref(), ..spot };
                let used = Used { plugin, action, consent };
                for (host, roles) in members_with(spot, action, host).unwrap_or_default() {
                    // What its time will say of trouble is not known yet.
                    let Ok(task) = self.task(spot, used, host.as_deref(), roles) else { continue };
                    if !task.targets().iter().all(|target| targets.contains(target)) {
                        continue;
                    }
                    if let Some((slot, guard)) = foresight.slot(&task.instance) {
                        spot.lookouts.add(async move {
                            task.foresee(slot).await;
                            drop(guard);
                        });
                    }
                }
            }
        }
    }

    /// Asks the person, where the step wants that and would change something. Gives how the step ended, if it is not to run.
    async fn ask<'run>(
        &'run self,
        spot: Spot<'_, 'run>,
        used: Used<'run>,
        members: &[Member],
    ) -> Result<Option<Finished>, JournalError> {
        let (Some(confirm), None) = (&spot.step.confirm, spot.overlay) else { return Ok(None) };
        if self.shared.past.confirmed.contains(&spot.instance(None).step) {
            return Ok(None);
        }
        let mut due = false;
        for (host, roles) in members {
            if let Ok(task) = self.task(spot, used, host.as_deref(), roles.clone()) {
                due |= !matches!(task.is_due().await.outcome, StepOutcome::Unchanged | StepOutcome::Skipped);
            }
        }
        if !due {
            return Ok(None);
        }
        let (text, typed) = match spot.level.confirm_texts(confirm, spot.item) {
            Ok(texts) => texts,
            Err(trouble) => return Ok(Some(in_trouble(trouble, spot))),
        };
        let step = spot.instance(None).step;
        let verdict = self.gate.confirm(&step, &text, typed.as_deref()).await;
        // A person took their time, and may have done something in it.
        self.shared.foresight.disturb();
        let event = Event::Confirmed { step, by: verdict.by, approved: verdict.approved };
        self.shared.journal.append(event, false).await?;
        let refused = Finished::without_outputs(StepOutcome::Cancelled, "it was not confirmed");
        Ok((!verdict.approved).then_some(refused))
    }

    fn task<'run>(
        &'run self,
        spot: Spot<'_, 'run>,
        used: Used<'run>,
        host: Option<&str>,
        roles: Roles,
    ) -> Result<Task<'run>, Trouble> {
        let Spot { level, step, item, .. } = spot;
        // What an expression means by `host`: the one that the instance is for, else the only machine.
        let mut machines = roles.iter().flat_map(|(_, hosts)| hosts);
        let only = machines.next().filter(|_| machines.next().is_none());
        let scope_host = host.or(only.map(String::as_str)).map(str::to_owned);
        if let Some(block) = step.block.as_ref().and_then(|block| level.runbook.block(block)) {
            level.holds(&block.when, &block.unless, None, None)?;
        }
        level.condition(step, scope_host.as_deref(), item)?;
        let needs_receipt = level.needs_receipt(step, scope_host.as_deref(), item)?;
        let (inputs, computed) = level.inputs(step, used.action, scope_host.as_deref(), item, &self.options)?;
        Ok(Task {
            shared: &self.shared,
            plugins: &self.plugins,
            gate: self.gate.as_ref(),
            step,
            plugin: used.plugin,
            action: used.action,
            consent: used.consent,
            instance: spot.instance(host),
            roles,
            inputs,
            computed,
            needs_receipt,
            unwinds: self.unwinds(spot),
            grants: OnceLock::new(),
        })
    }

    /// Whether a failure of the step is unwound.
    fn unwinds(&self, spot: Spot<'_, '_>) -> bool {
        let runbook = spot.level.runbook;
        let block = spot.step.block.as_ref().and_then(|block| runbook.block(block));
        let by_block = block.is_some_and(|block| block.on_failure == BlockOnFailure::Undo);
        let by_runbook = runbook.on_failure != OnFailure::Stop && spot.step.on_failure == StepOnFailure::Stop;
        (by_block || by_runbook) && spot.step.undo == UndoMode::Auto
    }

    /// Records how an instance ended. What it keeps of an earlier session is recorded already.
    pub(crate) async fn ended(
        &self,
        spot: Spot<'_, '_>,
        host: Option<&str>,
        finished: Finished,
        started: Instant,
    ) -> Result<StepOutcome, JournalError> {
        let (instance, outcome) = (spot.instance(host), finished.outcome);
        if finished.kept {
            lock(&spot.progress.counter).read(&Event::Kept { instance: instance.clone(), outcome });
            spot.level.remember(&instance, outcome, finished.outputs);
            return Ok(outcome);
        }
        let event = Event::StepFinished {
            instance: instance.clone(),
            outcome,
            outputs: match &finished.outputs {
                Outputs::Known(outputs) => outputs.clone(),
                Outputs::Unknown | Outputs::None => Value::Null,
            },
            reason: finished.reason,
            elapsed_ms: millis(started),
        };
        lock(&spot.progress.counter).read(&event);
        if !outcome.is_ok() {
            spot.progress.worse(outcome);
        }
        spot.level.remember(&instance, outcome, finished.outputs);
        self.shared.journal.append(event, false).await?;
        Ok(outcome)
    }
}

/// The instances of a step that are looked at together with one for this host: its own, or the only one.
fn members_with(spot: Spot<'_, '_>, action: &Action, host: Option<&str>) -> Result<Vec<Member>, Trouble> {
    let mut own = None;
    if let (Some(RoleOn { role, on: On::Static(hosts), .. }), Some(host)) = (spot.step.fan_out(), host)
        && hosts.len() > 1
    {
        if !hosts.iter().any(|known| known == host) {
            return Ok(Vec::new());
        }
        own = Some((role.as_str(), host));
    }
    let members = members(action, roles(spot, action, own)?);
    let only = members.len() == 1;
    Ok(members.into_iter().filter(|(of, _)| only || of.as_deref() == host).collect())
}

/// The machines of each role of the action; of the role in `own` that one alone, since there may be very many.
fn roles(spot: Spot<'_, '_>, action: &Action, own: Option<(&str, &str)>) -> Result<Roles, Trouble> {
    let mut roles = Vec::new();
    for role in &action.roles {
        let hosts = match spot.step.role(&role.name) {
            None => Vec::new(),
            Some(_) if own.is_some_and(|(name, _)| name == role.name) => own.iter().map(|(_, h)| (*h).into()).collect(),
            Some(On::Static(hosts)) => hosts.clone(),
            Some(On::Expression { expr, among }) => spot.level.hosts(expr, among, spot.item)?,
        };
        roles.push((role.name.clone(), hosts));
    }
    Ok(roles)
}

/// One instance for each host of the role that fans out; the other roles are the same for all.
fn members(action: &Action, roles: Roles) -> Vec<Member> {
    let each = action
        .roles
        .iter()
        .find(|role| role.arity == Arity::Each && roles.iter().any(|(n, h)| *n == role.name && !h.is_empty()));
    let Some(each) = each else { return vec![(None, roles)] };
    let hosts = roles.iter().find(|(name, _)| *name == each.name).map(|(_, hosts)| hosts.clone()).unwrap_or_default();
    hosts
        .into_iter()
        .map(|host| {
            let roles = roles
                .iter()
                .map(|(name, hosts)| {
                    (name.clone(), if *name == each.name { vec![host.clone()] } else { hosts.clone() })
                })
                .collect();
            (Some(host), roles)
        })
        .collect()
}

/// How a step ends that is not called.
fn in_trouble(trouble: Trouble, spot: Spot<'_, '_>) -> Finished {
    match trouble {
        Trouble::Skip(reason) => Finished::without_outputs(StepOutcome::Skipped, reason),
        Trouble::Unknown(reason) => {
            if let Some(overlay) = spot.overlay {
                let machines = spot.step.hosts().into_iter().map(Target::Machine);
                let path = spot.level.path(&spot.step.id);
                let mut overlay = lock(overlay);
                for target in machines.chain(spot.step.cluster.iter().cloned().map(Target::Cluster)) {
                    overlay.cover(&target, &path);
                }
            }
            Finished::without_outputs(StepOutcome::MayChange, reason)
        }
        Trouble::Wrong(reason) => Finished::without_outputs(StepOutcome::Failed, reason),
    }
}
