//! `runbook report`.

use std::io::Write as _;
use std::path::Path;

use runbook_model::exit_code;
use runbook_model::report::{Report, html, markdown};

use crate::args::{self, Format};
use crate::display::hint;
use crate::error::CliError;
use crate::runs_dir;

/// Writes down what a run came to.
pub(crate) fn run(args: &args::Report) -> Result<u8, CliError> {
    let name = runs_dir::find(args.run.as_deref())?;
    let report = Report::of(runs_dir::read(&name)?).map_err(|error| CliError::invalid(format!("{name}: {error}")))?;
    let (format, output) = match &args.html {
        Some(file) => (Format::Html, Some(file)),
        None => (args.format, args.output.as_ref()),
    };
    let zone = runs_dir::local_time();
    let text = match format {
        Format::Md => markdown::markdown(&report, &zone),
        Format::Html => html::html(&report, &zone),
    };
    let text = text.map_err(CliError::internal)?;
    match output {
        Some(file) => {
            save(file, &text)?;
            hint(&format!("{} tells of the run {name}", file.display()));
        }
        None => {
            // Whoever closed the pipe has seen enough.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
        }
    }
    Ok(exit_code::SUCCESS)
}

fn save(file: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(file, text).map_err(|error| CliError::usage(format!("{}: {error}", file.display())))
}
