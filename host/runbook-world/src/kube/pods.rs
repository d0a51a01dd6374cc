//! What is in pods: a machine each, with the volumes of claims mounted.

use runbook_model::call::{CallError, Exit, ObjectRef, PodOutput};
use serde_json::Value;

use super::Cluster;
use crate::machine::{Invocation, Machine};
use crate::tree::Node;

/// Why nothing runs in a pod.
pub(super) enum Missing {
    /// Nobody described the program.
    Program(String),
    Call(CallError),
}

impl Cluster {
    /// Does something in a pod that runs.
    pub(super) fn within<T>(&mut self, pod: &ObjectRef, work: impl FnOnce(&mut Machine) -> T) -> Result<T, CallError> {
        let mounts = match self.get(pod)? {
            None => return Err(CallError::NotFound(format!("{pod} is not there"))),
            Some(live) if live["status"]["phase"] != "Running" => {
                return Err(CallError::Conflict(format!("{pod} does not run")));
            }
            Some(live) => mounts(live),
        };
        let namespace = pod.namespace.clone().unwrap_or_default();
        let name = format!("{namespace}/{}", pod.name);
        let fresh = || Machine { programs: self.programs.clone(), ..Machine::default() };
        let mut machine = self.pods.remove(&name).unwrap_or_else(fresh);
        let places: Vec<String> = mounts.iter().map(|mount| self.place_of(&namespace, &mount.claim)).collect();
        for (Mount { top, .. }, place) in mounts.iter().zip(&places) {
            machine.tree.put(top, Node::directory(0o755));
            for (path, node) in self.volumes.entry(place.clone()).or_default().iter() {
                machine.tree.put(&format!("{top}{path}"), node.clone());
            }
        }
        let done = work(&mut machine);
        for (Mount { top, read_only, .. }, place) in mounts.iter().zip(places) {
            if !read_only {
                self.volumes.insert(place, machine.tree.below(top));
            }
            machine.tree.remove(top);
        }
        self.pods.insert(name, machine);
        Ok(done)
    }

    /// The content of a file in a pod; none: there is no such file.
    pub(super) fn read(&mut self, pod: &ObjectRef, path: &str) -> Result<Option<Vec<u8>>, CallError> {
        self.within(pod, |machine| machine.tree.read(path).ok().map(<[u8]>::to_vec))
    }

    pub(super) fn execute(&mut self, pod: &ObjectRef, call: &Invocation, half: bool) -> Result<PodOutput, Missing> {
        let output = self.within(pod, |machine| machine.run(call, half)).map_err(Missing::Call)?;
        let output = output.ok_or_else(|| Missing::Program(format!("{pod} has no program for {}", call.said())))?;
        let exit_code = match output.exit {
            Exit::Code(code) => code,
            Exit::Signal(_) => 137,
        };
        Ok(PodOutput { exit_code, stdout: output.stdout, stderr: output.stderr })
    }
}

/// A claim that a pod has mounted.
struct Mount {
    claim: String,
    top: String,
    read_only: bool,
}

fn mounts(pod: &Value) -> Vec<Mount> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(|text| text.trim_end_matches('/').to_owned());
    let mut found = Vec::new();
    for volume in list(&pod["spec"]["volumes"]) {
        let Some(claim) = text(&volume["persistentVolumeClaim"]["claimName"]) else { continue };
        for container in list(&pod["spec"]["containers"]) {
            let mounts = list(&container["volumeMounts"]);
            found.extend(mounts.iter().filter(|mount| mount["name"] == volume["name"]).filter_map(|mount| {
                let (claim, read_only) = (claim.clone(), mount["readOnly"] == true);
                Some(Mount { claim, top: text(&mount["mountPath"])?, read_only })
            }));
        }
    }
    found
}
