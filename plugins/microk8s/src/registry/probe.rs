//! Whether the registry answers the node, and if not: its name, the connection, or the scheme.

use runbook_sdk::prelude::*;

use super::input::{Authority, Registry};
use super::node::Node;

/// What is wrong, in words; nothing where the registry's API answers the node.
pub(super) fn answers(registry: &Registry, node: &Node) -> Result<Vec<String>> {
    let authority = match &registry.authority {
        Some(Authority::Pem(pem)) => Some(pem.clone()),
        Some(Authority::Path(path)) => Some(node.machine.files().read_text(path)?),
        None => None,
    };
    let Err(error) = ask(registry, node, registry.scheme(), authority.as_deref(), registry.skip_verify)? else {
        return Ok(Vec::new());
    };
    Ok(vec![why(registry, node, &error)?])
}

/// One request to the API. The outer error: the node itself cannot be asked.
fn ask(
    registry: &Registry,
    node: &Node,
    scheme: &str,
    authority: Option<&str>,
    insecure: bool,
) -> Result<Result<(), String>> {
    let url = format!("{scheme}://{}/v2/", registry.endpoint);
    let request = node.machine.http("GET", &url);
    let request = match authority {
        _ if insecure => request.insecure(),
        Some(pem) => request.authority(pem),
        None => request,
    };
    match request.look() {
        // 401: it is one, and asks for a login.
        Ok(response) if matches!(response.status, 200 | 401) => Ok(Ok(())),
        Ok(response) => {
            let text: String = response.text().trim().chars().take(200).collect();
            Ok(Err(format!("{url} answers with status {}: {text}", response.status)))
        }
        Err(error) if matches!(error.kind(), Kind::Unreachable | Kind::TimedOut | Kind::Failed) => {
            Ok(Err(error.message().to_owned()))
        }
        Err(error) => Err(error),
    }
}

/// Looks one layer after the other, and says the first that is not well.
fn why(registry: &Registry, node: &Node, error: &str) -> Result<String> {
    let (endpoint, host, port, name) = (&registry.endpoint, registry.host(), registry.port(), node.name());
    let resolves = node.machine.cmd(["getent", "hosts", host]).timeout(Period::seconds(20)).observe()?;
    // 2: looked, and it is in no database. Another code: there is no getent, or it could not look.
    if resolves.code() == Some(2) {
        return Ok(match &registry.address {
            Some(address) => format!(
                "the name {host} does not resolve on {name}, although /etc/hosts says {address}: look at `hosts:` in /etc/nsswitch.conf"
            ),
            None => format!(
                "the name {host} does not resolve on {name}: give the registry's IP address as `address` (it goes into /etc/hosts), \
                 or add it to the DNS server that the node asks"
            ),
        });
    }
    let resolved = resolves.text();
    let at = resolved
        .split_whitespace()
        .next()
        .filter(|_| resolves.success())
        .map_or(String::new(), |ip| format!(" ({ip})"));
    if !node.machine.tcp(host, port, Period::seconds(10))? {
        return Ok(format!(
            "the name {host}{at} resolves on {name}, but nothing accepts a connection on port {port}: is the registry running, is \
             that its address and port, is there a firewall between? (`microk8s kubectl -n container-registry get pods` for \
             MicroK8s' own)"
        ));
    }
    let other = if registry.insecure { "https" } else { "http" };
    if ask(registry, node, other, None, true)?.is_ok() {
        return Ok(match registry.insecure {
            true => format!(
                "the scheme is wrong: {endpoint} answers {name} over https, not over http. Leave `insecure` out, and give its \
                 authority as `ca`, or `skip_verify = true`"
            ),
            false => format!(
                "the scheme is wrong: {endpoint} answers {name} over plain http, not over https (containerd would say \"server gave \
                 HTTP response to HTTPS client\"). Set `insecure = true`"
            ),
        });
    }
    if !registry.insecure && !registry.skip_verify && ask(registry, node, "https", None, true)?.is_ok() {
        return Ok(format!(
            "{name} does not trust the certificate of {endpoint}: give the authority that signed it as `ca` (and use the name that \
             the certificate has), or `skip_verify = true`. {error}"
        ));
    }
    Ok(format!("{endpoint}{at} accepts connections from {name}, but does not answer as a registry does: {error}"))
}
