//! Machines, over SSH and on the controller itself: commands, files, and looks over the network.

pub mod auth;
pub mod backend;
pub mod r#become;
mod channel;
pub mod client;
pub mod command;
pub mod config;
mod confirm;
pub mod connect;
mod dns;
mod doubt;
mod files;
mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod host_key;
pub mod known_hosts;
mod lease;
pub mod local;
mod looks;
pub mod machine;
mod marks;
mod net;
mod prompt;
mod quote;
mod route;
mod script;
mod settle;
mod shell;
mod shells;
mod source;
mod spool;
mod system;
pub mod transport;
