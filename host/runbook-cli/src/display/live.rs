//! A live display on a terminal: what ended scrolls by, what is at work stays below with its clock and the line that it waits on.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use runbook_engine::journal::Watcher;
use runbook_model::event::{Event, Instance, Record, StepOutcome, Verb};

use super::told::Told;
use super::words;

/// The live display.
pub(crate) struct Live {
    bars: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    verb: Option<Verb>,
    at_work: BTreeMap<Instance, ProgressBar>,
    total: Option<ProgressBar>,
    /// Steps that have ended, by name, so that hosts do not count twice.
    ended: std::collections::BTreeSet<String>,
    told: Told,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { bars: MultiProgress::new(), state: Mutex::new(State::default()) }
    }

    /// The bars, for those who have to write past them.
    pub(crate) fn bars(&self) -> MultiProgress {
        self.bars.clone()
    }

    fn update(&self, instance: &Instance, state: &State, message: &str) {
        if let Some(bar) = state.at_work.get(instance) {
            bar.set_message(one_line(message));
        }
    }
}

impl Watcher for Live {
    fn record(&self, record: &Record) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &record.event {
            Event::RunStarted { verb, steps, .. } => {
                state.verb = Some(*verb);
                let bar = self.bars.add(ProgressBar::new(steps.len() as u64));
                bar.set_style(style("{wide_bar:.green/dim} {pos}/{len} steps  {elapsed_precise}"));
                bar.enable_steady_tick(Duration::from_millis(250));
                state.total = Some(bar);
            }
            Event::StepStarted { instance, .. } => {
                let bar = ProgressBar::new_spinner().with_prefix(instance.to_string());
                bar.set_style(style("{spinner:.cyan} {prefix:.bold} {elapsed} {wide_msg:.dim}"));
                let bar = match &state.total {
                    Some(total) => self.bars.insert_before(total, bar),
                    None => self.bars.add(bar),
                };
                bar.enable_steady_tick(Duration::from_millis(120));
                if let Some(old) = state.at_work.insert(instance.clone(), bar) {
                    old.finish_and_clear();
                }
            }
            Event::Intended { instance, diff, .. } => self.update(instance, &state, &diff.summary),
            Event::Looked { instance, request, .. } => {
                self.update(instance, &state, &runbook_model::words::call(&request.call))
            }
            Event::Progress { instance, message, done, total, unit } => {
                self.update(instance, &state, &progress_text(message, *done, *total, unit));
            }
            Event::StepFinished { instance, outcome, .. } => {
                if let Some(bar) = state.at_work.remove(instance) {
                    bar.finish_and_clear();
                }
                let top = instance.step.split('/').next().unwrap_or_default().to_owned();
                if *outcome != StepOutcome::Skipped || state.verb == Some(Verb::Plan) {
                    state.ended.insert(top);
                }
                if let Some(total) = &state.total {
                    total.set_position(state.ended.len() as u64);
                }
            }
            Event::RunFinished { .. } => {
                for bar in state.at_work.values().chain(&state.total) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        let verb = state.verb.unwrap_or(Verb::Exec);
        for text in state.told.lines(&record.event, verb) {
            let text = if colours() { text } else { anstream::adapter::strip_str(&text).to_string() };
            let _ = self.bars.println(text);
        }
    }
}

/// The bars write past the stream that would leave colours out.
fn colours() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

fn style(template: &str) -> ProgressStyle {
    let plain = template.replace(":.green/dim", "").replace(":.cyan", "").replace(":.bold", "").replace(":.dim", "");
    let template = if colours() { template } else { &plain };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn one_line(text: &str) -> String {
    words::safe(text).replace(['\n', '\t'], " ")
}

fn progress_text(message: &str, done: u64, total: Option<u64>, unit: &str) -> String {
    match (total, unit) {
        (Some(total), "bytes") => {
            format!("{message} {} of {}", indicatif::HumanBytes(done), indicatif::HumanBytes(total))
        }
        (Some(total), unit) => format!("{message} {done} of {total} {unit}"),
        (None, _) if done == 0 => message.to_owned(),
        (None, "bytes") => format!("{message} {}", indicatif::HumanBytes(done)),
        (None, unit) => format!("{message} {done} {unit}"),
    }
}
