//! Reading components: what is found in them, and what hostile ones lead to.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use runbook_packs::{MAX_MANIFEST, ReadError, read};
use serde_json::{Value, json};

fn manifest() -> Value {
    json!({
        "name": "demo",
        "version": "1.2.3",
        "summary": "Shows things",
        "action": [{
            "name": "show-all",
            "summary": "Shows one thing",
            "role": [{ "name": "on" }],
            "inputs": { "type": "object", "properties": { "path": { "type": "string" }, "args": { "type": "array" }, "env": { "type": "object" } } },
            "outputs": { "type": "object" },
            "ask": [
                { "call": "ssh.observe", "on": { "argv": ["cat", "--", "${input.path}"] }, "reason": "to look" },
                { "call": "ssh.change", "on": { "argv": ["tool", "${input.args...}", "--x=*", "**"], "env": ["${input.env...}", "LC_*"] }, "privileged": true, "reason": "to do" },
                { "call": "files.write", "on": { "path": "${input.path}/**" }, "reason": "to write" },
                { "call": "kube.delete", "on": { "kind": "Pod", "namespace": "", "name": "demo-*" }, "irreversible": "it is gone", "reason": "to delete" },
            ],
        }],
    })
}

/// Text as WAT takes it.
fn quoted(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("\\{b:02x}")).collect()
}

fn outside(manifest: &[u8]) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "runbook:ssh/machines@0.1.0" (instance))
            (import "runbook:base/types@0.1.0" (instance))
            (import "wasi:cli/stdout@0.2.6" (instance))
            (core module (func))
            (component $inner (import "runbook:kube/clusters@0.1.0" (instance)))
            (instance $empty)
            (export "runbook:plugin/action@0.1.0" (instance $empty))
            (@custom "runbook:manifest" "{}"))"#,
        quoted(manifest)
    );
    wat::parse_str(text).unwrap()
}

fn inside(manifest: &[u8]) -> Vec<u8> {
    let manifest = quoted(manifest);
    wat::parse_str(format!(r#"(component (component (core module (@custom "runbook:manifest" "{manifest}"))))"#))
        .unwrap()
}

fn wrong(change: impl FnOnce(&mut Value)) -> String {
    let mut manifest = manifest();
    change(&mut manifest);
    read(&outside(manifest.to_string().as_bytes())).unwrap_err().to_string()
}

#[test]
fn finds_manifest_imports_and_exports() {
    let text = manifest().to_string();
    let bytes = outside(text.as_bytes());
    let component = read(&bytes).unwrap();
    assert_eq!(component.manifest.name, "demo");
    assert_eq!(component.manifest_json, text);
    assert_eq!(component.imports, ["runbook:ssh/machines@0.1.0", "runbook:base/types@0.1.0", "wasi:cli/stdout@0.2.6"]);
    assert_eq!(component.capabilities().collect::<Vec<_>>(), ["runbook:ssh/machines@0.1.0"]);
    assert_eq!(component.exports, ["runbook:plugin/action@0.1.0"]);
    assert_eq!(component.sha256, runbook_packs::digest(&bytes));
    assert_eq!(component.sha256.len(), 64);
}

#[test]
fn finds_the_manifest_of_a_nested_module() {
    let text = manifest().to_string();
    assert_eq!(read(&inside(text.as_bytes())).unwrap().manifest.version, "1.2.3");
}

#[test]
fn says_what_a_file_is_instead() {
    assert_eq!(read(b"").unwrap_err(), ReadError::NotWasm);
    assert_eq!(read(b"#!/bin/sh\n").unwrap_err(), ReadError::NotWasm);
    assert_eq!(read(&wat::parse_str("(module)").unwrap()).unwrap_err(), ReadError::CoreModule);
    assert_eq!(read(&wat::parse_str("(component)").unwrap()).unwrap_err(), ReadError::NoManifest);
    let whole = outside(manifest().to_string().as_bytes());
    assert!(matches!(read(&whole[..whole.len() - 3]).unwrap_err(), ReadError::Malformed { .. }));
}

#[test]
fn refuses_manifests_that_are_doubled_huge_or_no_json() {
    let text = quoted(manifest().to_string().as_bytes());
    let twice = format!(
        r#"(component (core module (@custom "runbook:manifest" "{text}")) (@custom "runbook:manifest" "{text}"))"#
    );
    assert_eq!(read(&wat::parse_str(twice).unwrap()).unwrap_err(), ReadError::SeveralManifests);
    assert_eq!(read(&outside(&vec![b' '; MAX_MANIFEST + 1])).unwrap_err(), ReadError::ManifestTooLarge);
    assert!(matches!(read(&outside(b"{}")).unwrap_err(), ReadError::ManifestShape(_)));
    assert!(matches!(read(&outside(&[0xff])).unwrap_err(), ReadError::ManifestShape(_)));
    // Nesting would overflow the stack of a parser without a limit.
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert!(matches!(read(&outside(&deep)).unwrap_err(), ReadError::ManifestShape(_)));
    let unknown = wrong(|m| m["surprise"] = json!(1));
    assert!(unknown.contains("unknown field `surprise`"), "{unknown}");
}

#[test]
fn reports_every_mistake_at_once_with_its_place() {
    let message = wrong(|m| {
        m["name"] = json!("Demo Plugin");
        m["version"] = json!("1.2");
        m["summary"] = json!("two\nlines");
        m["action"][0]["role"] = json!([{ "name": "on" }, { "name": "on" }]);
        m["action"][0]["ask"][0]["reason"] = json!("");
    });
    for part in [
        "plugin: `Demo Plugin` is not a name",
        "plugin: `1.2` is not a semantic version",
        "plugin: `summary` must be one line",
        "action `show-all`, role `on`: the name stands there twice",
        "action `show-all`, ask 1: `reason` must be one line",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn checks_schemas() {
    for (schema, part) in [
        (json!({ "type": "string" }), "\"type\": \"object\""),
        (json!(true), "\"type\": \"object\""),
        (json!({ "type": "object", "properties": 7 }), "not a JSON Schema"),
        (json!({ "type": "object", "allOf": [{ "$ref": "#" }] }), "`$ref` is not allowed"),
        (json!({ "type": "object", "properties": { "a": { "type": "text" } } }), "not a JSON Schema"),
        (json!({ "type": "object", "properties": { "a": { "pattern": "(?=look)ahead" } } }), "not a JSON Schema"),
        (
            json!({ "type": "object", "properties": { "a": { "pattern": "((a{1000}){1000}){1000}" } } }),
            "not a JSON Schema",
        ),
        (json!({ "type": "object", "$schema": "http://127.0.0.1/other" }), "`$schema` is not allowed"),
    ] {
        let message = wrong(|m| m["action"][0]["outputs"] = schema.clone());
        assert!(message.contains("action `show-all`: `outputs`") && message.contains(part), "{schema}: {message}");
    }
}

#[test]
fn checks_the_patterns_of_asks() {
    for (ask, part) in [
        (json!({ "call": "ssh.observe" }), "`ssh.observe` needs `on.argv`"),
        (json!({ "call": "ssh.observe", "on": { "argv": [] } }), "`on.argv` is empty"),
        (json!({ "call": "ssh.observe", "on": { "argv": ["*"] } }), "must name the program"),
        (json!({ "call": "ssh.observe", "on": { "argv": ["ls", "**", "x"] } }), "`**` only as the last"),
        (json!({ "call": "ssh.observe", "on": { "argv": ["ls", "a*b"] } }), "`a*b`"),
        (json!({ "call": "ssh.observe", "on": { "argv": ["ls"], "path": "/x" } }), "`ssh.observe` has no `on.path`"),
        (
            json!({ "call": "ssh.observe", "on": { "argv": ["ls", "${input.nothing}"] } }),
            "the action has no input `nothing`",
        ),
        (json!({ "call": "ssh.observe", "on": { "argv": ["ls", "${path}"] } }), "references are written"),
        (json!({ "call": "ssh.observe", "on": { "argv": ["ls", "${input.path"] } }), "references are written"),
        (json!({ "call": "ssh.observe", "on": { "argv": ["ls", "-${input.args...}"] } }), "references are written"),
        (json!({ "call": "ssh.observe", "on": { "argv": ["ls"] }, "irreversible": "gone" }), "only looks"),
        (json!({ "call": "ssh.reboot", "on": { "name": "x" } }), "`ssh.reboot` has no `on.name`"),
        (json!({ "call": "ssh.net", "on": { "url": "http://*/x" } }), "`http://*/x`"),
        (json!({ "call": "files.read", "on": { "path": "etc/x" } }), "must be absolute"),
        (json!({ "call": "files.read", "on": { "path": "/a/../etc" } }), "must not contain `..`"),
        (json!({ "call": "files.read", "on": { "path": "/a/*/b" } }), "final `/**`"),
        (json!({ "call": "controller.read", "on": { "path": "/a" }, "privileged": true }), "knows no `privileged`"),
        (json!({ "call": "kube.read", "on": { "namespace": "x" } }), "`kube.read` needs `on.kind`"),
        (json!({ "call": "kube.read", "on": { "kind": "Pod", "namespace": "a*b" } }), "`a*b`: a `*` may only stand"),
        (json!({ "call": "kube.logs", "on": { "kind": "Po*" } }), "`Po*`: a kind is written"),
        (json!({ "call": "files.read", "on": { "path": "/a", "env": ["X"] } }), "`files.read` has no `on.env`"),
        (json!({ "call": "kube.everything", "on": { "kind": "*" } }), "unknown variant `kube.everything`"),
    ] {
        let message = wrong(|m| {
            let mut ask = ask.clone();
            ask["reason"] = json!("because");
            m["action"][0]["ask"] = json!([ask]);
        });
        assert!(message.contains(part), "{ask}: {part} is not in: {message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn never_panics_on_mutated_components(
        nested in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let text = manifest().to_string();
        let mut bytes = if nested { inside(text.as_bytes()) } else { outside(text.as_bytes()) };
        for (index, byte) in changes {
            let len = bytes.len();
            bytes[index.index(len)] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = read(&bytes);
    }

    #[test]
    fn never_panics_on_noise_behind_a_header(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&[b"\0asm\x0d\0\x01\0".as_slice(), &noise].concat());
    }

    #[test]
    fn never_panics_on_mutated_manifests(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..8)) {
        let mut text: Vec<char> = manifest().to_string().chars().collect();
        for (index, c) in changes {
            let len = text.len();
            text[index.index(len)] = c;
        }
        let text: String = text.into_iter().collect();
        let _ = read(&outside(text.as_bytes()));
    }
}
