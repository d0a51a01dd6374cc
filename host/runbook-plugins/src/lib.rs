//! The wasmtime embedding: runs plugins as components, and gives each call the capabilities of `wit/` and nothing else.
//!
//! [`Host`] holds the plugins of the program. A plugin is read ([`Host::load`]) without being compiled, is compiled or taken
//! from the cache at its first use ([`Host::prepare`]), and runs in a store of its own for each call, which is thrown away
//! afterwards. Every capability call is turned into a [`runbook_model::call::Request`] at once and leaves by the
//! [`Road`](runbook_engine::plugin::Road) of the step: nothing here knows grants, modes, journals, SSH or Kubernetes.
//!
//! What a plugin gets by default: no file, no socket, no environment, no arguments, the run's clock and random numbers, and
//! [`Limits`].
//!
//! Not supported: the asynchronous part of the component model, WASI 0.3, threads.

mod bindings;
mod call;
mod convert;
mod engine;
mod files;
mod host;
mod kube;
mod limits;
mod load;
mod output;
mod pool;
mod preflight;
mod run;
mod ssh;
mod state;
mod wasi;

pub use host::{Host, LoadError, Loaded, Options, StartError};
pub use limits::{LONGEST, Limits};
