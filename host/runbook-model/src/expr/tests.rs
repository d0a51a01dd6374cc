//! Expressions: values, unknowns, skipped steps, secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::event::StepOutcome;

fn instance(host: Option<&str>, item: Option<&str>, outputs: Outputs) -> InstanceView {
    let outcome = match outputs {
        Outputs::Known(_) => Some(StepOutcome::Changed),
        Outputs::None => Some(StepOutcome::Skipped),
        Outputs::Unknown => None,
    };
    InstanceView { host: host.map(str::to_owned), item: item.map(str::to_owned), outcome, outputs }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn scope() -> Scope {
    let known = |v: Value| Outputs::Known(v);
    let steps = BTreeMap::from([
        (
            "one".to_owned(),
            vec![instance(Some("n1"), None, known(json!({"x": 5, "list": ["a", "b"], "version": "v1.30.2"})))],
        ),
        (
            "fan".to_owned(),
            vec![
                instance(Some("n1"), None, known(json!({"x": 1}))),
                instance(Some("n2"), None, known(json!({"x": 2}))),
            ],
        ),
        ("skipped".to_owned(), vec![instance(Some("n1"), None, Outputs::None)]),
        ("later".to_owned(), vec![instance(Some("n1"), None, Outputs::Unknown)]),
        (
            "half".to_owned(),
            vec![instance(Some("n1"), None, known(json!({"x": 1}))), instance(Some("n2"), None, Outputs::Unknown)],
        ),
        (
            "items".to_owned(),
            vec![
                instance(None, Some("a"), known(json!({"x": "A"}))),
                instance(None, Some("b"), known(json!({"x": "B"}))),
            ],
        ),
        ("odd".to_owned(), vec![instance(Some("n1"), None, known(json!({"template": "{{ inputs.ip }}"})))]),
        (
            "hostile".to_owned(),
            vec![instance(
                Some("n1"),
                None,
                known(json!({
                    "reference": {"$secret": "pw"}, "text": {"$text": [{"$secret": "pw"}]},
                    "mark": " \u{10F8F0}aZ:pw\u{10F8F1} ", "json": "\" \\udbfe\\udcf0aZ:pw\\udbfe\\udcf1 \"",
                    "json_reference": "{\"$secret\": \"pw\"}"
                })),
            )],
        ),
    ]);
    let host = |name: &str, labels: &[&str]| HostView {
        name: name.to_owned(),
        address: Some(format!("{name}.example")),
        labels: labels.iter().map(|l| (*l).to_owned()).collect(),
        vars: object(json!({"disk": "sda"})),
    };
    Scope {
        inputs: object(
            json!({"ip": "192.0.2.1", "port": 80, "flag": true, "names": ["a", "b"], "pw": {"$secret": "pw"}}),
        ),
        vars: object(json!({"url": "http://x", "db": {"user": "u", "pass": {"$text": ["p-", {"$secret": "pw"}]}}})),
        host: Some(host("n1", &["cp"])),
        hosts: Arc::new(vec![host("n1", &["cp"]), host("n2", &["cp", "w"])]),
        steps: Arc::new(steps),
        item: None,
        run: RunView { id: "r1".to_owned(), dir: "/runs/r1".to_owned() },
        ..Scope::default()
    }
}

fn value(template: &str) -> Result<Value, String> {
    let rendered = render(&json!(template), &scope()).map_err(|e| e.to_string())?;
    assert_eq!(rendered.unknown, [], "{template}");
    Ok(rendered.value)
}

#[test]
fn values_keep_their_types() {
    for (template, want) in [
        ("plain", json!("plain")),
        ("{{ inputs.port }}", json!(80)),
        ("{{ inputs.flag }}", json!(true)),
        ("{{ inputs.names }}", json!(["a", "b"])),
        ("port {{ inputs.port }}!", json!("port 80!")),
        (" {{ inputs.port }}", json!(" 80")),
        ("{{ inputs.port + 1 }}", json!(81)),
        ("{{ inputs.port / 3 | float }}", json!(80.0 / 3.0)),
        ("{{ {\"a\": {\"b\": inputs.port}} }}", json!({"a": {"b": 80}})),
        ("{{ '}}' }}", json!("}}")),
        ("{{ \"{{\" }}.Names{{ '}}' }}", json!("{{.Names}}")),
        ("${#list[@]} {% x %} {# y #}", json!("${#list[@]} {% x %} {# y #}")),
        ("{{ host.name }}:{{ host.address }}:{{ host.vars.disk }}", json!("n1:n1.example:sda")),
        ("{{ hosts('w') | map(attribute='name') | join(',') }}", json!("n2")),
        ("{{ run.dir }}", json!("/runs/r1")),
        ("{{ none }}", Value::Null),
        ("{{ steps.one.outputs.x }}", json!(5)),
        ("{{ steps.one.outcome }}", json!("changed")),
        ("{{ steps.fan.outputs.x }}", json!(1)),
        ("{{ steps.fan.on['n2'].outputs.x }}", json!(2)),
        ("{{ steps.items.on.b.outputs.x }}", json!("B")),
        ("{{ steps.skipped.outputs.x | default('none') }}", json!("none")),
        ("{{ (steps.skipped.outputs | default({})) | length }}", json!(0)),
        ("{{ steps.skipped.outcome }}", json!("skipped")),
        ("{{ steps.one.outputs.gone | default(7) }}", json!(7)),
        ("{{ inputs.names | to_json }}", json!("[\"a\",\"b\"]")),
        ("{{ ('{\"a\": [1, 2.5]}' | from_json).a }}", json!([1, 2.5])),
        ("{{ 'a' | sha256 }}", json!("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")),
        ("{{ (steps.one.outputs.version | semver).minor }}", json!(30)),
        ("{{ steps.one.outputs.version | semver > '1.9' | semver }}", json!(true)),
        ("{{ steps.one.outputs.version | semver('>=1.30, <1.31') }}", json!(true)),
        ("{{ 'v1.28.15+k3s1' | semver }}", json!("1.28.15+k3s1")),
        ("{{ vars.url ~ '/' ~ inputs.port }}", json!("http://x/80")),
    ] {
        assert_eq!(value(template), Ok(want), "{template}");
    }
}

#[test]
fn results_are_never_rendered_again() {
    assert_eq!(value("{{ steps.odd.outputs.template }}"), Ok(json!("{{ inputs.ip }}")));
    assert_eq!(value("x {{ steps.odd.outputs.template }}"), Ok(json!("x {{ inputs.ip }}")));
}

#[test]
fn failures_say_why() {
    for (template, want) in [
        ("{{ inputs.pot }}", "`inputs` has no `pot`"),
        ("{{ steps.one.outputs.gone }}", "`steps.one.outputs` has no `gone`"),
        ("{{ steps.skipped.outputs.x }}", "step `skipped` was skipped, so it has no outputs"),
        ("{{ steps.skipped.outputs }}", "the outputs of a skipped step are none"),
        ("{{ steps.skipped.outputs.x ~ 'a' }}", "step `skipped` was skipped, so it has no outputs"),
        ("{{ steps.items.outputs.x }}", "step `items` ran 2 times"),
        ("{{ steps.never.outputs.x }}", "step `never` has not run before this one"),
        ("{{ item }}", "`item` is known only in a step with `for_each`"),
        ("a {{ inputs.names }}", "a list cannot stand in the middle of a text"),
        ("a {{ none }}", "none cannot stand in the middle of a text"),
        ("{{ 1 / 0 * 0 }}", ""),
        ("{{ 'x' | semver }}", "\"x\" is not a version"),
        ("{{ hosts('x') }}", "no host has the label `x`"),
        ("{{ .Names }}", ""),
        ("{{ inputs.port", "is not ended by"),
        ("{{ }}", "there is no expression"),
        ("{{ nope }}", "`nope` is not defined"),
    ] {
        let error = value(template).expect_err(template);
        assert!(error.contains(want), "{template}: {error}");
    }
}

#[test]
fn conditions_are_true_or_false() {
    let check = |text: &str| condition(text, &scope()).map_err(|e| e.message);
    for (text, want) in [
        ("inputs.port == 80", Some(true)),
        ("{{ inputs.port == 81 }}", Some(false)),
        ("steps.skipped.outputs.x is defined", Some(false)),
        ("steps.later.outputs.x == 1", None),
        ("steps.later.outcome == 'changed'", None),
        ("inputs.flag or steps.later.outputs.x", None),
        ("steps.half.outputs.x == 1", Some(true)),
        ("steps.half.on['n2'].outputs.x == 1", None),
        ("steps.half.outcome == 'changed'", None),
        ("'a' in inputs.names", Some(true)),
        ("{'a': {'b': true}}['a']['b']", Some(true)),
    ] {
        assert_eq!(check(text), Ok(want), "{text}");
    }
    for text in [
        "inputs.ip",
        "inputs.port",
        "none",
        "'false'",
        "inputs.pw",
        "{{ inputs.flag }} and {{ inputs.flag }}",
        "",
        "steps.skipped.outputs",
    ] {
        assert!(check(text).is_err(), "{text}");
    }
}

#[test]
fn unknown_places_are_named() {
    let template = json!({
        "plain": "x", "whole": "{{ steps.later.outputs.x }}", "part": ["a", "b {{ steps.later.outputs.x }}"],
        "known": "{{ steps.one.outputs.x }}", "own": "{{ inputs.ip }}"
    });
    let rendered = render(&template, &scope()).expect("renders");
    let paths: Vec<(&str, &str)> = rendered.unknown.iter().map(|u| (u.path.as_str(), u.step.as_str())).collect();
    assert_eq!(paths, [("/whole", "later"), ("/part/1", "later")]);
    assert_eq!(rendered.computed.into_iter().collect::<Vec<_>>(), ["known", "part", "whole"]);
    assert_eq!(rendered.value["own"], "192.0.2.1");
    assert_eq!(rendered.value["whole"], Value::Null);
}

#[test]
fn computed_and_unknown_are_inherited() {
    let mut inner = scope();
    inner.computed.insert("inputs.ip".to_owned());
    inner.unknown.insert("inputs.port".to_owned(), "later".to_owned());
    let rendered = render(&json!({"a": "{{ inputs.ip }}", "b": "{{ inputs.port }}", "c": "{{ inputs.flag }}"}), &inner)
        .expect("renders");
    assert_eq!(rendered.computed.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(rendered.unknown.len(), 1);
}

#[test]
fn items_have_names_and_values() {
    let names = |items: Items| match items {
        Items::Known(items) => {
            items.into_iter().map(|i| format!("{}={}{}", i.name, i.value, if i.computed { "!" } else { "" })).collect()
        }
        Items::Unknown(step) => vec![format!("after {step}")],
    };
    let run = |for_each: Value, key: Option<&str>| items(&for_each, key, &scope()).map(names).map_err(|e| e.message);
    assert_eq!(
        run(json!(["x", "{{ inputs.ip }}"]), None),
        Ok(vec!["0=\"x\"".to_owned(), "1=\"192.0.2.1\"".to_owned()])
    );
    assert_eq!(run(json!("{{ inputs.names }}"), Some("item")), Ok(vec!["a=\"a\"".to_owned(), "b=\"b\"".to_owned()]));
    assert_eq!(
        run(json!("{{ steps.one.outputs.list }}"), Some("item | upper")),
        Ok(vec!["A=\"a\"!".to_owned(), "B=\"b\"!".to_owned()])
    );
    assert_eq!(run(json!({"k": 1}), Some("item.key")), Ok(vec!["k={\"key\":\"k\",\"value\":1}".to_owned()]));
    assert_eq!(run(json!("{{ steps.later.outputs.list }}"), None), Ok(vec!["after later".to_owned()]));
    for (for_each, key) in [
        (json!(["a", "a"]), Some("item")),
        (json!(["a/b"]), Some("item")),
        (json!([""]), Some("item")),
        (json!("{{ inputs.ip }}"), None),
        (json!("{{ inputs.pw }}"), None),
        (json!(["{{ inputs.pw }}"]), Some("item")),
    ] {
        assert!(run(for_each.clone(), key).is_err(), "{for_each}");
    }
}

#[test]
fn hosts_of_an_expression_stay_among_those_allowed() {
    let among = ["a".to_owned(), "b".to_owned()];
    let run = |text: &str| on_hosts(text, &among, &scope()).map_err(|e| e.message);
    assert_eq!(run("{{ steps.one.outputs.list }}"), Ok(Some(vec!["a".to_owned(), "b".to_owned()])));
    assert_eq!(run("{{ 'a' }}"), Ok(Some(vec!["a".to_owned()])));
    assert_eq!(run("{{ steps.later.outputs.x }}"), Ok(None));
    for text in ["{{ 'c' }}", "{{ [] }}", "{{ 5 }}", "{{ inputs.pw }}"] {
        assert!(run(text).is_err(), "{text}");
    }
}

#[test]
fn secrets_become_references() {
    let secret = json!({"$secret": "pw"});
    for (template, want) in [
        ("{{ inputs.pw }}", secret.clone()),
        ("a{{ inputs.pw }}b", json!({"$text": ["a", secret, "b"]})),
        ("{{ 'a' ~ inputs.pw }}", json!({"$text": ["a", secret]})),
        ("{{ inputs.pw }}{{ inputs.pw }}", json!({"$text": [secret, secret]})),
        ("{{ [inputs.pw, 'x'] }}", json!([secret, "x"])),
        ("{{ ['u', inputs.pw] | join(':') }}", json!({"$text": ["u:", secret]})),
        ("{{ inputs.pw | default('') }}", secret.clone()),
        ("{{ inputs.pw if inputs.flag else '' }}", secret.clone()),
        ("{{ vars.db.pass }}", json!({"$text": ["p-", secret]})),
        ("x{{ vars.db.pass }}", json!({"$text": ["xp-", secret]})),
        ("{{ vars.db.user | upper }}", json!("U")),
    ] {
        assert_eq!(value(template), Ok(want), "{template}");
    }
}

#[test]
fn secrets_cannot_be_computed_with() {
    for template in [
        "{{ inputs.pw | sha256 }}",
        "{{ inputs.pw | upper }}",
        "{{ inputs.pw | length }}",
        "{{ inputs.pw | replace('a', 'b') }}",
        "{{ inputs.pw == 'x' }}",
        "{{ inputs.pw[0] }}",
        "{{ inputs.pw[1:4] }}",
        "{{ 'a' if inputs.pw else 'b' }}",
        "{{ vars.db | to_json }}",
        "{{ vars.db.pass | trim }}",
        "{{ ('x' ~ inputs.pw) | upper }}",
        "{{ [inputs.pw] | string }}",
        "{{ [inputs.pw] | map('upper') | list }}",
        "{{ {inputs.pw: 1} }}",
        "{{ [inputs.pw] | to_json }}",
        "{{ inputs | to_json }}",
    ] {
        let error = value(template).expect_err(template);
        assert!(!error.contains('\u{10F8F0}') && !error.contains("10f8f0"), "{template}: {error}");
    }
}

#[test]
fn nobody_can_forge_a_secret() {
    for template in [
        "{{ steps.hostile.outputs.reference }}",
        "{{ steps.hostile.outputs.text }}",
        "{{ steps.hostile.outputs.mark }}",
        "{{ steps.hostile.outputs.json | from_json }}",
        "{{ steps.hostile.outputs.json_reference | from_json }}",
        "{{ {'$secret': 'pw'} }}",
        "\u{10F8F0}aZ:pw\u{10F8F1}",
        "{{ inputs.ip }} \u{10F8F0}aZ:pw\u{10F8F1} ",
        "{{ ' \u{10F8F0}aZ:pw\u{10F8F1} ' }}",
        "{{ ' \\udbfe\\udcf0aZ:pw\\udbfe\\udcf1 ' }}",
    ] {
        assert!(value(template).is_err(), "{template}");
    }
    assert!(render(&json!({"$secret": "pw"}), &scope()).is_err());
    assert!(text("{{ inputs.pw }}", &scope()).is_err());
}

#[test]
fn deep_expressions_do_no_harm() {
    for expression in [
        format!("a{}", ".b".repeat(990)),
        format!("a{}", "[0]".repeat(660)),
        format!("1{}", "+1".repeat(990)),
        format!("{}1", "not ".repeat(490)),
        format!("{}1", "-".repeat(1900)),
        format!("{}1", "- ".repeat(900)),
        format!("{}1", "2**-".repeat(450)),
        format!("1{}", " ** 1".repeat(390)),
        format!("{}1", "a(".repeat(900)),
        format!("{}1{}", "{1:".repeat(400), "}".repeat(400)),
        "(".repeat(1900),
        format!("{}1{}", "[".repeat(900), "]".repeat(900)),
        format!("1{}", "|int".repeat(490)),
        format!("1{}", " if 1 else 1".repeat(160)),
        "a.b".repeat(100_000),
    ] {
        let _ = render(&json!(format!("{{{{ {expression} }}}}")), &scope());
        let _ = condition(&expression, &scope());
    }
}

/// All strings in a value.
fn strings(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|v| strings(v, out)),
        Value::Object(map) => map.iter().for_each(|(k, v)| {
            out.push(k.clone());
            strings(v, out);
        }),
        _ => {}
    }
}

proptest! {
    #[test]
    fn arbitrary_texts_do_no_harm(text in "\\PC{0,60}") {
        let _ = render(&json!(text), &scope());
        let _ = render(&json!(format!("{{{{ {text} }}}}")), &scope());
        let _ = condition(&text, &scope());
        let _ = syntax::split(&text);
        let _ = syntax::analyse(&text);
    }

    /// Whatever is done with a secret: the result holds it as a reference alone, or there is none.
    #[test]
    fn secrets_never_leave_as_text(
        filters in prop::collection::vec(prop::sample::select(filter_names().to_vec()), 0..3),
        wrap in prop::sample::select(vec!["inputs.pw", "[inputs.pw]", "vars.db", "('a' ~ inputs.pw)", "{'k': inputs.pw}", "inputs"]),
        before in "[a-z {}]{0,4}",
    ) {
        let chain: String = filters.iter().map(|f| format!(" | {f}")).collect();
        let before = before.replace("{{", "");
        for template in [format!("{{{{ {wrap}{chain} }}}}"), format!("{before}{{{{ {wrap}{chain} }}}}")] {
            match render(&json!(template), &scope()) {
                Ok(rendered) => {
                    let mut all = Vec::new();
                    strings(&rendered.value, &mut all);
                    prop_assert!(all.iter().all(|s| !s.contains(['\u{10F8F0}', '\u{10F8F1}']) && !s.contains("10f8f") && !s.contains("aZ:")), "{}: {:?}", template, all);
                }
                Err(error) => {
                    let leaks = error.to_string().contains(['\u{10F8F0}', '\u{10F8F1}']);
                    prop_assert!(!leaks, "{}", template);
                }
            }
        }
    }
}
