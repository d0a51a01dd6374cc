//! A fake cluster.

use serde_json::Value;

use crate::bindings::runbook::kube::clusters as raw;

/// A cluster that was never there. Of the kinds that were named it has the objects that were given, and no others; of other kinds it
/// knows nothing.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) name: String,
    kinds: Vec<String>,
    objects: Vec<Value>,
    pub(crate) programs: Vec<(Vec<String>, raw::PodOutput)>,
}

impl Cluster {
    /// A cluster of which nothing is known but its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), kinds: Vec::new(), objects: Vec::new(), programs: Vec::new() }
    }

    /// All objects of a kind.
    ///
    /// ```
    /// # use runbook_sdk::{fake::Cluster, prelude::*};
    /// let plex = json!({ "metadata": { "name": "plex", "namespace": "media" }, "spec": { "replicas": 1 } });
    /// let cluster = Cluster::new("home").objects("Deployment", [plex]).objects("Pod", []);
    /// ```
    #[must_use]
    pub fn objects(mut self, kind: &str, objects: impl IntoIterator<Item = Value>) -> Self {
        self.kinds.push(kind.to_owned());
        for mut object in objects {
            object["kind"] = kind.into();
            self.objects.push(object);
        }
        self
    }

    /// A program in any pod ends with this exit code and output.
    #[must_use]
    pub fn program(
        mut self,
        argv: impl IntoIterator<Item = impl Into<String>>,
        exit_code: i32,
        stdout: impl Into<Vec<u8>>,
    ) -> Self {
        let output = raw::PodOutput { exit_code, stdout: stdout.into(), stderr: Vec::new() };
        self.programs.push((argv.into_iter().map(Into::into).collect(), output));
        self
    }

    /// An object as it is now; none where there is none.
    pub fn object(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<&Value> {
        self.objects.iter().find(|object| is(object, kind, namespace, name))
    }

    pub(crate) fn knows(&self, kind: &str) -> bool {
        self.kinds.iter().any(|known| known == kind)
    }

    pub(crate) fn select(&self, selector: &raw::Selector) -> Vec<&Value> {
        let namespace = selector.namespace.as_deref();
        let fits = |object: &&Value| {
            object["kind"] == selector.kind.kind.as_str()
                && (namespace.is_none() || object["metadata"]["namespace"].as_str() == namespace)
                && pairs(selector.labels.as_deref()).all(|(key, value)| object["metadata"]["labels"][key] == value)
                && pairs(selector.fields.as_deref()).all(|(path, value)| {
                    object.pointer(&format!("/{}", path.replace('.', "/"))).is_some_and(|found| found == value)
                })
        };
        self.objects.iter().filter(fits).collect()
    }

    /// Puts an object in the place of the one of its name, if it is another. Whether it was.
    pub(crate) fn put(&mut self, object: Value) -> bool {
        let metadata = &object["metadata"];
        let (namespace, name) = (metadata["namespace"].as_str(), metadata["name"].as_str().unwrap_or_default());
        let kind = object["kind"].as_str().unwrap_or_default();
        match self.objects.iter().position(|known| is(known, kind, namespace, name)) {
            Some(index) if self.objects[index] == object => false,
            Some(index) => {
                self.objects[index] = object;
                true
            }
            None => {
                self.objects.push(object);
                true
            }
        }
    }

    /// Whether there was one.
    pub(crate) fn remove(&mut self, kind: &str, namespace: Option<&str>, name: &str) -> bool {
        let before = self.objects.len();
        self.objects.retain(|object| !is(object, kind, namespace, name));
        self.objects.len() < before
    }
}

/// The conditions of a selector; only equality is known, and anything else fits nothing.
fn pairs(selector: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let parts = selector.unwrap_or_default().split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "\0")))
        .map(|(key, value)| (key, value.trim_start_matches('=')))
}

fn is(object: &Value, kind: &str, namespace: Option<&str>, name: &str) -> bool {
    let metadata = &object["metadata"];
    object["kind"] == kind && metadata["name"] == name && metadata["namespace"].as_str() == namespace
}

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
