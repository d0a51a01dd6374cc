//! Plugins as real components, each against a road that records what arrives.
#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod calls;
mod crashes;
mod everything;
mod kept;
mod limits;
mod probe;
mod road;
mod sandbox;
mod support;
mod unfit;
