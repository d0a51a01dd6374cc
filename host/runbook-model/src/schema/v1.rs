//! Version 1 of the language, as it is written: shapes and words are checked here, names are not.

use std::ops::Range;

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::plan::{
    Become, BecomeMethod, Cluster as PlanCluster, Host as PlanHost, InputDef, InputFrom, InputType, Kubeconfig,
    OnFailure, Targets, Transport,
};
use crate::schema::node::{Data, Entry, Node, table_to_json};
use crate::schema::read::{Fields, Reading, Spanned};
use crate::schema::v1_block::{self, Block};
use crate::schema::v1_packs;
use crate::schema::v1_step::Step;

/// A runbook as it is written.
#[derive(Debug, Default)]
pub struct File {
    /// `name`.
    pub name: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// `inventory`.
    pub inventory: Option<Spanned<String>>,
    /// `on_failure`.
    pub on_failure: OnFailure,
    /// `targets`.
    pub targets: Targets,
    /// `[inputs.NAME]`.
    pub inputs: Vec<Input>,
    /// `[vars]`.
    pub vars: Vec<Entry>,
    /// `[plugins]`.
    pub plugins: Vec<(Spanned<String>, Spanned<String>)>,
    /// `[packs]`.
    pub packs: Vec<v1_packs::Pack>,
    /// `[hosts.NAME]`.
    pub hosts: Vec<Host>,
    /// `[clusters.NAME]`.
    pub clusters: Vec<Cluster>,
    /// `[[step]]`, those of blocks among them.
    pub steps: Vec<Step>,
    /// The blocks.
    pub blocks: Vec<Block>,
}

/// An input as it is written.
#[derive(Debug)]
pub struct Input {
    /// Where its name stands.
    pub span: Range<usize>,
    /// The input.
    pub def: InputDef,
}

/// A host as it is written. The names in `host` are not checked yet.
#[derive(Debug)]
pub struct Host {
    /// Where its name stands.
    pub span: Range<usize>,
    /// The host.
    pub host: PlanHost,
    /// Its labels, with places.
    pub labels: Vec<Spanned<String>>,
    /// `jump`, `via` and `created_by`, with places.
    pub jump: Option<Spanned<String>>,
    /// See `jump`.
    pub via: Option<Spanned<String>>,
    /// See `jump`.
    pub created_by: Option<Spanned<String>>,
    /// All texts that may hold templates.
    pub templates: Vec<Spanned<String>>,
}

/// A cluster as it is written. The names in `cluster` are not checked yet.
#[derive(Debug)]
pub struct Cluster {
    /// Where its name stands.
    pub span: Range<usize>,
    /// The cluster.
    pub cluster: PlanCluster,
    /// `via`, with its place.
    pub via: Option<Spanned<String>>,
    /// `created_by`, with its place.
    pub created_by: Option<Spanned<String>>,
    /// The hosts of `kubeconfig`, with places.
    pub hosts: Vec<Spanned<String>>,
    /// All texts that may hold templates.
    pub templates: Vec<Spanned<String>>,
}

/// Checks the `schema` key. False: the rest cannot be read with these rules.
pub fn check_schema(r: &Reading<'_>, root: &Node, required: bool) -> bool {
    let Some(entry) = root.entry("schema") else {
        if required {
            let diagnostic = Diagnostic::error("missing-key", "the runbook does not say its `schema`")
                .help("begin the file with `schema = 1`: the version of the language that it is written in");
            r.report(&(0..0), diagnostic);
        }
        return true;
    };
    match &entry.value.data {
        Data::Integer(1) | Data::Broken => true,
        Data::Integer(number) => {
            let help = if *number > 1 {
                "it was written for a newer version of runbook: install that one"
            } else {
                "the first version is `schema = 1`"
            };
            let message = format!("this version of runbook reads schema 1, and the file says {number}");
            r.report(&entry.value.span, Diagnostic::error("schema-version", message).help(help));
            false
        }
        _ => {
            let message = format!("`schema` must be the number 1, not {}", entry.value.kind());
            r.report(&entry.value.span, Diagnostic::error("schema-version", message).help("write `schema = 1`"));
            false
        }
    }
}

/// Reads a runbook.
pub fn read_file(r: &Reading<'_>, root: &Node) -> File {
    let Some(f) = r.fields(root, "runbook", "a runbook") else { return File::default() };
    let _ = f.node("schema");
    let name = f.required_text("name", "give it a short name, such as `name = \"homelab-dr\"`").and_then(|name| {
        let ok = name.value.len() <= 64
            && name.value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !ok {
            let diagnostic = Diagnostic::error("bad-name", format!("`{}` cannot be the name of a runbook", name.value))
                .help("at most 64 letters, digits, `-`, `_` and `.`: the folders of its runs are named after it");
            r.report(&name.span, diagnostic);
        }
        ok.then_some(name.value)
    });
    let (steps, blocks) = read_steps(r, &f);
    let file = File {
        name,
        description: f.text("description").map(|t| t.value),
        inventory: f.text("inventory"),
        on_failure: f
            .word(
                "on_failure",
                &[("stop", OnFailure::Stop), ("undo_step", OnFailure::UndoStep), ("undo_run", OnFailure::UndoRun)],
            )
            .unwrap_or_default(),
        targets: read_targets(r, &f),
        inputs: f.named("inputs", "an input").into_iter().filter_map(|e| read_input(r, e)).collect(),
        vars: f.named("vars", "a var").into_iter().cloned().collect(),
        plugins: v1_packs::read_plugins(r, &f),
        packs: v1_packs::read_packs(r, &f),
        hosts: f.named("hosts", "a host").into_iter().filter_map(|e| read_host(r, e)).collect(),
        clusters: f.named("clusters", "a cluster").into_iter().filter_map(|e| read_cluster(r, e)).collect(),
        steps,
        blocks,
    };
    f.finish();
    file
}

/// Reads the hosts and clusters of an inventory.
pub fn read_inventory(r: &Reading<'_>, root: &Node) -> (Vec<Host>, Vec<Cluster>) {
    let Some(f) = r.fields(root, "inventory", "an inventory") else { return (Vec::new(), Vec::new()) };
    let _ = f.node("schema");
    let hosts = f.named("hosts", "a host").into_iter().filter_map(|e| read_host(r, e)).collect();
    let clusters = f.named("clusters", "a cluster").into_iter().filter_map(|e| read_cluster(r, e)).collect();
    f.finish();
    (hosts, clusters)
}

fn read_targets(r: &Reading<'_>, f: &Fields<'_, '_>) -> Targets {
    let Some(t) = f.node("targets").and_then(|n| r.fields(n, "targets", "`targets`")) else {
        return Targets::default();
    };
    let targets = Targets { rto_ms: t.duration("rto") };
    t.finish();
    targets
}

fn read_steps(r: &Reading<'_>, f: &Fields<'_, '_>) -> (Vec<Step>, Vec<Block>) {
    let nothing = || (Vec::new(), Vec::new());
    let Some(node) = f.required("step", "add a step: `[[step]]` with `id` and `uses`") else { return nothing() };
    match &node.data {
        Data::List(nodes) if nodes.is_empty() => {
            r.report(&node.span, Diagnostic::error("missing-key", "a runbook needs at least one step"));
            nothing()
        }
        Data::List(nodes) => v1_block::read_all(r, nodes),
        Data::Table(_) => {
            let diagnostic = Diagnostic::error("not-a-list", "`step` must be a list of tables, not one table");
            r.report(&node.span, diagnostic.help("begin each step with `[[step]]`, in two brackets"));
            nothing()
        }
        _ => {
            r.wrong_type("step", "a list of tables", node);
            nothing()
        }
    }
}

fn read_input(r: &Reading<'_>, entry: &Entry) -> Option<Input> {
    let f = r.fields(&entry.value, &entry.key, "an input")?;
    let words = ["string", "number", "integer", "bool", "list", "map", "secret"];
    let types: Vec<(&'static str, InputType)> =
        words.iter().filter_map(|w| InputType::from_word(w).map(|t| (*w, t))).collect();
    let help = "say what it holds: \"string\", \"number\", \"integer\", \"bool\", \"list\", \"map\" or \"secret\"";
    let kind = f.required_text("type", help).and_then(|text| f.pick("type", &text, &types));
    let default = f.node("default");
    let choices = f.node("choices");
    let description = f.text("description").map(|t| t.value);
    let from = f.node("from").and_then(|n| read_from(r, n));
    f.finish();
    let kind = kind?;
    if kind == InputType::Secret {
        if let Some(node) = default {
            let diagnostic = Diagnostic::error("secret-in-file", format!("the secret `{}` has a default", entry.key))
                .help(
                    "a secret never stands in a file: use `from = { env = \"NAME\" }`, or file, age, command, prompt",
                );
            r.report(&node.span, diagnostic);
        }
        if let Some(node) = choices {
            r.report(
                &node.span,
                Diagnostic::error("bad-value", format!("the secret `{}` cannot have choices", entry.key)),
            );
        }
    }
    let mut def = InputDef { name: entry.key.clone(), kind, default: None, description, from, choices: Vec::new() };
    if let Some(node) = choices {
        match &node.data {
            Data::List(nodes) => def.choices = nodes.iter().filter_map(|n| typed_value(r, &def, n)).collect(),
            _ => r.wrong_type("choices", "a list", node),
        }
    }
    def.default = default.filter(|_| kind != InputType::Secret).and_then(|n| typed_value(r, &def, n));
    if kind == InputType::Secret && def.from.is_none() {
        let question = def.description.clone().unwrap_or_else(|| def.name.clone());
        def.from = Some(InputFrom::Prompt(question));
    }
    Some(Input { span: entry.key_span.clone(), def })
}

/// A default or choice, if it is of the input's type.
fn typed_value(r: &Reading<'_>, def: &InputDef, node: &Node) -> Option<Value> {
    if node.has_broken() {
        return None;
    }
    match crate::inputs::check_value(def, node.to_json()) {
        Ok(value) => Some(value),
        Err(wrong) => {
            r.report(&node.span, Diagnostic::error("wrong-type", format!("input `{}` {wrong}", def.name)));
            None
        }
    }
}

fn read_from(r: &Reading<'_>, node: &Node) -> Option<InputFrom> {
    const HELP: &str = "one of { env = \"NAME\" }, { file = \"PATH\" }, { age = \"PATH\" }, { command = [\"PROGRAM\", ..] }, { prompt = \"TEXT\" }";
    let f = r.fields(node, "from", "`from`")?;
    let env = f.text("env").map(|t| InputFrom::Env(t.value));
    let file = f.text("file").map(|t| InputFrom::File(t.value));
    let prompt = f.text("prompt").map(|t| InputFrom::Prompt(t.value));
    let age = f.node("age").and_then(|n| match &n.data {
        Data::String(file) => Some(InputFrom::Age { file: file.clone(), identity: None }),
        _ => {
            let a = r.fields(n, "age", "`age`")?;
            let file = a.required_text("file", "the path of the encrypted file");
            let identity = a.text("identity").map(|t| t.value);
            a.finish();
            Some(InputFrom::Age { file: file?.value, identity })
        }
    });
    let command = f.texts("command").and_then(|argv| {
        if argv.is_empty() {
            r.report(&node.span, Diagnostic::error("empty", "`command` names no program"));
            return None;
        }
        Some(InputFrom::Command(argv.into_iter().map(|t| t.value).collect()))
    });
    f.finish();
    let given = node.as_table().map_or(0, <[Entry]>::len);
    if given != 1 {
        r.report(&node.span, Diagnostic::error("bad-value", "`from` must name exactly one place").help(HELP));
        return None;
    }
    [env, file, age, command, prompt].into_iter().flatten().next()
}

fn read_host(r: &Reading<'_>, entry: &Entry) -> Option<Host> {
    let f = r.fields(&entry.value, &entry.key, "a host")?;
    let mut templates = Vec::new();
    let mut template = |text: Option<Spanned<String>>| {
        text.map(|t| {
            templates.push(t.clone());
            t.value
        })
    };
    let transport = f
        .word("transport", &[("ssh", Transport::Ssh), ("local", Transport::Local), ("none", Transport::None)])
        .unwrap_or_default();
    let one = f.text("address");
    let several = f.texts("addresses");
    let has_address = f.node("address").is_some();
    if has_address && let Some(e) = f.entry("addresses") {
        let diagnostic = Diagnostic::error("conflict", "`address` and `addresses` cannot both be given");
        r.report(
            &e.key_span,
            diagnostic.help("put all of them into `addresses`, in the order in which they are tried"),
        );
    }
    let given: Vec<Spanned<String>> = one.into_iter().chain(several.into_iter().flatten()).collect();
    for text in given.iter().filter(|t| t.value.trim().is_empty()) {
        r.report(&text.span, Diagnostic::error("empty", "the address is empty"));
    }
    if transport == Transport::Ssh
        && !has_address
        && f.node("addresses").is_none_or(|n| matches!(&n.data, Data::List(l) if l.is_empty()))
    {
        f.missing(
            "address",
            "say where it is reached: `address = \"192.168.1.10\"`; this machine itself is `transport = \"local\"`",
        );
    }
    let addresses = given.into_iter().filter_map(|t| template(Some(t))).collect();
    if transport != Transport::Ssh {
        let word = if transport == Transport::Local { "local" } else { "none" };
        for key in ["port", "identity_file", "known_hosts", "host_key", "jump"] {
            if let Some(e) = entry.value.entry(key) {
                let message = format!("`{key}` has no meaning with `transport = \"{word}\"`");
                r.report(&e.key_span, Diagnostic::error("conflict", message));
            }
        }
    }
    let port = f.integer("port", 1..=65_535).and_then(|p| u16::try_from(p).ok());
    let user = template(f.text("user"));
    let identity_file = template(f.text("identity_file"));
    let known_hosts = template(f.text("known_hosts"));
    let host_key = f.text("host_key");
    if let Some(key) = &host_key
        && !key.value.starts_with("SHA256:")
        && !key.value.contains("{{")
    {
        let diagnostic = Diagnostic::error("bad-value", "`host_key` is not a fingerprint")
            .help("it looks like \"SHA256:...\"; `ssh-keygen -lf` prints it");
        r.report(&key.span, diagnostic);
    }
    let host_key = template(host_key);
    let elevation = f.node("become").map(|n| read_become(r, n, &mut templates)).unwrap_or_default();
    let labels = f.texts("labels").unwrap_or_default();
    for label in &labels {
        let ok = label.value.starts_with(|c: char| c.is_ascii_lowercase())
            && label.value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
        if !ok {
            let message = format!("`{}` cannot be a label", label.value);
            r.report(&label.span, Diagnostic::error("bad-id", message).help("lower-case letters, digits, `-` and `_`"));
        }
    }
    let vars = read_vars(r, &f, &mut templates);
    let (jump, via, created_by) = (f.text("jump"), f.text("via"), f.text("created_by"));
    f.finish();
    Some(Host {
        span: entry.key_span.clone(),
        host: PlanHost {
            name: entry.key.clone(),
            addresses,
            port,
            user,
            identity_file,
            known_hosts,
            host_key,
            jump: jump.as_ref().map(|t| t.value.clone()),
            elevation,
            labels: labels.iter().map(|t| t.value.clone()).collect(),
            vars,
            transport,
            via: via.as_ref().map(|t| t.value.clone()),
            created_by: created_by.as_ref().map(|t| t.value.clone()),
        },
        labels,
        jump,
        via,
        created_by,
        templates,
    })
}

fn read_vars(r: &Reading<'_>, f: &Fields<'_, '_>, templates: &mut Vec<Spanned<String>>) -> Map<String, Value> {
    let entries: Vec<Entry> = f.named("vars", "a var").into_iter().cloned().collect();
    for entry in &entries {
        entry.value.strings("", &mut |_, node, text| templates.push(Spanned::new(text.to_owned(), node.span.clone())));
    }
    let _ = r;
    table_to_json(&entries)
}

fn read_become(r: &Reading<'_>, node: &Node, templates: &mut Vec<Spanned<String>>) -> Become {
    let words = [("sudo", BecomeMethod::Sudo), ("none", BecomeMethod::None)];
    if let Data::String(text) = &node.data {
        let f = r.entries(&[], node.span.clone(), "`become`");
        let method = f.pick("become", &Spanned::new(text.clone(), node.span.clone()), &words).unwrap_or_default();
        return Become { method, password: None };
    }
    let Some(f) = r.fields(node, "become", "`become`") else { return Become::default() };
    let method = f
        .required_text("method", "say how: `method = \"sudo\"`")
        .and_then(|text| f.pick("method", &text, &words))
        .unwrap_or_default();
    let password = f.text("password");
    f.finish();
    if let Some(text) = &password {
        if !text.value.contains("{{") {
            let diagnostic = Diagnostic::warning(
                "secret-in-file",
                "the password stands in the file, readable by whoever can read it",
            )
            .help("declare an input of type \"secret\" and write `password = \"{{ inputs.NAME }}\"`");
            r.report(&text.span, diagnostic);
        }
        templates.push(text.clone());
    }
    Become { method, password: password.map(|t| Value::String(t.value)) }
}

fn read_cluster(r: &Reading<'_>, entry: &Entry) -> Option<Cluster> {
    let f = r.fields(&entry.value, &entry.key, "a cluster")?;
    let mut templates = Vec::new();
    let mut hosts = Vec::new();
    let help = "a path, or { host = \"NAME\", command = [\"microk8s\", \"config\"] }";
    let kubeconfig = f.required("kubeconfig", help).and_then(|node| match &node.data {
        Data::String(path) if path.is_empty() => {
            r.report(&node.span, Diagnostic::error("empty", "`kubeconfig` is empty").help(help));
            None
        }
        Data::String(path) => {
            templates.push(Spanned::new(path.clone(), node.span.clone()));
            Some(Kubeconfig::File(path.clone()))
        }
        Data::Table(_) => {
            let k = r.fields(node, "kubeconfig", "`kubeconfig`")?;
            hosts = k
                .required("host", "the host that runs the command")
                .and_then(|n| r.text_or_texts("host", n))
                .unwrap_or_default();
            let command = k
                .required("command", "program and arguments that print the kubeconfig")
                .and_then(|n| r.texts("command", n));
            if command.as_ref().is_some_and(Vec::is_empty) {
                r.report(&node.span, Diagnostic::error("empty", "`command` names no program"));
            }
            let privileged = k.flag("privileged").unwrap_or_default();
            k.finish();
            let command = command.unwrap_or_default();
            templates.extend(command.iter().cloned());
            Some(Kubeconfig::Host {
                hosts: hosts.iter().map(|t| t.value.clone()).collect(),
                command: command.into_iter().map(|t| t.value).collect(),
                privileged,
            })
        }
        _ => {
            r.wrong_type("kubeconfig", "a path or a table", node);
            None
        }
    });
    let mut template = |text: Option<Spanned<String>>| {
        text.map(|t| {
            templates.push(t.clone());
            t.value
        })
    };
    let (context, server, uid) = (template(f.text("context")), template(f.text("server")), template(f.text("uid")));
    let (via, created_by) = (f.text("via"), f.text("created_by"));
    f.finish();
    Some(Cluster {
        span: entry.key_span.clone(),
        cluster: PlanCluster {
            name: entry.key.clone(),
            // A cluster whose kubeconfig was reported stays known by name, so that its steps are not reported too.
            kubeconfig: kubeconfig.unwrap_or_else(|| Kubeconfig::File(String::new())),
            context,
            server,
            via: via.as_ref().map(|t| t.value.clone()),
            uid,
            created_by: created_by.as_ref().map(|t| t.value.clone()),
        },
        via,
        created_by,
        hosts,
        templates,
    })
}
