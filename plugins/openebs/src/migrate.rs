//! The whole of a migration.

use runbook_sdk::prelude::*;

use crate::claim::Claim;
use crate::consumers::{Consumers, Objects};
use crate::copy::{self, Copied};
use crate::gitops::{self, Manager};
use crate::input::{Input, Output};
use crate::node::{self, Hints, Place};
use crate::stage::{self, Stage};
use crate::volume::Volume;
use crate::{finish, json, marks, pause, refuse, switch};

/// Moves the claim to its class; carries on where an earlier try was interrupted.
///
/// # Errors
///
/// Why it cannot be moved, or what went wrong; the README says what is where then.
pub(crate) fn converge(input: Input) -> Result<Output> {
    let cluster = Cluster::target()?;
    let live: Option<Value> = cluster.get(&marks::claim(&input.namespace, &input.claim))?;
    let claim = live.map(Claim);
    let volumes: Vec<Volume> =
        cluster.list::<Value>(&Selector::new("PersistentVolume"))?.into_iter().map(Volume).collect();
    match (stage::of(&input.key(), claim.as_ref(), &volumes, &input.to_class)?, claim) {
        (Stage::Copy { again }, Some(claim)) => move_data(&cluster, &input, &claim, &volumes, again.as_deref()),
        (Stage::Done, Some(claim)) => done(&cluster, &input, &claim, &volumes),
        (Stage::Switch { volume }, claim) => go_on(&cluster, &input, claim.as_ref(), &volumes, &volume),
        (Stage::Copy { .. } | Stage::Done, None) => Err(Error::failed("there is no claim")),
    }
}

fn named<'a>(volumes: &'a [Volume], name: &str) -> Result<&'a Volume> {
    let volume = volumes.iter().find(|volume| volume.name() == name);
    volume.ok_or_else(|| {
        Error::conflict(format!("PersistentVolume {name} is not there: the claim that names it is lost"))
    })
}

/// From a claim on its old volume to the same claim on a new one.
fn move_data(
    cluster: &Cluster,
    input: &Input,
    claim: &Claim,
    volumes: &[Volume],
    again: Option<&str>,
) -> Result<Output> {
    let old = named(volumes, claim.volume())?;
    let copy_claim: Option<Value> = cluster.get(&marks::copy_claim(&input.namespace, &input.claim))?;
    let copy_claim = copy_claim.map(Claim);

    // All refusals come before the first change.
    let class = refuse::class(cluster, input)?;
    let size = refuse::claim(input, claim, old, &class)?;
    refuse::disposal(input, old)?;
    refuse::namespace(cluster, input)?;
    if let Some(copy) = &copy_claim {
        refuse::copy_claim(input, claim, copy)?;
    }
    let (users, managers) = who(cluster, input, Some(claim))?;
    refuse::users(cluster, input, &users)?;
    let place = place(cluster, input, claim, old, copy_claim.as_ref(), &users)?;
    if !managers.is_empty() {
        let names: Vec<String> = managers.iter().map(|manager| manager.object.to_string()).collect();
        warn!(
            "{} manage this: if claim {} stands in a git repository, change its storageClassName to {} there, or their sync fails \
             after this step",
            names.join(", "),
            input.claim,
            input.to_class
        );
    }
    let manifest: Value = run::baseline("claim", &claim.renewed(&input.to_class, &size, ""))?;

    retain(cluster, old)?;
    pause::stop(cluster, &input.namespace, &input.claim, &users, &managers)?;

    let still =
        Objects::look(cluster, &input.namespace)?.users(&input.claim, &marks::job_name(&input.claim)).fingerprint();
    let (again, copy_claim) = target(cluster, input, claim, &size, &place, again, copy_claim)?;
    let task = copy::Task { input, claim, place: &place, again, still: still.as_deref() };
    let copied = copy::run(cluster, &task)?;
    let new = match &copied {
        Some(copied) => {
            note_filled(cluster, input)?;
            pause::still_asleep(cluster, &input.namespace, &input.claim, still.as_deref())?;
            Some(keep(cluster, input, old, copied, &manifest)?)
        }
        // Only in a plan.
        None => None,
    };
    switch::release(cluster, input, copy_claim.as_ref())?;
    let new = new.as_deref();
    let bound = switch::run(cluster, input, new, &manifest)?;
    match new {
        Some(new) if bound => finish::run(cluster, input, &switch::get(cluster, new)?),
        // Only in a plan: the rest is not known.
        _ => Ok(Output { old_volume: Some(old.name().to_owned()), node: Some(place.hostname), ..Output::default() }),
    }
}

/// From a new volume with all the data to the claim on it.
fn go_on(cluster: &Cluster, input: &Input, claim: Option<&Claim>, volumes: &[Volume], new: &str) -> Result<Output> {
    let new = named(volumes, new)?;
    let kept = new.annotation(marks::CLAIM).unwrap_or_default();
    let manifest: Value = serde_json::from_str(kept).context(format!(
        "annotation {} of PersistentVolume {}",
        marks::CLAIM,
        new.name()
    ))?;
    if new.class() != input.to_class {
        conflict!(
            "claim {} was on its way to class {} when it was interrupted: finish that first, with to_class = {:?}",
            input.key(),
            new.class(),
            new.class()
        );
    }
    info!("claim {} was on its way to volume {}: going on from there", input.key(), new.name());
    let (users, managers) = who(cluster, input, claim)?;
    refuse::users(cluster, input, &users)?;
    pause::stop(cluster, &input.namespace, &input.claim, &users, &managers)?;
    let copy_claim: Option<Value> = cluster.get(&marks::copy_claim(&input.namespace, &input.claim))?;
    if let Some(copy) = copy_claim.map(Claim).filter(|copy| copy.volume() == new.name()) {
        switch::release(cluster, input, Some(&copy))?;
    }
    let bound = switch::run(cluster, input, Some(new.name()), &manifest)?;
    let new = switch::get(cluster, new.name())?;
    if bound { finish::run(cluster, input, &new) } else { Ok(finish::outputs(&new)) }
}

/// The claim is where it should be: only what an interruption left is put right.
fn done(cluster: &Cluster, input: &Input, claim: &Claim, volumes: &[Volume]) -> Result<Output> {
    let new = named(volumes, claim.volume())?;
    let users = Objects::look(cluster, &input.namespace)?.users(&input.claim, &marks::job_name(&input.claim));
    let managers = gitops::find_paused(cluster, &objects(&users, Some(claim)), &input.gitops)?;
    pause::resume_leftovers(cluster, &users, &managers)?;
    finish::run(cluster, input, new)
}

/// Who uses the claim, and who manages them.
fn who(cluster: &Cluster, input: &Input, claim: Option<&Claim>) -> Result<(Consumers, Vec<Manager>)> {
    let users = Objects::look(cluster, &input.namespace)?.users(&input.claim, &marks::job_name(&input.claim));
    let managers =
        if input.pause_gitops { gitops::find(cluster, &objects(&users, claim), &input.gitops)? } else { Vec::new() };
    Ok((users, managers))
}

fn objects<'a>(users: &'a Consumers, claim: Option<&'a Claim>) -> Vec<&'a Value> {
    users.objects().chain(claim.map(|claim| &claim.0)).collect()
}

fn place(
    cluster: &Cluster,
    input: &Input,
    claim: &Claim,
    old: &Volume,
    copy: Option<&Claim>,
    users: &Consumers,
) -> Result<Place> {
    let noted = copy.and_then(|copy| json::annotation(&copy.0, marks::NODE)).or_else(|| claim.selected_node());
    let hints = Hints {
        said: input.node.clone(),
        running: users.nodes.clone(),
        noted: noted.into_iter().map(str::to_owned).collect(),
    };
    let nodes: Vec<Value> = cluster.list(&Selector::new("Node"))?;
    let found = node::find(old, &nodes, &hints)?;
    // A retry finds no pods any more that would say it.
    let hostname = run::baseline("node", &found.hostname)?;
    let made_for = copy.and_then(|copy| json::annotation(&copy.0, marks::NODE));
    if let Some(other) = made_for.filter(|other| *other != hostname) {
        conflict!(
            "claim {}-mig was made for the copy on node {other}, and the data is on {hostname}: delete that claim, then run this \
             again",
            input.claim
        );
    }
    Ok(Place { hostname, certain: found.certain })
}

/// Nothing may be deleted before this is read back.
fn retain(cluster: &Cluster, old: &Volume) -> Result<()> {
    let object = marks::volume(old.name());
    if let Some(patch) = old.retain() {
        cluster.patch_merge(&object, &patch).summary(format!("keep {object} when its claim goes")).run()?;
        if switch::get(cluster, old.name())?.policy() != "Retain" {
            conflict!("{object} did not keep its reclaim policy Retain: somebody else changes it; nothing was deleted");
        }
    }
    Ok(())
}

/// The claim that the copy is made for: whether its volume holds an earlier copy of ours, and the claim as it is.
fn target(
    cluster: &Cluster,
    input: &Input,
    claim: &Claim,
    size: &str,
    place: &Place,
    again: Option<&str>,
    copy: Option<Claim>,
) -> Result<(bool, Option<Claim>)> {
    if let Some(copy) = copy {
        return Ok((copy.is_filled() || again == Some(copy.volume()), Some(copy)));
    }
    let object = marks::copy_claim(&input.namespace, &input.claim);
    if let Some(volume) = again {
        // An earlier try ended between the copy and the switch. Its volume is filled once more.
        let keep = marks::volume(volume);
        cluster
            .patch_merge(&keep, &Volume::reserve(&input.namespace, &object.name))
            .summary(format!("keep {keep} for claim {}", object.name))
            .run()?;
    }
    cluster
        .apply(&claim.for_copy(&input.to_class, size, &place.hostname, again))?
        .summary(format!("make {object} for the copy"))
        .run()?;
    let live: Option<Value> = cluster.get(&object)?;
    Ok((again.is_some(), live.map(Claim)))
}

/// From here on, what is in the volume of the copy may be replaced by a newer copy.
fn note_filled(cluster: &Cluster, input: &Input) -> Result<()> {
    let object = marks::copy_claim(&input.namespace, &input.claim);
    let patch = json!({ "metadata": { "annotations": { marks::COPIED: "yes" } } });
    cluster.patch_merge(&object, &patch).summary(format!("note on {object} that it is filled")).run()?;
    Ok(())
}

fn keep(cluster: &Cluster, input: &Input, old: &Volume, copied: &Copied, manifest: &Value) -> Result<String> {
    let object = marks::copy_claim(&input.namespace, &input.claim);
    let live: Option<Value> = cluster.get(&object)?;
    let Some(copy) = live.map(Claim).filter(Claim::is_bound) else { fail!("{object} is not bound after the copy") };
    let new = switch::get(cluster, copy.volume())?;
    if !new.is_of(&input.namespace, copy.name()) || new.claim_uid() != copy.uid() {
        conflict!("PersistentVolume {} is not bound to {object} any more", new.name());
    }
    let mut manifest = manifest.clone();
    manifest["spec"]["volumeName"] = json!(new.name());
    switch::keep(cluster, input, old, &new, copied, &manifest)?;
    Ok(new.name().to_owned())
}
