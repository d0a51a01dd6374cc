//! Plain lines on stderr, for pipes and logs: one for each thing that a reader of a log wants to find.

use std::io::Write as _;
use std::sync::Mutex;

use runbook_engine::journal::Watcher;
use runbook_model::call::Level;
use runbook_model::event::{Event, Record, Verb};

use super::style::Styles;
use super::words;

/// Prints lines.
#[derive(Default)]
pub(crate) struct Lines {
    verb: Mutex<Option<Verb>>,
}

impl Watcher for Lines {
    fn record(&self, record: &Record) {
        let mut verb = self.verb.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Event::RunStarted { verb: started, .. } = &record.event {
            *verb = Some(*started);
        }
        for line in lines(&record.event, verb.unwrap_or(Verb::Exec)) {
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
        // A plan is shown whole, on stdout.
        _ if verb == Verb::Plan => Vec::new(),
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
