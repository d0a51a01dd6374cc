//! Why a registry was of no use.

use crate::image::{Digest, ImageError};

/// Why nothing was pushed or pulled.
#[derive(Debug, thiserror::Error)]
#[error("{registry}: {what}: {why}")]
pub struct RegistryError {
    /// Which registry.
    pub registry: String,
    /// What was asked of it: "the manifest of bob/zfs:1.0".
    pub what: String,
    /// Why it failed.
    pub why: Why,
}

/// What went wrong. What a registry says is shown short and without control characters.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// No connection came about.
    #[error("cannot be reached: {0}")]
    Connect(String),
    /// Speaks TLS where none was expected, or the other way round, or closed the connection.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// No answer.
    #[error("no answer within {0} s")]
    NoAnswer(u64),
    /// An answer that stopped.
    #[error("nothing more came for {0} s in the middle of the answer")]
    Silent(u64),
    /// An answer that trickles.
    #[error("the answer is too slow: not whole after {0} s")]
    Slow(u64),
    /// An answer that is shorter than it said.
    #[error("the answer ended early")]
    Truncated,
    /// An answer that is longer than it may be.
    #[error("the answer is longer than the {0} bytes that it may have")]
    TooLong(u64),
    /// Who we are is not known, or not enough.
    #[error("access is denied ({0})")]
    Denied(String),
    /// A token was needed, and none could be had.
    #[error("no access token: {0}")]
    Token(String),
    /// There is none.
    #[error("it is not there")]
    NotFound,
    /// Any other answer.
    #[error("the registry answered {status}{}", if said.is_empty() { String::new() } else { format!(": {said}") })]
    Status {
        /// The status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// A redirect that is not followed.
    #[error("it is redirected {0}")]
    Redirect(String),
    /// Something else lies there.
    #[error("something else lies there: `{0}`")]
    MediaType(String),
    /// The wrong bytes.
    #[error("the registry gave other content: asked for {wanted}, got {found}")]
    Digest {
        /// What was asked for.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
    /// The registry's header names another digest than its content has.
    #[error("the registry says that it is {said}, but its content is {found}")]
    Header {
        /// What the header says.
        said: String,
        /// What came.
        found: Digest,
    },
    /// What came does not hold together.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A list of signatures that is none.
    #[error("its list of signatures cannot be read: {0}")]
    Referrers(String),
    /// Neither tag nor digest.
    #[error("say which: a tag (`:1.0`) or a digest (`@sha256:...`) is missing")]
    Which,
    /// The options of the client.
    #[error("{0}")]
    Setup(String),
}
