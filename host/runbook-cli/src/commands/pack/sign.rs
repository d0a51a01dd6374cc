//! `runbook pack sign`.

use runbook_model::exit_code;
use runbook_packs::pack::Pack;
use runbook_packs::sshsig::{self, NAMESPACE};

use super::{read, write};
use crate::args;
use crate::display::{hint, print, safe};
use crate::error::CliError;

/// Signs a pack.
pub(crate) fn run(args: &args::Sign) -> Result<u8, CliError> {
    let mut image = read(&args.pack)?;
    // Nobody should sign what others will have to refuse.
    let pack = Pack::read(image.clone())
        .map_err(|error| CliError::refused(format!("{}: {}", args.pack.display(), safe(&error.to_string()))))?;
    let (signature, key) = sshsig::sign(&args.key, &image.manifest, NAMESPACE)
        .map_err(|error| CliError::usage(error).hint("--key names a key of yours, such as ~/.ssh/id_ed25519"))?;
    image.signatures.retain(|known| *known != signature);
    image.signatures.push(signature);
    write(&image, &args.pack)?;
    print(&format!(
        "{}: {} {} {} is signed by {}",
        args.pack.display(),
        pack.config.name,
        pack.config.version,
        pack.digest,
        key.fingerprint()
    ));
    let owner = pack.config.name.split('/').next().unwrap_or_default();
    hint(&format!(
        "others let it in by this line in ~/.config/runbook/allowed_signers:\n{owner} namespaces=\"{NAMESPACE}\" {key}"
    ));
    Ok(exit_code::SUCCESS)
}
