//! From what the inventory says of a host to what is dialled: its own words first, then ssh_config, then defaults. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::Login;
use crate::config::{HostConfig, JumpSpec, Local, SshConfig, Tokens, expand};
use crate::connect::{ConnectOptions, Endpoint};
use crate::known_hosts::Names;

/// The key files that OpenSSH tries where none is named, in `~/.ssh`.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// One address of a host, with all that dialling it needs.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Name or IP address to connect to.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Login,
    pub(crate) names: Names,
    /// Under which name a new line in known_hosts would stand.
    pub(crate) entry: String,
    pub(crate) known_hosts: Vec<PathBuf>,
    pub(crate) jump: Option<Endpoint>,
    pub(crate) timeout: Duration,
    pub(crate) keepalive: Option<Duration>,
    /// What a person should know when it does not work.
    pub(crate) notes: Vec<String>,
}

impl Route {
    /// "ubuntu@10.0.0.1:22".
    pub(crate) fn place(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{}@{host}:{}", self.login.user, self.port)
    }
}

/// The route to `address`, which is one of the endpoint's.
pub(crate) fn route(endpoint: &Endpoint, address: &str, config: &SshConfig, options: &ConnectOptions) -> Route {
    let local = &options.local;
    let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let found = config.lookup(address, Some(&endpoint.name));
    let user = endpoint.user.clone().or_else(|| found.user.clone()).unwrap_or_else(|| local.user.clone());
    let port = endpoint.port.or(found.port).unwrap_or(22);
    let named = Tokens { local, host: address, alias: &endpoint.name, user: &user, port };
    let host = found.host_name.as_deref().map_or_else(|| address.to_owned(), |h| expand(h, &named));
    let tokens = Tokens { host: &host, ..named };

    let entry = with_port(found.host_key_alias.as_deref().unwrap_or(&host), port, found.host_key_alias.is_some());
    let mut notes = Vec::new();
    if let Some(command) = &found.proxy_command
        && !command.eq_ignore_ascii_case("none")
        && endpoint.jump.is_none()
    {
        notes.push(format!(
            "ssh_config says ProxyCommand {command:?} for it, which is not supported: use `jump` or ProxyJump"
        ));
    }
    Route {
        login: login(endpoint, &found, &tokens, &user, options),
        names: names(endpoint, &found, address, &host, port),
        entry,
        known_hosts: known_hosts(endpoint, &found, &tokens, options),
        jump: jump(endpoint, &found, address, &host),
        timeout: found.connect_timeout.unwrap_or(options.connect_timeout),
        keepalive: found.server_alive_interval.or(Some(options.keepalive)).filter(|k| !k.is_zero()),
        notes,
        host,
        port,
    }
}

fn login(endpoint: &Endpoint, found: &HostConfig, tokens: &Tokens<'_>, user: &str, options: &ConnectOptions) -> Login {
    let own = endpoint.identity_file.iter().map(|f| expand(&f.to_string_lossy(), tokens));
    let configured = found.identity_files.iter().map(|f| expand(f, tokens));
    let mut seen = BTreeSet::new();
    let files = own.chain(configured).map(PathBuf::from).filter(|f| seen.insert(f.clone())).collect();
    let agent = match found.identity_agent.as_deref() {
        Some(agent) if agent.eq_ignore_ascii_case("none") => None,
        None | Some("SSH_AUTH_SOCK") => options.agent.clone(),
        Some(agent) => match agent.strip_prefix('$').filter(|a| !a.starts_with('{')) {
            Some(variable) => std::env::var_os(variable).map(PathBuf::from),
            None => Some(PathBuf::from(expand(agent, tokens))),
        },
    };
    Login {
        user: user.to_owned(),
        files,
        defaults: DEFAULT_KEYS.iter().map(|k| options.local.home.join(".ssh").join(k)).collect(),
        identities_only: found.identities_only.unwrap_or(false),
        agent,
    }
}

/// Identity is the host key, not the address: the inventory's name speaks first, then ssh_config's alias for keys, then the
/// address that is dialled. The other addresses of the host, and an address without its port (as OpenSSH), can vouch as well.
fn names(endpoint: &Endpoint, found: &HostConfig, address: &str, host: &str, port: u16) -> Names {
    let mut groups = vec![vec![with_port(&endpoint.name, port, false)]];
    let is_address = endpoint.name == host || endpoint.addresses.contains(&endpoint.name);
    if port != 22 && !is_address {
        // A name of the inventory means the machine, whatever the port.
        groups[0].push(endpoint.name.clone());
    }
    groups.extend(found.host_key_alias.iter().map(|alias| vec![alias.clone()]));
    groups.push(vec![with_port(host, port, false)]);
    let mut also = vec![host.to_owned(), with_port(address, port, false)];
    also.extend(endpoint.addresses.iter().map(|a| with_port(a, port, false)));
    Names { groups, also }
}

fn with_port(host: &str, port: u16, bare: bool) -> String {
    if port == 22 || bare { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// The inventory's own file comes first: new lines are best added there, as it travels with the runbook.
fn known_hosts(endpoint: &Endpoint, found: &HostConfig, tokens: &Tokens<'_>, options: &ConnectOptions) -> Vec<PathBuf> {
    let expanded = |files: &[String]| -> Vec<PathBuf> {
        files.iter().filter(|f| !f.eq_ignore_ascii_case("none")).map(|f| PathBuf::from(expand(f, tokens))).collect()
    };
    let own = endpoint.known_hosts.iter().map(|f| PathBuf::from(expand(&f.to_string_lossy(), tokens)));
    let user = found.user_known_hosts.as_deref().map_or_else(|| options.known_hosts.clone(), expanded);
    let global = found.global_known_hosts.as_deref().map_or_else(|| options.global_known_hosts.clone(), expanded);
    own.chain(user).chain(global).collect()
}

/// The inventory's jump host, else those of ssh_config. A host is not its own jump host, whatever `Host *` says.
fn jump(endpoint: &Endpoint, found: &HostConfig, address: &str, host: &str) -> Option<Endpoint> {
    if let Some(jump) = &endpoint.jump {
        return Some((**jump).clone());
    }
    let specs = found.proxy_jump.as_deref()?;
    let own = |s: &JumpSpec| s.host == address || s.host == host || s.host == endpoint.name;
    if specs.iter().any(own) {
        return None;
    }
    specs.iter().fold(None, |before, spec| {
        Some(Endpoint {
            name: spec.host.clone(),
            addresses: vec![spec.host.clone()],
            port: spec.port,
            user: spec.user.clone(),
            jump: before.map(Box::new),
            ..Endpoint::default()
        })
    })
}

/// The person who runs the program, from the environment.
pub(crate) fn local_user() -> Local {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let user = ["USER", "LOGNAME"].iter().find_map(|v| std::env::var(v).ok()).filter(|u| !u.is_empty());
    Local { home, user: user.unwrap_or_else(|| "root".to_owned()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
