//! Kubernetes clusters as a capability backend.
//!
//! [`KubeBackend`] answers [`runbook_engine::backend::Backend`] for clusters of the inventory, from Kubernetes 1.20 on.
//!
//! - Observations and the look before a change use a client that cannot change anything: the [`gate`] below it lets
//!   through `GET` and `dryRun=All` alone. Changes use another one.
//! - "Not there" is said only where an authenticated API server said so of that very object.
//! - Every wait has an end: the connection 10 s, one request 60 s, everything the call's own deadline.
//! - Before the first change of a run, and until it ends, a [`lease`] keeps other controllers away from the cluster.
//! - Secrets in manifests and patches (`{"$secret": "name"}`) are put in here, right before they are sent.
//!
//! Not supported: port forwarding, attaching to a process, terminals, proxies from the environment (`HTTPS_PROXY`).

mod access;
mod backend;
mod connect;
mod copy;
mod diagnose;
mod evict;
mod exec;
pub mod gate;
mod lease;
mod lock;
mod objects;
mod refusal;
mod resource;
mod secrets;
mod session;
mod settle;
mod tls;
mod wait;

pub use access::{ClusterAccess, Dial, KubeconfigSource, Origin, SourceReader, Stream};
pub use backend::KubeBackend;
