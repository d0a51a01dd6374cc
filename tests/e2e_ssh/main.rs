//! `runbook` on real SSH hosts, from the file on the controller to the bytes on the host's disk.

mod files;
