//! Whether a pack may be used: it is whole, it is what it says, and somebody whom the owner named signed it.

use jiff::Timestamp;

use crate::allowed_signers::{AllowedSigners, Refusal};
use crate::image::Image;
use crate::pack::{Pack, PackError};
use crate::sshsig::{self, NAMESPACE, SignatureError, SignerKey};

/// A pack that may be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Trusted {
    /// The pack.
    pub pack: Pack,
    /// Whose key signed it, as `allowed_signers` says it.
    pub principals: String,
    /// Fingerprint of the key.
    pub fingerprint: String,
}

/// Why a pack may not be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrustError {
    /// It is none, or disagrees with itself.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Nobody signed it.
    #[error("it is not signed")]
    Unsigned,
    /// No signature is one of this pack.
    #[error("its signature is none of this pack: {0}")]
    Signature(#[from] SignatureError),
    /// The key is nobody's whom the owner named.
    #[error("it is signed by a key that is not known here: {}", .0.fingerprint())]
    UnknownKey(Box<SignerKey>),
    /// The key is known, and does not count for packs, or not today.
    #[error("its signature does not count: {0}")]
    Refused(Refusal),
}

impl TrustError {
    /// The line of `allowed_signers` that would make it known, where that is what is missing.
    pub fn line_to_add(&self, pack: &str) -> Option<String> {
        let Self::UnknownKey(key) = self else { return None };
        let owner = pack.split('/').next().unwrap_or(pack);
        Some(format!("{owner} namespaces=\"{NAMESPACE}\" {key}"))
    }
}

/// Reads a pack and decides whether it may be used: the one function that stands before every use of a pack. One signature that counts is
/// enough; what others added is no reason to refuse it.
///
/// # Errors
///
/// Why not.
pub fn verify(image: Image, signers: &AllowedSigners, now: Timestamp) -> Result<Trusted, TrustError> {
    let pack = Pack::read(image)?;
    let (principals, fingerprint) = signer(&pack, signers, now)?;
    Ok(Trusted { pack, principals, fingerprint })
}

/// Who signed a pack that was read: principals and fingerprint.
///
/// # Errors
///
/// Why nobody whose signature counts.
pub fn signer(pack: &Pack, signers: &AllowedSigners, now: Timestamp) -> Result<(String, String), TrustError> {
    let image = pack.image();
    let mut refused = TrustError::Unsigned;
    for signature in &image.signatures {
        let error = match sshsig::verify(signature, &image.manifest, NAMESPACE) {
            Ok(key) => match signers.allow(&key, None, NAMESPACE, now) {
                Ok(signer) => return Ok((signer.principals.to_owned(), key.fingerprint())),
                Err(Refusal::Unknown) => TrustError::UnknownKey(Box::new(key)),
                Err(refusal) => TrustError::Refused(refusal),
            },
            Err(error) => TrustError::Signature(error),
        };
        if rank(&error) > rank(&refused) {
            refused = error;
        }
    }
    Err(refused)
}

/// Which of several reasons helps most.
fn rank(error: &TrustError) -> u8 {
    match error {
        TrustError::Pack(_) | TrustError::Unsigned => 0,
        TrustError::Signature(_) => 1,
        TrustError::UnknownKey(_) => 2,
        TrustError::Refused(_) => 3,
    }
}
