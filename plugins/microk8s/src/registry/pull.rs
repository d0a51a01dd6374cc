//! A real pull: the only proof that counts. It changes nothing but the node's image cache.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{SystemTime, UNIX_EPOCH};

use runbook_sdk::prelude::*;
use runbook_sdk::run::{Probe, wait_until};

use super::explain::explain;
use super::input::Registry;
use super::node::{Node, Status};
use super::template::Generation;

/// containerd keeps what it read in /etc/hosts for five seconds, and where pods have failed to pull already, that is of before. The
/// kubelet tries again after ten: until then, a name that is not known is no answer.
const STALE_NAME_POLLS: u32 = 10;

/// Whether the node has the image already. Where that cannot be seen, it is pulled to be sure.
pub(super) fn has(node: &Node, image: &str) -> Result<bool> {
    let wanted = format!("name=={image}");
    let look = node
        .machine
        .cmd([node.program()?, "ctr", "images", "ls", "-q", wanted.as_str()])
        .reads(["images"])
        .privileged()
        .timeout(Period::minutes(1))
        .observe()?;
    Ok(look.success() && look.lines().iter().any(|line| line.trim() == image))
}

/// What is wrong, in words; nothing where the node has pulled the image.
pub(super) fn pulls(registry: &Registry, node: &Node, generation: &Generation, image: &str) -> Result<Vec<String>> {
    let failure = match Cluster::optional() {
        Some(cluster) => match by_pod(registry, node, &cluster, image) {
            // The cluster may be what is being recovered. The node can still be asked, where that proves something.
            Err(error) if error.kind() == Kind::Unreachable && *generation == Generation::CertsD => {
                warn!("{} does not answer, so that {} itself pulls {image}: {error}", cluster.name(), node.name());
                by_containerd(registry, node, image)?
            }
            result => result?,
        },
        None => by_containerd(registry, node, image)?,
    };
    Ok(failure
        .map(|said| format!("{} cannot pull {image}: {}", node.name(), explain(&said, registry)))
        .into_iter()
        .collect())
}

/// The kubelet of the node pulls it, for a pod that runs nothing of it. None: it was pulled; else what was said instead.
fn by_pod(registry: &Registry, node: &Node, cluster: &Cluster, image: &str) -> Result<Option<String>> {
    let kube_node = find_node(node, cluster)?;
    let name = format!("runbook-pull-{}", unique());
    let pod = ObjectRef::new("Pod", &name).namespace(&registry.namespace);
    // Durable before the pod is there: it goes whatever becomes of this run.
    cluster
        .delete(&pod)
        .grace(0)
        .summary(format!("remove the pod that pulled {image}"))
        .repeats()
        .at_step_end()
        .run()?;
    cluster
        .apply(&manifest(&name, &registry.namespace, &kube_node, image))?
        .summary(format!("pull {image} on {kube_node}, by a pod that runs nothing of it"))
        .repeats()
        .run()?;
    let mut patience = STALE_NAME_POLLS;
    wait_until(&format!("{kube_node} to pull {image}"), registry.timeout, Period::seconds(2), || {
        let Some(live) = cluster.get::<Value>(&pod)? else {
            return Ok(Probe::Ready(Some(format!("somebody deleted the pod {pod}"))));
        };
        Ok(match judge(&live) {
            Seen::Pulled => Probe::Ready(None),
            Seen::Refused(said) => {
                let said = event(cluster, &pod)?.unwrap_or(said);
                if patience > 0 && registry.address.is_some() && said.contains("no such host") {
                    patience -= 1;
                    Probe::NotYet(said)
                } else {
                    Probe::Ready(Some(said))
                }
            }
            Seen::NotYet(said) => Probe::NotYet(said),
        })
    })
}

/// Other pods of this run and of others have other names.
fn unique() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let random = RandomState::new().build_hasher().finish();
    format!("{time:x}-{:04x}", random & 0xffff)
}

/// The node object of the host.
fn find_node(node: &Node, cluster: &Cluster) -> Result<String> {
    let hostname = node.machine.facts()?.hostname.to_lowercase();
    let nodes: Vec<Value> = cluster.list(&Selector::new("Node"))?;
    let name = |node: &Value| node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let by_hostname = |node: &&Value| {
        name(node) == hostname || node["metadata"]["labels"]["kubernetes.io/hostname"].as_str() == Some(&hostname)
    };
    let by_inventory = |known: &&Value| name(known) == node.name();
    match nodes.iter().find(by_hostname).or_else(|| nodes.iter().find(by_inventory)) {
        Some(found) => Ok(name(found)),
        None => fail!(
            "the cluster {} has no node {hostname:?}, as {} calls itself; its nodes are: {}. Has the host joined it?",
            cluster.name(),
            node.name(),
            nodes.iter().map(name).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// A pod that is pulled for and ends at once: its program does not exist. It passes the strictest pod security standard.
fn manifest(name: &str, namespace: &str, node: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": { "app.kubernetes.io/managed-by": "runbook" },
        },
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 3600,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{ "operator": "Exists" }],
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "pull",
                "image": image,
                "imagePullPolicy": "Always",
                "command": ["/runbook-only-pulls-this-image"],
                "resources": { "requests": { "cpu": "1m", "memory": "4Mi" } },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
}

/// What a pod's status says of its image.
#[derive(Debug, PartialEq)]
enum Seen {
    Pulled,
    Refused(String),
    NotYet(String),
}

fn judge(pod: &Value) -> Seen {
    let status = &pod["status"];
    let container = &status["containerStatuses"][0];
    let state = &container["state"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // It is there as soon as the image is, whatever becomes of the container.
    if !text(&container["imageID"]).is_empty() {
        return Seen::Pulled;
    }
    let (reason, message) = (text(&state["waiting"]["reason"]), text(&state["waiting"]["message"]));
    match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "RegistryUnavailable" => {
            Seen::Refused(if message.is_empty() { reason } else { message })
        }
        // These come after the pull.
        "RunContainerError" | "CreateContainerError" | "CrashLoopBackOff" => Seen::Pulled,
        _ if state["terminated"].is_object() || state["running"].is_object() => Seen::Pulled,
        _ if status["phase"] == "Failed" => Seen::Refused(format!(
            "the node did not take the pod: {} {}",
            text(&status["reason"]),
            text(&status["message"])
        )),
        "" => Seen::NotYet(format!("the pod is {}", status["phase"].as_str().unwrap_or("not seen by its node"))),
        _ => Seen::NotYet(format!("{reason} {message}").trim().to_owned()),
    }
}

/// Why the pull failed: "Back-off pulling image" alone does not say.
fn event(cluster: &Cluster, pod: &ObjectRef) -> Result<Option<String>> {
    let namespace = pod.namespace.clone().unwrap_or_default();
    let selector =
        Selector::new("Event").namespace(namespace).fields(format!("involvedObject.name={},reason=Failed", pod.name));
    let events: Vec<Value> = cluster.list(&selector)?;
    let message = |event: &Value| Some(event["message"].as_str()?.to_owned());
    Ok(events.iter().filter_map(message).find(|message| message.starts_with("Failed to pull image")))
}

/// The node's containerd pulls it, as told by the files in certs.d: without `--hosts-dir` it would not read them.
fn by_containerd(registry: &Registry, node: &Node, image: &str) -> Result<Option<String>> {
    let program = node.program()?;
    let certs_d = node.certs_d();
    let mut attempts = 0;
    loop {
        let outcome = node
            .machine
            .cmd([program, "ctr", "images", "pull", "--hosts-dir", certs_d.as_str(), image])
            .privileged()
            .timeout(registry.timeout)
            .change(format!("pull {image}"))
            .alters(["images"])
            .harmless()
            .repeats()
            .run_unjudged()?;
        let Some(output) = outcome.output()? else { return Ok(None) };
        let said = format!("{}\n{}", output.text(), output.stderr_text());
        if let Some(why) = stands_still(&said) {
            return Ok(Some(why.to_owned()));
        }
        if output.success() {
            return Ok(None);
        }
        attempts += 1;
        // containerd is just being started.
        if !said.contains("containerd.sock") || attempts >= 15 || node.status()? == Status::Stopped {
            return Ok(Some(said));
        }
        run::pause(Period::seconds(2))?;
    }
}

/// `microk8s` ends with exit code 0 without having done anything on nodes that are stopped.
fn stands_still(said: &str) -> Option<&str> {
    let lines = || said.lines().map(str::trim);
    lines().find(|line| line.contains("try microk8s start") || line.contains("is acting as a node in a cluster"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_say_whether_their_image_came() {
        let waiting = |reason: &str, message: &str| {
            json!({ "status": { "phase": "Pending", "containerStatuses": [
                { "imageID": "", "state": { "waiting": { "reason": reason, "message": message } } },
            ] } })
        };
        let refused = "failed to do request: http: server gave HTTP response to HTTPS client";
        assert_eq!(judge(&waiting("ErrImagePull", refused)), Seen::Refused(refused.to_owned()));
        assert_eq!(judge(&waiting("ContainerCreating", "")), Seen::NotYet("ContainerCreating".to_owned()));
        assert_eq!(judge(&waiting("RunContainerError", "no such file")), Seen::Pulled);
        assert!(matches!(judge(&json!({ "status": { "phase": "Pending" } })), Seen::NotYet(_)));
        assert!(matches!(judge(&json!({})), Seen::NotYet(_)));
        let evicted = json!({ "status": { "phase": "Failed", "reason": "OutOfpods", "message": "too many" } });
        assert!(matches!(judge(&evicted), Seen::Refused(text) if text.contains("OutOfpods too many")));
        let pulled = json!({ "status": { "phase": "Failed", "containerStatuses": [
            { "imageID": "r/app@sha256:0", "state": { "terminated": { "reason": "StartError" } } },
        ] } });
        assert_eq!(judge(&pulled), Seen::Pulled);
    }

    #[test]
    fn nothing_of_the_image_is_run() {
        let pod = manifest("runbook-pull-1", "default", "n1", "r/app:1");
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(pod["spec"]["containers"][0]["command"], json!(["/runbook-only-pulls-this-image"]));
        assert_eq!(pod["spec"]["nodeName"], "n1");
    }

    #[test]
    fn exit_code_0_is_no_proof() {
        assert!(stands_still(include_str!("../../testdata/microk8s_status_stopped.txt")).is_some());
        assert!(stands_still(include_str!("../../testdata/microk8s_kubectl_worker.txt")).is_some());
        assert!(stands_still("unpacking linux/amd64 sha256:0...\ndone: 1.2s").is_none());
    }
}
