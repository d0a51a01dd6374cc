//! The lease that tells other controllers that a run changes a cluster: how it is read, and who may have it.

use jiff::{SignedDuration, Timestamp};
use runbook_engine::backend::Mark;
use serde_json::{Value, json};

/// Name of the lease.
pub(crate) const NAME: &str = "runbook";
/// Where it lies: a namespace that every cluster has.
pub(crate) const NAMESPACE: &str = "kube-system";
/// Seconds that it lasts without being renewed. Longer than a restart of all API servers, or a laptop that sleeps for a moment;
/// shorter than the patience of somebody whose other run has crashed.
pub(crate) const SECONDS: u32 = 900;
/// Annotation: who runs it, for people.
const OWNER: &str = "runbook/owner";
/// What frees it.
pub(crate) const FREE: &str = "kubectl --namespace kube-system delete lease runbook";
/// Seconds that a lease may claim to last: nobody locks others out for longer than a day.
const LONGEST: i64 = 86_400;
/// Where the time is our own and not the server's, clocks may differ by so much.
const SLACK: SignedDuration = SignedDuration::from_mins(10);

/// The time, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) time: Timestamp,
    /// The server said so.
    pub(crate) is_server_s: bool,
}

/// Whether a run may have the lease.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It has it already.
    Ours,
    /// It may: nobody holds it any more, or an earlier session of the same run does.
    Free,
    /// It may not: another run holds it.
    Held(Holder),
    /// It may not: this later session of the same run is in charge.
    Superseded(u32),
}

/// Who holds a lease, as it says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) run: String,
    /// None: it is not written as we do.
    pub(crate) session: Option<u32>,
    /// In words, and until when.
    pub(crate) words: String,
}

/// "RUN/SESSION".
pub(crate) fn holder(mark: &Mark) -> String {
    format!("{}/{}", mark.run, mark.session)
}

/// Whether a run may have a lease that is there.
pub(crate) fn claim(lease: &Value, mark: &Mark, now: Now) -> Claim {
    let text = |pointer: &str| lease.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(identity) = text("/spec/holderIdentity") else { return Claim::Free };
    let (run, session) = identity.rsplit_once('/').unwrap_or((identity, ""));
    let session = session.parse::<u32>().ok();
    if run == mark.run {
        return match session {
            Some(session) if session == mark.session => Claim::Ours,
            Some(session) if session > mark.session => Claim::Superseded(session),
            Some(_) | None => Claim::Free,
        };
    }
    let renewed = ["/spec/renewTime", "/spec/acquireTime", "/metadata/creationTimestamp"];
    let renewed = renewed.iter().find_map(|pointer| text(pointer)?.parse::<Timestamp>().ok());
    let seconds = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64).unwrap_or(i64::from(SECONDS));
    let lasts = SignedDuration::from_secs(seconds.clamp(1, LONGEST));
    let expires = renewed.and_then(|renewed| renewed.checked_add(lasts).ok());
    let slack = if now.is_server_s { SignedDuration::ZERO } else { SLACK };
    let is_over = expires.and_then(|end| end.checked_add(slack).ok()).is_some_and(|end| end < now.time);
    if is_over {
        return Claim::Free;
    }
    let owner = lease["metadata"]["annotations"][OWNER].as_str();
    let owner = owner.map(|owner| format!(" of {}", shown(owner))).unwrap_or_default();
    let until = expires.map_or_else(|| "for good".to_owned(), |end| format!("until {end:.0} unless it is renewed"));
    let clock = if now.is_server_s { "" } else { " (by the clock of this machine, as the server tells no time)" };
    let words = format!("run {}{owner} changes this cluster, {until}{clock}", shown(identity));
    Claim::Held(Holder { run: run.to_owned(), session, words })
}

/// A text from the cluster as one line of a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The lease as it is wanted; on the base of the one that is there.
pub(crate) fn wanted(there: Option<&Value>, mark: &Mark, now: Now) -> Value {
    let time = format!("{:.6}", now.time);
    let mut lease = there.cloned().unwrap_or_else(|| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": NAME, "namespace": NAMESPACE}})
    });
    let identity = holder(mark);
    let is_ours = lease["spec"]["holderIdentity"] == identity.as_str();
    if !lease["spec"].is_object() {
        lease["spec"] = json!({});
    }
    if !is_ours {
        lease["spec"]["acquireTime"] = json!(time);
        if there.is_some() {
            let before = lease["spec"]["leaseTransitions"].as_i64().unwrap_or(0);
            lease["spec"]["leaseTransitions"] = json!(before.saturating_add(1));
        }
    }
    lease["spec"]["holderIdentity"] = json!(identity);
    lease["spec"]["leaseDurationSeconds"] = json!(SECONDS);
    lease["spec"]["renewTime"] = json!(time);
    if !lease["metadata"]["annotations"].is_object() {
        lease["metadata"]["annotations"] = json!({});
    }
    lease["metadata"]["annotations"][OWNER] = json!(mark.owner);
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(run: &str, session: u32) -> Mark {
        Mark { run: run.to_owned(), session, record: 7, owner: "ann@laptop, pid 4711".to_owned() }
    }

    fn at(time: &str) -> Now {
        Now { time: time.parse().expect("is a time"), is_server_s: true }
    }

    #[test]
    fn who_may_have_it() {
        let lease = wanted(None, &mark("r1", 2), at("2026-01-01T12:00:00Z"));
        assert_eq!(lease["spec"]["renewTime"], "2026-01-01T12:00:00.000000Z");
        let claim = |mark: &Mark, now: &str| claim(&lease, mark, at(now));
        assert_eq!(claim(&mark("r1", 2), "2026-01-01T12:01:00Z"), Claim::Ours);
        assert_eq!(claim(&mark("r1", 3), "2026-01-01T12:01:00Z"), Claim::Free);
        assert_eq!(claim(&mark("r1", 1), "2026-01-01T18:00:00Z"), Claim::Superseded(2));
        let Claim::Held(Holder { words: why, run, session }) = claim(&mark("r2", 9), "2026-01-01T12:15:00Z") else {
            panic!("another run")
        };
        for part in ["r1/2", "ann@laptop, pid 4711", "until 2026-01-01T12:15:00Z"] {
            assert!(why.contains(part), "{why}");
        }
        assert_eq!((run.as_str(), session), ("r1", Some(2)));
        assert_eq!(claim(&mark("r2", 9), "2026-01-01T12:15:01Z"), Claim::Free);
        // A clock that is behind.
        assert!(matches!(claim(&mark("r2", 9), "2025-01-01T12:00:00Z"), Claim::Held(_)));
    }

    #[test]
    fn without_the_server_s_clock_there_is_slack() {
        let lease = wanted(None, &mark("r1", 1), at("2026-01-01T12:00:00Z"));
        let own = |time: &str| Now { is_server_s: false, ..at(time) };
        let Claim::Held(Holder { words: why, .. }) = claim(&lease, &mark("r2", 1), own("2026-01-01T12:25:00Z")) else {
            panic!("slack")
        };
        assert!(why.contains("by the clock of this machine"), "{why}");
        assert_eq!(claim(&lease, &mark("r2", 1), own("2026-01-01T12:25:01Z")), Claim::Free);
    }

    #[test]
    fn what_others_wrote_is_read_with_care() {
        let (us, now) = (mark("r2", 1), at("2026-01-01T12:00:00Z"));
        let held = |lease: Value| matches!(claim(&lease, &us, now), Claim::Held(_));
        assert!(!held(json!({})));
        assert!(!held(json!({"spec": {"holderIdentity": ""}})));
        assert!(held(json!({"spec": {"holderIdentity": "x"}})), "nobody knows how long");
        assert!(held(json!({"spec": {"holderIdentity": "x", "renewTime": "soon"}})));
        let lasting = |seconds: i64| {
            json!({"spec": {"holderIdentity": "x/\u{1b}[2J", "renewTime": "2025-12-31T11:00:00Z",
                "leaseDurationSeconds": seconds}})
        };
        assert!(!held(lasting(-5)));
        assert!(!held(lasting(i64::MAX)), "not longer than a day");
        let mut strange = lasting(86_400);
        strange["spec"]["renewTime"] = json!("2026-01-01T11:00:00Z");
        assert!(matches!(claim(&strange, &us, now), Claim::Held(holder) if !holder.words.contains('\u{1b}')));
    }

    #[test]
    fn a_take_over_counts_and_keeps_what_others_put_there() {
        let mut there = wanted(None, &mark("r1", 1), at("2026-01-01T12:00:00Z"));
        there["metadata"]["resourceVersion"] = json!("5");
        there["metadata"]["labels"] = json!({"theirs": "x"});
        let renewed = wanted(Some(&there), &mark("r1", 1), at("2026-01-01T12:05:00Z"));
        assert_eq!(renewed["spec"]["acquireTime"], there["spec"]["acquireTime"]);
        assert_eq!(renewed["spec"]["leaseTransitions"], Value::Null);
        let taken = wanted(Some(&there), &mark("r1", 2), at("2026-01-01T12:05:00Z"));
        assert_eq!(taken["spec"]["holderIdentity"], "r1/2");
        assert_eq!(taken["spec"]["leaseTransitions"], 1);
        assert_eq!(taken["spec"]["acquireTime"], "2026-01-01T12:05:00.000000Z");
        assert_eq!(taken["metadata"]["resourceVersion"], "5");
        assert_eq!(taken["metadata"]["labels"], json!({"theirs": "x"}));
    }
}
