//! One run of a runbook: which step is next, which hosts at once, when to stop.
//!
//! One loop owns a level (the runbook, or an included one). It starts a step when all of its predecessors have ended, and
//! stops starting when one failed. In a plan, steps go one after the other in the order of the file, since each sees what
//! those before it planned.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use runbook_model::call::Level as LogLevel;
use runbook_model::call::Target;
use runbook_model::event::{Event, Instance, PluginPin, RunOutcome, StepOutcome, StepSketch, Summary, VERSION, Verb};
use runbook_model::manifest::{Action, Arity};
use runbook_model::overlay::Overlay;
use runbook_model::plan::{On, Runbook, Step, StepOnFailure, Uses};
use runbook_model::summary::Counter;
use serde_json::Value;

use crate::attempt::{Finished, Outputs, Task};
use crate::broker::{Broker, Deferred, Shared, lock};
use crate::journal::JournalError;
use crate::plugin::Plugins;
use crate::scope::{Inputs, Level, Trouble};

/// How long a change that was deferred to the end of a run may take.
const LATER: Duration = Duration::from_secs(15 * 60);

/// The actions that steps can use.
pub trait Actions: Send + Sync {
    /// What an action is, and whether its plugin ships with the program.
    fn action(&self, plugin: &str, action: &str) -> Option<(&Action, bool)>;
}

/// A person, or what speaks for one.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Asks whether a step may go on; `typed` must be typed for a yes.
    async fn confirm(&self, step: &str, text: &str, typed: Option<&str>) -> Verdict;
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether to go on.
    pub approved: bool,
    /// How it was said: "typed", "--approve", "--yes".
    pub by: String,
}

/// What is to be done with a runbook.
#[derive(Debug, Clone)]
pub struct Options {
    /// Plan or exec.
    pub verb: Verb,
    /// Only these steps; empty: all.
    pub only: BTreeSet<String>,
    /// Not before this step.
    pub from: Option<String>,
    /// Hosts of one step at once, where it does not say `serial`.
    pub hosts_at_once: usize,
    /// The user's home, for paths that begin with `~/`.
    pub home: String,
    /// Absolute path of the runbook's folder.
    pub folder: String,
}

/// What the first event says besides the steps.
#[derive(Debug, Clone)]
pub struct Header {
    /// Version of the program.
    pub program: String,
    /// The plugins that are used.
    pub plugins: Vec<PluginPin>,
    /// Process id.
    pub pid: u32,
    /// Boot id of the controller.
    pub boot_id: String,
}

/// Carries runs out.
pub struct Engine {
    /// What all steps share.
    pub shared: Arc<Shared>,
    /// The plugins.
    pub plugins: Arc<dyn Plugins>,
    /// Their actions.
    pub actions: Arc<dyn Actions>,
    /// Who is asked.
    pub gate: Arc<dyn Gate>,
    /// What is to be done.
    pub options: Options,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// In a word.
    pub outcome: RunOutcome,
    /// The counts.
    pub summary: Summary,
}

/// Names of the machines, by role of the action.
type Roles = Vec<(String, Vec<String>)>;

/// The host that an instance is for, where the step fans out, and its machines.
type Member = (Option<String>, Roles);

/// The state of one step in the loop of its level.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Waiting,
    Running,
    Ended,
}

impl Engine {
    /// Runs a runbook from the first event to the last.
    ///
    /// # Errors
    ///
    /// The journal cannot be written; nothing was done after it broke.
    pub async fn run(&self, runbook: &Runbook, inputs: Inputs, header: Header) -> Result<Ended, JournalError> {
        let started = Instant::now();
        let first = Event::RunStarted {
            run: self.shared.run.clone(),
            version: VERSION.to_owned(),
            program: header.program,
            verb: self.options.verb,
            runbook: runbook.name.clone(),
            file: runbook.file.clone(),
            sha256: runbook.sha256.clone(),
            steps: runbook.steps.iter().map(sketch).collect(),
            plugins: header.plugins,
            inputs: Value::Object(inputs.visible()),
            pid: header.pid,
            boot_id: header.boot_id,
        };
        let overlay = (self.options.verb == Verb::Plan).then(|| Arc::new(Mutex::new(Overlay::default())));
        let progress = Progress { counter: Mutex::new(Counter::default()), worst: Mutex::new(None) };
        lock(&progress.counter).read(&first);
        self.shared.journal.append(first, true).await?;
        if let Some(overlay) = &overlay {
            self.cover_what_is_created(runbook, overlay);
        }
        let level = Level::new(runbook, inputs, &self.shared);
        self.level(&level, overlay.as_ref(), &progress).await?;
        let outcome = match *lock(&progress.worst) {
            None => RunOutcome::Succeeded,
            Some(StepOutcome::Stuck) => RunOutcome::Stuck,
            Some(StepOutcome::Cancelled) => RunOutcome::Cancelled,
            Some(_) => RunOutcome::Failed,
        };
        let summary = lock(&progress.counter).summary();
        let last = Event::RunFinished { outcome, summary: summary.clone(), elapsed_ms: millis(started) };
        self.shared.journal.append(last, true).await?;
        Ok(Ended { outcome, summary })
    }

    /// Machines and clusters that do not exist before a step of this run.
    fn cover_what_is_created(&self, runbook: &Runbook, overlay: &Arc<Mutex<Overlay>>) {
        let hosts = runbook.hosts.iter().map(|h| (Target::Machine(h.name.clone()), &h.created_by));
        let clusters = runbook.clusters.iter().map(|c| (Target::Cluster(c.name.clone()), &c.created_by));
        for (target, step) in hosts.chain(clusters) {
            if let Some(step) = step.as_ref().filter(|step| runbook.step(step).is_some()) {
                lock(overlay).cover(&target, step);
            }
        }
    }

    fn level<'a>(
        &'a self,
        level: &'a Level<'a>,
        overlay: Option<&'a Arc<Mutex<Overlay>>>,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<bool, JournalError>> {
        Box::pin(async move {
            let later = Mutex::new(Vec::new());
            let result = self.steps(level, overlay, progress, &later).await;
            let kept = self.carry_out_later(later, progress).await?;
            Ok(result? && kept)
        })
    }

    /// Gives whether all went well.
    async fn steps(
        &self,
        level: &Level<'_>,
        overlay: Option<&Arc<Mutex<Overlay>>>,
        progress: &Progress,
        later: &Mutex<Vec<(Arc<Broker>, Deferred)>>,
    ) -> Result<bool, JournalError> {
        let steps = &level.runbook.steps;
        let at_once = if overlay.is_some() { 1 } else { steps.len() };
        let mut places = vec![Place::Waiting; steps.len()];
        let mut running = FuturesUnordered::new();
        let mut stopped: Option<String> = None;
        let mut well = true;
        loop {
            if stopped.is_none() && self.shared.cancel.is_cancelled() {
                stopped = Some("the run was cancelled".to_owned());
            }
            if stopped.is_none() {
                for index in 0..steps.len() {
                    let ready = places[index] == Place::Waiting
                        && running.len() < at_once
                        && level.runbook.predecessors(index).iter().all(|&before| places[before] == Place::Ended);
                    if ready {
                        places[index] = Place::Running;
                        let step = &steps[index];
                        running.push(async move { (index, self.step(level, step, overlay, progress, later).await) });
                    }
                }
            }
            let Some((index, outcome)) = running.next().await else { break };
            places[index] = Place::Ended;
            let outcome = outcome?;
            if !outcome.is_ok() {
                well = false;
                // A plan shows all that it can find.
                let go_on = overlay.is_some() || steps[index].on_failure == StepOnFailure::Continue;
                if !go_on || outcome == StepOutcome::Cancelled {
                    stopped.get_or_insert_with(|| match outcome {
                        StepOutcome::Cancelled => "the run was cancelled".to_owned(),
                        _ => format!("{} did not end well", steps[index].id),
                    });
                }
            }
        }
        for (index, step) in steps.iter().enumerate().filter(|(index, _)| places[*index] == Place::Waiting) {
            let reason = stopped.clone().unwrap_or_else(|| format!("step {index} was never reached"));
            let outcome = if self.shared.cancel.is_cancelled() { StepOutcome::Cancelled } else { StepOutcome::Skipped };
            let instance = level.instance(step, None, None);
            self.ended(level, progress, instance, Finished::without_outputs(outcome, reason), Instant::now()).await?;
        }
        Ok(well)
    }

    /// What was deferred to the end of the level, last in, first out.
    async fn carry_out_later(
        &self,
        later: Mutex<Vec<(Arc<Broker>, Deferred)>>,
        progress: &Progress,
    ) -> Result<bool, JournalError> {
        let mut well = true;
        let stack = later.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (broker, deferred) in stack.into_iter().rev() {
            let (instance, summary) = (broker.instance().clone(), deferred.summary().to_owned());
            if let Err(error) = broker.renewed(Instant::now() + LATER).carry_out(deferred).await {
                well = false;
                progress.worse(StepOutcome::Failed);
                let message = format!("deferred to the end, and failed: {summary}: {error}");
                self.shared.journal.append(Event::Log { instance, level: LogLevel::Warn, message }, false).await?;
            }
        }
        Ok(well)
    }

    /// Gives the worst outcome of the step's instances.
    async fn step(
        &self,
        level: &Level<'_>,
        step: &Step,
        overlay: Option<&Arc<Mutex<Overlay>>>,
        progress: &Progress,
        later: &Mutex<Vec<(Arc<Broker>, Deferred)>>,
    ) -> Result<StepOutcome, JournalError> {
        let started = Instant::now();
        if !self.selected(level, step) {
            let finished = Finished::without_outputs(StepOutcome::Skipped, "it was not selected");
            return self.ended(level, progress, level.instance(step, None, None), finished, started).await;
        }
        let items = match level.items(step) {
            Ok(items) => items,
            Err(trouble) => {
                let finished = self.in_trouble(trouble, level, step, overlay);
                return self.ended(level, progress, level.instance(step, None, None), finished, started).await;
            }
        };
        if items.is_empty() {
            let finished = Finished::without_outputs(StepOutcome::Skipped, "its `for_each` has no element");
            return self.ended(level, progress, level.instance(step, None, None), finished, started).await;
        }
        let mut worst = StepOutcome::Skipped;
        for item in &items {
            let outcome = match &step.uses {
                Uses::Action { plugin, action } => {
                    self.fan_out(level, step, (plugin, action), item.as_ref(), overlay, progress, later).await?
                }
                Uses::Include { runbook, .. } => {
                    self.include(level, step, runbook, item.as_ref(), overlay, progress).await?
                }
            };
            worst = worst.max(outcome);
            if !outcome.is_ok() && overlay.is_none() {
                break;
            }
        }
        Ok(worst)
    }

    fn selected(&self, level: &Level<'_>, step: &Step) -> bool {
        if !level.prefix.is_empty() {
            return true;
        }
        let named = self.options.only.is_empty() || self.options.only.contains(&step.id);
        let position = |id: &str| level.runbook.steps.iter().position(|s| s.id == id);
        let late_enough = self.options.from.as_deref().is_none_or(|from| position(from) <= position(&step.id));
        named && late_enough
    }

    async fn include(
        &self,
        level: &Level<'_>,
        step: &Step,
        runbook: &Runbook,
        item: Option<&crate::scope::Item>,
        overlay: Option<&Arc<Mutex<Overlay>>>,
        progress: &Progress,
    ) -> Result<StepOutcome, JournalError> {
        let started = Instant::now();
        let instance = level.instance(step, None, item);
        let inner = match level.condition(step, None, item).and_then(|()| level.include(step, runbook, item)) {
            Ok(inner) => inner,
            Err(trouble) => {
                let finished = self.in_trouble(trouble, level, step, overlay);
                return self.ended(level, progress, instance, finished, started).await;
            }
        };
        let well = self.level(&inner, overlay, progress).await?;
        let outcome = if well { inner.worst() } else { inner.worst().max(StepOutcome::Failed) };
        level.remember(&instance, outcome, Outputs::Known(Value::Object(serde_json::Map::new())));
        Ok(outcome)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the step's place in the run")]
    async fn fan_out(
        &self,
        level: &Level<'_>,
        step: &Step,
        (plugin, action): (&str, &str),
        item: Option<&crate::scope::Item>,
        overlay: Option<&Arc<Mutex<Overlay>>>,
        progress: &Progress,
        later: &Mutex<Vec<(Arc<Broker>, Deferred)>>,
    ) -> Result<StepOutcome, JournalError> {
        let started = Instant::now();
        let failed = |reason: String| Finished::without_outputs(StepOutcome::Failed, reason);
        let Some((action, standard)) = self.actions.action(plugin, action) else {
            let finished = failed(format!("there is no action {plugin}/{action}"));
            return self.ended(level, progress, level.instance(step, None, item), finished, started).await;
        };
        let roles = match self.roles(level, step, action, item) {
            Ok(roles) => roles,
            Err(trouble) => {
                let finished = self.in_trouble(trouble, level, step, overlay);
                return self.ended(level, progress, level.instance(step, None, item), finished, started).await;
            }
        };
        let instances = instances(action, roles);
        if let Some(outcome) =
            self.ask(level, step, plugin, action, standard, item, &instances, overlay, progress).await?
        {
            return Ok(outcome);
        }
        let at_once = step.serial.map_or(self.options.hosts_at_once, |n| n as usize).max(1);
        let mut waiting = instances.into_iter();
        let mut running = FuturesUnordered::new();
        let (mut worst, mut stopped) = (StepOutcome::Skipped, false);
        loop {
            while running.len() < at_once && !stopped && !self.shared.cancel.is_cancelled() {
                let Some((host, roles)) = waiting.next() else { break };
                running.push(async move {
                    let started = Instant::now();
                    let instance = level.instance(step, host.as_deref(), item);
                    let task = self.task(level, step, plugin, action, standard, item, host.as_deref(), roles);
                    let finished = match task {
                        Ok(task) => self.one(&task, overlay).await?,
                        Err(trouble) => self.in_trouble(trouble, level, step, overlay),
                    };
                    Ok::<_, JournalError>((instance, finished, started))
                });
            }
            let Some(result) = running.next().await else { break };
            let (instance, mut finished, started) = result?;
            lock(later).append(&mut finished.later);
            let outcome = self.ended(level, progress, instance, finished, started).await?;
            worst = worst.max(outcome);
            stopped |= !outcome.is_ok() && step.on_failure == StepOnFailure::Stop && overlay.is_none();
        }
        for (host, _) in waiting {
            let instance = level.instance(step, host.as_deref(), item);
            let (outcome, reason) = if self.shared.cancel.is_cancelled() {
                (StepOutcome::Cancelled, "the run was cancelled")
            } else {
                (StepOutcome::Skipped, "another host did not end well")
            };
            let finished = Finished::without_outputs(outcome, reason);
            worst = worst.max(self.ended(level, progress, instance, finished, started).await?);
        }
        Ok(worst)
    }

    async fn one(&self, task: &Task<'_>, overlay: Option<&Arc<Mutex<Overlay>>>) -> Result<Finished, JournalError> {
        match overlay {
            Some(overlay) => {
                let event = Event::StepStarted { instance: task.instance.clone(), attempt: 1 };
                self.shared.journal.append(event, false).await?;
                Ok(task.plan(overlay).await)
            }
            None => Ok(task.apply().await),
        }
    }

    /// Asks the person, where the step wants that and would change something. Gives how the step ended, if it is not to run.
    #[expect(clippy::too_many_arguments, reason = "they are the step's place in the run")]
    async fn ask(
        &self,
        level: &Level<'_>,
        step: &Step,
        plugin: &str,
        action: &Action,
        standard: bool,
        item: Option<&crate::scope::Item>,
        instances: &[Member],
        overlay: Option<&Arc<Mutex<Overlay>>>,
        progress: &Progress,
    ) -> Result<Option<StepOutcome>, JournalError> {
        let (Some(confirm), None) = (&step.confirm, overlay) else { return Ok(None) };
        let mut due = false;
        for (host, roles) in instances {
            let task = self.task(level, step, plugin, action, standard, item, host.as_deref(), roles.clone());
            if let Ok(task) = task {
                due |= !matches!(task.is_due().await.outcome, StepOutcome::Unchanged | StepOutcome::Skipped);
            }
        }
        if !due {
            return Ok(None);
        }
        let instance = level.instance(step, None, item);
        let started = Instant::now();
        let (text, typed) = match level.confirm_texts(confirm, item) {
            Ok(texts) => texts,
            Err(trouble) => {
                let finished = self.in_trouble(trouble, level, step, overlay);
                return self.ended(level, progress, instance, finished, started).await.map(Some);
            }
        };
        let verdict = self.gate.confirm(&instance.step, &text, typed.as_deref()).await;
        let event = Event::Confirmed { step: instance.step.clone(), by: verdict.by, approved: verdict.approved };
        self.shared.journal.append(event, false).await?;
        if verdict.approved {
            return Ok(None);
        }
        let finished = Finished::without_outputs(StepOutcome::Cancelled, "it was not confirmed");
        self.ended(level, progress, instance, finished, started).await.map(Some)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the step's place in the run")]
    fn task<'a>(
        &'a self,
        level: &Level<'_>,
        step: &'a Step,
        plugin: &'a str,
        action: &'a Action,
        standard: bool,
        item: Option<&crate::scope::Item>,
        host: Option<&str>,
        roles: Roles,
    ) -> Result<Task<'a>, Trouble> {
        // What an expression means by `host`: the one that the instance is for, else the only machine.
        let only = roles
            .iter()
            .flat_map(|(_, hosts)| hosts)
            .next()
            .filter(|_| roles.iter().map(|(_, h)| h.len()).sum::<usize>() == 1);
        let scope_host = host.or(only.map(String::as_str)).map(str::to_owned);
        level.condition(step, scope_host.as_deref(), item)?;
        let (inputs, computed) = level.inputs(step, action, scope_host.as_deref(), item, &self.options)?;
        Ok(Task {
            shared: &self.shared,
            plugins: &self.plugins,
            step,
            plugin,
            action,
            standard,
            instance: level.instance(step, host, item),
            roles,
            inputs,
            computed,
        })
    }

    fn roles(
        &self,
        level: &Level<'_>,
        step: &Step,
        action: &Action,
        item: Option<&crate::scope::Item>,
    ) -> Result<Roles, Trouble> {
        let mut roles = Vec::new();
        for role in &action.roles {
            let hosts = match step.role(&role.name) {
                None => Vec::new(),
                Some(On::Static(hosts)) => hosts.clone(),
                Some(On::Expression { expr, among }) => level.hosts(expr, among, item)?,
            };
            roles.push((role.name.clone(), hosts));
        }
        Ok(roles)
    }

    fn in_trouble(
        &self,
        trouble: Trouble,
        level: &Level<'_>,
        step: &Step,
        overlay: Option<&Arc<Mutex<Overlay>>>,
    ) -> Finished {
        match trouble {
            Trouble::Skip(reason) => Finished::without_outputs(StepOutcome::Skipped, reason),
            Trouble::Unknown(reason) => {
                if let Some(overlay) = overlay {
                    let mut overlay = lock(overlay);
                    let machines = step.hosts().into_iter().map(Target::Machine);
                    for target in machines.chain(step.cluster.iter().cloned().map(Target::Cluster)) {
                        overlay.cover(&target, &level.path(&step.id));
                    }
                }
                Finished::without_outputs(StepOutcome::MayChange, reason)
            }
            Trouble::Wrong(reason) => Finished::without_outputs(StepOutcome::Failed, reason),
        }
    }

    async fn ended(
        &self,
        level: &Level<'_>,
        progress: &Progress,
        instance: Instance,
        finished: Finished,
        started: Instant,
    ) -> Result<StepOutcome, JournalError> {
        let outcome = finished.outcome;
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
        lock(&progress.counter).read(&event);
        if !outcome.is_ok() {
            progress.worse(outcome);
        }
        level.remember(&instance, outcome, finished.outputs);
        self.shared.journal.append(event, false).await?;
        Ok(outcome)
    }
}

/// How the run is going.
struct Progress {
    counter: Mutex<Counter>,
    worst: Mutex<Option<StepOutcome>>,
}

impl Progress {
    fn worse(&self, outcome: StepOutcome) {
        let mut worst = lock(&self.worst);
        *worst = Some(worst.map_or(outcome, |known| known.max(outcome)));
    }
}

/// One instance for each host of the role that fans out; the other roles are the same for all.
fn instances(action: &Action, roles: Roles) -> Vec<Member> {
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

fn sketch(step: &Step) -> StepSketch {
    StepSketch {
        id: step.id.clone(),
        uses: step.uses.to_string(),
        hosts: step.hosts(),
        cluster: step.cluster.clone(),
        why: step.why.clone(),
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
