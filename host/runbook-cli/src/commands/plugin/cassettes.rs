//! The cassettes of a plugin's project, replayed without hosts and clusters.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook_engine::compare::{self, Use};
use runbook_engine::run::Actions;
use runbook_engine::vault::Vault;
use runbook_model::cassette::{Cassette, LARGEST, manifest_digest};
use runbook_model::exit_code;
use runbook_model::parse::{Component, Mentions};

use crate::catalog::Catalog;
use crate::commands::replay;
use crate::display::{print, safe};
use crate::error::CliError;
use crate::standard;

/// Replays all cassettes in a folder, if it is there. Gives how many there are.
///
/// # Errors
///
/// The plugin acts differently now, or a file is no cassette.
pub(super) async fn replay(name: &str, component: &Path, folder: &Path) -> Result<usize, CliError> {
    let files = files(folder);
    if files.is_empty() {
        return Ok(0);
    }
    let path = component.to_string_lossy().into_owned();
    let mut mentions = Mentions::default();
    match standard::find(name) {
        Some(_) => drop(mentions.plugins.insert(name.to_owned())),
        None => drop(mentions.components.insert(Component { name: name.to_owned(), path })),
    }
    let mut catalog = Catalog::of(&mentions, component)?;
    // Whose plugin it is tries it; there is nothing that it could reach.
    catalog.consent();
    catalog.host().prepare(name).await.map_err(CliError::refused)?;
    let mut different = 0;
    for file in &files {
        different += usize::from(!is_same(&catalog, name, file).await?);
    }
    match different {
        0 => Ok(files.len()),
        different => Err(CliError {
            code: exit_code::STEP_FAILED,
            ..CliError::usage(format!("{different} of {} cassettes: the plugin acts differently now", files.len()))
        }
        .hint("where that is meant, record them anew with `runbook plugin record`")),
    }
}

/// Replays one cassette; says where the plugin acts differently.
async fn is_same(catalog: &Catalog, name: &str, file: &Path) -> Result<bool, CliError> {
    let shown = file.display();
    let wrong = |error: String| CliError::invalid(format!("{shown}: {error}"));
    let size = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if size > LARGEST as u64 {
        return Err(wrong(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let cassette = Cassette::read(&text).map_err(|error| wrong(error.to_string()))?;
    if cassette.plugin.name != name {
        return Err(wrong(format!("it is one of the plugin `{}`", cassette.plugin.name)));
    }
    let (attempts, history) = cassette.attempts().map_err(|error| wrong(error.to_string()))?;
    let vault = Vault::fleeting().map_err(CliError::internal)?;
    let shared = Arc::new(replay::nowhere("cassette", history, vault, PathBuf::from("/artifacts")));
    let plugins = catalog.host().plugins();
    let used =
        Use { plugin: name, action: &cassette.action, cluster: cassette.cluster.as_deref(), allow: &cassette.allow };
    let (mut same, mut calls) = (true, 0);
    for attempt in &attempts {
        let compared = compare::compare_use(&shared, &plugins, catalog as &dyn Actions, used, attempt).await;
        calls += compared.same;
        if let Some(difference) = &compared.difference {
            same = false;
            print(&format!(
                "{shown}: {}: differs after {} calls: {}",
                attempt.instance,
                compared.same,
                safe(difference)
            ));
        }
    }
    if same {
        super::say(&format!("{shown}: the same, {calls} calls"));
    } else if catalog.loaded(name).is_some_and(|now| manifest_digest(&now.manifest) != cassette.manifest_sha256) {
        super::say(&format!("{shown}: it was recorded with another manifest (version {})", cassette.plugin.version));
    }
    Ok(same)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "json")).collect();
    files.sort();
    files
}
