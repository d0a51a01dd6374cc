//! A deterministic world in memory: machines with file trees and programs, clusters with objects, and what goes wrong with them.
//!
//! [`World`] is a [`Backend`], so everything above it (the broker, plans, undo, resume) is the real thing. It keeps leases and notes of what
//! was begun and ended as the real helper does, so that a change in doubt is settled by evidence. Nothing of it happens on this computer,
//! and the same calls get the same answers: a run can be cut off at every place, from a snapshot that costs microseconds.
//!
//! It is honest: what nobody described ([`file`]) is no default but a *gap*, which fails and is remembered ([`State::gaps`]).
//!
//! Its time is [`runbook_engine::clock::now`]: leases end by it, calls take it ([`Pace`]), and what nobody hears of any more goes on in it. Under
//! tokio's paused clock hours of it cost nothing.
//!
//! Not in it: users and permissions.

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

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runbook_engine::clock;

pub use crash::{Crash, How};
pub use machine::{Invocation, Machine, Program, output};
pub use rules::{Rule, Wanted};
pub use state::{Done, Is, State, Thing, contrast, differences};
pub use tree::{Kind, Node, Tree};
pub use weather::{Pace, Weather};

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
    /// Targets that refuse everything: with which HTTP status (503: nobody answers), and until when.
    pub outages: BTreeMap<String, (u16, Instant)>,
    /// How often the process of the run ended: what it had on its way then does not arrive any more.
    pub(crate) ends: u64,
}

impl World {
    /// A world that is so.
    pub fn new(state: State) -> Self {
        Self { state: Mutex::new(state), power: Mutex::default() }
    }

    /// The world as it is.
    pub fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.go_on(clock::now());
        state
    }

    /// The process of the run is gone: nobody renews its leases, and what is on its way does not arrive.
    pub fn hang_up(&self) {
        self.power().ends += 1;
        let end = clock::now() + state::LEASE;
        for lease in self.state().leases.values_mut() {
            lease.until.get_or_insert(end);
        }
    }

    /// Another controller works on a target for some time. Gives whether it can: nobody else is in charge.
    pub fn visit(&self, target: &str, run: &str, time: Duration) -> bool {
        let now = clock::now();
        let mut state = self.state();
        let free = state.leases.get(target).is_none_or(|lease| lease.is_over(now));
        if free {
            let lease = state::Lease { run: run.to_owned(), session: 1, until: Some(now + time) };
            state.leases.insert(target.to_owned(), lease);
        }
        free
    }

    /// What goes wrong.
    pub fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
