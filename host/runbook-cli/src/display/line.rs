//! Plain lines on stderr, for pipes and logs: one for each thing that a reader of a log wants to find.

use std::io::Write as _;
use std::sync::Mutex;

use runbook_engine::journal::Watcher;
use runbook_model::call::Level;
use runbook_model::event::{BlockEnd, Event, Instance, Record, Settlement, Verb};

use anstyle::Style;

use super::style::Styles;
use super::told::Told;
use super::words;

/// Prints lines.
#[derive(Default)]
pub(crate) struct Lines {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    verb: Option<Verb>,
    told: Told,
}

impl Watcher for Lines {
    fn record(&self, record: &Record) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Event::RunStarted { verb: started, .. } = &record.event {
            state.verb = Some(*started);
        }
        let verb = state.verb.unwrap_or(Verb::Exec);
        for line in state.told.lines(&record.event, verb) {
            let _ = writeln!(anstream::stderr().lock(), "{line}");
        }
    }
}

/// An event as lines; most have none.
pub(super) fn lines(event: &Event, verb: Verb) -> Vec<String> {
    match event {
        Event::RunStarted { run, runbook, steps, verb: Verb::Exec, .. } => {
            vec![format!("{}{runbook}{:#}: {} steps, run {run}", Styles::BOLD, Styles::BOLD, steps.len())]
        }
        Event::Reopened { verb, session, steps, .. } => {
            let word = match verb {
                Verb::Undo => "what it did is taken back",
                Verb::Redo => "its undo is taken back",
                Verb::Done => "a person's word",
                Verb::Resume | Verb::Exec | Verb::Plan => "it goes on",
            };
            let (bold, dim) = (Styles::BOLD, Styles::DIM);
            vec![format!("{bold}session {session}{bold:#}: {word} {dim}({} steps){dim:#}", steps.len())]
        }
        // A plan is shown whole, on stdout.
        _ if verb == Verb::Plan => Vec::new(),
        Event::Kept { instance, outcome } => {
            let (sign, _) = Styles::outcome(*outcome);
            let dim = Styles::DIM;
            vec![format!("{dim}{sign} {instance}  {} before{dim:#}", words::outcome(*outcome, verb))]
        }
        Event::Lost { instance, error, .. } => {
            vec![note(instance, Styles::CHANGE, &format!("in doubt: {error}"))]
        }
        Event::Settled { instance, finding, why, .. } => {
            let word = match finding {
                Settlement::Done => "found done",
                Settlement::NotDone => "found not done",
                Settlement::Again => "done again",
                Settlement::Unclear => "unclear",
            };
            vec![note(instance, Styles::CHANGE, &format!("{word}: {why}"))]
        }
        Event::Diverged { instance, why, .. } => {
            vec![note(instance, Styles::CHANGE, &format!("looked at from its start: {why}"))]
        }
        Event::Stuck { instance, why, manual, .. } => {
            let mut lines = vec![note(instance, Styles::BAD, &format!("needs you: {why}"))];
            lines.extend(manual.iter().map(|line| format!("      {}", words::safe(line))));
            lines
        }
        Event::TakingBack { instance, summary, .. } => {
            vec![note(instance, Styles::DIM, &format!("takes back: {summary}"))]
        }
        Event::Left { instance, why, .. } => vec![note(instance, Styles::DIM, &format!("left as it is: {why}"))],
        Event::Overridden { instance, conflict, .. } => {
            vec![note(instance, Styles::CHANGE, &format!("overwritten: {conflict}"))]
        }
        Event::Exited { block, how } => {
            let word = match how {
                BlockEnd::Well => return Vec::new(),
                BlockEnd::Undone => "undone",
                BlockEnd::Released => "released",
            };
            vec![format!("  the block {block} was {word}")]
        }
        Event::Drilled { instance, fault, .. } => {
            vec![note(instance, Styles::CHANGE, &format!("a drill: {fault}"))]
        }
        Event::TookOver { instance, target, run, .. } => {
            vec![note(
                instance,
                Styles::DIM,
                &format!("the lease of {target} was taken over from {run}, which is over"),
            )]
        }
        Event::Intended { instance, diff, .. } => {
            vec![format!("  {}{instance}{:#}  {}", Styles::DIM, Styles::DIM, words::safe(&diff.summary))]
        }
        Event::Denied { instance, reason, .. } => {
            vec![format!("  {}{instance}  denied: {}{:#}", Styles::BAD, words::safe(reason), Styles::BAD)]
        }
        Event::Log { instance, level: Level::Warn, message } => {
            vec![format!("  {}{instance}  {}{:#}", Styles::CHANGE, words::safe(message), Styles::CHANGE)]
        }
        Event::Log { instance, level: Level::Info, message } => {
            vec![format!("  {}{instance}{:#}  {}", Styles::DIM, Styles::DIM, words::safe(message))]
        }
        Event::Retrying { instance, error, after_ms } => {
            vec![format!(
                "  {instance}  {}; next attempt in {}",
                words::safe(&error.to_string()),
                words::elapsed(*after_ms)
            )]
        }
        Event::StepFinished { instance, outcome, reason, elapsed_ms, .. } => {
            let (sign, style) = Styles::outcome(*outcome);
            let dim = Styles::DIM;
            let word = words::outcome(*outcome, verb);
            let mut lines =
                vec![format!("{style}{sign} {instance}{style:#}  {word} {dim}{}{dim:#}", words::elapsed(*elapsed_ms))];
            let reason_style = if outcome.is_ok() { dim } else { style };
            let reason = words::safe(reason.as_deref().unwrap_or_default());
            lines.extend(reason.lines().map(|line| format!("    {reason_style}{line}{reason_style:#}")));
            lines
        }
        Event::StepStarted { .. }
        | Event::RunStarted { .. }
        | Event::Abandoned { .. }
        | Event::Verifying { .. }
        | Event::Resolved { .. }
        | Event::Lapsed { .. }
        | Event::TakenBack { .. }
        | Event::Entered { .. }
        | Event::Receipt { .. }
        | Event::ByHand { .. }
        | Event::Looked { .. }
        | Event::Planned { .. }
        | Event::Changed { .. }
        | Event::Unchanged { .. }
        | Event::Deferred { .. }
        | Event::Baseline { .. }
        | Event::Log { .. }
        | Event::Progress { .. }
        | Event::Checked { .. }
        | Event::Verified { .. }
        | Event::Confirmed { .. }
        | Event::RunFinished { .. }
        | Event::Unknown => Vec::new(),
    }
}

fn note(instance: &Instance, style: Style, text: &str) -> String {
    format!("  {style}{instance}  {}{style:#}", words::safe(text))
}
