//! `runbook` on a real Kubernetes with a real node, from the file on the controller to the bytes on the node's disk.

mod apply;
mod bench;
mod blocks;
mod dr;
mod durable;
mod interrupted;
mod migrate;
mod mishaps;
mod purity;
mod seed;
mod trouble;
