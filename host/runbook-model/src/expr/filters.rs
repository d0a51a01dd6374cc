//! The filters of the language beside minijinja's own, and what of those is left out.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, LazyLock};

use minijinja::value::{DynObject, Object, ObjectRepr};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value as Jinja};
use sha2::{Digest as _, Sha256};

use super::convert::{Absent, Importer, Origin, export};
use super::secret;

/// Filters that an expression may use, in the order in which they are suggested.
const FILTERS: [&str; 48] = [
    "default",
    "join",
    "length",
    "replace",
    "split",
    "lines",
    "trim",
    "lower",
    "upper",
    "title",
    "capitalize",
    "first",
    "last",
    "min",
    "max",
    "sum",
    "sort",
    "unique",
    "reverse",
    "list",
    "map",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "groupby",
    "batch",
    "slice",
    "zip",
    "chain",
    "items",
    "dictsort",
    "attr",
    "int",
    "float",
    "abs",
    "round",
    "bool",
    "string",
    "indent",
    "format",
    "to_json",
    "tojson",
    "from_json",
    "sha256",
    "semver",
    "d",
    "count",
];

/// Tests that an expression may use.
const TESTS: [&str; 33] = [
    "defined",
    "undefined",
    "none",
    "true",
    "false",
    "string",
    "number",
    "integer",
    "int",
    "float",
    "boolean",
    "sequence",
    "iterable",
    "mapping",
    "odd",
    "even",
    "divisibleby",
    "startingwith",
    "endingwith",
    "lower",
    "upper",
    "sameas",
    "eq",
    "equalto",
    "ne",
    "lt",
    "lessthan",
    "le",
    "gt",
    "greaterthan",
    "ge",
    "in",
    "containing",
];

/// Names of the filters that an expression may use.
pub fn filter_names() -> &'static [&'static str] {
    &FILTERS
}

/// Names of the tests that an expression may use.
pub fn test_names() -> &'static [&'static str] {
    &TESTS
}

/// Names of the functions that an expression may use.
pub fn function_names() -> &'static [&'static str] {
    &["hosts", "range", "dict"]
}

/// The environment that all expressions run in.
pub(super) fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(build);
    &ENVIRONMENT
}

fn build() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    // These show the whole scope, or hide the type of what they are given.
    for name in ["debug", "namespace"] {
        env.remove_global(name);
    }
    for name in ["pprint", "safe", "escape", "e"] {
        env.remove_filter(name);
    }
    env.add_filter("to_json", to_json);
    env.add_filter("tojson", to_json);
    env.add_filter("from_json", from_json);
    env.add_filter("sha256", sha256);
    env.add_filter("semver", semver_filter);
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_test("containing", |haystack: String, needle: String| haystack.contains(&needle));
    env
}

fn failure(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn refuse_secret(text: &str, filter: &str) -> Result<(), Error> {
    if secret::is_tainted(text) {
        return Err(failure(format!("`{filter}` cannot be used on a secret")));
    }
    Ok(())
}

/// As minijinja's own; the outputs of a skipped step count as undefined.
fn default(value: &Jinja, other: Option<Jinja>, lax: Option<bool>) -> Jinja {
    let missing = value.is_undefined()
        || value.downcast_object_ref::<Absent>().is_some()
        || (lax.unwrap_or_default() && !value.is_true());
    if missing { other.unwrap_or_else(|| Jinja::from("")) } else { value.clone() }
}

fn to_json(value: &Jinja, indent: Option<bool>) -> Result<String, Error> {
    let json = export(value).map_err(failure)?;
    let text =
        if indent.unwrap_or_default() { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) };
    let text = text.map_err(|e| failure(e.to_string()))?;
    refuse_secret(&text, "to_json")?;
    Ok(text)
}

fn from_json(text: &str) -> Result<Jinja, Error> {
    refuse_secret(text, "from_json")?;
    let json = serde_json::from_str(text).map_err(|e| failure(format!("this is not JSON: {e}")))?;
    // The text came from somewhere: what looks like a secret in it is none.
    Importer::default().value(&json, Origin::World).map_err(failure)
}

fn sha256(value: &Jinja) -> Result<String, Error> {
    let text = value.as_str().ok_or_else(|| failure("`sha256` needs a string; use `to_json` before it"))?;
    refuse_secret(text, "sha256")?;
    Ok(hex::encode(Sha256::digest(text.as_bytes())))
}

/// `x | semver`: a version that compares as versions do. `x | semver(">=1.30, <1.32")`: whether it matches.
fn semver_filter(text: &str, requirement: Option<&str>) -> Result<Jinja, Error> {
    refuse_secret(text, "semver")?;
    let version = lenient(text).ok_or_else(|| failure(format!("\"{}\" is not a version", text.trim())))?;
    match requirement {
        None => Ok(Jinja::from_object(Version(version))),
        Some(requirement) => {
            let parsed = semver::VersionReq::parse(requirement)
                .map_err(|e| failure(format!("\"{requirement}\" is not a requirement on a version: {e}")))?;
            Ok(Jinja::from(parsed.matches(&version)))
        }
    }
}

/// Reads "v1.30", "1.30.2-rc.1", "1.28.15+k3s1" alike.
fn lenient(text: &str) -> Option<semver::Version> {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    let tail = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(tail);
    let missing = 3usize.checked_sub(numbers.split('.').count())?;
    semver::Version::parse(&format!("{numbers}{}{rest}", ".0".repeat(missing))).ok()
}

/// A version in an expression.
#[derive(Debug)]
struct Version(semver::Version);

impl Object for Version {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        match key.as_str()? {
            "major" => Some(Jinja::from(self.0.major)),
            "minor" => Some(Jinja::from(self.0.minor)),
            "patch" => Some(Jinja::from(self.0.patch)),
            "pre" => Some(Jinja::from(self.0.pre.as_str())),
            "build" => Some(Jinja::from(self.0.build.as_str())),
            _ => None,
        }
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        other.downcast_ref::<Self>().map(|other| self.0.cmp_precedence(&other.0))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
