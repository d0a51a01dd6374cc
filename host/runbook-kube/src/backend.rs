//! The backend: which cluster a call goes to, and what it becomes there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext};
use runbook_model::call::{
    Act, Answer, CallError, Finding, KubeAct, KubeLook, Look, Outcome, Prior, Response, SourceRef, Target, Verdict,
};
use tokio::io::AsyncRead;
use tokio::sync::{Mutex, OnceCell};

use crate::access::{self, KubeconfigSource, SourceReader};
use crate::connect;
use crate::exec::Container;
use crate::gate::{Counts, Traffic};
use crate::lock::Locks;
use crate::objects::{Mode, Patch, verdict};
use crate::secrets::fill;
use crate::session::{Api, Session, root};
use crate::wait::Goal;

/// All clusters of the inventory, each opened at its first use.
pub struct KubeBackend {
    kubeconfigs: Box<dyn KubeconfigSource>,
    sources: Option<Box<dyn SourceReader>>,
    traffic: Traffic,
    sessions: Mutex<HashMap<String, Arc<OnceCell<Arc<Session>>>>>,
    locks: Locks,
}

impl KubeBackend {
    /// A backend for the clusters that `kubeconfigs` knows. Sources on the controller can be copied into pods; those on
    /// machines after [`KubeBackend::with_sources`].
    pub fn new(kubeconfigs: Box<dyn KubeconfigSource>) -> Self {
        // Fails where somebody chose one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            kubeconfigs,
            sources: None,
            traffic: Traffic::default(),
            sessions: Mutex::default(),
            locks: Locks::default(),
        }
    }

    /// Reads sources on machines through `sources`.
    #[must_use]
    pub fn with_sources(mut self, sources: Box<dyn SourceReader>) -> Self {
        self.sources = Some(sources);
        self
    }

    /// What was sent to all clusters so far, and what was refused below the clients.
    pub fn traffic(&self) -> Counts {
        self.traffic.counts()
    }

    /// The cluster within a call; opens it where it is not.
    pub(crate) async fn api(&self, cluster: &str, ctx: &CallContext) -> Result<Api, CallError> {
        let cell = Arc::clone(self.sessions.lock().await.entry(cluster.to_owned()).or_default());
        let what = format!("cluster {cluster}: connect");
        let open = cell.get_or_try_init(|| self.open(cluster, ctx));
        let session = tokio::select! {
            session = open => session?,
            () = ctx.cancel.cancelled() => return Err(CallError::Failed(format!("{what}: cancelled"))),
            () = tokio::time::sleep_until(ctx.deadline.into()) => {
                return Err(CallError::TimedOut(format!("{what}: the time of the call is over")));
            }
        };
        Ok(Api { session: Arc::clone(session), ctx: ctx.clone() })
    }

    async fn open(&self, cluster: &str, ctx: &CallContext) -> Result<Arc<Session>, CallError> {
        let named = |error: CallError| match error {
            CallError::Invalid(text) => CallError::Invalid(format!("cluster {cluster}: {text}")),
            other => other,
        };
        let access = self.kubeconfigs.kubeconfig(cluster, ctx).await?;
        let config = access::config(&access).await.map_err(named)?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let (via, traffic) = (access.via.clone(), self.traffic.clone());
        // A kubeconfig may name a program that gives credentials, and that program may take its time.
        let clients = tokio::task::spawn_blocking(move || connect::clients(&config, via, &traffic));
        let clients = match clients.await {
            Ok(Ok(clients)) => clients,
            Ok(Err(error)) => {
                return Err(CallError::Invalid(format!(
                    "cluster {cluster}: the kubeconfig from {} cannot be used: {}",
                    access.origin,
                    root(&error)
                )));
            }
            Err(error) => return Err(CallError::Failed(format!("cluster {cluster}: {error}"))),
        };
        let session = Arc::new(Session::new(cluster, server, clients));
        if let Some(pinned) = &access.uid {
            let api = Api { session: Arc::clone(&session), ctx: ctx.clone() };
            let uid = api.uid().await?;
            if uid != *pinned {
                return Err(CallError::Conflict(format!(
                    "cluster {cluster}: the kubeconfig from {} is for another cluster: the one at {} has the UID {uid}, \
                     and the inventory says uid = {pinned:?}",
                    access.origin, session.server
                )));
            }
        }
        Ok(session)
    }

    /// Forgets the connection after it failed, so that the next call reads the kubeconfig anew.
    pub(crate) async fn release(&self, api: &Api) {
        if !api.session.is_stale() {
            return;
        }
        let mut sessions = self.sessions.lock().await;
        let same = |cell: &Arc<OnceCell<Arc<Session>>>| cell.get().is_some_and(|s| Arc::ptr_eq(s, &api.session));
        if sessions.get(&api.session.cluster).is_some_and(same) {
            sessions.remove(&api.session.cluster);
        }
    }

    async fn reader(
        &self,
        source: &SourceRef,
        ctx: &CallContext,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, CallError> {
        match (&source.target, &self.sources) {
            (Target::Controller, _) => {
                let file = tokio::fs::File::open(&source.path).await;
                let file = file.map_err(|e| CallError::Failed(format!("cannot read {} here: {e}", source.path)))?;
                Ok(Box::new(file))
            }
            (Target::Machine(_), Some(sources)) => sources.open(source, ctx).await,
            (target, _) => Err(CallError::Invalid(format!("a source on {target} cannot be copied into a pod"))),
        }
    }

    async fn looked(&self, api: &Api, look: &KubeLook) -> Response {
        match look {
            KubeLook::Uid => api.uid().await.map(Answer::Text),
            KubeLook::Get { object } => api.get(object).await.map(Answer::Object),
            KubeLook::List { selector } => api.list(selector).await.map(Answer::Objects),
            KubeLook::Logs { pod, container, lines } => {
                api.logs(pod, container.as_deref(), *lines).await.map(Answer::Text)
            }
            KubeLook::Exec { pod, container, argv } => {
                api.observe(Container { pod, name: container.as_deref() }, argv).await.map(Answer::Pod)
            }
            KubeLook::CopyOut { pod, container, path } => {
                api.copy_out(Container { pod, name: container.as_deref() }, path).await.map(Answer::Source)
            }
            KubeLook::Wait { .. } | KubeLook::WaitNone { .. } => {
                Err(CallError::Invalid("a wait asks for its own connections".to_owned()))
            }
        }
    }

    pub(crate) async fn met(&self, api: &Api, act: &KubeAct) -> Result<Prior, CallError> {
        match act {
            KubeAct::Apply { manifest, force } => api.prior_apply(&fill(manifest, &api.ctx.secrets)?, *force).await,
            KubeAct::Patch { object, patch_type, patch, subresource } => {
                let body = fill(patch, &api.ctx.secrets)?;
                let subresource = subresource.as_deref();
                api.prior_patch(&Patch { object, kind: *patch_type, body: &body, subresource }).await
            }
            KubeAct::Delete { object, options } => api.prior_gone(object, options.uid.as_deref()).await,
            KubeAct::Scale { object, replicas } => api.prior_scale(object, *replicas).await,
            KubeAct::Evict { pod, .. } => {
                api.pod(pod).await?;
                api.prior_gone(pod, None).await
            }
            KubeAct::Exec { done_when: None, .. } => Ok(Prior::None),
            KubeAct::Exec { pod, container, done_when: Some(done_when), .. } => {
                let output = api.observe(Container { pod, name: container.as_deref() }, done_when).await?;
                Ok(Prior::DoneWhen(output.exit_code == 0))
            }
            KubeAct::CopyIn { pod, container, source, path } => {
                let container = Container { pod, name: container.as_deref() };
                let sha256 = api.sha256(container, path).await?;
                let content = match &sha256 {
                    Some(sum) if *sum != source.sha256 => api.kept(container, path, sum).await?,
                    Some(_) | None => None,
                };
                Ok(Prior::PodFile { sha256, content })
            }
            KubeAct::PutBack { pod, container, path, .. } => {
                let sha256 = api.sha256(Container { pod, name: container.as_deref() }, path).await?;
                Ok(Prior::PodFile { sha256, content: None })
            }
        }
    }

    async fn acted(&self, api: &Api, act: &KubeAct, prior: &Prior) -> Response {
        // What is deleted or evicted is what was looked at before, not what has its name by now.
        let seen = match prior {
            Prior::Object { live: Some(live), .. } => live["metadata"]["uid"].as_str(),
            _ => None,
        };
        match act {
            KubeAct::Apply { manifest, force } => {
                let after = api.apply(&fill(manifest, &api.ctx.secrets)?, *force, Mode::Real).await?;
                Ok(Answer::Verdict(verdict(prior, &after)))
            }
            KubeAct::Patch { object, patch_type, patch, subresource } => {
                let body = fill(patch, &api.ctx.secrets)?;
                let patch = Patch { object, kind: *patch_type, body: &body, subresource: subresource.as_deref() };
                let after = api.patch(&patch, Mode::Real).await?;
                Ok(Answer::Verdict(verdict(prior, &after)))
            }
            KubeAct::Delete { object, options } => {
                let uid = options.uid.as_deref().or(seen);
                api.delete(object, options, uid).await.map(Answer::Verdict)
            }
            KubeAct::Scale { object, replicas } => {
                let before = match prior {
                    Prior::Object { live: Some(live), .. } => live.pointer("/spec/replicas").cloned(),
                    _ => None,
                };
                let after = api.scale(object, *replicas, Mode::Real).await?;
                let same = before.is_some() && before.as_ref() == after.pointer("/spec/replicas");
                Ok(Answer::Verdict(if same { Verdict::Unchanged } else { Verdict::Changed }))
            }
            KubeAct::Evict { pod, timeout_ms } => {
                let timeout = Duration::from_millis(u64::from(*timeout_ms));
                api.evict(pod, seen, timeout).await.map(Answer::Verdict)
            }
            KubeAct::Exec { pod, container, argv, stdin, .. } => {
                let output = api.change(Container { pod, name: container.as_deref() }, argv, &stdin.0).await?;
                Ok(Answer::Outcome(Outcome::PodDone(output)))
            }
            KubeAct::CopyIn { pod, container, source, path } => {
                let there = match prior {
                    Prior::DoneWhen(done) => *done,
                    Prior::PodFile { sha256, .. } => sha256.as_ref() == Some(&source.sha256),
                    Prior::None | Prior::Process { .. } | Prior::File(_) | Prior::Object { .. } => false,
                };
                if there {
                    return Ok(Answer::Verdict(Verdict::Unchanged));
                }
                let reader = self.reader(source, &api.ctx).await?;
                let container = Container { pod, name: container.as_deref() };
                api.copy_in(container, source, reader, path).await.map(Answer::Verdict)
            }
            KubeAct::PutBack { pod, container, path, before, left } => {
                let container = Container { pod, name: container.as_deref() };
                api.put_back(container, path, before.as_ref(), left).await.map(Answer::Verdict)
            }
        }
    }
}

fn cluster(target: &Target) -> Result<&str, CallError> {
    match target {
        Target::Cluster(name) => Ok(name),
        other => Err(CallError::Invalid(format!("{other} is not a cluster"))),
    }
}

fn not_for_a_cluster() -> CallError {
    CallError::Invalid("a call for machines cannot go to a cluster".to_owned())
}

#[async_trait]
impl Backend for KubeBackend {
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response {
        let cluster = cluster(target)?;
        let Look::Kube(look) = look else { return Err(not_for_a_cluster()) };
        let time = |ms: &u32| Duration::from_millis(u64::from(*ms));
        match look {
            KubeLook::Wait { object, condition, timeout_ms } => {
                self.wait(cluster, Goal::Object(object, condition), time(timeout_ms), ctx).await
            }
            KubeLook::WaitNone { selector, timeout_ms } => {
                self.wait(cluster, Goal::None(selector), time(timeout_ms), ctx).await
            }
            look => {
                let api = self.api(cluster, ctx).await?;
                let answer = self.looked(&api, look).await;
                self.release(&api).await;
                answer
            }
        }
    }

    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError> {
        let cluster = cluster(target)?;
        let Act::Kube(act) = act else { return Err(not_for_a_cluster()) };
        let api = self.api(cluster, ctx).await?;
        let answer = self.met(&api, act).await;
        self.release(&api).await;
        answer
    }

    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response {
        let cluster = cluster(target)?;
        let Act::Kube(act) = act else { return Err(not_for_a_cluster()) };
        if ctx.read_only {
            return Err(CallError::Denied(format!("cluster {cluster}: nothing may be changed in a plan")));
        }
        let api = self.api(cluster, ctx).await?;
        let answer = match self.locks.hold(&api).await {
            Ok(()) => self.acted(&api, act, prior).await,
            Err(error) => Err(error),
        };
        self.release(&api).await;
        answer
    }

    async fn settle(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Result<Finding, CallError> {
        let cluster = cluster(target)?;
        let Act::Kube(act) = act else { return Err(not_for_a_cluster()) };
        let api = self.api(cluster, ctx).await?;
        // Nobody else is to change anything while it is judged: not an earlier session of the run either.
        let finding = match self.locks.hold(&api).await {
            Ok(()) => self.judged(&api, act, prior).await,
            Err(error) => Err(error),
        };
        self.release(&api).await;
        finding
    }

    async fn take_charge(&self, target: &Target, _: &Act, ctx: &CallContext) -> Result<(), CallError> {
        let api = self.api(cluster(target)?, ctx).await?;
        self.locks.hold(&api).await
    }

    async fn close(&self) {
        self.locks.release().await;
        self.sessions.lock().await.clear();
    }
}
