//! The pure core of runbook: the language, the calls, the grants, the journal's vocabulary. No IO, no clock.

pub mod bytes;
pub mod call;
pub mod event;
pub mod manifest;
