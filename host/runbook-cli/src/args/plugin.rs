//! `runbook plugin`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// `runbook plugin`.
#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Show what a plugin can do, its inputs and outputs, and what it asks for and why, without running it
    #[command(after_help = "Examples:
  runbook plugin inspect core
  runbook plugin inspect core/file
  runbook plugin inspect ./mine.wasm")]
    Inspect(Inspect),
    /// Make a project for a plugin: it builds, has tests, and an example that runs on this machine
    #[command(after_help = "Examples:
  runbook plugin new journal                     the folder ./journal, in Rust
  runbook plugin new journal --dir ~/plugins/journal
  runbook plugin new --update --dir journal      only vendor/ anew, for this version of runbook")]
    New(New),
    /// Compile a plugin's project, and check that the component fits this version of runbook
    Build(Project),
    /// Run the tests of a plugin's project: its unit tests, then whether the component can be built and loaded
    Test(Project),
    /// Write the page of a plugin: what it can do, what it asks for, and its examples, which are tried before
    #[command(after_help = "Examples:
  runbook plugin doc                    the project in this folder, its page on stdout
  runbook plugin doc journal -o journal/ACTIONS.md
  runbook plugin doc core               a plugin of the program
  runbook plugin doc ./mine.wasm")]
    Doc(Doc),
}

/// `runbook plugin inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// A plugin of the program, one of its actions, or the path of a component; all plugins of the program where left out
    #[arg(value_name = "PLUGIN")]
    pub(crate) plugin: Option<String>,
    /// Print the manifest on stdout as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Rust, compiled by cargo
    Rust,
}

/// `runbook plugin new`.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The plugin's name, the first half of `uses` in runbooks: lower-case letters, digits and hyphens
    #[arg(value_name = "NAME", required_unless_present = "update")]
    pub(crate) name: Option<String>,
    /// What it is written in
    #[arg(long, value_enum, default_value = "rust")]
    pub(crate) lang: Language,
    /// Where the project goes; ./NAME where left out
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Only write the SDK in vendor/ of a project anew, as it belongs to this version of runbook
    #[arg(long, conflicts_with = "name")]
    pub(crate) update: bool,
}

/// A plugin's project.
#[derive(Debug, clap::Args)]
pub(crate) struct Project {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
}

/// `runbook plugin doc`.
#[derive(Debug, clap::Args)]
pub(crate) struct Doc {
    /// A project's folder, a plugin of the program, or the path of a component
    #[arg(value_name = "PLUGIN", default_value = ".")]
    pub(crate) plugin: String,
    /// Where the page goes; stdout where left out
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}
