//! A run as a page: every step with what it changed, for `plan` on stdout and for `show`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Mutex;

use runbook_engine::journal::Watcher;
use runbook_model::event::{Diff, Event, Instance, Record, RunOutcome, StepOutcome, Summary, Verb};
use runbook_model::summary::last_line;

use super::style::Styles;
use super::words;

/// Lines of a diff that are shown; the rest is counted.
const DIFF_LINES: usize = 60;

/// What a run came to, gathered from its records.
#[derive(Debug, Default)]
pub(crate) struct Page {
    verb: Option<Verb>,
    uses: BTreeMap<String, String>,
    steps: Vec<Shown>,
    changes: BTreeMap<Instance, Vec<(Diff, bool)>>,
    notes: BTreeMap<Instance, Vec<String>>,
    end: Option<(RunOutcome, Summary, u64)>,
}

#[derive(Debug)]
struct Shown {
    instance: Instance,
    outcome: StepOutcome,
    reason: Option<String>,
    elapsed_ms: u64,
}

impl Page {
    /// Takes a record in.
    pub(crate) fn read(&mut self, record: &Record) {
        match &record.event {
            Event::RunStarted { verb, steps, .. } | Event::Reopened { verb, steps, .. } => {
                self.verb = Some(*verb);
                self.uses = steps.iter().map(|step| (step.id.clone(), step.uses.clone())).collect();
            }
            Event::Planned { instance, diff, perhaps, .. } => {
                self.changes.entry(instance.clone()).or_default().push((diff.clone(), *perhaps));
            }
            Event::Intended { instance, diff, .. } => {
                self.changes.entry(instance.clone()).or_default().push((diff.clone(), false));
            }
            Event::Denied { instance, reason, .. } => {
                self.notes.entry(instance.clone()).or_default().push(format!("denied: {reason}"));
            }
            Event::Log { instance, level: runbook_model::call::Level::Warn, message } => {
                self.notes.entry(instance.clone()).or_default().push(message.clone());
            }
            Event::Settled { instance, why, .. } => self.note(instance, format!("it was in doubt: {why}")),
            Event::Lost { instance, error, .. } => self.note(instance, format!("in doubt: {error}")),
            Event::Diverged { instance, why, .. } => self.note(instance, format!("looked at from its start: {why}")),
            Event::Stuck { instance, why, .. } => self.note(instance, format!("it needs a person: {why}")),
            Event::TakenBack { instance, how, .. } => self.note(instance, format!("taken back: {how}")),
            Event::Left { instance, why, .. } => self.note(instance, format!("left as it is: {why}")),
            Event::Overridden { instance, conflict, .. } => self.note(instance, format!("overwritten: {conflict}")),
            Event::Drilled { instance, fault, .. } => self.note(instance, format!("a drill: {fault}")),
            Event::TookOver { instance, target, run, .. } => {
                self.note(instance, format!("the lease of {target} was taken over from {run}, which is over"));
            }
            Event::ByHand { instance, because } => self.note(instance, format!("done by hand: {because}")),
            Event::Resolved { instance, done, because, .. } => {
                let word = if *done { "done" } else { "not done" };
                self.note(instance, format!("a person says that it is {word}: {because}"));
            }
            Event::StepFinished { instance, outcome, reason, elapsed_ms, .. } => self.ended(Shown {
                instance: instance.clone(),
                outcome: *outcome,
                reason: reason.clone(),
                elapsed_ms: *elapsed_ms,
            }),
            Event::RunFinished { outcome, summary, elapsed_ms } => {
                self.end = Some((*outcome, summary.clone(), *elapsed_ms))
            }
            Event::StepStarted { .. }
            | Event::Looked { .. }
            | Event::Changed { .. }
            | Event::Unchanged { .. }
            | Event::Deferred { .. }
            | Event::Baseline { .. }
            | Event::Log { .. }
            | Event::Progress { .. }
            | Event::Retrying { .. }
            | Event::Checked { .. }
            | Event::Verified { .. }
            | Event::Confirmed { .. }
            | Event::Abandoned { .. }
            | Event::Kept { .. }
            | Event::Verifying { .. }
            | Event::Lapsed { .. }
            | Event::TakingBack { .. }
            | Event::Entered { .. }
            | Event::Exited { .. }
            | Event::Receipt { .. }
            | Event::Unknown => {}
        }
    }

    fn note(&mut self, instance: &Instance, text: String) {
        self.notes.entry(instance.clone()).or_default().push(text);
    }

    /// A later session may end a step anew.
    fn ended(&mut self, step: Shown) {
        match self.steps.iter_mut().find(|known| known.instance == step.instance) {
            Some(known) => *known = step,
            None => self.steps.push(step),
        }
    }

    /// Prints the steps, with their changes.
    pub(crate) fn write_steps(&self, out: &mut impl Write) -> io::Result<()> {
        let verb = self.verb.unwrap_or(Verb::Exec);
        let width = self.steps.iter().map(|step| step.instance.to_string().chars().count()).max().unwrap_or(0).min(48);
        for step in &self.steps {
            let (sign, style) = Styles::outcome(step.outcome);
            let name = step.instance.to_string();
            let uses = self.uses.get(&step.instance.step).map(String::as_str).unwrap_or_default();
            let word = words::outcome(step.outcome, verb);
            let (dim, bold) = (Styles::DIM, Styles::BOLD);
            write!(
                out,
                "{style}{sign}{style:#} {bold}{name:width$}{bold:#}  {style}{word:13}{style:#} {dim}{uses}{dim:#}"
            )?;
            if verb != Verb::Plan && step.outcome != StepOutcome::Skipped {
                write!(out, " {dim}{}{dim:#}", words::elapsed(step.elapsed_ms))?;
            }
            writeln!(out)?;
            for (diff, perhaps) in self.changes.get(&step.instance).into_iter().flatten() {
                write_change(out, diff, *perhaps)?;
            }
            for note in self.notes.get(&step.instance).into_iter().flatten() {
                writeln!(out, "    {}", words::safe(note))?;
            }
            if let Some(reason) = &step.reason {
                let style = if step.outcome.is_ok() { Styles::DIM } else { Styles::BAD };
                for line in words::safe(reason).lines() {
                    writeln!(out, "    {style}{line}{style:#}")?;
                }
            }
        }
        Ok(())
    }

    /// Prints the last line of the run.
    pub(crate) fn write_end(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.end {
            Some((outcome, summary, _)) => {
                writeln!(out, "{}", last_line(self.verb.unwrap_or(Verb::Exec), *outcome, summary))
            }
            None => writeln!(out, "the run did not end: it was killed, or is still at work"),
        }
    }
}

fn write_change(out: &mut impl Write, diff: &Diff, perhaps: bool) -> io::Result<()> {
    let style = Styles::CHANGE;
    let perhaps = if perhaps { "perhaps: " } else { "" };
    writeln!(out, "    {style}{perhaps}{}{style:#}", words::safe(&diff.summary))?;
    let Some(text) = diff.text.as_deref().map(words::safe) else { return Ok(()) };
    let mut lines = text.lines().filter(|line| !line.starts_with("---") && !line.starts_with("+++")).peekable();
    for line in lines.by_ref().take(DIFF_LINES) {
        let style = match line.as_bytes().first() {
            Some(b'+') => Styles::GOOD,
            Some(b'-') => Styles::BAD,
            _ => Styles::DIM,
        };
        writeln!(out, "      {style}{line}{style:#}")?;
    }
    if lines.peek().is_some() {
        writeln!(out, "      ... {} more lines", lines.count())?;
    }
    Ok(())
}

/// A page that fills itself while a run goes on.
#[derive(Default)]
pub(crate) struct Pages(Mutex<Page>);

impl Pages {
    /// The page so far.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&Page) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Watcher for Pages {
    fn record(&self, record: &Record) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).read(record);
    }
}
