//! `runbook pack build`.

use std::path::{Path, PathBuf};

use runbook_model::diagnostic::has_errors;
use runbook_model::exit_code;
use runbook_model::parse::{Document, Files};
use runbook_model::plan::Runbook;
use runbook_packs::config::FileKind;
use runbook_packs::layout;
use runbook_packs::pack::Pack;
use runbook_packs::source::{self, BuildError};

use super::show;
use crate::args;
use crate::catalog::Catalog;
use crate::display::{hint, safe};
use crate::error::CliError;
use crate::session;

/// The files of a pack, for the language.
struct Inside<'a>(&'a Pack);

impl Files for Inside<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        let bytes = self.0.file(path).ok_or("it is no file of the pack")?;
        String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
    }
}

/// Makes a pack.
pub(crate) fn run(args: &args::PackBuild) -> Result<u8, CliError> {
    let pack = source::build(&args.folder).map_err(|error| match &error {
        BuildError::Source { .. } | BuildError::Config(_) => CliError::invalid(&error),
        BuildError::Component { .. } | BuildError::Pack(_) => CliError::refused(&error),
        BuildError::Io { path, .. } if path.ends_with(source::SOURCE) => {
            CliError::usage(&error).hint("runbook pack build --help shows a pack.toml")
        }
        BuildError::Io { .. } | BuildError::NotOne { .. } | BuildError::Odd(_) => CliError::usage(&error),
    })?;
    check_runbooks(&pack)?;
    let config = &pack.config;
    let name = format!("{}-{}.pack", config.name.replace('/', "-"), config.version);
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(name));
    let as_folder = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let written =
        if as_folder { layout::write_dir(pack.image(), &path) } else { layout::write_file(pack.image(), &path) };
    written.map_err(|error| CliError::usage(error).hint("-o names another file, or an empty folder"))?;
    let _ = show(&mut anstream::stdout().lock(), &pack);
    hint(&format!("{} is not signed yet: runbook pack sign {0} --key ~/.ssh/id_ed25519", path.display()));
    Ok(exit_code::SUCCESS)
}

/// Each runbook of a pack must be without mistakes, with the plugins of the program and of the pack.
fn check_runbooks(pack: &Pack) -> Result<(), CliError> {
    for file in pack.config.files.iter().filter(|file| file.kind == FileKind::Runbook && is_toml(&file.path)) {
        let inside = Inside(pack);
        let text = inside.read(&file.path).map_err(|error| CliError::invalid(format!("{}: {error}", file.path)))?;
        let document = Document::parse(&file.path, text);
        let catalog = Catalog::of_pack(&document.mentions(&inside), pack)?;
        let (runbook, diagnostics) = document.load(&inside, &catalog);
        session::show(&diagnostics);
        if has_errors(&diagnostics) {
            return Err(CliError::after_diagnostics(&file.path, diagnostics.len()));
        }
        let levels = runbook.iter().flat_map(Runbook::with_includes);
        for (plugin, path) in levels.flat_map(|level| &level.plugins) {
            let (runbook, name, version) = (&file.path, &pack.config.name, &pack.config.version);
            hint(&format!(
                "{runbook} takes `{plugin}` from {}, which nobody else has; a plugin of this pack is named under [packs], as \
                 {plugin} = \"{name}:{version}\"",
                safe(path)
            ));
        }
    }
    Ok(())
}

fn is_toml(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|ending| ending == "toml")
}
