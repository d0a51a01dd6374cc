//! What stands under `with`, and what it means.

use runbook_sdk::prelude::*;

/// What stands under `with`.
#[derive(Deserialize)]
pub(crate) struct Input {
    endpoint: String,
    #[serde(default)]
    insecure: bool,
    ca: Option<String>,
    #[serde(default)]
    skip_verify: bool,
    mirror_of: Option<String>,
    mirror_path: Option<String>,
    #[serde(default = "pull_and_resolve")]
    capabilities: Vec<String>,
    address: Option<String>,
    pull: Option<String>,
    #[serde(default = "default_namespace")]
    namespace: String,
    #[serde(default = "five_minutes")]
    timeout: Period,
    #[serde(default = "default_data_dir")]
    data_dir: String,
}

fn pull_and_resolve() -> Vec<String> {
    vec!["pull".to_owned(), "resolve".to_owned()]
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn five_minutes() -> Period {
    Period::minutes(5)
}

fn default_data_dir() -> String {
    "/var/snap/microk8s/current".to_owned()
}

/// The authority that signed a registry's certificate.
#[derive(Debug, PartialEq)]
pub(super) enum Authority {
    /// A file on the nodes.
    Path(String),
    /// Its PEM text.
    Pem(String),
}

/// A registry, and how it is to be reached.
#[derive(Debug)]
pub(super) struct Registry {
    /// HOST:PORT, or HOST.
    pub(super) endpoint: String,
    /// Plain http.
    pub(super) insecure: bool,
    /// None: the node's own.
    pub(super) authority: Option<Authority>,
    /// Any certificate is trusted.
    pub(super) skip_verify: bool,
    /// What it mirrors.
    pub(super) mirror_of: Option<String>,
    /// Path of the API at a mirror.
    pub(super) mirror_path: Option<String>,
    /// Of "pull", "resolve", "push".
    pub(super) capabilities: Vec<String>,
    /// For /etc/hosts.
    pub(super) address: Option<String>,
    /// Image for the proof.
    pub(super) pull: Option<String>,
    /// Of the pod that pulls.
    pub(super) namespace: String,
    /// Of the pull.
    pub(super) timeout: Period,
    /// MicroK8s' data on the node.
    pub(super) data_dir: String,
}

impl Registry {
    pub(super) fn new(input: Input) -> Result<Self> {
        let authority = input.ca.map(|ca| match ca.starts_with('/') {
            true => Authority::Path(ca),
            false => Authority::Pem(format!("{}\n", ca.trim())),
        });
        if matches!(&authority, Some(Authority::Pem(text)) if !text.contains("-----BEGIN CERTIFICATE-----")) {
            invalid!("`ca` is neither an absolute path nor a PEM text (-----BEGIN CERTIFICATE----- ...)");
        }
        if input.insecure && (authority.is_some() || input.skip_verify) {
            invalid!(
                "`insecure` means plain http, which has no certificates: leave out `ca` and `skip_verify`, or `insecure`"
            );
        }
        if input.mirror_path.is_some() && input.mirror_of.is_none() {
            invalid!("`mirror_path` is the path of a mirror: say with `mirror_of` what it mirrors");
        }
        let registry = Self {
            endpoint: input.endpoint,
            insecure: input.insecure,
            authority,
            skip_verify: input.skip_verify,
            mirror_of: input.mirror_of,
            mirror_path: input.mirror_path,
            capabilities: input.capabilities,
            address: input.address,
            pull: input.pull,
            namespace: input.namespace,
            timeout: input.timeout,
            data_dir: input.data_dir,
        };
        if let Some(address) = &registry.address {
            if address.parse::<std::net::IpAddr>().is_err() {
                invalid!("`address` is no IP address: {address}");
            }
            let host = registry.host();
            if host.parse::<std::net::IpAddr>().is_ok() || host == "localhost" {
                invalid!(
                    "`address` is for names, and the endpoint {host} is none that /etc/hosts could hold: leave it out"
                );
            }
        }
        if let Some(image) = &registry.pull {
            let host = registry.namespace_host();
            let rest = image.strip_prefix(host).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
            let last = rest.rsplit('/').next().unwrap_or_default();
            if rest.is_empty() || !last.contains([':', '@']) {
                invalid!("`pull` is an image of this registry, with its tag: {host}/NAME:TAG, not {image}");
            }
        }
        Ok(registry)
    }

    /// The endpoint without its port.
    pub(super) fn host(&self) -> &str {
        self.endpoint.split_once(':').map_or(self.endpoint.as_str(), |(host, _)| host)
    }

    /// The endpoint's port.
    pub(super) fn port(&self) -> u16 {
        let default = if self.insecure { 80 } else { 443 };
        self.endpoint.split_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(default)
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        if self.insecure { "http" } else { "https" }
    }

    /// The endpoint with its scheme.
    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.endpoint, self.mirror_path.as_deref().unwrap_or_default())
    }

    /// What stands before the first `/` of the images that are pulled from it.
    pub(super) fn namespace_host(&self) -> &str {
        self.mirror_of.as_deref().unwrap_or(&self.endpoint)
    }
}

#[cfg(test)]
pub(super) fn registry(with: Value) -> Result<Registry> {
    Registry::new(serde_json::from_value(with)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let base = json!({ "endpoint": "registry.localdomain:32000" });
        assert!(registry(base.clone()).is_ok());
        for (more, word) in [
            (json!({ "insecure": true, "skip_verify": true }), "insecure"),
            (json!({ "ca": "certs/ca.crt" }), "PEM"),
            (json!({ "mirror_path": "/v2/x" }), "mirror_of"),
            (json!({ "address": "registry" }), "address"),
            (json!({ "endpoint": "10.0.0.1:5000", "address": "10.0.0.1" }), "for names"),
            (json!({ "pull": "docker.io/library/busybox:1" }), "pull"),
            (json!({ "pull": "registry.localdomain:32000/app" }), "tag"),
        ] {
            let mut with = base.clone();
            with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let error = registry(with).unwrap_err();
            assert!(error.kind() == Kind::Invalid && error.message().contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn endpoints_are_taken_apart() {
        let plain = registry(json!({ "endpoint": "r.lan", "insecure": true })).unwrap();
        assert_eq!((plain.host(), plain.port(), plain.url().as_str()), ("r.lan", 80, "http://r.lan"));
        let mirror = json!({ "endpoint": "r.lan:5000", "mirror_of": "docker.io", "mirror_path": "/v2/hub",
            "pull": "docker.io/library/busybox:1" });
        let mirror = registry(mirror).unwrap();
        assert_eq!((mirror.port(), mirror.url().as_str()), (5000, "https://r.lan:5000/v2/hub"));
        assert_eq!(mirror.namespace_host(), "docker.io");
    }
}
