//! Kinds as a cluster serves them, and the paths of their objects.

use kube::core::Version;
use runbook_model::call::{CallError, ResourceKind};
use serde_json::Value;

/// A kind as the cluster serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
}

impl Resource {
    /// As in `apiVersion`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Path of the collection; of all namespaces where none is given.
    ///
    /// # Errors
    ///
    /// A namespace for a kind that has none, or one that is not a name.
    pub(crate) fn collection(&self, namespace: Option<&str>) -> Result<String, CallError> {
        let root = group_version_path(&self.group, &self.version);
        match namespace {
            None => Ok(format!("{root}/{}", self.plural)),
            Some(namespace) if self.namespaced => {
                Ok(format!("{root}/namespaces/{}/{}", segment("namespace", namespace)?, self.plural))
            }
            Some(_) => {
                Err(CallError::Invalid(format!("a {} belongs to no namespace: leave the namespace out", self.kind)))
            }
        }
    }

    /// Path of one object.
    ///
    /// # Errors
    ///
    /// As [`Resource::collection`]; also where a namespace is missing. None is ever guessed.
    pub(crate) fn object(&self, namespace: Option<&str>, name: &str) -> Result<String, CallError> {
        if self.namespaced && namespace.is_none() {
            return Err(CallError::Invalid(format!(
                "{} {name} needs a namespace: say which (metadata.namespace), none is assumed",
                self.kind
            )));
        }
        Ok(format!("{}/{}", self.collection(namespace)?, segment("name", name)?))
    }
}

/// `/api/v1`, `/apis/apps/v1`.
pub(crate) fn group_version_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// A name as one segment of a path. What could become another path is refused, as API servers do.
pub(crate) fn segment(what: &str, name: &str) -> Result<String, CallError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '%']) || name.contains(char::is_control) {
        return Err(CallError::Invalid(format!("{name:?} is no {what} of a Kubernetes object")));
    }
    Ok(encode(name))
}

/// Percent-encoding for a path segment or a query value.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

/// Refuses groups and versions that would lead to another path.
pub(crate) fn check_kind(kind: &ResourceKind) -> Result<(), CallError> {
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    if !word(&kind.group) || kind.group.contains("..") || !word(&kind.version) || kind.version.contains('.') {
        return Err(CallError::Invalid(format!("{:?} {:?} is no API group and version", kind.group, kind.version)));
    }
    if kind.kind.is_empty() || !kind.kind.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(CallError::Invalid(format!("{:?} is no kind of Kubernetes object", kind.kind)));
    }
    Ok(())
}

/// The versions of an `APIGroup`, the newest first: v2, v1, v1beta1, v1alpha1.
pub(crate) fn versions(group: &Value) -> Vec<String> {
    let listed = group["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut versions: Vec<String> = listed.iter().filter_map(|v| v["version"].as_str()).map(str::to_owned).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(Version::parse(version).priority()));
    versions
}

/// Looks a kind up in an `APIResourceList`.
pub(crate) fn find(list: &Value, group: &str, version: &str, kind: &str) -> Option<Resource> {
    list["resources"].as_array()?.iter().find_map(|entry| {
        let plural = entry["name"].as_str()?;
        (entry["kind"] == kind && !plural.contains('/')).then(|| Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced: entry["namespaced"].as_bool().unwrap_or(false),
        })
    })
}

/// A kind in an `APIResourceList` that was perhaps meant: another case, or the plural.
pub(crate) fn similar(list: &Value, kind: &str) -> Option<String> {
    list["resources"].as_array()?.iter().find_map(|entry| {
        let (name, served) = (entry["name"].as_str()?, entry["kind"].as_str()?);
        let singular = entry["singularName"].as_str().unwrap_or_default();
        [name, served, singular].iter().any(|word| word.eq_ignore_ascii_case(kind)).then(|| served.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pods() -> Resource {
        Resource {
            group: String::new(),
            version: "v1".into(),
            kind: "Pod".into(),
            plural: "pods".into(),
            namespaced: true,
        }
    }

    #[test]
    fn a_name_never_becomes_another_path() {
        assert_eq!(pods().object(Some("d"), "web-0").as_deref(), Ok("/api/v1/namespaces/d/pods/web-0"));
        assert_eq!(pods().object(Some("d"), "a b?x=1#").as_deref(), Ok("/api/v1/namespaces/d/pods/a%20b%3Fx%3D1%23"));
        for name in ["", ".", "..", "../../secrets/x", "web/exec", "web%2Fexec", "a\nb"] {
            assert!(matches!(pods().object(Some("d"), name), Err(CallError::Invalid(_))), "{name:?}");
            assert!(matches!(pods().object(Some(name), "web"), Err(CallError::Invalid(_))), "{name:?}");
        }
        for (group, version, kind) in [("a/b", "v1", "X"), ("..", "v1", "X"), ("", "v1/x", "X"), ("", "v1", "X/y")] {
            let kind = ResourceKind { group: group.into(), version: version.into(), kind: kind.into() };
            assert!(check_kind(&kind).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn a_namespace_is_never_guessed() {
        let error = pods().object(None, "web").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("needs a namespace"), "{error}");
        let node = Resource { namespaced: false, plural: "nodes".into(), kind: "Node".into(), ..pods() };
        assert_eq!(node.object(None, "n1").as_deref(), Ok("/api/v1/nodes/n1"));
        assert!(matches!(node.object(Some("d"), "n1"), Err(CallError::Invalid(_))));
    }

    #[test]
    fn the_newest_version_comes_first() {
        let group = json!({"versions": [
            {"version": "v1beta1"}, {"version": "v1"}, {"version": "v2beta2"}, {"version": "v10"}, {"version": "v1alpha1"}]});
        assert_eq!(versions(&group), ["v10", "v1", "v2beta2", "v1beta1", "v1alpha1"]);
    }

    #[test]
    fn kinds_are_found_and_mistakes_explained() {
        let list = json!({"resources": [
            {"name": "deployments/status", "kind": "Deployment", "namespaced": true},
            {"name": "deployments", "singularName": "deployment", "kind": "Deployment", "namespaced": true}]});
        let found = find(&list, "apps", "v1", "Deployment").expect("is served");
        assert_eq!((found.plural.as_str(), found.api_version().as_str()), ("deployments", "apps/v1"));
        assert_eq!(find(&list, "apps", "v1", "Deploy"), None);
        assert_eq!(similar(&list, "deployments").as_deref(), Some("Deployment"));
    }
}
