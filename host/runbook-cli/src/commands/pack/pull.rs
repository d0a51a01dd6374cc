//! `runbook pack pull`.

use std::path::Path;

use runbook_model::exit_code;
use runbook_packs::layout;
use runbook_packs::lock::{LOCK, not_older};
use runbook_packs::pack::Pack;
use runbook_packs::registry::Reference;
use runbook_packs::trust;

use super::registry::{client, no_use, reference};
use super::show;
use crate::args;
use crate::display::{print, safe};
use crate::elsewhere::{Beside, not_trusted, signers, store};
use crate::error::CliError;

/// Fetches a pack, and stores it only when it may be used.
pub(crate) async fn run(args: &args::Pull) -> Result<u8, CliError> {
    let place = reference(&args.reference)?;
    let signers = signers(&args.signers)?;
    let image = client(&place, false, &args.registry)?.pull().await.map_err(|error| no_use(&error))?;
    // The name is what the pack claims, for a line that a person decides on.
    let name = Pack::read(image.clone()).map(|pack| pack.config.name).unwrap_or_default();
    let trusted = trust::verify(image, &signers, jiff::Timestamp::now())
        .map_err(|error| not_trusted(&args.reference, &name, &error, &args.signers))?;
    not_replayed(&place, &trusted.pack, args.allow_older)?;

    let _ = show(&mut anstream::stdout().lock(), &trusted.pack);
    print(&format!("signed by {} with the key {}", safe(&trusted.principals), trusted.fingerprint));
    let config = &trusted.pack.config;
    match &args.output {
        Some(path) => {
            write(&trusted.pack, path)?;
            print(&format!("written to {}", path.display()));
        }
        None => {
            store()?.keep(&trusted).map_err(CliError::internal)?;
            print(&format!("kept: \"{}:{}\" stands for it under [packs]", config.name, config.version));
        }
    }
    Ok(exit_code::SUCCESS)
}

fn write(pack: &Pack, path: &Path) -> Result<(), CliError> {
    let folder = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let write = if folder { layout::write_dir } else { layout::write_file };
    write(pack.image(), path).map_err(|error| CliError::usage(error).hint("-o PATH writes it elsewhere"))
}

/// Refuses what a registry may have dug out: a signature does not age, so that an old pack with a known flaw is still well signed. Who
/// asks for a digest gets just that.
fn not_replayed(place: &Reference, pack: &Pack, allow_older: bool) -> Result<(), CliError> {
    if place.digest.is_some() || allow_older {
        return Ok(());
    }
    let found = version(&pack.config.version)?;
    let tag = place.tag.as_deref().and_then(|tag| semver::Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok());
    if let Some(tag) = tag {
        // Who asks for a version gets that one, whatever else is known.
        if tag.cmp_precedence(&found).is_eq() {
            return Ok(());
        }
        return Err(CliError::refused(format!("{place}: the tag says {tag}, but the pack in it is {found}"))
            .hint("somebody moved the tag, or serves an old pack under it; nothing was stored"));
    }
    let name = &pack.config.name;
    for (known, origin) in known_versions(name)? {
        if not_older(name, &found, &known).is_err() {
            return Err(CliError::refused(format!("{place}: {name} {found} lies there, and {known} is {origin}"))
                .hint("somebody may serve old packs; nothing was stored. --allow-older takes it all the same"));
        }
    }
    Ok(())
}

/// The versions of a pack that this machine has seen, and where.
fn known_versions(name: &str) -> Result<Vec<(semver::Version, &'static str)>, CliError> {
    let kept = store()?.list().map_err(CliError::internal)?;
    let kept = kept.into_iter().filter(|pack| pack.name == name).map(|pack| (pack.version, "kept on this machine"));
    let lock = Beside::of(Path::new(LOCK))?.lock;
    let locked = lock.versions(name).map(|version| (version.clone(), "locked in ./runbook.lock"));
    Ok(kept.chain(locked).collect())
}

fn version(text: &str) -> Result<semver::Version, CliError> {
    semver::Version::parse(text).map_err(|_| CliError::refused(format!("`{}` is no version", safe(text))))
}
