//! The seeding pod: mounts the volume, waits, and goes at the end of the step.

use runbook_sdk::prelude::*;

use crate::input::Input;
use crate::users::Window;
use crate::wanted::digest;

/// Where the volume is mounted in it.
pub(crate) const TOP: &str = "/volume";
/// Its only container.
pub(crate) const CONTAINER: &str = "seed";
/// Does nothing, and ends at once when it is told to.
const WAIT: &str = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done";
/// Names of objects may have 253 characters.
const LONGEST: usize = 200;

/// The seeding pod of a step.
pub(crate) fn reference(input: &Input) -> ObjectRef {
    let name = format!("runbook-seed-{}-{}", input.claim, input.name);
    let name = match name.get(..LONGEST) {
        None => name,
        Some(start) => format!("{}-{}", start.trim_end_matches(['-', '.']), &digest(&name)[..8]),
    };
    ObjectRef::new("Pod", name).namespace(&input.namespace)
}

/// Through which the volume is seen from it.
pub(crate) fn window(input: &Input) -> Window {
    Window { pod: reference(input), container: CONTAINER.to_owned(), top: TOP.to_owned() }
}

/// Its manifest; `node` where it has to run on that one.
pub(crate) fn manifest(input: &Input, node: Option<&str>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": reference(input).name,
            "namespace": input.namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "runbook", "app.kubernetes.io/name": "volume-seed",
                "sidecar.istio.io/inject": "false",
            },
            "annotations": { "sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled" },
        },
        "spec": {
            "restartPolicy": "Never",
            // One that was forgotten ends by itself.
            "activeDeadlineSeconds": input.timeout.duration().as_secs().saturating_mul(2).max(600),
            "terminationGracePeriodSeconds": 2,
            "automountServiceAccountToken": false,
            "tolerations": [{ "operator": "Exists" }],
            "securityContext": { "runAsUser": 0, "runAsGroup": 0 },
            "containers": [{
                "name": CONTAINER,
                "image": input.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", WAIT],
                "volumeMounts": [{ "name": "volume", "mountPath": TOP }],
            }],
            "volumes": [{ "name": "volume", "persistentVolumeClaim": { "claimName": input.claim } }],
        },
    });
    if let Some(node) = node {
        // Not nodeName: without the scheduler nothing would bind a claim that waits for its first consumer.
        pod["spec"]["affinity"] = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] }],
        } } });
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::tests::input;

    #[test]
    fn the_pod_runs_where_the_volume_is_in_use() {
        let pod = manifest(&input(json!({})), Some("moe"));
        assert_eq!(pod["metadata"]["name"], "runbook-seed-chime-files");
        let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0";
        assert_eq!(pod.pointer(terms).unwrap()["matchFields"][0]["values"], json!(["moe"]));
        assert!(pod["spec"].get("nodeName").is_none());
        assert!(manifest(&input(json!({})), None)["spec"].get("affinity").is_none());
    }

    #[test]
    fn its_name_is_never_too_long() {
        let name = reference(&input(json!({ "claim": "a".repeat(253) }))).name;
        assert!(name.len() <= 253 && name.starts_with("runbook-seed-a"), "{name}");
    }
}
