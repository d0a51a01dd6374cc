//! Everything that cannot be moved safely, said before anything is changed.

use runbook_sdk::prelude::*;

use crate::claim::Claim;
use crate::consumers::Consumers;
use crate::input::Input;
use crate::json::{annotation, label, name, text};
use crate::quantity;
use crate::volume::Volume;

/// What makes volumes on one node alone.
const LOCAL: [&str; 7] = [
    "openebs.io/local",
    "local.csi.openebs.io",
    "zfs.csi.openebs.io",
    "kubernetes.io/no-provisioner",
    "rancher.io/local-path",
    "microk8s.io/hostpath",
    "hostpath.csi.k8s.io",
];

/// The storage class that is moved to.
///
/// # Errors
///
/// `invalid` where there is none of that name, with those that there are.
pub(crate) fn class(cluster: &Cluster, input: &Input) -> Result<Value> {
    let classes: Vec<Value> = cluster.list(&Selector::new("StorageClass"))?;
    match classes.iter().find(|class| name(class) == input.to_class) {
        Some(class) => Ok(class.clone()),
        None => {
            let names: Vec<&str> = classes.iter().map(name).collect();
            invalid!(
                "to_class: the cluster has no storage class {}: it has {} (is the add-on or chart that makes it installed?)",
                input.to_class,
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            );
        }
    }
}

/// Checks claim and volume; gives the size of the new claim.
///
/// # Errors
///
/// `invalid` where the inputs do not fit the claim, `conflict` where the claim cannot be moved.
pub(crate) fn claim(input: &Input, claim: &Claim, volume: &Volume, class: &Value) -> Result<String> {
    let key = input.key();
    if let Some(from) = input.from_class.as_deref().filter(|from| *from != claim.class()) {
        invalid!("from_class: claim {key} is of class {:?}, not {from:?}", claim.class());
    }
    if claim.is_block() {
        conflict!("claim {key} is a block device (volumeMode: Block): only file systems are copied");
    }
    if !volume.is_of(&input.namespace, &input.claim) || volume.claim_uid() != claim.uid() {
        conflict!(
            "claim {key} (UID {}) says that it is bound to volume {}, and that volume is bound to {}/{} (UID {}): somebody has to \
             find out whose data this is",
            claim.uid(),
            volume.name(),
            text(&volume.0, "/spec/claimRef/namespace"),
            text(&volume.0, "/spec/claimRef/name"),
            volume.claim_uid()
        );
    }
    if volume.is_leaving() || volume.phase() != "Bound" {
        conflict!("volume {} of claim {key} is {}, not Bound", volume.name(), volume.phase());
    }
    let shared = claim.modes().into_iter().find(|mode| matches!(*mode, "ReadWriteMany" | "ReadOnlyMany"));
    let provisioner = text(class, "/provisioner");
    if let Some(mode) = shared.filter(|_| LOCAL.contains(&provisioner)) {
        conflict!(
            "claim {key} is {mode}, and volumes of class {} ({provisioner}) are on one node alone: pods on other nodes would lose \
             their data; choose another class, or make the claim ReadWriteOnce first",
            input.to_class
        );
    }
    if let Some(pod) =
        crate::json::items(&claim.0, "/metadata/ownerReferences").iter().find(|owner| owner["kind"] == "Pod")
    {
        conflict!(
            "claim {key} goes with its pod {} (an ephemeral volume): there is nothing to keep",
            text(pod, "/name")
        );
    }
    let old = claim.size();
    let Some(old_bytes) = quantity::bytes(old) else { conflict!("claim {key} asks for {old:?}, which is no size") };
    let Some(size) = input.size.as_deref() else { return Ok(old.to_owned()) };
    match quantity::bytes(size) {
        Some(bytes) if bytes >= old_bytes => Ok(size.to_owned()),
        Some(_) => invalid!("size: {size} is less than the {old} of the claim"),
        None => invalid!("size: {size:?} is no size, such as 10Gi"),
    }
}

/// Checks a claim that the copy could be made for: only our own is used again.
///
/// # Errors
///
/// `conflict` where it is somebody else's, or of another migration.
pub(crate) fn copy_claim(input: &Input, claim: &Claim, copy: &Claim) -> Result<()> {
    let key = format!("{}/{}", input.namespace, copy.name());
    match copy.copy_of() {
        None => {
            conflict!("there is a claim {key}, which this did not make: rename or remove it, the copy needs that name")
        }
        Some(uid) if uid != claim.uid() => conflict!(
            "claim {key} was made for an earlier claim {} that is gone by now: look whether its data is needed, then delete it",
            input.claim
        ),
        Some(_) if copy.class() != input.to_class => {
            conflict!("claim {key} is left from a migration to class {}: delete it, then run this again", copy.class())
        }
        Some(_) if copy.is_leaving() => conflict!("claim {key} is being deleted: run this again when it is gone"),
        Some(_) => Ok(()),
    }
}

/// Checks the users of the claim.
///
/// # Errors
///
/// `conflict` with all of those that cannot be made to stand still.
pub(crate) fn users(cluster: &Cluster, input: &Input, users: &Consumers) -> Result<()> {
    let mut wrong = users.unstoppable.clone();
    for scaler in &users.scalers {
        let live: Option<Value> = cluster.get(scaler).if_found()?.flatten();
        let paused = live.as_ref().is_none_or(|live| {
            annotation(live, "autoscaling.keda.sh/paused-replicas") == Some("0")
                || annotation(live, "autoscaling.keda.sh/paused") == Some("true")
        });
        if !paused {
            wrong.push(format!(
                "{scaler} would scale the workload up again: annotate it with autoscaling.keda.sh/paused-replicas: \"0\" meanwhile"
            ));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    conflict!("claim {} cannot be moved while it is in use: {}", input.key(), wrong.join("; "));
}

/// Checks that the copying pod may run as root.
///
/// # Errors
///
/// `conflict` where the namespace does not let it.
pub(crate) fn namespace(cluster: &Cluster, input: &Input) -> Result<()> {
    let object = ObjectRef::new("Namespace", &input.namespace);
    let Some(live): Option<Value> = cluster.get(&object)? else { invalid!("namespace: there is no {object}") };
    if label(&live, "pod-security.kubernetes.io/enforce") == Some("restricted") {
        conflict!(
            "{object} admits no pod that runs as root (pod-security.kubernetes.io/enforce: restricted), and without that owners \
             and modes cannot be copied: set the label to baseline for the time of the migration"
        );
    }
    Ok(())
}

/// Checks that an old volume that is not to be kept can be deleted by the cluster.
///
/// # Errors
///
/// `invalid` where only a person can.
pub(crate) fn disposal(input: &Input, volume: &Volume) -> Result<()> {
    if !input.keep_old && !volume.is_provisioned() {
        invalid!(
            "keep_old: volume {} was made by hand, and nothing in the cluster deletes its data: leave keep_old = true, and remove \
             volume and folder yourself when they are not needed any more",
            volume.name()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::tests::bound;
    use crate::volume::tests::hostpath;

    fn input(more: Value) -> Input {
        let mut all = json!({ "namespace": "homeslice", "claim": "chime" });
        for (key, value) in more.as_object().unwrap() {
            all[key] = value.clone();
        }
        serde_json::from_value(all).unwrap()
    }

    fn check(more: Value, alter: impl Fn(&mut Value, &mut Value)) -> Result<String> {
        let (mut claim, mut volume) = (bound("chime", "microk8s-hostpath", "pvc-1"), hostpath());
        alter(&mut claim.0, &mut volume.0);
        let class = json!({ "metadata": { "name": "openebs-hostpath" }, "provisioner": "openebs.io/local" });
        super::claim(&input(more), &claim, &volume, &class)
    }

    #[test]
    fn a_plain_claim_is_moved_with_its_size() {
        assert_eq!(check(json!({}), |_, _| {}), Ok("256Mi".into()));
        assert_eq!(check(json!({ "size": "1Gi", "from_class": "microk8s-hostpath" }), |_, _| {}), Ok("1Gi".into()));
    }

    #[test]
    fn what_is_unsafe_is_refused() {
        let plain = |_: &mut Value, _: &mut Value| {};
        type Alter<'a> = &'a dyn Fn(&mut Value, &mut Value);
        let cases: [(Value, Alter<'_>, Kind, &str); 8] = [
            (json!({ "from_class": "nfs" }), &plain, Kind::Invalid, "from_class"),
            (json!({ "size": "1Mi" }), &plain, Kind::Invalid, "less than the 256Mi"),
            (json!({ "size": "big" }), &plain, Kind::Invalid, "no size"),
            (json!({}), &|claim, _| claim["spec"]["volumeMode"] = json!("Block"), Kind::Conflict, "block device"),
            (
                json!({}),
                &|claim, _| claim["spec"]["accessModes"] = json!(["ReadWriteMany"]),
                Kind::Conflict,
                "ReadWriteMany",
            ),
            (json!({}), &|_, volume| volume["spec"]["claimRef"]["uid"] = json!("other"), Kind::Conflict, "whose data"),
            (json!({}), &|_, volume| volume["status"]["phase"] = json!("Released"), Kind::Conflict, "Released"),
            (
                json!({}),
                &|claim, _| claim["metadata"]["ownerReferences"] = json!([{ "kind": "Pod", "name": "p" }]),
                Kind::Conflict,
                "ephemeral",
            ),
        ];
        for (more, alter, kind, expected) in cases {
            let error = check(more, alter).unwrap_err();
            assert!(error.kind() == kind && error.message().contains(expected), "{error}");
        }
    }

    #[test]
    fn only_our_own_claim_is_used_again() {
        let claim = bound("chime", "microk8s-hostpath", "pvc-1");
        let own = Claim(claim.for_copy("openebs-hostpath", "256Mi", "moe", None));
        assert_eq!(copy_claim(&input(json!({})), &claim, &own), Ok(()));
        let said = |copy: Claim, more: Value| copy_claim(&input(more), &claim, &copy).unwrap_err().message().to_owned();
        assert!(said(bound("chime-mig", "openebs-hostpath", "x"), json!({})).contains("did not make"));
        assert!(said(own.clone(), json!({ "to_class": "zfs" })).contains("to class openebs-hostpath"));
        let earlier = Claim(bound("chime", "a", "b").for_copy("openebs-hostpath", "1Gi", "moe", None));
        let mut earlier = earlier;
        earlier.0["metadata"]["annotations"][crate::marks::OF] = json!("uid-of-another");
        assert!(said(earlier, json!({})).contains("earlier claim"));
    }
}
