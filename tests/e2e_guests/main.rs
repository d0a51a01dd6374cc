//! Plugins in Python and JavaScript, on this machine as its own host. `tests/run guests` builds them first.

mod authoring;
mod homeassistant;
mod house;
mod powers;
mod smart;
mod support;
