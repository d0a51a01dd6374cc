//! Who has the volume mounted, and where a pod of ours may run.

use runbook_sdk::prelude::*;

/// A container that runs and has the whole volume mounted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Window {
    pub(crate) pod: ObjectRef,
    pub(crate) container: String,
    /// Where the volume is mounted in it.
    pub(crate) top: String,
}

/// The users of a claim.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Users {
    /// Containers to look through.
    pub(crate) windows: Vec<Window>,
    /// Nodes of pods that have the claim.
    pub(crate) nodes: Vec<String>,
    /// Names of these pods.
    pub(crate) pods: Vec<String>,
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl Users {
    /// Finds them among the pods of the namespace; `own` is the seeding pod.
    pub(crate) fn of(pods: &[Value], claim: &str, own: &str) -> Self {
        let mut users = Self::default();
        for pod in pods {
            let name = text(pod, "/metadata/name");
            let volumes = items(pod, "/spec/volumes").iter();
            let volume =
                volumes.filter(|v| v["persistentVolumeClaim"]["claimName"] == claim).map(|v| text(v, "/name")).next();
            let (Some(volume), false) = (volume, matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")) else {
                continue;
            };
            if name == own {
                continue;
            }
            users.pods.push(name.to_owned());
            match text(pod, "/spec/nodeName") {
                "" => {}
                node => users.nodes.push(node.to_owned()),
            }
            if !text(pod, "/metadata/deletionTimestamp").is_empty() {
                continue;
            }
            for container in items(pod, "/spec/containers") {
                let running = items(pod, "/status/containerStatuses")
                    .iter()
                    .any(|status| status["name"] == container["name"] && status["state"]["running"].is_object());
                let mount = items(container, "/volumeMounts").iter().find(|mount| {
                    mount["name"] == volume
                        && text(mount, "/subPath").is_empty()
                        && text(mount, "/subPathExpr").is_empty()
                });
                if let (true, Some(mount)) = (running, mount) {
                    users.windows.push(Window {
                        pod: ObjectRef::new("Pod", name).maybe_namespace(pod["metadata"]["namespace"].as_str()),
                        container: text(container, "/name").to_owned(),
                        top: text(mount, "/mountPath").trim_end_matches('/').to_owned(),
                    });
                }
            }
        }
        users.nodes.sort();
        users.nodes.dedup();
        users
    }
}

/// Checks the claim; gives the node that the seeding pod has to run on, where the volume itself does not say so.
///
/// # Errors
///
/// `conflict` where it cannot be mounted a second time, or in a state that nothing can be written to.
pub(crate) fn node(key: &str, claim: &Value, users: &Users) -> Result<Option<String>> {
    if !text(claim, "/metadata/deletionTimestamp").is_empty() {
        conflict!("claim {key} is being deleted");
    }
    if text(claim, "/spec/volumeMode") == "Block" {
        conflict!("claim {key} is a block device (volumeMode: Block): it has no files");
    }
    // A claim that waits for its first consumer is bound by the seeding pod.
    if text(claim, "/status/phase") == "Lost" {
        conflict!("claim {key} is Lost: its volume is gone");
    }
    let modes: Vec<&str> = items(claim, "/spec/accessModes").iter().filter_map(Value::as_str).collect();
    if modes == ["ReadOnlyMany"] {
        conflict!("claim {key} is ReadOnlyMany: nothing can be written to it");
    }
    if modes.contains(&"ReadWriteOncePod") && !users.pods.is_empty() {
        conflict!(
            "claim {key} is ReadWriteOncePod and used by {}: no second pod can mount it; scale that to 0 and run this again, or \
             seed before its first start",
            users.pods.join(", ")
        );
    }
    match users.nodes.as_slice() {
        [] => Ok(None),
        [node] => Ok(Some(node.clone())),
        // Mounted on several nodes: it can be mounted on any of them.
        [node, ..] if modes.contains(&"ReadWriteMany") => Ok(Some(node.clone())),
        several => conflict!(
            "claim {key} is mounted on several nodes ({}), although it is for one at a time: each may see a folder of its own; \
             scale the workload down to one pod first",
            several.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: &str, state: Value, mount: Value) -> Value {
        json!({
            "metadata": { "name": name, "namespace": "homeslice" },
            "spec": {
                "nodeName": node,
                "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "chime" } }],
                "containers": [{ "name": "nginx", "volumeMounts": [mount] }],
            },
            "status": { "phase": "Running", "containerStatuses": [{ "name": "nginx", "state": state }] },
        })
    }

    fn mount() -> Value {
        json!({ "name": "data", "mountPath": "/usr/share/nginx/html/", "readOnly": true })
    }

    #[test]
    fn a_running_container_is_a_window() {
        let running = json!({ "running": {} });
        let users = Users::of(&[pod("nginx-1", "moe", running.clone(), mount())], "chime", "own");
        assert_eq!(users.windows[0].top, "/usr/share/nginx/html");
        assert_eq!((users.nodes, users.pods), (vec!["moe".to_owned()], vec!["nginx-1".to_owned()]));

        let crashed = Users::of(&[pod("a", "moe", json!({ "waiting": {} }), mount())], "chime", "own");
        assert!(crashed.windows.is_empty() && crashed.pods == ["a"]);
        let mut part = mount();
        part["subPath"] = json!("html");
        assert!(Users::of(&[pod("a", "moe", running.clone(), part)], "chime", "own").windows.is_empty());
        assert_eq!(Users::of(&[pod("own", "moe", running, mount())], "chime", "own"), Users::default());
    }

    #[test]
    fn a_second_pod_must_be_able_to_mount_it() {
        let claim = |mode: &str| json!({ "spec": { "accessModes": [mode] }, "status": { "phase": "Bound" } });
        let users = |nodes: &[&str]| Users {
            nodes: nodes.iter().map(|&n| n.to_owned()).collect(),
            pods: nodes.iter().map(|n| format!("pod-on-{n}")).collect(),
            ..Users::default()
        };
        assert_eq!(node("a/b", &claim("ReadWriteOnce"), &users(&[])), Ok(None));
        assert_eq!(node("a/b", &claim("ReadWriteOnce"), &users(&["moe"])), Ok(Some("moe".into())));
        assert_eq!(node("a/b", &claim("ReadWriteMany"), &users(&["larry", "moe"])), Ok(Some("larry".into())));
        for (mode, nodes, expected) in [
            ("ReadWriteOncePod", &["moe"][..], "pod-on-moe"),
            ("ReadWriteOnce", &["larry", "moe"][..], "several nodes"),
            ("ReadOnlyMany", &[][..], "nothing can be written"),
        ] {
            let error = node("a/b", &claim(mode), &users(nodes)).unwrap_err();
            assert!(error.kind() == Kind::Conflict && error.message().contains(expected), "{error}");
        }
    }
}
