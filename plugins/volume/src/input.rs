//! What stands under `with`, and what later steps can refer to.

use runbook_sdk::prelude::*;

/// Inputs of `volume/seed`.
#[derive(Debug, Clone, Input)]
pub(crate) struct Input {
    /// Namespace of the claim.
    #[input(min_length = 1)]
    pub(crate) namespace: String,
    /// Name of the PersistentVolumeClaim. One that waits for its first consumer is bound by this.
    #[input(min_length = 1)]
    pub(crate) claim: String,
    /// Name of this seed: several can fill one volume. Part of the marker file, the record on the claim and the pod's name.
    #[input(pattern = "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", default = "files")]
    pub(crate) name: String,
    /// A file on the controller, or a folder: then everything in it, or what `files` names of it.
    #[input(min_length = 1)]
    pub(crate) source: ControllerPath,
    /// Where it goes in the volume, relative to its top. For a file: its path there, or ending in `/` the folder that it goes to;
    /// left out: its name at the top. For a folder: the folder that takes its place; left out: the top.
    #[input(default = "")]
    pub(crate) path: String,
    /// Some files of the folder `source`. Left out: all of them.
    #[input(min_items = 1, max_items = 500)]
    pub(crate) files: Option<Vec<File>>,
    /// Numeric user of the files, as the workload runs. Left out: root for new files, as they are for others.
    #[input(maximum = 4294967294)]
    pub(crate) owner: Option<u32>,
    /// Numeric group of the files, such as the fsGroup of the workload. Left out: root for new files, as they are for others.
    #[input(maximum = 4294967294)]
    pub(crate) group: Option<u32>,
    /// Permission bits of the files.
    #[input(default = "0644")]
    pub(crate) mode: Mode,
    /// Image of the seeding pod: a shell, sha256sum, stat and head, as in busybox. Pulled only where the node does not have it.
    #[input(min_length = 1, default = "docker.io/library/busybox:1.35")]
    pub(crate) image: String,
    /// Remove what an earlier seed of this name put there and what is not wanted any more. Other files are never touched.
    #[input(default = false)]
    pub(crate) remove_extra: bool,
    /// How long the seeding pod may take to start (at most 5 minutes); it ends by itself after twice this time.
    #[input(default = "10m")]
    pub(crate) timeout: Period,
}

/// One file, below `source`.
#[derive(Debug, Clone, Input)]
pub(crate) struct File {
    /// Relative to the input `source`.
    #[input(min_length = 1)]
    pub(crate) source: String,
    /// Relative to the input `path`. Left out: the same as `source`.
    #[input(min_length = 1)]
    pub(crate) path: Option<String>,
    /// Permission bits, such as "0600". Left out: the input `mode`.
    pub(crate) mode: Option<Mode>,
}

impl Input {
    /// `NAMESPACE/NAME` of the claim.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.claim)
    }

    /// The marker in the volume, relative to its top.
    pub(crate) fn marker(&self) -> String {
        format!(".runbook-seed-{}.sha256", self.name)
    }

    /// The annotation of the claim that says what was seeded.
    pub(crate) fn record(&self) -> String {
        format!("runbook/seed-{}", self.name)
    }
}

/// Outputs of `volume/seed`.
#[derive(Debug, Output)]
pub(crate) struct Output {
    /// Number of files that are to be there.
    pub(crate) files: usize,
    /// Bytes of all of them.
    pub(crate) bytes: u64,
    /// Whether something had to be done.
    pub(crate) changed: bool,
}
