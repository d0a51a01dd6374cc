//! `runbook schema`.

use std::io::Write as _;

use runbook_model::exit_code;

use crate::args;
use crate::catalog::Catalog;
use crate::error::CliError;
use crate::session;

/// Prints the JSON Schema of the language.
pub(crate) fn run(args: &args::Schema) -> Result<u8, CliError> {
    let catalog = match &args.file {
        Some(file) => session::load(file)?.catalog,
        None => Catalog::standard()?,
    };
    let schema = runbook_model::schema_json::schema(catalog.manifests());
    let text = serde_json::to_string_pretty(&schema).map_err(CliError::internal)?;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    Ok(exit_code::SUCCESS)
}
