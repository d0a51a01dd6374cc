//! `kube-apply` and `kube-wait`.

use runbook_sdk::Condition;
use runbook_sdk::placeholder::Placeholders;
use runbook_sdk::prelude::*;

#[derive(Deserialize)]
pub(crate) struct ApplyInput {
    manifest: Option<Value>,
    file: Option<String>,
    #[serde(default)]
    force: bool,
}

#[derive(Serialize)]
pub(crate) struct ApplyOutput {
    objects: Vec<String>,
}

pub(crate) fn apply(input: ApplyInput) -> Result<ApplyOutput> {
    let cluster = Cluster::target()?;
    let objects = match (input.manifest, input.file) {
        (Some(manifest), None) if manifest.is_string() || Text::is_reference(&manifest) => {
            documents("manifest", &serde_json::from_value(manifest)?)?
        }
        (Some(manifest), None) => flatten(manifest),
        (None, Some(file)) => documents(&file, &Tree::controller().read_text(&file)?.into())?,
        _ => invalid!("give exactly one of `manifest` and `file`"),
    };
    ensure!(!objects.is_empty(), "there is no object in the manifest");
    // All of them are looked through before the first is applied.
    let names = objects.iter().map(ObjectRef::of).collect::<Result<Vec<_>>>()?;
    for (object, name) in objects.iter().zip(&names) {
        let verdict = cluster.apply(object)?.force(input.force).run()?;
        if name.kind.kind == "CustomResourceDefinition" && verdict != Verdict::Unchanged {
            // Objects of the new kind may follow in the same manifest.
            cluster.wait(name, &Condition::Status("Established".into(), "True".into()), Period::minutes(1))?;
        }
    }
    Ok(ApplyOutput { objects: names.iter().map(ToString::to_string).collect() })
}

/// The objects of a text with one or several YAML documents (JSON is YAML).
fn documents(name: &str, text: &Text) -> Result<Vec<Value>> {
    let mut placeholders = Placeholders::default();
    let text = placeholders.put(text)?;
    let mut objects = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(&text).enumerate() {
        let mut value = Value::deserialize(document)
            .map_err(|error| Error::invalid(format!("{name}, document {}: {error}", index + 1)))?;
        put_back(&mut value, &placeholders)?;
        objects.extend(flatten(value));
    }
    Ok(objects)
}

/// Secrets become references again, which the host fills in.
fn put_back(value: &mut Value, placeholders: &Placeholders) -> Result<()> {
    match value {
        Value::String(string) => *value = serde_json::to_value(placeholders.back(string)?)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| put_back(item, placeholders))?,
        Value::Object(map) => map.values_mut().try_for_each(|item| put_back(item, placeholders))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

/// Lists become their items; documents with nothing but comments go.
fn flatten(value: Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.into_iter().flat_map(flatten).collect(),
        Value::Object(mut object) if object.get("kind").is_some_and(|kind| kind == "List") => {
            object.remove("items").map(flatten).unwrap_or_default()
        }
        other => vec![other],
    }
}

#[derive(Deserialize)]
pub(crate) struct WaitInput {
    kind: String,
    name: String,
    namespace: Option<String>,
    until: Option<Until>,
    condition: Option<String>,
    #[serde(default = "is_true")]
    status: String,
    field: Option<String>,
    equals: Option<Value>,
    #[serde(default = "five_minutes")]
    timeout: Period,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Until {
    Exists,
    Absent,
    RolledOut,
}

fn is_true() -> String {
    "True".to_owned()
}

fn five_minutes() -> Period {
    Period::minutes(5)
}

pub(crate) fn wait(input: WaitInput) -> Result<()> {
    let object = ObjectRef::new(input.kind.as_str(), &input.name).maybe_namespace(input.namespace.as_deref());
    let timeout = input.timeout;
    let condition = condition(input)?;
    Cluster::target()?.wait(&object, &condition, timeout)
}

fn condition(input: WaitInput) -> Result<Condition> {
    Ok(match (input.until, input.condition, input.field, input.equals) {
        (Some(Until::Exists), None, None, None) => Condition::Exists,
        (Some(Until::Absent), None, None, None) => Condition::Absent,
        (Some(Until::RolledOut), None, None, None) => Condition::RolledOut,
        (None, Some(condition), None, None) => Condition::Status(condition, input.status),
        (None, None, Some(field), Some(value)) => Condition::Equals(field, value),
        _ => invalid!("give exactly one of `until`, `condition`, and `field` with `equals`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_of_several_documents_are_read() {
        let text = "# only a comment\n---\nkind: A\ndata: {on: \"yes\", n: 0644}\n---\nkind: List\nitems:\n- kind: B\n- kind: C\n---\n";
        let objects = documents("m", &text.into()).unwrap();
        let kinds: Vec<_> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert_eq!(objects[0]["data"]["on"], "yes");
    }

    #[test]
    fn a_broken_document_says_which_and_where() {
        let error = documents("a.yaml", &"kind: A\n---\nkind: [\n".into()).unwrap_err();
        assert!(error.message().starts_with("a.yaml, document 2: ") && error.message().contains("line 4"), "{error}");
    }

    #[test]
    fn secrets_stay_references() {
        let text = Text::plain("kind: Secret\nstringData:\n  a: ")
            .and(Text::secret("pw"))
            .and("\n  b: 'x=")
            .and(Text::secret("pw"));
        let objects = documents("m", &text.and("'\n")).unwrap();
        assert_eq!(
            objects[0]["stringData"],
            json!({ "a": { "$secret": "pw" }, "b": { "$text": ["x=", { "$secret": "pw" }] } })
        );
        let json = documents("m", &r#"{"kind": "Secret", "stringData": {"a": {"$secret": "pw"}}}"#.into()).unwrap();
        assert_eq!(json[0]["stringData"]["a"], json!({ "$secret": "pw" }));
    }

    #[test]
    fn exactly_one_condition_is_given() {
        let wait = |value: Value| {
            let mut input = json!({ "kind": "Pod", "name": "a" });
            input.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            condition(serde_json::from_value(input).unwrap())
        };
        assert_eq!(wait(json!({ "until": "rolled-out" })), Ok(Condition::RolledOut));
        assert_eq!(wait(json!({ "condition": "Ready" })), Ok(Condition::Status("Ready".into(), "True".into())));
        assert_eq!(
            wait(json!({ "field": "/status/phase", "equals": "Bound" })),
            Ok(Condition::Equals("/status/phase".into(), json!("Bound")))
        );
        for wrong in [json!({}), json!({ "field": "/a" }), json!({ "until": "exists", "condition": "Ready" })] {
            assert!(wait(wrong).is_err());
        }
    }
}
