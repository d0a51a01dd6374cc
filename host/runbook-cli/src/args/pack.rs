//! `runbook pack` and `runbook grant`.

use std::path::PathBuf;

use clap::Subcommand;

/// `runbook pack`.
#[derive(Debug, Subcommand)]
pub(crate) enum Pack {
    /// Make a pack of what `pack.toml` names: plugins, runbooks, documents, cassettes
    ///
    /// The same files give the same bytes and the same digest, whenever and wherever it is built.
    #[command(after_help = "Example of a pack.toml:
  schema = 1
  name = \"bob/zfs\"
  version = \"1.2.0\"
  summary = \"Snapshots and replication\"
  plugins = [\"zfs\"]            # a component, or the folder of a plugin that was built
  runbooks = [\"runbooks\"]      # files or folders; likewise `docs` and `cassettes`

Examples:
  runbook pack build
  runbook pack build zfs -o /media/usb/zfs.pack")]
    Build(Build),
    /// Sign a pack with the SSH key that you have
    ///
    /// `ssh-keygen` signs, and asks for the passphrase or the touch of a security key. Others let your packs in by the line that is printed.
    #[command(after_help = "Examples:
  runbook pack sign bob-zfs-1.2.0.pack --key ~/.ssh/id_ed25519
  runbook pack sign bob-zfs-1.2.0.pack --key ~/.ssh/id_ed25519.pub    by the agent")]
    Sign(Sign),
    /// Check a pack: every part of it, what it says of its plugins, and who signed it
    #[command(after_help = "Examples:
  runbook pack verify bob-zfs-1.2.0.pack
  runbook pack verify bob-zfs-1.2.0.pack --keep    and keep it here, to be used by its name")]
    Verify(Verify),
    /// List the packs that are kept on this machine
    List,
    /// Write the runbooks, documents and cassettes of a pack into a folder
    Unpack(Unpack),
}

/// Whose signatures count.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Signers {
    /// Whose signatures count, in OpenSSH's format; ~/.config/runbook/allowed_signers where left out
    #[arg(long, value_name = "FILE", env = "RUNBOOK_ALLOWED_SIGNERS")]
    pub(crate) allowed_signers: Option<PathBuf>,
}

/// `runbook pack build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    /// The folder with the pack.toml
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Where to write it: a file, or a folder (ending in `/`) for an OCI layout; NAME-VERSION.pack in the current folder where left out
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
}

/// `runbook pack sign`.
#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    /// The pack: a file or a directory
    #[arg(value_name = "PACK")]
    pub(crate) pack: PathBuf,
    /// The SSH key; a public one where an agent has the private one
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

/// `runbook pack verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The pack: a file or a directory
    #[arg(value_name = "PACK")]
    pub(crate) pack: PathBuf,
    #[command(flatten)]
    pub(crate) signers: Signers,
    /// Keep it on this machine: then runbooks find it by its name
    #[arg(long)]
    pub(crate) keep: bool,
}

/// `runbook pack unpack`.
#[derive(Debug, clap::Args)]
pub(crate) struct Unpack {
    /// The pack: a file or a directory
    #[arg(value_name = "PACK")]
    pub(crate) pack: PathBuf,
    /// A folder that is not there yet; the pack's name where left out
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signers: Signers,
}

/// `runbook grant`.
#[derive(Debug, clap::Args)]
pub(crate) struct Grant {
    /// The runbook
    #[arg(value_name = "FILE", required_unless_present = "unused")]
    pub(crate) file: Option<PathBuf>,
    /// Grant what is asked for without a question
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Also a pack that is older than the one that was granted
    #[arg(long)]
    pub(crate) allow_older: bool,
    /// Instead: what was granted and not used in this run (the beginning of its name)
    #[arg(long, value_name = "RUN", conflicts_with_all = ["file", "yes", "allow_older"])]
    pub(crate) unused: Option<String>,
    #[command(flatten)]
    pub(crate) signers: Signers,
}
