//! How a cluster is reached, as the inventory says it; and the kubeconfig read with suspicion.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kube::Config;
use kube::config::{ExecInteractiveMode, KubeConfigOptions, Kubeconfig};
use runbook_engine::backend::CallContext;
use runbook_model::call::{CallError, SourceRef};
use tokio::io::{AsyncRead, AsyncWrite};

/// Gives the kubeconfig of a cluster of the inventory.
#[async_trait]
pub trait KubeconfigSource: Send + Sync {
    /// How the cluster is reached. Asked at its first use, and again after it could not be reached.
    ///
    /// # Errors
    ///
    /// Why there is no kubeconfig: an unknown cluster, a file that is missing, a host that does not answer.
    async fn kubeconfig(&self, cluster: &str, ctx: &CallContext) -> Result<ClusterAccess, CallError>;
}

/// How a cluster is reached.
#[derive(Clone)]
pub struct ClusterAccess {
    /// The text of the kubeconfig.
    pub kubeconfig: String,
    /// Where that text is from.
    pub origin: Origin,
    /// The context in it; its current one where left out.
    pub context: Option<String>,
    /// URL of the API server, in place of the one in the kubeconfig.
    pub server: Option<String>,
    /// UID of the kube-system namespace that the cluster must have.
    pub uid: Option<String>,
    /// Connects to the API server; directly where left out.
    pub via: Option<Arc<dyn Dial>>,
}

/// Where a kubeconfig is from, which decides how far it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The user's own file: it may name other files (relative to it) and programs that give credentials.
    File(PathBuf),
    /// From another machine, named here for messages: it may name neither files nor programs of this one.
    Machine(String),
}

/// A connection to somewhere.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens TCP connections from somewhere else, such as through SSH.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Connects; the name is resolved at the other end.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>>;
}

/// Reads sources that lie on machines of the inventory.
#[async_trait]
pub trait SourceReader: Send + Sync {
    /// Opens a source for reading from its start.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    async fn open(&self, source: &SourceRef, ctx: &CallContext)
    -> Result<Box<dyn AsyncRead + Send + Unpin>, CallError>;
}

/// Reads the kubeconfig.
pub(crate) async fn config(access: &ClusterAccess) -> Result<Config, CallError> {
    let broken = |error: &dyn std::fmt::Display| {
        CallError::Invalid(format!("the kubeconfig from {} cannot be used: {error}", access.origin))
    };
    let mut kubeconfig = Kubeconfig::from_yaml(&access.kubeconfig).map_err(|e| broken(&e))?;
    match &access.origin {
        Origin::File(path) => resolve_paths(&mut kubeconfig, path.parent().unwrap_or(Path::new("."))),
        Origin::Machine(_) => refuse_local_power(&kubeconfig).map_err(|e| broken(&e))?,
    }
    let context = access.context.clone().or_else(|| kubeconfig.current_context.clone());
    let proxy = context.as_deref().and_then(|context| proxy_of(&kubeconfig, context));
    let names = kubeconfig.contexts.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|e| broken(&format_args!("{e} (contexts in it: {names})")))?;
    if let Some(server) = &access.server {
        config.cluster_url = server
            .parse()
            .map_err(|e| CallError::Invalid(format!("`server = {server:?}` of the cluster is not a URL: {e}")))?;
    }
    // The environment's proxies are not asked: the house's own cluster is seldom behind one, and nothing ambient counts.
    config.proxy_url = match proxy {
        Some(text) => Some(text.parse().map_err(|e| broken(&format_args!("proxy-url {text:?}: {e}")))?),
        None => None,
    };
    // Retries are ours, bounded by the call's deadline.
    config.default_retry = false;
    Ok(config)
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Machine(name) => write!(f, "host {name}"),
        }
    }
}

fn proxy_of(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|c| c.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|c| c.name == context.cluster)?.cluster.as_ref()?;
    cluster.proxy_url.clone().filter(|url| !url.is_empty())
}

/// Makes the paths in a user's own kubeconfig absolute, as kubectl reads them, and keeps helpers off the terminal.
fn resolve_paths(kubeconfig: &mut Kubeconfig, dir: &Path) {
    let absolute = |path: &mut Option<String>| {
        if let Some(text) = path
            && Path::new(text.as_str()).is_relative()
        {
            *text = dir.join(text.as_str()).to_string_lossy().into_owned();
        }
    };
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|c| c.cluster.as_mut()) {
        absolute(&mut cluster.certificate_authority);
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|u| u.auth_info.as_mut()) {
        absolute(&mut user.client_certificate);
        absolute(&mut user.client_key);
        absolute(&mut user.token_file);
        if let Some(exec) = &mut user.exec {
            if exec.command.as_ref().is_some_and(|command| command.contains('/')) {
                absolute(&mut exec.command);
            }
            // A login prompt in the middle of the display would wait unseen.
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
    }
}

/// A host that hands out a kubeconfig must not get programs run or files read on this machine by it.
fn refuse_local_power(kubeconfig: &Kubeconfig) -> Result<(), String> {
    let refuse = |what: &str, name: &str| {
        Err(format!(
            "{what} of {name} names something on this machine, and a kubeconfig from another machine may not; \
             copy it to a file here if you trust it"
        ))
    };
    for named in &kubeconfig.clusters {
        if named.cluster.as_ref().is_some_and(|c| c.certificate_authority.is_some()) {
            return refuse("certificate-authority", &named.name);
        }
    }
    for named in &kubeconfig.auth_infos {
        let Some(user) = &named.auth_info else { continue };
        for (what, set) in [
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
            ("tokenFile", user.token_file.is_some()),
            ("client-certificate", user.client_certificate.is_some()),
            ("client-key", user.client_key.is_some()),
        ] {
            if set {
                return refuse(what, &named.name);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(user: &str, origin: Origin) -> ClusterAccess {
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: k, cluster: {{server: 'http://10.0.0.1:6443'}}}}]\n\
             users: [{{name: u, user: {user}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
        );
        ClusterAccess { kubeconfig, origin, context: None, server: None, uid: None, via: None }
    }

    #[tokio::test]
    async fn a_foreign_kubeconfig_gets_no_power_here() {
        for user in [
            "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh}}",
            "{tokenFile: /etc/shadow}",
            "{client-key: /home/me/.ssh/id_ed25519}",
            "{auth-provider: {name: gcp, config: {cmd-path: /bin/sh}}}",
        ] {
            let error = config(&access(user, Origin::Machine("n1".into()))).await.err();
            assert!(
                matches!(&error, Some(CallError::Invalid(text)) if text.contains("host n1") && text.contains("may not")),
                "{user}: {error:?}"
            );
        }
        assert!(config(&access("{token: t}", Origin::Machine("n1".into()))).await.is_ok());
    }

    #[tokio::test]
    async fn own_files_are_relative_to_the_kubeconfig() {
        let config = config(&access("{tokenFile: token}", Origin::File("/home/me/.kube/config".into()))).await;
        assert_eq!(config.expect("loads").auth_info.token_file.as_deref(), Some("/home/me/.kube/token"));
    }

    #[tokio::test]
    async fn errors_name_the_contexts_that_there_are() {
        let mut access = access("{token: t}", Origin::File("/x/config".into()));
        access.context = Some("prod".into());
        let text = config(&access).await.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains("/x/config") && text.contains("prod") && text.contains("contexts in it: c"), "{text}");
    }

    #[tokio::test]
    async fn the_server_can_be_replaced() {
        let mut access = access("{token: t}", Origin::File("/x/config".into()));
        access.server = Some("https://10.9.9.9:16443".into());
        assert_eq!(config(&access).await.expect("loads").cluster_url.to_string(), "https://10.9.9.9:16443/");
    }
}
