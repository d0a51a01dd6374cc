//! `runbook pack`: one file for each verb.

mod build;
mod sign;
mod unpack;
mod verify;

use std::io::{self, Write};
use std::path::Path;

use runbook_model::consent;
use runbook_model::exit_code;
use runbook_packs::image::Image;
use runbook_packs::layout;
use runbook_packs::pack::Pack;

use crate::args;
use crate::display::{Styles, safe};
use crate::elsewhere;
use crate::error::CliError;

/// Makes, signs, checks and keeps packs.
pub(crate) fn run(command: args::Pack) -> Result<u8, CliError> {
    match command {
        args::Pack::Build(args) => build::run(&args),
        args::Pack::Sign(args) => sign::run(&args),
        args::Pack::Verify(args) => verify::run(&args),
        args::Pack::List => list(),
        args::Pack::Unpack(args) => unpack::run(&args),
    }
}

/// The image at a path.
fn read(path: &Path) -> Result<Image, CliError> {
    layout::read(path).map_err(|error| {
        let refused = CliError::refused(format!("{}: {}", path.display(), safe(&error.to_string())));
        if path.exists() { refused.hint("it is no pack, or was damaged or altered") } else { refused }
    })
}

/// Writes an image to where it was read from.
fn write(image: &Image, path: &Path) -> Result<(), CliError> {
    let written = if path.is_dir() { layout::write_dir(image, path) } else { layout::write_file(image, path) };
    written.map_err(|error| CliError::internal(format!("{}: {error}", path.display())))
}

fn list() -> Result<u8, CliError> {
    let kept = elsewhere::store()?.list().map_err(CliError::internal)?;
    let mut out = anstream::stdout().lock();
    for pack in &kept {
        let (bold, dim) = (Styles::BOLD, Styles::DIM);
        let _ = writeln!(out, "{bold}{} {}{bold:#}  {dim}{}{dim:#}", pack.name, pack.version, pack.digest);
    }
    if kept.is_empty() {
        let _ =
            writeln!(anstream::stderr(), "no packs are kept on this machine: runbook pack pull, or pack verify --keep");
    }
    Ok(exit_code::SUCCESS)
}

/// What a pack is and brings.
fn show(out: &mut impl Write, pack: &Pack) -> io::Result<()> {
    let (bold, dim) = (Styles::BOLD, Styles::DIM);
    let config = &pack.config;
    writeln!(out, "{bold}{} {}{bold:#}  {}", config.name, config.version, safe(&config.summary))?;
    writeln!(out, "{dim}{}{dim:#}", pack.digest)?;
    for plugin in &config.plugins {
        writeln!(out, "plugin {bold}{}{bold:#} {}", plugin.name, plugin.version)?;
        for action in &plugin.actions {
            writeln!(out, "  {}/{}", plugin.name, action.name)?;
            for ask in &action.asks {
                let words = safe(&consent::words(ask.call, &ask.on, ask.privileged));
                writeln!(out, "    asks {words}  {dim}{}{dim:#}", safe(&ask.reason))?;
            }
        }
    }
    for file in &config.files {
        writeln!(out, "{} {}", format!("{:?}", file.kind).to_lowercase(), file.path)?;
    }
    Ok(())
}
