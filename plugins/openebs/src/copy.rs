//! A Job copies the data to a new volume and compares both sides.

use runbook_sdk::prelude::*;
use runbook_sdk::run::{Probe, wait_until};
use runbook_sdk::{Condition, Propagation};

use crate::claim::Claim;
use crate::input::Input;
use crate::json::{annotation, items, leaving, name, text};
use crate::marks;
use crate::node::Place;

/// What the Job runs.
const SCRIPT: &str = include_str!("copy.sh");
/// How long the copying pod may take to start: the volume is made for it, and an image may have to be pulled.
const STARTS: Period = Period::minutes(5);
/// How long objects may take to go.
pub(crate) const GONE: Period = Period::minutes(3);

/// What a copy came to, as it is kept on the new volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub(crate) files: u64,
    pub(crate) kib: u64,
    pub(crate) checksum: String,
    pub(crate) node: String,
}

/// What there is to copy.
pub(crate) struct Task<'a> {
    pub(crate) input: &'a Input,
    pub(crate) claim: &'a Claim,
    pub(crate) place: &'a Place,
    /// What is in the target is ours: a copy that was not used.
    pub(crate) again: bool,
    /// State of the workload; see `Consumers::fingerprint`.
    pub(crate) still: Option<&'a str>,
}

/// What the Job says at its end.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    error: Option<String>,
    need: u64,
    free: u64,
    source: String,
    copy: String,
    files: u64,
    kib: u64,
    attributes: bool,
}

/// Copies, and gives what it came to. None only in a plan, where nothing is copied.
///
/// # Errors
///
/// What kept the Job from starting or from ending well; `failed` where both sides differ. The claim is as it was then.
pub(crate) fn run(cluster: &Cluster, task: &Task<'_>) -> Result<Option<Copied>> {
    let Input { namespace, claim, .. } = task.input;
    let job = marks::job(namespace, claim);
    let mut live: Option<Value> = cluster.get(&job)?;
    if let Some(left) = live.take_if(|left| !is_usable(left, task.still)) {
        cluster.delete(&job).uid(text(&left, "/metadata/uid")).dependents(Propagation::Foreground).run()?;
        cluster.wait(&job, &Condition::Absent, GONE)?;
    }
    // Also where the step fails: a copy that goes on is of no use, and its pod holds the claim.
    cluster.delete(&job).summary(format!("delete {job}")).at_step_end().run()?;
    if live.is_none() {
        cluster.apply(&manifest(task))?.summary(format!("copy the data with {job}")).run()?;
    }
    if started(cluster, task, &job).if_known()?.is_none() {
        return Ok(None);
    }
    run::doing(&format!("{job} copies and compares"));
    let ended = cluster.wait(&job, &Condition::Status("Complete".into(), "True".into()), task.input.timeout);
    // The pod knows better than the Job why it failed.
    let live: Option<Value> = cluster.get(&job)?;
    let said = live.map(|live| said(cluster, &live)).transpose()?.flatten();
    match (ended, said) {
        (Ok(()), Some(said)) | (Err(_), Some(said @ Said { error: Some(_), .. })) => judge(task, &said).map(Some),
        (Err(error), _) => Err(error.context("copying the data")),
        (Ok(()), None) => fail!("{job} has ended, and its pod is gone without saying what it copied: run this again"),
    }
}

/// Deletes the Job, and waits until neither it nor its pods hold the claims.
///
/// # Errors
///
/// Where they do not go.
pub(crate) fn clear(cluster: &Cluster, input: &Input) -> Result<()> {
    let job = marks::job(&input.namespace, &input.claim);
    cluster.delete(&job).dependents(Propagation::Foreground).run()?;
    cluster.wait(&job, &Condition::Absent, GONE)?;
    let pods = Selector::new("Pod").namespace(&input.namespace).labels(format!("job-name={}", job.name));
    cluster.wait_none(&pods, GONE).if_known()?;
    Ok(())
}

/// Whether a Job that was left by an interruption can go on: all stood still when it began, and nobody moved since.
fn is_usable(job: &Value, still: Option<&str>) -> bool {
    let began = annotation(job, marks::STILL);
    began.is_some() && began == still && !has_failed(job) && !leaving(job)
}

fn has_failed(job: &Value) -> bool {
    items(job, "/status/conditions").iter().any(|c| c["type"] == "Failed" && c["status"] == "True")
}

fn manifest(task: &Task<'_>) -> Value {
    let Task { input, claim, place, again, still } = task;
    let name = marks::job_name(&input.claim);
    let labels = json!({
        "app.kubernetes.io/managed-by": "runbook", "app.kubernetes.io/name": "openebs-migrate",
        // A sidecar would keep the pod from ending.
        "sidecar.istio.io/inject": "false",
    });
    let mut job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name, "namespace": input.namespace, "labels": labels },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": input.timeout.duration().as_secs().max(60),
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": { "sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled" },
                },
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 5,
                    "automountServiceAccountToken": false,
                    // Not nodeName: without the scheduler nothing would bind the new claim.
                    "nodeSelector": { "kubernetes.io/hostname": place.hostname },
                    "tolerations": [{ "operator": "Exists" }],
                    "securityContext": { "runAsUser": 0, "runAsGroup": 0 },
                    "containers": [{
                        "name": "copy",
                        "image": input.image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", SCRIPT],
                        "env": [{ "name": "AGAIN", "value": if *again { "yes" } else { "no" } }],
                        "volumeMounts": [
                            { "name": "src", "mountPath": "/src", "readOnly": true },
                            { "name": "dst", "mountPath": "/dst" },
                            { "name": "work", "mountPath": "/work" },
                        ],
                    }],
                    "volumes": [
                        { "name": "src", "persistentVolumeClaim": { "claimName": claim.name() } },
                        { "name": "dst", "persistentVolumeClaim": { "claimName": marks::copy_claim("", claim.name()).name } },
                        { "name": "work", "emptyDir": {} },
                    ],
                },
            },
        },
    });
    if let Some(still) = still {
        job["metadata"]["annotations"] = json!({ marks::STILL: still });
    }
    job
}

/// The pods of a Job: of this one, not of an earlier one of its name that are still ending.
fn pods(cluster: &Cluster, job: &Value) -> Result<Vec<Value>> {
    let named = format!("job-name={}", name(job));
    let pods: Vec<Value> =
        cluster.list(&Selector::new("Pod").namespace(text(job, "/metadata/namespace")).labels(named))?;
    let uid = &job["metadata"]["uid"];
    Ok(pods
        .into_iter()
        .filter(|pod| items(pod, "/metadata/ownerReferences").iter().any(|o| o["uid"] == *uid))
        .collect())
}

fn started(cluster: &Cluster, task: &Task<'_>, job: &ObjectRef) -> Result<()> {
    let started =
        wait_until(&format!("the pod of {job} to start"), STARTS.min(task.input.timeout), Period::seconds(2), || {
            let Some(live) = cluster.get::<Value>(job)? else { fail!("{job} is gone: somebody deleted it") };
            Ok(match pods(cluster, &live)?.first() {
                Some(pod) => standing(pod),
                None if has_failed(&live) => Probe::Ready(()),
                None => Probe::NotYet(format!("it has no pod yet{}", why(&live))),
            })
        });
    started.context(format!(
        "the copy did not start on node {} (image {}, claim {})",
        task.place.hostname,
        task.input.image,
        marks::copy_claim(&task.input.namespace, &task.input.claim).name
    ))
}

/// Whether a pod has started, or why not.
fn standing(pod: &Value) -> Probe<()> {
    let state = &items(pod, "/status/containerStatuses").first().map(|c| c["state"].clone()).unwrap_or_default();
    if state["running"].is_object() || state["terminated"].is_object() || text(pod, "/status/phase") == "Failed" {
        return Probe::Ready(());
    }
    let waiting = [text(state, "/waiting/reason"), text(state, "/waiting/message")];
    let waiting = waiting.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    Probe::NotYet(if waiting.is_empty() {
        format!("it is {}{}", text(pod, "/status/phase"), why(pod))
    } else {
        waiting
    })
}

/// What the conditions of an object say that do not hold.
fn why(object: &Value) -> String {
    let conditions = items(object, "/status/conditions").iter();
    let texts: Vec<&str> =
        conditions.filter(|c| c["status"] == "False").map(|c| text(c, "/message")).filter(|t| !t.is_empty()).collect();
    if texts.is_empty() { String::new() } else { format!(" ({})", texts.join("; ")) }
}

fn said(cluster: &Cluster, job: &Value) -> Result<Option<Said>> {
    Ok(pods(cluster, job)?.iter().find_map(|pod| {
        let ended = items(pod, "/status/containerStatuses").first()?;
        serde_json::from_str(text(ended, "/state/terminated/message")).ok()
    }))
}

/// Whether both sides are the same, before anything is switched.
fn judge(task: &Task<'_>, said: &Said) -> Result<Copied> {
    let Task { input, place, .. } = task;
    let copy = marks::copy_claim(&input.namespace, &input.claim).name;
    let mib = |kib: u64| kib.div_ceil(1024);
    match said.error.as_deref() {
        None => {}
        Some("no-space") => conflict!(
            "node {} has {} MiB free where the new volume is, and the data needs {} MiB and a little more: make room, then run \
             this again",
            place.hostname,
            mib(said.free),
            mib(said.need)
        ),
        Some("space-unknown") => {
            conflict!(
                "the copying pod could not find out how much room there is on node {}: nothing was copied",
                place.hostname
            )
        }
        Some("not-empty") => conflict!(
            "the volume of claim {copy} holds something that this did not put there: if it is not needed, clear it, then run this \
             again"
        ),
        Some("no-volume") => fail!("the copying pod did not get its volumes"),
        Some(phase) => fail!("the copy broke off while {phase}: `kubectl logs` of the pod says more"),
    }
    if said.source.is_empty() || said.source != said.copy {
        fail!(
            "the copy is not the same as the data (SHA-256 {} and {}): nothing was switched; {}",
            said.source,
            said.copy,
            if said.attributes {
                "something still writes to the old volume?"
            } else {
                "an image with GNU tar keeps more"
            }
        );
    }
    if said.files == 0 && !place.certain && !input.allow_empty {
        conflict!(
            "the old volume is empty on node {}, and the volume does not say on which node its data is: add node = \"NAME\" of the \
             one that has it, or allow_empty = true if there is none",
            place.hostname
        );
    }
    if !said.attributes {
        warn!(
            "the image {} has no GNU tar: ACLs and extended attributes, if there were any, were not copied",
            input.image
        );
    }
    Ok(Copied { files: said.files, kib: said.kib, checksum: said.source.clone(), node: place.hostname.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::tests::bound;

    fn with_task<T>(more: Value, certain: bool, f: impl FnOnce(&Task<'_>) -> T) -> T {
        let mut input = json!({ "namespace": "homeslice", "claim": "chime" });
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        let input: Input = serde_json::from_value(input).unwrap();
        let claim = bound("chime", "microk8s-hostpath", "pvc-1");
        let place = Place { hostname: "moe".into(), certain };
        f(&Task { input: &input, claim: &claim, place: &place, again: false, still: Some("Deployment a=1") })
    }

    #[test]
    fn the_job_reads_the_source_and_goes_through_the_scheduler() {
        let job = with_task(json!({ "timeout": "2h" }), true, manifest);
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 7200);
        assert_eq!(pod["nodeSelector"]["kubernetes.io/hostname"], "moe");
        assert!(pod["nodeName"].is_null());
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["readOnly"], true);
        assert_eq!(pod["volumes"][1]["persistentVolumeClaim"]["claimName"], "chime-mig");
        assert_eq!(job["metadata"]["annotations"][marks::STILL], "Deployment a=1");
    }

    #[test]
    fn what_the_job_says_is_judged() {
        let judged = |text: Value, more: Value, certain: bool| {
            let said: Said = serde_json::from_value(text).unwrap();
            with_task(more, certain, |task| judge(task, &said))
        };
        let good = json!({ "source": "ab", "copy": "ab", "files": 3, "kib": 9, "tool": "tar", "attributes": true });
        let copied = judged(good, json!({}), false).unwrap();
        assert_eq!(copied, Copied { files: 3, kib: 9, checksum: "ab".into(), node: "moe".into() });
        let empty = json!({ "source": "ab", "copy": "ab", "files": 0, "kib": 4, "attributes": true });
        assert!(judged(empty.clone(), json!({}), true).is_ok());
        assert!(judged(empty.clone(), json!({ "allow_empty": true }), false).is_ok());
        for (text, expected) in [
            (empty, "is empty on node moe"),
            (json!({ "source": "ab", "copy": "cd", "files": 3, "attributes": true }), "not the same"),
            (json!({}), "not the same"),
            (json!({ "error": "no-space", "need": 4096, "free": 1024 }), "1 MiB free"),
            (json!({ "error": "not-empty" }), "did not put there"),
            (json!({ "error": "copying" }), "while copying"),
        ] {
            let error = judged(text, json!({}), false).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_pod_that_does_not_start_says_why() {
        let not_yet = |pod: Value| match standing(&pod) {
            Probe::NotYet(why) => why,
            Probe::Ready(()) => "ready".to_owned(),
        };
        let state =
            |state: Value| json!({ "status": { "phase": "Pending", "containerStatuses": [{ "state": state }] } });
        assert_eq!(
            not_yet(state(json!({ "waiting": { "reason": "ErrImagePull", "message": "no route" } }))),
            "ErrImagePull: no route"
        );
        assert_eq!(not_yet(state(json!({ "running": {} }))), "ready");
        assert_eq!(not_yet(state(json!({ "terminated": { "exitCode": 3 } }))), "ready");
        let unschedulable = json!({ "status": { "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" },
        ] } });
        assert_eq!(not_yet(unschedulable), "it is Pending (0/1 nodes are available)");
    }
}
