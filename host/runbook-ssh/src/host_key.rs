//! Whether the machine that answers is the one that is meant: strict, with words that say how to go on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Preferred, cipher};

use crate::known_hosts::{HostKey, KnownHosts, Line, Match, Names, match_pattern};

/// What is believed of a host before it is met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    pub(crate) known: KnownHosts,
    pub(crate) names: Names,
    /// The fingerprint that the inventory pins: the only one that is accepted then.
    pub(crate) pin: Option<String>,
    /// Whether the pin is what the host itself showed earlier in this run.
    pub(crate) shown_before: bool,
    /// The name under which a new line would stand: "10.0.0.1", "[10.0.0.1]:2222".
    pub(crate) entry: String,
    /// The file that a new line would be added to.
    pub(crate) file: PathBuf,
}

/// Why the machine that answered is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeyError {
    /// No file speaks of the host.
    Unknown {
        /// Fingerprint of the key that it shows.
        shown: String,
        /// The line that makes it known.
        line: String,
        /// The file for that line.
        file: PathBuf,
        /// Authorities that were expected to vouch for it, as "FILE:LINE".
        authorities: Vec<String>,
    },
    /// The files name another key.
    Changed(Box<Changed>),
    /// A line forbids the key.
    Revoked {
        /// Type and fingerprint.
        shown: String,
        /// "FILE:LINE".
        place: String,
    },
    /// The inventory pins another one.
    Pinned {
        /// Types and fingerprints of the keys that it shows.
        shown: Vec<String>,
        /// The pinned fingerprint.
        pin: String,
    },
    /// It showed another one earlier in this run.
    NotTheSame {
        /// Types and fingerprints of the keys that it shows.
        shown: Vec<String>,
        /// The fingerprint of the key that it showed then.
        before: String,
    },
    /// Its certificate does not hold.
    Certificate {
        /// Identity and authority of the certificate.
        shown: String,
        /// Why not.
        reason: String,
    },
}

/// A key that is not the one that was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Type and fingerprint of the key that it shows.
    pub shown: String,
    /// Type and fingerprint of the key that was expected.
    pub expected: String,
    /// File of the line that says so.
    pub file: PathBuf,
    /// The line's number.
    pub line: usize,
    /// The name that the line speaks of, for `ssh-keygen -R`.
    pub name: String,
    /// The line that makes the new key known.
    pub new_line: String,
}

impl std::error::Error for HostKeyError {}

impl fmt::Display for HostKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { shown, line, file, authorities } => {
                write!(f, "its host key is not known: it shows {shown}")?;
                if !authorities.is_empty() {
                    write!(f, " and no certificate of the authority in {}", authorities.join(", "))?;
                }
                let file = file.display();
                write!(
                    f,
                    "; if its console says the same (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub), add to {file}:\n{line}"
                )
            }
            Self::Changed(changed) => {
                let Changed { shown, expected, file, line, name, new_line } = &**changed;
                let file = file.display();
                write!(
                    f,
                    "its host key has changed: it shows {shown}, but {file}:{line} says {expected}; either somebody stands \
                     in between, this is another machine, or it was installed anew. Only if its console shows the new \
                     fingerprint: remove the old line (ssh-keygen -f '{file}' -R '{name}'), and add:\n{new_line}"
                )
            }
            Self::Revoked { shown, place } => {
                write!(f, "its host key {shown} is revoked by {place}; give the machine a new host key")
            }
            Self::Pinned { shown, pin } => write!(
                f,
                "its host key is not the pinned one: it shows {}, but the inventory says host_key = {pin:?}; if the machine \
                 was installed anew, check the fingerprint on its console and change host_key",
                shown.join(" and ")
            ),
            Self::NotTheSame { shown, before } => write!(
                f,
                "another machine answers there: it shows {}, and the host that is meant showed {before} before; look who has \
                 that address",
                shown.join(" and ")
            ),
            Self::Certificate { shown, reason } => write!(f, "its host certificate ({shown}) does not hold: {reason}"),
        }
    }
}

impl Expected {
    /// Judges what a server shows.
    pub(crate) fn check(&self, shown: &PublicKeyOrCertificate) -> Result<(), HostKeyError> {
        let key = host_key(&shown.public_key());
        if let Some(certificate) = shown.certificate() {
            return match self.check_certificate(certificate, SystemTime::now()) {
                // As OpenSSH: a certificate that has expired takes nothing from a key that is known by itself.
                Err(HostKeyError::Certificate { .. })
                    if matches!(self.known.check(&self.names, &key), Match::Known(_)) =>
                {
                    Ok(())
                }
                verdict => verdict,
            };
        }
        let words = format!("{} {}", key.algorithm, key.fingerprint());
        let line = format!("{} {}", self.entry, key.openssh());
        if let Some(pin) = &self.pin {
            // A pin replaces the files, except for what they forbid.
            if let Some(line) = self.known.revoked(&self.names, &key) {
                return Err(HostKeyError::Revoked { shown: words, place: line.place() });
            }
            let same = key.fingerprint().trim_end_matches('=') == pin.trim().trim_end_matches('=');
            return if same { Ok(()) } else { Err(HostKeyError::Pinned { shown: vec![words], pin: pin.clone() }) };
        }
        match self.known.check(&self.names, &key) {
            Match::Known(_) => Ok(()),
            Match::Revoked(by) => Err(HostKeyError::Revoked { shown: words, place: by.place() }),
            Match::Changed(lines) => Err(self.changed(words, &lines, line)),
            Match::Unknown => Err(HostKeyError::Unknown {
                shown: words,
                line,
                file: self.file.clone(),
                authorities: self.known.authorities(&self.names).iter().map(|l| l.place()).collect(),
            }),
        }
    }

    fn changed(&self, shown: String, lines: &[&Line], new_line: String) -> HostKeyError {
        let (file, line, expected, name) = match lines.first() {
            Some(first) => (
                first.file.clone(),
                first.number,
                format!("{} {}", first.key.algorithm, first.key.fingerprint()),
                self.names.all().find(|n| first.is_for(n)).unwrap_or(&self.entry).to_owned(),
            ),
            None => (self.file.clone(), 0, String::new(), self.entry.clone()),
        };
        HostKeyError::Changed(Box::new(Changed { shown, expected, file, line, name, new_line }))
    }

    /// As OpenSSH: signed by an authority for the host, for hosts, now, for one of its names, with no condition that is not
    /// understood (there is none for hosts), and none of the keys revoked.
    fn check_certificate(&self, certificate: &Certificate, now: SystemTime) -> Result<(), HostKeyError> {
        let own = host_key(&PublicKey::new(certificate.public_key().clone(), ""));
        let authority = host_key(&PublicKey::new(certificate.signature_key().clone(), ""));
        let id: String = certificate.key_id().chars().filter(|c| !c.is_control()).take(80).collect();
        let shown = format!("{id:?}, signed by {} {}", authority.algorithm, authority.fingerprint());
        for key in [&own, &authority] {
            if let Some(line) = self.known.revoked(&self.names, key) {
                return Err(HostKeyError::Revoked { shown, place: line.place() });
            }
        }
        let bad = |reason: String| Err(HostKeyError::Certificate { shown: shown.clone(), reason });
        if !self.known.authorities(&self.names).iter().any(|l| l.key == authority) {
            return bad("no @cert-authority line trusts that authority for this host".to_owned());
        }
        if certificate.cert_type() != CertType::Host {
            return bad("it is a user's certificate".to_owned());
        }
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        if seconds < certificate.valid_after() {
            return bad("it is not valid yet (is the clock here right?)".to_owned());
        }
        if seconds >= certificate.valid_before() {
            return bad("it has expired: sign the host's key again".to_owned());
        }
        let trusted = certificate.signature_key().fingerprint(HashAlg::Sha256);
        if certificate.validate_at(seconds, [&trusted]).is_err() {
            return bad("the authority's signature is wrong".to_owned());
        }
        if let Some(option) = certificate.critical_options().0.keys().next() {
            return bad(format!("it has the critical option {option:?}, which is not understood"));
        }
        let principals = certificate.valid_principals();
        let bare: Vec<String> = self.names.all().map(|n| without_port(n).to_ascii_lowercase()).collect();
        let named = principals.iter().any(|p| bare.iter().any(|n| match_pattern(&p.to_ascii_lowercase(), n)));
        if !principals.is_empty() && !named {
            return bad(format!("it is for {}, not for {}", principals.join(", "), bare.join(", ")));
        }
        Ok(())
    }

    /// Algorithms to ask for, without compression: those of known keys first, since a server shows one key only. Certificates
    /// where an authority is trusted; SHA-1 signatures never. Left out: types in `except`.
    ///
    /// The rest is russh's own: strict key exchange is offered (and so used with every server that has it), ML-KEM hybrid first.
    pub(crate) fn preferred(&self, except: &[String]) -> Preferred {
        let mut families: Vec<Vec<Algorithm>> = vec![
            vec![Algorithm::Ed25519],
            vec![Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }],
            vec![Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 }],
            vec![Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 }],
            vec![Algorithm::Rsa { hash: Some(HashAlg::Sha512) }, Algorithm::Rsa { hash: Some(HashAlg::Sha256) }],
        ];
        let known = if self.pin.is_some() { Vec::new() } else { self.known.algorithms(&self.names) };
        families.retain(|f| !except.iter().any(|e| e == key_type(&f[0])));
        families.sort_by_key(|f| known.iter().position(|k| *k == key_type(&f[0])).unwrap_or(known.len()));
        let key: Vec<Algorithm> = families.into_iter().flatten().collect();
        let certified = self.pin.is_none() && !self.known.authorities(&self.names).is_empty();
        Preferred {
            host_key_certificates: if certified { key.clone().into() } else { Vec::new().into() },
            key: key.into(),
            cipher: ciphers().into(),
            compression: vec![russh::compression::NONE].into(),
            ..Preferred::DEFAULT
        }
    }
}

/// The ciphers in the order of our taste. All of them are sound: AES-GCM first where this processor knows AES, as most do, else
/// ChaCha20. What the other end's processor knows is not to be seen beforehand.
fn ciphers() -> Vec<cipher::Name> {
    let mut ciphers = Preferred::DEFAULT.cipher.into_owned();
    #[cfg(target_arch = "x86_64")]
    let knows_aes = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let knows_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let knows_aes = false;
    if knows_aes {
        ciphers.sort_by_key(|cipher| *cipher != cipher::AES_256_GCM);
    }
    ciphers
}

/// The name of an algorithm's keys in files: all RSA signatures come from "ssh-rsa" keys.
fn key_type(algorithm: &Algorithm) -> &str {
    if algorithm.clone().is_rsa() { "ssh-rsa" } else { algorithm.as_str() }
}

/// The fingerprint of the key itself, also where a certificate vouches for it.
pub(crate) fn fingerprint(shown: &PublicKeyOrCertificate) -> String {
    host_key(&shown.public_key()).fingerprint()
}

fn host_key(public: &PublicKey) -> HostKey {
    // Encoding into memory does not fail; an empty blob would match no line.
    let blob = public.to_bytes().unwrap_or_default();
    HostKey::from_blob(blob).unwrap_or_else(|| HostKey { algorithm: public.algorithm().to_string(), blob: Vec::new() })
}

/// "10.0.0.1" of "[10.0.0.1]:2222".
fn without_port(name: &str) -> &str {
    name.strip_prefix('[').and_then(|n| n.split_once("]:")).map_or(name, |(host, _)| host)
}

/// The files' lines that speak of a host with these names.
///
/// # Errors
///
/// The path of a file that is there and cannot be read: what it says of revoked keys must not be missed.
pub(crate) fn read_known_hosts(files: &[PathBuf], names: &Names) -> Result<KnownHosts, (PathBuf, std::io::Error)> {
    let mut known = KnownHosts::default();
    let mut seen: Vec<&Path> = Vec::new();
    for file in files {
        if seen.contains(&file.as_path()) {
            continue;
        }
        seen.push(file);
        match std::fs::read(file) {
            Ok(text) => known.add_for(names, file, &String::from_utf8_lossy(&text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err((file.clone(), e)),
        }
    }
    Ok(known)
}
