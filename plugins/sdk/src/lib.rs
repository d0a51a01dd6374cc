//! What a `runbook` plugin is written with.
//!
//! A plugin is a WebAssembly component that owns know-how and no power. It reaches the world through the handles that a step
//! gives it: [`Machine`], [`Tree`], [`Cluster`]. Each of their functions is either an *observation*, which only looks and also
//! runs in plans, or a *change*, which says what it is good for, what else it alters and how it is taken back.
//!
//! An author writes one function per action. It looks at the target and changes what differs from the inputs:
//!
//! ```
//! use runbook_sdk::prelude::*;
//!
//! /// What stands under `with`.
//! #[derive(Input)]
//! struct Greeting {
//!     /// What people see when they log in.
//!     text: Text,
//! }
//!
//! /// What later steps can refer to.
//! #[derive(Output)]
//! struct Greeted {
//!     /// Version of the kernel that runs.
//!     kernel: String,
//! }
//!
//! fn converge(input: Greeting) -> Result<Greeted> {
//!     let machine = Machine::target("host")?;
//!     machine.files().file("/etc/motd").text(input.text).mode(0o644).ensure()?;
//!     let kernel = machine.cmd(["uname", "-r"]).reads(["kernel"]).observe()?.ok()?.text();
//!     Ok(Greeted { kernel })
//! }
//!
//! plugin! {
//!     manifest: "examples/plugin.toml",
//!     actions: {
//!         "greet" => converge;
//!     }
//! }
//! ```
//!
//! The same function makes the plan, does the work, and checks afterwards that nothing is left to do. In a plan, changes are
//! only recorded: files into an overlay that later reads see, commands not at all. There is no dry-run code to write, and
//! [`Error`] says what becomes of answers that a plan cannot know.
//!
//! Away from WebAssembly there is no host: an action is called in a [fake world](fake) there, by `cargo test` on any machine.

mod change;
mod cluster;
mod command;
mod effect;
mod error;
mod http;
mod kube;
mod machine;
mod mode;
mod path;
mod period;
mod plugin;
mod pod;
mod shape;
mod text;
mod tree;
mod world;

#[doc(hidden)]
pub mod bindings;
pub mod edit;
#[cfg(not(target_arch = "wasm32"))]
pub mod fake;
pub mod placeholder;
pub mod run;
#[cfg(feature = "template")]
pub mod template;

pub use change::{Change, Confirmed, Outcome, Pipeline};
pub use cluster::{Cluster, KubeChange};
pub use command::{Cmd, Exit, Output};
pub use error::{Context, Error, Kind, Result};
pub use http::{Http, HttpChange, Response};
pub use kube::{Condition, ObjectRef, Propagation, ResourceKind, Selector};
pub use machine::{Facts, Machine};
pub use mode::Mode;
pub use path::{ControllerPath, TargetPath};
pub use period::Period;
pub use pod::{Exec, PodChange};
/// Makes a type that can stand under `with`. See [`InputType`].
pub use runbook_sdk_macros::Input;
/// Makes a type that an action can give. See [`OutputType`].
pub use runbook_sdk_macros::Output;
/// Makes a component of a manifest and one function per action.
///
/// ```text
/// plugin! {
///     manifest: "plugin.toml",
///     actions: {
///         "registry" => registry::converge, verify registry::verify;
///         "status" => status::converge;
///     }
/// }
/// ```
///
/// - `manifest` is read and checked when the plugin is compiled. It becomes the custom section `runbook:manifest` of the
///   component, which the host reads without running anything, and what `describe` answers.
/// - Each action of the manifest has one line, and each line an action: anything else is a compile error.
/// - A converge function is `fn(I) -> Result<O>`. `I` is what stands under `with`, `O` what later steps can refer to (`()`: nothing).
///   Both derive what they are, [`Input`](InputType) and [`Output`](OutputType), and with that the JSON Schemas of the action. Where
///   the manifest has `inputs` or `outputs` of its own, these hold, and the type needs no more than serde's traits.
/// - A verify function is `fn(I) -> Result<Vec<String>>`: what is wrong, in words; empty when all is well.
pub use runbook_sdk_macros::plugin;
pub use shape::{InputType, OutputType};
pub use text::Text;
pub use tree::{Directory, Entry, FileKind, Link, NewFile, Removal, Source, Stat, Tree, Verdict};

/// What most plugins use: `use runbook_sdk::prelude::*;`.
pub mod prelude {
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};

    pub use crate::{
        Cluster, Cmd, Context as _, ControllerPath, Error, Input, Kind, Machine, Mode, ObjectRef, Outcome, Output,
        Period, Result, Selector, Source, TargetPath, Text, Tree, Verdict, conflict, ensure, fail, info, invalid,
        plugin, run, warn,
    };
}

#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::exports::runbook::plugin::action::Guest;
    pub use crate::bindings::runbook::base::types::CallError;
    pub use crate::bindings::{self, export};
    pub use crate::plugin::{converge, no_such_action, verify};
    pub use crate::shape::{
        Field, Piece, Pieces, Spread, inputs_of, joined, length, outputs_of, refers, with_defaults,
    };
    pub use serde;
}
