//! `runbook pack push` and `pull`.

use std::path::PathBuf;

use super::Signers;

/// How a registry is reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Registry {
    /// Without TLS; a registry on this machine needs no such word
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// The authorities that may vouch for the registry, in PEM, instead of those of this machine
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    pub(crate) ca: Option<PathBuf>,
    /// Names and passwords as `docker login` and `podman login` keep them; ~/.docker/config.json where left out
    ///
    /// Credential helpers that the file names are not started.
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    pub(crate) auth_file: Option<PathBuf>,
}

/// `runbook pack push`.
#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// The pack: a file or a directory
    #[arg(value_name = "PACK")]
    pub(crate) pack: PathBuf,
    /// HOST[:PORT]/NAME[:TAG]; without a tag it is found by its digest alone
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    #[command(flatten)]
    pub(crate) registry: Registry,
}

/// `runbook pack pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct Pull {
    /// HOST[:PORT]/NAME:TAG or HOST[:PORT]/NAME@sha256:...
    #[arg(value_name = "REF")]
    pub(crate) reference: String,
    /// Write it there instead of keeping it on this machine: a file, or a directory if it is one or ends with a slash
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Also a version that is older than one that is kept on this machine, or locked in ./runbook.lock
    #[arg(long)]
    pub(crate) allow_older: bool,
    #[command(flatten)]
    pub(crate) registry: Registry,
    #[command(flatten)]
    pub(crate) signers: Signers,
}
