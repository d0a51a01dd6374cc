//! The plugins that are part of the program.

/// Name and component of each standard plugin. `build.rs` compiles them from `plugins/`.
pub(crate) static STANDARD: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/standard.rs"));
