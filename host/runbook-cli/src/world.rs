//! The world behind the broker: machines over SSH and here, clusters over their API servers.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext};
use runbook_kube::{ClusterAccess, Dial, KubeBackend, KubeconfigSource, Origin, Stream};
use runbook_model::call::{Act, Answer, CallError, Command, Finding, Look, Prior, Response, SshLook, Target};
use runbook_model::plan::{Cluster, Host, Kubeconfig, Transport as HostTransport};
use runbook_model::prepare;
use runbook_ssh::backend::SshBackend;
use runbook_ssh::r#become::Become;
use runbook_ssh::client::RusshTransport;
use runbook_ssh::connect::{ConnectOptions, Endpoint, connect};
use runbook_ssh::local::LocalTransport;
use runbook_ssh::machine::Connector;
use runbook_ssh::transport::Transport;
use tokio::sync::OnceCell;

/// Machines and clusters of one run.
pub(crate) struct World {
    machines: Arc<SshBackend>,
    clusters: KubeBackend,
}

/// The inventory, as the run needs it: texts rendered, paths absolute.
pub(crate) struct Inventory {
    pub(crate) hosts: BTreeMap<String, Host>,
    pub(crate) clusters: BTreeMap<String, Cluster>,
    /// How root is got, by host.
    pub(crate) elevation: BTreeMap<String, Become>,
    /// Absolute path of the runbook's folder.
    pub(crate) folder: String,
    /// The user's home.
    pub(crate) home: String,
}

impl World {
    /// A world in which nothing is connected yet.
    pub(crate) fn new(inventory: Inventory, ssh: ConnectOptions) -> Self {
        let inventory = Arc::new(inventory);
        let here: Arc<dyn Transport> = Arc::new(LocalTransport::new(None));
        let connector = Arc::new(Machines { inventory: Arc::clone(&inventory), ssh, moved: Mutex::default() });
        let machines = Arc::new(SshBackend::new(Arc::clone(&connector) as _, here));
        let kubeconfigs = Kubeconfigs { inventory, connector, machines: Arc::clone(&machines) };
        Self { machines, clusters: KubeBackend::new(Box::new(kubeconfigs)) }
    }

    fn backend(&self, target: &Target) -> Result<&dyn Backend, CallError> {
        match target {
            Target::Machine(_) | Target::Controller => Ok(self.machines.as_ref()),
            Target::Cluster(_) => Ok(&self.clusters),
            Target::Run => Err(CallError::Invalid("the run itself has no backend".to_owned())),
        }
    }
}

#[async_trait]
impl Backend for World {
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response {
        self.backend(target)?.look(target, look, ctx).await
    }

    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError> {
        self.backend(target)?.prior(target, act, ctx).await
    }

    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response {
        self.backend(target)?.act(target, act, prior, ctx).await
    }

    async fn settle(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Result<Finding, CallError> {
        self.backend(target)?.settle(target, act, prior, ctx).await
    }

    async fn take_charge(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<(), CallError> {
        self.backend(target)?.take_charge(target, act, ctx).await
    }

    async fn close(&self) {
        self.clusters.close().await;
        self.machines.close().await;
    }
}

/// Connects to the machines of the inventory.
struct Machines {
    inventory: Arc<Inventory>,
    ssh: ConnectOptions,
    /// Where machines were found that changed their address, and the host key that they showed.
    moved: Mutex<BTreeMap<String, (String, Option<String>)>>,
}

impl Machines {
    fn endpoint(&self, host: &Host) -> Endpoint {
        let path = |path: &String| PathBuf::from(prepare::absolute(path, &self.inventory.folder, &self.inventory.home));
        let jump = host.jump.as_ref().and_then(|name| self.inventory.hosts.get(name));
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner).get(&host.name).cloned();
        let (address, same_key) = moved.map_or((None, None), |(address, key)| (Some(address), key));
        let others = host.addresses.iter().filter(|known| Some(*known) != address.as_ref());
        Endpoint {
            name: host.name.clone(),
            addresses: address.iter().chain(others).cloned().collect(),
            port: host.port,
            user: host.user.clone(),
            identity_file: host.identity_file.as_ref().map(path),
            known_hosts: host.known_hosts.as_ref().map(path),
            host_key: host.host_key.clone(),
            same_key,
            jump: jump.map(|jump| Box::new(self.endpoint(jump))),
        }
    }
}

#[async_trait]
impl Connector for Machines {
    async fn connect(&self, machine: &str, deadline: Instant) -> Result<Arc<dyn Transport>, CallError> {
        self.open(machine, None, None, deadline, &self.ssh).await
    }

    async fn connect_bulk(&self, machine: &str, deadline: Instant) -> Result<Arc<dyn Transport>, CallError> {
        self.open(machine, None, None, deadline, &ConnectOptions { bulk: true, ..self.ssh.clone() }).await
    }

    async fn connect_again(
        &self,
        machine: &str,
        address: Option<&str>,
        host_key: Option<&str>,
        deadline: Instant,
    ) -> Result<Arc<dyn Transport>, CallError> {
        self.open(machine, address, host_key, deadline, &self.ssh).await
    }

    fn moved(&self, machine: &str, address: &str, host_key: Option<&str>) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.insert(machine.to_owned(), (address.to_owned(), host_key.map(str::to_owned)));
    }

    fn become_of(&self, machine: &str) -> Become {
        self.inventory.elevation.get(machine).cloned().unwrap_or_default()
    }
}

impl Machines {
    async fn open(
        &self,
        machine: &str,
        address: Option<&str>,
        host_key: Option<&str>,
        deadline: Instant,
        options: &ConnectOptions,
    ) -> Result<Arc<dyn Transport>, CallError> {
        let host = self
            .inventory
            .hosts
            .get(machine)
            .ok_or_else(|| CallError::Invalid(format!("there is no host {machine}")))?;
        match host.transport {
            HostTransport::Local => Ok(Arc::new(LocalTransport::new(None))),
            HostTransport::None => {
                Err(CallError::Invalid(format!("{machine} has `transport = \"none\"`: nothing runs on it")))
            }
            HostTransport::Ssh => {
                let mut endpoint = self.endpoint(host);
                if let Some(address) = address {
                    endpoint.addresses = vec![address.to_owned()];
                }
                if let Some(host_key) = host_key {
                    endpoint.same_key = Some(host_key.to_owned());
                }
                match tokio::time::timeout_at(deadline.into(), connect(&endpoint, options)).await {
                    Ok(Ok(transport)) => Ok(Arc::new(transport)),
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err(CallError::TimedOut(format!("{machine}: the step's time was over while connecting"))),
                }
            }
        }
    }
}

/// Kubeconfigs from files, and from commands on hosts.
struct Kubeconfigs {
    inventory: Arc<Inventory>,
    connector: Arc<Machines>,
    machines: Arc<SshBackend>,
}

#[async_trait]
impl KubeconfigSource for Kubeconfigs {
    async fn kubeconfig(&self, cluster: &str, ctx: &CallContext) -> Result<ClusterAccess, CallError> {
        let known = self.inventory.clusters.get(cluster);
        let known = known.ok_or_else(|| CallError::Invalid(format!("there is no cluster {cluster}")))?;
        let (kubeconfig, origin) = match &known.kubeconfig {
            Kubeconfig::File(path) => {
                let path = PathBuf::from(prepare::absolute(path, &self.inventory.folder, &self.inventory.home));
                let text = tokio::fs::read_to_string(&path).await.map_err(|error| {
                    CallError::Invalid(format!(
                        "the kubeconfig of {cluster} cannot be read: {}: {error}",
                        path.display()
                    ))
                })?;
                (text, Origin::File(path))
            }
            Kubeconfig::Host { hosts, command, privileged } => {
                self.ask_hosts(cluster, hosts, command, *privileged, ctx).await?
            }
        };
        Ok(ClusterAccess {
            kubeconfig,
            origin,
            context: known.context.clone(),
            server: known.server.clone(),
            uid: known.uid.clone(),
            via: known.via.clone().and_then(|host| self.via(host)),
        })
    }
}

/// The way to an API server through a host.
struct Through {
    host: String,
    connector: Arc<Machines>,
    /// Opened at the first use; the streams live on it.
    transport: OnceCell<RusshTransport>,
}

#[async_trait]
impl Dial for Through {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        let open = || async {
            let inventory = &self.connector.inventory;
            let known = inventory
                .hosts
                .get(&self.host)
                .ok_or_else(|| io::Error::other(format!("there is no host {}", self.host)))?;
            connect(&self.connector.endpoint(known), &self.connector.ssh).await.map_err(io::Error::other)
        };
        let transport = self.transport.get_or_try_init(open).await?;
        Ok(Box::new(transport.dial(host, port).await?))
    }
}

impl Kubeconfigs {
    /// None for this machine itself: then the way is direct.
    fn via(&self, host: String) -> Option<Arc<dyn Dial>> {
        let local = self.inventory.hosts.get(&host).is_some_and(|known| known.transport == HostTransport::Local);
        (!local).then(|| {
            Arc::new(Through { host, connector: Arc::clone(&self.connector), transport: OnceCell::new() }) as _
        })
    }

    /// The first host that answers.
    async fn ask_hosts(
        &self,
        cluster: &str,
        hosts: &[String],
        argv: &[String],
        privileged: bool,
        ctx: &CallContext,
    ) -> Result<(String, Origin), CallError> {
        let command = Command { argv: argv.to_vec(), privileged, timeout_ms: Some(60_000), ..Command::default() };
        let look = Look::Ssh(SshLook::Observe { commands: vec![command] });
        let mut failed = Vec::new();
        for host in hosts {
            match self.machines.look(&Target::Machine(host.clone()), &look, ctx).await {
                Ok(Answer::Outputs(outputs)) => match outputs.into_iter().next() {
                    Some(output) if output.exit.success() => {
                        let text = output.stdout.lossy().into_owned();
                        return Ok((text, Origin::Machine(host.clone())));
                    }
                    Some(output) => {
                        let stderr = output.stderr.lossy();
                        let tail = stderr.trim().lines().last().unwrap_or_default();
                        failed.push(format!("{host}: {}: {tail}", output.exit));
                    }
                    None => failed.push(format!("{host}: no answer")),
                },
                Ok(_) => failed.push(format!("{host}: an answer of another kind")),
                Err(error) => failed.push(format!("{host}: {error}")),
            }
        }
        Err(CallError::Unreachable(format!(
            "the kubeconfig of {cluster} could not be got by `{}`: {}",
            argv.join(" "),
            failed.join("; ")
        )))
    }
}
