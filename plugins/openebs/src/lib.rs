//! Standard plugin `openebs`: a claim moves to another storage class and keeps its name.
//!
//! One file per phase. [`stage`] says from the state of the cluster alone which phase is due, so that a migration goes on from
//! wherever it was interrupted:
//!
//! - `refuse`: everything that cannot be moved safely, said before anything is changed;
//! - `pause`: GitOps, CronJobs and the workload stand still, and get going again at the end of the step;
//! - `copy`: a Job copies the data and compares it;
//! - `switch`: the claim is made anew on the new volume;
//! - `finish`: what is left to tidy.
//!
//! What must survive an interruption is kept in annotations ([`marks`]): on the workload, how it was; on the new volume, where its
//! data is from, and the claim that is to be made on it.

mod claim;
mod consumers;
mod copy;
mod finish;
mod gitops;
mod input;
mod json;
mod marks;
mod migrate;
mod node;
mod pause;
mod quantity;
mod refuse;
mod stage;
mod switch;
mod verify;
mod volume;

runbook_sdk::plugin! {
    manifest: "plugin.toml",
    actions: {
        "migrate" => migrate::converge, verify verify::verify;
    }
}
