//! What is not a plugin, or not one for this program: said before anything runs.

use std::path::Path;

use runbook_engine::plugin::PluginError;
use runbook_plugins::{Host, LoadError, Options};

use crate::support::{cache, host, limits, probe};

const MANIFEST: &str =
    r#"{"name":"odd","version":"1.0.0","summary":"Odd","action":[{"name":"do","summary":"Does nothing"}]}"#;

fn odd(body: &str) -> Vec<u8> {
    let manifest = MANIFEST.replace('"', "\\22");
    wat::parse_str(format!("(component {body} (@custom \"runbook:manifest\" \"{manifest}\"))")).unwrap()
}

/// A component that exports an instance of the right name with nothing in it.
fn exporting(imports: &str) -> Vec<u8> {
    odd(&format!("{imports} (instance $none) (export \"runbook:plugin/action@0.1.0\" (instance $none))"))
}

fn empty_host() -> Host {
    Host::new(Options { cache_dir: None, limits: limits(), ..Options::default() }).unwrap()
}

fn load_error(bytes: Vec<u8>) -> String {
    empty_host().load("odd", bytes).unwrap_err().to_string()
}

#[test]
fn loading_says_what_a_file_is_instead() {
    assert_eq!(load_error(b"#!/bin/sh".to_vec()), "`odd` is not a plugin: it is not WebAssembly");
    assert!(load_error(wat::parse_str("(module)").unwrap()).contains("it is a core WebAssembly module"));
    assert!(load_error(wat::parse_str("(component)").unwrap()).contains("it has no manifest"));
    let error = empty_host().load("other", probe()).unwrap_err();
    assert!(matches!(error, LoadError::Name { ref itself, .. } if itself == "probe"), "{error}");
}

#[test]
fn loading_compares_names_and_versions() {
    for (imports, part) in [
        (
            "(import \"runbook:net/addresses@0.1.0\" (instance))",
            "it imports `runbook:net/addresses@0.1.0`, which this version of runbook does not offer",
        ),
        (
            "(import \"runbook:ssh/machines@0.2.0\" (instance))",
            "it imports `runbook:ssh/machines@0.2.0`, and this version of runbook offers `runbook:ssh/machines@0.1.0`",
        ),
        ("(import \"wasi:http/outgoing-handler@0.2.0\" (instance))", "of WASI plugins get only cli, clocks"),
        ("(import \"wasi:cli/stdout@0.3.0\" (instance))", "offers WASI 0.2"),
        ("(import \"anything\" (func))", "it imports `anything`"),
    ] {
        let message = load_error(exporting(imports));
        assert!(message.contains(part), "{message}");
    }
    assert!(load_error(odd("")).contains("it does not export `runbook:plugin/action@0.1.0`"));
    let newer = odd("(instance $none) (export \"runbook:plugin/action@0.9.0\" (instance $none))");
    assert!(load_error(newer).contains("it exports `runbook:plugin/action@0.9.0`, and this version of runbook wants"));
}

#[test]
fn loading_twice_is_one_plugin_or_an_error() {
    let host = empty_host();
    let first = host.load("odd", exporting("")).unwrap();
    assert_eq!(host.load("odd", exporting("")).unwrap(), first);
    let other = exporting("(import \"runbook:plugin/run@0.1.0\" (instance))");
    assert!(matches!(host.load("odd", other), Err(LoadError::Twice(_))));
}

#[test]
fn loading_tells_what_a_plugin_can_reach() {
    let loaded = empty_host().load("probe", probe()).unwrap();
    assert_eq!(loaded.manifest.version, "1.0.0");
    for import in ["runbook:ssh/machines@0.1.0", "runbook:files/trees@0.1.0", "runbook:kube/clusters@0.1.0"] {
        assert!(loaded.imports.iter().any(|i| i == import), "{import} is not among {:?}", loaded.imports);
    }
}

async fn unfit(bytes: Vec<u8>) -> String {
    let host = empty_host();
    host.load("odd", bytes).unwrap();
    match host.prepare("odd").await.unwrap_err() {
        PluginError::Unfit { message } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn preparing_compares_types() {
    let message = unfit(exporting("")).await;
    assert!(message.contains("describe"), "{message}");
    let newer = "(import \"runbook:ssh/machines@0.1.0\" (instance (export \"teleport\" (func))))";
    let message = unfit(exporting(newer)).await;
    assert!(message.contains("teleport"), "{message}");
    let newer = "(import \"runbook:ssh/machines@0.1.4\" (instance (export \"targets\" (func))))";
    let message = unfit(exporting(newer)).await;
    assert!(message.contains("targets"), "{message}");
}

#[tokio::test]
async fn preparing_compares_what_a_plugin_says_with_its_manifest() {
    let mut bytes = probe().to_vec();
    let needle = b"\"summary\":\"A probe\"";
    // The section stands behind the data, where `describe` has its copy.
    let at = bytes.windows(needle.len()).rposition(|window| window == needle).unwrap();
    bytes[at + needle.len() - 2] = b'y';
    let host = empty_host();
    host.load("probe", bytes).unwrap();
    let error = host.prepare("probe").await.unwrap_err();
    assert!(error.to_string().contains("(`describe`) is not what its manifest says"), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let host =
            Host::new(Options { cache_dir: Some(dir.path().join("kept")), limits: limits(), ..Options::default() })
                .unwrap();
        host.load("odd", exporting("")).unwrap();
        host.prepare("odd").await.unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path().join("kept")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn preparing_fills_the_cache_and_takes_from_it() {
    host(limits()).prepare("probe").await.unwrap();
    let sha256 = runbook_packs::digest(probe());
    let kept = std::fs::read_dir(cache()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.filter(|name| name.starts_with(&sha256) && name.ends_with(".cwasm")).count(), 1);
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_is_no_obstacle() {
    let host = Host::new(Options {
        cache_dir: Some(Path::new("/proc/nowhere").to_owned()),
        limits: limits(),
        ..Options::default()
    })
    .unwrap();
    host.load("probe", probe()).unwrap();
    host.prepare("probe").await.unwrap();
}
