//! What the tests of runbook stand on: real components, brought up by the labs of this crate.
//!
//! - [`TestEnv`] runs the built `runbook` in a world of its own and looks at what came out.
//! - [`component`] builds the guest programs of `components/`.
//! - [`Tree`] is a directory as it was, to compare with what it is.
//! - [`SshLab`] starts OpenSSH servers, each of them on a [`Machine`] with a file system of its own.
//! - [`Lan`] is a network of their own for such machines, which can be given other addresses there.
//! - [`Wire`] is a long way to one of them, and counts what goes over it: round trips, bytes.
//! - [`Registry`], [`Microk8s`], [`PulumiProject`]: what the microk8s and pulumi plugins act upon.
//! - [`Cluster`] is the Kubernetes that `tests/kube-lab/lab` brought up.
//!
//! Everything here panics where it cannot do its work: it runs in tests alone.

mod cluster;
mod component;
mod cuts;
mod env;
mod gateway;
mod lan;
mod machine;
mod microk8s;
mod outcome;
mod pulumi;
mod registry;
mod sshd;
mod tools;
mod tree;
mod wire;

pub use cluster::Cluster;
pub use component::component;
pub use cuts::{cuts, every_cut};
pub use env::TestEnv;
pub use gateway::{Gateway, Mishap};
pub use lan::{Lan, Renderer};
pub use machine::{Machine, MachineSpec};
pub use microk8s::{Generation, Microk8s};
pub use outcome::{Outcome, Running, filtered};
pub use pulumi::PulumiProject;
pub use registry::{Image, Registry, cri_pull};
pub use sshd::{LOGIN_FREE, LOGIN_PASSWORD, LOGIN_PLAIN, PASSWORD, SshHost, SshLab};
pub use tools::{free_port, tests_dir, wait_until};
pub use tree::Tree;
pub use wire::{Fault, Traffic, Way, Wire};
