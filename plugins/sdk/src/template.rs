//! Templates, rendered from data. Undefined names are errors, and the result is never rendered again.

use std::fmt;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, ObjectRepr, Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, escape_formatter};
use serde_json::Value as Json;

use crate::placeholder::Placeholders;
use crate::{Error, Result, Text};

/// Renders a template (the language is Jinja's) with variables; `name` is what errors call it.
///
/// Lines that hold nothing but a `{% ... %}` leave no line behind (`trim_blocks` and `lstrip_blocks`), and the last newline of the
/// template stays.
///
/// Secrets among the variables stay references: they can be written out and tested for being there, and filters refuse them.
///
/// ```
/// # use runbook_sdk::template::render;
/// # use serde_json::json;
/// let vars = json!({ "hosts": ["n1", "n2"], "password": { "$secret": "pw" } });
/// let text = render("hosts.conf", "{% for h in hosts %}{{ h }} {% endfor %}{{ password }}", &vars)?;
/// assert_eq!(text.to_string(), "n1 n2 <secret pw>");
/// # Ok::<(), runbook_sdk::Error>(())
/// ```
///
/// # Errors
///
/// [`Kind::Invalid`](crate::Kind::Invalid): a mistake in the template, with its line; a name that is not defined.
pub fn render(name: &str, template: &str, vars: &Json) -> Result<Text> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // A file is made of text, whatever its name: nothing is quoted for HTML, JSON or YAML behind its author's back.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let mut syntax = SyntaxConfig::builder();
    syntax.keep_trailing_newline(true).trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().map_err(|error| explain(name, &error, &[]))?);
    environment.set_formatter(|out, state, value| match value.downcast_object_ref::<Reference>() {
        Some(Reference(placeholder)) => Ok(out.write_str(placeholder)?),
        None => escape_formatter(out, state, value),
    });
    let mut placeholders = Placeholders::default();
    // The template goes through as well: what looks like a placeholder in it is none.
    let template = placeholders.put(&template.into()).map_err(|error| error.context(name))?;
    let values = to_value(vars, &mut placeholders)?;
    let rendered = environment.render_named_str(name, &template, &values).map_err(|error| {
        let missing = match error.kind() {
            ErrorKind::UndefinedError => missing(&environment, &template, vars),
            _ => Vec::new(),
        };
        explain(name, &error, &missing)
    })?;
    placeholders.back(&rendered).map_err(|error| error.context(name))
}

/// "NAME:LINE: what is wrong".
fn explain(name: &str, error: &minijinja::Error, missing: &[String]) -> Error {
    let line = error.line().map(|line| format!(":{line}")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let missing = match missing {
        [] => String::new(),
        names => format!(" (not among the variables: {})", names.join(", ")),
    };
    Error::invalid(format!("{name}{line}: {}{detail}{missing}", error.kind()))
}

/// The names that a template uses and that are not there.
fn missing(environment: &Environment<'_>, template: &str, vars: &Json) -> Vec<String> {
    let Ok(template) = environment.template_from_str(template) else { return Vec::new() };
    let is_global = |path: &str| environment.globals().any(|(global, _)| path.split('.').next() == Some(global));
    let is_there = |path: &str| path.split('.').try_fold(vars, |value, key| value.get(key)).is_some();
    let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    names.retain(|path| !is_global(path) && !is_there(path));
    names.sort();
    names
}

fn to_value(json: &Json, placeholders: &mut Placeholders) -> Result<Value> {
    Ok(match json {
        _ if Text::is_reference(json) => {
            let text: Text = serde_json::from_value(json.clone())?;
            let string = placeholders.put(&text)?;
            if text.has_secret() { Value::from_object(Reference(string)) } else { string.into() }
        }
        Json::Array(items) => items.iter().map(|item| to_value(item, placeholders)).collect::<Result<Vec<_>>>()?.into(),
        Json::Object(map) => {
            let pairs = map.iter().map(|(key, value)| Ok((key.clone(), to_value(value, placeholders)?)));
            Value::from_pairs(pairs.collect::<Result<Vec<_>>>()?)
        }
        other => Value::from(Serde(other)),
    })
}

/// Stands for a text with secrets. The formatter writes its placeholder; anything else that makes a string of it (a filter, `~`)
/// gets half of one, which is noticed.
#[derive(Debug)]
struct Reference(String);

impl Object for Reference {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_start_matches(|c: char| !c.is_ascii_digit()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_come_out_as_one_expects() {
        let template = "a\n  {% for p in ports %}\nport = {{ p }}\n  {% endfor %}\nz\n";
        let text = render("x.yaml", template, &json!({ "ports": [80, "a\"b<"] })).unwrap();
        assert_eq!(text.as_plain(), Some("a\nport = 80\nport = a\"b<\nz\n"));
    }

    #[test]
    fn mistakes_say_where() {
        let undefined = render("a.conf", "{{ a.x }}\n{{ a.y }}\n", &json!({ "a": { "x": 1 } })).unwrap_err();
        assert_eq!(undefined.message(), "a.conf:2: undefined value (not among the variables: a.y)");
        let syntax = render("a.conf", "{% if %}", &json!({})).unwrap_err();
        assert!(syntax.message().starts_with("a.conf:1: syntax error"), "{syntax}");
    }

    #[test]
    fn secrets_stay_references() {
        let vars =
            json!({ "db": { "password": { "$secret": "pw" } }, "dsn": { "$text": ["u:", { "$secret": "pw" }] } });
        let text = render("t", "a={{ db.password }} b={{ dsn }}{% if db.password %}!{% endif %}", &vars).unwrap();
        assert_eq!(text.to_string(), "a=<secret pw> b=u:<secret pw>!");
        for used in ["| upper", "| length", "| replace('a', 'b')", "| tojson", "~ 'x'"] {
            let result = render("t", &format!("{{{{ db.password {used} }}}}{{{{ dsn }}}}"), &vars);
            assert!(result.is_err(), "{used}: {result:?}");
        }
    }

    #[test]
    fn data_is_never_a_template() {
        let text = render("t", "{{ a }}", &json!({ "a": "{{ b }}" })).unwrap();
        assert_eq!(text.as_plain(), Some("{{ b }}"));
    }
}
