//! `runbook runs` and `runbook show`.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use runbook_engine::vault::Vault;
use runbook_model::call::Prior;
use runbook_model::event::{Event, Record, RunOutcome};
use runbook_model::exit_code;
use runbook_model::history::History;
use serde_json::json;

use crate::args;
use crate::display::{Page, Styles, ago, elapsed};
use crate::error::CliError;
use crate::runs_dir;

/// Lists the runs.
pub(crate) fn list(args: &args::Runs) -> Result<u8, CliError> {
    let mut out = anstream::stdout().lock();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let names = runs_dir::names()?;
    let width = names.iter().map(String::len).max().unwrap_or(0);
    for name in &names {
        // One damaged journal must not hide the others.
        let (started, word, file, is_open) = match runs_dir::read(name) {
            Ok(records) => {
                let (started, word, file) = summary(&records);
                let is_open = History::of(records).is_ok_and(|history| history.state.holds_targets());
                (started, word, file, is_open)
            }
            Err(error) => (0, error.what, String::new(), false),
        };
        let _ = if args.json {
            let line = json!({"run": name, "started": started, "outcome": word, "file": file, "open": is_open});
            writeln!(out, "{line}")
        } else {
            let style = if word.starts_with("succeeded") && !is_open { Styles::GOOD } else { Styles::BAD };
            let word = if is_open { format!("{word}, something is open: runbook next") } else { word };
            let age = ago(u64::try_from(now.saturating_sub(started.into())).unwrap_or(u64::MAX));
            let dim = Styles::DIM;
            writeln!(out, "{name:width$}  {dim}{age:>12}{dim:#}  {style}{word}{style:#}  {dim}{file}{dim:#}")
        };
    }
    if names.is_empty() && !args.json {
        let _ = writeln!(anstream::stderr(), "nothing was run from this machine yet");
    }
    Ok(exit_code::SUCCESS)
}

fn summary(records: &[Record]) -> (u64, String, String) {
    let started = records.first().map_or(0, |record| record.at);
    let file = match records.first().map(|record| &record.event) {
        Some(Event::RunStarted { file, .. }) => file.clone(),
        _ => String::new(),
    };
    let word = match records.last().map(|record| &record.event) {
        Some(Event::RunFinished { outcome, elapsed_ms, .. }) => {
            let word = match outcome {
                RunOutcome::Succeeded => "succeeded",
                RunOutcome::Failed => "failed",
                RunOutcome::Stuck => "stuck",
                RunOutcome::Cancelled => "cancelled",
            };
            format!("{word} after {}", elapsed(*elapsed_ms))
        }
        _ => "unfinished".to_owned(),
    };
    (started, word, file)
}

/// Shows one run.
pub(crate) fn show(args: &args::Show) -> Result<u8, CliError> {
    let name = runs_dir::find(args.run.as_deref())?;
    if let Some(record) = args.kept {
        return show_kept(&name, record);
    }
    let records = runs_dir::read(&name)?;
    let mut out = anstream::stdout().lock();
    if args.json {
        for record in &records {
            if let Ok(line) = serde_json::to_string(record) {
                let _ = writeln!(out, "{line}");
            }
        }
        return Ok(exit_code::SUCCESS);
    }
    let mut page = Page::default();
    for record in &records {
        page.read(record);
    }
    let (_, word, file) = summary(&records);
    let (bold, dim) = (Styles::BOLD, Styles::DIM);
    let _ = writeln!(out, "{bold}{name}{bold:#}  {word}  {dim}{file}{dim:#}");
    let _ = page.write_steps(&mut out);
    let _ = page.write_end(&mut out);
    Ok(exit_code::SUCCESS)
}

/// Prints what was there before a change, as it was: a person who puts something back by hand may need it, secrets included.
fn show_kept(run: &str, record: u64) -> Result<u8, CliError> {
    let history = runs_dir::history(run)?;
    let nothing = |why: &str| CliError::usage(format!("record {record} of the run {run} {why}"));
    let entry = history.stack.iter().find(|entry| entry.record == record).ok_or_else(|| nothing("is no change"))?;
    let kept = entry.kept.as_ref().filter(|_| entry.made().is_some()).ok_or_else(|| nothing("kept nothing"))?;
    let sealed = |error| CliError::invalid(format!("record {record} of the run {run}: {error}"));
    let vault = Vault::open(&runs_dir::key()?, runs_dir::root()?.join(run).join("blobs")).map_err(sealed)?;
    let bytes = match vault.recall::<Prior>(kept).map_err(sealed)? {
        Prior::File(prior) => prior.content.map(|content| content.0),
        Prior::PodFile { content, .. } => content.map(|content| content.0),
        Prior::Object { live: Some(live), .. } => Some(serde_json::to_vec_pretty(&live).map_err(CliError::internal)?),
        Prior::Object { live: None, .. } | Prior::None | Prior::DoneWhen(_) | Prior::Process { .. } => None,
    };
    let bytes = bytes.ok_or_else(|| nothing("kept nothing: there was nothing there, or it was too large"))?;
    std::io::stdout().lock().write_all(&bytes).map_err(CliError::internal)?;
    Ok(exit_code::SUCCESS)
}
