//! The backend of the ssh and files capabilities: sends each call to the machine that it is meant for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext, Mark};
use runbook_model::call::{
    Act, Answer, CallError, Finding, Look, Outcome, Output, Prior, Response, SourceRef, SshAct, SshLook, Target,
};

use crate::machine::{Connector, Machine, Sources, Ways, Who};
use crate::marks::Marked;
use crate::shell::Feed;
use crate::shells::Lane;
use crate::transport::Transport;
use crate::{confirm, files, lease, net, settle, source, system};

/// Machines over SSH, and the controller: one connection for each, shared by all calls, opened at first use.
pub struct SshBackend {
    connector: Arc<dyn Connector>,
    here: Arc<dyn Transport>,
    controller: OnceLock<Arc<Machine>>,
    machines: Mutex<BTreeMap<String, Arc<Machine>>>,
    ways: Ways,
}

impl SshBackend {
    /// Machines are reached by `connector`, the controller by `controller`.
    pub fn new(connector: Arc<dyn Connector>, controller: Arc<dyn Transport>) -> Self {
        Self {
            connector,
            here: controller,
            controller: OnceLock::new(),
            machines: Mutex::default(),
            ways: Ways::default(),
        }
    }

    /// Reads boot ids from another file: for tests, whose machines cannot really reboot.
    #[doc(hidden)]
    #[must_use]
    pub fn with_boot_id(mut self, path: impl Into<String>) -> Self {
        self.ways.boot_id_file = path.into();
        self
    }

    /// Uses no perl on machines that have it: for tests, to be where there is none.
    #[doc(hidden)]
    #[must_use]
    pub fn without_perl(mut self) -> Self {
        self.ways.perl = false;
        self
    }

    /// Holds machines for another while: for tests, which have no quarter of an hour.
    #[doc(hidden)]
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.ways.lease = lease;
        self
    }

    fn machine(&self, target: &Target) -> Result<Arc<Machine>, CallError> {
        match target {
            Target::Controller => {
                let ways = || Ways { perl: true, ..self.ways.clone() };
                Ok(self.controller.get_or_init(|| Arc::new(Machine::controller(self.here.clone(), ways()))).clone())
            }
            Target::Machine(name) => {
                let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
                let machine = machines
                    .entry(name.clone())
                    .or_insert_with(|| Arc::new(Machine::new(name, self.connector.clone(), self.ways.clone())));
                Ok(machine.clone())
            }
            Target::Cluster(_) | Target::Run => Err(CallError::Invalid(format!("{target} is not a machine"))),
        }
    }

    async fn ssh_look(&self, machine: &Arc<Machine>, look: &SshLook, ctx: &CallContext) -> Response {
        match look {
            SshLook::Facts => system::facts(machine, ctx).await.map(Answer::Facts),
            SshLook::Observe { commands } => machine.observe(commands, self, ctx).await.map(Answer::Outputs),
            SshLook::Http { request } => {
                if !matches!(request.method.as_str(), "GET" | "HEAD") {
                    return Err(CallError::Denied(format!("{} is not a look: only GET and HEAD are", request.method)));
                }
                net::http(machine, request, Lane::Look, None, self, ctx).await.map(Answer::Http)
            }
            SshLook::Tcp { address, port, timeout_ms } => {
                let timeout = Duration::from_millis((*timeout_ms).into());
                net::tcp(machine, address, *port, timeout, self, ctx).await.map(Answer::Flag)
            }
            SshLook::Resolve { name, record_type, server } => {
                net::resolve(machine, name, record_type, server.as_deref(), self, ctx).await.map(Answer::Names)
            }
        }
    }

    async fn ssh_act(
        &self,
        machine: &Arc<Machine>,
        act: &SshAct,
        prior: &Prior,
        marked: Option<&Marked>,
        ctx: &CallContext,
    ) -> Result<Output, CallError> {
        match act {
            SshAct::Run { pipeline, .. } => {
                let output = machine.one(pipeline, Lane::Change, marked, self, ctx).await;
                output.map_err(|error| in_doubt(error, machine))
            }
            SshAct::Reboot { .. } if machine.target == Target::Controller => {
                Err(CallError::Invalid("runbook runs on the controller: it cannot reboot it and go on".to_owned()))
            }
            SshAct::Reboot { timeout_ms } => {
                let timeout = Duration::from_millis((*timeout_ms).into());
                system::reboot(machine, settle::boot_id_of(prior), timeout, ctx).await
            }
            SshAct::Confirm { commit, revert, window_ms, addresses } => {
                let window = Duration::from_millis((*window_ms).into());
                confirm::act(machine, commit, revert, window, addresses, ctx).await
            }
            SshAct::Http { request, .. } => {
                let response = net::http(machine, request, Lane::Change, marked, self, ctx).await;
                response.map(net::outcome).map_err(|error| in_doubt(error, machine))
            }
        }
    }

    async fn settle_ssh(
        &self,
        machine: &Arc<Machine>,
        act: &SshAct,
        prior: &Prior,
        mark: &Mark,
        ctx: &CallContext,
    ) -> Result<Finding, CallError> {
        match act {
            SshAct::Run { pipeline, done_when, undo } => {
                let change = settle::Change::of_commands(machine, pipeline, done_when.as_deref(), undo);
                settle::marked(machine, &change, prior, mark, self, ctx).await
            }
            SshAct::Http { request, undo } => {
                let change = settle::Change {
                    what: format!("{} {}", request.method, request.url),
                    who: Who::Login,
                    done_when: None,
                    undo,
                    answer: net::kept_outcome,
                };
                settle::marked(machine, &change, prior, mark, self, ctx).await
            }
            SshAct::Reboot { timeout_ms } => {
                let timeout = Duration::from_millis((*timeout_ms).into());
                settle::reboot(machine, timeout, prior, mark, ctx).await
            }
            SshAct::Confirm { commit, window_ms, addresses, .. } => {
                let window = Duration::from_millis((*window_ms).into());
                confirm::settle(machine, commit, window, addresses, ctx).await
            }
        }
    }
}

/// Who carries a change out there.
fn who(machine: &Machine, target: &Target, act: &Act) -> Result<Who, CallError> {
    match act {
        Act::Ssh(SshAct::Run { pipeline, .. }) => Ok(pipeline.first().map_or(Who::Login, |first| machine.who(first))),
        Act::Ssh(SshAct::Http { .. }) => Ok(Who::Login),
        Act::Ssh(SshAct::Reboot { .. } | SshAct::Confirm { .. }) | Act::Files(_) => Ok(machine.privileged()),
        Act::Kube(_) => Err(not_a_cluster(target)),
    }
}

/// A change that was cut off: nobody can say how far it got.
fn in_doubt(error: CallError, machine: &Arc<Machine>) -> CallError {
    match error {
        CallError::Unreachable(text) => CallError::Unreachable(format!(
            "{text}; the change is in doubt: look at {} before doing it again",
            machine.name
        )),
        other => other,
    }
}

#[async_trait]
impl Sources for SshBackend {
    async fn feed(&self, source: &SourceRef, ctx: &CallContext) -> Result<Feed, CallError> {
        Ok(source::feed(self.machine(&source.target)?, source.clone(), ctx.clone()))
    }
}

#[async_trait]
impl Backend for SshBackend {
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response {
        let machine = self.machine(target)?;
        match look {
            Look::Ssh(look) => self.ssh_look(&machine, look, ctx).await,
            Look::Files(look) => files::look(&machine, look, ctx).await,
            Look::Kube(_) => Err(not_a_cluster(target)),
        }
    }

    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError> {
        let machine = self.machine(target)?;
        match act {
            Act::Ssh(ssh) => {
                let done = match ssh {
                    SshAct::Run { done_when: Some(command), .. } => {
                        let command = std::slice::from_ref(command.as_ref());
                        Some(machine.one(command, Lane::Look, None, self, ctx).await?.exit.success())
                    }
                    SshAct::Run { done_when: None, .. }
                    | SshAct::Reboot { .. }
                    | SshAct::Confirm { .. }
                    | SshAct::Http { .. } => None,
                };
                let boot_id = machine.boot_id(who(&machine, target, act)?, ctx).await?;
                Ok(Prior::Process { done, boot_id })
            }
            Act::Files(act) => files::prior(&machine, act, ctx).await.map(Prior::File),
            Act::Kube(_) => Err(not_a_cluster(target)),
        }
    }

    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response {
        if ctx.read_only {
            return Err(CallError::Denied("a plan changes nothing".to_owned()));
        }
        let machine = self.machine(target)?;
        let who = who(&machine, target, act)?;
        let held = match &ctx.mark {
            Some(mark) => Some((lease::acquire(&machine, who, mark, ctx).await?, mark)),
            None => None,
        };
        let open = held.as_ref().map(|_| machine.leases.open(who));
        let response = match act {
            Act::Ssh(act) => {
                let marked = held.map(|(held, mark)| Marked::new(held, mark, settle::is_precious(act)));
                let output = self.ssh_act(&machine, act, prior, marked.as_ref(), ctx).await;
                output.map(|output| Answer::Outcome(Outcome::Done(output)))
            }
            Act::Files(act) => match prior {
                Prior::File(prior) => {
                    files::act(&machine, act, prior, self, ctx).await.map_err(|error| in_doubt(error, &machine))
                }
                Prior::None
                | Prior::DoneWhen(_)
                | Prior::Process { .. }
                | Prior::Object { .. }
                | Prior::PodFile { .. } => {
                    Err(CallError::Invalid(format!("{} was not looked at before it is changed", act.path)))
                }
            },
            Act::Kube(_) => Err(not_a_cluster(target)),
        };
        if let (Some(open), false) = (open, matches!(response, Err(CallError::Unreachable(_)))) {
            open.ended();
        }
        response
    }

    async fn settle(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Result<Finding, CallError> {
        if ctx.read_only {
            return Err(CallError::Denied("a plan changes nothing, and settles nothing".to_owned()));
        }
        let Some(mark) = &ctx.mark else {
            return Err(CallError::Invalid("a change in doubt is settled by its mark, and there is none".to_owned()));
        };
        let machine = self.machine(target)?;
        let who = who(&machine, target, act)?;
        let open = machine.leases.open(who);
        let finding = match act {
            Act::Ssh(act) => self.settle_ssh(&machine, act, prior, mark, ctx).await,
            Act::Files(act) => {
                lease::acquire(&machine, who, mark, ctx).await?;
                files::settle(&machine, act, prior, ctx).await
            }
            Act::Kube(_) => Err(not_a_cluster(target)),
        };
        // Whatever is not settled needs its marks still.
        if let Ok(Finding::Done(_) | Finding::NotDone) = finding {
            open.ended();
        }
        finding
    }

    async fn take_charge(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<(), CallError> {
        let machine = self.machine(target)?;
        let Some(mark) = &ctx.mark else { return Ok(()) };
        lease::acquire(&machine, who(&machine, target, act)?, mark, ctx).await.map(drop)
    }

    async fn close(&self) {
        let mut machines: Vec<_> = {
            let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *machines).into_values().collect()
        };
        machines.extend(self.controller.get().cloned());
        let doubtful = futures::future::join_all(machines.iter().map(|machine| machine.leases.in_doubt())).await;
        let doubtful = doubtful.concat();
        let closing = machines.iter().map(|machine| async {
            lease::release(machine, &doubtful).await;
            machine.disconnect().await;
        });
        futures::future::join_all(closing).await;
    }
}

fn not_a_cluster(target: &Target) -> CallError {
    CallError::Invalid(format!("{target} is a machine, not a cluster"))
}
