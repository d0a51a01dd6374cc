//! Expressions: `{{ ... }}` in texts, and the bare ones of `when`, `unless` and `key`.
//!
//! The syntax is minijinja's, strict: an undefined name is an error. Only `{{ ... }}` is special in a text; `{% %}` and `{# #}`
//! are plain characters, since shell scripts contain them. Substitution is one pass, and results are never rendered again, so
//! what a host answers is data for ever.
//!
//! Three things are decided here for the whole program: when a value is *unknown* in a plan (conservatively, by the names that
//! an expression uses), which inputs are *computed* from outputs (grants treat them otherwise), and that the value of a
//! *secret* is never seen: in expressions a mark stands for it, afterwards a reference.

mod context;
mod convert;
mod eval;
mod filters;
mod scope;
mod secret;
pub mod syntax;

pub(crate) use eval::SECRET_HELP;
pub use eval::{ExprError, Item, Items, Rendered, Unknown, condition, items, key, on_hosts, render, text};
pub use filters::{filter_names, function_names, test_names};
pub use scope::{HostView, InstanceView, Outputs, RunView, Scope};
pub(crate) use secret::reference as secret_reference;
pub use secret::{SECRET, TEXT, is_reference, is_reserved};

#[cfg(test)]
mod tests;
