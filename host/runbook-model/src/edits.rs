//! What became different between two versions of a runbook, for a person who goes on with a run.

use serde_json::Value;

use crate::plan::{Runbook, Step};

/// The differences that matter to a run, one line each: steps that came, went or changed, in the order of the file.
pub fn between(old: &Runbook, new: &Runbook) -> Vec<String> {
    let mut lines = Vec::new();
    for step in &new.steps {
        match old.step(&step.id) {
            None => lines.push(format!("+ step {} ({})", step.id, step.uses)),
            Some(before) => {
                changed(&format!("~ step {}: ", step.id), &comparable(before), &comparable(step), "", &mut lines)
            }
        }
    }
    lines.extend(
        old.steps
            .iter()
            .filter(|step| new.step(&step.id).is_none())
            .map(|step| format!("- step {} ({})", step.id, step.uses)),
    );
    let order = |runbook: &Runbook, other: &Runbook| -> Vec<String> {
        runbook.steps.iter().filter(|step| other.step(&step.id).is_some()).map(|step| step.id.clone()).collect()
    };
    if order(old, new) != order(new, old) {
        lines.push("~ the order of the steps".to_owned());
    }
    let parts = |runbook: &Runbook| {
        let json = |value: Result<Value, _>| value.unwrap_or(Value::Null);
        [
            ("vars", Value::Object(runbook.vars.clone())),
            ("hosts", json(serde_json::to_value(&runbook.hosts))),
            ("clusters", json(serde_json::to_value(&runbook.clusters))),
            ("blocks", json(serde_json::to_value(&runbook.blocks))),
            ("on_failure", json(serde_json::to_value(runbook.on_failure))),
        ]
    };
    for ((name, before), (_, after)) in parts(old).into_iter().zip(parts(new)) {
        if before != after {
            lines.push(format!("~ {name}"));
        }
    }
    lines
}

fn comparable(step: &Step) -> Value {
    let mut value = serde_json::to_value(step).unwrap_or(Value::Null);
    if let Some(map) = value.as_object_mut() {
        // Where it stands is no difference, nor is what is said for people.
        for key in ["line", "why", "manual"] {
            map.remove(key);
        }
    }
    value
}

fn changed(head: &str, before: &Value, after: &Value, path: &str, lines: &mut Vec<String>) {
    /// Characters of a value.
    const LONGEST: usize = 60;
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).collect();
            keys.dedup();
            for key in keys {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let (a, b) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                changed(head, a, b, &inner, lines);
            }
        }
        (before, after) => {
            let short = |value: &Value| {
                let text = value.to_string();
                match text.char_indices().nth(LONGEST) {
                    Some((end, _)) => format!("{}...", &text[..end]),
                    None => text,
                }
            };
            lines.push(format!("{head}{path} {} -> {}", short(before), short(after)));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{Texts, catalog};
    use crate::parse;

    #[test]
    fn steps_that_came_went_and_changed_are_told() {
        let read = |steps: &str| {
            let text = format!("schema = 1\nname = \"x\"\n[hosts.n1]\naddress = \"192.0.2.1\"\n{steps}");
            let (runbook, diagnostics) = parse::load("x.toml", &text, &Texts::default(), &catalog());
            runbook.unwrap_or_else(|| panic!("{diagnostics:?}"))
        };
        let step = |id: &str, path: &str, why: &str| {
            format!(
                "[[step]]\nid = \"{id}\"\nuses = \"core/file\"\non = \"n1\"\nwhy = \"{why}\"\nwith = {{ path = \"{path}\", content = \"x\" }}\n"
            )
        };
        let old = read(&[step("a", "/a", ""), step("b", "/b", ""), step("c", "/c", "")].concat());
        let new = read(&[step("c", "/c", "because"), step("a", "/z", ""), step("d", "/d", "")].concat());
        assert_eq!(
            super::between(&old, &new),
            [
                "~ step a: with.path \"/a\" -> \"/z\"",
                "+ step d (core/file)",
                "- step b (core/file)",
                "~ the order of the steps"
            ]
        );
        assert_eq!(super::between(&old, &old), Vec::<String>::new());
    }
}
