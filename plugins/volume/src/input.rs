//! What stands under `with`, and what later steps can refer to.

use runbook_sdk::prelude::*;

/// Inputs of `volume/seed`. `plugin.toml` describes them.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Input {
    pub(crate) namespace: String,
    pub(crate) claim: String,
    #[serde(default = "default_name")]
    pub(crate) name: String,
    pub(crate) source: String,
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) files: Option<Vec<File>>,
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
    #[serde(default = "default_mode")]
    pub(crate) mode: Mode,
    #[serde(default = "default_image")]
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) remove_extra: bool,
    #[serde(default = "default_timeout")]
    pub(crate) timeout: Period,
}

/// One file, below `source`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct File {
    pub(crate) source: String,
    pub(crate) path: Option<String>,
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

fn default_name() -> String {
    "files".to_owned()
}

fn default_mode() -> Mode {
    Mode::new(0o644)
}

fn default_image() -> String {
    "docker.io/library/busybox:1.35".to_owned()
}

fn default_timeout() -> Period {
    Period::minutes(10)
}

/// Outputs of `volume/seed`.
#[derive(Debug, Serialize)]
pub(crate) struct Output {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) changed: bool,
}
