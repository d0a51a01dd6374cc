//! Where runs are kept on the controller: one folder each, for the user alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
use jiff::tz::TimeZone;
use runbook_model::event::Record;
use runbook_model::history::History;
use runbook_model::journal;
use runbook_model::plan::Runbook;
use serde::{Deserialize, Serialize};

use crate::error::CliError;

fn project() -> Result<ProjectDirs, CliError> {
    ProjectDirs::from("", "", "runbook")
        .ok_or_else(|| CliError::internal("there is no home directory").hint("set HOME"))
}

/// The folder of all that is kept.
pub(crate) fn state() -> Result<PathBuf, CliError> {
    let project = project()?;
    Ok(project.state_dir().unwrap_or_else(|| project.data_dir()).to_owned())
}

/// The folder of what the user settles.
pub(crate) fn config() -> Result<PathBuf, CliError> {
    Ok(project()?.config_dir().to_owned())
}

/// The folder of what was fetched and is kept.
pub(crate) fn data() -> Result<PathBuf, CliError> {
    Ok(project()?.data_dir().to_owned())
}

/// The folder of all runs.
pub(crate) fn root() -> Result<PathBuf, CliError> {
    Ok(state()?.join("runs"))
}

/// The key under which previous contents are sealed.
pub(crate) fn key() -> Result<PathBuf, CliError> {
    Ok(state()?.join("key"))
}

/// The journal, or what belongs to it, cannot be kept.
pub(crate) fn cannot_keep(path: &Path, error: &std::io::Error) -> CliError {
    CliError::internal(format!("the journal cannot be kept: {}: {error}", path.display()))
        .hint("without a journal nothing is carried out; XDG_STATE_HOME says where it lies")
}

/// Makes a folder for the user alone, where it is not there.
pub(crate) fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A run as it was begun: what a later session needs that is not in the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Begun {
    /// The runbook, checked.
    pub(crate) runbook: Runbook,
    /// Its file, as an absolute path.
    pub(crate) path: PathBuf,
    /// Absolute path of its folder.
    pub(crate) folder: String,
    /// The user's home.
    pub(crate) home: String,
    /// The steps that were selected; empty: all.
    pub(crate) only: BTreeSet<String>,
    /// Not before this step.
    pub(crate) from: Option<String>,
    /// Every question was answered with yes beforehand.
    pub(crate) yes: bool,
    /// Those of these steps were.
    pub(crate) approve: Vec<String>,
}

/// Name of the file beside the journal that holds it.
const BEGUN: &str = "runbook.json";

impl Begun {
    /// Keeps it in the folder of a run.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), CliError> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let (path, beside) = (folder.join(BEGUN), folder.join(".runbook.json"));
        let text = serde_json::to_vec(self).map_err(CliError::internal)?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options
            .open(&beside)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_data()))
            .and_then(|()| std::fs::rename(&beside, &path));
        written.map_err(|error| cannot_keep(&path, &error))
    }

    /// Reads it again.
    pub(crate) fn load(run: &str) -> Result<Self, CliError> {
        let path = root()?.join(run).join(BEGUN);
        let text = std::fs::read(&path).map_err(|error| {
            CliError::invalid(format!("{}: {error}", path.display()))
                .hint("runs of versions before this one cannot be gone on with: run the runbook again")
        })?;
        serde_json::from_slice(&text).map_err(|error| CliError::invalid(format!("{}: {error}", path.display())))
    }
}

/// What a run did, as its journal tells.
pub(crate) fn history(run: &str) -> Result<History, CliError> {
    History::of(read(run)?).map_err(|error| CliError::invalid(format!("{run}: {error}")))
}

/// The run that is meant: the one whose name begins so; the newest that did not come to its end, or the newest of all, where nothing is
/// said.
pub(crate) fn find_open(beginning: Option<&str>) -> Result<String, CliError> {
    if beginning.is_some() {
        return find(beginning);
    }
    let names = names()?;
    let open = names.iter().find(|name| history(name).is_ok_and(|history| history.state.holds_targets()));
    match open {
        Some(name) => Ok(name.clone()),
        None => find(None),
    }
}

/// The folder of compiled plugins.
pub(crate) fn cache() -> Result<PathBuf, CliError> {
    Ok(project()?.cache_dir().join("components"))
}

/// A name for a new run, which sorts by time, to the millisecond: `20261121-014502123-homelab-dr-3fa9`.
pub(crate) fn new_name(runbook: &str) -> String {
    let time = jiff::Timestamp::now().to_zoned(local_time()).strftime("%Y%m%d-%H%M%S%3f").to_string();
    let slug: String = runbook
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(32)
        .collect();
    let tail = rand::random::<u32>() & 0xffff;
    format!("{time}-{}-{tail:04x}", slug.trim_matches('-'))
}

/// The time zone of this machine. Where TZ says nothing, it is read from where the C library reads it: to look up its name,
/// the whole database would be listed, which takes milliseconds.
pub(crate) fn local_time() -> TimeZone {
    let unsaid = std::env::var_os("TZ").is_none();
    let rules = if unsaid { std::fs::read("/etc/localtime").ok() } else { None };
    rules.and_then(|rules| TimeZone::tzif("Local", &rules).ok()).unwrap_or_else(TimeZone::system)
}

/// Names of all runs, the newest first.
pub(crate) fn names() -> Result<Vec<String>, CliError> {
    let root = root()?;
    let entries = match std::fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CliError::internal(format!("{}: {error}", root.display()))),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join(journal::FILE).is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// The run whose name begins so; the newest where nothing is said.
pub(crate) fn find(beginning: Option<&str>) -> Result<String, CliError> {
    let names = names()?;
    let Some(beginning) = beginning else {
        return names.into_iter().next().ok_or_else(|| {
            CliError::usage("nothing was run from this machine yet").hint("runbook exec FILE makes a first run")
        });
    };
    let mut found = names.iter().filter(|name| name.starts_with(beginning));
    match (found.next(), found.next()) {
        (Some(name), None) => Ok(name.clone()),
        (Some(_), Some(_)) if names.iter().any(|name| name == beginning) => Ok(beginning.to_owned()),
        (Some(a), Some(b)) => Err(CliError::usage(format!("several runs begin with {beginning:?}: {a}, {b}, ..."))),
        (None, _) => Err(CliError::usage(format!("no run begins with {beginning:?}")).hint("runbook runs lists them")),
    }
}

/// The records of a run.
pub(crate) fn read(name: &str) -> Result<Vec<Record>, CliError> {
    let path = root()?.join(name).join(journal::FILE);
    let text = read_text(&path)?;
    journal::decode(&text).map_err(|error| CliError::invalid(format!("{}: {error}", path.display())))
}

fn read_text(path: &Path) -> Result<String, CliError> {
    // A torn tail may end in the middle of a character.
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(CliError::invalid(format!("{}: {error}", path.display()))),
    }
}
