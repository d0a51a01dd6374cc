//! Packs in OCI registries: push and pull, by the distribution API that all of them speak.
//!
//! A registry is a place, not an authority. Whatever it says, a pull gives the bytes of the digest that was asked for, or fails; and it
//! fails within bounds of time and size that do not depend on the registry. Whether the pack is to be trusted is asked afterwards.
//!
//! Not supported: docker's credential helpers, proxies from the environment, uploads in pieces.

mod auth;
mod client;
mod error;
mod http;
mod reference;

pub use auth::{Credentials, CredentialsError};
pub use client::{Client, Pushed};
pub use error::{RegistryError, Why};
pub use http::{Options, Patience};
pub use reference::{Reference, ReferenceError};
