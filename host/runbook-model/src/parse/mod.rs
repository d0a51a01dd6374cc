//! Text to runbook: all mistakes at once, each with its place, before anything is touched.

mod inventory;
mod load;
mod names;
mod on;
mod set;
mod steps;
mod with;

pub use load::{Catalog, Component, Document, Files, Mentions, PackMention, join_path, join_source, load};

#[cfg(test)]
mod tests;
