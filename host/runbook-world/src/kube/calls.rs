//! Calls to a cluster, answered as the real backend answers them.

use runbook_engine::backend::{CallContext, Secrets};
use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Answer, CallError, Condition, FilePrior, Finding, KubeAct, KubeLook, ObjectRef, Outcome, PatchType, Prior,
    Propagation, Response, Target, Verdict,
};
use runbook_model::condition::{self, Standing};
use runbook_model::delta::{comparable, pod_file_wanted, sha256};
use runbook_model::evidence::{Word, done, gone, word};
use serde_json::{Value, json};

use super::Cluster;
use super::pods::Missing;
use super::write::{Patch, scale_of};
use crate::machine::Invocation;
use crate::state::State;
use crate::tree::Node;

impl State {
    fn cluster(&mut self, target: &Target) -> Result<&mut Cluster, CallError> {
        let nobody = || CallError::Unreachable(format!("{target}: there is no such cluster in this world"));
        self.clusters.get_mut(&target.to_string()).ok_or_else(nobody)
    }

    /// Notes what nobody described.
    fn noted<T>(&mut self, result: Result<T, Missing>) -> Result<T, CallError> {
        result.map_err(|missing| match missing {
            Missing::Program(what) => self.gap(what),
            Missing::Call(error) => error,
        })
    }

    pub(crate) fn kube_look(&mut self, target: &Target, look: &KubeLook, ctx: &CallContext) -> Response {
        let cluster = self.cluster(target)?;
        match look {
            KubeLook::Uid => Ok(Answer::Text(cluster.uid.clone())),
            KubeLook::Get { object } => cluster.get(object).map(|object| Answer::Object(object.cloned())),
            KubeLook::List { selector } => cluster.list(selector).map(Answer::Objects),
            KubeLook::Wait { object, condition, .. } => waited(cluster, target, object, condition, ctx.read_only),
            KubeLook::WaitNone { selector, .. } => match cluster.list(selector)?.first() {
                None => Ok(Answer::Unit),
                Some(_) if ctx.read_only => Err(CallError::Unknown(format!("{target}: some are left"))),
                Some(left) => Err(CallError::TimedOut(format!(
                    "{target}: waited for none to be left: {}",
                    condition::leaving(left)
                ))),
            },
            KubeLook::Logs { pod, .. } => {
                let run = cluster.execute(pod, &Invocation::pseudo(["(logs)"]), false);
                self.noted(run).map(|output| Answer::Text(output.stdout.lossy().into_owned()))
            }
            KubeLook::Exec { pod, argv, .. } => {
                let run = cluster.execute(pod, &Invocation { argv: argv.clone(), ..Invocation::default() }, false);
                self.noted(run).map(Answer::Pod)
            }
            KubeLook::CopyOut { .. } => Err(self.gap(format!("{target} cannot copy files of pods to the artifacts"))),
        }
    }

    pub(crate) fn kube_prior(&mut self, target: &Target, act: &KubeAct, ctx: &CallContext) -> Result<Prior, CallError> {
        let cluster = self.cluster(target)?;
        match act {
            KubeAct::Apply { .. } | KubeAct::Patch { .. } => {
                let live = current(cluster, act)?;
                let patched = matches!(act, KubeAct::Patch { .. });
                if let (None, KubeAct::Patch { object, .. }) = (&live, act) {
                    return Err(CallError::NotFound(format!("patch {object}: it is not there")));
                }
                let mut would = written(&mut cluster.clone(), act, ctx)?;
                // A dry run has the version of what it was made on, and none where that was not there.
                match &live {
                    Some(live) => would["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone(),
                    None if !patched => {
                        if let Some(metadata) = would["metadata"].as_object_mut() {
                            metadata.remove("resourceVersion");
                        }
                    }
                    None => {}
                }
                Ok(Prior::Object { live, would: Some(would) })
            }
            KubeAct::Scale { object, replicas } => {
                let Some(live) = cluster.get(object)?.cloned() else {
                    return Err(CallError::NotFound(format!("scale {object}: it is not there")));
                };
                let mut would = live.clone();
                would["spec"]["replicas"] = json!(replicas);
                Ok(Prior::Object { live: Some(live), would: Some(would) })
            }
            KubeAct::Delete { object, options } => {
                let live = cluster.get(object)?.cloned();
                if let (Some(live), Some(uid)) = (&live, &options.uid)
                    && live["metadata"]["uid"] != **uid
                {
                    return Err(CallError::Conflict(format!("delete {object}: it is another object than {uid}")));
                }
                Ok(Prior::Object { live, would: None })
            }
            KubeAct::Evict { pod, .. } => Ok(Prior::Object { live: cluster.get(pod)?.cloned(), would: None }),
            KubeAct::Exec { done_when: None, .. } => Ok(Prior::None),
            KubeAct::Exec { pod, done_when: Some(argv), .. } => {
                let run = cluster.execute(pod, &Invocation { argv: argv.clone(), ..Invocation::default() }, false);
                self.noted(run).map(|output| Prior::DoneWhen(output.exit_code == 0))
            }
            KubeAct::CopyIn { pod, path, source, .. } => {
                let content = cluster.read(pod, path)?;
                let sha = content.as_deref().map(sha256);
                let kept = content
                    .filter(|bytes| sha.as_ref() != Some(&source.sha256) && bytes.len() as u64 <= FilePrior::KEEP);
                Ok(Prior::PodFile { sha256: sha, content: kept.map(Bytes) })
            }
            KubeAct::PutBack { pod, path, .. } => {
                let sha = cluster.read(pod, path)?.as_deref().map(sha256);
                Ok(Prior::PodFile { sha256: sha, content: None })
            }
        }
    }

    pub(crate) fn kube_act(
        &mut self,
        target: &Target,
        act: &KubeAct,
        prior: &Prior,
        half: bool,
        ctx: &CallContext,
    ) -> Response {
        let copied = match act {
            KubeAct::CopyIn { source, .. } => Some(self.source(source)?),
            _ => None,
        };
        let cluster = self.cluster(target)?;
        let (seen, live) = match prior {
            Prior::Object { live: Some(live), .. } => (live["metadata"]["uid"].as_str(), Some(live)),
            _ => (None, None),
        };
        let verdict = |changed: bool| Ok(Answer::Verdict(if changed { Verdict::Changed } else { Verdict::Unchanged }));
        match act {
            KubeAct::Apply { .. } | KubeAct::Patch { .. } | KubeAct::Scale { .. } => {
                let after = written(cluster, act, ctx)?;
                let same = match act {
                    KubeAct::Scale { .. } => {
                        live.is_some_and(|live| live["spec"]["replicas"] == after["spec"]["replicas"])
                    }
                    _ => live.map(comparable) == Some(comparable(&after)),
                };
                verdict(!same)
            }
            KubeAct::Delete { object, options } => {
                let uid = options.uid.as_deref().or(seen);
                verdict(cluster.delete(object, uid, options.propagation == Propagation::Orphan)?)
            }
            KubeAct::Evict { pod, .. } => verdict(cluster.delete(pod, seen, false)?),
            KubeAct::Exec { pod, argv, stdin, .. } => {
                let call = Invocation { argv: argv.clone(), stdin: stdin.0.clone(), ..Invocation::default() };
                let run = cluster.execute(pod, &call, half);
                self.noted(run).map(|output| Answer::Outcome(Outcome::PodDone(output)))
            }
            KubeAct::CopyIn { pod, path, .. } => {
                let file = Node::file(copied.unwrap_or_default(), 0o644);
                cluster.within(pod, |machine| machine.tree.put(path, file))?;
                verdict(true)
            }
            KubeAct::PutBack { pod, path, before, left, .. } => {
                if cluster.read(pod, path)?.as_deref().map(sha256).as_ref() != Some(left) {
                    return Err(CallError::Conflict(format!("{path} in {pod} is not as it was left")));
                }
                cluster.within(pod, |machine| match before {
                    Some(bytes) => machine.tree.put(path, Node::file(&bytes.0, 0o644)),
                    None => machine.tree.remove(path),
                })?;
                verdict(true)
            }
        }
    }

    /// What became of a change, by what is found in the cluster.
    pub(crate) fn kube_settled(
        &mut self,
        target: &Target,
        act: &KubeAct,
        prior: &Prior,
        ctx: &CallContext,
    ) -> Result<Finding, CallError> {
        let cluster = self.cluster(target)?;
        match act {
            KubeAct::Apply { .. } | KubeAct::Patch { .. } | KubeAct::Scale { .. } => {
                let now = current(cluster, act)?;
                let once = matches!(act, KubeAct::Patch { patch_type: PatchType::JsonPatch, .. });
                match word(prior, now.as_ref(), &ctx.field_manager) {
                    Word::Made => Ok(done()),
                    Word::NotMade => Ok(Finding::NotDone),
                    Word::Between if once => {
                        Ok(Finding::Unclear("a JSON patch that is issued twice may act twice".to_owned()))
                    }
                    Word::Between => Ok(match self.kube_prior(target, act, ctx) {
                        Ok(Prior::Object { live, would })
                            if live.as_ref().map(comparable) == would.as_ref().map(comparable) =>
                        {
                            done()
                        }
                        _ => Finding::NotDone,
                    }),
                }
            }
            KubeAct::Delete { object, .. } | KubeAct::Evict { pod: object, .. } => {
                Ok(gone(object, prior, cluster.get(object)?))
            }
            KubeAct::Exec { pod, argv, done_when, .. } => {
                if let Some(done_when) = done_when {
                    let run =
                        cluster.execute(pod, &Invocation { argv: done_when.clone(), ..Invocation::default() }, false);
                    if self.noted(run)?.exit_code == 0 {
                        return Ok(Finding::Done(Answer::Outcome(Outcome::Already)));
                    }
                }
                let program = argv.first().map_or("", String::as_str);
                Ok(Finding::Unclear(format!(
                    "a process in a pod leaves no mark: whether {program} was run in {pod}, nobody kept"
                )))
            }
            KubeAct::CopyIn { pod, path, .. } | KubeAct::PutBack { pod, path, .. } => {
                let sum = cluster.read(pod, path)?.as_deref().map(sha256);
                Ok(if pod_file_wanted(act).is_some_and(|wanted| wanted == sum) { done() } else { Finding::NotDone })
            }
        }
    }
}

/// What a write is made on, in the form that a prior of it has it in.
fn current(cluster: &Cluster, act: &KubeAct) -> Result<Option<Value>, CallError> {
    let (object, scale) = match act {
        KubeAct::Apply { manifest, .. } => (ObjectRef::of(manifest).map_err(CallError::Invalid)?, false),
        KubeAct::Patch { object, subresource, .. } => (object.clone(), subresource.as_deref() == Some("scale")),
        KubeAct::Scale { object, .. } => (object.clone(), false),
        other => return Err(CallError::Invalid(format!("{other:?} writes no object"))),
    };
    let live = cluster.get(&object)?.cloned();
    Ok(if scale { live.as_ref().map(scale_of) } else { live })
}

/// Makes a write; gives what was written as it is then.
fn written(cluster: &mut Cluster, act: &KubeAct, ctx: &CallContext) -> Result<Value, CallError> {
    let manager = if ctx.field_manager.is_empty() { "runbook" } else { &ctx.field_manager };
    match act {
        KubeAct::Apply { manifest, force } => cluster.apply(&fill(manifest, &ctx.secrets)?, *force, manager),
        KubeAct::Patch { object, patch_type, patch, subresource } => {
            let body = fill(patch, &ctx.secrets)?;
            cluster
                .patch(&Patch { object, kind: *patch_type, body: &body, subresource: subresource.as_deref() }, manager)
        }
        KubeAct::Scale { object, replicas } => {
            let body = json!({"spec": {"replicas": replicas}});
            cluster.patch(&Patch { object, kind: PatchType::Merge, body: &body, subresource: Some("scale") }, manager)
        }
        other => Err(CallError::Invalid(format!("{other:?} writes no object"))),
    }
}

/// A wait takes no time here: what controllers do, they have done.
fn waited(cluster: &Cluster, target: &Target, object: &ObjectRef, condition: &Condition, read_only: bool) -> Response {
    let described = condition::described(object, condition);
    let live = match cluster.get(object) {
        Ok(live) => live,
        // A kind that is not served yet may come.
        Err(CallError::NotFound(_)) if *condition != Condition::Absent => None,
        Err(error) => return Err(error),
    };
    match condition::standing(object, condition, live)? {
        Standing::Met => Ok(Answer::Unit),
        Standing::NotYet { now, .. } | Standing::Never(now) if read_only => {
            Err(CallError::Unknown(format!("cluster {target}: waits for {described}; now: {now}")))
        }
        Standing::NotYet { now, .. } => {
            Err(CallError::TimedOut(format!("cluster {target}: waited for {described}: {now}")))
        }
        Standing::Never(why) => Err(CallError::Failed(format!("cluster {target}: waited for {described}: {why}"))),
    }
}

/// An object with the values of its secrets.
fn fill(value: &Value, secrets: &Secrets) -> Result<Value, CallError> {
    let named = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        secrets.0.get(name).cloned().ok_or_else(|| CallError::Invalid(format!("there is no secret {name:?}")))
    };
    Ok(match value {
        Value::Object(map) if map.len() == 1 && map.contains_key("$secret") => Value::String(named(&map["$secret"])?),
        Value::Object(map) if map.len() == 1 && map.contains_key("$text") => {
            let parts = map["$text"].as_array().into_iter().flatten().map(|part| match part {
                Value::String(text) => Ok(text.clone()),
                part => named(&part["$secret"]),
            });
            Value::String(parts.collect::<Result<String, CallError>>()?)
        }
        Value::Object(map) => {
            let filled = map.iter().map(|(key, value)| Ok((key.clone(), fill(value, secrets)?)));
            Value::Object(filled.collect::<Result<_, CallError>>()?)
        }
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| fill(item, secrets)).collect::<Result<_, CallError>>()?)
        }
        other => other.clone(),
    })
}
