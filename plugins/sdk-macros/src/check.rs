//! What a manifest must fulfil beyond its shape. The host checks it again; here it is said to the author, at once.

use serde_json::{Map, Value};

use crate::manifest::{Action, Ask, Manifest, Pattern, Power};

/// What of an action the manifest leaves to the types of its function.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Typed {
    /// The JSON Schema of its inputs.
    pub(crate) inputs: bool,
    /// That of its outputs.
    pub(crate) outputs: bool,
}

/// An ask's reference to an input that only the compiler knows.
pub(crate) struct Reference {
    /// Index of the action.
    pub(crate) action: usize,
    /// Name of the input.
    pub(crate) name: String,
    /// What `...` makes of it.
    pub(crate) spread: Option<Spread>,
    /// What is wrong where there is no such input.
    pub(crate) otherwise: String,
}

/// What `${input.NAME...}` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// The elements of a list.
    List,
    /// The keys of a table.
    Table,
}

impl Spread {
    /// The type in a JSON Schema.
    fn word(self) -> &'static str {
        match self {
            Self::List => "array",
            Self::Table => "object",
        }
    }
}

/// All mistakes, in words; and what the compiler has to check. `typed` has an element for each action.
pub(crate) fn check(manifest: &Manifest, typed: &[Typed]) -> (Vec<String>, Vec<Reference>) {
    let (mut mistakes, mut references) = (Vec::new(), Vec::new());
    let mut say = |message: String| mistakes.push(message);
    if !is_name(&manifest.name) {
        say(format!("name {:?} is not made of a-z, 0-9 and hyphens, beginning with a letter", manifest.name));
    }
    if manifest.version.split('.').count() != 3 {
        say(format!("version {:?} is not of the form 1.2.3", manifest.version));
    }
    check_line(&manifest.summary, "summary", &mut say);
    if manifest.actions.is_empty() {
        say("there is no [[action]]".to_owned());
    }
    for (index, action) in manifest.actions.iter().enumerate() {
        if manifest.actions.iter().take(index).any(|other| other.name == action.name) {
            say(format!("there are two actions {:?}", action.name));
        }
        let typed = typed.get(index).copied().unwrap_or_default();
        let mut inputs = if typed.inputs { Inputs::Typed(Vec::new()) } else { Inputs::Schema(&action.inputs) };
        check_action(action, typed, &mut inputs, &mut say);
        if let Inputs::Typed(found) = inputs {
            references.extend(found.into_iter().map(|reference| Reference { action: index, ..reference }));
        }
    }
    (mistakes, references)
}

/// What is known here of an action's inputs.
enum Inputs<'a> {
    /// Their JSON Schema.
    Schema(&'a Value),
    /// Nothing: what asks say of them is left to the compiler.
    Typed(Vec<Reference>),
}

fn check_action(action: &Action, typed: Typed, inputs: &mut Inputs<'_>, say: &mut dyn FnMut(String)) {
    let name = &action.name;
    let mut say = |message: String| say(format!("action {name}: {message}"));
    if !is_name(name) {
        say("its name is not made of a-z, 0-9 and hyphens, beginning with a letter".to_owned());
    }
    check_line(&action.summary, "summary", &mut say);
    for (index, role) in action.roles.iter().enumerate() {
        if action.roles.iter().take(index).any(|other| other.name == role.name) {
            say(format!("there are two roles {:?}", role.name));
        }
    }
    if !typed.inputs {
        check_schema(&action.inputs, "inputs", &mut say);
    }
    if !typed.outputs {
        check_schema(&action.outputs, "outputs", &mut say);
    }
    for (index, ask) in action.asks.iter().enumerate() {
        check_ask(ask, inputs, &mut |message| say(format!("ask {}: {message}", index + 1)));
    }
    if action.needs_block && action.asks.iter().all(|ask| rights(ask.call).0) {
        say("needs_block has no meaning: it asks for nothing that changes anything".to_owned());
    }
}

fn check_schema(schema: &Value, what: &str, say: &mut dyn FnMut(String)) {
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        say(format!("{what} need `type = \"object\"`"));
    }
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        say(format!("{what} need `additionalProperties = false`, else a mistyped key is not noticed"));
    }
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for (name, property) in properties {
        if property.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
            say(format!("{what}.{name} has no description"));
        }
    }
    for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !required.as_str().is_some_and(|name| properties.contains_key(name)) {
            say(format!("{what} require {required}, which is not among their properties"));
        }
    }
}

fn check_ask(ask: &Ask, inputs: &mut Inputs<'_>, say: &mut dyn FnMut(String)) {
    check_line(&ask.reason, "reason", say);
    let Pattern { argv, env, path, kind, namespace, name, url } = &ask.on;
    let object: &[&str] = &["namespace", "name"];
    let (needs, may): (&str, &[&str]) = match ask.call {
        Power::SshReboot => ("", &[]),
        Power::SshObserve | Power::SshChange => ("argv", &["env"]),
        Power::SshNet | Power::SshHttpChange => ("url", &[]),
        Power::FilesRead | Power::FilesWrite | Power::ControllerRead | Power::ControllerWrite => ("path", &[]),
        Power::KubeRead
        | Power::KubeLogs
        | Power::KubeApply
        | Power::KubePatch
        | Power::KubeDelete
        | Power::KubeScale
        | Power::KubeEvict => ("kind", object),
        Power::KubeExecObserve | Power::KubeExecChange => ("kind", &["argv", "path", "namespace", "name"]),
    };
    let given = [
        ("argv", argv.is_some()),
        ("env", env.is_some()),
        ("path", path.is_some()),
        ("kind", kind.is_some()),
        ("namespace", namespace.is_some()),
        ("name", name.is_some()),
        ("url", url.is_some()),
    ];
    for (field, is_given) in given {
        if is_given && field != needs && !may.contains(&field) {
            say(format!("{:?} has no `on.{field}`", ask.call));
        }
        if !is_given && field == needs {
            say(format!("{:?} needs `on.{field}`", ask.call));
        }
    }
    if kind.as_ref().is_some_and(|kind| kind != "*" && kind.contains(['*', '$'])) {
        say("a kind is written `KIND`, `KIND.GROUP`, or `*` for any".to_owned());
    }
    for text in [path, kind, namespace, name, url].into_iter().flatten() {
        check_references(text, inputs, None, say);
    }
    if let Some(subject) = ask.needs_receipt.as_ref().and_then(|needs| needs.subject.as_ref()) {
        check_references(subject, inputs, None, say);
    }
    for name in env.iter().flatten() {
        check_references(name, inputs, Some(Spread::Table), say);
    }
    let argv = argv.as_deref().unwrap_or_default();
    for (index, element) in argv.iter().enumerate() {
        if element == "**" && index + 1 == argv.len() {
            continue;
        }
        check_star(element, say);
        check_references(element, inputs, Some(Spread::List), say);
    }
    for text in [namespace, name, url].into_iter().flatten().chain(env.iter().flatten()) {
        check_star(text, say);
    }
    if argv.first().is_some_and(|program| matches!(program.as_str(), "" | "*" | "**")) {
        say("the program itself may not be a wildcard".to_owned());
    }
    if let Some(path) = path {
        let stem = path.strip_suffix("/**").unwrap_or(path);
        if !path.starts_with(['/', '$']) || stem.contains('*') || path.split('/').any(|part| part == "..") {
            say(format!(
                "{path:?} must be absolute or begin with an input, without `..`, and with a star only as a final `/**`"
            ));
        }
    }
    check_rights(ask, say);
}

fn check_star(text: &str, say: &mut dyn FnMut(String)) {
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        say(format!("{text:?}: a `*` may only stand at its end, and `**` only as the last argument"));
    }
}

fn check_rights(ask: &Ask, say: &mut dyn FnMut(String)) {
    let (looks, knows_privileged) = rights(ask.call);
    if ask.privileged && !knows_privileged {
        say(format!("{:?} knows no `privileged`", ask.call));
    }
    match &ask.irreversible {
        Some(_) if looks => say(format!("{:?} only looks, so it cannot be irreversible", ask.call)),
        Some(consequence) => check_line(consequence, "irreversible", say),
        None => {}
    }
    if ask.needs_receipt.is_some() && ask.irreversible.is_none() {
        say(format!("{:?} needs a receipt, so it must be `irreversible`", ask.call));
    }
}

/// Whether it only looks, and whether it can be had with the rights of `become`.
fn rights(call: Power) -> (bool, bool) {
    match call {
        Power::SshObserve | Power::FilesRead => (true, true),
        Power::SshChange | Power::SshReboot | Power::FilesWrite => (false, true),
        Power::SshNet | Power::ControllerRead | Power::KubeRead | Power::KubeLogs | Power::KubeExecObserve => {
            (true, false)
        }
        Power::SshHttpChange
        | Power::ControllerWrite
        | Power::KubeApply
        | Power::KubePatch
        | Power::KubeDelete
        | Power::KubeScale
        | Power::KubeEvict
        | Power::KubeExecChange => (false, false),
    }
}

/// Every `${...}` names an input that there is. `${input.NAME...}` stands for all of an input of the type `spread`, and is then
/// the whole element.
fn check_references(text: &str, inputs: &mut Inputs<'_>, spread: Option<Spread>, say: &mut dyn FnMut(String)) {
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}') else {
            say(format!("{text:?}: a `${{` is not closed"));
            return;
        };
        let inner = &rest[start + 2..start + end];
        rest = &rest[start + end + 1..];
        let Some(name) = inner.strip_prefix("input.") else {
            say(format!("{text:?}: only `${{input.NAME}}` can be referred to"));
            continue;
        };
        let (name, is_spread) = name.strip_suffix("...").map_or((name, false), |name| (name, true));
        // `a.b` is the field `b` of the input `a`.
        let top = name.split('.').next().unwrap_or(name);
        let spread = spread.filter(|_| is_spread);
        if is_spread && (spread.is_none() || text.len() != inner.len() + 3) {
            say(format!("{text:?}: `...` stands only in argv and env, and as an element of its own"));
        }
        let kind = spread.map(|spread| format!(" of type {}", spread.word())).unwrap_or_default();
        let otherwise = format!("{text:?}: there is no input {name:?}{kind}");
        match inputs {
            Inputs::Schema(schema) => {
                let property = schema.pointer("/properties").and_then(|p| p.get(top));
                let fits = |property: &Value| spread.is_none_or(|spread| property.to_string().contains(spread.word()));
                if !property.is_some_and(fits) {
                    say(otherwise);
                }
            }
            Inputs::Typed(found) => {
                found.push(Reference { action: 0, name: top.to_owned(), spread, otherwise });
            }
        }
    }
}

fn check_line(text: &str, what: &str, say: &mut dyn FnMut(String)) {
    if text.trim().is_empty() || text.contains('\n') {
        say(format!("its {what} must be one line"));
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "demo"
        version = "0.1.0"
        summary = "Shows how."
        [[action]]
        name = "hello"
        summary = "Says hello."
        inputs.type = "object"
        inputs.additionalProperties = false
        inputs.properties.argv = { type = "array", description = "What is run." }
        [[action.role]]
        name = "host"
        [[action.ask]]
        call = "ssh.change"
        on.argv = ["${input.argv...}"]
        reason = "It is what the step says."
    "#;

    fn mistakes(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        check(&toml::from_str(&GOOD.replace(from, to)).expect("a manifest"), &[]).0.join("\n")
    }

    #[test]
    fn a_good_manifest_has_no_mistakes() {
        assert_eq!(mistakes("demo", "demo"), "");
    }

    #[test]
    fn what_the_types_say_is_left_to_the_compiler() {
        let manifest = toml::from_str(&GOOD.replace("input.argv", "input.typed")).expect("a manifest");
        let (mistakes, references) = check(&manifest, &[Typed { inputs: true, outputs: true }]);
        assert_eq!(mistakes, [""; 0]);
        let [reference] = references.as_slice() else { panic!("one reference") };
        assert_eq!((reference.name.as_str(), reference.spread), ("typed", Some(Spread::List)));
        assert!(reference.otherwise.contains("no input \"typed\""), "{}", reference.otherwise);
    }

    #[test]
    fn only_what_changes_something_needs_a_block() {
        let needs_block = "summary = \"Says hello.\"\nneeds_block = true";
        assert_eq!(mistakes("summary = \"Says hello.\"", needs_block), "");
        let looks = GOOD.replace("summary = \"Says hello.\"", needs_block).replace("ssh.change", "ssh.observe");
        let found = check(&toml::from_str(&looks).expect("a manifest"), &[]).0.join("\n");
        assert!(found.contains("needs_block has no meaning"), "{found}");
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, expect) in [
            (r#""demo""#, r#""De mo""#, "is not made of"),
            ("0.1.0", "0.1", "1.2.3"),
            ("Says hello.", "", "summary must be one line"),
            ("inputs.additionalProperties = false", "", "additionalProperties = false"),
            (r#", description = "What is run.""#, "", "inputs.argv has no description"),
            ("${input.argv...}", "${input.args...}", "no input \"args\""),
            ("${input.argv...}", "x${input.argv...}", "an element of its own"),
            (r#"type = "array""#, r#"type = "string""#, "no input \"argv\" of type array"),
            (r#"["${input.argv...}"]"#, r#"["a", "**", "b"]"#, "only as the last argument"),
            (r#"["${input.argv...}"]"#, r#"["grep", "[a-z]*$"]"#, "only stand at its end"),
            ("on.argv = [\"${input.argv...}\"]", "on.path = \"/etc\"", "needs `on.argv`"),
            ("reason =", "needs_receipt.kind = \"backup\"\nreason =", "must be `irreversible`"),
            (
                "reason =",
                "irreversible = \"gone\"\nneeds_receipt = { kind = \"b\", subject = \"${input.x}\" }\nreason =",
                "no input \"x\"",
            ),
        ] {
            let found = mistakes(from, to);
            assert!(found.contains(expect), "{to}: {found:?} does not say {expect:?}");
        }
    }
}
