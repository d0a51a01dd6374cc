//! What is left to tidy once the claim is on its new volume.

use runbook_sdk::Condition;
use runbook_sdk::prelude::*;

use crate::copy::{Copied, GONE};
use crate::input::{Input, Output};
use crate::marks;
use crate::refuse;
use crate::volume::Volume;

/// Gives the new volume its reclaim policy back, writes on both where the data is from and where it went, and lets go of the old
/// one where it is not to be kept.
///
/// # Errors
///
/// What keeps it from being done.
pub(crate) fn run(cluster: &Cluster, input: &Input, new: &Volume) -> Result<Output> {
    if let Some(patch) = tidy(new) {
        let object = marks::volume(new.name());
        cluster.patch_merge(&object, &patch).summary(format!("give {object} its reclaim policy back")).run()?;
    }
    let Some(from) = new.annotation(marks::FROM) else {
        return Ok(Output { new_volume: Some(new.name().to_owned()), ..Output::default() });
    };
    let old: Option<Value> = cluster.get(&marks::volume(from))?;
    if let Some(old) = old.map(Volume) {
        dispose(cluster, input, &old, new)?;
    }
    Ok(outputs(new))
}

/// What a migrated volume tells of its migration.
pub(crate) fn outputs(new: &Volume) -> Output {
    let copied: Option<Copied> = new.annotation(marks::COPIED).and_then(|text| serde_json::from_str(text).ok());
    Output {
        old_volume: new.annotation(marks::FROM).map(str::to_owned),
        new_volume: Some(new.name().to_owned()),
        files: copied.as_ref().map(|copied| copied.files),
        checksum: copied.as_ref().map(|copied| copied.checksum.clone()),
        node: copied.map(|copied| copied.node),
    }
}

/// The patch that ends a migration on the new volume; none where it has ended.
fn tidy(new: &Volume) -> Option<Value> {
    new.annotation(marks::FOR)?;
    let mut patch =
        json!({ "metadata": { "annotations": { marks::FOR: null, marks::CLAIM: null, marks::POLICY: null } } });
    if let Some(policy) = new.annotation(marks::POLICY) {
        patch["spec"] = json!({ "persistentVolumeReclaimPolicy": policy });
    }
    Some(patch)
}

fn dispose(cluster: &Cluster, input: &Input, old: &Volume, new: &Volume) -> Result<()> {
    let object = marks::volume(old.name());
    if old.is_leaving() {
        return Ok(());
    }
    if old.annotation(marks::TO) != Some(new.name()) {
        let patch = json!({ "metadata": { "annotations": { marks::TO: new.name() } } });
        cluster.patch_merge(&object, &patch).summary(format!("note on {object} where its data went")).run()?;
    }
    if input.keep_old {
        return Ok(());
    }
    refuse::disposal(input, old)?;
    if !matches!(old.phase(), "Released" | "Failed") && !old.is_of(&input.namespace, &input.claim) {
        conflict!("{object}, the old volume, is {} again: somebody uses it, and it is not deleted", old.phase());
    }
    let patch = json!({ "spec": { "persistentVolumeReclaimPolicy": "Delete" } });
    cluster.patch_merge(&object, &patch).summary(format!("delete the old volume {} and its data", old.name())).run()?;
    cluster.wait(&object, &Condition::Absent, GONE).if_known()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::tests::hostpath;

    #[test]
    fn a_volume_gets_back_what_it_had() {
        assert_eq!(tidy(&hostpath()), None);
        let mut volume = hostpath();
        volume.0["metadata"]["annotations"] =
            json!({ marks::FOR: "a/b", marks::POLICY: "Delete", marks::FROM: "pvc-0" });
        let patch = tidy(&volume).unwrap();
        assert_eq!(patch["spec"]["persistentVolumeReclaimPolicy"], "Delete");
        assert!(patch["metadata"]["annotations"].get(marks::FROM).is_none());
        // One that was Retain from the start stays so.
        volume.0["metadata"]["annotations"][marks::POLICY] = Value::Null;
        assert!(tidy(&volume).unwrap().get("spec").is_none());
    }

    #[test]
    fn outputs_are_read_from_the_volume() {
        let mut volume = hostpath();
        volume.0["metadata"]["annotations"] = json!({
            marks::FROM: "pvc-0", marks::COPIED: r#"{"files":3,"kib":9,"checksum":"ab","node":"moe"}"#,
        });
        let output = serde_json::to_value(outputs(&volume)).unwrap();
        let expected =
            json!({ "old_volume": "pvc-0", "new_volume": "pvc-1", "files": 3, "checksum": "ab", "node": "moe" });
        assert_eq!(output, expected);
    }
}
