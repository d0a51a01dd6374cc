//! What names a pack in a registry: `registry.home.example/bob/zfs:1.2.0`, or `...@sha256:...`.

use std::fmt;

use crate::image::{Digest, said};

/// Bytes of the name of a repository, and of a tag, as the distribution API has it.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A place in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `HOST` or `HOST:PORT`.
    pub registry: String,
    /// The repository: `bob/zfs`.
    pub name: String,
    /// What somebody called it. Nothing is believed because of it.
    pub tag: Option<String>,
    /// What it is.
    pub digest: Option<Digest>,
}

/// Why a text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No registry in it. There is none that is meant when none is said.
    #[error("`{0}` names no registry: write HOST/NAME:TAG or HOST/NAME@sha256:...")]
    NoRegistry(String),
    /// The registry's name cannot be one.
    #[error("`{0}` is not a registry: a host name or an address, with `:PORT` if need be")]
    Registry(String),
    /// The repository's name cannot be one.
    #[error("`{0}` is not the name of a repository: lower-case words, joined by `.`, `_`, `-` and `/`")]
    Name(String),
    /// The tag cannot be one.
    #[error("`{0}` is not a tag: up to {MAX_TAG} letters, digits, `.`, `_` and `-`")]
    Tag(String),
    /// The digest is none.
    #[error("`{0}` is not a digest: `sha256:` and 64 lower-case hex digits")]
    Digest(String),
}

impl Reference {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// When it is not written as one.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(Digest::parse(digest).map_err(|_| ReferenceError::Digest(said(digest)))?))
            }
            None => (text, None),
        };
        let Some((registry, rest)) = rest.split_once('/').filter(|(host, _)| is_place(host)) else {
            return Err(ReferenceError::NoRegistry(said(text)));
        };
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        if !is_registry(registry) {
            return Err(ReferenceError::Registry(said(registry)));
        }
        if name.len() > MAX_NAME || !name.split('/').all(is_component) {
            return Err(ReferenceError::Name(said(name)));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(said(tag)));
        }
        Ok(Self { registry: registry.to_owned(), name: name.to_owned(), tag: tag.map(str::to_owned), digest })
    }

    /// Tag or digest, as the API asks for it: the digest where there is one.
    pub(crate) fn at(&self) -> Option<&str> {
        self.digest.as_ref().map(Digest::as_str).or(self.tag.as_deref())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// What stands before the first slash names a registry when it cannot be a word of a repository's name, as docker has it.
fn is_place(host: &str) -> bool {
    host == "localhost" || host.contains(['.', ':'])
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let good_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= MAX_NAME
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        }
    };
    good_host && port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

fn is_component(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = word.as_bytes();
    let ends = bytes.first().is_some_and(|b| plain(*b)) && bytes.last().is_some_and(|b| plain(*b));
    let joined = |w: &[u8]| plain(w[0]) || plain(w[1]) || w == b"__" || w == b"--";
    ends && bytes.iter().all(|b| plain(*b) || b"._-".contains(b)) && bytes.windows(2).all(joined)
}

fn is_tag(tag: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=MAX_TAG).contains(&tag.len()) && tag.bytes().all(good) && !tag.starts_with(['.', '-'])
}
