//! The JSON Schema of the whole language, for editors: keys, words, and the inputs of each plugin action.

use serde_json::{Map, Value, json};

use crate::manifest::{Manifest, Need};
use crate::schema::v1_step::POWERS;

/// JSON Schema (draft 2020-12) of a runbook in which these plugins can be used.
///
/// Inputs accept a template (`{{ ... }}`) wherever a value can stand, since a template may become anything.
pub fn schema<'m>(plugins: impl IntoIterator<Item = &'m Manifest>) -> Value {
    let mut actions: Vec<Value> = Vec::new();
    let mut branches: Vec<Value> = Vec::new();
    for manifest in plugins {
        for action in &manifest.actions {
            let uses = format!("{}/{}", manifest.name, action.name);
            actions.push(json!({ "const": uses, "description": action.summary }));
            branches.push(branch(&uses, action));
        }
    }
    let id = json!({ "type": "string", "pattern": "^[a-z][a-z0-9_]*$" });
    let uses = if actions.is_empty() { json!({ "type": "string" }) } else { json!({ "anyOf": or_pattern(actions) }) };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "runbook",
        "description": "A disaster-recovery runbook: ordered steps that bring hosts and clusters to a wanted state",
        "type": "object",
        "additionalProperties": false,
        "required": ["schema", "name", "step"],
        "properties": {
            "schema": { "const": 1, "description": "Version of the language" },
            "name": { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", "description": "Short name; the folders of its runs are named after it" },
            "description": text("What it is for"),
            "inventory": text("A file with hosts and clusters that several runbooks share"),
            "on_failure": words(&["stop", "undo_step", "undo_run"], "What becomes of the run when a step fails"),
            "targets": object(json!({ "rto": duration("How long a run may take") }), &[]),
            "inputs": named(json!({ "$ref": "#/$defs/input" }), "Values that are given when it runs"),
            "vars": named(json!(true), "Values with a name; may use inputs and the vars above them"),
            "plugins": json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": "Plugins that are not part of the program: name = path of the component" }),
            "packs": json!({ "type": "object", "additionalProperties": pack(), "description": "Packs whose plugins can be used" }),
            "hosts": named(json!({ "$ref": "#/$defs/host" }), "Machines"),
            "clusters": named(json!({ "$ref": "#/$defs/cluster" }), "Kubernetes clusters"),
            "step": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/step" } },
        },
        "$defs": {
            "id": id,
            "input": input(),
            "host": host(),
            "cluster": cluster(),
            "on": on(),
            "permit": permit(),
            "step": step(&uses, branches),
        },
    })
}

fn pack() -> Value {
    let source = text("\"NAME:VERSION\", \"NAME@sha256:DIGEST\", or the path of a pack");
    let name = json!({ "type": "string", "pattern": "^[a-z][a-z0-9_-]*$" });
    let rename = json!({ "type": "object", "additionalProperties": name, "description": "Other names for plugins of it: PLUGIN = \"NAME\"" });
    json!({ "anyOf": [source, object(json!({ "source": source, "rename": rename }), &["source"])] })
}

fn or_pattern(mut actions: Vec<Value>) -> Vec<Value> {
    // A plugin of the runbook's own is not known to the editor.
    actions.push(json!({ "type": "string", "pattern": "^[a-z][a-z0-9_-]*/[a-z][a-z0-9_-]*$" }));
    actions
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn texts(description: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": description })
}

fn words(words: &[&str], description: &str) -> Value {
    json!({ "enum": words, "description": description })
}

fn duration(description: &str) -> Value {
    json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$", "description": description })
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

fn named(value: Value, description: &str) -> Value {
    json!({ "type": "object", "propertyNames": { "$ref": "#/$defs/id" }, "additionalProperties": value, "description": description })
}

fn input() -> Value {
    object(
        json!({
            "type": words(&["string", "number", "integer", "bool", "list", "map", "secret"], "What it holds"),
            "default": { "description": "Used where nobody gives a value" },
            "description": text("For the person who is asked for it"),
            "from": {
                "description": "Where the value is read",
                "oneOf": [
                    object(json!({ "env": text("Environment variable") }), &["env"]),
                    object(json!({ "file": text("File") }), &["file"]),
                    object(json!({ "age": { "anyOf": [text("File encrypted by age"), object(json!({ "file": text("File encrypted by age"), "identity": text("Identity file") }), &["file"])] } }), &["age"]),
                    object(json!({ "command": texts("Program and arguments, run on this machine") }), &["command"]),
                    object(json!({ "prompt": text("Question to the person at the terminal") }), &["prompt"]),
                ],
            },
            "choices": { "type": "array", "description": "The only values that it may have" },
        }),
        &["type"],
    )
}

fn host() -> Value {
    object(
        json!({
            "address": text("Where it is reached"),
            "addresses": texts("Where it is reached, tried in this order"),
            "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
            "user": text("Name of the user there"),
            "identity_file": text("Private key"),
            "known_hosts": text("File of host keys to use instead of the user's"),
            "host_key": text("The one key to accept: SHA256:..."),
            "jump": text("Name of the host to connect through"),
            "become": {
                "description": "How changes that need root get it",
                "anyOf": [
                    words(&["sudo", "none"], "By which program"),
                    object(json!({ "method": words(&["sudo", "none"], "By which program"), "password": text("Its password, such as {{ inputs.NAME }}") }), &["method"]),
                ],
            },
            "labels": texts("Groups that it belongs to"),
            "vars": named(json!(true), "host.vars.NAME"),
            "transport": words(&["ssh", "local", "none"], "How it is reached"),
            "via": text("Name of the host from which its API is reached"),
            "created_by": text("Id of the step before which it does not exist"),
        }),
        &[],
    )
}

fn cluster() -> Value {
    object(
        json!({
            "kubeconfig": {
                "anyOf": [
                    text("Path of a kubeconfig"),
                    object(
                        json!({
                            "host": { "anyOf": [text("Host"), texts("Hosts, tried in this order")] },
                            "command": texts("Program and arguments that print the kubeconfig"),
                            "privileged": { "type": "boolean", "description": "With the rights of become" },
                        }),
                        &["host", "command"],
                    ),
                ],
            },
            "context": text("Context of the kubeconfig"),
            "server": text("URL to use instead of the one in the kubeconfig"),
            "via": text("Name of the host through which its API is reached"),
            "uid": text("UID of its kube-system namespace; another cluster is refused"),
            "created_by": text("Id of the step before which it does not exist"),
        }),
        &["kubeconfig"],
    )
}

fn on() -> Value {
    json!({
        "description": "A host, a label, a list, { label, except }, one expression, or one of these for each role of the action",
        "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            { "type": "object" },
        ],
    })
}

fn permit() -> Value {
    object(
        json!({
            "call": words(&POWERS, "Which call"),
            "argv": texts("Program and arguments; `*` is any one argument, a last `**` any further ones"),
            "env": texts("Names of environment variables"),
            "path": text("An absolute path; ending in /**: and all below it"),
            "kind": text("KIND or KIND.GROUP"),
            "namespace": text("A namespace"),
            "name": text("A name, perhaps ending in *"),
            "url": text("HOST:PORT or a URL, perhaps ending in *"),
            "privileged": { "type": "boolean", "description": "With the rights of become" },
        }),
        &["call"],
    )
}

fn step(uses: &Value, branches: Vec<Value>) -> Value {
    let condition = |description: &str| json!({ "type": ["string", "boolean"], "description": description });
    let mut step = object(
        json!({
            "id": { "$ref": "#/$defs/id" },
            "uses": uses,
            "include": text("Another runbook, which runs as this step"),
            "on": { "$ref": "#/$defs/on" },
            "among": { "description": "The hosts that an expression in `on` chooses from", "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
            "cluster": text("Name of the cluster"),
            "with": { "type": "object", "description": "The inputs of the action" },
            "needs": texts("The steps that it waits for; without it all steps above"),
            "when": condition("It runs only where this expression holds"),
            "unless": condition("It runs only where this expression does not hold"),
            "for_each": { "type": ["array", "object", "string"], "description": "Runs once for each element, in order" },
            "key": text("Expression that names the instances of for_each"),
            "serial": { "type": "integer", "minimum": 1, "maximum": 10000, "description": "How many hosts at once" },
            "retry": object(json!({ "attempts": { "type": "integer", "minimum": 1, "maximum": 1000 }, "backoff": duration("Wait before the second attempt") }), &["attempts"]),
            "timeout": duration("How long one attempt may take"),
            "on_unreachable": words(&["stop", "skip", "wait"], "What to do when a host does not answer"),
            "on_failure": words(&["stop", "continue"], "What becomes of the run when it fails on a host"),
            "confirm": object(json!({ "text": text("The question"), "type": text("What must be typed") }), &["text"]),
            "needs_receipt": object(json!({ "kind": text("Of what sort, such as backup"), "subject": text("Of what"), "max_age": duration("How old it may be"), "off_host": { "type": "boolean", "description": "It must not lie on a machine of the step" } }), &["kind"]),
            "undo": words(&["auto", "none"], "Whether it takes part in undo"),
            "why": text("Why it is there"),
            "manual": text("What to do by hand instead"),
            "allow": { "description": "What it may do, of what was granted; inputs computed from outputs give power inside of it alone", "anyOf": [{ "const": "asked" }, { "type": "array", "items": { "$ref": "#/$defs/permit" } }] },
        }),
        &["id"],
    );
    let properties = step["properties"].clone();
    let kept = ["id", "needs", "when", "unless", "why"].map(|key| (key.to_owned(), properties[key].clone()));
    let mut block: Map<String, Value> = kept.into_iter().collect();
    block.insert(
        "on_failure".to_owned(),
        words(&["undo", "release", "hold"], "What becomes of the block when a step of it fails"),
    );
    block.insert("do".to_owned(), json!({ "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/step" }, "description": "The steps of the block" }));
    let block = object(Value::Object(block), &["id", "do"]);
    step["oneOf"] = json!([{ "required": ["uses"] }, { "required": ["include"] }]);
    if !branches.is_empty() {
        step["allOf"] = Value::Array(branches);
    }
    json!({ "if": { "required": ["do"] }, "then": block, "else": step })
}

/// If the step uses this action, its `with` is so.
fn branch(uses: &str, action: &crate::manifest::Action) -> Value {
    let mut then = Map::new();
    let mut required: Vec<&str> = Vec::new();
    let mut properties = Map::new();
    properties.insert("with".to_owned(), open(&action.inputs, true));
    if action.inputs.get("required").and_then(Value::as_array).is_some_and(|r| !r.is_empty()) {
        required.push("with");
    }
    if action.roles.is_empty() {
        properties.insert("on".to_owned(), Value::Bool(false));
    } else if action.roles.iter().any(|r| !r.optional) {
        required.push("on");
    }
    match action.cluster {
        Need::None => drop(properties.insert("cluster".to_owned(), Value::Bool(false))),
        Need::Required => required.push("cluster"),
        Need::Optional => {}
    }
    then.insert("properties".to_owned(), Value::Object(properties));
    then.insert("required".to_owned(), json!(required));
    json!({
        "if": { "properties": { "uses": { "const": uses } }, "required": ["uses"] },
        "then": then,
    })
}

/// The schema of a value that may be a template instead. References into the schema itself stay right: they are written out.
fn open(schema: &Value, top: bool) -> Value {
    // A plugin that declares its inputs wrongly must not spoil the schema of all others.
    if top && crate::input_schema::compile(schema).is_err() {
        return Value::Bool(true);
    }
    let inlined = inline(schema, schema, 0);
    let Value::Object(mut map) = inlined else { return inlined };
    map.remove("$defs");
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        for property in properties.values_mut() {
            *property = open(property, false);
        }
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner @ Value::Object(_)) = map.get_mut(keyword) {
            *inner = open(inner, false);
        }
    }
    let takes_text = map.get("type") == Some(&json!("string"))
        && !["enum", "const", "pattern", "format", "maxLength", "minLength"].iter().any(|k| map.contains_key(*k));
    if top || takes_text || map.is_empty() {
        return Value::Object(map);
    }
    let description = map.get("description").cloned();
    let mut out = json!({ "anyOf": [map, { "type": "string", "pattern": "\\{\\{" }] });
    if let Some(description) = description {
        out["description"] = description;
    }
    out
}

/// The schema with its own `$ref`s replaced; one that leads into itself becomes "anything".
fn inline(root: &Value, schema: &Value, depth: usize) -> Value {
    match schema {
        Value::Object(map) => {
            if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                let found = target.strip_prefix('#').and_then(|p| root.pointer(p));
                return match found {
                    Some(found) if depth < 16 => inline(root, found, depth + 1),
                    _ => Value::Bool(true),
                };
            }
            Value::Object(map.iter().map(|(k, v)| (k.clone(), inline(root, v, depth))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|v| inline(root, v, depth)).collect()),
        other => other.clone(),
    }
}
