//! What containerd says when a pull fails, in words that say what to do.

use super::input::Registry;

/// What is wrong, and how to mend it. What is not known is passed on as it is.
pub(super) fn explain(said: &str, registry: &Registry) -> String {
    let endpoint = &registry.endpoint;
    let host = registry.host();
    let has = |needle: &str| said.contains(needle);
    let why = if has("server gave HTTP response to HTTPS client") {
        if registry.insecure {
            format!(
                "containerd still asks {endpoint} over https, although the node has its hosts.toml: was containerd started with another configuration? `microk8s stop && microk8s start`"
            )
        } else {
            format!("the scheme is wrong: {endpoint} speaks plain http. Set `insecure = true`")
        }
    } else if has("Client sent an HTTP request to an HTTPS server") || has("malformed HTTP response") {
        format!("the scheme is wrong: {endpoint} speaks https. Leave `insecure` out, and give `ca` or `skip_verify`")
    } else if has("no such host") || has("server misbehaving") || has("Temporary failure in name resolution") {
        format!("the name does not resolve on the node: {host}. Give its IP address as `address`, for /etc/hosts")
    } else if has("x509:") || has("certificate") {
        format!(
            "the certificate of {endpoint} is not trusted: give the authority that signed it as `ca`, or `skip_verify = true`"
        )
    } else if has("connection refused") {
        format!("nobody listens at {endpoint}: the registry does not run, or the port is another one")
    } else if has("no route to host") || has("i/o timeout") || has("network is unreachable") || has("deadline exceeded")
    {
        format!("there is no connection to {endpoint}: the machine is down, or a firewall is between")
    } else if has("unauthorized") || has("401") || has("403") || has("authorization failed") || has("no basic auth") {
        format!("{endpoint} asks for a login, which this action does not set up: use an image that anybody may pull")
    } else if has("not found") || has("manifest unknown") {
        format!(
            "the registry answers, and does not have the image: push it to {endpoint} (again, if the registry's data is new)"
        )
    } else {
        return last_line(said);
    };
    format!("{why} (containerd says: {})", last_line(said))
}

/// The last line, without what is said twice.
fn last_line(said: &str) -> String {
    let line = said.trim().lines().next_back().unwrap_or_default().trim();
    match line.char_indices().nth(400) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use runbook_sdk::prelude::*;

    use super::super::input::registry;
    use super::*;

    #[test]
    fn what_containerd_says_becomes_advice() {
        let https = registry(json!({ "endpoint": "registry.localdomain:32000" })).unwrap();
        let recorded = include_str!("../../testdata/ctr_pull_https_error.txt");
        let text = explain(recorded, &https);
        assert!(text.starts_with("the scheme is wrong: registry.localdomain:32000 speaks plain http"), "{text}");
        for (said, word) in [
            ("dial tcp: lookup registry.localdomain: no such host", "`address`"),
            ("dial tcp 192.168.1.5:32000: connect: connection refused", "nobody listens"),
            ("registry.localdomain:32000/app:1: not found", "push it"),
            ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "`ca`"),
            ("dial tcp 192.168.1.5:32000: i/o timeout", "firewall"),
        ] {
            assert!(explain(said, &https).contains(word), "{said}");
        }
        assert_eq!(explain("a\nnobody knows this\n", &https), "nobody knows this");
    }
}
