//! The `runbook` command.

mod args;
mod asks;
mod catalog;
mod commands;
mod display;
mod elsewhere;
mod error;
mod gate;
mod inputs;
mod launch;
mod locks;
mod prompts;
mod runs_dir;
mod session;
mod standard;
mod world;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

/// Whose warnings a person sees; RUNBOOK_LOG says otherwise.
const LOG: &str = "error,runbook=warn";

fn main() -> ExitCode {
    let args = args::Args::parse();
    let filter = EnvFilter::try_from_env("RUNBOOK_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return error::report(&error::CliError::internal(error)),
    };
    let result = runtime.block_on(commands::run(args));
    // Nothing that still waits for a dead host may keep the terminal.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => error::report(&error),
    }
}
