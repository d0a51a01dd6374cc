//! From an [`Endpoint`] to a [`RusshTransport`]: addresses in turn, jump hosts, host key, login.
//!
//! Each host has its own connection to its jump host: a slow reader on one host then cannot hold up another one behind the same
//! jump host.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use runbook_model::call::CallError;
use russh::client::{self, Handle};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::auth::{AuthError, First, Keyring, NoPrompts, Prompts, Refused, authenticate};
use crate::client::{Client, Link, RusshTransport, Told};
use crate::config::{Local, SshConfig};
use crate::host_key::{Expected, HostKeyError, read_known_hosts};
use crate::prompt::Prompt;
use crate::route::{Route, local_user, route};

/// Jump hosts behind jump hosts: more is a circle.
const MAX_JUMPS: usize = 8;
/// Keepalives without an answer until the connection counts as lost.
const KEEPALIVE_LOST: usize = 3;
/// Nothing at all moved, in either direction: catches a peer that vanished while our own data could not be sent.
const INACTIVITY: Duration = Duration::from_secs(180);
/// A server that hangs up before it said anything is busy (`MaxStartups`) or just starting: it is asked this often.
const HANDSHAKES: u32 = 4;
/// Pause before asking again, times the number of the attempt.
const HANDSHAKE_PAUSE: Duration = Duration::from_millis(300);

/// A host as the inventory describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Name in the inventory: the first name under which its host key is looked up.
    pub name: String,
    /// Names or IP addresses (or aliases of ssh_config), tried in order.
    pub addresses: Vec<String>,
    /// TCP port; none: what ssh_config says, else 22.
    pub port: Option<u16>,
    /// Login name; none: what ssh_config says, else the local one.
    pub user: Option<String>,
    /// Private key to try first; `~` stands for the home directory.
    pub identity_file: Option<PathBuf>,
    /// A known_hosts file beside the user's and the system's.
    pub known_hosts: Option<PathBuf>,
    /// "SHA256:...": the only key that is accepted.
    pub host_key: Option<String>,
    /// The fingerprint that it showed earlier in this run, before its address changed: then the only key that is accepted.
    pub same_key: Option<String>,
    /// The host through which this one is reached; none: what ssh_config says.
    pub jump: Option<Box<Endpoint>>,
}

/// What holds for all hosts.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Who runs the program, and where their files are.
    pub local: Local,
    /// The ssh_config files, in order; those that are not there are empty.
    pub ssh_config: Vec<PathBuf>,
    /// The user's known_hosts files, unless ssh_config names others.
    pub known_hosts: Vec<PathBuf>,
    /// The system's known_hosts files, unless ssh_config names others.
    pub global_known_hosts: Vec<PathBuf>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    /// For each address: to connect, and again to agree on keys; unless ssh_config says otherwise.
    pub connect_timeout: Duration,
    /// How often a silent server is asked whether it is there; unless ssh_config says otherwise. Zero: never.
    pub keepalive: Duration,
    /// Asks for passphrases.
    pub prompts: Arc<dyn Prompts>,
    /// Keys that were decrypted before.
    pub keyring: Arc<Keyring>,
    /// A connection for one stream of any size: the reader's pace slows the sender down, and with it all processes on this
    /// connection. Otherwise a slow reader never holds up another one (see the notes of [`RusshTransport`]).
    pub bulk: bool,
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions").field("local", &self.local).finish_non_exhaustive()
    }
}

impl ConnectOptions {
    /// As ssh of this user would do: their files, the system's, and the agent of the environment.
    pub fn from_env(prompts: Arc<dyn Prompts>) -> Self {
        let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty()).map(PathBuf::from);
        let system = |name: &str| PathBuf::from("/etc/ssh").join(name);
        let mut options = Self::bare(local_user());
        options.ssh_config.push(system("ssh_config"));
        options.global_known_hosts = vec![system("ssh_known_hosts"), system("ssh_known_hosts2")];
        Self { agent, prompts, ..options }
    }

    /// The files in the home directory alone: no agent, nothing of the system, nobody to ask.
    pub fn bare(local: Local) -> Self {
        let ssh = local.home.join(".ssh");
        Self {
            ssh_config: vec![ssh.join("config")],
            known_hosts: vec![ssh.join("known_hosts"), ssh.join("known_hosts2")],
            global_known_hosts: Vec::new(),
            agent: None,
            connect_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(15),
            prompts: Arc::new(NoPrompts),
            keyring: Arc::new(Keyring::default()),
            bulk: false,
            local,
        }
    }
}

/// Why there is no connection: each address with its reason.
#[derive(Debug)]
pub struct ConnectError {
    /// Name in the inventory.
    pub host: String,
    /// Addresses as they were dialled, and what happened there; empty where it did not come to that.
    pub attempts: Vec<(String, Reason)>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// What happened at one address.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// A file that has to be read cannot be.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The inventory or ssh_config makes no sense.
    #[error("{0}")]
    Setup(String),
    /// The name has no address.
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// Nobody listens, or there is no way there.
    #[error("{0}; is the machine up, and does sshd listen on this port?")]
    Tcp(io::Error),
    /// Nobody answered in time.
    #[error("no answer {doing} within {:.0} s; is the machine up, and the way there free?", after.as_secs_f32())]
    Silent {
        /// What was waited for.
        doing: &'static str,
        /// How long.
        after: Duration,
    },
    /// The jump host did not connect us.
    #[error("the jump host {jump} cannot reach it: {error}")]
    Forward {
        /// The jump host.
        jump: String,
        /// What it said.
        error: String,
    },
    /// What answers does not speak SSH as we do.
    #[error("{0}")]
    Handshake(String),
    /// What answers is not believed to be the host.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// It is the host, and lets nobody in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// There is no connection to the jump host.
    #[error("its jump host: {0}")]
    Jump(Box<ConnectError>),
}

impl Reason {
    /// Waiting will not help: a person has to change something.
    pub fn is_final(&self) -> bool {
        match self {
            Self::File { .. } | Self::Setup(_) | Self::HostKey(_) | Self::Auth(_) => true,
            Self::Resolve(_) | Self::Tcp(_) | Self::Silent { .. } | Self::Forward { .. } | Self::Handshake(_) => false,
            Self::Jump(error) => error.is_final(),
        }
    }
}

impl ConnectError {
    /// Waiting will not help: a person has to change something.
    pub fn is_final(&self) -> bool {
        self.attempts.iter().any(|(_, reason)| reason.is_final())
    }

    fn setup(endpoint: &Endpoint, reason: Reason) -> Self {
        Self { host: endpoint.name.clone(), attempts: vec![(String::new(), reason)], notes: Vec::new() }
    }
}

impl std::error::Error for ConnectError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}: ", self.host)?;
        for (index, (place, reason)) in self.attempts.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\nand " };
            let colon = if place.is_empty() { "" } else { ": " };
            write!(f, "{separator}{place}{colon}{reason}")?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

impl From<ConnectError> for CallError {
    fn from(error: ConnectError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// Connects and logs in.
///
/// The addresses are tried in order until one leads to the host, as its key proves; whoever else answers there is passed over, and
/// named when nothing else is found. A host that lets nobody in is not tried at its other addresses.
///
/// # Errors
///
/// What happened at each address. Nothing was run anywhere.
pub async fn connect(endpoint: &Endpoint, options: &ConnectOptions) -> Result<RusshTransport, ConnectError> {
    let config = SshConfig::read(&options.ssh_config, &options.local)
        .map_err(|(path, error)| ConnectError::setup(endpoint, Reason::File { path, error }))?;
    let link = Dial { config: &config, options }.link(endpoint, 0).await?;
    Ok(RusshTransport::new(link, options.bulk))
}

struct Dial<'a> {
    config: &'a SshConfig,
    options: &'a ConnectOptions,
}

/// What an attempt at one stream gave.
enum Failed {
    /// It ended before anything was said of the host.
    HungUp(String),
    /// The pinned key is not the one shown; the server may have others.
    OtherKey(String),
    Reason(Reason),
}

impl Dial<'_> {
    /// A logged-in connection to a host, through its jump hosts. Boxed, since jump hosts have jump hosts.
    fn link<'a>(&'a self, endpoint: &'a Endpoint, depth: usize) -> BoxFuture<'a, Result<Arc<Link>, ConnectError>> {
        async move {
            if depth > MAX_JUMPS {
                let text = format!("more than {MAX_JUMPS} jump hosts, one behind the other: do they go in a circle?");
                return Err(ConnectError::setup(endpoint, Reason::Setup(text)));
            }
            if endpoint.addresses.is_empty() {
                let text = "it has no address".to_owned();
                return Err(ConnectError::setup(endpoint, Reason::Setup(text)));
            }
            let mut failed =
                ConnectError { host: endpoint.name.clone(), attempts: Vec::new(), notes: self.config.notes().to_vec() };
            for address in &endpoint.addresses {
                let route = route(endpoint, address, self.config, self.options);
                failed.notes.extend(route.notes.iter().cloned());
                match self.dial(endpoint, address, &route, depth).await {
                    Ok(link) => return Ok(Arc::new(link)),
                    Err(reason) => {
                        let stop = matches!(reason, Reason::Auth(_) | Reason::File { .. });
                        failed.attempts.push((route.place(), reason));
                        if stop {
                            break;
                        }
                    }
                }
            }
            Err(failed)
        }
        .boxed()
    }

    async fn dial(&self, endpoint: &Endpoint, address: &str, route: &Route, depth: usize) -> Result<Link, Reason> {
        let known = read_known_hosts(&route.known_hosts, &route.names);
        let known = known.map_err(|(path, error)| Reason::File { path, error })?;
        let expected = Arc::new(Expected {
            known,
            names: route.names.clone(),
            pin: endpoint.same_key.as_ref().or(endpoint.host_key.as_ref()).cloned(),
            shown_before: endpoint.same_key.is_some(),
            entry: route.entry.clone(),
            file: route
                .known_hosts
                .first()
                .cloned()
                .unwrap_or_else(|| self.options.local.home.join(".ssh/known_hosts")),
        });
        let via = match &route.jump {
            Some(jump) => Some(self.link(jump, depth + 1).await.map_err(|e| Reason::Jump(Box::new(e)))?),
            None => None,
        };
        let (prompts, keyring) = (&*self.options.prompts, &*self.options.keyring);
        let mut first = First::Key;
        let (handle, told) = loop {
            let (mut handle, told) = self.greet(route, via.as_deref(), &expected).await?;
            match authenticate(&mut handle, &route.login, prompts, keyring, first).await {
                Ok(()) => break (handle, told),
                // It may be a server that wants no key at all, and goes away when it is shown one.
                Err(Refused { hung_up_unasked: true, .. }) if first == First::Key => first = First::Nothing,
                Err(refused) => return Err(refused.error.into()),
            }
        };
        let label = format!("{} ({})", endpoint.name, route.place());
        Ok(Link { handle, told, label, address: address.to_owned(), via })
    }

    /// A stream to the server on which keys are agreed and the host is believed.
    async fn greet(
        &self,
        route: &Route,
        via: Option<&Link>,
        expected: &Arc<Expected>,
    ) -> Result<(Handle<Client>, Arc<Told>), Reason> {
        let mut shown: Vec<String> = Vec::new();
        let mut except: Vec<String> = Vec::new();
        let mut attempt = 1;
        loop {
            let failed = match via {
                None => self.shake(route, tcp(route).await?, expected, &except).await,
                Some(link) => self.shake(route, forwarded(route, link).await?, expected, &except).await,
            };
            match failed {
                Ok(found) => return Ok(found),
                Err(Failed::HungUp(_)) if attempt < HANDSHAKES => {
                    sleep(HANDSHAKE_PAUSE * attempt).await;
                    attempt += 1;
                }
                Err(Failed::HungUp(error)) => {
                    let text = format!("the server hung up before the login, {attempt} times: {error}; see its log");
                    return Err(Reason::Handshake(text));
                }
                Err(Failed::OtherKey(key)) => {
                    // A server shows one key of those that it has: ask for another type, once for each.
                    let kind = key.split(' ').next().unwrap_or_default().to_owned();
                    shown.push(key);
                    if except.contains(&kind) {
                        return Err(pinned(expected, shown));
                    }
                    except.push(kind);
                }
                Err(Failed::Reason(Reason::Handshake(_))) if !shown.is_empty() => return Err(pinned(expected, shown)),
                Err(Failed::Reason(reason)) => return Err(reason),
            }
        }
    }

    async fn shake<S>(
        &self,
        route: &Route,
        stream: S,
        expected: &Arc<Expected>,
        except: &[String],
    ) -> Result<(Handle<Client>, Arc<Told>), Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let preferred = expected.preferred(except);
        if preferred.key.is_empty() {
            return Err(Failed::Reason(Reason::Handshake("no type of host key is left".to_owned())));
        }
        let config = client::Config {
            preferred,
            nodelay: true,
            keepalive_interval: route.keepalive,
            keepalive_max: KEEPALIVE_LOST,
            inactivity_timeout: Some(INACTIVITY),
            ..client::Config::default()
        };
        let told = Arc::new(Told::default());
        let client = Client { expected: Arc::clone(expected), told: Arc::clone(&told) };
        let error = match timeout(route.timeout, client::connect_stream(Arc::new(config), stream, client)).await {
            Ok(Ok(handle)) => return Ok((handle, told)),
            Ok(Err(error)) => error,
            Err(_) => {
                let reason = Reason::Silent { doing: "to the SSH greeting", after: route.timeout };
                return Err(Failed::Reason(reason));
            }
        };
        Err(match (told.refusal(), error) {
            (Some(HostKeyError::Pinned { mut shown, .. }), _) if shown.len() == 1 => Failed::OtherKey(shown.remove(0)),
            (Some(refusal), _) => Failed::Reason(refusal.into()),
            (None, error @ (russh::Error::HUP | russh::Error::Disconnect | russh::Error::IO(_))) => {
                Failed::HungUp(error.to_string())
            }
            (None, error @ russh::Error::Version) => {
                Failed::Reason(Reason::Handshake(format!("it does not speak SSH 2: {error}; is this the right port?")))
            }
            (None, error) => Failed::Reason(Reason::Handshake(format!("no agreement with the server: {error}"))),
        })
    }
}

fn pinned(expected: &Expected, shown: Vec<String>) -> Reason {
    let pin = expected.pin.clone().unwrap_or_default();
    match expected.shown_before {
        true => HostKeyError::NotTheSame { shown, before: pin }.into(),
        false => HostKeyError::Pinned { shown, pin }.into(),
    }
}

/// A connection to the first of the addresses behind the name that answers.
async fn tcp(route: &Route) -> Result<Prompt, Reason> {
    let silent = |doing| Reason::Silent { doing, after: route.timeout };
    let found = timeout(route.timeout, tokio::net::lookup_host((route.host.as_str(), route.port))).await;
    let found: Vec<SocketAddr> = found.map_err(|_| silent("from the name server"))?.map_err(Reason::Resolve)?.collect();
    let mut last = Reason::Resolve(io::Error::new(io::ErrorKind::NotFound, "no address for it"));
    for address in found {
        last = match timeout(route.timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it each small request waits for the answer to the one before: 44 ms instead of 2.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%address, %error, "TCP_NODELAY is not set");
                }
                return Ok(Prompt(stream));
            }
            Ok(Err(error)) => Reason::Tcp(error),
            Err(_) => silent("to the connection"),
        };
    }
    Err(last)
}

/// A stream through the jump host; the name is resolved there.
async fn forwarded(route: &Route, link: &Link) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Reason> {
    let opening = link.handle.channel_open_direct_tcpip(&route.host, u32::from(route.port), "127.0.0.1", 0);
    match timeout(route.timeout, opening).await {
        Ok(Ok(channel)) => Ok(channel.into_stream()),
        Ok(Err(error)) => Err(Reason::Forward { jump: link.label.clone(), error: forward_error(&error) }),
        Err(_) => Err(Reason::Silent { doing: "to the connection through the jump host", after: route.timeout }),
    }
}

fn forward_error(error: &russh::Error) -> String {
    use russh::ChannelOpenFailure as Failure;
    match error {
        russh::Error::ChannelOpenFailure(Failure::ConnectFailed) => {
            "nobody answers there; is the machine up, and does sshd listen on this port?".to_owned()
        }
        russh::Error::ChannelOpenFailure(Failure::AdministrativelyProhibited) => {
            "it may not forward; set AllowTcpForwarding yes in its sshd_config".to_owned()
        }
        other => other.to_string(),
    }
}
