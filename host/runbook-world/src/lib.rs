//! A deterministic world in memory: machines with file trees and programs, clusters with objects, and what goes wrong with them.
//!
//! [`World`] is a [`Backend`], so everything above it (the broker, plans, undo, resume) is the real thing. It keeps leases and notes of what
//! was begun and ended as the real helper does, so that a change in doubt is settled by evidence. Nothing of it happens on this computer,
//! and the same calls get the same answers: a run can be cut off at every place, from a snapshot that costs microseconds.
//!
//! It is honest: what nobody described ([`file`]) is no default but a *gap*, which fails and is remembered ([`State::gaps`]).
//!
//! Not in it: processes that go on after their command, users and permissions, time.

#![warn(missing_docs)]

mod backend;
mod crash;
pub mod file;
mod files;
pub mod kube;
mod machine;
mod rules;
mod ssh;
mod state;
mod tree;
mod weather;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use crash::{Crash, How};
pub use machine::{Invocation, Machine, Program, output};
pub use rules::{Rule, Wanted};
pub use state::{Done, Is, State, Thing, contrast, differences};
pub use tree::{Kind, Node, Tree};
pub use weather::Weather;

/// The world.
#[derive(Default)]
pub struct World {
    state: Mutex<State>,
    power: Mutex<Power>,
}

/// What goes wrong at the moment. It is no part of a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Power {
    /// Nothing that arrives is done.
    pub off: bool,
    /// A program that arrives now is killed while it does its work, and nobody notes its end.
    pub cut: bool,
    /// How the network is.
    pub weather: Weather,
}

impl World {
    /// A world that is so.
    pub fn new(state: State) -> Self {
        Self { state: Mutex::new(state), power: Mutex::default() }
    }

    /// The world as it is.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes wrong.
    pub fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
