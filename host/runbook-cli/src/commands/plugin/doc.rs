//! `runbook plugin doc`: what a page is made from. How it looks is `page.rs`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use runbook_model::diagnostic::has_errors;
use runbook_model::exit_code;
use runbook_model::plan::{Runbook, Transport};
use runbook_plugins::Loaded;

use super::page::{self, Example};
use super::project::Project;
use crate::args;
use crate::catalog::Catalog;
use crate::error::CliError;
use crate::session;

/// Bytes of an example: a page is for people.
const MAX_EXAMPLE: u64 = 64 << 10;

/// Writes the page of a plugin.
pub(crate) async fn run(args: &args::Doc) -> Result<u8, CliError> {
    let (loaded, own_examples) = subject(&args.plugin).await?;
    let mut examples = Vec::new();
    for file in runbooks(args.examples.as_deref().or(own_examples.as_deref()))? {
        super::say(&format!("trying {}", file.display()));
        examples.push(try_out(&file)?);
    }
    let page = page::page(&loaded, &examples);
    match &args.output {
        None => {
            let _ = std::io::stdout().lock().write_all(page.as_bytes());
        }
        Some(file) => {
            fs::write(file, page).map_err(|error| CliError::usage(format!("{}: {error}", file.display())))?;
        }
    }
    Ok(exit_code::SUCCESS)
}

/// The plugin, and where its project has its examples. A project is built, so that the page is about what stands in it.
async fn subject(asked: &str) -> Result<(Loaded, Option<PathBuf>), CliError> {
    let path = Path::new(asked);
    if path.is_dir() {
        let project = Project::open(path)?;
        let component = project.build()?;
        let bytes = fs::read(&component).map_err(|e| CliError::refused(format!("{}: {e}", component.display())))?;
        let loaded = super::load(&project.name, bytes).await?;
        let examples = Some(project.dir.join("examples")).filter(|folder| folder.is_dir());
        return Ok(((*loaded).clone(), examples));
    }
    if path.is_file() {
        return Ok((super::inspect::read(path)?, None));
    }
    let catalog = Catalog::standard()?;
    let Some(loaded) = catalog.loaded(asked) else {
        let known = catalog.names().collect::<Vec<_>>().join(", ");
        return Err(CliError::usage(format!("there is no plugin `{}`", asked.escape_debug()))
            .hint(format!("give a project's folder, the path of a component, or one of {known}")));
    };
    Ok((loaded.clone(), None))
}

/// The runbooks in a folder, by name.
fn runbooks(folder: Option<&Path>) -> Result<Vec<PathBuf>, CliError> {
    let Some(folder) = folder else { return Ok(Vec::new()) };
    let wrong = |error: std::io::Error| CliError::usage(format!("{}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Validates an example, and plans it where all that it names is this machine.
fn try_out(file: &Path) -> Result<Example, CliError> {
    let wrong = |error: std::io::Error| CliError::usage(format!("{}: {error}", file.display()));
    if fs::metadata(file).map_err(wrong)?.len() > MAX_EXAMPLE {
        return Err(CliError::invalid(format!("{} is too large for an example", file.display())));
    }
    let text = fs::read_to_string(file).map_err(wrong)?;
    let (loaded, diagnostics) = session::check(file)?;
    session::show(&diagnostics);
    let Some(loaded) = loaded.filter(|_| !has_errors(&diagnostics)) else {
        return Err(CliError::after_diagnostics(&file.display().to_string(), diagnostics.len()));
    };
    let planned = if is_here_alone(&loaded.runbook) { Some(plan(file)?) } else { None };
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Example { name, description: loaded.runbook.description.unwrap_or_default(), text, planned })
}

/// Whether it can be planned without any other machine, and without asking anybody.
fn is_here_alone(runbook: &Runbook) -> bool {
    runbook.clusters.is_empty()
        && runbook.hosts.iter().all(|host| host.transport == Transport::Local)
        && runbook.inputs.iter().all(|input| input.default.is_some())
}

/// What `runbook plan` says of it: of this very program, whose stdout a page is not to be mixed with.
fn plan(file: &Path) -> Result<String, CliError> {
    let program = env::current_exe().map_err(CliError::internal)?;
    let mut command = Command::new(program);
    let output = command.arg("plan").arg(file).env("NO_COLOR", "1").stdin(Stdio::null()).output();
    let output = output.map_err(CliError::internal)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("error: ");
    let error = CliError::invalid(format!("{} cannot be planned: {said}", file.display()));
    // The usual reason: the component is a new one, and a plan runs it.
    let refused = output.status.code() == Some(i32::from(exit_code::REFUSED));
    Err(if refused { CliError { code: exit_code::REFUSED, ..error } } else { error })
}
