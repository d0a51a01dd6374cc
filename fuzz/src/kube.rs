//! Bytes of API servers, and of who hands out kubeconfigs.

use futures::executor::block_on;
use runbook_kube::fuzz;

/// A kubeconfig from another machine never gets a file read or a program run on this one.
pub(crate) fn kubeconfig(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let power = block_on(fuzz::kubeconfig(text));
    assert!(power.is_empty(), "it would use {power:?}");
}

/// What an API server answers.
pub(crate) fn answers(data: &[u8]) {
    fuzz::answers(data);
}
