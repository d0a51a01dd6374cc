//! Objects: read, listed, applied, patched, deleted, scaled; and the same as dry runs, for the look before a change.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use runbook_model::call::{CallError, DeleteOptions, ObjectRef, PatchType, Prior, Propagation, Selector, Verdict};
use serde_json::{Value, json};

use crate::refusal::Trouble;
use crate::resource::{Resource, encode};
use crate::session::{ANSWER_LIMIT, Api, Ask};

/// Objects in one page of a list.
const PAGE: usize = 500;
/// How often a write is tried where others write to the same object.
const RACES: u32 = 5;
/// Bytes of a log.
const LOG_LIMIT: usize = 4 << 20;
/// Subresources that can be patched. Others start something.
const PATCHABLE: [&str; 5] = ["status", "scale", "ephemeralcontainers", "resize", "approval"];

/// An object's kind as served, and its path.
pub(crate) struct Place {
    pub(crate) resource: Arc<Resource>,
    pub(crate) path: String,
}

/// A write: as a dry run, or for real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    DryRun,
    Real,
}

impl Api {
    pub(crate) async fn place(&self, object: &ObjectRef) -> Result<Place, CallError> {
        let resource = self.resource(&object.kind).await?;
        let path = resource.object(object.namespace.as_deref(), &object.name)?;
        Ok(Place { resource, path })
    }

    /// One object; none only where the server says that it is not there.
    pub(crate) async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, CallError> {
        let place = self.place(object).await?;
        self.get_at(object, &place, "").await
    }

    /// One object, or a subresource of it.
    pub(crate) async fn part(&self, object: &ObjectRef, subresource: Option<&str>) -> Result<Option<Value>, CallError> {
        let place = self.place(object).await?;
        self.get_at(object, &place, &suffix(object, subresource)?).await
    }

    async fn get_at(&self, object: &ObjectRef, place: &Place, subresource: &str) -> Result<Option<Value>, CallError> {
        let ask = Ask::get(format!("{}{subresource}", place.path), format!("get {object}"));
        match self.json(&ask).await {
            Ok(live) if live["metadata"]["name"] == *object.name => Ok(Some(live)),
            Ok(_) => Err(CallError::Unreachable(format!(
                "{}: what {} answered is not that object",
                self.at(&ask.what),
                self.session.server
            ))),
            Err(Trouble::Refused(refusal))
                if refusal.absent(&place.resource.plural, &place.resource.kind, &object.name) =>
            {
                Ok(None)
            }
            Err(trouble) => {
                // The version that was found earlier may have gone with an upgrade: the next call looks again.
                if matches!(&trouble, Trouble::Refused(refusal) if refusal.unknown_path()) {
                    self.forget(&object.kind);
                }
                Err(self.error(trouble, &ask))
            }
        }
    }

    /// All objects that match.
    pub(crate) async fn list(&self, selector: &Selector) -> Result<Vec<Value>, CallError> {
        let resource = self.resource(&selector.kind).await?;
        let path = resource.collection(selector.namespace.as_deref())?;
        let mut query = format!("limit={PAGE}");
        for (key, text) in [("labelSelector", &selector.labels), ("fieldSelector", &selector.fields)] {
            if let Some(text) = text {
                query = format!("{query}&{key}={}", encode(text));
            }
        }
        let place = selector.namespace.as_deref().map(|n| format!(" in {n}")).unwrap_or_default();
        let what = format!("list {} objects{place}", selector.kind.kind);
        let mut found = Vec::new();
        let mut size = 0;
        let mut token = String::new();
        let mut starts = 1;
        loop {
            let uri = if token.is_empty() {
                format!("{path}?{query}")
            } else {
                format!("{path}?{query}&continue={}", encode(&token))
            };
            let ask = Ask::get(uri, &what);
            let page = match self.bytes(&ask).await {
                Ok(bytes) => {
                    size += bytes.len();
                    serde_json::from_slice::<Value>(&bytes).unwrap_or_default()
                }
                // The pages were too slow for the server's memory of that moment: from the start.
                Err(Trouble::Refused(refusal)) if refusal.code == 410 && !token.is_empty() && starts < 3 => {
                    starts += 1;
                    (found, size, token) = (Vec::new(), 0, String::new());
                    continue;
                }
                Err(trouble) => {
                    if matches!(&trouble, Trouble::Refused(refusal) if refusal.unknown_path()) {
                        self.forget(&selector.kind);
                    }
                    return Err(self.error(trouble, &ask));
                }
            };
            let Some(items) = page["items"].as_array() else {
                return Err(CallError::Unreachable(format!(
                    "{}: what {} answered is not a list",
                    self.at(&what),
                    self.session.server
                )));
            };
            if size > ANSWER_LIMIT {
                return Err(CallError::Failed(format!(
                    "{}: they are more than {} MiB; narrow it with a selector",
                    self.at(&what),
                    ANSWER_LIMIT >> 20
                )));
            }
            found.extend(items.iter().map(|item| self_describing(item, &resource)));
            match page["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => return Ok(found),
            }
        }
    }

    /// The end of a container's log.
    pub(crate) async fn logs(&self, pod: &ObjectRef, container: Option<&str>, lines: u32) -> Result<String, CallError> {
        let place = self.pod(pod).await?;
        let mut uri = format!("{}/log?tailLines={lines}&limitBytes={LOG_LIMIT}", place.path);
        if let Some(container) = container {
            uri = format!("{uri}&container={}", encode(container));
        }
        let ask = Ask::get(uri, format!("read the log of {pod}"));
        let bytes = self.bytes(&ask).await.map_err(|trouble| self.error(trouble, &ask))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The place of a pod; of nothing else.
    pub(crate) async fn pod(&self, pod: &ObjectRef) -> Result<Place, CallError> {
        if !pod.kind.group.is_empty() || pod.kind.kind != "Pod" {
            return Err(CallError::Invalid(format!("{pod} is not a pod")));
        }
        self.place(pod).await
    }

    /// Server-side apply; gives the object as it is then.
    pub(crate) async fn apply(&self, manifest: &Value, force: bool, mode: Mode) -> Result<Value, CallError> {
        let object = ObjectRef::of(manifest).map_err(CallError::Invalid)?;
        let place = self.place(&object).await?;
        let uri = format!("{}?{}&force={force}", place.path, self.write_query(mode));
        // JSON is YAML, and this media type is the one that every version takes.
        let body = Some(("application/apply-patch+yaml", manifest.to_string().into_bytes()));
        let ask = Ask { method: Method::PATCH, uri, body, acting: mode == Mode::Real, what: format!("apply {object}") };
        self.write(&ask).await
    }

    pub(crate) async fn prior_apply(&self, manifest: &Value, force: bool) -> Result<Prior, CallError> {
        let object = ObjectRef::of(manifest).map_err(CallError::Invalid)?;
        let place = self.place(&object).await?;
        let mut tries = 1;
        loop {
            let live = self.get_at(&object, &place, "");
            let (live, would) = tokio::try_join!(live, self.apply(manifest, force, Mode::DryRun))?;
            if self.is_of_one_moment(live.as_ref(), &would, &mut tries).await? {
                return Ok(Prior::Object { live, would: Some(would) });
            }
        }
    }

    /// Whether nobody wrote to an object between a look at it and a dry run on it: what they wrote would be taken for ours. Gives up
    /// where that happens again and again; else waits a moment before it says no.
    async fn is_of_one_moment(&self, live: Option<&Value>, would: &Value, tries: &mut u32) -> Result<bool, CallError> {
        let version =
            |object: &Value| object.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned);
        // A dry run has the version of what it was made on, and none where that was not there.
        if live.and_then(version) == version(would) || *tries == RACES {
            return Ok(true);
        }
        self.sleep(Duration::from_millis(50 << *tries), "look at an object that others write to").await?;
        *tries += 1;
        Ok(false)
    }

    /// Patches an object or its subresource; gives what is patched as it is then.
    pub(crate) async fn patch(&self, patch: &Patch<'_>, mode: Mode) -> Result<Value, CallError> {
        let place = self.place(patch.object).await?;
        let media_type = match patch.kind {
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Strategic => "application/strategic-merge-patch+json",
            PatchType::JsonPatch => "application/json-patch+json",
        };
        let uri = format!("{}{}?{}", place.path, suffix(patch.object, patch.subresource)?, self.write_query(mode));
        let ask = Ask {
            method: Method::PATCH,
            uri,
            body: Some((media_type, patch.body.to_string().into_bytes())),
            acting: mode == Mode::Real,
            what: format!("patch {}", patch.object),
        };
        self.write(&ask).await
    }

    pub(crate) async fn prior_patch(&self, patch: &Patch<'_>) -> Result<Prior, CallError> {
        let place = self.place(patch.object).await?;
        let mut tries = 1;
        loop {
            let Some(live) = self.get_at(patch.object, &place, &suffix(patch.object, patch.subresource)?).await? else {
                return Err(self.missing(patch.object, "patch"));
            };
            let would = self.patch(patch, Mode::DryRun).await?;
            if self.is_of_one_moment(Some(&live), &would, &mut tries).await? {
                return Ok(Prior::Object { live: Some(live), would: Some(would) });
            }
        }
    }

    /// Deletes an object, the one with that UID where there is one.
    pub(crate) async fn delete(
        &self,
        object: &ObjectRef,
        options: &DeleteOptions,
        uid: Option<&str>,
    ) -> Result<Verdict, CallError> {
        let place = self.place(object).await?;
        let propagation = match options.propagation {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        };
        let mut body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation});
        if let Some(seconds) = options.grace_seconds {
            body["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(uid) = uid {
            body["preconditions"] = json!({"uid": uid});
        }
        let ask = Ask {
            method: Method::DELETE,
            uri: place.path.clone(),
            body: Some(("application/json", body.to_string().into_bytes())),
            acting: true,
            what: format!("delete {object}"),
        };
        match self.json(&ask).await {
            Ok(_) => Ok(Verdict::Changed),
            Err(Trouble::Refused(refusal))
                if refusal.absent(&place.resource.plural, &place.resource.kind, &object.name) =>
            {
                Ok(Verdict::Unchanged)
            }
            Err(trouble) => Err(self.error(trouble, &ask)),
        }
    }

    /// What a deletion or an eviction would meet.
    pub(crate) async fn prior_gone(&self, object: &ObjectRef, uid: Option<&str>) -> Result<Prior, CallError> {
        let live = self.get(object).await?;
        if let (Some(live), Some(uid)) = (&live, uid)
            && live["metadata"]["uid"] != *uid
        {
            return Err(CallError::Conflict(format!(
                "{}: it has the UID {}, not {uid}: it is another object of that name",
                self.at(&format!("delete {object}")),
                live["metadata"]["uid"]
            )));
        }
        Ok(Prior::Object { live, would: None })
    }

    /// Sets the number of replicas; gives the `Scale` as it is then.
    pub(crate) async fn scale(&self, object: &ObjectRef, replicas: u32, mode: Mode) -> Result<Value, CallError> {
        let body = json!({"spec": {"replicas": replicas}});
        self.patch(&Patch { object, kind: PatchType::Merge, body: &body, subresource: Some("scale") }, mode).await
    }

    pub(crate) async fn prior_scale(&self, object: &ObjectRef, replicas: u32) -> Result<Prior, CallError> {
        let place = self.place(object).await?;
        let Some(live) = self.get_at(object, &place, "").await? else { return Err(self.missing(object, "scale")) };
        let scaled = self.scale(object, replicas, Mode::DryRun).await?;
        if live.pointer("/spec/replicas").is_some_and(Value::is_number) {
            let mut would = live.clone();
            would["spec"]["replicas"] = json!(replicas);
            return Ok(Prior::Object { live: Some(live), would: Some(would) });
        }
        // A kind that keeps the number elsewhere is compared by its scale alone.
        let live = self.get_at(object, &place, "/scale").await?;
        Ok(Prior::Object { live, would: Some(scaled) })
    }

    fn missing(&self, object: &ObjectRef, verb: &str) -> CallError {
        CallError::NotFound(format!("{}: it is not there", self.at(&format!("{verb} {object}"))))
    }

    fn write_query(&self, mode: Mode) -> String {
        let manager = if self.ctx.field_manager.is_empty() { "runbook" } else { &self.ctx.field_manager };
        let dry = if mode == Mode::DryRun { "&dryRun=All" } else { "" };
        format!("fieldManager={}{dry}", encode(manager))
    }

    /// Sends a write; again where somebody else wrote in between.
    async fn write(&self, ask: &Ask) -> Result<Value, CallError> {
        let mut tries = 1;
        loop {
            match self.json(ask).await {
                Ok(object) => return Ok(object),
                Err(Trouble::Refused(refusal)) if refusal.raced() && tries < RACES => {
                    self.sleep(Duration::from_millis(50 << tries), &ask.what).await?;
                    tries += 1;
                }
                Err(trouble) => return Err(self.error(trouble, ask)),
            }
        }
    }
}

/// A patch and where it goes.
pub(crate) struct Patch<'a> {
    pub(crate) object: &'a ObjectRef,
    pub(crate) kind: PatchType,
    pub(crate) body: &'a Value,
    pub(crate) subresource: Option<&'a str>,
}

/// What stands behind an object's path for a subresource.
fn suffix(object: &ObjectRef, subresource: Option<&str>) -> Result<String, CallError> {
    match subresource {
        None => Ok(String::new()),
        Some(name) if PATCHABLE.contains(&name) => Ok(format!("/{name}")),
        Some(name) => Err(CallError::Invalid(format!(
            "patch {object}: {name:?} is none of the subresources that can be patched: {}",
            PATCHABLE.join(", ")
        ))),
    }
}

/// Whether a write left the object as it was: what the server itself keeps in it does not count.
pub(crate) fn verdict(prior: &Prior, after: &Value) -> Verdict {
    let Prior::Object { live: Some(before), .. } = prior else { return Verdict::Changed };
    if before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"] {
        return Verdict::Unchanged;
    }
    if settled(before) == settled(after) { Verdict::Unchanged } else { Verdict::Changed }
}

fn settled(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(key);
        }
    }
    object
}

/// Items of a list do not say what they are.
pub(crate) fn self_describing(item: &Value, resource: &Resource) -> Value {
    let mut item = item.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| json!(resource.api_version()));
        fields.entry("kind").or_insert_with(|| json!(resource.kind));
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;
    use runbook_model::call::ResourceKind;

    #[test]
    fn an_answer_that_is_no_object_is_a_change() {
        let live = Some(json!({ "metadata": { "resourceVersion": "5" } }));
        let prior = Prior::Object { live: live.clone(), would: live };
        for answer in [json!("no object"), json!([1]), json!(null), json!({ "metadata": 5 })] {
            assert_eq!(verdict(&prior, &answer), Verdict::Changed, "{answer}");
        }
    }

    #[test]
    fn what_the_server_keeps_is_no_change() {
        let before = json!({"metadata": {"name": "a", "resourceVersion": "1", "managedFields": []},
            "data": {"k": "v"}, "status": {"n": 1}});
        let prior = Prior::Object { live: Some(before.clone()), would: None };
        let mut after = before;
        after["metadata"]["resourceVersion"] = json!("2");
        after["status"]["n"] = json!(2);
        assert_eq!(verdict(&prior, &after), Verdict::Unchanged);
        after["data"]["k"] = json!("w");
        assert_eq!(verdict(&prior, &after), Verdict::Changed);
        assert_eq!(verdict(&Prior::Object { live: None, would: None }, &after), Verdict::Changed);
    }

    #[test]
    fn only_plain_subresources_are_patched() {
        let kind = ResourceKind { group: String::new(), version: String::new(), kind: "Pod".into() };
        let object = ObjectRef { kind, namespace: None, name: "x".into() };
        let suffix = |name| suffix(&object, Some(name));
        assert_eq!(suffix("status").as_deref(), Ok("/status"));
        for name in ["exec", "proxy", "eviction", "../x", "token", ""] {
            assert!(matches!(suffix(name), Err(CallError::Invalid(_))), "{name}");
        }
    }
}
