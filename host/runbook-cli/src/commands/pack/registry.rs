//! What `push` and `pull` have in common: the registry, who we are to it, and what its failures mean for a person.

use std::path::{Path, PathBuf};

use runbook_packs::registry::{Client, Credentials, Options, Reference, RegistryError, Why};

use crate::args;
use crate::error::CliError;

/// Bytes of a file that is named on the command line; the library refuses smaller ones, too.
const MAX_FILE: u64 = 2 << 20;

/// The place that a person named.
pub(super) fn reference(text: &str) -> Result<Reference, CliError> {
    Reference::parse(text).map_err(|error| {
        CliError::usage(error).hint("for example registry.home.example/bob/zfs:1.2.0, or localhost:5000/bob/zfs:1.2.0")
    })
}

/// A client for it.
pub(super) fn client(place: &Reference, push: bool, args: &args::Registry) -> Result<Client, CliError> {
    let ca = args.ca.as_deref().map(read).transpose()?;
    let options = Options { plain_http: args.plain_http, ca, credentials: credentials(args)?, ..Options::default() };
    Client::new(place, push, options).map_err(|error| no_use(&error))
}

fn credentials(args: &args::Registry) -> Result<Credentials, CliError> {
    let path = match (&args.auth_file, docker_config()) {
        (Some(path), _) => path.clone(),
        (None, Some(path)) if path.is_file() => path,
        // Nobody has logged in anywhere.
        (None, _) => return Ok(Credentials::default()),
    };
    Credentials::parse(&read(&path)?).map_err(|error| CliError::usage(format!("{}: {error}", path.display())))
}

fn docker_config() -> Option<PathBuf> {
    let folder = match std::env::var_os("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
    };
    Some(folder.join("config.json"))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    use std::io::Read as _;
    let mut content = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut content));
    read.map_err(|error| CliError::usage(format!("{}: {error}", path.display())))?;
    Ok(content)
}

/// Why a registry was of no use, in the words of the command line.
pub(super) fn no_use(error: &RegistryError) -> CliError {
    let host = &error.registry;
    match &error.why {
        Why::Connect(_) | Why::Broken(_) => CliError::internal(error)
            .hint("--ca FILE names the authority of a registry with a certificate of its own; --plain-http is for one without TLS"),
        Why::NoAnswer(_) | Why::Silent(_) | Why::Slow(_) | Why::Truncated | Why::Status { .. } => {
            CliError::internal(error).hint("nothing was stored; try again when the registry is well")
        }
        Why::Denied(_) | Why::Token(_) => {
            CliError::usage(error).hint(format!("log in first: docker login {host}, or podman login {host}"))
        }
        Why::NotFound => CliError::usage(error).hint("is the name right, and is the tag there?"),
        Why::Which | Why::Setup(_) => CliError::usage(error),
        Why::MediaType(_) => CliError::refused(error).hint("a pack is pushed there by `runbook pack push`"),
        Why::TooLong(_) | Why::Redirect(_) | Why::Digest { .. } | Why::Header { .. } | Why::Image(_) | Why::Referrers(_) => {
            CliError::refused(error).hint("the registry, or somebody before it, is wrong or lies; nothing was stored")
        }
    }
}
