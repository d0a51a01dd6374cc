//! Plugins that were built against each version of the WIT packages run on the host of today, and those packages are as they were.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use runbook_plugins::{Host, Options};

use crate::road::FakeRoad;
use crate::support::{SOON, cache, call, limits, results};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Names of the folders in a folder; none where it is not there.
fn folders(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).into_iter().flatten().map(Result::unwrap);
    entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().into_string().unwrap()).collect()
}

fn kept() -> BTreeSet<String> {
    let kept = folders(&root().join("tests/kept"));
    assert!(kept.contains("0.1.0"), "{kept:?}");
    kept
}

#[tokio::test]
async fn a_plugin_of_each_version_calls_all_that_there_was() {
    for version in kept() {
        let folder = root().join("tests/kept").join(&version);
        let host = Host::new(Options { cache_dir: Some(cache()), limits: limits(), ..Options::default() }).unwrap();
        host.load("probe", fs::read(folder.join("probe.wasm")).unwrap()).unwrap();
        let road = FakeRoad::new().into_arc();
        let outputs = host.plugins().converge(call("everything", "", road, SOON)).await.unwrap();
        let answers = fs::read_to_string(folder.join("everything.txt")).unwrap();
        assert_eq!(results(&outputs), answers.lines().collect::<Vec<_>>(), "{version}");
    }
}

#[test]
fn packages_of_a_version_are_what_its_plugins_were_built_against() {
    let released = folders(&root().join("wit/released"));
    for version in released.union(&kept()) {
        let hashes = fs::read_to_string(root().join("tests/kept").join(version).join("wit.sha256"))
            .unwrap_or_else(|_| panic!("{version} is released, and no plugin of it is kept: tests/kept/README.md"));
        let is_released = released.contains(version);
        let wit = if is_released { root().join("wit/released").join(version) } else { root().join("wit") };
        let advice = if is_released {
            format!("{version} is released and never changes: what is new gets another version")
        } else {
            format!(
                "{version} is a draft and has changed: say so in wit/CHANGELOG.md, then run tests/kept/make {version}"
            )
        };
        let mut listed = BTreeSet::new();
        for line in hashes.lines() {
            let (hash, path) = line.split_once("  wit/").unwrap();
            let found = fs::read(wit.join(path)).map(|bytes| runbook_packs::digest(&bytes));
            assert_eq!(found.ok().as_deref(), Some(hash), "wit/{path}: {advice}");
            listed.insert(PathBuf::from(path));
        }
        assert_eq!(files(&wit, Path::new("")), listed, "{advice}");
    }
}

/// The packages' files in a folder, but for those of other versions.
fn files(wit: &Path, below: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(wit.join(below)).unwrap().map(Result::unwrap) {
        let path = below.join(entry.file_name());
        if entry.path().is_dir() && path != Path::new("released") {
            found.extend(files(wit, &path));
        } else if path.extension().is_some_and(|extension| extension == "wit") {
            found.insert(path);
        }
    }
    found
}
