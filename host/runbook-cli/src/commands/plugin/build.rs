//! `runbook plugin build`.

use std::io::{self, Write};
use std::path::Path;

use runbook_model::exit_code;
use runbook_plugins::Loaded;

use super::inspect::write_asks;
use super::project::Project;
use crate::args;
use crate::display::Styles;
use crate::error::CliError;

/// Compiles a project, and checks what came out.
pub(crate) async fn run(args: &args::Project) -> Result<u8, CliError> {
    let project = Project::open(&args.dir)?;
    let path = project.build()?;
    let bytes = read(&path)?;
    let size = bytes.len();
    let loaded = super::load(&project.name, bytes).await?;
    let _ = show(&mut anstream::stdout().lock(), &path, size, &loaded);
    Ok(exit_code::SUCCESS)
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|error| CliError::refused(format!("{}: {error}", path.display())))
}

fn show(out: &mut impl Write, path: &Path, size: usize, loaded: &Loaded) -> io::Result<()> {
    let (bold, dim) = (Styles::BOLD, Styles::DIM);
    let manifest = &loaded.manifest;
    writeln!(out, "{bold}{} {}{bold:#}  {}", manifest.name, manifest.version, manifest.summary)?;
    writeln!(out, "{}  {dim}{} KiB, sha256:{}{dim:#}", path.display(), size.div_ceil(1024), loaded.sha256)?;
    for action in &manifest.actions {
        writeln!(out, "\n{bold}{}/{}{bold:#}  {}", manifest.name, action.name, action.summary)?;
        write_asks(out, action)?;
    }
    Ok(())
}
