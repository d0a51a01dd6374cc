//! One run of a runbook: which step is next, which hosts at once, when to stop.
//!
//! One loop owns a level (the runbook, or an included one). It starts a step when all of its predecessors have ended, and
//! stops starting when one failed. In a plan, steps go one after the other in the order of the file, since each sees what
//! those before it planned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use runbook_model::call::{CallError, Level as LogLevel, Target};
use runbook_model::consent::Consent;
use runbook_model::event::{
    BlockEnd, Event, Instance, PluginPin, RunOutcome, StepOutcome, StepSketch, Summary, VERSION, Verb,
};
use runbook_model::manifest::Action;
use runbook_model::overlay::Overlay;
use runbook_model::plan::{Block, BlockOnFailure, OnFailure, Runbook, Step, StepOnFailure, UndoMode, Uses};
use runbook_model::summary::Counter;
use serde_json::Value;

use crate::ahead::Lookouts;
use crate::attempt::Finished;
use crate::broker::{Broker, Deferred, Pulse};
use crate::clock;
use crate::journal::JournalError;
use crate::places::{Place, Places};
use crate::plugin::Plugins;
use crate::scope::{Inputs, Level};
use crate::shared::{Shared, lock};
use crate::step::Spot;
use crate::unwind::{self, Scope};

pub use crate::unwind::Unwound;

/// The actions that steps can use.
pub trait Actions: Send + Sync {
    /// What an action is, and whether the owner agreed to what it asks for.
    fn action(&self, plugin: &str, action: &str) -> Option<(&Action, Consent)>;
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

/// What the first event of a session says besides the steps.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// Version of the program.
    pub program: String,
    /// The plugins that are used.
    pub plugins: Vec<PluginPin>,
    /// Process id.
    pub pid: u32,
    /// Boot id of the controller.
    pub boot_id: String,
    /// What became different in the runbook since the last session.
    pub edits: Vec<String>,
    /// Conflicts do not keep an undo from going on.
    pub force: bool,
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
    /// Blocks that were entered and not left.
    pub entered: Entered,
}

/// Blocks, with the paths of their steps.
pub type Entered = Mutex<BTreeMap<String, Vec<String>>>;

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

/// Who had a turn in the loop of a level.
#[derive(Clone, Copy)]
enum Turn {
    Step(usize),
    Block(usize),
}

/// What an undo is for.
#[derive(Debug, Clone, Default)]
pub struct Undo {
    /// This step or block alone.
    pub step: Option<String>,
    /// Conflicts do not keep it from going on.
    pub force: bool,
    /// What an undo did is taken back.
    pub redo: bool,
}

/// What a person did in place of a step.
#[derive(Debug, Clone)]
pub struct ByHand {
    /// The step.
    pub step: String,
    /// In their words.
    pub because: String,
}

impl Engine {
    /// Runs a runbook from the first event of the session to its last; goes on where earlier sessions ended.
    ///
    /// # Errors
    ///
    /// The journal cannot be written; nothing was done after it broke.
    pub async fn run(&self, runbook: &Runbook, inputs: Inputs, header: Header) -> Result<Ended, JournalError> {
        let started = clock::now();
        let overlay = (self.options.verb == Verb::Plan).then(|| Arc::new(Mutex::new(Overlay::default())));
        let progress = self.begin(runbook, Value::Object(inputs.visible()), header).await?;
        if let Some(overlay) = &overlay {
            self.cover_what_is_created(runbook, overlay);
        }
        let level = Level::new(runbook, inputs, &self.shared, &self.options.folder);
        self.level(&level, overlay.as_ref(), &progress, true).await?;
        self.end(&progress, started).await
    }

    /// Takes back what the run did, or a step of it (with what is included or stands in it).
    ///
    /// # Errors
    ///
    /// The journal cannot be read or written.
    pub async fn undo(&self, runbook: &Runbook, what: &Undo, header: Header) -> Result<(Ended, Unwound), JournalError> {
        let started = clock::now();
        let progress = self.begin(runbook, Value::Null, header).await?;
        let block = what.step.as_deref().and_then(|step| runbook.block(step));
        let of_block = block.map(|block| &runbook.steps[block.first..block.end]).unwrap_or_default();
        let includes = |instance: &Instance| match &what.step {
            None => true,
            Some(step) => instance.is_of(step) || of_block.iter().any(|inner| instance.is_of(&inner.id)),
        };
        let scope = Scope { includes: &includes, spares: &|i| spares(runbook, i), force: what.force, redo: what.redo };
        let unwound = unwind::unwind(&self.shared, scope).await?;
        if unwound.stuck.is_some() {
            progress.worse(StepOutcome::Stuck);
        } else {
            for block in self.shared.past.state.blocks().map(str::to_owned).collect::<Vec<_>>() {
                let is_undone = what.step.as_ref().is_none_or(|step| *step == block);
                if is_undone && !what.redo {
                    self.shared.journal.append(Event::Exited { block, how: BlockEnd::Undone }, false).await?;
                }
            }
        }
        Ok((self.end(&progress, started).await?, unwound))
    }

    /// Records what a person did in place of a step, where the step agrees: then it has nothing left to do. Else: what is wrong.
    ///
    /// # Errors
    ///
    /// The journal cannot be written.
    pub async fn done_by_hand(
        &self,
        runbook: &Runbook,
        inputs: Inputs,
        header: Header,
        by_hand: &ByHand,
    ) -> Result<(Ended, Vec<String>), JournalError> {
        let started = clock::now();
        let progress = self.begin(runbook, Value::Object(inputs.visible()), header).await?;
        let level = Level::new(runbook, inputs, &self.shared, &self.options.folder);
        let wrong = self.judge(&level, &progress, by_hand).await?;
        if !wrong.is_empty() {
            progress.worse(StepOutcome::Failed);
        }
        Ok((self.end(&progress, started).await?, wrong))
    }

    /// Carries out what a held block deferred to its end; what its steps did stays.
    ///
    /// # Errors
    ///
    /// The journal cannot be read or written.
    pub async fn release(&self, runbook: &Runbook, block: &str, header: Header) -> Result<Ended, JournalError> {
        let started = clock::now();
        let progress = self.begin(runbook, Value::Null, header).await?;
        let inner = lock(&self.entered).remove(block).unwrap_or_default();
        let of_block = |instance: &Instance| inner.iter().any(|step| instance.is_of(step));
        if self.carry_out_later(Later::default(), &of_block, false, &progress).await? {
            let event = Event::Exited { block: block.to_owned(), how: BlockEnd::Released };
            self.shared.journal.append(event, false).await?;
        }
        self.end(&progress, started).await
    }

    async fn begin(&self, runbook: &Runbook, inputs: Value, header: Header) -> Result<Progress, JournalError> {
        let steps = runbook.steps.iter().map(sketch).collect();
        let past = &self.shared.past;
        let first = match past.state.sessions() {
            0 => Event::RunStarted {
                run: self.shared.run.clone(),
                version: VERSION.to_owned(),
                program: header.program,
                verb: self.options.verb,
                runbook: runbook.name.clone(),
                file: runbook.file.clone(),
                sha256: runbook.sha256.clone(),
                steps,
                plugins: header.plugins,
                inputs,
                pid: header.pid,
                boot_id: header.boot_id,
                rto_ms: runbook.targets.rto_ms,
            },
            _ => Event::Reopened {
                verb: self.options.verb,
                session: self.shared.session(),
                program: header.program,
                sha256: runbook.sha256.clone(),
                steps,
                plugins: header.plugins,
                edits: header.edits,
                force: header.force,
                pid: header.pid,
                boot_id: header.boot_id,
            },
        };
        let progress = Progress { counter: Mutex::new(Counter::default()), worst: Mutex::new(None) };
        lock(&progress.counter).read(&first);
        self.shared.journal.append(first, true).await?;
        let open = past.state.blocks().map(|block| (block.to_owned(), members(runbook, block)));
        lock(&self.entered).extend(open);
        Ok(progress)
    }

    async fn end(&self, progress: &Progress, started: Instant) -> Result<Ended, JournalError> {
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
        unwind::take_charge(&self.shared).await?;
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
        outermost: bool,
    ) -> BoxFuture<'a, Result<bool, JournalError>> {
        Box::pin(async move {
            let later = Mutex::new(Vec::new());
            let result = self.steps(level, overlay, progress, &later).await?;
            let undo = level.runbook.on_failure == OnFailure::UndoRun && overlay.is_none();
            if !result && undo && !self.shared.cancel.is_cancelled() {
                // What was deferred is carried out on the way.
                lock(&later).clear();
                let prefix = level.prefix.clone();
                return self
                    .unwind(level, &|instance| instance.step.starts_with(&prefix), progress)
                    .await
                    .map(|_| false);
            }
            let of_level = |instance: &Instance| outermost || instance.step.starts_with(&level.prefix);
            let kept = self.carry_out_later(later, &of_level, true, progress).await?;
            Ok(result && kept)
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
        let mut places = Places::new(level.runbook);
        let lookouts = Lookouts::default();
        let mut looking = FuturesUnordered::new();
        let mut running: FuturesUnordered<BoxFuture<'_, Result<(Turn, StepOutcome), JournalError>>> =
            FuturesUnordered::new();
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
                for (index, waits) in waits.iter().enumerate().skip(places.all_above()) {
                    if running.len() < at_once && places.is_ready(index, waits) {
                        places.set(index, Place::Running);
                        let spot = spot(index);
                        running.push(Box::pin(async move { Ok((Turn::Step(index), self.step(spot).await?)) }));
                    }
                }
            }
            for (number, failed) in places.blocks_at_their_end(stopped.is_some() && running.is_empty()) {
                let block = &level.runbook.blocks[number];
                running.push(Box::pin(async move {
                    let outcome = self.block_end(level, block, failed, overlay, progress, later).await?;
                    Ok((Turn::Block(number), outcome))
                }));
            }
            let next = tokio::select! {
                biased;
                next = running.next() => next,
                () = lookouts.run(&mut looking) => None,
            };
            let Some(ended) = next else { break };
            let (turn, outcome) = ended?;
            let (id, goes_on) = match turn {
                Turn::Step(index) => {
                    let goes_on = steps[index].on_failure == StepOnFailure::Continue || overlay.is_some();
                    places.ended(index, !outcome.is_ok() && !goes_on);
                    (&steps[index].id, goes_on)
                }
                Turn::Block(number) => {
                    places.block_ended(number);
                    (&level.runbook.blocks[number].id, false)
                }
            };
            if !outcome.is_ok() {
                well = false;
                if let (Turn::Step(index), OnFailure::UndoStep, None) = (turn, level.runbook.on_failure, overlay)
                    && steps[index].block.is_none()
                    && outcome != StepOutcome::Cancelled
                {
                    let path = level.path(&steps[index].id);
                    self.unwind(level, &|instance| instance.is_of(&path), progress).await?;
                }
                // A plan shows all that it can find.
                if !goes_on || outcome == StepOutcome::Cancelled {
                    stopped.get_or_insert_with(|| match outcome {
                        StepOutcome::Cancelled => "the run was cancelled".to_owned(),
                        _ => format!("{id} did not end well"),
                    });
                }
            }
        }
        for (index, step) in steps.iter().enumerate().filter(|(index, _)| places.get(*index) == Place::Waiting) {
            let reason = stopped.clone().unwrap_or_else(|| format!("step {index} was never reached"));
            let outcome = if self.shared.cancel.is_cancelled() { StepOutcome::Cancelled } else { StepOutcome::Skipped };
            debug_assert!(std::ptr::eq(step, spot(index).step));
            self.ended(spot(index), None, Finished::without_outputs(outcome, reason), clock::now()).await?;
        }
        Ok(well)
    }

    /// What is left to do for a block when all of its steps have ended, or will not begin any more.
    async fn block_end(
        &self,
        level: &Level<'_>,
        block: &Block,
        failed: bool,
        overlay: Option<&SharedOverlay>,
        progress: &Progress,
        later: &Later,
    ) -> Result<StepOutcome, JournalError> {
        let inner = members_of(level.runbook, block, &level.prefix);
        let of_block = |instance: &Instance| inner.iter().any(|step| instance.is_of(step));
        let mine = {
            let mut later = lock(later);
            let (mine, others) = later.drain(..).partition(|(broker, _)| of_block(broker.instance()));
            *later = others;
            mine
        };
        let path = level.path(&block.id);
        if overlay.is_some() || !lock(&self.entered).contains_key(&path) {
            self.carry_out_later(Mutex::new(mine), &|_| false, false, progress).await?;
            return Ok(StepOutcome::Skipped);
        }
        let how = match (failed, block.on_failure) {
            (true, BlockOnFailure::Undo) => {
                if self.unwind(level, &of_block, progress).await?.stuck.is_some() {
                    return Ok(StepOutcome::Stuck);
                }
                BlockEnd::Undone
            }
            (true, BlockOnFailure::Hold) => {
                let instance = Instance { step: path.clone(), host: None, item: None };
                let run = &self.shared.run;
                let why = "a step of the block did not end well, and it says `on_failure = \"hold\"`".to_owned();
                let manual = vec![
                    format!("look at it; then `runbook resume {run}` goes on with the block"),
                    format!("`runbook undo {run} --step {path}` takes the block back"),
                    format!("`runbook resolve {run} {path} --release` carries out what the block deferred to its end"),
                ];
                self.shared.journal.append(Event::Stuck { instance, call: None, why, manual }, true).await?;
                progress.worse(StepOutcome::Stuck);
                return Ok(StepOutcome::Stuck);
            }
            (true, BlockOnFailure::Release) | (false, _) => {
                if !self.carry_out_later(Mutex::new(mine), &of_block, false, progress).await? {
                    return Ok(StepOutcome::Failed);
                }
                if failed { BlockEnd::Released } else { BlockEnd::Well }
            }
        };
        lock(&self.entered).remove(&path);
        self.shared.journal.append(Event::Exited { block: path, how }, false).await?;
        Ok(StepOutcome::Skipped)
    }

    async fn unwind(
        &self,
        level: &Level<'_>,
        includes: &(dyn Fn(&Instance) -> bool + Sync),
        progress: &Progress,
    ) -> Result<Unwound, JournalError> {
        let spares = |instance: &Instance| {
            let inner = instance.step.strip_prefix(&level.prefix).unwrap_or(&instance.step);
            spares(level.runbook, &Instance { step: inner.to_owned(), ..instance.clone() })
        };
        let scope = Scope { includes, spares: &spares, force: false, redo: false };
        let unwound = unwind::unwind(&self.shared, scope).await?;
        if unwound.stuck.is_some() {
            progress.worse(StepOutcome::Stuck);
        }
        Ok(unwound)
    }

    /// What was deferred to an end, last in, first out; what earlier sessions left waiting, too.
    async fn carry_out_later(
        &self,
        later: Later,
        includes: &(dyn Fn(&Instance) -> bool + Sync),
        outermost: bool,
        progress: &Progress,
    ) -> Result<bool, JournalError> {
        let mut well = true;
        let stack = later.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known: Vec<_> = stack.iter().map(|(road, deferred)| (road.instance().clone(), deferred.call)).collect();
        for (broker, deferred) in stack.into_iter().rev() {
            let (instance, summary) = (broker.instance().clone(), deferred.summary().to_owned());
            let result = broker.afterwards().carry_out(deferred).await;
            well &= self.carried_out(instance, &summary, result, progress).await?;
        }
        if self.shared.past.waiting().next().is_some() {
            // What a block that is held has deferred waits until a person has looked.
            let held: Vec<String> = lock(&self.entered).values().flatten().cloned().collect();
            let held = |instance: &Instance| held.iter().any(|step| instance.is_of(step));
            let now = self.shared.history().await?;
            let old: Vec<_> = now
                .waiting()
                .filter(|entry| includes(&entry.instance) && self.shared.past.state.is_deferred(&entry.id()))
                .filter(|entry| !outermost || !held(&entry.instance))
                .filter(|entry| !known.contains(&entry.id()))
                .collect();
            for entry in old {
                let pulse = Pulse::after(now.past(&entry.instance), self.shared.now_ms());
                let summary = entry.change().map(|change| change.effect.summary.clone()).unwrap_or_default();
                let result = unwind::carry_out(&self.shared, &now, entry, &pulse).await;
                well &= self.carried_out(entry.instance.clone(), &summary, result, progress).await?;
            }
        }
        Ok(well)
    }

    /// Says where something that was deferred failed.
    async fn carried_out(
        &self,
        instance: Instance,
        summary: &str,
        result: Result<(), CallError>,
        progress: &Progress,
    ) -> Result<bool, JournalError> {
        let Err(error) = result else { return Ok(true) };
        progress.worse(StepOutcome::Failed);
        let message = format!("deferred to the end, and failed: {summary}: {error}");
        self.shared.journal.append(Event::Log { instance, level: LogLevel::Warn, message }, false).await?;
        Ok(false)
    }
}

/// Paths of the steps of a block.
pub(crate) fn members_of(runbook: &Runbook, block: &Block, prefix: &str) -> Vec<String> {
    runbook.steps[block.first..block.end].iter().map(|step| format!("{prefix}{}", step.id)).collect()
}

/// The same for a block that is named by its path.
fn members(runbook: &Runbook, path: &str) -> Vec<String> {
    let (mut runbook, mut prefix, mut rest) = (runbook, String::new(), path);
    while let Some((outer, inner)) = rest.split_once('/') {
        match runbook.step(outer.split('[').next().unwrap_or(outer)).map(|step| &step.uses) {
            Some(Uses::Include { runbook: included, .. }) => runbook = included,
            // It is not there any more.
            _ => return Vec::new(),
        }
        prefix += outer;
        prefix.push('/');
        rest = inner;
    }
    runbook.block(rest).map(|block| members_of(runbook, block, &prefix)).unwrap_or_default()
}

/// Whether an undo leaves what this instance did.
fn spares(runbook: &Runbook, instance: &Instance) -> bool {
    let trail = runbook.trail(&instance.step);
    trail.is_some_and(|steps| steps.iter().any(|step| step.undo == UndoMode::None))
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
    clock::whole_ms(clock::since(since))
}
