//! The backend against real shells: dash, busybox and bash on this machine, and real sshd servers, with sudo.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "machine/commands.rs"]
mod commands;
#[path = "machine/confirm.rs"]
mod confirm;
#[path = "machine/crash.rs"]
mod crash;
#[path = "machine/files.rs"]
mod files;
#[path = "machine/hostile.rs"]
mod hostile;
#[path = "machine/leases.rs"]
mod leases;
#[path = "machine/marks.rs"]
mod marks;
#[path = "machine/network.rs"]
mod network;
#[path = "machine/remote.rs"]
mod remote;
mod sshd;
#[path = "machine/world.rs"]
mod world;
