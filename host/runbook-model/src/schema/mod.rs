//! TOML exactly as it is written: the tree with its places, and the keys of each version of the language.

pub mod node;
pub mod read;
pub mod v1;
pub mod v1_block;
pub mod v1_packs;
pub mod v1_step;
