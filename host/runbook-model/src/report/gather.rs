//! From the records of a run to its report.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Answer, CallError, Level, Outcome, Response, Verdict};
use crate::event::{Event, Instance, Record, RunOutcome, Settlement, StepOutcome, StepSketch, Summary, Verb};
use crate::history::{Entry, History};
use crate::journal::ReadError;
use crate::state::is_done;

use super::{
    Block, Change, Confirmed, Fate, Need, Note, Open, Recovery, Report, Row, Sitting, Span, Standing, Step, Tone, Work,
};

/// Reads the records of a run.
pub(super) fn gather(records: impl IntoIterator<Item = Record>) -> Result<Report, ReadError> {
    let mut gathering = Gathering::default();
    let mut history = History::default();
    for record in records {
        gathering.read(&record);
        let seq = record.seq;
        history.read(record).map_err(|why| ReadError::Illegal { seq, why })?;
    }
    Ok(gathering.finish(&history))
}

#[derive(Default)]
struct Gathering {
    report: Report,
    rows: Vec<Row>,
    places: BTreeMap<Instance, usize>,
    sketches: Vec<StepSketch>,
    /// When the work began that an instance is at.
    at_work: BTreeMap<Instance, u64>,
    /// When the undo began that an instance is at.
    undoing: BTreeMap<Instance, u64>,
    /// Begun and not ended, in this sitting or an earlier one.
    open: BTreeSet<Instance>,
    /// Changes that an undo left as they are.
    left: BTreeSet<(Instance, u32)>,
}

impl Gathering {
    fn read(&mut self, record: &Record) {
        let at = record.at;
        if let Event::RunStarted { .. } | Event::Reopened { .. } = &record.event {
            self.sit_down(at, &record.event);
            return;
        }
        self.report.ended_at = at;
        if let Some(sitting) = self.report.sittings.last_mut() {
            sitting.ended_at = at;
        }
        self.of_run(at, &record.event);
        self.of_step(at, &record.event);
        self.of_change(at, &record.event);
    }

    /// A sitting begins. What was at work when the last one ended was cut off with it.
    fn sit_down(&mut self, at: u64, event: &Event) {
        self.cut_off();
        let report = &mut self.report;
        let mut sitting = Sitting {
            session: 1,
            verb: Verb::Exec,
            is_note: false,
            program: String::new(),
            began_at: at,
            ended_at: at,
            end: None,
            summary: Summary::default(),
            edits: Vec::new(),
            force: false,
        };
        match event {
            Event::RunStarted { run, runbook, file, inputs, rto_ms, verb, program, sha256, plugins, steps, .. } => {
                (report.run, report.runbook, report.file) = (run.clone(), runbook.clone(), file.clone());
                (report.inputs, report.verb, report.began_at) = (inputs.clone(), Some(*verb), at);
                report.recovery.target_ms = *rto_ms;
                (report.sha256, report.plugins) = (sha256.clone(), plugins.clone());
                (sitting.verb, sitting.program) = (*verb, program.clone());
                self.sketches.clone_from(steps);
            }
            Event::Reopened { verb, session, program, sha256, plugins, steps, edits, force, .. } => {
                (report.sha256, report.plugins) = (sha256.clone(), plugins.clone());
                (sitting.verb, sitting.session, sitting.program) = (*verb, *session, program.clone());
                (sitting.edits, sitting.force) = (edits.clone(), *force);
                self.sketches.clone_from(steps);
            }
            _ => {}
        }
        report.ended_at = at;
        report.sittings.push(sitting);
    }

    fn cut_off(&mut self) {
        let ended_at = self.report.ended_at;
        for (instance, began_at) in std::mem::take(&mut self.at_work) {
            self.row(&instance).spans.push(Span { began_at, ended_at, what: Work::CutOff });
        }
        for (instance, began_at) in std::mem::take(&mut self.undoing) {
            self.row(&instance).spans.push(Span { began_at, ended_at, what: Work::Undoing });
        }
    }

    fn of_run(&mut self, at: u64, event: &Event) {
        let report = &mut self.report;
        match event {
            Event::RunFinished { outcome, summary, .. } => {
                if let Some(sitting) = report.sittings.last_mut() {
                    (sitting.end, sitting.summary) = (Some(*outcome), summary.clone());
                }
            }
            Event::Abandoned { because } => report.standing = Standing::Abandoned { because: because.clone() },
            Event::Entered { block } => {
                report.blocks.push(Block { id: block.clone(), entered_at: at, exited: None });
            }
            Event::Exited { block, how } => {
                let entered = report.blocks.iter_mut().rev().find(|known| known.id == *block);
                if let Some(entered) = entered {
                    entered.exited = Some((at, *how));
                }
            }
            Event::Confirmed { step, by, approved } => {
                report.confirmed.push(Confirmed { at, step: step.clone(), by: by.clone(), approved: *approved });
            }
            Event::Receipt { instance, receipt } => report.receipts.push((instance.clone(), receipt.clone())),
            Event::Drilled { .. } => report.drilled += 1,
            Event::Unknown => report.unknown += 1,
            _ => {}
        }
    }

    fn of_step(&mut self, at: u64, event: &Event) {
        match event {
            Event::StepStarted { instance, attempt, .. } => {
                self.open.insert(instance.clone());
                self.at_work.entry(instance.clone()).or_insert(at);
                let row = self.row(instance);
                (row.attempts, row.outcome, row.reason, row.by_hand) = (*attempt, None, None, None);
            }
            Event::StepFinished { instance, outcome, reason, elapsed_ms, .. } => {
                self.finished(at, instance, *outcome, reason.as_deref(), *elapsed_ms);
            }
            Event::Kept { instance, outcome } => self.row(instance).outcome = Some(*outcome),
            Event::ByHand { instance, because } => {
                self.row(instance).by_hand = Some(because.clone());
            }
            Event::Log { instance, level, message } => {
                let tone = match level {
                    Level::Debug => return,
                    Level::Info => Tone::Quiet,
                    Level::Warn => Tone::Warning,
                };
                self.note(at, instance, tone, message.clone());
            }
            Event::Denied { instance, reason, .. } => self.note(at, instance, Tone::Bad, reason.clone()),
            Event::Diverged { instance, why, .. } => {
                self.note(at, instance, Tone::Warning, format!("looked at from its start: {why}"));
            }
            Event::Drilled { instance, fault, .. } => {
                self.note(at, instance, Tone::Warning, format!("a drill: {fault}"));
            }
            Event::TookOver { instance, target, run, .. } => {
                self.note(
                    at,
                    instance,
                    Tone::Quiet,
                    format!("the lease of {target} was taken over from {run}, which is over"),
                );
            }
            Event::Retrying { instance, error, .. } => {
                self.note(at, instance, Tone::Warning, format!("tried again, since {error}"));
            }
            Event::Checked { instance, left } if !left.is_empty() => {
                self.note(at, instance, Tone::Bad, format!("still to be changed afterwards: {}", left.join("; ")));
            }
            Event::Verified { instance, wrong } if !wrong.is_empty() => {
                self.note(at, instance, Tone::Bad, format!("not as it is to be: {}", wrong.join("; ")));
            }
            Event::Stuck { instance, why, .. } => {
                self.came_back_from_undo(at, instance);
                // What stands there for a block is no step: it is told of by itself.
                if self.places.contains_key(instance) {
                    self.note(at, instance, Tone::Bad, format!("a person was needed: {why}"));
                }
            }
            // A step that an earlier sitting began goes on without being begun again.
            Event::Looked { instance, .. }
            | Event::Progress { instance, .. }
            | Event::Verifying { instance }
            | Event::Settled { instance, .. }
            | Event::Deferred { instance, .. }
            | Event::Intended { instance, undoes: None, .. }
            | Event::Changed { instance, .. }
                if self.open.contains(instance) && !self.undoing.contains_key(instance) =>
            {
                self.at_work.entry(instance.clone()).or_insert(at);
            }
            _ => {}
        }
    }

    fn finished(&mut self, at: u64, instance: &Instance, outcome: StepOutcome, reason: Option<&str>, elapsed_ms: u64) {
        self.open.remove(instance);
        let sat_down = self.report.sittings.last().map_or(at, |sitting| sitting.began_at);
        // What ends without a beginning was told its outcome by the step before it, or was not begun.
        let began_at = self.at_work.remove(instance).unwrap_or(at.saturating_sub(elapsed_ms).max(sat_down));
        let row = self.row(instance);
        (row.outcome, row.reason) = (Some(outcome), reason.map(str::to_owned));
        if outcome != StepOutcome::Skipped {
            row.spans.push(Span { began_at, ended_at: at, what: Work::Ended(outcome) });
        }
    }

    fn of_change(&mut self, at: u64, event: &Event) {
        match event {
            Event::Planned { instance, call, diff, perhaps, .. } => {
                let fate = Fate::Planned { perhaps: *perhaps };
                self.begun(instance, *call, |change| {
                    (change.at, change.fate) = (at, fate);
                    (change.summary, change.diff) = (diff.summary.clone(), diff.text.clone());
                });
            }
            Event::Deferred { instance, call, request, .. } => {
                let summary = crate::delta::summary(request);
                self.begun(instance, *call, |change| {
                    (change.at, change.fate, change.summary) = (at, Fate::Waiting, summary);
                });
            }
            Event::Intended { instance, call, diff, undoes, .. } => self.begun(instance, *call, |change| {
                (change.at, change.fate, change.takes_back) = (at, Fate::InDoubt, *undoes);
                (change.summary, change.diff) = (diff.summary.clone(), diff.text.clone());
            }),
            Event::Changed { instance, call, response, .. } => {
                self.became(instance, *call, fate(response), None);
            }
            Event::Unchanged { instance, call, .. } => self.became(instance, *call, Fate::Already, None),
            Event::Lapsed { instance, call } => self.became(instance, *call, Fate::Lapsed, None),
            Event::Lost { instance, call, error } => {
                self.became(instance, *call, Fate::InDoubt, Some(format!("its answer was lost: {error}")));
            }
            Event::Settled { instance, call, finding, why } => match finding {
                Settlement::Done => self.remark(instance, *call, format!("found done: {why}")),
                Settlement::Unclear => self.remark(instance, *call, format!("nobody could tell: {why}")),
                Settlement::NotDone => self.became(instance, *call, Fate::NeverMade(why.clone()), None),
                Settlement::Again => {
                    self.became(instance, *call, Fate::NeverMade(format!("it may be done again: {why}")), None);
                }
            },
            Event::Resolved { instance, call, done, because } => {
                let said = format!("a person says that it is {}: {because}", if *done { "done" } else { "not done" });
                match done {
                    true => self.remark(instance, *call, said),
                    false => self.became(instance, *call, Fate::NeverMade(said), None),
                }
            }
            Event::TakingBack { instance, .. } => {
                self.undoing.entry(instance.clone()).or_insert(at);
            }
            Event::TakenBack { instance, call, how } => {
                self.came_back_from_undo(at, instance);
                self.became(instance, *call, Fate::TakenBack { at, how: how.clone() }, None);
            }
            Event::Left { instance, call, why } => {
                self.came_back_from_undo(at, instance);
                self.left.insert((instance.clone(), *call));
                match self.change(instance, *call).map(|change| &change.fate) {
                    // That it did not work is the larger part of what became of it.
                    Some(Fate::Failed(_)) => self.remark(instance, *call, format!("left as it is: {why}")),
                    _ => self.became(instance, *call, Fate::Left(why.clone()), None),
                }
            }
            Event::Overridden { instance, call, conflict } => {
                self.remark(instance, *call, format!("overwritten all the same: {conflict}"));
            }
            _ => {}
        }
    }

    fn came_back_from_undo(&mut self, at: u64, instance: &Instance) {
        let Some(began_at) = self.undoing.remove(instance) else { return };
        let sat_down = self.report.sittings.last().map_or(0, |sitting| sitting.began_at);
        let spans = &mut self.row(instance).spans;
        // Changes of one instance are taken back one after the other: for a reader that is one piece of work.
        match spans.last_mut() {
            Some(last) if last.what == Work::Undoing && last.began_at >= sat_down => last.ended_at = at,
            _ => spans.push(Span { began_at, ended_at: at, what: Work::Undoing }),
        }
    }

    fn row(&mut self, instance: &Instance) -> &mut Row {
        let place = *self.places.entry(instance.clone()).or_insert_with(|| {
            self.rows.push(Row::new(instance.clone()));
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }

    fn note(&mut self, at: u64, instance: &Instance, tone: Tone, text: String) {
        self.row(instance).notes.push(Note { at, tone, text });
    }

    fn change(&mut self, instance: &Instance, call: u32) -> Option<&mut Change> {
        self.row(instance).changes.iter_mut().rev().find(|change| change.call == call)
    }

    /// A change that waited, or that was never made, is begun under the number that it has.
    fn begun(&mut self, instance: &Instance, call: u32, set: impl FnOnce(&mut Change)) {
        if let Some(change) = self.change(instance, call) {
            return set(change);
        }
        let mut change = Change {
            call,
            at: 0,
            summary: String::new(),
            diff: None,
            takes_back: None,
            fate: Fate::InDoubt,
            notes: Vec::new(),
        };
        set(&mut change);
        self.row(instance).changes.push(change);
    }

    fn became(&mut self, instance: &Instance, call: u32, fate: Fate, note: Option<String>) {
        if let Some(change) = self.change(instance, call) {
            change.fate = fate;
            change.notes.extend(note);
        }
    }

    fn remark(&mut self, instance: &Instance, call: u32, note: String) {
        if let Some(change) = self.change(instance, call) {
            change.notes.push(note);
        }
    }

    fn finish(mut self, history: &History) -> Report {
        self.cut_off();
        let mut report = self.report;
        report.steps = steps(&self.sketches, self.rows);
        report.summary = summary(&report.steps);
        for index in 0..report.sittings.len() {
            report.sittings[index].is_note = is_note(&report.sittings, index);
        }
        report.standing = standing(&report, history, &self.left);
        report.recovery = recovery(&report);
        report.needs = history
            .stuck
            .iter()
            .map(|(instance, stuck)| Need {
                instance: instance.clone(),
                why: stuck.why.clone(),
                manual: stuck.manual.clone(),
            })
            .collect();
        report.open = if history.state.is_abandoned() { Vec::new() } else { open(history) };
        report
    }
}

/// What became of a change that came back so.
fn fate(response: &Response) -> Fate {
    match response {
        Ok(Answer::Verdict(Verdict::Unchanged) | Answer::Outcome(Outcome::Already)) => Fate::Already,
        Ok(Answer::Outcome(Outcome::Done(output))) if !is_done(response) => Fate::Failed(output.exit.to_string()),
        Ok(Answer::Outcome(Outcome::PodDone(output))) if !is_done(response) => {
            Fate::Failed(format!("exit code {}", output.exit_code))
        }
        Ok(_) => Fate::Made,
        Err(error @ (CallError::Conflict(_) | CallError::Denied(_) | CallError::Invalid(_))) => {
            Fate::NeverMade(error.to_string())
        }
        Err(error) => Fate::Failed(error.to_string()),
    }
}

/// The steps of the file, each with its instances; those that no sketch names stand behind the one that includes them.
fn steps(sketches: &[StepSketch], rows: Vec<Row>) -> Vec<Step> {
    let mut steps: Vec<Step> = sketches
        .iter()
        .map(|sketch| Step {
            id: sketch.id.clone(),
            uses: sketch.uses.clone(),
            why: sketch.why.clone(),
            cluster: sketch.cluster.clone(),
            hosts: sketch.hosts.clone(),
            outcome: None,
            rows: Vec::new(),
        })
        .collect();
    for row in rows {
        let id = &row.instance.step;
        let place = steps.iter().position(|step| step.id == *id).unwrap_or_else(|| {
            let is_within = |step: &Step| {
                let top = |id: &str| id.split(['/', '[']).next().unwrap_or_default().to_owned();
                top(&step.id) == top(id)
            };
            let place = steps.iter().rposition(is_within).map_or(steps.len(), |last| last + 1);
            steps.insert(place, Step { id: id.clone(), ..Step::default() });
            place
        });
        steps[place].rows.push(row);
    }
    for step in &mut steps {
        // A step that was left out as a whole in one sitting has instances in another.
        let is_whole = |row: &Row| row.instance.host.is_none() && row.instance.item.is_none() && row.spans.is_empty();
        if !step.rows.iter().all(is_whole) {
            step.rows.retain(|row| !is_whole(row) || row.outcome != Some(StepOutcome::Skipped));
        }
        step.outcome = step.rows.iter().filter_map(|row| row.outcome).max();
    }
    steps
}

/// The counts, of the steps that the runbook names: an include is as well as the worst of what it includes.
fn summary(steps: &[Step]) -> Summary {
    let top = |id: &str| id.split(['/', '[']).next().unwrap_or_default().to_owned();
    let mut worst: BTreeMap<String, Option<StepOutcome>> = BTreeMap::new();
    for step in steps {
        let known = worst.entry(top(&step.id)).or_default();
        *known = (*known).max(step.outcome);
    }
    let mut summary = Summary { steps: worst.len(), ..Summary::default() };
    for outcome in worst.into_values() {
        *match outcome {
            None | Some(StepOutcome::Skipped) => &mut summary.skipped,
            Some(StepOutcome::Unchanged) => &mut summary.unchanged,
            Some(StepOutcome::Changed) => &mut summary.changed,
            Some(StepOutcome::MayChange) => &mut summary.may_change,
            Some(
                StepOutcome::Cancelled
                | StepOutcome::Unreachable
                | StepOutcome::Denied
                | StepOutcome::Failed
                | StepOutcome::Stuck,
            ) => &mut summary.failed,
        } += 1;
    }
    summary
}

/// Whether a sitting noted what a person knew: its counts are empty, as nothing was run.
fn is_note(sittings: &[Sitting], index: usize) -> bool {
    let sitting = &sittings[index];
    index > 0 && sitting.end.is_some() && sitting.summary == Summary::default() || sitting.verb == Verb::Done
}

fn standing(report: &Report, history: &History, left_as_it_is: &BTreeSet<(Instance, u32)>) -> Standing {
    if let Standing::Abandoned { .. } = &report.standing {
        return report.standing.clone();
    }
    if history.state.finished().is_none() {
        return Standing::Unfinished;
    }
    let Some(sitting) = report.sittings.iter().rfind(|sitting| !sitting.is_note) else { return Standing::Unfinished };
    let in_effect: BTreeSet<_> = history.in_effect(false).map(Entry::id).collect();
    let left = in_effect.intersection(left_as_it_is).count();
    let stay = in_effect.len() - left;
    let (_, back) = report.changes();
    let is_undone = stay == 0 && back + left > 0;
    match sitting.end {
        // It was cut off; what came after it only noted something.
        None => Standing::Unfinished,
        Some(RunOutcome::Stuck) => Standing::Stuck,
        Some(RunOutcome::Failed) if is_undone => Standing::FailedUndone { left },
        Some(RunOutcome::Failed) => Standing::Failed,
        Some(RunOutcome::Cancelled) if is_undone => Standing::CancelledUndone { left },
        Some(RunOutcome::Cancelled) => Standing::Cancelled,
        Some(RunOutcome::Succeeded) => match sitting.verb {
            Verb::Undo if stay > 0 => Standing::PartlyUndone { stay },
            Verb::Undo => Standing::Undone { left },
            Verb::Redo => Standing::Redone,
            Verb::Plan | Verb::Exec | Verb::Resume | Verb::Done => Standing::Succeeded,
        },
    }
}

fn recovery(report: &Report) -> Recovery {
    let tried = |sitting: &&Sitting| matches!(sitting.verb, Verb::Exec | Verb::Resume) && !sitting.is_note;
    let recovered = report.sittings.iter().filter(tried).rfind(|sitting| sitting.end == Some(RunOutcome::Succeeded));
    let last = recovered.or(report.sittings.iter().rfind(tried));
    let until = last.map_or(report.ended_at, |sitting| sitting.ended_at);
    Recovery {
        target_ms: report.recovery.target_ms,
        took_ms: recovered.map(|sitting| sitting.ended_at.saturating_sub(report.began_at)),
        elapsed_ms: until.saturating_sub(report.began_at),
        paused_ms: report.pauses().filter(|(_, to)| *to <= until).map(|(from, to)| to - from).sum(),
    }
}

fn open(history: &History) -> Vec<Open> {
    let words = |entry: &Entry| match entry.made() {
        Some(made) => made.diff.summary.clone(),
        None => crate::delta::summary(&entry.request),
    };
    let doubt = history.state.in_doubt().map(|id| {
        let entry = history.stack.iter().rev().find(|entry| entry.id() == *id);
        Open::Doubt(id.0.clone(), entry.map(words).unwrap_or_default())
    });
    let waits = history.waiting().map(|entry| Open::Waits(entry.instance.clone(), words(entry)));
    let blocks = history.state.blocks().map(|block| Open::Block(block.to_owned()));
    doubt.chain(waits).chain(blocks).collect()
}
