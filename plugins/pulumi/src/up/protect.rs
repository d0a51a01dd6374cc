//! What the owner allows `up` to do.

use super::input::Input;
use super::preview::{Preview, Step, taken_apart};

/// Types whose objects take data with them when they go.
const HOLD_DATA: [&str; 4] = [
    "kubernetes:core/v1:PersistentVolumeClaim",
    "kubernetes:core/v1:PersistentVolume",
    "kubernetes:core/v1:Namespace",
    "kubernetes:apiextensions.k8s.io/v*:CustomResourceDefinition",
];

/// Refuses what must not be done.
///
/// # Errors
///
/// All of it, and how to allow it.
pub(super) fn judge(preview: &Preview, input: &Input) -> Result<(), String> {
    let (mut with_data, mut forbidden, mut unexpected) = (Vec::new(), Vec::new(), Vec::new());
    for step in preview.changes() {
        let said = step.said();
        let is_lost = does(step, "delete") || does(step, "replace");
        let allowed = input.allow_delete.iter().any(|pattern| matches(pattern, &step.urn));
        if is_lost && !allowed && HOLD_DATA.iter().any(|kind| matches(kind, &step.urn)) {
            with_data.push(said);
        } else if input.forbid.iter().any(|f| f.ops.iter().any(|op| does(step, op)) && matches(&f.resource, &step.urn))
        {
            forbidden.push(said);
        } else if !input.expect.is_empty() && !input.expect.iter().any(|pattern| matches(pattern, &step.urn)) {
            unexpected.push(said);
        }
    }
    let mut why = Vec::new();
    if !with_data.is_empty() {
        let hint = match input.refresh {
            true => "",
            false => ". If everything is to be replaced, then the state is of another cluster: try `refresh = true`",
        };
        why.push(format!(
            "`up` would delete data: {}. If that is meant, name them in `allow_delete`{hint}",
            with_data.join("; ")
        ));
    }
    if !forbidden.is_empty() {
        why.push(format!("`up` would do what `forbid` forbids: {}", forbidden.join("; ")));
    }
    if !unexpected.is_empty() {
        why.push(format!("`up` would change what `expect` does not name: {}", unexpected.join("; ")));
    }
    if why.is_empty() { Ok(()) } else { Err(format!("{}. Nothing was changed", why.join(". "))) }
}

/// Whether a step is such an operation; a replacement has several names.
fn does(step: &Step, op: &str) -> bool {
    match op {
        "delete" => matches!(step.op.as_str(), "delete" | "delete-replaced"),
        "replace" => matches!(step.op.as_str(), "replace" | "create-replacement" | "delete-replaced"),
        "import" => matches!(step.op.as_str(), "import" | "import-replacement"),
        op => step.op == op,
    }
}

/// A pattern stands for a type, for TYPE::NAME, or for a whole URN.
fn matches(pattern: &str, urn: &str) -> bool {
    let (kind, name) = taken_apart(urn);
    glob(pattern, kind) || glob(pattern, &format!("{kind}::{name}")) || glob(pattern, urn)
}

/// `*` is any number of any characters.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use runbook_sdk::prelude::*;

    use super::super::input::input;
    use super::*;

    fn preview(steps: &[(&str, &str)]) -> Preview {
        let steps: Vec<Value> = steps
            .iter()
            .map(|(op, tail)| json!({ "op": op, "urn": format!("urn:pulumi:prod::homeslice::{tail}") }))
            .collect();
        Preview::read(json!({ "steps": steps }).to_string().as_bytes(), "").unwrap()
    }

    const CLAIM: &str = "kubernetes:core/v1:PersistentVolumeClaim::chime";

    #[test]
    fn data_is_not_deleted_unless_it_is_named() {
        for op in ["delete", "replace", "delete-replaced"] {
            let error = judge(&preview(&[(op, CLAIM)]), &input(json!({}))).unwrap_err();
            assert!(error.contains("PersistentVolumeClaim chime") && error.contains("allow_delete"), "{error}");
        }
        assert_eq!(judge(&preview(&[("create", CLAIM), ("update", CLAIM)]), &input(json!({}))), Ok(()));
        assert_eq!(judge(&preview(&[("delete", CLAIM)]), &input(json!({ "allow_delete": [CLAIM] }))), Ok(()));
        let other = input(json!({ "allow_delete": ["*::music"] }));
        assert!(judge(&preview(&[("delete", CLAIM)]), &other).is_err());
        let crd = "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition::x";
        assert!(judge(&preview(&[("delete", crd)]), &input(json!({}))).is_err());
    }

    #[test]
    fn forbidden_and_unexpected_changes_are_refused() {
        let steps = preview(&[("update", "kubernetes:core/v1:ConfigMap::switches"), ("create", "a:b:C::new")]);
        assert_eq!(judge(&steps, &input(json!({}))), Ok(()));
        let forbid = input(json!({ "forbid": [{ "resource": "*ConfigMap*", "ops": ["update"] }] }));
        assert!(judge(&steps, &forbid).unwrap_err().contains("forbids: update kubernetes:core/v1:ConfigMap switches"));
        let expect = input(json!({ "expect": ["kubernetes:*"] }));
        assert!(judge(&steps, &expect).unwrap_err().contains("does not name: create a:b:C new"));
        assert_eq!(judge(&steps, &input(json!({ "expect": ["kubernetes:*", "a:b:C::new"] }))), Ok(()));
    }

    #[test]
    fn patterns() {
        for (pattern, text, expect) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "axc", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, text), expect, "{pattern} {text}");
        }
    }
}
