//! The pure core of runbook: the language, the calls, the grants, the journal's vocabulary. No IO, no clock.

pub mod bytes;
pub mod call;
pub mod cassette;
pub mod condition;
pub mod consent;
pub mod delta;
pub mod diagnostic;
pub mod duration;
pub mod edits;
pub mod event;
pub mod evidence;
pub mod exit_code;
pub mod expr;
pub mod facet;
pub mod grant;
pub mod history;
pub mod input_schema;
pub mod inputs;
pub mod journal;
pub mod manifest;
pub mod overlay;
pub mod pack_source;
pub mod parse;
pub mod plan;
pub mod prepare;
pub mod redact;
pub mod report;
pub mod resolve;
pub mod schema;
pub mod schema_json;
pub mod state;
pub mod summary;
pub mod undo;
pub mod undo_kube;
pub mod words;

// The tests of this crate and those in tests/ share one catalog, which names the crate as the outside does.
#[cfg(test)]
extern crate self as runbook_model;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod fixture;
