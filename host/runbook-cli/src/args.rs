//! The command line.

mod pack;
mod plugin;
mod registry;

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

pub(crate) use pack::*;
pub(crate) use plugin::*;
pub(crate) use registry::*;

/// Executes disaster-recovery runbooks: TOML files whose steps bring hosts and clusters to a wanted state.
#[derive(Debug, Parser)]
#[command(
    name = "runbook",
    version,
    max_term_width = 100,
    after_help = "A first evening with it:
  runbook validate dr.toml      every mistake in the file, before anything is touched
  runbook plan dr.toml          what it would change, without changing anything
  runbook exec dr.toml          do it; a second time it finds nothing to do
  runbook show                  what the last run did
  runbook report                the same for others to read, as Markdown or as a page

When it broke off:
  runbook next                  what is still open, and which command goes on
  runbook resume                go on where it was
  runbook undo                  take back what it did

Exit codes:
  0 success                          5 stuck: a person is needed
  1 a step failed                    6 cancelled
  2 usage                            7 internal error
  3 runbook or input invalid        10 differences (plan --detailed-exitcode, replay)
  4 plugin or grant refused before anything ran"
)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Carry a runbook out
    ///
    /// Each step looks at its targets and changes only what differs; afterwards a second look checks that nothing is left to do.
    /// What was done is kept in a journal (`runbook runs`, `runbook show`).
    #[command(after_help = "Examples:
  runbook exec dr.toml
  runbook exec dr.toml --var primary_ip=192.168.1.12 --only registry,home_apps
  runbook exec dr.toml --from storage --approve storage
  runbook exec dr.toml --yes --json | jq .event.kind")]
    Exec(Exec),
    /// Show what a run would change, without changing anything
    ///
    /// The steps look at the real targets. What a step would see only after an earlier one has run is shown as
    /// \"may change: cannot be looked at before ...\".
    #[command(after_help = "Examples:
  runbook plan dr.toml
  runbook plan dr.toml --only registry --detailed-exitcode")]
    Plan(Plan),
    /// Go on with a run that did not come to its end
    ///
    /// What is done stays done; a step that was cut off goes on where it was; what left this machine and was not answered is found out
    /// at its target, never assumed. The runbook may have been corrected meanwhile: the difference is shown first.
    #[command(after_help = "Examples:
  runbook resume             the newest run that did not come to its end
  runbook resume 20261121    the run whose name begins so")]
    Resume(Resume),
    /// Take back what a run did, the last change first
    ///
    /// Each change is taken back only where the world still looks as the run left it; a conflict is shown and nothing is overwritten.
    #[command(after_help = "Examples:
  runbook undo                     what the last run did
  runbook undo --step registry     what one step did
  runbook undo --redo              what the last undo did")]
    Undo(Undo),
    /// Where am I, what is still open, and which command goes on
    Next(Next),
    /// Say that a step was done by hand; the step itself decides whether it is so
    Done(Done),
    /// Say what became of a change that nobody can tell but you
    #[command(after_help = "Examples:
  runbook resolve 20261121 pool --done --because \"zpool status shows it\"
  runbook resolve 20261121 pool --not-done --because \"the disk is empty\"
  runbook resolve 20261121 maintenance --release    carry out what a held block deferred")]
    Resolve(Resolve),
    /// Report every mistake in a runbook, and which of its plugins are not granted yet, without touching anything
    #[command(after_help = "Examples:
  runbook validate dr.toml
  runbook validate --json dr.toml | jq -r .message")]
    Validate(Validate),
    /// Print the JSON Schema of the language, the plugins' inputs included, for editors
    #[command(after_help = "Example, for an editor that reads `#:schema` comments in TOML:
  runbook schema > ~/.config/runbook.schema.json
  and as the first line of a runbook:  #:schema ~/.config/runbook.schema.json")]
    Schema(Schema),
    /// List the runs that were made from this machine
    Runs(Runs),
    /// Show what a run did: steps, changes with their differences, and why it ended
    #[command(after_help = "Examples:
  runbook show            the last run
  runbook show 20261121   the last run whose name begins so")]
    Show(Show),
    /// Execute the plugins of a run once more against the answers that it recorded, without any network
    ///
    /// Shows where a plugin that was changed since would have acted differently; then the exit code is 10.
    #[command(after_help = "Examples:
  runbook replay                            the last run
  runbook replay 20261121 --step registry   one step of a run
  runbook replay --trace                    with every call, the grant that let it pass, and how long it took")]
    Replay(Replay),
    /// Write down what a run came to, for others to read: as Markdown, or as one HTML page
    ///
    /// When who was at work, what was changed with its differences, what was taken back, and the recovery time held against the target
    /// that the runbook states (`targets = { rto = \"30m\" }`). The page is one file that needs nothing else: no script, no network.
    #[command(after_help = "Examples:
  runbook report                               the last run, as Markdown
  runbook report 20261121 > dr-drill.md        the last run whose name begins so
  runbook report --html dr-drill.html          the last run, as a page")]
    Report(Report),
    /// Look into plugins, and write one
    #[command(subcommand)]
    Plugin(Plugin),
    /// Share plugins and runbooks: make, sign, check and keep packs
    #[command(subcommand)]
    Pack(Pack),
    /// Grant plugins from elsewhere what they ask for, after it was shown
    ///
    /// Writes runbook.lock beside the runbook: which packs and plugins it uses, by digest, and what they may do. Without it nothing of
    /// them is run.
    #[command(after_help = "Examples:
  runbook grant dr.toml
  runbook grant dr.toml --yes              for scripts
  runbook grant --unused 20261121          what was granted and not used in a run")]
    Grant(Grant),
}

/// What a runbook needs to be told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Inputs {
    /// The runbook
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Give an input its value
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) vars: Vec<(String, String)>,
    /// Only these steps
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Not before this step
    #[arg(long, value_name = "STEP")]
    pub(crate) from: Option<String>,
    /// Print the event stream on stdout as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// `runbook exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// Say yes to every question
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Say yes to the questions of this step; with VALUE, what it wants to be typed
    #[arg(long, value_name = "STEP[=VALUE]", action = ArgAction::Append)]
    pub(crate) approve: Vec<String>,
    /// Leave an unfinished run that has the same targets as it is, for good
    #[arg(long)]
    pub(crate) abandon: bool,
    #[command(flatten)]
    pub(crate) drill: Drill,
}

/// Faults on purpose.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Drill: faults on purpose, to practise with")]
pub(crate) struct Drill {
    /// The first change of the step fails, or the one with this number (`show --json` has the numbers)
    #[arg(long = "drill-fail", value_name = "STEP[:CALL]")]
    pub(crate) fail: Vec<String>,
    /// Whatever takes a change back fails
    #[arg(long = "drill-undo-fail")]
    pub(crate) undo_fail: bool,
    /// The host, or cluster, does not answer
    #[arg(long = "drill-unreachable", value_name = "HOST")]
    pub(crate) unreachable: Vec<String>,
    /// This process is killed before that change leaves, after it came back (STEP:CALL:after), or after a record (@RECORD, @last)
    #[arg(long = "drill-kill", value_name = "STEP[:CALL[:after]]|@RECORD|@last")]
    pub(crate) kill: Vec<String>,
}

/// `runbook resume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Resume {
    /// The run, or the beginning of its name; the newest that did not come to its end where left out
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Give an input another value
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) vars: Vec<(String, String)>,
    /// Say yes to every question
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Say yes to the questions of this step; with VALUE, what it wants to be typed
    #[arg(long, value_name = "STEP[=VALUE]", action = ArgAction::Append)]
    pub(crate) approve: Vec<String>,
    /// Print the event stream on stdout as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) drill: Drill,
}

/// `runbook undo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Undo {
    /// The run, or the beginning of its name; the newest where left out
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// This step or block alone
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Also where the world does not look as the run left it: what is there now is lost
    #[arg(long)]
    pub(crate) force: bool,
    /// Take the last undo of the run back
    #[arg(long)]
    pub(crate) redo: bool,
    /// Print the event stream on stdout as JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) drill: Drill,
}

/// `runbook next`.
#[derive(Debug, clap::Args)]
pub(crate) struct Next {
    /// The run, or the beginning of its name; the newest that did not come to its end where left out
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
}

/// `runbook done`.
#[derive(Debug, clap::Args)]
pub(crate) struct Done {
    /// The step
    #[arg(value_name = "STEP")]
    pub(crate) step: String,
    /// What you did
    #[arg(long, value_name = "TEXT")]
    pub(crate) because: String,
    /// The run, or the beginning of its name; the newest that did not come to its end where left out
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
}

/// `runbook resolve`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("verdict").required(true))]
pub(crate) struct Resolve {
    /// The run, or the beginning of its name
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// The step, as `runbook next` shows it, or a block that is held
    #[arg(value_name = "STEP")]
    pub(crate) step: String,
    /// The host, where the step runs on several
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// It is done (or, of an undo: it is taken back)
    #[arg(long, group = "verdict")]
    pub(crate) done: bool,
    /// It is not done: it may be tried again
    #[arg(long, group = "verdict")]
    pub(crate) not_done: bool,
    /// Carry out what the held block deferred to its end
    #[arg(long, group = "verdict")]
    pub(crate) release: bool,
    /// How you know
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) because: String,
}

/// `runbook plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// Exit with 10 when there are changes
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
}

/// `runbook validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// The runbooks
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Print each mistake and note on stdout as a JSON line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `runbook schema`.
#[derive(Debug, clap::Args)]
pub(crate) struct Schema {
    /// With the plugins that this runbook brings
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// `runbook runs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Runs {
    /// Print each run on stdout as a JSON line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `runbook show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The run, or the beginning of its name; the last one where left out
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Print the journal's records on stdout as JSON lines
    #[arg(long, conflicts_with = "kept")]
    pub(crate) json: bool,
    /// Print on stdout what was there before the change that has this record in the journal
    #[arg(long, value_name = "RECORD")]
    pub(crate) kept: Option<u64>,
}

/// `runbook replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The run, or the beginning of its name; the last one where left out
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Only this step
    #[arg(long, value_name = "ID")]
    pub(crate) step: Option<String>,
    /// Print every recorded call, with the grant that let it pass and how long it took
    #[arg(long)]
    pub(crate) trace: bool,
}

/// `runbook report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// The run, or the beginning of its name; the last one where left out
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// What to write
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Md)]
    pub(crate) format: Format,
    /// Where to write it; stdout where left out
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The same as --format html --output FILE
    #[arg(long, value_name = "FILE", conflicts_with_all = ["format", "output"])]
    pub(crate) html: Option<PathBuf>,
}

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Markdown
    Md,
    /// One HTML page
    Html,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must look like NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
