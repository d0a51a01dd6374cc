//! `runbook` on this machine as its own host, from the file to what lies on the disk afterwards. Needs nothing but a compiler.

mod ask;
mod authoring;
mod disks;
mod durable;
mod ending;
mod hostile;
mod language;
mod laws;
mod limits;
mod mistakes;
mod packs;
mod quickstart;
mod report;
mod runs;
mod secrets;
mod support;
