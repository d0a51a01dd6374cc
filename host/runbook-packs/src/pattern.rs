//! The patterns of asks: is each well-formed, and does it fit the call that it is for?

use runbook_model::manifest::{Action, Ask, Pattern, Power};
use serde_json::Value;

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A part that the call needs.
    #[error("`{power}` needs `on.{part}`")]
    Missing {
        /// The call.
        power: String,
        /// The part.
        part: &'static str,
    },
    /// A part that says nothing about the call.
    #[error("`{power}` has no `on.{part}`")]
    Foreign {
        /// The call.
        power: String,
        /// The part.
        part: &'static str,
    },
    /// A part that is empty.
    #[error("`on.{0}` is empty")]
    Empty(&'static str),
    /// A star where none may stand.
    #[error("`{0}`: a `*` may only stand at the end of an element, and `**` only as the last")]
    Star(String),
    /// The program would be anything.
    #[error("the first element of `on.argv` must name the program: a literal or `${{input.NAME}}`")]
    AnyProgram,
    /// Neither a kind nor all kinds.
    #[error("`{0}`: a kind is written `KIND`, `KIND.GROUP`, or `*` for any")]
    Kind(String),
    /// A path that is not absolute, or climbs.
    #[error(
        "`{0}` must be absolute or begin with `${{input.NAME}}`, must not contain `..`, and may have a star only as a final `/**`"
    )]
    Path(String),
    /// A `$` that is no reference.
    #[error(
        "`{0}`: references are written `${{input.NAME}}`, in argv and env also `${{input.NAME...}}` as a whole element"
    )]
    Reference(String),
    /// A reference to an input that the action does not have.
    #[error("the action has no input `{0}`")]
    NoInput(String),
    /// Something that only changes can be.
    #[error("`{0}` only looks, so it cannot be irreversible")]
    Irreversible(String),
    /// Rights that the call does not have.
    #[error("`{0}` knows no `privileged`")]
    Privileged(String),
}

/// Everything that is wrong with an ask.
pub(crate) fn check(action: &Action, ask: &Ask) -> Vec<PatternError> {
    let mut wrong = Vec::new();
    let power = serde_json::to_value(ask.call).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let kind = family(ask.call);
    parts(&ask.on, kind, &power, &mut wrong);
    if ask.irreversible.is_some() && kind.looks {
        wrong.push(PatternError::Irreversible(power.clone()));
    }
    if ask.privileged && !kind.privileged {
        wrong.push(PatternError::Privileged(power));
    }

    let on = &ask.on;
    if let Some(argv) = &on.argv {
        check_argv(argv, &mut wrong);
    }
    if let Some(path) = &on.path {
        let stem = path.strip_suffix("/**").unwrap_or(path);
        let climbs = path.split('/').any(|part| part == "..");
        if !(path.starts_with('/') || path.starts_with("${input.")) || climbs || stem.contains('*') {
            wrong.push(PatternError::Path(path.clone()));
        }
    }
    if let Some(kind) = on.kind.as_ref().filter(|kind| *kind != "*" && kind.contains(['*', '$'])) {
        wrong.push(PatternError::Kind(kind.clone()));
    }
    for text in [&on.namespace, &on.name, &on.url].into_iter().flatten().chain(on.env.iter().flatten()) {
        star_at_end(text, &mut wrong);
    }

    for text in [&on.path, &on.namespace, &on.name, &on.url].into_iter().flatten() {
        references(text, false, action, &mut wrong);
    }
    for element in on.argv.iter().flatten().chain(on.env.iter().flatten()) {
        references(element, true, action, &mut wrong);
    }
    wrong
}

/// What a call's pattern is made of.
#[derive(Clone, Copy)]
struct Family {
    needs: Option<&'static str>,
    may: &'static [&'static str],
    looks: bool,
    privileged: bool,
}

fn family(power: Power) -> Family {
    const COMMAND: Family = Family { needs: Some("argv"), may: &["argv", "env"], looks: false, privileged: true };
    const URL: Family = Family { needs: Some("url"), may: &["url"], looks: false, privileged: false };
    const PATH: Family = Family { needs: Some("path"), may: &["path"], looks: false, privileged: true };
    const OBJECT: Family =
        Family { needs: Some("kind"), may: &["kind", "namespace", "name"], looks: false, privileged: false };
    const EXEC: Family = Family { may: &["argv", "path", "kind", "namespace", "name"], ..OBJECT };
    match power {
        Power::SshObserve => Family { looks: true, ..COMMAND },
        Power::SshChange => COMMAND,
        Power::SshReboot => Family { needs: None, may: &[], looks: false, privileged: true },
        Power::SshNet => Family { looks: true, ..URL },
        Power::SshHttpChange => URL,
        Power::FilesRead => Family { looks: true, ..PATH },
        Power::FilesWrite => PATH,
        Power::ControllerRead => Family { looks: true, privileged: false, ..PATH },
        Power::ControllerWrite => Family { privileged: false, ..PATH },
        Power::KubeRead | Power::KubeLogs => Family { looks: true, ..OBJECT },
        Power::KubeApply | Power::KubePatch | Power::KubeDelete | Power::KubeScale | Power::KubeEvict => OBJECT,
        Power::KubeExecObserve => Family { looks: true, ..EXEC },
        Power::KubeExecChange => EXEC,
    }
}

fn parts(on: &Pattern, family: Family, power: &str, wrong: &mut Vec<PatternError>) {
    let present = [
        ("argv", on.argv.as_ref().map(Vec::is_empty)),
        ("env", on.env.as_ref().map(Vec::is_empty)),
        ("path", on.path.as_ref().map(String::is_empty)),
        ("kind", on.kind.as_ref().map(String::is_empty)),
        // Empty means: only kinds without one.
        ("namespace", on.namespace.as_ref().map(|_| false)),
        ("name", on.name.as_ref().map(String::is_empty)),
        ("url", on.url.as_ref().map(String::is_empty)),
    ];
    for (part, empty) in present {
        match empty {
            None if family.needs == Some(part) => {
                wrong.push(PatternError::Missing { power: power.to_owned(), part });
            }
            Some(_) if !family.may.contains(&part) => {
                wrong.push(PatternError::Foreign { power: power.to_owned(), part });
            }
            Some(true) => wrong.push(PatternError::Empty(part)),
            None | Some(false) => {}
        }
    }
}

fn check_argv(argv: &[String], wrong: &mut Vec<PatternError>) {
    if argv.first().is_some_and(|program| matches!(program.as_str(), "" | "*" | "**")) {
        wrong.push(PatternError::AnyProgram);
    }
    for (i, element) in argv.iter().enumerate() {
        match element.as_str() {
            "**" if i + 1 == argv.len() => {}
            other => star_at_end(other, wrong),
        }
    }
}

/// At most one star, at the end.
fn star_at_end(text: &str, wrong: &mut Vec<PatternError>) {
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        wrong.push(PatternError::Star(text.to_owned()));
    }
}

/// Each `${...}` is `${input.NAME}` of an input that there is; no other `${` stands there.
fn references(text: &str, argv: bool, action: &Action, wrong: &mut Vec<PatternError>) {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let bad = || PatternError::Reference(text.to_owned());
        let Some((inner, tail)) = after.split_once('}') else {
            wrong.push(bad());
            return;
        };
        let whole = before.is_empty() && tail.is_empty() && rest.len() == text.len();
        let name = match inner.strip_prefix("input.") {
            Some(name) => match name.strip_suffix("...") {
                Some(_) if !(argv && whole) => None,
                Some(name) => Some(name),
                None => Some(name),
            },
            None => None,
        };
        match name {
            Some(name) if !has_input(action, name) => wrong.push(PatternError::NoInput(name.to_owned())),
            Some(_) => {}
            None => wrong.push(bad()),
        }
        rest = tail;
    }
}

fn has_input(action: &Action, name: &str) -> bool {
    // `a.b` is the field `b` of the input `a`.
    let top = name.split('.').next().unwrap_or(name);
    action.inputs.get("properties").and_then(Value::as_object).is_some_and(|inputs| inputs.contains_key(top))
}
