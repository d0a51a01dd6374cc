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
  runbook plugin new journal --lang python
  runbook plugin new journal --dir ~/plugins/journal
  runbook plugin new --update --dir journal      only vendor/ anew, for this version of runbook")]
    New(New),
    /// Compile a plugin's project, and check that the component fits this version of runbook
    Build(Project),
    /// Run the tests of a plugin's project: its unit tests, whether the component can be built and loaded, its cassettes, its cases
    Test(Project),
    /// Write the page of a plugin: what it can do, what it asks for, and its examples, which are tried before
    #[command(after_help = "Examples:
  runbook plugin doc                    the project in this folder, its page on stdout
  runbook plugin doc journal -o journal/ACTIONS.md
  runbook plugin doc core               a plugin of the program
  runbook plugin doc core --examples ./examples
  runbook plugin doc ./mine.wasm")]
    Doc(Doc),
    /// Write a cassette: what a step of a run asked and was answered, for `runbook plugin test` to replay without any host
    ///
    /// It is one JSON file with what the journal shows of the step, secrets by their names. Sealed contents are no part of it; addresses and
    /// texts that the plugin was answered are. Put it into cassettes/ of the plugin's project.
    #[command(after_help = "Examples:
  runbook plugin record --step registry -o cassettes/registry.json   of the last run
  runbook plugin record 20261121 --step registry")]
    Record(Record),
    /// Try the laws of plugins: plans change nothing and tell the truth, runs can be cut off and taken back, hosts may lie
    ///
    /// Each case is a runbook, cases/NAME.toml, and the world that it runs in, cases/NAME.world.toml: machines and clusters in memory. A law
    /// that is broken is shown with the command that repeats it; one that could not be judged is no pass.
    #[command(after_help = "The laws:
  1 a plan changes nothing               5 an undo puts back what was there before
  2 a plan predicts what apply does      6 sabotage is noticed
  3 the second apply finds nothing       7 it stays within its grants and limits,
  4 cut off anywhere, it ends the same     whatever hosts do, and tells no secret

Examples:
  runbook plugin verify .                             the project in this folder, with its cases/
  runbook plugin verify ./mine.wasm --cases tests
  runbook plugin verify core --cases plugins/core/cases --case files --law 4")]
    Verify(Laws),
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
    /// Python 3.11 or later, made a component by componentize-py
    Python,
    /// JavaScript, made a component by componentize-qjs; needs Node.js 20 or later
    Js,
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
    /// Runbooks that show how it is used; for a project its examples/ where left out
    #[arg(long, value_name = "DIR")]
    pub(crate) examples: Option<PathBuf>,
    /// Where the page goes; stdout where left out
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `runbook plugin verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Laws {
    /// A project's folder, a plugin of the program, or the path of a component
    #[arg(value_name = "PLUGIN", default_value = ".")]
    pub(crate) plugin: String,
    /// Where the cases lie; cases/ of the project, or beside the component, where left out
    #[arg(long, value_name = "DIR")]
    pub(crate) cases: Option<PathBuf>,
    /// Only this case
    #[arg(long, value_name = "NAME")]
    pub(crate) case: Option<String>,
    /// Only these laws
    #[arg(long = "law", value_name = "NUMBER", value_delimiter = ',')]
    pub(crate) laws: Vec<usize>,
    /// Only this trial of a law, as a breach names it
    #[arg(long, value_name = "TRIAL")]
    pub(crate) at: Option<String>,
}

/// `runbook plugin record`.
#[derive(Debug, clap::Args)]
pub(crate) struct Record {
    /// The run, by the beginning of its name; the last one where left out
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// The step, as `runbook show` names it; the only one where left out
    #[arg(long, value_name = "ID")]
    pub(crate) step: Option<String>,
    /// Where it goes; ./STEP.json where left out
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

impl Laws {
    /// All laws in all cases of a project.
    pub(crate) fn of_project(dir: &std::path::Path) -> Self {
        Self { plugin: dir.display().to_string(), cases: None, case: None, laws: Vec::new(), at: None }
    }
}
