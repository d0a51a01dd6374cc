//! `runbook pack push`.

use runbook_model::exit_code;
use runbook_packs::pack::Pack;

use super::read;
use super::registry::{client, no_use, reference};
use crate::args;
use crate::display::{hint, print, safe};
use crate::error::CliError;

/// Sends a pack and its signatures to a registry.
pub(crate) async fn run(args: &args::Push) -> Result<u8, CliError> {
    let mut place = reference(&args.reference)?;
    let image = read(&args.pack)?;
    // What everybody would have to refuse is not spread.
    let pack = Pack::read(image.clone())
        .map_err(|error| CliError::refused(format!("{}: {}", args.pack.display(), safe(&error.to_string()))))?;
    let pushed = client(&place, true, &args.registry)?.push(&image).await.map_err(|error| no_use(&error))?;
    place.digest = Some(pushed.digest);
    print(&place.to_string());
    let (config, sent, there) = (&pack.config, pushed.sent, pushed.there);
    hint(&format!("{} {}: {sent} parts sent, {there} were there", config.name, config.version));
    if image.signatures.is_empty() {
        hint("it is not signed, so that nobody will be able to use it: runbook pack sign, then push again");
    }
    Ok(exit_code::SUCCESS)
}
