//! Drives a plan: the run, its attempts, the broker that every call passes. Knows traits, not wasmtime, SSH or Kubernetes.

pub mod backend;
pub mod plugin;
