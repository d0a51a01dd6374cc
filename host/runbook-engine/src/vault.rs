//! Keeps what was there before a change, so that only this installation can read it.
//!
//! Previous contents may hold anything, secrets among them. They are sealed under a key that never leaves the controller's state
//! folder, and so can lie in a journal that is copied, or looked at by others: without the key they say nothing. The key also makes
//! fingerprints, by which inputs are compared without being kept.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of the key.
const KEY: usize = 32;

/// Bytes of a sealed text that stand in the journal itself; what is larger is a blob beside it.
const INLINE: usize = 48 << 10;

/// What a reference to a blob begins with.
const BLOB: &str = "blob:";

/// Why something cannot be kept, or read again.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key, or a blob, cannot be read or written.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The key file is not one.
    #[error("{path} is not a key: it must have {KEY} bytes", path = .0.display())]
    NotAKey(PathBuf),
    /// It was sealed by another installation, or is damaged.
    #[error("what was kept cannot be opened: it was kept under another key, or is damaged")]
    Sealed,
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random,
}

/// Seals and opens.
pub struct Vault {
    aead: LessSafeKey,
    mac: hmac::Key,
    /// Where blobs lie; none: nothing is large here.
    blobs: Option<PathBuf>,
}

impl Vault {
    /// The vault of this installation, with its key in `key`, which is made where it is not there. Blobs lie in the folder `blobs`.
    ///
    /// # Errors
    ///
    /// The key cannot be read or made.
    pub fn open(key: &Path, blobs: PathBuf) -> Result<Self, VaultError> {
        let bytes = match std::fs::read(key) {
            Ok(bytes) => bytes.try_into().map_err(|_| VaultError::NotAKey(key.to_owned()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_key(key)?,
            Err(error) => return Err(VaultError::Io { path: key.to_owned(), error }),
        };
        Self::of(&bytes, Some(blobs))
    }

    /// A vault that dies with the process, for what is not kept.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub fn fleeting() -> Result<Self, VaultError> {
        Self::of(&random()?, None)
    }

    fn of(key: &[u8; KEY], blobs: Option<PathBuf>) -> Result<Self, VaultError> {
        let aead = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| VaultError::Sealed)?;
        // Another key than the one that seals.
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"runbook fingerprints");
        let mac = hmac::Key::new(hmac::HMAC_SHA256, mac.as_ref());
        Ok(Self { aead: LessSafeKey::new(aead), mac, blobs })
    }

    /// A keyed hash, as lower-case hex: equal for equal bytes, and of no use to whoever wants to guess them.
    pub fn fingerprint(&self, bytes: &[u8]) -> String {
        let tag = hmac::sign(&self.mac, bytes);
        tag.as_ref()[..16].iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    /// Keeps something. Gives what stands for it in the journal.
    ///
    /// # Errors
    ///
    /// A blob cannot be written.
    pub fn keep<T: Serialize>(&self, thing: &T) -> Result<String, VaultError> {
        self.seal(&serde_json::to_vec(thing).map_err(|_| VaultError::Sealed)?)
    }

    /// What was kept.
    ///
    /// # Errors
    ///
    /// It was kept under another key, or is damaged.
    pub fn recall<T: DeserializeOwned>(&self, kept: &str) -> Result<T, VaultError> {
        serde_json::from_slice(&self.unseal(kept)?).map_err(|_| VaultError::Sealed)
    }

    fn seal(&self, plain: &[u8]) -> Result<String, VaultError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = plain.to_vec();
        self.aead
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .map_err(|_| VaultError::Sealed)?;
        sealed.splice(0..0, nonce);
        match &self.blobs {
            Some(folder) if sealed.len() > INLINE => self.write_blob(folder, plain, &sealed),
            _ => Ok(STANDARD_NO_PAD.encode(&sealed)),
        }
    }

    /// Content-addressed: what is kept twice lies there once. The name is keyed, so that it tells nothing either.
    fn write_blob(&self, folder: &Path, plain: &[u8], sealed: &[u8]) -> Result<String, VaultError> {
        let name = self.fingerprint(plain);
        let path = folder.join(&name);
        let failed = |error| VaultError::Io { path: path.clone(), error };
        if !path.exists() {
            make_folder(folder).map_err(failed)?;
            write_new(folder, &path, sealed).map_err(failed)?;
        }
        Ok(format!("{BLOB}{name}"))
    }

    fn unseal(&self, kept: &str) -> Result<Vec<u8>, VaultError> {
        let mut bytes = match (kept.strip_prefix(BLOB), &self.blobs) {
            (Some(name), Some(folder)) if name.bytes().all(|b| b.is_ascii_hexdigit()) => {
                let path = folder.join(name);
                std::fs::read(&path).map_err(|error| VaultError::Io { path, error })?
            }
            (Some(_), _) => return Err(VaultError::Sealed),
            (None, _) => STANDARD_NO_PAD.decode(kept).map_err(|_| VaultError::Sealed)?,
        };
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(VaultError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Sealed)?;
        let plain = self.aead.open_in_place(nonce, Aad::empty(), sealed).map_err(|_| VaultError::Sealed)?;
        Ok(plain.to_vec())
    }
}

fn random<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| VaultError::Random)?;
    Ok(bytes)
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Two programs that start at once agree on the key of whoever came first.
fn make_key(path: &Path) -> Result<[u8; KEY], VaultError> {
    let failed = |error| VaultError::Io { path: path.to_owned(), error };
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_folder(folder).map_err(failed)?;
    write_new(folder, path, &random::<KEY>()?).map_err(failed)?;
    let mut key = [0; KEY];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut key)).map_err(failed)?;
    Ok(key)
}

/// Writes a file that is there whole or not at all, also after a loss of power; one that is there already stays.
fn write_new(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let nonce: [u8; 8] = random().map_err(std::io::Error::other)?;
    let beside = folder.join(format!(".{:016x}", u64::from_ne_bytes(nonce)));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let linked = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&beside, path));
    std::fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => std::fs::File::open(folder)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use runbook_model::bytes::Bytes;
    use runbook_model::call::{FilePrior, Prior};

    use super::*;

    fn prior(size: usize) -> Prior {
        Prior::File(FilePrior { content: Some(Bytes(vec![b'x'; size])), ..FilePrior::default() })
    }

    #[test]
    fn what_is_kept_is_read_again_by_this_installation_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (key, blobs) = (folder.path().join("state/key"), folder.path().join("run/blobs"));
        for size in [10, 100 << 10] {
            let kept = Vault::open(&key, blobs.clone()).expect("a vault").keep(&prior(size)).expect("kept");
            assert_eq!(kept.starts_with(BLOB), size > INLINE);
            let vault = Vault::open(&key, blobs.clone()).expect("a vault");
            assert_eq!(vault.recall::<Prior>(&kept).expect("opens"), prior(size));
            let other = Vault::open(&folder.path().join("other"), blobs.clone()).expect("a vault");
            assert!(matches!(other.recall::<Prior>(&kept), Err(VaultError::Sealed)));
        }
        for entry in std::fs::read_dir(&blobs).expect("blobs") {
            let bytes = std::fs::read(entry.expect("a blob").path()).expect("it can be read");
            assert!(!bytes.windows(16).any(|window| window == [b'x'; 16]), "nothing lies there in plain");
        }
        assert!(Vault::open(&key, blobs).expect("a vault").recall::<Prior>("blob:../../key").is_err());
    }

    #[test]
    fn fingerprints_are_of_the_key_and_the_bytes() {
        let (a, b) = (Vault::fleeting().expect("a vault"), Vault::fleeting().expect("a vault"));
        assert_eq!(a.fingerprint(b"x"), a.fingerprint(b"x"));
        assert_ne!(a.fingerprint(b"x"), a.fingerprint(b"y"));
        assert_ne!(a.fingerprint(b"x"), b.fingerprint(b"x"));
    }
}
