//! The file `hosts.toml` of one registry, which containerd reads at each pull.

use super::input::Registry;

/// Its text. The scheme stands in the key of the `host` table: without it, https is tried.
pub(super) fn text(registry: &Registry, authority: Option<&str>) -> String {
    let url = registry.url();
    let server = match registry.mirror_of.as_deref() {
        None => url.clone(),
        // The API of docker.io lives under another name.
        Some("docker.io") => "https://registry-1.docker.io".to_owned(),
        Some(host) => format!("https://{host}"),
    };
    let capabilities: Vec<String> = registry.capabilities.iter().map(|word| quoted(word)).collect();
    let mut lines = vec![
        format!("server = {}", quoted(&server)),
        String::new(),
        format!("[host.{}]", quoted(&url)),
        format!("capabilities = [{}]", capabilities.join(", ")),
    ];
    lines.extend(authority.map(|path| format!("ca = {}", quoted(path))));
    lines.extend(registry.skip_verify.then(|| "skip_verify = true".to_owned()));
    lines.extend(registry.mirror_path.is_some().then(|| "override_path = true".to_owned()));
    lines.push(String::new());
    lines.join("\n")
}

/// A basic string of TOML.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use runbook_sdk::prelude::*;

    use super::super::input::registry;
    use super::*;

    #[test]
    fn plain_http_is_as_it_was_recorded() {
        let registry = registry(json!({ "endpoint": "registry.localdomain:32000", "insecure": true })).unwrap();
        let recorded = include_str!("../../testdata/registry_hosts.toml");
        assert_eq!(text(&registry, None).trim_end(), recorded.trim_end());
    }

    #[test]
    fn https_and_mirrors() {
        let with = json!({ "endpoint": "m.lan:5000", "mirror_of": "docker.io", "mirror_path": "/v2/hub",
            "skip_verify": true, "capabilities": ["pull"] });
        assert_eq!(
            text(&registry(with).unwrap(), Some("/etc/ca.crt")),
            "server = \"https://registry-1.docker.io\"\n\n[host.\"https://m.lan:5000/v2/hub\"]\ncapabilities = [\"pull\"]\n\
             ca = \"/etc/ca.crt\"\nskip_verify = true\noverride_path = true\n"
        );
    }
}
