//! `runbook schema`.

use std::io::Write as _;

use runbook_model::exit_code;
use runbook_model::manifest::Manifest;

use crate::args;
use crate::catalog::Catalog;
use crate::error::CliError;
use crate::session;

/// Prints the JSON Schema of the language.
pub(crate) fn run(args: &args::Schema) -> Result<u8, CliError> {
    let standard = Catalog::standard()?;
    let brought = args.file.as_deref().map(session::load).transpose()?.map(|loaded| loaded.catalog);
    let own = |manifest: &&Manifest| standard.loaded(&manifest.name).is_none();
    let brought = brought.iter().flat_map(Catalog::manifests).filter(own);
    let schema = runbook_model::schema_json::schema(standard.manifests().chain(brought));
    let text = serde_json::to_string_pretty(&schema).map_err(CliError::internal)?;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    Ok(exit_code::SUCCESS)
}
