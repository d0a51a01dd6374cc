//! The workload stands still while its data is copied, and gets going again at the end of the step.
//!
//! Whatever is made to wait says in an annotation how it was before, written with the same patch. And before it is made to
//! wait, the change that lets it go on is recorded for the end of the step, which comes however the step ends.

use runbook_sdk::prelude::*;

use crate::consumers::{Consumers, Objects};
use crate::gitops::Manager;
use crate::marks;

/// How long pods may take to end. Their grace period is mostly 30 s.
const PODS_GONE: Period = Period::minutes(5);
/// How long a sync that is under way may take.
const SYNC_ENDS: Period = Period::minutes(5);

/// What is made to wait, and how it goes on.
struct Halt {
    object: ObjectRef,
    /// None: it waits already, since an earlier try.
    stop: Option<Value>,
    resume: Value,
    words: (String, String),
}

/// Stops everything that uses or restores the claim, and waits until no pod refers to it; a plan does not wait.
///
/// # Errors
///
/// What cannot be stopped; pods that do not end in time.
pub(crate) fn stop(
    cluster: &Cluster,
    namespace: &str,
    claim: &str,
    users: &Consumers,
    managers: &[Manager],
) -> Result<()> {
    for manager in managers {
        sync_ends(cluster, manager).if_known()?;
    }
    let halts = managers.iter().filter_map(of_manager).chain(of_users(users)?);
    for halt in halts.collect::<Vec<_>>() {
        let Halt { object, stop, resume, words } = halt;
        cluster.patch_merge(&object, &resume).summary(words.1).at_step_end().run()?;
        if let Some(stop) = stop {
            cluster.patch_merge(&object, &stop).summary(words.0).run()?;
        }
    }
    for (pod, uid) in &users.ended {
        let object = ObjectRef::new("Pod", pod).namespace(namespace);
        cluster
            .delete(&object)
            .uid(uid)
            .summary(format!("delete {object}, which has ended and holds the claim"))
            .run()?;
    }
    let own = marks::job_name(claim);
    let gone = run::wait_until("the pods that use the claim to end", PODS_GONE, Period::seconds(2), || {
        let users = Objects::look(cluster, namespace)?.users(claim, &own);
        let left: Vec<String> = users.pods.into_iter().chain(users.ended.into_iter().map(|(pod, _)| pod)).collect();
        Ok(if left.is_empty() { run::Probe::Ready(()) } else { run::Probe::NotYet(left.join(", ")) })
    });
    gone.if_known()?;
    Ok(())
}

/// Lets go on at once what an interrupted migration left waiting.
///
/// # Errors
///
/// What keeps it from going on.
pub(crate) fn resume_leftovers(cluster: &Cluster, users: &Consumers, managers: &[Manager]) -> Result<()> {
    let halts = of_users(users)?.chain(managers.iter().rev().filter_map(of_manager));
    for halt in halts.filter(|halt| halt.stop.is_none()).collect::<Vec<_>>() {
        cluster.patch_merge(&halt.object, &halt.resume).summary(halt.words.1).run()?;
    }
    Ok(())
}

/// Whether nobody woke up since the copy began.
///
/// # Errors
///
/// `conflict` where somebody did: the copy may have missed what they wrote.
pub(crate) fn still_asleep(cluster: &Cluster, namespace: &str, claim: &str, fingerprint: Option<&str>) -> Result<()> {
    let users = Objects::look(cluster, namespace)?.users(claim, &marks::job_name(claim));
    let awake = users.awake();
    if !awake.is_empty() {
        conflict!(
            "somebody started the workload while it was copied ({}): find out who (a GitOps controller, an operator, a person), \
             stop that, then run this again; the claim is as it was",
            awake.join(", ")
        );
    }
    if users.fingerprint().as_deref() != fingerprint {
        conflict!("somebody changed the workload while it was copied: run this again; the claim is as it was");
    }
    Ok(())
}

fn sync_ends(cluster: &Cluster, manager: &Manager) -> Result<()> {
    let object = &manager.object;
    if object.kind.kind != "Application" || manager.pause().is_none() {
        return Ok(());
    }
    run::wait_until(&format!("the sync of {object} to end"), SYNC_ENDS, Period::seconds(2), || {
        let live: Option<Value> = cluster.get(object)?;
        let phase = live.as_ref().map(|live| live["status"]["operationState"]["phase"] == "Running");
        Ok(if phase == Some(true) { run::Probe::NotYet("it is Running".into()) } else { run::Probe::Ready(()) })
    })
}

fn of_manager(manager: &Manager) -> Option<Halt> {
    let object = &manager.object;
    let words = (format!("pause {object}"), format!("let {object} go on"));
    Some(Halt { object: object.clone(), stop: manager.pause(), resume: manager.resume()?, words })
}

/// CronJobs first, so that none starts a pod while the others stop.
fn of_users(users: &Consumers) -> Result<impl Iterator<Item = Halt>> {
    let mut halts = Vec::new();
    for timer in &users.timers {
        if timer.suspended && !timer.by_us {
            continue;
        }
        let object = &timer.object;
        halts.push(Halt {
            object: object.clone(),
            stop: (!timer.suspended).then(|| {
                json!({ "metadata": { "annotations": { marks::SUSPENDED: marks::BY } }, "spec": { "suspend": true } })
            }),
            resume: json!({ "metadata": { "annotations": { marks::SUSPENDED: null } }, "spec": { "suspend": false } }),
            words: (format!("suspend {object}"), format!("let {object} go on")),
        });
    }
    for scalable in &users.scalable {
        let object = &scalable.object;
        // A number that a person set since then is newer than the annotation.
        let awake = (scalable.replicas > 0).then_some(scalable.replicas);
        let Some(now) = awake.or(scalable.before) else { continue };
        let replicas: u32 = run::baseline(&format!("replicas of {object}"), &now)?;
        halts.push(Halt {
            object: object.clone(),
            stop: awake.map(|_| {
                json!({
                    "metadata": { "annotations": { marks::REPLICAS: replicas.to_string() } },
                    "spec": { "replicas": 0 },
                })
            }),
            resume: json!({
                "metadata": { "annotations": { marks::REPLICAS: null } },
                "spec": { "replicas": replicas },
            }),
            words: (format!("scale {object} to 0"), format!("scale {object} to {replicas}")),
        });
    }
    Ok(halts.into_iter())
}
