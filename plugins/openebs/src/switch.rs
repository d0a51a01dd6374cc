//! The claim is made anew on the new volume.
//!
//! The new volume is kept for the claim's name before the old claim goes. Whoever makes the claim in between, a StatefulSet or a
//! GitOps controller, gets the data and not an empty volume.

use runbook_sdk::Condition;
use runbook_sdk::prelude::*;

use crate::claim::Claim;
use crate::copy::{self, Copied, GONE};
use crate::input::Input;
use crate::marks;
use crate::volume::Volume;

/// How long binding may take; seconds, mostly.
const BOUND: Period = Period::minutes(3);
/// Stands for the name of the new volume in a plan.
const NOT_MADE_YET: &str = "the-new-volume";

/// Puts on the new volume what the migration needs to go on from there: nothing is deleted before that is read back.
///
/// # Errors
///
/// `conflict` where the volume is not what it should be.
pub(crate) fn keep(
    cluster: &Cluster,
    input: &Input,
    old: &Volume,
    new: &Volume,
    copied: &Copied,
    claim: &Value,
) -> Result<()> {
    let mut patch = new.retain().unwrap_or_else(|| json!({}));
    let annotations = json!({
        marks::FROM: old.name(),
        marks::FOR: input.key(),
        marks::CLAIM: claim.to_string(),
        marks::COPIED: serde_json::to_string(copied)?,
    });
    for (key, value) in annotations.as_object().into_iter().flatten() {
        patch["metadata"]["annotations"][key.as_str()] = value.clone();
    }
    let object = marks::volume(new.name());
    cluster.patch_merge(&object, &patch).summary(format!("keep {object}, note what was copied")).run()?;
    let read = get(cluster, new.name())?;
    if read.policy() != "Retain" || read.annotation(marks::CLAIM) != annotations[marks::CLAIM].as_str() {
        conflict!("{object} did not keep its reclaim policy Retain: somebody else changes it; nothing was deleted");
    }
    Ok(())
}

/// Frees the new volume from Job and claim of the copy.
///
/// # Errors
///
/// Where Job or claim do not go.
pub(crate) fn release(cluster: &Cluster, input: &Input, copy: Option<&Claim>) -> Result<()> {
    copy::clear(cluster, input)?;
    let object = marks::copy_claim(&input.namespace, &input.claim);
    let mut deletion = cluster.delete(&object).summary(format!("delete {object}, its volume stays"));
    if let Some(copy) = copy {
        deletion = deletion.uid(copy.uid());
    }
    deletion.run()?;
    cluster.wait(&object, &Condition::Absent, GONE)
}

/// Makes the claim anew on the volume, which is none only in plans. True where it was seen bound; in a plan it may not be.
///
/// # Errors
///
/// What keeps it from being made, or from being bound in time.
pub(crate) fn run(cluster: &Cluster, input: &Input, volume: Option<&str>, manifest: &Value) -> Result<bool> {
    let Input { namespace, claim, .. } = input;
    if let Some(volume) = volume {
        let live = get(cluster, volume)?;
        if live.annotation(marks::FOR) != Some(input.key().as_str()) || live.policy() != "Retain" {
            conflict!("PersistentVolume {volume} is not kept for claim {}: somebody changed it", input.key());
        }
        let bound: Option<Value> = cluster.get(&marks::claim(namespace, claim))?;
        // Bound to it already, or kept for it.
        let ours = live.is_of(namespace, claim)
            && (live.claim_uid().is_empty() || bound.is_some_and(|claim| Claim(claim).uid() == live.claim_uid()));
        if !ours {
            let object = marks::volume(volume);
            cluster
                .patch_merge(&object, &Volume::reserve(namespace, claim))
                .summary(format!("keep {object} for claim {}", input.key()))
                .run()?;
        }
    }
    let object = marks::claim(namespace, claim);
    let live: Option<Value> = cluster.get(&object)?;
    if let Some(live) = live.map(Claim) {
        let right = live.class() == input.to_class && volume == Some(live.volume()) && !live.is_leaving();
        if !right {
            if !live.is_leaving() {
                cluster.delete(&object).uid(live.uid()).summary(format!("delete {object}, its volume stays")).run()?;
            }
            cluster.wait(&object, &Condition::Absent, GONE)?;
            if let Some(volume) = volume {
                free(cluster, input, volume, live.uid())?;
            }
        }
    }
    let mut manifest = manifest.clone();
    manifest["spec"]["volumeName"] = json!(volume.unwrap_or(NOT_MADE_YET));
    cluster.apply(&manifest)?.summary(format!("make {object} anew on the new volume")).run()?;
    let bound = cluster.wait(&object, &Condition::Equals("/status/phase".into(), json!("Bound")), BOUND);
    Ok(bound.if_known()?.is_some())
}

/// A claim that somebody else made was bound to the volume: its UID must go from it.
fn free(cluster: &Cluster, input: &Input, volume: &str, uid: &str) -> Result<()> {
    if get(cluster, volume)?.claim_uid() == uid {
        let object = marks::volume(volume);
        cluster
            .patch_merge(&object, &Volume::reserve(&input.namespace, &input.claim))
            .summary(format!("keep {object} for claim {}", input.key()))
            .run()?;
    }
    Ok(())
}

/// A volume that must be there.
///
/// # Errors
///
/// `conflict` where it is not.
pub(crate) fn get(cluster: &Cluster, volume: &str) -> Result<Volume> {
    let live: Option<Value> = cluster.get(&marks::volume(volume))?;
    live.map(Volume).ok_or_else(|| Error::conflict(format!("PersistentVolume {volume} is not there any more")))
}
