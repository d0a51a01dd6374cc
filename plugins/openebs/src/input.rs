//! What stands under `with`, and what later steps can refer to.

use runbook_sdk::prelude::*;

/// Inputs of `openebs/migrate`. `plugin.toml` describes them.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Input {
    pub(crate) namespace: String,
    pub(crate) claim: String,
    #[serde(default = "default_class")]
    pub(crate) to_class: String,
    pub(crate) from_class: Option<String>,
    pub(crate) size: Option<String>,
    pub(crate) node: Option<String>,
    #[serde(default)]
    pub(crate) allow_empty: bool,
    #[serde(default = "default_image")]
    pub(crate) image: String,
    #[serde(default = "yes")]
    pub(crate) keep_old: bool,
    #[serde(default = "yes")]
    pub(crate) pause_gitops: bool,
    #[serde(default)]
    pub(crate) gitops: Vec<String>,
    #[serde(default = "default_timeout")]
    pub(crate) timeout: Period,
}

impl Input {
    /// `NAMESPACE/NAME` of the claim.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.claim)
    }
}

fn default_class() -> String {
    "openebs-hostpath".to_owned()
}

fn default_image() -> String {
    "docker.io/library/debian:12-slim".to_owned()
}

fn default_timeout() -> Period {
    Period::minutes(60)
}

fn yes() -> bool {
    true
}

/// Outputs of `openebs/migrate`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Output {
    pub(crate) old_volume: Option<String>,
    pub(crate) new_volume: Option<String>,
    pub(crate) files: Option<u64>,
    pub(crate) checksum: Option<String>,
    pub(crate) node: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_inputs_are_enough() {
        let input: Input = serde_json::from_value(json!({ "namespace": "homeslice", "claim": "chime" })).unwrap();
        assert_eq!((input.to_class.as_str(), input.keep_old, input.pause_gitops), ("openebs-hostpath", true, true));
        assert_eq!((input.key().as_str(), input.timeout), ("homeslice/chime", Period::minutes(60)));
    }
}
