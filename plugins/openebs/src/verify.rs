//! Does the claim serve its purpose: by its binding, and by the pods that use it.

use runbook_sdk::Condition;
use runbook_sdk::prelude::*;

use crate::claim::Claim;
use crate::consumers::{Consumers, Objects};
use crate::input::Input;
use crate::json::{items, name, text};
use crate::marks;
use crate::volume::Volume;

/// How long the workload may take to come back.
const BACK: Period = Period::minutes(5);

/// What is wrong, in words.
///
/// # Errors
///
/// Where it cannot be looked at.
pub(crate) fn verify(input: Input) -> Result<Vec<String>> {
    let cluster = Cluster::target()?;
    let key = input.key();
    let live: Option<Value> = cluster.get(&marks::claim(&input.namespace, &input.claim))?;
    let Some(claim) = live.map(Claim) else { return Ok(vec![format!("there is no claim {key}")]) };
    let volume: Option<Value> = match claim.volume() {
        "" => None,
        volume => cluster.get(&marks::volume(volume))?,
    };
    let mut wrong = binding(&input, &claim, volume.map(Volume).as_ref());
    let users = Objects::look(&cluster, &input.namespace)?.users(&input.claim, &marks::job_name(&input.claim));
    wrong.extend(workload(&cluster, &input, &users)?);
    Ok(wrong)
}

fn binding(input: &Input, claim: &Claim, volume: Option<&Volume>) -> Vec<String> {
    let key = input.key();
    let mut wrong = Vec::new();
    if !claim.is_bound() {
        wrong.push(format!("claim {key} is {}, not Bound", claim.phase()));
    }
    if claim.class() != input.to_class {
        wrong.push(format!("claim {key} is of class {:?}", claim.class()));
    }
    match volume {
        None => wrong.push(format!("claim {key} has no volume {:?}", claim.volume())),
        Some(volume) if volume.phase() != "Bound" || volume.claim_uid() != claim.uid() => {
            wrong.push(format!("volume {} is {} and not bound to claim {key}", volume.name(), volume.phase()));
        }
        Some(_) => {}
    }
    wrong
}

fn workload(cluster: &Cluster, input: &Input, users: &Consumers) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for scalable in &users.scalable {
        let object = &scalable.object;
        if scalable.replicas == 0 {
            if scalable.before.is_some() {
                wrong.push(format!("{object} is still scaled to 0"));
            }
            continue;
        }
        // A ReplicationController has no roll-out; its pods are looked at below.
        if matches!(object.kind.kind.as_str(), "Deployment" | "StatefulSet")
            && let Err(error) = cluster.wait(object, &Condition::RolledOut, BACK.min(input.timeout))
        {
            wrong.push(format!("{object} does not come back on the new volume: {error}"));
        }
    }
    if wrong.is_empty() {
        let pods: Vec<Value> = cluster.list(&Selector::new("Pod").namespace(&input.namespace))?;
        let mounts = |pod: &&Value| {
            items(pod, "/spec/volumes").iter().any(|v| v["persistentVolumeClaim"]["claimName"] == input.claim.as_str())
                && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
        };
        wrong.extend(pods.iter().filter(mounts).filter_map(unready));
    }
    Ok(wrong)
}

fn unready(pod: &Value) -> Option<String> {
    let ready = items(pod, "/status/conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    (!ready).then(|| format!("pod {} is {} and not Ready", name(pod), text(pod, "/status/phase")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::tests::bound;
    use crate::volume::tests::hostpath;

    #[test]
    fn a_wrong_binding_is_said() {
        let input: Input = serde_json::from_value(json!({ "namespace": "homeslice", "claim": "chime" })).unwrap();
        let good = bound("chime", "openebs-hostpath", "pvc-1");
        assert!(binding(&input, &good, Some(&hostpath())).is_empty());
        let wrong = binding(&input, &bound("chime", "microk8s-hostpath", "pvc-1"), None);
        assert_eq!(wrong.len(), 2);
        let mut released = hostpath();
        released.0["status"]["phase"] = json!("Released");
        assert!(binding(&input, &good, Some(&released))[0].contains("Released"));
    }
}
