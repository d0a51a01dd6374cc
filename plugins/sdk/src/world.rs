//! Where calls to the world go: in a component to the host, anywhere else to a [fake world](crate::fake).

#[cfg(target_arch = "wasm32")]
mod host {
    pub(crate) use crate::bindings::runbook::files::trees::{Source, Tree, controller};
    pub(crate) use crate::bindings::runbook::kube::clusters::{Cluster, target};
    pub(crate) use crate::bindings::runbook::plugin::run::{baseline, log, pause, progress, receipt};
    pub(crate) use crate::bindings::runbook::ssh::machines::{Machine, targets};

    /// The run's clock, as milliseconds since 1970.
    pub(crate) fn now_ms() -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) use host::*;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::fake::handles::*;
