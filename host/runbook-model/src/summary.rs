//! Events folded into the counts of the last line.
//!
//! What is counted are steps, not their instances: the outcome of a step is the worst of its instances, and a step that never
//! began is skipped, so that the counts always add up to the number of steps.

use std::collections::HashMap;

use crate::event::{Event, RunOutcome, StepOutcome, Summary, Verb};

/// Reads events, in their order, and counts. Duplicated events count once; a cut stream gives the counts so far.
#[derive(Debug, Clone, Default)]
pub struct Counter {
    steps: Vec<Option<StepOutcome>>,
    /// By the step's id.
    places: HashMap<String, usize>,
}

impl Counter {
    /// Takes one event in.
    pub fn read(&mut self, event: &Event) {
        match event {
            Event::RunStarted { steps, .. } | Event::Reopened { steps, .. } => {
                self.places = steps.iter().enumerate().map(|(place, step)| (step.id.clone(), place)).collect();
                self.steps = vec![None; steps.len()];
            }
            Event::StepFinished { instance, outcome, .. } | Event::Kept { instance, outcome } => {
                let index = self.index_of(&instance.step);
                let slot = &mut self.steps[index];
                *slot = Some(slot.map_or(*outcome, |known| known.max(*outcome)));
            }
            _ => {}
        }
    }

    /// Where the step is counted: as itself if the first event lists it, else as the include that holds it.
    fn index_of(&mut self, id: &str) -> usize {
        let mut name = id;
        loop {
            if let Some(index) = self.places.get(name) {
                return *index;
            }
            let Some(cut) = name.rfind(['/', '[']) else { break };
            name = &name[..cut];
        }
        self.places.insert(id.to_owned(), self.steps.len());
        self.steps.push(None);
        self.steps.len() - 1
    }

    /// The outcome of a step so far: the worst of its instances.
    pub fn outcome(&self, step: &str) -> Option<StepOutcome> {
        self.places.get(step).and_then(|place| self.steps[*place])
    }

    /// The counts so far.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { steps: self.steps.len(), ..Summary::default() };
        for outcome in &self.steps {
            let count = match outcome {
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
            };
            *count += 1;
        }
        summary
    }
}

/// The last line of a run.
pub fn last_line(verb: Verb, outcome: RunOutcome, summary: &Summary) -> String {
    let Summary { steps, changed, may_change, unchanged, skipped, failed } = summary;
    let word = match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Failed => "failed",
        RunOutcome::Stuck => "stuck",
        RunOutcome::Cancelled => "cancelled",
    };
    match verb {
        Verb::Exec | Verb::Resume | Verb::Undo | Verb::Redo | Verb::Done => format!(
            "{word}: {steps} steps, {changed} changed, {unchanged} unchanged, {skipped} skipped, {failed} failed"
        ),
        Verb::Plan => {
            let word = if outcome == RunOutcome::Succeeded { "plan".to_owned() } else { format!("plan {word}") };
            format!(
                "{word}: {steps} steps, {changed} would change, {may_change} may change, {unchanged} unchanged, {skipped} skipped, \
                 {failed} failed"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Instance, StepSketch};
    use serde_json::Value;

    fn started(ids: &[&str]) -> Event {
        let steps = ids
            .iter()
            .map(|id| StepSketch {
                id: (*id).to_owned(),
                uses: "core/file".to_owned(),
                hosts: Vec::new(),
                cluster: None,
                why: None,
            })
            .collect();
        Event::RunStarted {
            run: "r".to_owned(),
            version: crate::event::VERSION.to_owned(),
            program: "0".to_owned(),
            verb: Verb::Exec,
            runbook: "x".to_owned(),
            file: "x.toml".to_owned(),
            sha256: String::new(),
            steps,
            plugins: Vec::new(),
            inputs: Value::Null,
            pid: 1,
            boot_id: String::new(),
            rto_ms: None,
        }
    }

    fn finished(step: &str, host: &str, outcome: StepOutcome) -> Event {
        Event::StepFinished {
            instance: Instance { step: step.to_owned(), host: Some(host.to_owned()), item: None },
            outcome,
            outputs: Value::Null,
            reason: None,
            elapsed_ms: 1,
        }
    }

    #[test]
    fn counts_steps_by_their_worst_instance() {
        let mut counter = Counter::default();
        for event in [
            started(&["a", "b", "c", "d"]),
            finished("a", "n1", StepOutcome::Changed),
            finished("a", "n2", StepOutcome::Unchanged),
            finished("a", "n2", StepOutcome::Unchanged),
            finished("b/one", "n1", StepOutcome::Unchanged),
            finished("b[x]/two", "n1", StepOutcome::Unchanged),
            finished("c", "n1", StepOutcome::Unreachable),
            finished("c", "n2", StepOutcome::Changed),
        ] {
            counter.read(&event);
        }
        let summary = counter.summary();
        assert_eq!(
            last_line(Verb::Exec, RunOutcome::Failed, &summary),
            "failed: 4 steps, 1 changed, 1 unchanged, 1 skipped, 1 failed"
        );
        assert_eq!(counter.outcome("c"), Some(StepOutcome::Unreachable));
    }

    #[test]
    fn last_lines_are_a_contract() {
        let summary = Summary { steps: 12, changed: 5, may_change: 0, unchanged: 7, skipped: 0, failed: 0 };
        assert_eq!(
            last_line(Verb::Exec, RunOutcome::Succeeded, &summary),
            "succeeded: 12 steps, 5 changed, 7 unchanged, 0 skipped, 0 failed"
        );
        assert_eq!(
            last_line(Verb::Plan, RunOutcome::Succeeded, &summary),
            "plan: 12 steps, 5 would change, 0 may change, 7 unchanged, 0 skipped, 0 failed"
        );
    }
}
