//! `runbook validate`.

use std::io::Write as _;

use runbook_model::diagnostic::has_errors;
use runbook_model::exit_code;

use crate::args;
use crate::elsewhere;
use crate::error::CliError;
use crate::session;

/// Reports every mistake, and what is not granted yet.
pub(crate) fn run(args: &args::Validate) -> Result<u8, CliError> {
    let mut code = exit_code::SUCCESS;
    for file in &args.files {
        let (loaded, mut diagnostics) = session::check(file)?;
        if let Some(loaded) = &loaded {
            diagnostics.extend(elsewhere::notes(&loaded.runbook, &loaded.catalog));
        }
        if args.json {
            let mut out = std::io::stdout().lock();
            for diagnostic in &diagnostics {
                let _ = writeln!(out, "{}", diagnostic.to_json());
            }
        } else {
            session::show(&diagnostics);
        }
        match loaded {
            Some(loaded) if !has_errors(&diagnostics) => {
                if !args.json {
                    let count = loaded.runbook.steps.len();
                    let steps = if count == 1 { "step" } else { "steps" };
                    let _ = writeln!(anstream::stdout().lock(), "{}: {count} {steps}, no mistakes", file.display());
                }
            }
            _ => {
                code = exit_code::INVALID;
                let error = CliError::after_diagnostics(&file.display().to_string(), diagnostics.len());
                if !args.json {
                    crate::error::report(&error);
                }
            }
        }
    }
    Ok(code)
}
