//! `runbook pack verify`.

use std::path::Path;

use runbook_model::exit_code;
use runbook_packs::trust::{self, Trusted};

use super::{read, show};
use crate::args;
use crate::display::{print, safe};
use crate::elsewhere::{not_trusted, signers, store};
use crate::error::CliError;

/// Checks a pack.
pub(crate) fn run(args: &args::Verify) -> Result<u8, CliError> {
    let Trusted { pack, principals, fingerprint } = &trusted(&args.pack, &args.signers)?;
    let _ = show(&mut anstream::stdout().lock(), pack);
    print(&format!("signed by {} with the key {fingerprint}", safe(principals)));
    if args.keep {
        let trusted = Trusted { pack: pack.clone(), principals: principals.clone(), fingerprint: fingerprint.clone() };
        store()?.keep(&trusted).map_err(CliError::internal)?;
        print(&format!("kept: \"{}:{}\" stands for it under [packs]", pack.config.name, pack.config.version));
    }
    Ok(exit_code::SUCCESS)
}

/// The pack at a path, if it may be used.
pub(super) fn trusted(path: &Path, args: &args::Signers) -> Result<Trusted, CliError> {
    let image = read(path)?;
    let what = path.display().to_string();
    // The name is what the pack claims, for a line that a person decides on.
    let name = runbook_packs::pack::Pack::read(image.clone()).map(|pack| pack.config.name).unwrap_or_default();
    let trusted = trust::verify(image, &signers(args)?, jiff::Timestamp::now());
    trusted.map_err(|error| not_trusted(&what, &name, &error, args))
}
