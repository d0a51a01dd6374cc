//! `runbook:kube/clusters`.

use runbook_model::call::{
    Act, Answer, Call, CallError, Change, Condition, DeleteOptions, KubeAct, KubeLook, Look, ObjectRef, Outcome,
    PatchType, PodOutput, PodUndo, Propagation, ResourceKind, Selector, SourceRef, Target,
};
use wasmtime::component::Resource;

use crate::bindings::runbook::base::types::{Effect, Verdict};
use crate::bindings::runbook::kube::clusters as guest;
use crate::convert::{self, optional_name, take};
use crate::state::{Cluster, Fault, State};

/// Lines of a log.
const MAX_LOG_LINES: u32 = 100_000;

impl State {
    fn cluster(&self, cluster: &Resource<Cluster>) -> Result<Target, Fault> {
        Ok(Target::Cluster(self.table.get(cluster)?.name.clone()))
    }

    async fn kube_look(&mut self, cluster: &Resource<Cluster>, look: KubeLook) -> Result<Answer, Fault> {
        let target = self.cluster(cluster)?;
        self.look(target, Look::Kube(look)).await
    }

    async fn kube_act(&mut self, cluster: &Resource<Cluster>, act: KubeAct, effect: Effect) -> Result<Answer, Fault> {
        let target = self.cluster(cluster)?;
        let change = Change { act: Act::Kube(act), effect: convert::effect(effect) };
        self.answer(target, Call::Change(change)).await
    }

    async fn kube_wait(&mut self, cluster: &Resource<Cluster>, look: KubeLook) -> Result<(), Fault> {
        match self.kube_look(cluster, look).await? {
            Answer::Unit => Ok(()),
            _ => Err(convert::wrong_answer()),
        }
    }
}

impl guest::Host for State {
    async fn target(&mut self) -> wasmtime::Result<Option<Resource<Cluster>>> {
        let name = self.road.cluster();
        name.map(|name| self.push(Cluster { name })).transpose()
    }
}

impl guest::HostCluster for State {
    async fn name(&mut self, cluster: Resource<Cluster>) -> wasmtime::Result<String> {
        Ok(self.table.get(&cluster)?.name.clone())
    }

    async fn uid(&mut self, cluster: Resource<Cluster>) -> Result<String, Fault> {
        let answer = self.kube_look(&cluster, KubeLook::Uid).await?;
        Ok(take!(answer, Answer::Text))
    }

    async fn get(&mut self, cluster: Resource<Cluster>, object: guest::ObjectRef) -> Result<Option<String>, Fault> {
        let answer = self.kube_look(&cluster, KubeLook::Get { object: object_ref(object)? }).await?;
        Ok(take!(answer, Answer::Object).map(|object| object.to_string()))
    }

    async fn list(&mut self, cluster: Resource<Cluster>, selector: guest::Selector) -> Result<Vec<String>, Fault> {
        let answer = self.kube_look(&cluster, KubeLook::List { selector: selected(selector)? }).await?;
        Ok(take!(answer, Answer::Objects).iter().map(ToString::to_string).collect())
    }

    async fn logs(
        &mut self,
        cluster: Resource<Cluster>,
        pod: guest::ObjectRef,
        container: Option<String>,
        lines: u32,
    ) -> Result<String, Fault> {
        let look = KubeLook::Logs {
            pod: object_ref(pod)?,
            container: optional_name("a container", container)?,
            lines: lines.min(MAX_LOG_LINES),
        };
        let answer = self.kube_look(&cluster, look).await?;
        Ok(take!(answer, Answer::Text))
    }

    async fn apply(
        &mut self,
        cluster: Resource<Cluster>,
        manifest: String,
        force: bool,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        let act = KubeAct::Apply { manifest: convert::json("the manifest", &manifest)?, force };
        convert::verdict(self.kube_act(&cluster, act, effect).await?)
    }

    async fn patch(
        &mut self,
        cluster: Resource<Cluster>,
        object: guest::ObjectRef,
        patch_type: guest::PatchType,
        patch: String,
        subresource: Option<String>,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        let act = KubeAct::Patch {
            object: object_ref(object)?,
            patch_type: match patch_type {
                guest::PatchType::Merge => PatchType::Merge,
                guest::PatchType::Strategic => PatchType::Strategic,
                guest::PatchType::JsonPatch => PatchType::JsonPatch,
            },
            patch: convert::json("the patch", &patch)?,
            subresource: optional_name("a subresource", subresource)?,
        };
        convert::verdict(self.kube_act(&cluster, act, effect).await?)
    }

    async fn delete(
        &mut self,
        cluster: Resource<Cluster>,
        object: guest::ObjectRef,
        options: guest::DeleteOptions,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        let options = DeleteOptions {
            grace_seconds: options.grace_seconds,
            propagation: match options.propagation {
                guest::Propagation::Background => Propagation::Background,
                guest::Propagation::Foreground => Propagation::Foreground,
                guest::Propagation::Orphan => Propagation::Orphan,
            },
            uid: optional_name("a UID", options.uid)?,
        };
        let act = KubeAct::Delete { object: object_ref(object)?, options };
        convert::verdict(self.kube_act(&cluster, act, effect).await?)
    }

    async fn scale(
        &mut self,
        cluster: Resource<Cluster>,
        object: guest::ObjectRef,
        replicas: u32,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        if i32::try_from(replicas).is_err() {
            return Err(Fault::Call(CallError::Invalid(format!(
                "{replicas} replicas are more than Kubernetes can count"
            ))));
        }
        let act = KubeAct::Scale { object: object_ref(object)?, replicas };
        convert::verdict(self.kube_act(&cluster, act, effect).await?)
    }

    async fn evict(
        &mut self,
        cluster: Resource<Cluster>,
        pod: guest::ObjectRef,
        timeout_ms: u32,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        let act = KubeAct::Evict { pod: object_ref(pod)?, timeout_ms: convert::wait_ms(timeout_ms) };
        convert::verdict(self.kube_act(&cluster, act, effect).await?)
    }

    async fn wait(
        &mut self,
        cluster: Resource<Cluster>,
        object: guest::ObjectRef,
        condition: guest::Condition,
        timeout_ms: u32,
    ) -> Result<(), Fault> {
        let condition = match condition {
            guest::Condition::Exists => Condition::Exists,
            guest::Condition::Absent => Condition::Absent,
            guest::Condition::Status((kind, status)) => {
                Condition::Status(convert::name("a condition", kind)?, convert::name("a status", status)?)
            }
            guest::Condition::Equals((pointer, value)) => {
                Condition::Equals(convert::name("a JSON pointer", pointer)?, convert::json("the value", &value)?)
            }
            guest::Condition::RolledOut => Condition::RolledOut,
        };
        let look = KubeLook::Wait { object: object_ref(object)?, condition, timeout_ms: convert::wait_ms(timeout_ms) };
        self.kube_wait(&cluster, look).await
    }

    async fn wait_none(
        &mut self,
        cluster: Resource<Cluster>,
        selector: guest::Selector,
        timeout_ms: u32,
    ) -> Result<(), Fault> {
        let look = KubeLook::WaitNone { selector: selected(selector)?, timeout_ms: convert::wait_ms(timeout_ms) };
        self.kube_wait(&cluster, look).await
    }

    async fn observe_exec(
        &mut self,
        cluster: Resource<Cluster>,
        pod: guest::ObjectRef,
        container: Option<String>,
        argv: Vec<String>,
    ) -> Result<guest::PodOutput, Fault> {
        let look = KubeLook::Exec { pod: object_ref(pod)?, container: optional_name("a container", container)?, argv };
        let answer = self.kube_look(&cluster, look).await?;
        Ok(pod_output(take!(answer, Answer::Pod)))
    }

    async fn change_exec(
        &mut self,
        cluster: Resource<Cluster>,
        pod: guest::ObjectRef,
        container: Option<String>,
        argv: Vec<String>,
        stdin: Vec<u8>,
        done_when: Option<Vec<String>>,
        undo: guest::PodUndo,
        effect: Effect,
    ) -> Result<guest::PodOutcome, Fault> {
        let act = KubeAct::Exec {
            pod: object_ref(pod)?,
            container: optional_name("a container", container)?,
            argv,
            stdin: stdin.into(),
            done_when,
            undo: pod_undo(undo),
        };
        let answer = self.kube_act(&cluster, act, effect).await?;
        match take!(answer, Answer::Outcome) {
            Outcome::PodDone(done) => Ok(guest::PodOutcome::Done(pod_output(done))),
            Outcome::Already => Ok(guest::PodOutcome::Already),
            Outcome::Planned => Ok(guest::PodOutcome::Planned),
            Outcome::Deferred => Ok(guest::PodOutcome::Deferred),
            Outcome::Done(_) => Err(convert::wrong_answer()),
        }
    }

    async fn copy_in(
        &mut self,
        cluster: Resource<Cluster>,
        pod: guest::ObjectRef,
        container: Option<String>,
        source: Resource<SourceRef>,
        path: String,
        effect: Effect,
    ) -> Result<Verdict, Fault> {
        let act = KubeAct::CopyIn {
            pod: object_ref(pod)?,
            container: optional_name("a container", container)?,
            source: self.table.get(&source)?.clone(),
            path: convert::path(path)?,
        };
        convert::verdict(self.kube_act(&cluster, act, effect).await?)
    }

    async fn copy_out(
        &mut self,
        cluster: Resource<Cluster>,
        pod: guest::ObjectRef,
        container: Option<String>,
        path: String,
    ) -> Result<Resource<SourceRef>, Fault> {
        let look = KubeLook::CopyOut {
            pod: object_ref(pod)?,
            container: optional_name("a container", container)?,
            path: convert::path(path)?,
        };
        let answer = self.kube_look(&cluster, look).await?;
        Ok(self.push(take!(answer, Answer::Source))?)
    }

    async fn drop(&mut self, cluster: Resource<Cluster>) -> wasmtime::Result<()> {
        self.table.delete(cluster)?;
        Ok(())
    }
}

fn resource_kind(kind: guest::ResourceKind) -> Result<ResourceKind, Fault> {
    Ok(ResourceKind {
        group: convert::name("an API group", kind.group)?,
        version: convert::name("an API version", kind.version)?,
        kind: convert::name("a kind", kind.kind)?,
    })
}

fn object_ref(object: guest::ObjectRef) -> Result<ObjectRef, Fault> {
    Ok(ObjectRef {
        kind: resource_kind(object.kind)?,
        namespace: optional_name("a namespace", object.namespace)?,
        name: convert::name("an object's name", object.name)?,
    })
}

fn selected(selector: guest::Selector) -> Result<Selector, Fault> {
    Ok(Selector {
        kind: resource_kind(selector.kind)?,
        namespace: optional_name("a namespace", selector.namespace)?,
        labels: optional_name("a label selector", selector.labels)?,
        fields: optional_name("a field selector", selector.fields)?,
    })
}

fn pod_undo(undo: guest::PodUndo) -> PodUndo {
    match undo {
        guest::PodUndo::Inverse(argv) => PodUndo::Inverse(argv),
        guest::PodUndo::Harmless => PodUndo::Harmless,
        guest::PodUndo::Irreversible(consequence) => PodUndo::Irreversible(convert::line(&consequence)),
        guest::PodUndo::ByHand(instructions) => PodUndo::ByHand(instructions),
    }
}

fn pod_output(output: PodOutput) -> guest::PodOutput {
    guest::PodOutput { exit_code: output.exit_code, stdout: output.stdout.0, stderr: output.stderr.0 }
}
