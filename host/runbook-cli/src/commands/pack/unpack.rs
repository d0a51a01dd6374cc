//! `runbook pack unpack`.

use std::path::PathBuf;

use runbook_model::exit_code;
use runbook_packs::trust::Trusted;

use super::verify::trusted;
use crate::args;
use crate::display::print;
use crate::error::CliError;

/// Writes the files of a pack into a fresh folder.
pub(crate) fn run(args: &args::Unpack) -> Result<u8, CliError> {
    let Trusted { pack, .. } = trusted(&args.pack, &args.signers)?;
    let name = pack.config.name.rsplit('/').next().unwrap_or_default();
    let folder = args.output.clone().unwrap_or_else(|| PathBuf::from(name));
    let broken = |path: &PathBuf, error: std::io::Error| CliError::usage(format!("{}: {error}", path.display()));
    std::fs::create_dir(&folder)
        .map_err(|error| broken(&folder, error).hint("-o DIR names a folder that is not there yet"))?;
    for file in &pack.config.files {
        // Paths were checked: none leads out of the folder, and in a fresh one there are no links.
        let path = folder.join(&file.path);
        let parent = path.parent().map(std::fs::create_dir_all).unwrap_or(Ok(()));
        parent
            .and_then(|()| std::fs::write(&path, pack.file(&file.path).unwrap_or_default()))
            .map_err(|error| broken(&path, error))?;
    }
    print(&format!(
        "{}: {} files of {} {}",
        folder.display(),
        pack.config.files.len(),
        pack.config.name,
        pack.config.version
    ));
    Ok(exit_code::SUCCESS)
}
