//! `with`: the inputs of an action or of an included runbook.

use serde_json::Value;

use crate::diagnostic::{Diagnostic, name_help};
use crate::expr::syntax::is_template;
use crate::input_schema::{self, may_be_secret};
use crate::inputs::check_value;
use crate::manifest::Action;
use crate::parse::names::Names;
use crate::plan::InputDef;
use crate::schema::node::Node;
use crate::schema::read::Reading;
use crate::schema::v1_step::Step;

/// Checks the inputs of an action against its schema.
pub(super) fn check_action(r: &Reading<'_>, step: &Step, uses: &str, action: &Action, names: &Names<'_>) {
    let empty = Node { span: step.span.clone(), data: crate::schema::node::Data::Table(Vec::new()) };
    let node = step.with.as_ref().unwrap_or(&empty);
    if node.as_table().is_none() {
        r.wrong_type("with", "a table", node);
        return;
    }
    if node.has_broken() {
        return;
    }
    match input_schema::check(&action.inputs, &node.to_json()) {
        Err(reason) => {
            let message = format!("the plugin declares the inputs of `{uses}` wrongly: {reason}");
            r.report(
                &step.span,
                Diagnostic::error("bad-plugin", message).help("this is a mistake of the plugin, not of the runbook"),
            );
        }
        Ok(problems) => {
            for problem in problems {
                let at = node.at(&problem.path);
                let key_span = problem.key.as_ref().and_then(|key| at.entry(key)).map(|e| e.key_span.clone());
                let whole = problem.path.is_empty() && key_span.is_none();
                let span = if whole {
                    step.key_span("with").unwrap_or(&step.span).clone()
                } else {
                    key_span.unwrap_or(at.span.clone())
                };
                let diagnostic =
                    Diagnostic::error(problem.code, format!("`{uses}`: {}", problem.message)).maybe_help(problem.help);
                r.report(&span, diagnostic);
            }
        }
    }
    node.strings("", &mut |pointer, at, text| {
        if names.text_is_secret(text) && !may_be_secret(&action.inputs, pointer) {
            let diagnostic = Diagnostic::error("secret-misplaced", format!("`{uses}` does not take a secret here"))
                .help("the plugin would have to see it; give the secret to an input that is made for one");
            r.report(&at.span, diagnostic);
        }
    });
}

/// Checks the inputs that an included runbook is given.
pub(super) fn check_include(r: &Reading<'_>, step: &Step, inputs: &[InputDef]) {
    let entries = match &step.with {
        None => &[],
        Some(node) => match node.as_table() {
            Some(entries) => entries,
            None => return r.wrong_type("with", "a table", node),
        },
    };
    for entry in entries {
        let Some(def) = inputs.iter().find(|i| i.name == entry.key) else {
            let diagnostic =
                Diagnostic::error("unknown-input", format!("the included runbook has no input `{}`", entry.key))
                    .maybe_help(name_help(&entry.key, "inputs", inputs.iter().map(|i| i.name.as_str())));
            r.report(&entry.key_span, diagnostic);
            continue;
        };
        let value = entry.value.to_json();
        let open = entry.value.has_broken() || value.as_str().is_some_and(is_template) || has_template(&value);
        if let (false, Err(reason)) = (open, check_value(def, value)) {
            r.report(&entry.value.span, Diagnostic::error("wrong-type", format!("input `{}` {reason}", def.name)));
        }
    }
    for def in inputs.iter().filter(|d| d.default.is_none() && !entries.iter().any(|e| e.key == d.name)) {
        let help = def.description.as_ref().map(|d| format!("`{}`: {d}", def.name));
        let span = step.key_span("with").unwrap_or(&step.span);
        let message = format!("the included runbook needs the input `{}`", def.name);
        r.report(span, Diagnostic::error("missing-input", message).maybe_help(help));
    }
}

fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_template(text),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(map) => map.values().any(has_template),
        _ => false,
    }
}
