//! The names in expressions, checked before anything runs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Source, did_you_mean, name_help};
use crate::expr::syntax::{Analysis, Piece, Reference, Segment, SyntaxError, Use, analyse, bare, is_template, split};
use crate::expr::{SECRET_HELP, filter_names, function_names, is_reserved, test_names};
use crate::parse::set::StepSet;
use crate::plan::{Host, InputDef, InputType};
use crate::schema::node::{Data, Entry, Node};
use crate::schema::read::Reading;

/// What is known at the top of a runbook.
pub(super) struct Known<'k> {
    pub(super) inputs: &'k [InputDef],
    pub(super) vars: &'k [Entry],
    /// Whether a secret lies behind a name in `vars`, for the names that were asked for. Vars are made of vars: without this, a
    /// chain of them would be walked once for each way through it.
    pub(super) secrets: &'k RefCell<BTreeMap<String, bool>>,
}

/// A step as the expressions of others see it.
pub(super) struct StepInfo<'k> {
    pub(super) id: String,
    /// Schema of the outputs; none: the action is not known, so nothing is said of its outputs.
    pub(super) outputs: Option<&'k Value>,
    pub(super) is_include: bool,
    /// The hosts that it fans out over; none: it does not, or they are not known before the run.
    pub(super) hosts: Option<Vec<String>>,
    pub(super) fans_out: bool,
    pub(super) for_each: bool,
}

/// The steps, as one of them sees them.
pub(super) struct StepNames<'k> {
    pub(super) all: &'k [StepInfo<'k>],
    /// Their places in `all`, by id; the first where an id stands twice.
    pub(super) places: &'k BTreeMap<&'k str, usize>,
    pub(super) current: usize,
    /// The steps that have ended when this one begins.
    pub(super) before: &'k StepSet,
}

/// The names that an expression may use at its place.
pub(super) struct Names<'k> {
    pub(super) known: &'k Known<'k>,
    /// How many vars are known here: those above the one that is being defined.
    pub(super) vars: usize,
    /// None: steps cannot be used here, because the value is needed before the run begins.
    pub(super) steps: Option<StepNames<'k>>,
    /// The hosts that `host` may be; none: there is no `host` here.
    pub(super) host: Option<Vec<&'k Host>>,
    pub(super) item: bool,
    pub(super) labels: Option<&'k BTreeSet<&'k str>>,
}

impl<'k> Names<'k> {
    /// The names for values that are needed before the run begins: vars, hosts, clusters.
    pub(super) fn of_values(known: &'k Known<'k>, vars: usize) -> Self {
        Self { known, vars, steps: None, host: None, item: false, labels: None }
    }

    /// Checks all texts of a value, and its keys.
    pub(super) fn check_value(&self, r: &Reading<'_>, node: &Node, secret_ok: bool) {
        check_keys(r, node);
        node.strings("", &mut |_, at, text| self.check_text(r, text, &at.span, secret_ok));
    }

    /// Checks a text with expressions in it.
    pub(super) fn check_text(&self, r: &Reading<'_>, text: &str, span: &Range<usize>, secret_ok: bool) {
        if !is_template(text) {
            return;
        }
        let place = Place { r, span, text };
        match split(text) {
            Err(error) => place.syntax(0, error),
            Ok(pieces) => {
                for piece in pieces {
                    if let Piece::Expr(expr, offset) = piece {
                        self.check_expr(&place, expr, offset, secret_ok);
                    }
                }
            }
        }
    }

    /// Checks a bare expression.
    pub(super) fn check_condition(&self, r: &Reading<'_>, text: &str, span: &Range<usize>) {
        let place = Place { r, span, text };
        match bare(text) {
            Err(error) => place.syntax(0, error),
            Ok((expr, offset)) => self.check_expr(&place, expr, offset, false),
        }
    }

    fn check_expr(&self, place: &Place<'_>, expr: &str, offset: usize, secret_ok: bool) {
        let analysis = match analyse(expr) {
            Ok(analysis) => analysis,
            Err(error) => return place.syntax(offset, error),
        };
        self.check_uses(place, offset, &analysis);
        for reference in &analysis.references {
            let range = reference.range.start + offset..reference.range.end + offset;
            if let Some(diagnostic) = self.check_reference(reference, &analysis) {
                place.report(range, diagnostic);
            } else if self.is_secret(reference)
                && !(secret_ok && reference.passed_on && !(reference.root == "inputs" && reference.path.len() > 1))
            {
                let message = if secret_ok {
                    format!("`{}` is a secret: it can only be passed on, not computed with", reference.display())
                } else {
                    format!("`{}` is a secret, which cannot stand here", reference.display())
                };
                place.report(range, Diagnostic::error("secret", message).help(SECRET_HELP));
            }
        }
    }

    fn check_uses(&self, place: &Place<'_>, offset: usize, analysis: &Analysis) {
        let unknown = |used: &Use, what: &str, whats: &str, known: &[&str]| {
            if !known.contains(&used.name.as_str()) {
                let diagnostic = Diagnostic::error("undefined-name", format!("there is no {what} `{}`", used.name))
                    .maybe_help(name_help(&used.name, whats, known.iter().copied()));
                place.report(used.range.start + offset..used.range.end + offset, diagnostic);
            }
        };
        analysis.filters.iter().for_each(|f| unknown(f, "filter", "filters", filter_names()));
        analysis.tests.iter().for_each(|t| unknown(t, "test", "tests", test_names()));
        for function in &analysis.functions {
            unknown(function, "function", "functions", function_names());
            if let (true, Some(label), Some(labels)) = (function.name == "hosts", &function.text, self.labels)
                && !labels.contains(label.as_str())
            {
                let diagnostic = Diagnostic::error("undefined-host", format!("no host has the label `{label}`"))
                    .maybe_help(name_help(label, "labels", labels.iter().copied()));
                place.report(function.range.start + offset..function.range.end + offset, diagnostic);
            }
            if function.name == "hosts" && self.steps.is_none() {
                let message = "`hosts(...)` cannot be used here: its hosts are resolved later";
                place.report(
                    function.range.start + offset..function.range.end + offset,
                    Diagnostic::error("undefined-name", message),
                );
            }
        }
        for method in &analysis.methods {
            let diagnostic = Diagnostic::error("undefined-name", format!("values have no method `{}`", method.name))
                .help(format!(
                    "filters are written with a bar, such as `x | {}`",
                    did_you_mean(&method.name, filter_names().iter().copied()).unwrap_or("lower")
                ));
            place.report(method.range.start + offset..method.range.end + offset, diagnostic);
        }
    }

    fn check_reference(&self, reference: &Reference, analysis: &Analysis) -> Option<Diagnostic> {
        let undefined = |message: String| Diagnostic::error("undefined-name", message);
        let key = reference.key(0);
        match (reference.root.as_str(), key) {
            ("inputs", Some(name)) => {
                let Some(input) = self.known.inputs.iter().find(|i| i.name == name) else {
                    let names = self.known.inputs.iter().map(|i| i.name.as_str());
                    return Some(
                        undefined(format!("there is no input `{name}`")).maybe_help(name_help(name, "inputs", names)),
                    );
                };
                let inner = reference.key(1).filter(|_| !matches!(input.kind, InputType::List | InputType::Map))?;
                let article = if input.kind == InputType::Integer { "an" } else { "a" };
                Some(undefined(format!("input `{name}` is {article} {}, which has no `{inner}`", input.kind.word())))
            }
            ("vars", Some(name)) => {
                let at = self.known.vars.iter().position(|v| v.key == name);
                let names = self.known.vars.iter().map(|v| v.key.as_str());
                match at {
                    None => {
                        Some(undefined(format!("there is no var `{name}`")).maybe_help(name_help(name, "vars", names)))
                    }
                    Some(at) if at >= self.vars => Some(
                        undefined(format!("the var `{name}` is defined further down"))
                            .help("a var may use the vars above it"),
                    ),
                    Some(_) => None,
                }
            }
            ("inputs" | "vars", None) if matches!(reference.path.first(), Some(Segment::Dynamic)) => None,
            ("inputs" | "vars", None) => Some(undefined(format!("`{0}` needs a name: `{0}.NAME`", reference.root))),
            ("run", Some("id" | "dir")) => None,
            ("run", _) => Some(undefined("`run` has the names `run.id` and `run.dir`".to_owned())),
            ("item", _) if self.item => None,
            ("item", _) => Some(undefined("`item` is known only in a step with `for_each`".to_owned())),
            ("host", _) => self.check_host(reference, analysis),
            ("steps", _) => self.check_step(reference),
            (root, _) => Some(self.check_root(root)),
        }
    }

    /// A first name that does not exist.
    fn check_root(&self, root: &str) -> Diagnostic {
        let mut help = None;
        if self.known.inputs.iter().any(|i| i.name == root) {
            help = Some(format!("did you mean `inputs.{root}`?"));
        } else if self.known.vars.iter().any(|v| v.key == root) {
            help = Some(format!("did you mean `vars.{root}`?"));
        } else if self.steps.as_ref().is_some_and(|s| s.all.iter().any(|i| i.id == root)) {
            help = Some(format!("did you mean `steps.{root}`?"));
        } else if let Some(best) = did_you_mean(root, ["inputs", "vars", "host", "steps", "item", "run"]) {
            help = Some(format!("did you mean `{best}`?"));
        }
        let help = help.unwrap_or_else(|| {
            "names begin with `inputs`, `vars`, `host`, `steps`, `item` or `run`; a text stands in quotes; for the characters `{{` \
             themselves write {{ \"{{\" }}"
                .to_owned()
        });
        Diagnostic::error("undefined-name", format!("`{root}` is not defined")).help(help)
    }

    fn check_host(&self, reference: &Reference, analysis: &Analysis) -> Option<Diagnostic> {
        let undefined = |message: String| Diagnostic::error("undefined-name", message);
        let Some(hosts) = &self.host else {
            return Some(undefined("`host` is not known here: this does not belong to one host".to_owned()));
        };
        match reference.key(0) {
            Some("name" | "address" | "labels") => None,
            Some("vars") => {
                // An expression that looks whether it is there knows that it may not be.
                let careful = analysis.filters.iter().any(|f| f.name == "default" || f.name == "d")
                    || analysis.tests.iter().any(|t| t.name == "defined" || t.name == "undefined");
                let name = reference.key(1)?;
                let without = hosts.iter().find(|h| !h.vars.contains_key(name)).filter(|_| !careful)?;
                let names = without.vars.keys().map(String::as_str);
                Some(
                    undefined(format!("host `{}` has no var `{name}`", without.name))
                        .maybe_help(name_help(name, "vars", names)),
                )
            }
            Some(other) => Some(undefined(format!("`host` has no `{other}`")).maybe_help(name_help(
                other,
                "names in it",
                ["name", "address", "labels", "vars"],
            ))),
            None => Some(undefined(
                "`host` needs a name: `host.name`, `host.address`, `host.labels`, `host.vars.NAME`".to_owned(),
            )),
        }
    }

    fn check_step(&self, reference: &Reference) -> Option<Diagnostic> {
        let undefined = |message: String| Diagnostic::error("undefined-name", message);
        let Some(steps) = &self.steps else {
            return Some(undefined(
                "outputs of steps cannot be used here: the value is needed before the first step".to_owned(),
            ));
        };
        let Some(id) = reference.key(0) else {
            return Some(undefined("`steps` needs the id of a step: `steps.ID.outputs.NAME`".to_owned()));
        };
        let Some(&index) = steps.places.get(id) else {
            let diagnostic = Diagnostic::error("undefined-step", format!("there is no step `{id}`"));
            return Some(diagnostic.maybe_help(name_help(id, "steps", steps.all.iter().map(|s| s.id.as_str()))));
        };
        let current = &steps.all[steps.current].id;
        if index >= steps.current {
            let message = format!("step `{current}` uses `{id}`, which does not run before it");
            return Some(Diagnostic::error("needs-order", message).help(format!("move `{id}` above `{current}`")));
        }
        if !steps.before.contains(index) {
            let message = format!("step `{current}` uses `{id}`, but does not wait for it");
            return Some(Diagnostic::error("needs-order", message).help(format!("add \"{id}\" to `needs`")));
        }
        self.check_step_path(reference, &steps.all[index])
    }

    fn check_step_path(&self, reference: &Reference, step: &StepInfo<'_>) -> Option<Diagnostic> {
        let undefined = |message: String| Diagnostic::error("undefined-name", message);
        let id = &step.id;
        let parts = ["outcome", "outputs", "on"];
        let (mut part, mut output) = (reference.key(1), 2);
        if part == Some("on") {
            match (reference.key(2), &step.hosts) {
                (Some(host), Some(hosts)) if !step.for_each && !hosts.iter().any(|h| h == host) => {
                    return Some(undefined(format!("step `{id}` does not run on `{host}`")).maybe_help(name_help(
                        host,
                        "hosts",
                        hosts.iter().map(String::as_str),
                    )));
                }
                (None, _) if reference.path.len() < 3 => {
                    return Some(undefined(format!("say which: `steps.{id}.on[\"NAME\"].outputs`")));
                }
                _ => {}
            }
            (part, output) = (reference.key(3), 4);
        }
        match part {
            Some("outcome") => None,
            Some("outputs") if step.is_include => Some(
                undefined(format!("step `{id}` includes a runbook, which has no outputs"))
                    .help(format!("`steps.{id}.outcome` is known")),
            ),
            Some("outputs") => {
                if reference.key(1) == Some("outputs")
                    && let Some(diagnostic) = self.check_same_host(step)
                {
                    return Some(diagnostic);
                }
                let schema = step.outputs?;
                let name = reference.key(output)?;
                let known = schema.get("properties").and_then(Value::as_object);
                let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
                let names: Vec<&str> = known.map(|k| k.keys().map(String::as_str).collect()).unwrap_or_default();
                (closed && !names.contains(&name)).then(|| {
                    undefined(format!("step `{id}` has no output `{name}`"))
                        .maybe_help(name_help(name, "outputs", names))
                })
            }
            Some(other) => Some(undefined(format!("`steps.{id}` has no `{other}`")).maybe_help(name_help(
                other,
                "names in it",
                parts,
            ))),
            None => Some(undefined(format!("say what of it: `steps.{id}.outcome` or `steps.{id}.outputs.NAME`"))),
        }
    }

    /// `steps.ID.outputs` is that of the same host, else of the only instance.
    fn check_same_host(&self, step: &StepInfo<'_>) -> Option<Diagnostic> {
        let id = &step.id;
        if step.for_each {
            let message = format!("step `{id}` runs once for each item, so its outputs could be any of them");
            return Some(
                Diagnostic::error("ambiguous", message)
                    .help(format!("name one by its key: `steps.{id}.on[\"KEY\"].outputs`")),
            );
        }
        let hosts = step.hosts.as_ref().filter(|h| step.fans_out && h.len() > 1)?;
        let mine = self.host.as_ref();
        if mine.is_some_and(|mine| mine.iter().all(|m| hosts.contains(&m.name))) {
            return None;
        }
        let message = format!("step `{id}` runs on {} hosts, so its outputs could be any of them", hosts.len());
        Some(
            Diagnostic::error("ambiguous", message)
                .help(format!("name one: `steps.{id}.on[\"{}\"].outputs`", hosts[0])),
        )
    }

    /// Whether a secret lies behind a name, or in what lies there.
    pub(super) fn is_secret(&self, reference: &Reference) -> bool {
        is_secret(self.known, reference)
            || match (reference.root.as_str(), reference.key(0), &self.host) {
                ("host", Some("vars"), Some(hosts)) => hosts.iter().any(|host| match reference.key(1) {
                    Some(name) => host.vars.get(name).is_some_and(|v| json_holds_secret(self.known, v)),
                    None => host.vars.values().any(|v| json_holds_secret(self.known, v)),
                }),
                _ => false,
            }
    }

    /// Whether a text comes to something with a secret in it.
    pub(super) fn text_is_secret(&self, text: &str) -> bool {
        expressions(text).iter().any(|a| a.references.iter().any(|r| self.is_secret(r)))
    }
}

fn is_secret(known: &Known<'_>, reference: &Reference) -> bool {
    match (reference.root.as_str(), reference.key(0)) {
        ("inputs", Some(name)) => known.inputs.iter().any(|i| i.name == name && i.kind == InputType::Secret),
        ("inputs", None) => known.inputs.iter().any(|i| i.kind == InputType::Secret),
        ("vars", Some(name)) => {
            let Some(index) = known.vars.iter().position(|v| v.key == name) else { return false };
            let asked = reference.display();
            if let Some(answer) = known.secrets.borrow().get(&asked) {
                return *answer;
            }
            let above = Known { vars: &known.vars[..index], ..*known };
            let mut node = &known.vars[index].value;
            for segment in &reference.path[1..] {
                match (segment, &node.data) {
                    (Segment::Key(key), Data::Table(entries)) => match entries.iter().find(|e| e.key == *key) {
                        Some(entry) => node = &entry.value,
                        None => return false,
                    },
                    _ => break,
                }
            }
            let answer = json_holds_secret(&above, &node.to_json());
            known.secrets.borrow_mut().insert(asked, answer);
            answer
        }
        ("vars", None) => (0..known.vars.len()).any(|i| {
            let above = Known { vars: &known.vars[..i], ..*known };
            json_holds_secret(&above, &known.vars[i].value.to_json())
        }),
        _ => false,
    }
}

fn json_holds_secret(known: &Known<'_>, value: &Value) -> bool {
    match value {
        Value::String(text) => expressions(text).iter().any(|a| a.references.iter().any(|r| is_secret(known, r))),
        Value::Array(items) => items.iter().any(|v| json_holds_secret(known, v)),
        Value::Object(map) => map.values().any(|v| json_holds_secret(known, v)),
        _ => false,
    }
}

fn expressions(text: &str) -> Vec<Analysis> {
    if !is_template(text) {
        return Vec::new();
    }
    let pieces = split(text).unwrap_or_default();
    pieces
        .iter()
        .filter_map(|p| match p {
            Piece::Expr(expr, _) => analyse(expr).ok(),
            Piece::Plain(_) => None,
        })
        .collect()
}

/// Keys are never expressions, and two of them have a meaning of their own.
fn check_keys(r: &Reading<'_>, node: &Node) {
    match &node.data {
        Data::List(nodes) => nodes.iter().for_each(|n| check_keys(r, n)),
        Data::Table(entries) => {
            for entry in entries {
                if is_template(&entry.key) {
                    let diagnostic =
                        Diagnostic::error("bad-value", "a key cannot hold an expression, only a value can");
                    r.report(&entry.key_span, diagnostic);
                }
                if is_reserved(&entry.key) {
                    let diagnostic = Diagnostic::error("bad-value", format!("the key `{}` is reserved", entry.key))
                        .help("write a secret as `{{ inputs.NAME }}`");
                    r.report(&entry.key_span, diagnostic);
                }
                check_keys(r, &entry.value);
            }
        }
        _ => {}
    }
}

/// A text in the file, to find places in it.
struct Place<'p> {
    r: &'p Reading<'p>,
    span: &'p Range<usize>,
    text: &'p str,
}

impl Place<'_> {
    fn syntax(&self, offset: usize, error: SyntaxError) {
        let range = error.range.start + offset..error.range.end + offset;
        self.report(range, Diagnostic::error("expression", error.message).maybe_help(error.help));
    }

    fn report(&self, range: Range<usize>, diagnostic: Diagnostic) {
        let span = inner_span(&self.r.source, self.span, self.text, &range).unwrap_or_else(|| self.span.clone());
        self.r.report(&span, diagnostic);
    }
}

/// The place in the file of a part of a string; none where the string is not written as it reads (escapes).
fn inner_span(source: &Source, span: &Range<usize>, text: &str, range: &Range<usize>) -> Option<Range<usize>> {
    let raw = source.text.get(span.clone())?;
    let quotes = if raw.starts_with("\"\"\"") || raw.starts_with("'''") { 3 } else { 1 };
    let mut start = quotes;
    if quotes == 3 {
        let rest = &raw[3..];
        start += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    let inner = raw.get(start..raw.len().checked_sub(quotes)?)?;
    (inner == text).then(|| span.start + start + range.start..span.start + start + range.end)
}
