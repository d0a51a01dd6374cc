//! One file for each command.

mod again;
mod drill;
mod exec;
mod grant;
mod pack;
mod person;
mod plugin;
mod replay;
mod report;
mod runs;
mod schema;
mod validate;

use crate::args::{Args, Command};
use crate::error::CliError;

/// Runs a command; gives the exit code.
pub(crate) async fn run(args: Args) -> Result<u8, CliError> {
    match args.command {
        Command::Exec(args) => exec::exec(args).await,
        Command::Plan(args) => exec::plan(args).await,
        Command::Resume(args) => again::resume(args).await,
        Command::Undo(args) => again::undo(args).await,
        Command::Next(args) => person::next(&args),
        Command::Done(args) => person::done(args).await,
        Command::Resolve(args) => person::resolve(args).await,
        Command::Validate(args) => validate::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Runs(args) => runs::list(&args),
        Command::Show(args) => runs::show(&args),
        Command::Replay(args) => replay::replay(args).await,
        Command::Report(args) => report::run(&args),
        Command::Plugin(command) => plugin::run(command).await,
        Command::Pack(command) => pack::run(command),
        Command::Grant(args) => grant::run(&args),
    }
}
