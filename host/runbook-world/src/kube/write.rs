//! Writes to objects: whole or not at all, for real or as dry runs.

use std::collections::BTreeSet;

use runbook_model::call::{CallError, ObjectRef, PatchType};
use runbook_model::delta::comparable;
use serde_json::{Value, json};

use super::{Cluster, Object, key, merge, namespace_key};

/// A patch and where it goes.
pub(super) struct Patch<'a> {
    pub(super) object: &'a ObjectRef,
    pub(super) kind: PatchType,
    pub(super) body: &'a Value,
    pub(super) subresource: Option<&'a str>,
}

impl Cluster {
    /// Server-side apply; gives the object as it is then.
    pub(super) fn apply(&mut self, manifest: &Value, force: bool, manager: &str) -> Result<Value, CallError> {
        let name = ObjectRef::of(manifest).map_err(CallError::Invalid)?;
        self.check(&name)?;
        let fields = merge::leaves(manifest);
        let Some(object) = self.objects.get(&key(&name)).cloned() else {
            return self.create(&name, manifest.clone(), manager, fields);
        };
        let Object { mut live, mut owners } = object;
        let before = live.clone();
        let mut conflicts = BTreeSet::new();
        for path in fields.iter().filter(|path| merge::at(&live, path) != merge::at(manifest, path)) {
            for (other, theirs) in owners.iter_mut().filter(|(other, _)| *other != manager) {
                if theirs.contains(path) {
                    conflicts.insert(format!("{} (managed by {other})", path.join(".")));
                    if force {
                        theirs.remove(path);
                    }
                }
            }
        }
        if !force && !conflicts.is_empty() {
            let list: Vec<String> = conflicts.into_iter().collect();
            return Err(CallError::Conflict(format!("apply {name}: others manage {}", list.join(", "))));
        }
        merge::apply(&mut live, manifest);
        // What we had applied before and do not any more goes, unless others manage it, too.
        let ours = owners.insert(manager.to_owned(), fields.clone()).unwrap_or_default();
        let mut dropped: Vec<&Vec<String>> = ours.difference(&fields).collect();
        dropped.retain(|path| !owners.iter().any(|(other, theirs)| other != manager && theirs.contains(*path)));
        dropped.iter().for_each(|path| merge::take_away(&mut live, path));
        self.store(&name, Object { live, owners }, &before)
    }

    fn create(
        &mut self,
        name: &ObjectRef,
        manifest: Value,
        manager: &str,
        fields: BTreeSet<Vec<String>>,
    ) -> Result<Value, CallError> {
        if let Some(namespace) = &name.namespace
            && !self.objects.contains_key(&namespace_key(namespace))
        {
            return Err(CallError::NotFound(format!("create {name}: there is no namespace {namespace}")));
        }
        let live = self.stamped(manifest);
        let object = Object { live, owners: [(manager.to_owned(), fields)].into() };
        let object = with_managers(object);
        let live = object.live.clone();
        self.objects.insert(key(name), object);
        self.reconcile();
        Ok(live)
    }

    /// Keeps what was written, with another version where it is something else; gives it as the answer has it, before any controller came.
    fn store(&mut self, name: &ObjectRef, mut object: Object, before: &Value) -> Result<Value, CallError> {
        // What is empty there is as if it were left out.
        if let Some(metadata) = object.live["metadata"].as_object_mut() {
            metadata.retain(|name, value| !(matches!(name.as_str(), "annotations" | "labels") && *value == json!({})));
        }
        if comparable(&object.live) != comparable(before) || object.live["status"] != before["status"] {
            object.live["metadata"]["resourceVersion"] = json!(self.next().to_string());
        }
        if object.live["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            object.live["metadata"]["generation"] = json!(generation);
        }
        let object = with_managers(object);
        let live = object.live.clone();
        self.objects.insert(key(name), object);
        self.reconcile();
        Ok(live)
    }

    /// Patches an object; gives what is patched as it is then.
    pub(super) fn patch(&mut self, patch: &Patch, manager: &str) -> Result<Value, CallError> {
        let name = patch.object;
        self.check(name)?;
        let Some(Object { mut live, mut owners }) = self.objects.get(&key(name)).cloned() else {
            return Err(CallError::NotFound(format!("patch {name}: it is not there")));
        };
        let before = live.clone();
        let wanted = patch.body.pointer("/metadata/resourceVersion");
        if wanted.is_some_and(|wanted| *wanted != before["metadata"]["resourceVersion"]) {
            return Err(CallError::Conflict(format!("patch {name}: it was changed meanwhile")));
        }
        match patch.kind {
            PatchType::Merge => merge::merge(&mut live, patch.body),
            PatchType::Strategic => merge::apply(&mut live, patch.body),
            PatchType::JsonPatch => merge::json_patch(&mut live, patch.body)?,
        }
        // What the server alone says.
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
            live["metadata"][field] = before["metadata"][field].clone();
        }
        match patch.subresource {
            None => live["status"] = before["status"].clone(),
            Some("status") => {
                let status = live["status"].clone();
                live = before.clone();
                live["status"] = status;
            }
            Some(_) => {}
        }
        if live["status"].is_null()
            && let Some(map) = live.as_object_mut()
        {
            map.remove("status");
        }
        let changed =
            merge::leaves(&live).into_iter().filter(|path| merge::at(&live, path) != merge::at(&before, path));
        let changed: BTreeSet<Vec<String>> = changed.collect();
        owners.iter_mut().filter(|(other, _)| *other != manager).for_each(|(_, theirs)| {
            theirs.retain(|path| !changed.contains(path));
        });
        owners.entry(manager.to_owned()).or_default().extend(changed);
        let after = self.store(name, Object { live, owners }, &before)?;
        Ok(match patch.subresource {
            Some("scale") => scale_of(&after),
            _ => after,
        })
    }

    /// Deletes an object, the one with that UID where there is one; whether it was there.
    pub(super) fn delete(&mut self, name: &ObjectRef, uid: Option<&str>, orphan: bool) -> Result<bool, CallError> {
        self.check(name)?;
        let Some(object) = self.objects.get_mut(&key(name)) else { return Ok(false) };
        if let Some(uid) = uid.filter(|uid| object.live["metadata"]["uid"] != **uid) {
            return Err(CallError::Conflict(format!("delete {name}: it is another object than {uid}")));
        }
        if object.live["metadata"]["deletionTimestamp"].is_null() {
            object.live["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:01Z");
        }
        if orphan {
            let owner = object.live["metadata"]["uid"].clone();
            self.objects.values_mut().for_each(|other| disown(&mut other.live, &owner));
        }
        self.reconcile();
        Ok(true)
    }
}

/// The `Scale` of a workload.
pub(super) fn scale_of(workload: &Value) -> Value {
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": workload["metadata"],
        "spec": {"replicas": workload["spec"]["replicas"]}})
}

fn disown(object: &mut Value, owner: &Value) {
    if let Some(owners) = object["metadata"].get_mut("ownerReferences").and_then(Value::as_array_mut) {
        owners.retain(|reference| reference["uid"] != *owner);
    }
}

pub(super) fn with_managers(mut object: Object) -> Object {
    let managers = object.owners.iter().filter(|(_, fields)| !fields.is_empty());
    object.live["metadata"]["managedFields"] =
        managers.map(|(manager, _)| json!({"manager": manager, "operation": "Apply"})).collect();
    object
}
