//! One run of a runbook: which step is next, which hosts at once, when to stop.
//!
//! One loop owns a level (the runbook, or an included one). It starts a step when all of its predecessors have ended, and
//! stops starting when one failed. In a plan, steps go one after the other in the order of the file, since each sees what
//! those before it planned.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use runbook_model::call::Level as LogLevel;
use runbook_model::call::Target;
use runbook_model::event::{Event, PluginPin, RunOutcome, StepOutcome, StepSketch, Summary, VERSION, Verb};
use runbook_model::manifest::Action;
use runbook_model::overlay::Overlay;
use runbook_model::plan::{Runbook, Step, StepOnFailure, Waits};
use runbook_model::summary::Counter;
use serde_json::Value;

use crate::ahead::Lookouts;
use crate::attempt::Finished;
use crate::broker::{Broker, Deferred, Shared, lock};
use crate::journal::JournalError;
use crate::plugin::Plugins;
use crate::scope::{Inputs, Level};
use crate::step::Spot;

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

/// What the steps of a plan have planned so far.
pub(crate) type SharedOverlay = Arc<Mutex<Overlay>>;

/// What waits for the end of a level, the first deferred first.
pub(crate) type Later = Mutex<Vec<(Arc<Broker>, Deferred)>>;

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
        let level = Level::new(runbook, inputs, &self.shared, &self.options.folder);
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
        self.shared.journal.settle().await;
        Ok(Ended { outcome, summary })
    }

    /// Machines and clusters that do not exist before a step of this run.
    fn cover_what_is_created(&self, runbook: &Runbook, overlay: &SharedOverlay) {
        let hosts = runbook.hosts.iter().map(|h| (Target::Machine(h.name.clone()), &h.created_by));
        let clusters = runbook.clusters.iter().map(|c| (Target::Cluster(c.name.clone()), &c.created_by));
        for (target, step) in hosts.chain(clusters) {
            if let Some(step) = step.as_ref().filter(|step| runbook.step(step).is_some()) {
                lock(overlay).cover(&target, step);
            }
        }
    }

    /// Runs the steps of a level, and what was deferred to its end. Gives whether all went well.
    pub(crate) fn level<'a>(
        &'a self,
        level: &'a Level<'a>,
        overlay: Option<&'a SharedOverlay>,
        progress: &'a Progress,
    ) -> BoxFuture<'a, Result<bool, JournalError>> {
        Box::pin(async move {
            let later = Mutex::new(Vec::new());
            let result = self.steps(level, overlay, progress, &later).await;
            let kept = self.carry_out_later(later, progress).await?;
            Ok(result? && kept)
        })
    }

    async fn steps<'run>(
        &'run self,
        level: &'run Level<'run>,
        overlay: Option<&'run SharedOverlay>,
        progress: &'run Progress,
        later: &Later,
    ) -> Result<bool, JournalError> {
        let steps = &level.runbook.steps;
        let waits = level.runbook.waits();
        let at_once = if overlay.is_some() { 1 } else { steps.len() };
        let mut places = vec![Place::Waiting; steps.len()];
        let lookouts = Lookouts::default();
        let mut looking = FuturesUnordered::new();
        let mut running = FuturesUnordered::new();
        let spot = |index| Spot {
            level,
            index,
            step: &steps[index],
            item: None,
            overlay,
            progress,
            later,
            lookouts: &lookouts,
        };
        let mut stopped: Option<String> = None;
        let mut well = true;
        loop {
            if stopped.is_none() && self.shared.cancel.is_cancelled() {
                stopped = Some("the run was cancelled".to_owned());
            }
            if stopped.is_none() {
                let ended = |&before: &usize| places[before] == Place::Ended;
                let all_above = (0..steps.len()).take_while(ended).count();
                for index in all_above..steps.len() {
                    let ready = places[index] == Place::Waiting
                        && running.len() < at_once
                        && match &waits[index] {
                            Waits::AllAbove => index <= all_above,
                            Waits::For(steps) => steps.iter().all(|&before| places[before] == Place::Ended),
                        };
                    if ready {
                        places[index] = Place::Running;
                        let spot = spot(index);
                        running.push(async move { (index, self.step(spot).await) });
                    }
                }
            }
            let next = tokio::select! {
                biased;
                next = running.next() => next,
                () = lookouts.run(&mut looking) => None,
            };
            let Some((index, outcome)) = next else { break };
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
            debug_assert!(std::ptr::eq(step, spot(index).step));
            self.ended(spot(index), None, Finished::without_outputs(outcome, reason), Instant::now()).await?;
        }
        Ok(well)
    }

    /// What was deferred to the end of the level, last in, first out.
    async fn carry_out_later(&self, later: Later, progress: &Progress) -> Result<bool, JournalError> {
        let mut well = true;
        let stack = later.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (broker, deferred) in stack.into_iter().rev() {
            let (instance, summary) = (broker.instance().clone(), deferred.summary().to_owned());
            if let Err(error) = broker.afterwards().carry_out(deferred).await {
                well = false;
                progress.worse(StepOutcome::Failed);
                let message = format!("deferred to the end, and failed: {summary}: {error}");
                self.shared.journal.append(Event::Log { instance, level: LogLevel::Warn, message }, false).await?;
            }
        }
        Ok(well)
    }
}

/// How the run is going.
pub(crate) struct Progress {
    pub(crate) counter: Mutex<Counter>,
    worst: Mutex<Option<StepOutcome>>,
}

impl Progress {
    pub(crate) fn worse(&self, outcome: StepOutcome) {
        let mut worst = lock(&self.worst);
        *worst = Some(worst.map_or(outcome, |known| known.max(outcome)));
    }
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

pub(crate) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
