//! Worlds that an author describes, in TOML.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::kube::Cluster;
use crate::machine::{Machine, Program};
use crate::rules::Rule;
use crate::state::State;
use crate::tree::{Node, normal};

/// Bytes: no description is larger.
pub const LARGEST: usize = 1 << 20;

/// A description that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is no TOML, or has keys that nobody knows.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// Objects that are no YAML.
    #[error("the objects of cluster {0}: {1}")]
    Yaml(String, serde_yaml_ng::Error),
    /// An object without a name or a kind.
    #[error("an object of cluster {0}: {1}")]
    Object(String, String),
    /// A path that is not absolute.
    #[error("{0}: {1}")]
    Path(String, String),
}

/// A world as it is written down.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    /// Machines of the inventory, by name.
    #[serde(default)]
    machine: BTreeMap<String, MachineFile>,
    /// Files of this computer, as the plugin sees it. The runbook's folder is `/case`.
    #[serde(default)]
    controller: MachineFile,
    /// Clusters of the inventory, by name.
    #[serde(default)]
    cluster: BTreeMap<String, ClusterFile>,
    /// Programs of all machines, after their own.
    #[serde(default)]
    program: Vec<Rule>,
    /// Harm that a plugin has to notice, besides each of its own changes being undone.
    #[serde(default)]
    sabotage: Vec<Sabotage>,
    /// Harm that is not noticed, as [`Thing`](crate::Thing) names it, and why that is right.
    #[serde(default)]
    unnoticed: BTreeMap<String, String>,
}

/// What a description describes.
pub struct Read {
    /// The world.
    pub state: State,
    /// Harm that a plugin has to notice.
    pub sabotage: Vec<Sabotage>,
    /// Harm that it need not notice, and why.
    pub unnoticed: BTreeMap<String, String>,
}

/// Harm that somebody does to a machine behind everybody's back.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sabotage {
    /// Which machine.
    pub on: String,
    /// Values; an empty one is forgotten.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Files that are written.
    #[serde(default)]
    write: BTreeMap<String, String>,
    /// What is removed.
    #[serde(default)]
    remove: Vec<String>,
}

impl Sabotage {
    /// Does the harm.
    pub fn strike(&self, state: &mut State) {
        let Some(machine) = state.machines.get_mut(&self.on) else { return };
        for (name, value) in &self.set {
            match value.is_empty() {
                true => drop(machine.values.remove(name)),
                false => drop(machine.values.insert(name.clone(), value.clone())),
            }
        }
        for (path, text) in &self.write {
            machine.tree.put(path, Node::file(text, 0o644));
        }
        self.remove.iter().for_each(|path| machine.tree.remove(path));
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let touched: Vec<&str> =
            self.set.keys().chain(self.write.keys()).chain(&self.remove).map(String::as_str).collect();
        write!(f, "{} on {}", touched.join(", "), self.on)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineFile {
    /// Such as "ubuntu 24.04".
    os: Option<String>,
    arch: Option<String>,
    /// A text is a file of mode 0644; a path that ends in `/` is a directory.
    #[serde(default)]
    files: BTreeMap<String, FileEntry>,
    /// What its programs remember.
    #[serde(default)]
    values: BTreeMap<String, String>,
    #[serde(default)]
    program: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FileEntry {
    Text(String),
    Whole(WholeFile),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeFile {
    content: Option<String>,
    link: Option<String>,
    mode: Option<String>,
    owner: Option<String>,
    group: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    /// YAML documents, as `kubectl get -o yaml` prints them.
    #[serde(default)]
    objects: String,
    /// Kinds that it serves besides the usual ones and those of its objects: "Application.argoproj.io".
    #[serde(default)]
    serves: Vec<String>,
    /// What is in its volumes, by the volume's name, or `namespace/name` of the claim where no volume is described.
    #[serde(default)]
    volumes: BTreeMap<String, BTreeMap<String, FileEntry>>,
    /// Programs of its pods, and what jobs run.
    #[serde(default)]
    program: Vec<Rule>,
}

/// Reads a description.
///
/// # Errors
///
/// What is wrong with it.
pub fn read(text: &str) -> Result<Read, FileError> {
    let Described { machine, controller, cluster, program, sabotage, unnoticed } = toml::from_str(text)?;
    let mut state = State::default();
    let shared = programs(program);
    for (name, file) in machine.into_iter().chain([("controller".to_owned(), controller)]) {
        let made = file.machine(&name, &shared)?;
        state.machines.insert(name, made);
    }
    for (name, file) in cluster {
        let made = file.cluster(&name)?;
        state.clusters.insert(name, made);
    }
    Ok(Read { state, sabotage, unnoticed })
}

fn programs(rules: Vec<Rule>) -> Vec<Arc<dyn Program>> {
    rules.into_iter().map(|rule| Arc::new(rule) as Arc<dyn Program>).collect()
}

impl MachineFile {
    fn machine(self, name: &str, shared: &[Arc<dyn Program>]) -> Result<Machine, FileError> {
        let mut machine = Machine { values: self.values, programs: programs(self.program), ..Machine::default() };
        machine.programs.extend(shared.iter().cloned());
        machine.facts.hostname = name.to_owned();
        if let Some((id, version)) = self.os.as_deref().map(|os| os.split_once(' ').unwrap_or((os, ""))) {
            (machine.facts.os_id, machine.facts.os_version) = (id.to_owned(), version.to_owned());
        }
        if let Some(arch) = self.arch {
            machine.facts.arch = arch;
        }
        // Temporary files have a place everywhere.
        machine.tree.put("/tmp", Node::directory(0o1777));
        for (path, entry) in self.files {
            let plain = normal(&path).map_err(|error| FileError::Path(path.clone(), error.to_string()))?;
            machine.tree.put(&plain, entry.node(&path)?);
        }
        Ok(machine)
    }
}

impl FileEntry {
    fn node(self, path: &str) -> Result<Node, FileError> {
        let file = match self {
            Self::Text(content) => WholeFile { content: Some(content), ..WholeFile::default() },
            Self::Whole(file) => file,
        };
        let wrong = |what: &str| FileError::Path(path.to_owned(), what.to_owned());
        let mode = file.mode.as_deref().map(|mode| u32::from_str_radix(mode, 8)).transpose();
        let mode = mode.map_err(|_| wrong("the mode is no octal number"))?;
        let mut node = match (file.content, file.link, path.ends_with('/')) {
            (None, Some(target), false) => Node::link(target),
            (Some(content), None, false) => Node::file(content, mode.unwrap_or(0o644)),
            (None, None, true) => Node::directory(mode.unwrap_or(0o755)),
            _ => return Err(wrong("a file has `content`, a link has `link`, and the path of a directory ends in `/`")),
        };
        node.owner = file.owner.unwrap_or(node.owner);
        node.group = file.group.unwrap_or(node.group);
        Ok(node)
    }
}

impl ClusterFile {
    fn cluster(self, name: &str) -> Result<Cluster, FileError> {
        let mut cluster = Cluster::default();
        cluster.programs = programs(self.program);
        for kind in &self.serves {
            let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
            cluster.serve(group, kind);
        }
        for document in serde_yaml_ng::Deserializer::from_str(&self.objects) {
            let object = Value::deserialize(document).map_err(|error| FileError::Yaml(name.to_owned(), error))?;
            if !object.is_null() {
                cluster.admit(object).map_err(|error| FileError::Object(name.to_owned(), error))?;
            }
        }
        for (volume, files) in self.volumes {
            let tree = cluster.volumes.entry(volume).or_default();
            for (path, entry) in files {
                let plain = normal(&path).map_err(|error| FileError::Path(path.clone(), error.to_string()))?;
                tree.put(&plain, entry.node(&path)?);
            }
        }
        cluster.begin();
        Ok(cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: &str = r#"
[machine.node1]
os = "ubuntu 24.04"
values = { "service web" = "active" }
[machine.node1.files]
"/etc/motd" = "hello\n"
"/etc/secret" = { content = "x", mode = "0600", owner = "app" }
"/srv/data/" = { mode = "0750" }
"/srv/now" = { link = "data" }
[[machine.node1.program]]
argv = ["uptime"]
stdout = "up"
[cluster.home]
serves = ["Application.argoproj.io"]
objects = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: shop}
---
apiVersion: v1
kind: Node
metadata: {name: node1}
"""
"#;

    #[test]
    fn a_world_is_read() {
        let Read { state, .. } = read(WORLD).expect("a world");
        let node = &state.machines["node1"];
        assert_eq!(node.tree.get("/etc/secret").map(|node| (node.mode, node.owner.as_str())), Some((0o600, "app")));
        assert!(node.tree.is_directory("/srv/data") && node.tree.is_directory("/srv"));
        assert_eq!(node.facts.os_version, "24.04");
        assert!(state.machines.contains_key("controller"));
        assert_eq!(state.clusters["home"].objects().count(), 5, "two, their namespace, and two that are always there");
    }

    #[test]
    fn mistakes_are_told() {
        for (text, told) in [
            ("[machine.a]\nfile = 1", "unknown field"),
            ("[machine.a.files]\n\"etc\" = \"\"", "not absolute"),
            ("[machine.a.files]\n\"/x\" = { mode = \"9\", content = \"\" }", "octal"),
            ("[machine.a.files]\n\"/x/\" = \"\"", "ends in `/`"),
            ("[cluster.a]\nobjects = \"kind: X\"", "no apiVersion"),
        ] {
            let error = read(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
