//! `runbook plugin`: one file for each verb.

mod build;
mod cassettes;
mod doc;
mod inspect;
mod new;
mod page;
mod project;
mod record;
mod test;
mod verify;

use std::io::Write as _;
use std::sync::Arc;

use runbook_plugins::{Host, Loaded, Options};

use crate::args;
use crate::error::CliError;
use crate::runs_dir;

/// Looks into plugins, and makes them.
pub(crate) async fn run(command: args::Plugin) -> Result<u8, CliError> {
    match command {
        args::Plugin::Inspect(args) => inspect::run(&args),
        args::Plugin::New(args) => new::run(&args),
        args::Plugin::Build(args) => build::run(&args).await,
        args::Plugin::Test(args) => test::run(&args).await,
        args::Plugin::Doc(args) => doc::run(&args).await,
        args::Plugin::Record(args) => record::run(&args),
        args::Plugin::Verify(args) => verify::run(&args).await,
    }
}

/// Takes a component as this program would before a run: read, compared with what is offered, compiled, and asked what it says of
/// itself.
///
/// # Errors
///
/// What does not fit.
async fn load(name: &str, bytes: Vec<u8>) -> Result<Arc<Loaded>, CliError> {
    let host = Host::new(Options { cache_dir: runs_dir::cache().ok(), ..Options::default() });
    let host = host.map_err(CliError::internal)?;
    let loaded = host.load(name, bytes).map_err(CliError::refused)?;
    host.prepare(name).await.map_err(|error| CliError::refused(format!("plugin `{name}`: {error}")))?;
    Ok(loaded)
}

/// Says on stderr what was done.
fn say(what: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{what}");
}
