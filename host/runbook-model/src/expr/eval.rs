//! Rendering: templates and a scope in, values out.

use std::collections::BTreeSet;

use minijinja::{ErrorKind, Value as Jinja};
use serde_json::{Map, Value, json};

use super::context::{build, explain};
use super::convert::{Importer, export};
use super::filters::environment;
use super::scope::Scope;
use super::secret::{from_marks, is_reserved, is_tainted};
use super::syntax::{Analysis, Piece, SyntaxError, analyse, bare, is_template, split, whole};
use crate::schema::node::join_pointer;

/// Help for an expression that computes with a secret.
pub(crate) const SECRET_HELP: &str =
    "its value is put in at the very end, where it is needed; in expressions it can stand alone or beside other text";

/// More items than this are a mistake.
const MAX_ITEMS: usize = 10_000;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}{}", if path.is_empty() { String::new() } else { format!("{path}: ") }, if expression.is_empty() { String::new() } else { format!(" (in `{expression}`)") })]
pub struct ExprError {
    /// JSON pointer to the text in the template; empty for the template itself.
    pub path: String,
    /// The expression; may be empty.
    pub expression: String,
    /// What is wrong.
    pub message: String,
    /// How to put it right.
    pub help: Option<String>,
}

impl ExprError {
    fn new(expression: &str, message: impl Into<String>, help: Option<String>) -> Self {
        Self { path: String::new(), expression: expression.trim().to_owned(), message: message.into(), help }
    }

    fn syntax(expression: &str, error: SyntaxError) -> Self {
        Self::new(expression, error.message, error.help)
    }
}

/// A template with its values in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rendered {
    /// The value; null at places that are unknown. Secrets are references.
    pub value: Value,
    /// The places that are unknown in this plan.
    pub unknown: Vec<Unknown>,
    /// Names of the top-level keys whose values depend on outputs of steps.
    pub computed: BTreeSet<String>,
}

/// A place that is unknown in this plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// JSON pointer to it.
    pub path: String,
    /// The step that it waits for.
    pub step: String,
}

/// Puts values into a template. Keys are not templates; what is not a string stays as it is.
///
/// # Errors
///
/// The first text that has no value.
pub fn render(template: &Value, scope: &Scope) -> Result<Rendered, ExprError> {
    let mut renderer = Renderer { scope, unknown: Vec::new(), computed: BTreeSet::new() };
    let value = renderer.value(template, "")?;
    Ok(Rendered { value, unknown: renderer.unknown, computed: renderer.computed })
}

/// Renders a text for a person, such as a question. None: it is unknown in this plan.
///
/// # Errors
///
/// It has no value, or a secret stands in it.
pub fn text(template: &str, scope: &Scope) -> Result<Option<String>, ExprError> {
    let rendered = render(&Value::String(template.to_owned()), scope)?;
    if !rendered.unknown.is_empty() {
        return Ok(None);
    }
    match rendered.value {
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Object(map) if map.keys().any(|k| is_reserved(k)) => {
            Err(ExprError::new(template, "a secret cannot be shown here", None))
        }
        other => Err(ExprError::new(template, format!("this must be a text, not {}", kind(&other)), None)),
    }
}

/// Whether a condition holds. None: it is unknown in this plan.
///
/// # Errors
///
/// It has no value, or one that is neither true nor false.
pub fn condition(source: &str, scope: &Scope) -> Result<Option<bool>, ExprError> {
    let (expr, _) = bare(source).map_err(|e| ExprError::syntax(source, e))?;
    match Evaluation::of(expr, scope)? {
        Evaluation::Unknown(..) => Ok(None),
        Evaluation::Known { value, .. } => match finish(expr, &value, &BTreeSet::new())? {
            Value::Bool(flag) => Ok(Some(flag)),
            other => Err(ExprError::new(
                expr,
                format!("a condition must be true or false, not {}", kind(&other)),
                Some("compare it with something, such as `x == \"yes\"` or `x | length > 0`".to_owned()),
            )),
        },
    }
}

/// The hosts that an expression of `on` names. None: unknown in this plan.
///
/// # Errors
///
/// It has no value, or one that is not a name or a list of names of `among`.
pub fn on_hosts(template: &str, among: &[String], scope: &Scope) -> Result<Option<Vec<String>>, ExprError> {
    let rendered = render(&Value::String(template.trim().to_owned()), scope)?;
    if !rendered.unknown.is_empty() {
        return Ok(None);
    }
    let given = match rendered.value {
        Value::Array(items) => items,
        other => vec![other],
    };
    let mut names: Vec<String> = Vec::new();
    for value in given {
        let Value::String(name) = value else {
            return Err(ExprError::new(template, format!("`on` must give names of hosts, not {}", kind(&value)), None));
        };
        if !among.contains(&name) {
            return Err(ExprError::new(
                template,
                format!("`{name}` is not one of the hosts in `among`"),
                Some(format!("these are {}", crate::diagnostic::list(among))),
            ));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(ExprError::new(template, "`on` gives no host", None));
    }
    Ok(Some(names))
}

/// What `for_each` comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Items {
    /// These, in this order.
    Known(Vec<Item>),
    /// How many there are is unknown in this plan; it waits for this step.
    Unknown(String),
}

/// One item of `for_each`.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Names the instance; unique.
    pub name: String,
    /// `item`.
    pub value: Value,
    /// It depends on outputs of steps: put "item" into [`Scope::computed`].
    pub computed: bool,
    /// It is unknown in this plan until this step has run: put it into [`Scope::unknown`] as "item".
    pub unknown: Option<String>,
}

/// The items of a `for_each`, named by the expression `key`, else by their position from 0.
///
/// # Errors
///
/// It has no value, is neither list nor table, or two items have the same name.
pub fn items(for_each: &Value, key: Option<&str>, scope: &Scope) -> Result<Items, ExprError> {
    let mut found: Vec<Item> = Vec::new();
    let mut add = |value: Value, computed: bool, unknown: Option<String>| {
        found.push(Item { name: String::new(), value, computed, unknown });
    };
    match for_each {
        Value::Array(elements) => {
            for element in elements {
                let rendered = render(element, scope)?;
                let computed = is_computed(element, scope);
                add(rendered.value, computed, rendered.unknown.into_iter().next().map(|u| u.step));
            }
        }
        Value::Object(map) => {
            for (name, element) in map {
                let rendered = render(element, scope)?;
                let computed = is_computed(element, scope);
                let unknown = rendered.unknown.into_iter().next().map(|u| u.step);
                add(json!({ "key": name, "value": rendered.value }), computed, unknown);
            }
        }
        other => {
            let trimmed = other.as_str().map_or_else(|| other.clone(), |text| Value::String(text.trim().to_owned()));
            let rendered = render(&trimmed, scope)?;
            if let Some(unknown) = rendered.unknown.into_iter().next() {
                return Ok(Items::Unknown(unknown.step));
            }
            let computed = is_computed(other, scope);
            match rendered.value {
                Value::Array(elements) => elements.into_iter().for_each(|e| add(e, computed, None)),
                Value::Object(map) if !map.keys().any(|k| is_reserved(k)) => {
                    map.into_iter().for_each(|(name, e)| add(json!({ "key": name, "value": e }), computed, None));
                }
                value => {
                    let source = other.as_str().unwrap_or_default();
                    return Err(ExprError::new(
                        source,
                        format!("`for_each` needs a list or a table, not {}", kind(&value)),
                        None,
                    ));
                }
            }
        }
    }
    if found.len() > MAX_ITEMS {
        return Err(ExprError::new(
            "",
            format!("`for_each` has {} items; at most {MAX_ITEMS} are possible", found.len()),
            None,
        ));
    }
    let mut names = BTreeSet::new();
    for (index, item) in found.iter_mut().enumerate() {
        item.name = match key {
            Some(source) => {
                let mut inner = scope.clone();
                inner.item = Some(item.value.clone());
                inner.unknown.extend(item.unknown.clone().map(|step| ("item".to_owned(), step)));
                self::key(source, &inner)?.unwrap_or_else(|| index.to_string())
            }
            None => index.to_string(),
        };
        if !names.insert(item.name.clone()) {
            let message = format!("two items of `for_each` have the name `{}`", item.name);
            return Err(ExprError::new(key.unwrap_or_default(), message, Some("let `key` tell them apart".to_owned())));
        }
    }
    Ok(Items::Known(found))
}

/// The name of an item. None: unknown in this plan.
///
/// # Errors
///
/// It has no value, or one that cannot be a name.
pub fn key(source: &str, scope: &Scope) -> Result<Option<String>, ExprError> {
    let (expr, _) = bare(source).map_err(|e| ExprError::syntax(source, e))?;
    let Some(name) = text(&format!("{{{{ {expr} }}}}"), scope)? else { return Ok(None) };
    let ok =
        !name.is_empty() && name.chars().count() <= 64 && !name.chars().any(|c| c.is_control() || "/[]".contains(c));
    if ok {
        return Ok(Some(name));
    }
    let help = "1 to 64 characters, none of them `/`, `[` or `]`".to_owned();
    Err(ExprError::new(expr, format!("{name:?} cannot name an item"), Some(help)))
}

/// Whether something in a template depends on outputs of steps.
fn is_computed(template: &Value, scope: &Scope) -> bool {
    match template {
        Value::String(text) => split(text).is_ok_and(|pieces| {
            pieces.iter().any(|p| match p {
                Piece::Plain(_) => false,
                Piece::Expr(expr, _) => analyse(expr).is_ok_and(|a| depends_on_steps(&a, scope)),
            })
        }),
        Value::Array(items) => items.iter().any(|v| is_computed(v, scope)),
        Value::Object(map) => map.values().any(|v| is_computed(v, scope)),
        _ => false,
    }
}

fn depends_on_steps(analysis: &Analysis, scope: &Scope) -> bool {
    analysis.references.iter().any(|r| match (r.root.as_str(), r.key(0)) {
        ("steps", _) => true,
        ("item", _) => scope.computed.contains("item"),
        (root, Some(name)) => scope.computed.contains(&format!("{root}.{name}")),
        (root, None) => scope.computed.iter().any(|c| c.strip_prefix(root).is_some_and(|rest| rest.starts_with('.'))),
    })
}

/// What became of an expression, before its marks are references again.
enum Evaluation {
    Known { value: Value, issued: BTreeSet<String>, computed: bool },
    Unknown(String),
}

impl Evaluation {
    fn of(expr: &str, scope: &Scope) -> Result<Self, ExprError> {
        let analysis = analyse(expr).map_err(|e| ExprError::syntax(expr, e))?;
        if let Some(step) = analysis.references.iter().flat_map(|r| scope.unknown_behind(r)).next() {
            return Ok(Self::Unknown(step));
        }
        if let Some(reference) = analysis.references.iter().find(|r| scope.misuses_secret(r)) {
            let message = format!("`{}` is a secret: it can only be passed on, not computed with", reference.display());
            return Err(ExprError::new(expr, message, Some(SECRET_HELP.to_owned())));
        }
        let computed = depends_on_steps(&analysis, scope);
        let mut importer = Importer::default();
        let context = build(scope, &analysis, &mut importer).map_err(|(m, h)| ExprError::new(expr, m, h))?;
        let value = evaluate(expr, context, scope, &analysis)?;
        let value = export(&value).map_err(|m| {
            let (message, help) =
                if value.is_undefined() { explain(scope, &analysis.references) } else { None }.unwrap_or((m, None));
            ExprError::new(expr, message, help)
        })?;
        Ok(Self::Known { value, issued: importer.issued, computed })
    }
}

fn evaluate(expr: &str, context: Jinja, scope: &Scope, analysis: &Analysis) -> Result<Jinja, ExprError> {
    let run = environment().compile_expression(expr).and_then(|compiled| compiled.eval(context));
    run.map_err(|error| {
        let explained =
            (error.kind() == ErrorKind::UndefinedError).then(|| explain(scope, &analysis.references)).flatten();
        let (message, help) = explained.unwrap_or_else(|| (describe(&error), None));
        ExprError::new(expr, hide_marks(&message), help)
    })
}

fn describe(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}

/// A message of the expression language may quote what it was given.
fn hide_marks(message: &str) -> String {
    if is_tainted(message) || message.contains("u{10f8f0}") {
        "a secret can only be passed on, not computed with".to_owned()
    } else {
        message.to_owned()
    }
}

/// Turns marks into references again, in all of a value.
fn finish(expr: &str, value: &Value, issued: &BTreeSet<String>) -> Result<Value, ExprError> {
    let mangled =
        || ExprError::new(expr, "a secret can only be passed on, not computed with", Some(SECRET_HELP.to_owned()));
    Ok(match value {
        Value::String(text) => from_marks(text, issued).map_err(|_| mangled())?,
        Value::Array(items) => Value::Array(items.iter().map(|v| finish(expr, v, issued)).collect::<Result<_, _>>()?),
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, inner) in map {
                if is_reserved(key) {
                    let message = format!("a value holds the key `{key}`, which is reserved for secrets");
                    return Err(ExprError::new(expr, message, None));
                }
                if is_tainted(key) {
                    return Err(mangled());
                }
                out.insert(key.clone(), finish(expr, inner, issued)?);
            }
            Value::Object(out)
        }
        other => other.clone(),
    })
}

struct Renderer<'s> {
    scope: &'s Scope,
    unknown: Vec<Unknown>,
    computed: BTreeSet<String>,
}

impl Renderer<'_> {
    fn value(&mut self, template: &Value, path: &str) -> Result<Value, ExprError> {
        match template {
            Value::String(text) => self.text(text, path).map_err(|e| ExprError { path: path.to_owned(), ..e }),
            Value::Array(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (i, item) in items.iter().enumerate() {
                    out.push(self.value(item, &format!("{path}/{i}"))?);
                }
                Ok(Value::Array(out))
            }
            Value::Object(map) => {
                let mut out = Map::new();
                for (key, item) in map {
                    if is_reserved(key) || is_tainted(key) {
                        let message = format!("the key `{}` is reserved for secrets", hide_marks(key));
                        return Err(ExprError { path: path.to_owned(), ..ExprError::new("", message, None) });
                    }
                    out.insert(key.clone(), self.value(item, &join_pointer(path, key))?);
                }
                Ok(Value::Object(out))
            }
            other => Ok(other.clone()),
        }
    }

    fn text(&mut self, text: &str, path: &str) -> Result<Value, ExprError> {
        if is_tainted(text) {
            return Err(ExprError::new(
                "",
                "this text holds a character that is reserved for secrets (U+10F8F0 or U+10F8F1)",
                None,
            ));
        }
        if !is_template(text) {
            return Ok(Value::String(text.to_owned()));
        }
        if let Some((expr, _)) = whole(text).filter(|_| text.trim() == text) {
            return match Evaluation::of(expr, self.scope)? {
                Evaluation::Unknown(step) => Ok(self.set_unknown(path, step)),
                Evaluation::Known { value, issued, computed } => {
                    self.note_computed(path, computed);
                    finish(expr, &value, &issued)
                }
            };
        }
        let mut out = String::new();
        let mut all_issued = BTreeSet::new();
        let mut waits = None;
        for piece in split(text).map_err(|e| ExprError::syntax(text, e))? {
            match piece {
                Piece::Plain(plain) => out.push_str(plain),
                Piece::Expr(expr, _) => match Evaluation::of(expr, self.scope)? {
                    Evaluation::Unknown(step) => waits = Some(step),
                    Evaluation::Known { value, issued, computed } => {
                        self.note_computed(path, computed);
                        all_issued.extend(issued);
                        out.push_str(&inside_text(expr, &value)?);
                    }
                },
            }
        }
        match waits {
            Some(step) => Ok(self.set_unknown(path, step)),
            None => finish(text, &Value::String(out), &all_issued),
        }
    }

    fn set_unknown(&mut self, path: &str, step: String) -> Value {
        self.note_computed(path, true);
        self.unknown.push(Unknown { path: path.to_owned(), step });
        Value::Null
    }

    fn note_computed(&mut self, path: &str, computed: bool) {
        if computed && let Some(first) = path.split('/').nth(1) {
            self.computed.insert(first.replace("~1", "/").replace("~0", "~"));
        }
    }
}

/// A value as it stands in the middle of a text.
fn inside_text(expr: &str, value: &Value) -> Result<String, ExprError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        other => {
            let help = if other.is_null() {
                "say what to write instead, with `| default(...)`"
            } else {
                "write `| to_json` or `| join(\",\")`"
            };
            let message = format!("{} cannot stand in the middle of a text", kind(other));
            Err(ExprError::new(expr, message, Some(help.to_owned())))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "none",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(map) if map.keys().any(|k| is_reserved(k)) => "a secret",
        Value::Object(_) => "a table",
    }
}
