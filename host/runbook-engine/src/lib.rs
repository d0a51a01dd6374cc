//! Drives a plan: the run, its attempts, the broker that every call passes; resume and undo. Knows traits, not wasmtime, SSH or
//! Kubernetes.

pub mod ahead;
mod attempt;
mod back;
pub mod backend;
pub mod broker;
mod change;
pub mod clock;
pub mod compare;
pub mod drill;
pub mod journal;
mod notes;
mod places;
pub mod plugin;
pub mod receipts;
mod replay;
pub mod run;
pub mod scope;
pub mod shared;
mod step;
mod unwind;
pub mod vault;
