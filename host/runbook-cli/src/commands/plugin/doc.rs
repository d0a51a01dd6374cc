//! `runbook plugin doc`.

use crate::args;
use crate::error::CliError;

/// Writes the page of a plugin.
pub(crate) async fn run(args: &args::Doc) -> Result<u8, CliError> {
    Err(CliError::usage(format!("{}: pages are not written yet", args.plugin)))
}
