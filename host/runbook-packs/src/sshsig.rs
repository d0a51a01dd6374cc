//! Signatures with the SSH keys that people have: SSHSIG, as `ssh-keygen -Y sign` makes them.
//!
//! They are verified here, offline and without another program. They are made by `ssh-keygen` itself: who signs has OpenSSH, and it
//! knows agents, passphrases and security keys. What it made is verified here before anybody gets it.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

use crate::image::{MAX_SIGNATURE, said};

/// What packs are signed for: a signature that somebody made of a file, a commit or a login is none of a pack.
pub const NAMESPACE: &str = "runbook-pack";

/// Bits of an RSA key. OpenSSH makes none below 3072 any more; NIST allows 2048 until 2030.
const MIN_RSA: u32 = 2048;

/// Bits of an RSA key, the largest that OpenSSH makes. Larger ones cost time, and a stranger may send one.
const MAX_RSA: u32 = 16384;

/// The public half of an SSH key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerKey(KeyData);

impl SignerKey {
    /// Reads `ssh-ed25519 AAAA... comment`.
    ///
    /// # Errors
    ///
    /// When it is no public key, or one of a kind that signs no packs.
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        // The crate takes one blank between both words; OpenSSH takes any.
        let words: Vec<&str> = line.split_ascii_whitespace().take(2).collect();
        if words.first().is_some_and(|kind| kind.contains("-cert-v01@")) {
            return Err(KeyError::Certificate);
        }
        let key = PublicKey::from_openssh(&words.join(" ")).map_err(|_| KeyError::Unreadable)?;
        Self::new(key.key_data().clone())
    }

    fn new(key: KeyData) -> Result<Self, KeyError> {
        match &key {
            KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {}
            KeyData::Rsa(rsa) if rsa.key_size() < MIN_RSA => return Err(KeyError::Short(rsa.key_size())),
            KeyData::Rsa(rsa) if rsa.key_size() > MAX_RSA => return Err(KeyError::Long),
            KeyData::Rsa(_) => {}
            KeyData::Certificate(_) => return Err(KeyError::Certificate),
            other => return Err(KeyError::Kind(said(other.algorithm().as_str()))),
        }
        Ok(Self(key))
    }

    /// `SHA256:...`, as `ssh-keygen -l` and `ssh-add -l` show it.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Whether a signature of this algorithm can be one of this key. RSA's says how it hashed: SHA-1 is not among them.
    fn signs_with(&self, algorithm: &Algorithm) -> bool {
        match &self.0 {
            KeyData::Rsa(_) => matches!(algorithm, Algorithm::Rsa { hash: Some(HashAlg::Sha256 | HashAlg::Sha512) }),
            key => key.algorithm() == *algorithm,
        }
    }
}

/// `ssh-ed25519 AAAA...`: what stands in a `.pub` file, without its comment.
impl fmt::Display for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = PublicKey::new(self.0.clone(), "").to_openssh().map_err(|_| fmt::Error)?;
        f.write_str(line.trim_end())
    }
}

/// Why a public key signs no packs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not read as a public key.
    #[error("it is not an SSH public key")]
    Unreadable,
    /// DSA, and what is newer than this program.
    #[error("keys of the kind `{0}` are not taken (ed25519, ecdsa, rsa, and those of security keys are)")]
    Kind(String),
    /// A certificate instead of a key.
    #[error("SSH certificates are not taken, plain keys are")]
    Certificate,
    /// An RSA key that is too short.
    #[error("an RSA key of {0} bits is too short: it needs {MIN_RSA}")]
    Short(u32),
    /// An RSA key that is too long.
    #[error("an RSA key of more than {MAX_RSA} bits is not taken")]
    Long,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is not an SSH signature.
    #[error("it is not an SSH signature, or damaged")]
    Unreadable,
    /// It was made for something else.
    #[error("it was made for `{found}`, not for `{wanted}`")]
    Namespace {
        /// What it was made for.
        found: String,
        /// What it is needed for.
        wanted: String,
    },
    /// The key that it says it was made with.
    #[error("it was made with a key that is not taken: {0}")]
    Key(#[from] KeyError),
    /// SHA-1, or an algorithm that is not the key's.
    #[error("it was made with `{0}`, which is not taken for its key")]
    Algorithm(String),
    /// It is of other bytes, or of another key.
    #[error("it is not a signature of this content by the key that it names ({0})")]
    Mismatch(String),
}

/// Verifies an armored signature over `message`; gives the key that made it. Whether that key is trusted is another question.
///
/// # Errors
///
/// When it is no signature of `message` for `namespace`.
pub fn verify(armored: &[u8], message: &[u8], namespace: &str) -> Result<SignerKey, SignatureError> {
    if armored.len() > MAX_SIGNATURE {
        return Err(SignatureError::Unreadable);
    }
    let signature = SshSig::from_pem(armored).map_err(|_| SignatureError::Unreadable)?;
    // The version is not part of what is signed, so that an older one would be somebody else's word.
    if signature.version() != SshSig::VERSION {
        return Err(SignatureError::Unreadable);
    }
    let key = SignerKey::new(signature.public_key().clone())?;
    if signature.namespace() != namespace {
        let found = said(signature.namespace());
        return Err(SignatureError::Namespace { found, wanted: namespace.to_owned() });
    }
    let algorithm = signature.algorithm();
    if !key.signs_with(&algorithm) {
        return Err(SignatureError::Algorithm(said(algorithm.as_str())));
    }
    let good = PublicKey::new(key.0.clone(), "").verify(namespace, message, &signature).is_ok();
    if good { Ok(key) } else { Err(SignatureError::Mismatch(key.fingerprint())) }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// `ssh-keygen` cannot be started.
    #[error("cannot start `ssh-keygen`: {0}")]
    NoProgram(io::Error),
    /// It cannot be talked to.
    #[error("cannot talk to `ssh-keygen`: {0}")]
    Broken(io::Error),
    /// It did not sign, and said why on stderr.
    #[error("`ssh-keygen` did not sign with {}: it ended with {status}", key.display())]
    Refused {
        /// The key.
        key: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// What it made is no signature that this program takes.
    #[error("the signature would not be taken: {0}")]
    Useless(#[from] SignatureError),
}

/// Signs `message` by `ssh-keygen -Y sign`. `key` is a private key, or a public one whose private half an agent or a security key has.
/// Passphrases and touches are asked for on the terminal by `ssh-keygen`, and what it has to say comes on stderr. Gives the armored
/// signature and the key that made it.
///
/// # Errors
///
/// When it is not there, refuses, or makes a signature that would not be taken.
pub fn sign(key: &Path, message: &[u8], namespace: &str) -> Result<(Vec<u8>, SignerKey), SignError> {
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(SignError::NoProgram)?;
    // It reads all of it before it writes. When it has already given up, its exit code says so.
    let fed = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(message));
    let done = child.wait_with_output().map_err(SignError::Broken)?;
    if !done.status.success() {
        return Err(SignError::Refused { key: key.to_owned(), status: done.status });
    }
    fed.map_err(SignError::Broken)?;
    let signer = verify(&done.stdout, message, namespace)?;
    Ok((done.stdout, signer))
}
