//! Drives a plan: the run, its attempts, the broker that every call passes. Knows traits, not wasmtime, SSH or Kubernetes.

pub mod ahead;
mod attempt;
pub mod backend;
pub mod broker;
pub mod journal;
pub mod plugin;
pub mod run;
pub mod scope;
mod step;
