//! The annotations that a migration leaves for whoever continues it, and the names of what it makes.

use runbook_sdk::ObjectRef;

/// On a workload: the number of replicas that it had.
pub(crate) const REPLICAS: &str = "runbook/replicas-before";
/// On a CronJob or a Flux object: it was suspended by a migration, and is to go on after it.
pub(crate) const SUSPENDED: &str = "runbook/suspended-by";
/// On an Argo CD Application: its `spec.syncPolicy.automated`, as JSON.
pub(crate) const AUTOMATED: &str = "runbook/automated-before";
/// On a volume: its reclaim policy before it was set to Retain.
pub(crate) const POLICY: &str = "runbook/reclaim-policy-before";
/// On the new volume: the old one.
pub(crate) const FROM: &str = "runbook/migrated-from";
/// On the old volume: the new one.
pub(crate) const TO: &str = "runbook/migrated-to";
/// On the new volume: what the copy came to, as JSON. On the claim of the copy: its volume holds a whole copy of ours.
pub(crate) const COPIED: &str = "runbook/copied";
/// On the new volume, as long as the migration is not finished: `NAMESPACE/NAME` of the claim that it is for.
pub(crate) const FOR: &str = "runbook/migration-for";
/// On the new volume, as long as the migration is not finished: the manifest of the claim that is to be made on it.
pub(crate) const CLAIM: &str = "runbook/migration-claim";
/// On the claim that the copy is made for: UID of the claim that moves.
pub(crate) const OF: &str = "runbook/migration-of";
/// On the claim that the copy is made for: the node of the data.
pub(crate) const NODE: &str = "runbook/migration-node";
/// On the copying Job: generations of the workload that stood still when it began.
pub(crate) const STILL: &str = "runbook/migration-still";

/// What [`SUSPENDED`] says.
pub(crate) const BY: &str = "openebs-migrate";

/// The claim that moves.
pub(crate) fn claim(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new("PersistentVolumeClaim", name).namespace(namespace)
}

/// The claim that the copy is made for.
pub(crate) fn copy_claim(namespace: &str, name: &str) -> ObjectRef {
    claim(namespace, &format!("{name}-mig"))
}

/// A volume.
pub(crate) fn volume(name: &str) -> ObjectRef {
    ObjectRef::new("PersistentVolume", name)
}

/// Name of the copying Job: its pods carry it as a label, which may have 63 characters.
pub(crate) fn job_name(claim: &str) -> String {
    const LONGEST: usize = 63 - "runbook-migrate-".len();
    if claim.len() <= LONGEST {
        return format!("runbook-migrate-{claim}");
    }
    // FNV-1a: the same for the same claim, and different enough.
    let hash = claim.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let start = claim[..LONGEST - 9].trim_end_matches(['.', '-']);
    format!("runbook-migrate-{start}-{hash:08x}")
}

/// The copying Job.
pub(crate) fn job(namespace: &str, claim: &str) -> ObjectRef {
    ObjectRef::new("Job", job_name(claim)).namespace(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jobs_fit_into_labels() {
        assert_eq!(job_name("chime"), "runbook-migrate-chime");
        let long = job_name(&"data-of-a-very-long-name-that-somebody-chose-for-an-app-0".repeat(3));
        assert!(long.len() <= 63 && long.starts_with("runbook-migrate-data-of"), "{long}");
        assert_ne!(job_name(&"a".repeat(80)), job_name(&"a".repeat(81)));
    }
}
