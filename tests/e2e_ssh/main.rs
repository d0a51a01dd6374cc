//! `runbook` on real SSH hosts, from the file on the controller to the bytes on the host's disk.

mod broken;
mod counts;
mod disk;
mod durable;
mod elevation;
mod files;
mod fleet;
mod keys;
mod static_ip;
mod support;
mod systemd;
mod wires;
