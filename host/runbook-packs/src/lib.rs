//! What a plugin says of itself, read from the component without running or compiling it: manifest, imports, exports, digest.
//!
//! Components are hostile until proven otherwise: sizes are capped before anything is parsed, nothing here recurses over their
//! structure, and nothing panics. Signatures, packs and lock files do not exist yet.

pub mod allowed_signers;
mod attached;
mod check;
mod code;
mod component;
mod embed;
pub mod image;
pub mod layout;
mod pattern;
pub mod registry;
mod schema;
pub mod sshsig;
mod tar;

pub use check::{Mistake, PatternError, Wrong, check};
pub use code::{CodeError, check_code};
pub use component::{Component, MAX_COMPONENT, MAX_MANIFEST, ReadError, digest, read, read_own};
pub use embed::{TomlError, embed, from_toml};
pub use schema::{Schema, SchemaError};
