//! The backend of the ssh and files capabilities: sends each call to the machine that it is meant for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext};
use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Act, Answer, CallError, Exit, HttpRequest, Look, Outcome, Output, Prior, Response, SourceRef, SshAct, SshLook,
    Target,
};

use crate::machine::{Connector, Machine, Sources};
use crate::shell::Feed;
use crate::shells::Lane;
use crate::transport::Transport;
use crate::{files, net, source, system};

/// Machines over SSH, and the controller: one connection for each, shared by all calls, opened at first use.
pub struct SshBackend {
    connector: Arc<dyn Connector>,
    controller: Arc<Machine>,
    machines: Mutex<BTreeMap<String, Arc<Machine>>>,
    boot_id: String,
    perl: bool,
}

impl SshBackend {
    /// Machines are reached by `connector`, the controller by `controller`.
    pub fn new(connector: Arc<dyn Connector>, controller: Arc<dyn Transport>) -> Self {
        Self {
            connector,
            controller: Arc::new(Machine::controller(controller)),
            machines: Mutex::default(),
            boot_id: system::BOOT_ID.to_owned(),
            perl: true,
        }
    }

    /// Reads boot ids from another file: for tests, whose machines cannot really reboot.
    #[doc(hidden)]
    #[must_use]
    pub fn with_boot_id(mut self, path: impl Into<String>) -> Self {
        self.boot_id = path.into();
        self
    }

    /// Uses no perl on machines that have it: for tests, to be where there is none.
    #[doc(hidden)]
    #[must_use]
    pub fn without_perl(mut self) -> Self {
        self.perl = false;
        self
    }

    fn machine(&self, target: &Target) -> Result<Arc<Machine>, CallError> {
        match target {
            Target::Controller => Ok(self.controller.clone()),
            Target::Machine(name) => {
                let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
                let machine = machines
                    .entry(name.clone())
                    .or_insert_with(|| Arc::new(Machine::new(name, self.connector.clone(), self.perl)));
                Ok(machine.clone())
            }
            Target::Cluster(_) | Target::Run => Err(CallError::Invalid(format!("{target} is not a machine"))),
        }
    }

    async fn ssh_look(&self, machine: &Arc<Machine>, look: &SshLook, ctx: &CallContext) -> Response {
        match look {
            SshLook::Facts => system::facts(machine, &self.boot_id, ctx).await.map(Answer::Facts),
            SshLook::Observe { commands } => machine.observe(commands, self, ctx).await.map(Answer::Outputs),
            SshLook::Http { request } => {
                if !matches!(request.method.as_str(), "GET" | "HEAD") {
                    return Err(CallError::Denied(format!("{} is not a look: only GET and HEAD are", request.method)));
                }
                net::http(machine, request, Lane::Look, self, ctx).await.map(Answer::Http)
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

    async fn ssh_act(&self, machine: &Arc<Machine>, act: &SshAct, ctx: &CallContext) -> Result<Output, CallError> {
        match act {
            SshAct::Run { pipeline, .. } => {
                machine.one(pipeline, Lane::Change, self, ctx).await.map_err(|error| in_doubt(error, machine))
            }
            SshAct::Reboot { .. } if machine.target == Target::Controller => {
                Err(CallError::Invalid("runbook runs on the controller: it cannot reboot it and go on".to_owned()))
            }
            SshAct::Reboot { timeout_ms } => {
                system::reboot(machine, &self.boot_id, Duration::from_millis((*timeout_ms).into()), ctx).await
            }
            SshAct::Confirm { .. } => {
                Err(CallError::Invalid("changes that are confirmed over a new connection are not there yet".to_owned()))
            }
            SshAct::Http { request, .. } => self.http_change(machine, request, ctx).await,
        }
    }

    /// The body as standard output; exit code 0 below status 400, else 22 as curl has it.
    async fn http_change(
        &self,
        machine: &Arc<Machine>,
        request: &HttpRequest,
        ctx: &CallContext,
    ) -> Result<Output, CallError> {
        let response = net::http(machine, request, Lane::Change, self, ctx).await.map_err(|e| in_doubt(e, machine))?;
        let failed = response.status >= 400;
        let stderr = if failed { format!("HTTP status {}\n", response.status) } else { String::new() };
        Ok(Output {
            exit: Exit::Code(if failed { 22 } else { 0 }),
            stdout: response.body,
            stderr: Bytes::from(stderr.as_str()),
        })
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
            Act::Ssh(SshAct::Run { done_when: Some(command), .. }) => {
                let output = machine.one(std::slice::from_ref(command.as_ref()), Lane::Look, self, ctx).await?;
                Ok(Prior::DoneWhen(output.exit.success()))
            }
            Act::Ssh(_) => Ok(Prior::None),
            Act::Files(act) => files::prior(&machine, act, ctx).await.map(Prior::File),
            Act::Kube(_) => Err(not_a_cluster(target)),
        }
    }

    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response {
        if ctx.read_only {
            return Err(CallError::Denied("a plan changes nothing".to_owned()));
        }
        let machine = self.machine(target)?;
        match act {
            Act::Ssh(act) => {
                self.ssh_act(&machine, act, ctx).await.map(|output| Answer::Outcome(Outcome::Done(output)))
            }
            Act::Files(act) => {
                let Prior::File(prior) = prior else {
                    return Err(CallError::Invalid(format!("{} was not looked at before it is changed", act.path)));
                };
                files::act(&machine, act, prior, self, ctx).await.map_err(|error| in_doubt(error, &machine))
            }
            Act::Kube(_) => Err(not_a_cluster(target)),
        }
    }

    async fn close(&self) {
        let machines: Vec<_> = {
            let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *machines).into_values().collect()
        };
        futures::future::join_all(machines.iter().map(|machine| machine.disconnect())).await;
        self.controller.disconnect().await;
    }
}

fn not_a_cluster(target: &Target) -> CallError {
    CallError::Invalid(format!("{target} is a machine, not a cluster"))
}
