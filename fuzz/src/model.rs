//! The language, expressions, journals.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use runbook_model::diagnostic;
use runbook_model::event::StepOutcome;
use runbook_model::expr::{self, HostView, InstanceView, Outputs, RunView, Scope, syntax};
use runbook_model::history::{self, History};
use runbook_model::journal;
use runbook_model::manifest::Manifest;
use runbook_model::parse::{Catalog, Document, Files};
use runbook_model::plan::Runbook;
use runbook_model::report::Report;
use runbook_model::report::html::html;
use runbook_model::report::markdown::markdown;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What a file includes is its second half, whatever its name.
struct Half<'a>(&'a str);

impl Files for Half<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        if path.contains("none") { Err("no such file".to_owned()) } else { Ok(self.0.to_owned()) }
    }
}

struct Plugins(Vec<Manifest>);

impl Catalog for Plugins {
    fn manifest(&self, plugin: &str) -> Option<&Manifest> {
        self.0.iter().find(|manifest| manifest.name == plugin)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|manifest| manifest.name.clone()).collect()
    }

    fn is_builtin(&self, plugin: &str) -> bool {
        plugin == "core"
    }
}

fn plugins() -> Plugins {
    let action = |name: &str, more: Value| {
        let mut action = json!({ "name": name, "summary": name, "role": [{ "name": "on" }], "inputs": {
            "type": "object", "additionalProperties": false, "required": ["path"], "properties": {
                "path": { "type": "string", "format": "target-path" }, "content": { "type": "string", "x-secret": true },
                "mode": { "type": "string", "pattern": "^0[0-7]{3}$" }, "argv": { "type": "array", "items": { "type": "string" } }
            } } });
        if let (Some(action), Value::Object(more)) = (action.as_object_mut(), more) {
            action.extend(more);
        }
        action
    };
    let core = json!({ "name": "core", "version": "1.0.0", "summary": "core", "action": [
        action("file", json!({})), action("command", json!({ "outputs": { "type": "object", "properties": { "stdout": { "type": "string" } } } })),
        action("pause", json!({ "needs_block": true })), action("apply", json!({ "cluster": "required", "inputs": { "type": "object" } })),
    ] });
    let other = json!({ "name": "other", "version": "1.0.0", "summary": "other", "action": [
        { "name": "join", "summary": "joins", "role": [{ "name": "joiner" }, { "name": "member", "arity": "one" },
            { "name": "witness", "arity": "all", "optional": true }] },
    ] });
    Plugins([core, other].into_iter().filter_map(|manifest| serde_json::from_value(manifest).ok()).collect())
}

/// A runbook. Every mistake can be shown; one without any is told the same when it is kept with its run and read again.
pub(crate) fn runbook(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, included) = crate::halves(text);
    let document = Document::parse("x.toml", text.to_owned());
    let _ = document.mentions(&Half(included));
    let (runbook, diagnostics) = document.load(&Half(included), &plugins());
    let shown = diagnostic::render_all(&diagnostics, false);
    let controls = |c: char| c.is_control() && c != '\n';
    assert!(!shown.contains(controls), "control characters reach a terminal: {shown:?}");
    diagnostics.iter().for_each(|diagnostic| drop(diagnostic.to_json()));
    if let Some(runbook) = runbook.filter(|_| !diagnostic::has_errors(&diagnostics)) {
        let written = serde_json::to_string(&runbook).unwrap_or_default();
        let again: Option<Runbook> = serde_json::from_str(&written).ok();
        assert_eq!(again.as_ref(), Some(&runbook), "{written}");
    }
}

fn scope() -> Scope {
    let object = |value: Value| value.as_object().cloned().unwrap_or_default();
    let host = HostView {
        name: "n1".to_owned(),
        address: Some("10.0.0.7".to_owned()),
        labels: vec!["cp".to_owned()],
        vars: object(json!({ "disk": "/dev/sda" })),
    };
    let outputs = Outputs::Known(json!({ "stdout": "1.30.2\n", "list": [1, 2, 3], "text": "{{ inputs.name }}" }));
    let instance = |host: &str, outputs| InstanceView {
        host: Some(host.to_owned()),
        item: None,
        outcome: Some(StepOutcome::Changed),
        outputs,
    };
    let steps = [
        ("a", vec![instance("n1", outputs), instance("n2", Outputs::None)]),
        ("b", vec![instance("n1", Outputs::Unknown)]),
        ("c", Vec::new()),
    ];
    let steps: BTreeMap<String, Vec<InstanceView>> =
        steps.into_iter().map(|(id, seen)| (id.to_owned(), seen)).collect();
    Scope {
        inputs: object(
            json!({ "name": "web", "count": 3, "flag": true, "list": ["x", "y"], "pw": { "$secret": "pw" } }),
        ),
        vars: object(json!({ "v": { "w": "1.2.3" } })),
        host: Some(host.clone()),
        hosts: Arc::new(vec![host]),
        steps: Arc::new(steps),
        item: Some(json!({ "x": 1 })),
        run: RunView { id: "r".to_owned(), dir: "/d".to_owned() },
        ..Scope::default()
    }
}

/// A template and an expression.
pub(crate) fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let scope = scope();
    if let Ok(pieces) = syntax::split(text) {
        drop(pieces);
    }
    let _ = (syntax::whole(text), syntax::bare(text), syntax::is_template(text));
    for reference in syntax::analyse(text).into_iter().flat_map(|found| found.references) {
        assert!(text.get(reference.range.clone()).is_some(), "{reference:?} is not in {text:?}");
        let _ = reference.display();
    }
    let _ = expr::condition(text, &scope);
    let _ = expr::text(text, &scope);
    let _ = expr::key(text, &scope);
    let _ = expr::items(&Value::String(text.to_owned()), Some("item"), &scope);
    let _ = expr::on_hosts(text, &["n1".to_owned()], &scope);
    if let Ok(rendered) = expr::render(&json!({ "x": text }), &scope) {
        let _ = serde_json::to_string(&rendered.value);
    }
}

/// A journal: as it is, and with each line taken for a record whose checksum is right. What is read can be written and read again.
pub(crate) fn journal(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = journal::decode(text);
    let sealed: String = text
        .lines()
        .map(|record| format!("{{\"sum\":\"{}\",\"record\":{record}}}\n", hex::encode(&Sha256::digest(record)[..8])))
        .collect();
    let Ok(records) = journal::decode(&sealed) else { return };
    let written: String = records.iter().map(journal::encode).collect();
    assert_eq!(journal::decode(&written).as_ref(), Ok(&records));
    let _ = History::of(records.iter().cloned());
    let _ = history::attempts(records.iter().cloned());
    if let Ok(report) = Report::of(records) {
        let _ = (markdown(&report, &TimeZone::UTC), report.recovery_line());
        let page = html(&report, &TimeZone::UTC).unwrap_or_default();
        assert!(!page.contains("<script"), "a page without scripts");
    }
}
