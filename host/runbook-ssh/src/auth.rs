//! Logging in: keys of the agent and keys in files, with passphrases asked for only when the server would take the key.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, decode_secret_key};
use russh::{MethodKind, MethodSet};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::client::Client;

/// A server that answers no request of the login in this time does not answer at all.
const ANSWER: Duration = Duration::from_secs(30);
/// A person types a passphrase, or touches a token: sshd's own default patience (`LoginGraceTime`).
const PERSON: Duration = Duration::from_secs(120);
/// A local agent answers at once.
const AGENT: Duration = Duration::from_secs(5);
/// Servers end the connection themselves after a few keys (sshd: 6); this bounds those that do not.
const MAX_ATTEMPTS: usize = 20;
/// How often a mistyped passphrase is asked for again.
const PASSPHRASE_TRIES: usize = 3;

/// Asks the person.
#[async_trait]
pub trait Prompts: Send + Sync {
    /// The passphrase of the key in the file `key`; none where nobody can be asked, or nobody answers.
    async fn passphrase(&self, key: &str) -> Option<String>;
}

/// Nobody can be asked: there is no terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPrompts;

#[async_trait]
impl Prompts for NoPrompts {
    async fn passphrase(&self, _: &str) -> Option<String> {
        None
    }
}

/// Keys that were decrypted, shared by the connections of a run, so that a passphrase is asked for once.
#[derive(Default)]
pub struct Keyring {
    decrypted: tokio::sync::Mutex<HashMap<PathBuf, Arc<PrivateKey>>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

/// As whom to log in, and with what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Login {
    pub(crate) user: String,
    /// Named by the inventory or ssh_config, in this order: missing ones are worth a word.
    pub(crate) files: Vec<PathBuf>,
    /// Tried where no file is named.
    pub(crate) defaults: Vec<PathBuf>,
    /// Keys of the agent that are in none of the files are left alone.
    pub(crate) identities_only: bool,
    /// The agent's socket.
    pub(crate) agent: Option<PathBuf>,
}

/// Why nobody was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthError {
    /// As whom.
    pub user: String,
    /// Keys that the server refused, in words.
    pub tried: Vec<String>,
    /// Keys that could not be used, with the reason.
    pub unusable: Vec<String>,
    /// What the server accepts, as it says.
    pub accepts: Vec<String>,
    /// What went wrong besides.
    pub problem: Option<String>,
}

impl std::error::Error for AuthError {}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &[String]| if items.is_empty() { "nothing".to_owned() } else { items.join(", ") };
        write!(f, "login as {} failed: tried {}", self.user, list(&self.tried))?;
        if !self.unusable.is_empty() {
            write!(f, "; could not use {}", self.unusable.join(", "))?;
        }
        if !self.accepts.is_empty() {
            write!(f, "; the server accepts {}", list(&self.accepts))?;
        }
        match &self.problem {
            Some(problem) => write!(f, "; {problem}"),
            None if self.takes_keys() => {
                write!(f, "; put a public key there (ssh-copy-id), or name the right `user` and `identity_file`")
            }
            None => f.write_str("; enable publickey there (PubkeyAuthentication): passwords are not used"),
        }
    }
}

/// One key to try.
struct Candidate {
    public: PublicKey,
    words: String,
    from: Source,
}

impl Candidate {
    /// Whether it can sign without anybody being asked for a passphrase.
    fn is_at_hand(&self) -> bool {
        !matches!(self.from, Source::File(_, KeyFile::Encrypted(_)))
    }

    /// Whether it is this key, and not a certificate for it: that is another way in.
    fn is_bare(&self, key: &PublicKey) -> bool {
        let certified = matches!(&self.from, Source::Agent(identity) if is_certificate(identity));
        !certified && self.public.key_data() == key.key_data()
    }
}

enum Source {
    Agent(Box<AgentIdentity>),
    File(PathBuf, KeyFile),
}

#[derive(Clone)]
enum KeyFile {
    Plain(Arc<PrivateKey>),
    Encrypted(Arc<str>),
}

/// What a server is told first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// A key, where one is at hand: with most servers this is the way in, and it saves a round trip.
    Key,
    /// Nothing. The server then says what it accepts, or lets us in: that is all that e.g. Tailscale's server wants.
    Nothing,
}

/// Nobody was let in.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: AuthError,
    /// The server ended the connection over the keys, before it was asked whether it wants any.
    pub(crate) hung_up_unasked: bool,
}

/// Logs in.
pub(crate) async fn authenticate(
    handle: &mut Handle<Client>,
    login: &Login,
    prompts: &dyn Prompts,
    keyring: &Keyring,
    first: First,
) -> Result<(), Refused> {
    let report = AuthError {
        user: login.user.clone(),
        tried: Vec::new(),
        unusable: Vec::new(),
        accepts: Vec::new(),
        problem: None,
    };
    let mut attempts = Attempts { handle, login, prompts, keyring, report, agent: None, rsa: None, asked: false };
    match attempts.all(first).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(attempts.refused(None)),
        Err(problem) => Err(attempts.refused(Some(problem))),
    }
}

/// The attempts to log in on one connection. Its functions say whether we are in; an error ends them all.
struct Attempts<'a> {
    handle: &'a mut Handle<Client>,
    login: &'a Login,
    prompts: &'a dyn Prompts,
    keyring: &'a Keyring,
    report: AuthError,
    agent: Option<Agent>,
    /// The best hash for signatures of RSA keys, once it was asked for.
    rsa: Option<Option<HashAlg>>,
    /// Whether the server was asked what it accepts.
    asked: bool,
}

impl Attempts<'_> {
    fn refused(self, problem: Option<String>) -> Refused {
        let hung_up_unasked = !self.asked && self.handle.is_closed();
        Refused { error: AuthError { problem, ..self.report }, hung_up_unasked }
    }

    async fn all(&mut self, first: First) -> Result<bool, String> {
        // A key in a file that was named is tried before the agent is even spoken to.
        let own = if first == First::Key { own_key(self.login) } else { None };
        let own_public = own.as_ref().map(|own| own.public.clone());
        let mut candidates: VecDeque<Candidate> = match own {
            Some(own) => VecDeque::from([own]),
            None if first == First::Key => self.candidates().await.into(),
            None => VecDeque::new(),
        };
        if !candidates.front().is_some_and(Candidate::is_at_hand) {
            if self.ask().await? {
                return Ok(true);
            }
            if self.report.accepts.is_empty() || !self.report.takes_keys() {
                return Ok(false);
            }
        }
        let mut gathered = first == First::Key && own_public.is_none();
        let mut count = 0;
        while count < MAX_ATTEMPTS {
            if candidates.is_empty() && !gathered {
                gathered = true;
                let rest = self.candidates().await.into_iter();
                candidates.extend(rest.filter(|c| own_public.as_ref().is_none_or(|own| !c.is_bare(own))));
            }
            let Some(candidate) = candidates.pop_front() else { break };
            count += 1;
            if self.try_one(candidate).await? {
                return Ok(true);
            }
            if self.handle.is_closed() {
                return Err(
                    "the server ended the connection after these keys (MaxAuthTries): name the right one as `identity_file`"
                        .to_owned(),
                );
            }
            if !self.report.takes_keys() {
                break;
            }
        }
        if self.asked { Ok(false) } else { self.ask().await }
    }

    /// Asks what the server accepts, which is not counted as an attempt where it comes first.
    async fn ask(&mut self) -> Result<bool, String> {
        self.asked = true;
        match timeout(ANSWER, self.handle.authenticate_none(&self.login.user)).await {
            Ok(Ok(result)) => Ok(self.report.take(&result)),
            Ok(Err(e)) => Err(format!("the connection was lost: {e}")),
            Err(_) => Err(silent()),
        }
    }

    async fn candidates(&mut self) -> Vec<Candidate> {
        let agent = connect_agent(self.login, &mut self.report).await;
        let (agent, identities) = agent.unzip();
        self.agent = agent;
        candidates(self.login, identities, &mut self.report)
    }

    async fn try_one(&mut self, candidate: Candidate) -> Result<bool, String> {
        let hash = if candidate.public.algorithm().is_rsa() {
            match rsa_hash(self.handle, &mut self.rsa).await {
                Some(hash) => Some(hash),
                None => {
                    let reason = format!("{} (the server takes RSA keys with SHA-1 only)", candidate.words);
                    self.report.unusable.push(reason);
                    return Ok(false);
                }
            }
        } else {
            None
        };
        let user = &self.login.user;
        let result = match candidate.from {
            Source::Agent(identity) => with_agent(self.handle, user, &identity, hash, self.agent.as_mut()).await,
            Source::File(path, file) => {
                let unlock = Unlock { path: &path, prompts: self.prompts, keyring: self.keyring };
                with_file(self.handle, user, candidate.public, file, hash, &unlock).await
            }
        };
        match result {
            Ok(result) => {
                if self.report.take(&result) {
                    return Ok(true);
                }
                self.report.tried.push(candidate.words);
                if matches!(result, AuthResult::Failure { partial_success: true, .. }) {
                    // Nothing else would help.
                    self.asked = true;
                    let problem = "the key was accepted, but the server wants a second factor, which is not supported";
                    return Err(problem.to_owned());
                }
                Ok(false)
            }
            Err(Attempt::Unusable(reason)) => {
                self.report.unusable.push(format!("{} ({reason})", candidate.words));
                Ok(false)
            }
            Err(Attempt::Silent) => Err(silent()),
        }
    }
}

fn silent() -> String {
    format!("the server did not answer for {} s", ANSWER.as_secs())
}

impl AuthError {
    /// Notes what the server accepts; whether it let us in.
    fn take(&mut self, result: &AuthResult) -> bool {
        let AuthResult::Failure { remaining_methods, .. } = result else { return true };
        if !remaining_methods.is_empty() {
            self.accepts = names(remaining_methods);
        }
        false
    }

    /// Whether a key may be the way in, as far as the server said.
    fn takes_keys(&self) -> bool {
        self.accepts.is_empty() || self.accepts.iter().any(|m| m == "publickey")
    }
}

fn names(methods: &MethodSet) -> Vec<String> {
    methods.iter().map(|m: &MethodKind| String::from(m)).collect()
}

/// The best hash for signatures of RSA keys, asked for once; none: SHA-1 only, which is not used.
async fn rsa_hash(handle: &Handle<Client>, known: &mut Option<Option<HashAlg>>) -> Option<HashAlg> {
    if known.is_none() {
        // A server that says nothing may still take it.
        let answer = timeout(ANSWER, handle.best_supported_rsa_hash()).await;
        *known = Some(match answer {
            Ok(Ok(Some(best))) => best,
            _ => Some(HashAlg::Sha512),
        });
    }
    known.flatten()
}

type Agent = AgentClient<UnixStream>;

async fn connect_agent(login: &Login, report: &mut AuthError) -> Option<(Agent, Vec<AgentIdentity>)> {
    let socket = login.agent.as_ref()?;
    let listing = async {
        let mut agent = AgentClient::connect_uds(socket).await.map_err(|e| e.to_string())?;
        let identities = agent.request_identities().await.map_err(|e| e.to_string())?;
        Ok::<_, String>((agent, identities))
    };
    let reason = match timeout(AGENT, listing).await {
        Ok(Ok(found)) => return Some(found),
        Ok(Err(reason)) => reason,
        Err(_) => format!("it did not answer for {} s", AGENT.as_secs()),
    };
    report.unusable.push(format!("the agent at {} ({reason})", socket.display()));
    None
}

/// The keys in the order of trying: named files (signed by the agent where it holds the key), other keys of the agent,
/// default files. Each key once.
fn candidates(login: &Login, identities: Option<Vec<AgentIdentity>>, report: &mut AuthError) -> Vec<Candidate> {
    let mut identities = identities.unwrap_or_default();
    let mut found: Vec<Candidate> = Vec::new();
    let defaults = if login.files.is_empty() { &login.defaults[..] } else { &[] };
    let mut from_files = |paths: &[PathBuf], named: bool, identities: &mut Vec<AgentIdentity>| {
        let mut some = Vec::new();
        for path in paths {
            match read_key(path) {
                Ok((public, file)) => {
                    let held = identities.iter().position(|i| i.public_key().key_data() == public.key_data());
                    match (held.map(|i| identities.remove(i)), file) {
                        (Some(identity), _) => some.push(agent_candidate(identity)),
                        (None, Some(file)) => some.push(Candidate {
                            public,
                            words: path.display().to_string(),
                            from: Source::File(path.clone(), file),
                        }),
                        (None, None) if named => {
                            report
                                .unusable
                                .push(format!("{} (a public key that the agent does not hold)", path.display()));
                        }
                        (None, None) => {}
                    }
                }
                Err(Unreadable::Missing) if !named => {}
                Err(reason) => report.unusable.push(format!("{} ({reason})", path.display())),
            }
        }
        some
    };
    let named = from_files(&login.files, true, &mut identities);
    let default = from_files(defaults, false, &mut identities);
    found.extend(named);
    if !login.identities_only {
        found.extend(identities.into_iter().map(agent_candidate));
    }
    found.extend(default);
    let mut unique: Vec<Candidate> = Vec::new();
    for candidate in found {
        // A certificate and its bare key are two different ways in.
        let same = |c: &Candidate| c.public.key_data() == candidate.public.key_data() && c.words == candidate.words;
        if !unique.iter().any(same) {
            unique.push(candidate);
        }
    }
    unique
}

fn is_certificate(identity: &AgentIdentity) -> bool {
    matches!(identity, AgentIdentity::Certificate { .. })
}

/// The first of the named files, where it holds a key that needs no passphrase.
fn own_key(login: &Login) -> Option<Candidate> {
    let path = login.files.first()?;
    match read_key(path) {
        Ok((public, Some(file @ KeyFile::Plain(_)))) => {
            Some(Candidate { public, words: path.display().to_string(), from: Source::File(path.clone(), file) })
        }
        _ => None,
    }
}

fn agent_candidate(identity: AgentIdentity) -> Candidate {
    let public = identity.public_key().into_owned();
    let kind = if is_certificate(&identity) { "certificate" } else { "key" };
    let comment: String = identity.comment().chars().filter(|c| !c.is_control()).take(80).collect();
    let words = format!("agent {kind} {} ({comment})", public.fingerprint(HashAlg::Sha256));
    Candidate { public, words, from: Source::Agent(Box::new(identity)) }
}

enum Unreadable {
    Missing,
    Other(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no such file"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

/// The public key of a key file, and the private one unless the file holds only a public key.
fn read_key(path: &Path) -> Result<(PublicKey, Option<KeyFile>), Unreadable> {
    let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Other(e.to_string()),
    })?;
    if let Ok(public) = PublicKey::from_openssh(text.trim()) {
        return Ok((public, None));
    }
    // The public half of OpenSSH's own format is readable without the passphrase.
    if let Ok(private) = PrivateKey::from_openssh(&text) {
        let public = private.public_key().clone();
        let file =
            if private.is_encrypted() { KeyFile::Encrypted(text.into()) } else { KeyFile::Plain(Arc::new(private)) };
        return Ok((public, Some(file)));
    }
    // Both older formats say so in clear: "BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED".
    if !text.contains("ENCRYPTED") {
        let decoded = decode_secret_key(&text, None);
        let private = decoded.map_err(|e| Unreadable::Other(format!("not a private key that can be read: {e}")))?;
        return Ok((private.public_key().clone(), Some(KeyFile::Plain(Arc::new(private)))));
    }
    let beside = PathBuf::from(format!("{}.pub", path.display()));
    let public = std::fs::read_to_string(&beside).ok().and_then(|t| PublicKey::from_openssh(t.trim()).ok());
    let public = public.ok_or_else(|| {
        Unreadable::Other(format!(
            "encrypted in an old format, and there is no {}: `ssh-keygen -p -f {}` rewrites it",
            beside.display(),
            path.display()
        ))
    })?;
    Ok((public, Some(KeyFile::Encrypted(text.into()))))
}

/// Why an attempt gave no answer of the server.
enum Attempt {
    Unusable(String),
    Silent,
}

async fn with_agent(
    handle: &mut Handle<Client>,
    user: &str,
    identity: &AgentIdentity,
    hash: Option<HashAlg>,
    agent: Option<&mut Agent>,
) -> Result<AuthResult, Attempt> {
    let Some(agent) = agent else { return Err(Attempt::Unusable("the agent is gone".to_owned())) };
    let attempt = async {
        match identity {
            AgentIdentity::PublicKey { key, .. } => {
                handle.authenticate_publickey_with(user, key.clone(), hash, agent).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                handle.authenticate_certificate_with(user, certificate.clone(), hash, agent).await
            }
        }
    };
    // Signing may wait for a touch or for a click, so it is given a person's time.
    match timeout(PERSON, attempt).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(e)) => Err(Attempt::Unusable(format!("the agent did not sign: {e}"))),
        Err(_) => Err(Attempt::Silent),
    }
}

/// The caller sees that the connection is closed, and says so.
fn hung_up() -> AuthResult {
    AuthResult::Failure { remaining_methods: MethodSet::empty(), partial_success: false }
}

struct Unlock<'a> {
    path: &'a Path,
    prompts: &'a dyn Prompts,
    keyring: &'a Keyring,
}

async fn with_file(
    handle: &mut Handle<Client>,
    user: &str,
    public: PublicKey,
    file: KeyFile,
    hash: Option<HashAlg>,
    unlock: &Unlock<'_>,
) -> Result<AuthResult, Attempt> {
    let private = match file {
        KeyFile::Plain(private) => private,
        KeyFile::Encrypted(text) => {
            let mut probe = Probe;
            let asked = handle.authenticate_publickey_with(user, public, hash, &mut probe);
            match timeout(ANSWER, asked).await {
                Ok(Ok(refused)) => return Ok(refused),
                // The server wants a signature, so the key is worth a passphrase.
                Ok(Err(Probed::Wanted)) => unlock.key(&text).await.map_err(Attempt::Unusable)?,
                Ok(Err(Probed::Lost)) => return Ok(hung_up()),
                Err(_) => return Err(Attempt::Silent),
            }
        }
    };
    let attempt = handle.authenticate_publickey(user, PrivateKeyWithHashAlg::new(private, hash));
    match timeout(ANSWER, attempt).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) if handle.is_closed() => Ok(hung_up()),
        Ok(Err(e)) => Err(Attempt::Unusable(format!("it cannot sign: {e}"))),
        Err(_) => Err(Attempt::Silent),
    }
}

impl Unlock<'_> {
    /// The decrypted key; asks for the passphrase unless it was decrypted before.
    async fn key(&self, text: &str) -> Result<Arc<PrivateKey>, String> {
        let name = self.path.display();
        let unlocking = async {
            // Held while the person types: a second connection then finds the key, and asks nothing.
            let mut decrypted = self.keyring.decrypted.lock().await;
            if let Some(key) = decrypted.get(self.path) {
                return Ok(Arc::clone(key));
            }
            for _ in 0..PASSPHRASE_TRIES {
                let Some(passphrase) = self.prompts.passphrase(&name.to_string()).await else {
                    return Err(format!("it needs a passphrase and nobody can be asked: run `ssh-add {name}` first"));
                };
                let text = text.to_owned();
                // The key derivation is slow on purpose.
                let decoded = tokio::task::spawn_blocking(move || decode_secret_key(&text, Some(&passphrase))).await;
                if let Ok(Ok(key)) = decoded {
                    let key = Arc::new(key);
                    decrypted.insert(self.path.to_owned(), Arc::clone(&key));
                    return Ok(key);
                }
            }
            Err(format!("the passphrase was wrong {PASSPHRASE_TRIES} times"))
        };
        timeout(PERSON, unlocking).await.unwrap_or_else(|_| Err("nobody typed its passphrase in time".to_owned()))
    }
}

/// A signer that never signs: it finds out whether the server would take a key.
struct Probe;

enum Probed {
    Wanted,
    Lost,
}

impl From<russh::SendError> for Probed {
    fn from(_: russh::SendError) -> Self {
        Self::Lost
    }
}

impl russh::Signer for Probe {
    type Error = Probed;

    async fn auth_sign(&mut self, _: &AgentIdentity, _: Option<HashAlg>, _: Vec<u8>) -> Result<Vec<u8>, Probed> {
        Err(Probed::Wanted)
    }
}
