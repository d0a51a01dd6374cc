//! `kube-scale` and `kube-cordon`: states for the time of a block, put back at its end.
//!
//! How it was before is recorded once for a run, so also a later session knows it that sees only what the first one left. And before
//! anything is changed, the change that puts it back is on the disk.

use runbook_sdk::Condition;
use runbook_sdk::prelude::*;

#[derive(Deserialize)]
pub(crate) struct ScaleInput {
    #[serde(default = "deployment")]
    kind: String,
    namespace: String,
    name: String,
    replicas: u32,
    #[serde(default = "five_minutes")]
    timeout: Period,
}

#[derive(Serialize)]
pub(crate) struct ScaleOutput {
    before: u32,
}

fn deployment() -> String {
    "Deployment".to_owned()
}

fn five_minutes() -> Period {
    Period::minutes(5)
}

pub(crate) fn scale(input: ScaleInput) -> Result<ScaleOutput> {
    let cluster = Cluster::target()?;
    let object = ObjectRef::new(input.kind.as_str(), &input.name).namespace(&input.namespace);
    let Some(live) = cluster.get::<Value>(&object)? else {
        return Err(Error::new(Kind::NotFound, format!("there is no {object}: check `namespace`, `kind` and `name`")));
    };
    let before: u32 = run::baseline("replicas", &replicas(&live)?)?;
    if before != input.replicas {
        cluster.scale(&object, before).summary(format!("scale {object} back to {before}")).at_block_end().run()?;
    }
    cluster.scale(&object, input.replicas).run()?;
    // In a plan there is nothing to wait for.
    cluster.wait(&object, &Condition::RolledOut, input.timeout).if_known()?;
    // A workload counts a pod no more from when it is told to end; until it has, it holds its volumes.
    if let (0, Some(labels)) = (input.replicas, labels(&live)) {
        let pods = Selector::new("Pod").namespace(&input.namespace).labels(labels);
        let pods = pods.fields("status.phase!=Succeeded,status.phase!=Failed");
        cluster.wait_none(&pods, input.timeout).if_known()?;
    }
    Ok(ScaleOutput { before })
}

/// How many it is to have. Left out, Kubernetes takes it for one.
fn replicas(live: &Value) -> Result<u32> {
    match &live["spec"]["replicas"] {
        Value::Null => Ok(1),
        number => Ok(serde_json::from_value(number.clone())?),
    }
}

/// The labels of its pods, as a selector; none where it says them in another way.
fn labels(live: &Value) -> Option<String> {
    let selector = &live["spec"]["selector"];
    let labels = selector["matchLabels"].as_object().filter(|labels| !labels.is_empty())?;
    let is_all = selector["matchExpressions"].as_array().is_none_or(Vec::is_empty);
    let labels: Option<Vec<String>> =
        labels.iter().map(|(name, value)| Some(format!("{name}={}", value.as_str()?))).collect();
    labels.filter(|_| is_all).map(|labels| labels.join(","))
}

#[derive(Deserialize)]
pub(crate) struct CordonInput {
    node: String,
}

#[derive(Serialize)]
pub(crate) struct CordonOutput {
    before: bool,
}

pub(crate) fn cordon(input: CordonInput) -> Result<CordonOutput> {
    let cluster = Cluster::target()?;
    let node = ObjectRef::new("Node", &input.node);
    let Some(live) = cluster.get::<Value>(&node)? else {
        return Err(Error::new(Kind::NotFound, format!("there is no {node} in the cluster")));
    };
    let before: bool = run::baseline("cordoned", &(live["spec"]["unschedulable"] == true))?;
    // One that somebody else had cordoned is theirs to uncordon.
    if !before {
        let uncordoned = json!({ "spec": { "unschedulable": null } });
        cluster.patch_merge(&node, &uncordoned).summary(format!("uncordon {node}")).at_block_end().run()?;
    }
    let cordoned = json!({ "spec": { "unschedulable": true } });
    cluster.patch_merge(&node, &cordoned).summary(format!("cordon {node}")).run()?;
    Ok(CordonOutput { before })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_without_a_number_has_one() {
        assert_eq!(replicas(&json!({ "spec": {} })), Ok(1));
        assert_eq!(replicas(&json!({ "spec": { "replicas": 0 } })), Ok(0));
        assert!(replicas(&json!({ "spec": { "replicas": "many" } })).is_err());
    }

    #[test]
    fn its_pods_are_named_only_where_labels_say_all() {
        let of = |selector: Value| labels(&json!({ "spec": { "selector": selector } }));
        assert_eq!(of(json!({ "matchLabels": { "app": "a", "tier": "b" } })).as_deref(), Some("app=a,tier=b"));
        assert_eq!(of(json!({ "matchLabels": {} })), None);
        let more = json!([{ "key": "x", "operator": "Exists" }]);
        assert_eq!(of(json!({ "matchLabels": { "app": "a" }, "matchExpressions": more })), None);
    }
}
