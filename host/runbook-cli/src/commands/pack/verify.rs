//! `runbook pack verify`.

use std::path::Path;

use runbook_model::exit_code;
use runbook_packs::pack::Pack;
use runbook_packs::trust::{self, Trusted};

use super::{read, show};
use crate::args;
use crate::display::{print, safe};
use crate::elsewhere::{not_trusted, signers, store};
use crate::error::CliError;

/// Checks a pack.
pub(crate) fn run(args: &args::PackVerify) -> Result<u8, CliError> {
    let trusted = trusted(&args.pack, &args.signers)?;
    let _ = show(&mut anstream::stdout().lock(), &trusted.pack);
    print(&format!("signed by {} with the key {}", safe(&trusted.principals), trusted.fingerprint));
    if args.keep {
        store()?.keep(&trusted).map_err(CliError::internal)?;
        let config = &trusted.pack.config;
        print(&format!("kept: \"{}:{}\" stands for it under [packs]", config.name, config.version));
    }
    Ok(exit_code::SUCCESS)
}

/// The pack at a path, if it may be used.
pub(super) fn trusted(path: &Path, args: &args::Signers) -> Result<Trusted, CliError> {
    let refused = |name: &str, error| not_trusted(&path.display().to_string(), name, &error, args);
    let pack = Pack::read(read(path)?).map_err(|error| refused("", error.into()))?;
    let signer = trust::signer(&pack, &signers(args)?, jiff::Timestamp::now());
    let (principals, fingerprint) = signer.map_err(|error| refused(&pack.config.name, error))?;
    Ok(Trusted { pack, principals, fingerprint })
}
