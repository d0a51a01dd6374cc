//! `runbook plugin record`: a cassette from a real run, for a plugin's tests.

use std::collections::BTreeSet;
use std::path::PathBuf;

use runbook_model::cassette::Cassette;
use runbook_model::event::{Event, PluginPin, Record};
use runbook_model::exit_code;
use runbook_model::plan::Uses;

use crate::args;
use crate::catalog::Catalog;
use crate::error::CliError;
use crate::runs_dir::{self, Begun};
use crate::session::{self, Loaded};

/// Writes what a step of a run asked and was answered into one file.
pub(crate) fn run(args: &args::Record) -> Result<u8, CliError> {
    let run = runs_dir::find(args.run.as_deref())?;
    let begun = Begun::load(&run)?;
    let records = runs_dir::read(&run)?;
    let step = step(&run, &records, args.step.as_deref())?;
    let Loaded { runbook, catalog, .. } = session::of_begun(&begun)?;
    let trail = runbook.trail(&step).unwrap_or_default();
    let Some(of) = trail.last() else {
        return Err(CliError::invalid(format!("the runbook of {run} has no step `{step}`")));
    };
    let Uses::Action { plugin, .. } = &of.uses else {
        return Err(CliError::usage(format!("the step `{step}` includes a runbook: name one of its steps")));
    };
    let (pin, loaded) = (pinned(&records, plugin, &catalog), catalog.loaded(plugin));
    let (Some(pin), Some(loaded)) = (pin, loaded) else {
        return Err(CliError::refused(format!("there is no plugin `{plugin}` any more")));
    };
    let cassette = Cassette::record(&records, &step, of, pin, &loaded.manifest, &begun.home)
        .map_err(|error| CliError::invalid(format!("{run}: {error}")))?;
    let text = cassette.text().map_err(|error| CliError::invalid(format!("{run}: {error}")))?;
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.json", step.replace('/', "-"))));
    write_new(&file, &text)?;
    super::say(&format!(
        "{}: {} records of `{step}`; read it before you share it: what the plugin was answered stands in it",
        file.display(),
        cassette.records.len()
    ));
    Ok(exit_code::SUCCESS)
}

/// The step that is meant; where none is named, the only one.
fn step(run: &str, records: &[Record], named: Option<&str>) -> Result<String, CliError> {
    let recorded: BTreeSet<&str> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::StepStarted { instance, .. } => Some(instance.step.as_str()),
            _ => None,
        })
        .collect();
    let list = recorded.iter().copied().collect::<Vec<_>>().join(", ");
    match (named, recorded.len()) {
        (Some(step), _) if recorded.contains(step) => Ok(step.to_owned()),
        (Some(step), _) => Err(CliError::usage(format!("nothing of a step `{step}` is recorded in the run {run}"))
            .hint(format!("it has {list}"))),
        (None, 1) => Ok(list),
        (None, _) => {
            Err(CliError::usage(format!("which step of the run {run}?")).hint(format!("--step, one of {list}")))
        }
    }
}

/// The plugin as it was when the run began; as it is now where the journal does not say.
fn pinned(records: &[Record], plugin: &str, catalog: &Catalog) -> Option<PluginPin> {
    let begun = records.iter().find_map(|record| match &record.event {
        Event::RunStarted { plugins, .. } => plugins.iter().find(|pin| pin.name == plugin).cloned(),
        _ => None,
    });
    begun.or_else(|| catalog.pin(plugin))
}

/// Nothing is overwritten: it may be a recording that nobody can make again.
fn write_new(file: &std::path::Path, text: &str) -> Result<(), CliError> {
    use std::io::Write as _;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
    made.and_then(|mut made| made.write_all(text.as_bytes()))
        .map_err(|error| CliError::usage(format!("{}: {error}", file.display())).hint("-o FILE says where it goes"))
}
