//! The values that an expression sees, made from a [`Scope`]: only the ones that it uses.

use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value as Jinja};
use serde_json::{Map, Value};

use super::convert::{Absent, Importer, Origin};
use super::scope::{Chosen, HostView, InstanceView, Outputs, Scope};
use super::syntax::{Analysis, Reference, Segment};
use crate::event::StepOutcome;

/// The values for one expression.
///
/// # Errors
///
/// A name that cannot be resolved, with how to put it right.
pub(super) fn build(
    scope: &Scope,
    analysis: &Analysis,
    importer: &mut Importer,
) -> Result<Jinja, (String, Option<String>)> {
    let mut roots: Vec<(&str, Jinja)> = Vec::new();
    let uses = |root: &str| analysis.references.iter().any(|r| r.root == root);
    let plain = |message: String| (message, None);
    for (root, values) in [("inputs", &scope.inputs), ("vars", &scope.vars)] {
        if uses(root) {
            roots.push((root, named(values, analysis, root, importer).map_err(plain)?));
        }
    }
    if uses("host")
        && let Some(host) = &scope.host
    {
        roots.push(("host", host_value(host, importer).map_err(plain)?));
    }
    if uses("item")
        && let Some(item) = &scope.item
    {
        roots.push(("item", importer.value(item, Origin::Owner).map_err(plain)?));
    }
    if uses("run") {
        roots.push(("run", Jinja::from_pairs([("id", scope.run.id.clone()), ("dir", scope.run.dir.clone())])));
    }
    if uses("steps") {
        roots.push(("steps", steps(scope, analysis, importer)?));
    }
    if analysis.functions.iter().any(|f| f.name == "hosts") {
        let mut all = Vec::with_capacity(scope.hosts.len());
        for host in scope.hosts.iter() {
            all.push((host.labels.clone(), host_value(host, importer).map_err(plain)?));
        }
        roots.push(("hosts", hosts_function(Arc::new(all))));
    }
    Ok(Jinja::from_pairs(roots))
}

/// The names behind a root that the expression uses; all, where it does not say which.
fn wanted<'a>(analysis: &'a Analysis, root: &str) -> Option<BTreeSet<&'a str>> {
    analysis.references.iter().filter(|r| r.root == root).map(|r| r.key(0)).collect()
}

fn named(
    values: &Map<String, Value>,
    analysis: &Analysis,
    root: &str,
    importer: &mut Importer,
) -> Result<Jinja, String> {
    let wanted = wanted(analysis, root);
    let mut entries = Vec::new();
    for (name, value) in values {
        if wanted.as_ref().is_none_or(|w| w.contains(name.as_str())) {
            entries.push((name.clone(), importer.value(value, Origin::Owner)?));
        }
    }
    Ok(Jinja::from_pairs(entries))
}

fn host_value(host: &HostView, importer: &mut Importer) -> Result<Jinja, String> {
    Ok(Jinja::from_pairs([
        ("name", Jinja::from(host.name.clone())),
        ("address", host.address.clone().map_or(Jinja::UNDEFINED, Jinja::from)),
        ("labels", Jinja::from(host.labels.clone())),
        ("vars", importer.map(&host.vars, Origin::Owner)?),
    ]))
}

fn hosts_function(all: Arc<Vec<(Vec<String>, Jinja)>>) -> Jinja {
    Jinja::from_function(move |label: &str, kwargs: Kwargs| -> Result<Jinja, Error> {
        kwargs.assert_all_used()?;
        let found: Vec<Jinja> =
            all.iter().filter(|(labels, _)| labels.iter().any(|l| l == label)).map(|(_, host)| host.clone()).collect();
        if found.is_empty() {
            return Err(Error::new(ErrorKind::InvalidOperation, format!("no host has the label `{label}`")));
        }
        Ok(Jinja::from(found))
    })
}

fn steps(scope: &Scope, analysis: &Analysis, importer: &mut Importer) -> Result<Jinja, (String, Option<String>)> {
    let mut entries = Vec::new();
    let references: Vec<&Reference> = analysis.references.iter().filter(|r| r.root == "steps").collect();
    let ids: BTreeSet<&str> = match wanted(analysis, "steps") {
        Some(ids) => ids,
        None => scope.steps.keys().map(String::as_str).collect(),
    };
    for id in ids {
        let Some(instances) = scope.steps.get(id) else {
            return Err((format!("step `{id}` has not run before this one"), None));
        };
        let of_step: Vec<&&Reference> = references.iter().filter(|r| r.key(0).is_none_or(|k| k == id)).collect();
        let value = step_value(scope, id, instances, &of_step, importer)?;
        entries.push((id.to_owned(), value));
    }
    Ok(Jinja::from_pairs(entries))
}

fn step_value(
    scope: &Scope,
    id: &str,
    instances: &[InstanceView],
    references: &[&&Reference],
    importer: &mut Importer,
) -> Result<Jinja, (String, Option<String>)> {
    let mut entries: Vec<(&str, Jinja)> = Vec::new();
    let worst =
        instances.iter().filter_map(|i| i.outcome).max().or(instances.is_empty().then_some(StepOutcome::Skipped));
    entries.push(("outcome", outcome_value(worst)));
    match scope.choose(instances) {
        Chosen::One(one) => entries.push(("outputs", outputs_value(&one.outputs, importer)?)),
        Chosen::Skipped => entries.push(("outputs", Jinja::from_object(Absent))),
        Chosen::Ambiguous => {
            if references.iter().any(|r| !matches!(r.key(1), Some("outcome" | "on"))) {
                let names: Vec<String> =
                    instances.iter().filter_map(|i| i.item.clone().or_else(|| i.host.clone())).collect();
                let example = names.first().map_or("NAME", String::as_str);
                return Err((
                    format!("step `{id}` ran {} times, so `steps.{id}.outputs` could be any of them", instances.len()),
                    Some(format!("name one: `steps.{id}.on[\"{example}\"].outputs`")),
                ));
            }
        }
    }
    let mut on: Vec<(String, Jinja)> = Vec::new();
    let mut twice: BTreeSet<&str> = BTreeSet::new();
    for instance in instances {
        let value = Jinja::from_pairs([
            ("outcome", outcome_value(instance.outcome)),
            ("outputs", outputs_value(&instance.outputs, importer)?),
        ]);
        for name in [&instance.host, &instance.item].into_iter().flatten() {
            if on.iter().any(|(known, _)| known == name) {
                twice.insert(name);
            } else {
                on.push((name.clone(), value.clone()));
            }
        }
    }
    // A name that stands for several instances is none.
    on.retain(|(name, _)| !twice.contains(name.as_str()));
    entries.push(("on", Jinja::from_pairs(on)));
    Ok(Jinja::from_pairs(entries))
}

fn outcome_value(outcome: Option<StepOutcome>) -> Jinja {
    let word = outcome.and_then(|o| serde_json::to_value(o).ok());
    word.and_then(|w| w.as_str().map(Jinja::from)).unwrap_or(Jinja::UNDEFINED)
}

fn outputs_value(outputs: &Outputs, importer: &mut Importer) -> Result<Jinja, (String, Option<String>)> {
    match outputs {
        Outputs::Known(value) => importer.value(value, Origin::World).map_err(|m| (m, None)),
        Outputs::None => Ok(Jinja::from_object(Absent)),
        // Not looked at: an expression that uses it was found to be unknown before.
        Outputs::Unknown => Ok(Jinja::UNDEFINED),
    }
}

/// Why one of these names is undefined, and how to put that right.
pub(super) fn explain(scope: &Scope, references: &[Reference]) -> Option<(String, Option<String>)> {
    references.iter().find_map(|reference| explain_one(scope, reference))
}

fn explain_one(scope: &Scope, reference: &Reference) -> Option<(String, Option<String>)> {
    let path = &reference.path;
    let missing = |value: &Value, skip: usize, shown: &str| {
        let mut value = value;
        let mut shown = shown.to_owned();
        for segment in &path[skip..] {
            let Segment::Key(key) = segment else { return None };
            match value.get(key) {
                Some(inner) => value = inner,
                None => {
                    let help = value.as_object().map(|o| {
                        let names: Vec<&str> = o.keys().map(String::as_str).collect();
                        crate::diagnostic::name_help(key, "names in it", names).unwrap_or_default()
                    });
                    return Some((format!("`{shown}` has no `{key}`"), help.filter(|h| !h.is_empty())));
                }
            }
            shown = format!("{shown}.{key}");
        }
        None
    };
    match reference.root.as_str() {
        "inputs" => missing(&Value::Object(scope.inputs.clone()), 0, "inputs"),
        "vars" => missing(&Value::Object(scope.vars.clone()), 0, "vars"),
        "item" => match &scope.item {
            Some(item) => missing(item, 0, "item"),
            None => Some(("`item` is known only in a step with `for_each`".to_owned(), None)),
        },
        "host" => match &scope.host {
            None => Some(("`host` is not known: this step does not run on one host".to_owned(), None)),
            Some(host) if reference.key(0) == Some("vars") => {
                missing(&Value::Object(host.vars.clone()), 1, "host.vars")
            }
            Some(host) if reference.key(0) == Some("address") && host.address.is_none() => {
                Some((format!("host `{}` has no address", host.name), None))
            }
            Some(_) => None,
        },
        "steps" => {
            let id = reference.key(0)?;
            let instances = scope.steps.get(id)?;
            let skipped = || {
                let message = format!("step `{id}` was skipped, so it has no outputs");
                (message, Some(format!("say what to use instead: `{} | default(...)`", reference.display())))
            };
            let (one, skip) = match reference.key(1)? {
                "outputs" => match scope.choose(instances) {
                    Chosen::One(one) => (one, 2),
                    Chosen::Skipped => return Some(skipped()),
                    Chosen::Ambiguous => return None,
                },
                "on" => {
                    let name = reference.key(2)?;
                    let mut matching =
                        instances.iter().filter(|i| i.host.as_deref() == Some(name) || i.item.as_deref() == Some(name));
                    match (matching.next(), matching.next()) {
                        (Some(one), None) => (one, 4),
                        (None, _) => return Some((format!("step `{id}` did not run for `{name}`"), None)),
                        (Some(_), Some(_)) => {
                            return Some((format!("step `{id}` ran more than once for `{name}`"), None));
                        }
                    }
                }
                _ => return None,
            };
            match &one.outputs {
                Outputs::None => Some(skipped()),
                Outputs::Known(value) if path.len() > skip => missing(value, skip, &format!("steps.{id}.outputs")),
                Outputs::Known(_) | Outputs::Unknown => None,
            }
        }
        "run" => None,
        root => Some((format!("`{root}` is not defined"), None)),
    }
}
