//! A node of MicroK8s: where its files are, and what it says of itself.

use runbook_sdk::prelude::*;

use super::input::Registry;
use super::template::{self, Generation};

/// What `microk8s status` means. Its exit code does not say: it is 0 on a node that is stopped, and on a worker.
#[derive(Debug, PartialEq)]
pub(super) enum Status {
    /// The API server answers.
    Running,
    /// Not (yet). containerd may run all the same.
    NotReady,
    /// By `microk8s stop`, until somebody starts it.
    Stopped,
    /// The node runs pods, and its control plane is elsewhere.
    Worker,
}

impl Status {
    /// Reads what `microk8s status --format yaml` printed; none where it is nothing of the kind.
    fn read(text: &str) -> Option<Self> {
        let line = |wanted: &str| text.lines().any(|line| line.trim() == wanted);
        if text.starts_with("This MicroK8s deployment is acting as a node in a cluster.") {
            Some(Self::Worker)
        } else if line("running: True") || text.starts_with("microk8s is running") {
            Some(Self::Running)
        } else if text.starts_with("microk8s is not running, try microk8s start") {
            Some(Self::Stopped)
        } else if line("running: False") || text.starts_with("microk8s is not running.") {
            Some(Self::NotReady)
        } else {
            None
        }
    }
}

/// A node of MicroK8s.
pub(super) struct Node {
    pub(super) machine: Machine,
    data_dir: String,
}

impl Node {
    pub(super) fn target(data_dir: &str) -> Result<Self> {
        Ok(Self { machine: Machine::target("host")?, data_dir: data_dir.to_owned() })
    }

    pub(super) fn name(&self) -> String {
        self.machine.name()
    }

    pub(super) fn template_path(&self) -> String {
        format!("{}/args/containerd-template.toml", self.data_dir)
    }

    /// What containerd was started with; made of the template at each start, never to be edited.
    pub(super) fn rendered_path(&self) -> String {
        format!("{}/args/containerd.toml", self.data_dir)
    }

    pub(super) fn certs_d(&self) -> String {
        format!("{}/args/certs.d", self.data_dir)
    }

    pub(super) fn hosts_dir(&self, registry: &Registry) -> String {
        format!("{}/{}", self.certs_d(), registry.namespace_host())
    }

    pub(super) fn hosts_toml(&self, registry: &Registry) -> String {
        format!("{}/hosts.toml", self.hosts_dir(registry))
    }

    /// The text of containerd's template.
    ///
    /// # Errors
    ///
    /// Where this is no node of MicroK8s.
    pub(super) fn template(&self) -> Result<String> {
        let path = self.template_path();
        if let Some(text) = self.machine.files().read_text_if_found(&path)? {
            return Ok(text);
        }
        let snap = self.machine.cmd(["snap", "list", "microk8s"]).reads(["snap:microk8s"]).observe()?;
        if snap.success() {
            fail!(
                "MicroK8s is installed on {}, but there is no {path}: if its data is elsewhere, say so with `data_dir`; \
                 else its installation is broken (`snap changes`, `microk8s inspect`)",
                self.name()
            );
        }
        fail!(
            "{} is no node of MicroK8s: there is no {path}, and `snap list microk8s` says: {}. Install it first, or name \
             another host",
            self.name(),
            snap.stderr_text()
        )
    }

    pub(super) fn generation(&self, template: &str) -> Result<Generation> {
        template::generation(template, &self.data_dir)
            .map_err(|why| Error::conflict(format!("{} on {}: {why}", self.template_path(), self.name())))
    }

    /// How to call `microk8s`: /snap/bin is often not in the PATH of a session over SSH.
    pub(super) fn program(&self) -> Result<&'static str> {
        const SNAP: &str = "/snap/bin/microk8s";
        Ok(if self.machine.files().exists(SNAP)? { SNAP } else { "microk8s" })
    }

    pub(super) fn status(&self) -> Result<Status> {
        let output = self
            .machine
            .cmd([self.program()?, "status", "--format", "yaml"])
            .reads(["snap:microk8s", "service:microk8s"])
            .privileged()
            .timeout(Period::minutes(2))
            .observe()?;
        let text = output.text();
        if text.starts_with("Insufficient permissions") {
            fail!(
                "`microk8s status` on {} says: Insufficient permissions. Give the host `become`, or a user in the group microk8s",
                self.name()
            );
        }
        match Status::read(&text) {
            Some(status) => Ok(status),
            None => Err(output.error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_by_their_words() {
        for (text, status) in [
            (include_str!("../../testdata/microk8s_status_single.yaml"), Some(Status::Running)),
            (include_str!("../../testdata/microk8s_status_notready.yaml"), Some(Status::NotReady)),
            (include_str!("../../testdata/microk8s_status_stopped.txt"), Some(Status::Stopped)),
            (include_str!("../../testdata/microk8s_status_worker.txt"), Some(Status::Worker)),
            ("", None),
        ] {
            assert_eq!(Status::read(text), status, "{text}");
        }
    }
}
