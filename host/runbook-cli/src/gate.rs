//! What a person must agree to: asked at the terminal, or said beforehand with `--yes` and `--approve`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use async_trait::async_trait;
use indicatif::MultiProgress;
use runbook_engine::run::{Actions, Gate, Verdict};
use runbook_model::history::History;
use runbook_model::plan::{Runbook, Uses};

use crate::display::Styles;
use crate::error::CliError;

/// Speaks for the person.
pub(crate) struct Gatekeeper {
    yes: bool,
    approved: BTreeMap<String, Option<String>>,
    /// The live display, which has to make room for a question.
    bars: Option<MultiProgress>,
}

/// Something that is done for good.
struct Irreversible {
    step: String,
    consequence: String,
}

impl Gatekeeper {
    pub(crate) fn new(yes: bool, approve: &[String], bars: Option<MultiProgress>) -> Self {
        let approved = approve
            .iter()
            .map(|text| match text.split_once('=') {
                Some((step, value)) => (step.to_owned(), Some(value.to_owned())),
                None => (text.clone(), None),
            })
            .collect();
        Self { yes, approved, bars }
    }

    /// Settles before the run what can be settled: questions that nobody could answer, and what cannot be taken back.
    pub(crate) fn before_the_run(
        &self,
        runbook: &Runbook,
        actions: &dyn Actions,
        selected: impl Fn(&str) -> bool,
    ) -> Result<(), CliError> {
        for step in self.approved.keys() {
            if !has_step(runbook, step) {
                return Err(CliError::usage(format!("--approve {step}: the runbook has no such step")));
            }
        }
        let (mut questions, mut irreversible) = (Vec::new(), Vec::new());
        gather(runbook, "", actions, &selected, &mut questions, &mut irreversible);
        questions.retain(|step| !self.yes && !self.approved.contains_key(step));
        irreversible.retain(|entry| !self.yes && !self.approved.contains_key(&entry.step));
        if !can_ask() {
            let mut steps: Vec<&String> =
                questions.iter().chain(irreversible.iter().map(|entry| &entry.step)).collect();
            steps.dedup();
            let Some(first) = steps.first() else { return Ok(()) };
            let list = steps.iter().map(|step| step.as_str()).collect::<Vec<_>>().join(", ");
            let mut error =
                CliError::usage(format!("these steps need a person's yes, and there is no terminal: {list}"))
                    .hint(format!("--approve {first} says yes to one step, --yes to all"));
            for Irreversible { step, consequence } in &irreversible {
                error = error.hint(format!("{step}: {consequence}"));
            }
            return Err(error);
        }
        if irreversible.is_empty() {
            return Ok(());
        }
        let bold = Styles::BOLD;
        let mut out = anstream::stderr().lock();
        let _ = writeln!(out, "{bold}This run may do what cannot be taken back:{bold:#}");
        for Irreversible { step, consequence } in &irreversible {
            let _ = writeln!(out, "  {step}: {consequence}");
        }
        drop(out);
        if answer("Go on?", None) {
            return Ok(());
        }
        Err(CliError {
            code: runbook_model::exit_code::CANCELLED,
            ..CliError::usage("not confirmed; nothing was touched")
        })
    }
}

impl Gatekeeper {
    /// The same for a run that is gone on with: what ended, or was agreed to, needs no further word.
    pub(crate) fn before_going_on(
        &self,
        runbook: &Runbook,
        actions: &dyn Actions,
        selected: impl Fn(&str) -> bool,
        past: &History,
    ) -> Result<(), CliError> {
        let is_settled = |step: &str| {
            let of_step: Vec<_> = past.past.iter().filter(|(instance, _)| instance.step == step).collect();
            let ended = !of_step.is_empty() && of_step.iter().all(|(_, past)| past.ended.is_some());
            ended || past.confirmed.contains(step)
        };
        self.before_the_run(runbook, actions, |step| selected(step) && !is_settled(step))
    }
}

fn has_step(runbook: &Runbook, path: &str) -> bool {
    let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(step) = runbook.step(first.split('[').next().unwrap_or(first)) else { return false };
    match (rest, &step.uses) {
        (None, _) => true,
        (Some(rest), Uses::Include { runbook, .. }) => has_step(runbook, rest),
        (Some(_), Uses::Action { .. }) => false,
    }
}

fn gather(
    runbook: &Runbook,
    prefix: &str,
    actions: &dyn Actions,
    selected: &dyn Fn(&str) -> bool,
    questions: &mut Vec<String>,
    irreversible: &mut Vec<Irreversible>,
) {
    for step in runbook.steps.iter().filter(|step| !prefix.is_empty() || selected(&step.id)) {
        let path = format!("{prefix}{}", step.id);
        match &step.uses {
            Uses::Include { runbook, .. } => {
                gather(runbook, &format!("{path}/"), actions, selected, questions, irreversible);
            }
            Uses::Action { plugin, action } => {
                if step.confirm.is_some() {
                    questions.push(path.clone());
                }
                let asks = actions.action(plugin, action).map(|(action, _)| action.asks.as_slice()).unwrap_or_default();
                let mut consequences: Vec<&String> = asks.iter().filter_map(|ask| ask.irreversible.as_ref()).collect();
                consequences.dedup();
                irreversible.extend(
                    consequences
                        .into_iter()
                        .map(|consequence| Irreversible { step: path.clone(), consequence: consequence.clone() }),
                );
            }
        }
    }
}

#[async_trait]
impl Gate for Gatekeeper {
    async fn confirm(&self, step: &str, text: &str, typed: Option<&str>) -> Verdict {
        if self.yes {
            return Verdict { approved: true, by: "--yes".to_owned() };
        }
        // `--approve` names the step, not each of its items.
        let name = step.split('[').next().unwrap_or(step);
        if let Some(value) = self.approved.get(step).or_else(|| self.approved.get(name)) {
            let approved = typed.is_none() || value.as_deref() == typed;
            return Verdict { approved, by: "--approve".to_owned() };
        }
        if !can_ask() {
            return Verdict { approved: false, by: "no terminal".to_owned() };
        }
        let (question, typed) = (format!("{step}: {text}"), typed.map(str::to_owned));
        let bars = self.bars.clone();
        let asked = tokio::task::spawn_blocking(move || match bars {
            Some(bars) => bars.suspend(|| answer(&question, typed.as_deref())),
            None => answer(&question, typed.as_deref()),
        });
        Verdict { approved: asked.await.unwrap_or(false), by: "typed".to_owned() }
    }
}

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks at the terminal; `typed` must be typed for a yes.
pub(crate) fn answer(question: &str, typed: Option<&str>) -> bool {
    let how = match typed {
        Some(word) => format!("type {word} to go on"),
        None => "y/N".to_owned(),
    };
    let bold = Styles::BOLD;
    let _ = write!(anstream::stderr().lock(), "{bold}{question}{bold:#} [{how}] ");
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line).is_err() {
        return false;
    }
    match typed {
        Some(word) => line.trim() == word,
        None => matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"),
    }
}
