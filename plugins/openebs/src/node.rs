//! On which node the data is.

use runbook_sdk::{Result, conflict, invalid};
use serde_json::Value;

use crate::json::{items, label, name, text};
use crate::volume::Volume;

/// The node of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Value of its label `kubernetes.io/hostname`.
    pub(crate) hostname: String,
    /// Otherwise an empty folder may mean: the wrong node.
    pub(crate) certain: bool,
}

/// What is known of where the data is, beside the volume.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hints {
    /// What the owner says.
    pub(crate) said: Option<String>,
    /// Nodes on which pods with the claim run.
    pub(crate) running: Vec<String>,
    /// Nodes that were noted: by the scheduler for the first pod, or by an earlier try.
    pub(crate) noted: Vec<String>,
}

/// Finds the node of a volume's data.
///
/// # Errors
///
/// `conflict` where it cannot be known, is gone or is not ready; `invalid` where the owner names one that it cannot be.
pub(crate) fn find(volume: &Volume, nodes: &[Value], hints: &Hints) -> Result<Place> {
    let volume_name = volume.name();
    let candidates: Vec<&Value> = match volume.affinity() {
        Some(required) => nodes.iter().filter(|node| matches(required, node)).collect(),
        None => nodes.iter().collect(),
    };
    if candidates.is_empty() {
        let wanted = volume.affinity().map_or_else(String::new, |required| format!(" that fits {required}"));
        conflict!("volume {volume_name}: the cluster has no node{wanted}: bring back the node that has the data");
    }
    let named = |wanted: &str| candidates.iter().copied().find(|node| name(node) == wanted || hostname(node) == wanted);
    let node = if let Some(said) = &hints.said {
        let Some(node) = named(said) else {
            let all: Vec<&str> = candidates.iter().map(|node| hostname(node)).collect();
            invalid!("node = {said:?}: the data of volume {volume_name} can be on: {}", all.join(", "));
        };
        node
    } else if let [only] = candidates.as_slice() {
        only
    } else {
        let mut seen: Vec<&Value> = Vec::new();
        // A running pod sees the data now; notes may be old.
        for names in [&hints.running, &hints.noted] {
            seen = names.iter().filter_map(|wanted| named(wanted)).collect();
            seen.sort_by_key(|node| name(node));
            seen.dedup_by_key(|node| name(node));
            if !seen.is_empty() {
                break;
            }
        }
        match seen.as_slice() {
            [node] => *node,
            [] if !volume.is_loose() => conflict!(
                "volume {volume_name} can be reached from every node, and no pod that uses it runs: add node = \"NAME\" of the node \
                 that the new volume is to be on to the step"
            ),
            [] => conflict!(
                "volume {volume_name} does not say on which node its data is, and no pod that uses it runs: find the node that \
                 has the folder {}, and add node = \"NAME\" to the step",
                path(volume)
            ),
            several => {
                let all: Vec<&str> = several.iter().map(|node| hostname(node)).collect();
                conflict!(
                    "volume {volume_name}: pods that use it run on {}, and each may see a folder of its own: find out which has \
                     the data, and add node = \"NAME\" to the step",
                    all.join(" and ")
                );
            }
        }
    };
    let hostname = hostname(node);
    if !is_ready(node) {
        conflict!(
            "node {hostname}, which has the data of volume {volume_name}, is not Ready: start it, then run this again"
        );
    }
    Ok(Place { hostname: hostname.to_owned(), certain: !volume.is_loose() })
}

fn path(volume: &Volume) -> &str {
    match text(&volume.0, "/spec/local/path") {
        "" => text(&volume.0, "/spec/hostPath/path"),
        path => path,
    }
}

fn hostname(node: &Value) -> &str {
    label(node, "kubernetes.io/hostname").unwrap_or_else(|| name(node))
}

fn is_ready(node: &Value) -> bool {
    items(node, "/status/conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether a node fits one of the terms of a volume. What is not understood fits nothing.
pub(crate) fn matches(required: &Value, node: &Value) -> bool {
    items(required, "/nodeSelectorTerms").iter().any(|term| {
        let labels = items(term, "/matchExpressions");
        let fields = items(term, "/matchFields");
        !(labels.is_empty() && fields.is_empty())
            && labels.iter().all(|rule| fits(rule, label(node, text(rule, "/key"))))
            && fields.iter().all(|rule| text(rule, "/key") == "metadata.name" && fits(rule, Some(name(node))))
    })
}

fn fits(rule: &Value, value: Option<&str>) -> bool {
    let listed = || value.is_some_and(|value| items(rule, "/values").iter().any(|v| v == value));
    match text(rule, "/operator") {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use runbook_sdk::Kind;
    use serde_json::json;

    use super::*;
    use crate::volume::tests::hostpath;

    fn node(name: &str, ready: &str) -> Value {
        json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        })
    }

    fn loose() -> Volume {
        let mut volume = hostpath();
        volume.0["spec"]["nodeAffinity"] = Value::Null;
        volume
    }

    fn hints(running: &[&str], noted: &[&str]) -> Hints {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Hints { said: None, running: owned(running), noted: owned(noted) }
    }

    #[test]
    fn the_volume_knows_best() {
        let nodes = [node("moe", "True"), node("larry", "True")];
        let place = find(&hostpath(), &nodes, &hints(&["larry"], &[])).unwrap();
        assert_eq!(place, Place { hostname: "moe".into(), certain: true });
        let gone = find(&hostpath(), &nodes[1..], &Hints::default()).unwrap_err();
        assert!(gone.kind() == Kind::Conflict && gone.message().contains("\"moe\""), "{gone}");
        let down = find(&hostpath(), &[node("moe", "Unknown")], &Hints::default()).unwrap_err();
        assert!(down.message().contains("not Ready"), "{down}");
    }

    #[test]
    fn a_volume_that_does_not_say_is_found_by_its_users() {
        let nodes = [node("moe", "True"), node("larry", "True")];
        let find = |hints: &Hints| find(&loose(), &nodes, hints);
        assert_eq!(
            find(&hints(&["larry", "larry"], &["moe"])).unwrap(),
            Place { hostname: "larry".into(), certain: false }
        );
        assert_eq!(find(&hints(&[], &["moe"])).unwrap().hostname, "moe");
        for (hints, expected) in
            [(hints(&[], &[]), "default-storage/x"), (hints(&["moe", "larry"], &[]), "larry and moe")]
        {
            let error = find(&hints).unwrap_err();
            assert!(error.kind() == Kind::Conflict && error.message().contains(expected), "{error}");
        }
        let said = |name: &str| Hints { said: Some(name.to_owned()), ..Hints::default() };
        assert_eq!(find(&said("moe")).unwrap().hostname, "moe");
        assert_eq!(find(&said("curly")).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn a_single_node_needs_no_hint() {
        assert_eq!(find(&loose(), &[node("moe", "True")], &Hints::default()).unwrap().hostname, "moe");
    }
}
