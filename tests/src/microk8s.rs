//! A node of microk8s: its directories, the stand-ins for `microk8s` and `snap`, and Debian's real containerd.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::machine::MachineSpec;
use crate::registry::cri_pull;
use crate::sshd::{SshHost, SshLab};
use crate::tools::{must, open_temp_dir, put, tests_dir, text};

const DATA: &str = "/var/snap/microk8s/current";
const COMMON: &str = "/var/snap/microk8s/common";
const STATE: &str = "/var/lib/runbook-standins";
const STANDINS: &str = "/usr/local/lib/runbook-standins";

/// How the node's containerd is told of registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Installed at 1.23 or later: `config_path` in the template, one directory of `certs.d` for each registry.
    CertsD,
    /// Installed at 1.22 or earlier, and refreshed since: `registry.mirrors` in the template.
    Mirrors,
}

/// SSH hosts that are nodes of microk8s. `microk8s` is `/snap/bin/microk8s`, `snap` is `/usr/bin/snap`, both stand-ins with the
/// outputs of the real ones; containerd is the real one, started with the node's own template as microk8s does.
#[derive(Debug)]
pub struct Microk8s {
    lab: SshLab,
    // After the lab, whose machines have these directories open.
    commons: tempfile::TempDir,
}

impl Microk8s {
    /// Starts `n` nodes, `h1` to `hN`, with containerd running on each.
    ///
    /// # Panics
    ///
    /// When a node does not start.
    pub fn start(n: usize, generation: Generation) -> Self {
        Self::start_with(n, generation, &[])
    }

    /// The same, with directories of this computer seen by every node: `(from, to)`. A `certs.d` of a cluster's node, say.
    ///
    /// # Panics
    ///
    /// When a node does not start.
    pub fn start_with(n: usize, generation: Generation, binds: &[(&Path, &str)]) -> Self {
        let commons = open_temp_dir("runbook-microk8s-", &std::env::temp_dir());
        // One directory for all of them, in which each machine has its own (see below): containerd's own layers may not lie on an
        // overlay.
        let common = (commons.path().to_owned(), commons.path().to_owned());
        let mut spec = MachineSpec { binds: vec![common], ..MachineSpec::default() };
        spec.binds.extend(binds.iter().map(|(from, to)| ((*from).to_owned(), PathBuf::from(to))));
        let lab = SshLab::start_with(n, spec);
        let nodes = Self { lab, commons };
        for host in nodes.lab.hosts() {
            nodes.install(host, generation);
        }
        nodes
    }

    fn install(&self, host: &SshHost, generation: Generation) {
        let common = self.commons.path().join(host.name());
        std::fs::create_dir_all(&common).expect("a fresh directory can be written to");
        host.machine().put("/var/snap/microk8s/.keep", "", 0o644);
        link(&common, &host.path(COMMON));
        let template = match generation {
            Generation::CertsD => "containerd-template.toml",
            Generation::Mirrors => "containerd-template-1.22.toml",
        };
        let standins = tests_dir().join("standins");
        let copy = |from: &Path, to: &str, mode| {
            host.machine().put(to, std::fs::read(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())), mode)
        };
        host.machine().put("/var/snap/microk8s/7964/args/.keep", "", 0o644);
        link(Path::new("7964"), &host.path(DATA));
        copy(&standins.join(template), &format!("{DATA}/args/containerd-template.toml"), 0o660);
        if generation == Generation::CertsD {
            let hosts = "server = \"https://registry-1.docker.io\"\n\n[host.\"https://registry-1.docker.io\"]\n  capabilities = [\"pull\", \"resolve\"]\n";
            host.machine().put(format!("{DATA}/args/certs.d/docker.io/hosts.toml"), hosts, 0o660);
        }
        for recorded in std::fs::read_dir(standins.join("recorded"))
            .expect("the recorded outputs are part of the project")
            .flatten()
        {
            copy(&recorded.path(), &format!("{STANDINS}/recorded/{}", recorded.file_name().to_string_lossy()), 0o644);
        }
        for (name, at) in [("microk8s", "/snap/bin"), ("snap", "/usr/bin")] {
            copy(&standins.join(name), &format!("{STANDINS}/{name}"), 0o755);
            host.machine().put(format!("{at}/.keep"), "", 0o644);
            link(&Path::new(STANDINS).join(name), &host.path(at).join(name));
        }
        host.machine().put(format!("{STATE}/calls.log"), "", 0o644);
        let out = host.run(&["snap", "start", "microk8s"]);
        assert!(
            out.status.success(),
            "containerd of {} did not start: {}{}",
            host.name(),
            String::from_utf8_lossy(&out.stderr),
            self.containerd_log(host)
        );
    }

    /// The hosts.
    pub fn lab(&self) -> &SshLab {
        &self.lab
    }

    /// The hosts, to stop one.
    pub fn lab_mut(&mut self) -> &mut SshLab {
        &mut self.lab
    }

    /// Sets the state of the stand-in for `microk8s` on a host; its keys are at the top of `tests/standins/microk8s`.
    pub fn set_state(&self, host: &SshHost, state: &Value) {
        host.machine().put(format!("{STATE}/microk8s.json"), state.to_string(), 0o644);
    }

    /// Gives a host the kubeconfig that `microk8s config` prints and `microk8s kubectl` uses.
    pub fn set_kubeconfig(&self, host: &SshHost, kubeconfig: &Path) {
        host.machine().put(format!("{STATE}/kubeconfig"), std::fs::read(kubeconfig).expect("the cluster is up"), 0o600);
    }

    /// The calls of both stand-ins on a host so far, one in a line.
    pub fn calls(&self, host: &SshHost) -> String {
        std::fs::read_to_string(host.path(STATE).join("calls.log")).unwrap_or_default()
    }

    /// What containerd of a host logged since its last start.
    pub fn containerd_log(&self, host: &SshHost) -> String {
        std::fs::read_to_string(host.path(STATE).join("containerd.log")).unwrap_or_default()
    }

    /// Pulls an image on a host as the kubelet does.
    ///
    /// # Errors
    ///
    /// What containerd says is wrong.
    pub fn pull(&self, host: &SshHost, image: &str) -> Result<String, String> {
        cri_pull(&self.commons.path().join(host.name()).join("run/containerd.sock"), image)
    }

    /// Makes the name of a registry known to a host, as the line of its `/etc/hosts` that a step would write.
    pub fn add_name(&self, host: &SshHost, address: &str, name: &str) {
        let path = host.path("/etc/hosts");
        let hosts = std::fs::read_to_string(&path).unwrap_or_default();
        put(&path, format!("{hosts}{address} {name}\n"), 0o644);
    }
}

impl Drop for Microk8s {
    fn drop(&mut self) {
        // The machines' mounts go with the machines; containerd may have mounted snapshots below its own directory as well.
        for host in self.lab.hosts() {
            if !host.machine().processes().is_empty() {
                drop(host.run(&["snap", "stop", "microk8s"]));
            }
        }
    }
}

fn link(to: &Path, at: &Path) {
    if at.symlink_metadata().is_ok() {
        must(&["rm", "-rf", text(at)]);
    }
    std::os::unix::fs::symlink(to, at).unwrap_or_else(|e| panic!("linking {} to {}: {e}", at.display(), to.display()));
}
