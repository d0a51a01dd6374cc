//! What a plugin says of itself, read from the component without running or compiling it: manifest, imports, exports, digest.
//!
//! Components are hostile until proven otherwise: sizes are capped before anything is parsed, nothing here recurses over their
//! structure, and nothing panics.
//!
//! A pack is a set of them with runbooks and documents: built from an author's folder ([`source`]), read ([`pack`]) and pinned with what
//! its owner granted ([`lock`]). Whoever names it has signed
//! it ([`sshsig`], [`allowed_signers`]): [`trust`] decides whether it may be used. Outside of this program it is an OCI image ([`image`],
//! [`layout`], [`registry`]).

pub mod allowed_signers;
mod attached;
mod check;
mod code;
mod component;
pub mod config;
mod embed;
mod file;
pub mod image;
pub mod layout;
pub mod lock;
pub mod pack;
mod pattern;
pub mod registry;
mod schema;
pub mod source;
pub mod sshsig;
pub mod store;
mod tar;
pub mod trust;

pub use check::{Mistake, PatternError, Wrong, check};
pub use code::{CodeError, check_code};
pub use component::{Component, MAX_COMPONENT, MAX_MANIFEST, ReadError, digest, read, read_own};
pub use embed::{TomlError, embed, from_toml};
pub use file::read_file;
pub use schema::{Schema, SchemaError};
