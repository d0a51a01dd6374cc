//! Who would undo a migration from a git repository, and how each is told to wait.

use runbook_sdk::prelude::*;

use crate::json::{annotation, items, label, name, text};
use crate::marks;

const APPLICATION: &str = "Application.argoproj.io";
const KUSTOMIZATION: &str = "Kustomization.kustomize.toolkit.fluxcd.io";
const HELM_RELEASE: &str = "HelmRelease.helm.toolkit.fluxcd.io";

/// An object of Argo CD or Flux.
#[derive(Debug, Clone)]
pub(crate) struct Manager {
    pub(crate) object: ObjectRef,
    pub(crate) live: Value,
}

impl Manager {
    fn new(kind: &str, live: Value) -> Self {
        let object = ObjectRef::new(kind, name(&live)).maybe_namespace(live["metadata"]["namespace"].as_str());
        Self { object, live }
    }

    fn is_application(&self) -> bool {
        self.object.kind.kind == "Application"
    }

    /// The patch that makes it wait; none where it waits already.
    pub(crate) fn pause(&self) -> Option<Value> {
        if self.is_application() {
            let automated = self.live.pointer("/spec/syncPolicy/automated").filter(|policy| policy.is_object())?;
            return (automated["enabled"] != false).then(|| {
                json!({
                    "metadata": { "annotations": { marks::AUTOMATED: automated.to_string() } },
                    "spec": { "syncPolicy": { "automated": null } },
                })
            });
        }
        (self.live["spec"]["suspend"] != true).then(
            || json!({ "metadata": { "annotations": { marks::SUSPENDED: marks::BY } }, "spec": { "suspend": true } }),
        )
    }

    /// The patch that lets it go on as before; none where no migration made it wait.
    pub(crate) fn resume(&self) -> Option<Value> {
        if self.is_application() {
            let recorded = match self.pause() {
                Some(_) => self.live.pointer("/spec/syncPolicy/automated").cloned(),
                None => serde_json::from_str(annotation(&self.live, marks::AUTOMATED)?).ok(),
            }?;
            return Some(json!({
                "metadata": { "annotations": { marks::AUTOMATED: null } },
                "spec": { "syncPolicy": { "automated": recorded } },
            }));
        }
        (self.pause().is_some() || annotation(&self.live, marks::SUSPENDED).is_some())
            .then(|| json!({ "metadata": { "annotations": { marks::SUSPENDED: null } }, "spec": { "suspend": null } }))
    }

    /// Whether a migration made it wait, and it still does.
    pub(crate) fn is_paused_by_us(&self) -> bool {
        self.pause().is_none() && self.resume().is_some()
    }
}

/// What is searched.
struct Search<'a> {
    cluster: &'a Cluster,
    applications: Vec<Value>,
    /// Something that cannot be paused from here is an error.
    strict: bool,
}

/// Finds what manages the objects; the outermost first, so that nobody undoes a pause.
///
/// # Errors
///
/// `conflict` where something manages them that cannot be paused from here.
pub(crate) fn find(cluster: &Cluster, objects: &[&Value], named: &[String]) -> Result<Vec<Manager>> {
    search(cluster, objects, named, true)
}

/// Finds what manages the objects and still waits for an interrupted migration to end.
///
/// # Errors
///
/// Where it cannot be looked at.
pub(crate) fn find_paused(cluster: &Cluster, objects: &[&Value], named: &[String]) -> Result<Vec<Manager>> {
    let all = search(cluster, objects, named, false)?;
    Ok(all.into_iter().filter(Manager::is_paused_by_us).collect())
}

fn search(cluster: &Cluster, objects: &[&Value], named: &[String], strict: bool) -> Result<Vec<Manager>> {
    // A cluster without Argo CD does not serve the kind.
    let applications = cluster.list(&Selector::new(APPLICATION)).if_found()?.unwrap_or_default();
    let search = Search { cluster, applications, strict };
    let mut found: Vec<Manager> = Vec::new();
    for text in named {
        match get(cluster, &parse(text)?)? {
            Some(manager) => add(&mut found, manager),
            None if strict => invalid!("gitops: there is no {text} in the cluster"),
            None => {}
        }
    }
    for object in objects {
        for manager in search.managers(object)? {
            add(&mut found, manager);
        }
    }
    // An Application that another one makes gets its fields back within seconds: that one waits too.
    let mut next = 0;
    while next < found.len() {
        let manager = found[next].clone();
        next += 1;
        if manager.is_application() && (manager.pause().is_some() || manager.is_paused_by_us()) {
            if strict {
                check_set(cluster, &manager)?;
            }
            for parent in search.managers(&manager.live)? {
                add(&mut found, parent);
            }
        }
    }
    found.reverse();
    Ok(found)
}

fn add(found: &mut Vec<Manager>, manager: Manager) {
    if !found.iter().any(|other| other.object == manager.object) {
        found.push(manager);
    }
}

impl Search<'_> {
    fn managers(&self, object: &Value) -> Result<Vec<Manager>> {
        let tracking = tracking(object);
        let of_argo =
            self.applications.iter().filter(|a| tracks(a, object) || tracking.is_some_and(|t| is_named(a, t)));
        let mut found: Vec<Manager> = of_argo.map(|live| Manager::new(APPLICATION, live.clone())).collect();
        if let Some(tracking) = tracking.filter(|_| found.is_empty()) {
            self.missing(object, &format!("the Argo CD Application {tracking}"))?;
        }
        for (kind, prefix) in [(KUSTOMIZATION, "kustomize.toolkit.fluxcd.io"), (HELM_RELEASE, "helm.toolkit.fluxcd.io")]
        {
            let word = |word: &str| label(object, &format!("{prefix}/{word}"));
            let (Some(named), Some(namespace)) = (word("name"), word("namespace")) else { continue };
            let reference = ObjectRef::new(kind, named).namespace(namespace);
            match get(self.cluster, &reference)? {
                Some(manager) => found.push(manager),
                None => self.missing(object, &format!("Flux's {reference}"))?,
            }
        }
        Ok(found)
    }

    fn missing(&self, object: &Value, manager: &str) -> Result<()> {
        if self.strict {
            conflict!(
                "{} {} is managed by {manager}, which is not in this cluster and would undo the migration: pause it where it is, \
                 then add pause_gitops = false to the step",
                text(object, "/kind"),
                name(object)
            );
        }
        Ok(())
    }
}

fn get(cluster: &Cluster, object: &ObjectRef) -> Result<Option<Manager>> {
    let live: Option<Value> = cluster.get(object).if_found()?.flatten();
    Ok(live.map(|live| Manager { object: object.clone(), live }))
}

/// `KIND/NAMESPACE/NAME`, as the input has it.
fn parse(text: &str) -> Result<ObjectRef> {
    let mut parts = text.split('/');
    let (Some(kind), Some(namespace), Some(named), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        invalid!("gitops: {text:?} is not of the form Application/NAMESPACE/NAME");
    };
    let kind = match kind {
        "Application" => APPLICATION,
        "Kustomization" => KUSTOMIZATION,
        "HelmRelease" => HELM_RELEASE,
        _ => invalid!("gitops: {kind:?} is none of Application, Kustomization, HelmRelease"),
    };
    Ok(ObjectRef::new(kind, named).namespace(namespace))
}

/// The Application that Argo CD wrote on an object: `NAME`, or `NAMESPACE_NAME`.
fn tracking(object: &Value) -> Option<&str> {
    annotation(object, "argocd.argoproj.io/tracking-id")?.split(':').next().filter(|name| !name.is_empty())
}

fn is_named(application: &Value, tracking: &str) -> bool {
    name(application) == tracking
        || tracking
            .strip_suffix(name(application))
            .is_some_and(|namespace| namespace.strip_suffix('_') == application["metadata"]["namespace"].as_str())
}

/// Whether an Application lists an object among its resources.
fn tracks(application: &Value, object: &Value) -> bool {
    let group = text(object, "/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    items(application, "/status/resources").iter().any(|resource| {
        text(resource, "/kind") == text(object, "/kind")
            && text(resource, "/group") == group
            && text(resource, "/name") == name(object)
            && text(resource, "/namespace") == text(object, "/metadata/namespace")
    })
}

/// An ApplicationSet gives its Applications their fields back, unless it is told not to.
fn check_set(cluster: &Cluster, application: &Manager) -> Result<()> {
    let owners = items(&application.live, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|owner| owner["kind"] == "ApplicationSet") else { return Ok(()) };
    let object = ObjectRef::new("ApplicationSet.argoproj.io", text(owner, "/name"))
        .maybe_namespace(application.live["metadata"]["namespace"].as_str());
    let set: Option<Value> = cluster.get(&object).if_found()?.flatten();
    if set.as_ref().is_none_or(leaves_alone) {
        return Ok(());
    }
    conflict!(
        "{} is made by {object}, which would turn its automatic sync on again: set spec.syncPolicy.applicationsSync of the \
         ApplicationSet to create-only, or list /spec/syncPolicy in its ignoreApplicationDifferences, then run this again",
        application.object
    );
}

fn leaves_alone(set: &Value) -> bool {
    matches!(text(set, "/spec/syncPolicy/applicationsSync"), "create-only" | "create-delete")
        || items(set, "/spec/ignoreApplicationDifferences").iter().any(|rule| {
            text(rule, "/name").is_empty()
                && items(rule, "/jsonPointers")
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|pointer| matches!(pointer, "/spec/syncPolicy" | "/spec/syncPolicy/automated"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application() -> Value {
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": { "name": "wordpress", "namespace": "argocd", "annotations": {} },
            "spec": { "project": "default", "syncPolicy": {
                "automated": { "prune": true, "selfHeal": true }, "syncOptions": ["CreateNamespace=true"],
            } },
            "status": {
                "sync": { "status": "Synced" },
                "resources": [{ "group": "apps", "kind": "Deployment", "namespace": "web", "name": "nginx" }],
            },
        })
    }

    fn merge(target: &mut Value, patch: &Value) {
        let Some(fields) = patch.as_object() else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, value) in fields {
            if value.is_null() {
                target.as_object_mut().unwrap().remove(key);
            } else {
                merge(&mut target[key.as_str()], value);
            }
        }
    }

    #[test]
    fn an_application_gets_back_what_it_had() {
        let before = Manager::new(APPLICATION, application());
        let resume = before.resume().unwrap();
        let mut paused = before.clone();
        merge(&mut paused.live, &before.pause().unwrap());
        assert!(paused.live.pointer("/spec/syncPolicy/automated").is_none() && paused.is_paused_by_us());
        assert_eq!(paused.pause(), None);
        // From the annotation alone, as after a crash, it is the same.
        assert_eq!(paused.resume().unwrap(), resume);
        merge(&mut paused.live, &resume);
        assert_eq!(paused.live, before.live);
    }

    #[test]
    fn what_nobody_paused_is_left() {
        let mut manual = application();
        manual["spec"]["syncPolicy"]["automated"] = Value::Null;
        let manual = Manager::new(APPLICATION, manual);
        assert!(manual.pause().is_none() && manual.resume().is_none() && !manual.is_paused_by_us());
        let mut off = application();
        off["spec"]["syncPolicy"]["automated"]["enabled"] = json!(false);
        assert!(Manager::new(APPLICATION, off).pause().is_none());
        let suspended = json!({ "metadata": { "name": "apps" }, "spec": { "suspend": true } });
        let suspended = Manager::new(KUSTOMIZATION, suspended);
        assert!(suspended.pause().is_none() && suspended.resume().is_none());
    }

    #[test]
    fn flux_is_suspended_and_goes_on() {
        let before =
            Manager::new(HELM_RELEASE, json!({ "metadata": { "name": "nginx", "annotations": {} }, "spec": {} }));
        let mut paused = before.clone();
        merge(&mut paused.live, &before.pause().unwrap());
        assert!(paused.live["spec"]["suspend"] == true && paused.is_paused_by_us());
        let resume = paused.resume().unwrap();
        merge(&mut paused.live, &resume);
        assert_eq!(paused.live, before.live);
    }

    #[test]
    fn an_object_is_found_in_its_application() {
        let deployment = |namespace: &str| json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "nginx", "namespace": namespace } });
        assert!(tracks(&application(), &deployment("web")) && !tracks(&application(), &deployment("other")));
        let mut tracked = deployment("other");
        tracked["metadata"]["annotations"] =
            json!({ "argocd.argoproj.io/tracking-id": "argocd_wordpress:apps/Deployment:other/nginx" });
        assert_eq!(tracking(&tracked), Some("argocd_wordpress"));
        assert!(is_named(&application(), "argocd_wordpress") && is_named(&application(), "wordpress"));
        assert!(!is_named(&application(), "press") && !is_named(&application(), "other_wordpress"));
    }

    #[test]
    fn a_set_must_leave_its_applications_alone() {
        assert!(!leaves_alone(&json!({ "spec": { "syncPolicy": { "applicationsSync": "sync" } } })));
        assert!(leaves_alone(&json!({ "spec": { "syncPolicy": { "applicationsSync": "create-only" } } })));
        assert!(leaves_alone(
            &json!({ "spec": { "ignoreApplicationDifferences": [{ "jsonPointers": ["/spec/syncPolicy"] }] } })
        ));
    }

    #[test]
    fn names_of_managers_are_read() {
        let object = parse("Kustomization/flux-system/apps").unwrap();
        assert_eq!(object.to_string(), "Kustomization flux-system/apps");
        for wrong in ["apps", "Kustomization/apps", "Deployment/a/b", "Application/a/b/c"] {
            assert_eq!(parse(wrong).unwrap_err().kind(), Kind::Invalid, "{wrong}");
        }
    }
}
