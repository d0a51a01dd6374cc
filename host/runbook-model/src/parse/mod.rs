//! Text to runbook: all mistakes at once, each with its place, before anything is touched.

mod inventory;
mod load;
mod names;
mod on;
mod steps;
mod with;

pub use load::{Catalog, Component, Files, components, join_path, load};

#[cfg(test)]
mod tests;
