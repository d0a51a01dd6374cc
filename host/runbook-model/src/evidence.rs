//! Evidence: what became of a write to an object, by what the object is now.
//!
//! An API server makes a write whole or not at all. So an object that bears one value which only the write gives it had it made,
//! whoever altered the rest since; and one that is as it was before had not.

use serde_json::Value;

use crate::call::{Answer, Finding, ObjectRef, Prior, Verdict};
use crate::undo_kube::{bears, lets_go};

/// What an object says of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The write was made.
    Made,
    /// It was not.
    NotMade,
    /// It is neither as it was nor as it would be.
    Between,
}

/// It was carried out, and changed something.
pub fn done() -> Finding {
    Finding::Done(Answer::Verdict(Verdict::Changed))
}

/// What an object says of a write to it, from what was recorded before the write. `manager` is whose fields the write sets.
pub fn word(prior: &Prior, now: Option<&Value>, manager: &str) -> Word {
    let Prior::Object { live, would } = prior else { return Word::Between };
    match (live, would, now) {
        // The write let it go, and it went.
        (Some(live), Some(would), None) if lets_go(would) && !lets_go(live) => Word::Made,
        // Whoever deleted it since: there is nothing that bears the write.
        (_, _, None) => Word::NotMade,
        (None, _, Some(now)) if managed_by(now, manager) => Word::Made,
        (None, _, Some(_)) | (Some(_), None, Some(_)) => Word::Between,
        (Some(live), Some(_), Some(now)) if same(live, now, "/metadata/resourceVersion") => Word::NotMade,
        (Some(live), Some(_), Some(now)) if !same(live, now, "/metadata/uid") => Word::Between,
        (Some(live), Some(would), Some(now)) => {
            if bears(live, would, now) {
                Word::Made
            } else {
                Word::Between
            }
        }
    }
}

/// What became of a deletion.
pub fn gone(object: &ObjectRef, prior: &Prior, now: Option<&Value>) -> Finding {
    let live = match prior {
        Prior::Object { live, .. } => live.as_ref(),
        Prior::None | Prior::DoneWhen(_) | Prior::Process { .. } | Prior::File(_) | Prior::PodFile { .. } => None,
    };
    let leaving = |object: &Value| object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string);
    match (live, now) {
        (_, None) => done(),
        (Some(live), Some(now)) if !same(live, now, "/metadata/uid") || (leaving(now) && !leaving(live)) => done(),
        (Some(_), Some(_)) => Finding::NotDone,
        (None, Some(_)) => Finding::Unclear(format!(
            "{object} is there, and whether it is the one that was to go or a new one of that name was not recorded"
        )),
    }
}

/// Whether both have the same text there.
fn same(one: &Value, other: &Value, pointer: &str) -> bool {
    let text = |object: &Value| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    text(one).is_some() && text(one) == text(other)
}

fn managed_by(object: &Value, manager: &str) -> bool {
    let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    !manager.is_empty() && managers.into_iter().flatten().any(|entry| entry["manager"] == manager)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::ResourceKind;
    use serde_json::json;

    fn map(uid: &str, version: &str, data: &Value) -> Value {
        json!({"kind": "ConfigMap", "metadata": {"name": "c", "uid": uid, "resourceVersion": version}, "data": data})
    }

    #[test]
    fn a_write_is_told_by_what_the_object_bears() {
        let before = map("u", "7", &json!({"a": "1", "b": "1"}));
        let would = map("u", "7", &json!({"a": "2", "b": "1", "c": "1"}));
        let altered = Prior::Object { live: Some(before.clone()), would: Some(would) };
        for (now, expected) in [
            (Some(before), Word::NotMade),
            (None, Word::NotMade),
            (Some(map("u", "8", &json!({"a": "2", "b": "1", "c": "1"}))), Word::Made),
            // Somebody wrote over a part of it.
            (Some(map("u", "9", &json!({"a": "3", "b": "9", "c": "1"}))), Word::Made),
            (Some(map("u", "9", &json!({"a": "3", "b": "1", "c": "4"}))), Word::Between),
            (Some(map("u", "8", &json!({"a": "1", "b": "5"}))), Word::Between),
            // Another object of that name.
            (Some(map("v", "8", &json!({"a": "2", "b": "1", "c": "1"}))), Word::Between),
        ] {
            assert_eq!(word(&altered, now.as_ref(), "runbook-x"), expected, "{now:?}");
        }
        assert_eq!(word(&Prior::None, Some(&Value::Null), "runbook-x"), Word::Between);
    }

    #[test]
    fn a_volume_that_was_let_go_and_is_gone_had_it_made() {
        let volume =
            |policy: &str| json!({"kind": "PersistentVolume", "spec": {"persistentVolumeReclaimPolicy": policy}});
        for (before, left, expected) in
            [("Retain", "Delete", Word::Made), ("Delete", "Retain", Word::NotMade), ("Delete", "Delete", Word::NotMade)]
        {
            let prior = Prior::Object { live: Some(volume(before)), would: Some(volume(left)) };
            assert_eq!(word(&prior, None, "runbook-x"), expected, "{before} {left}");
        }
    }

    #[test]
    fn an_object_that_was_made_names_its_manager() {
        let created = Prior::Object { live: None, would: Some(map("", "", &json!({"a": "1"}))) };
        let mut now = map("u", "8", &json!({"a": "1"}));
        assert_eq!(word(&created, Some(&now), "runbook-x"), Word::Between);
        now["metadata"]["managedFields"] = json!([{"manager": "helm"}, {"manager": "runbook-x"}]);
        assert_eq!(word(&created, Some(&now), "runbook-x"), Word::Made);
        assert_eq!(word(&created, Some(&now), ""), Word::Between);
        assert_eq!(word(&created, None, "runbook-x"), Word::NotMade);
    }

    #[test]
    fn a_deletion_is_told_by_the_uid() {
        let kind = ResourceKind { group: String::new(), version: String::new(), kind: "ConfigMap".into() };
        let object = ObjectRef { kind, namespace: Some("d".into()), name: "c".into() };
        let live = map("u", "7", &json!({}));
        let prior = Prior::Object { live: Some(live.clone()), would: None };
        let mut leaving = live.clone();
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(gone(&object, &prior, None), done());
        assert_eq!(gone(&object, &prior, Some(&live)), Finding::NotDone);
        assert_eq!(gone(&object, &prior, Some(&map("v", "9", &json!({})))), done());
        assert_eq!(gone(&object, &prior, Some(&leaving)), done());
        let left_before = Prior::Object { live: Some(leaving.clone()), would: None };
        assert_eq!(gone(&object, &left_before, Some(&leaving)), Finding::NotDone);
        assert!(matches!(gone(&object, &Prior::None, Some(&live)), Finding::Unclear(_)));
    }
}
