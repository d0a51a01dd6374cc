//! Paths, as inputs.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// This path.
            pub fn new(path: impl Into<String>) -> Self {
                Self(path.into())
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(path: $name) -> Self {
                path.0
            }
        }

        impl From<&$name> for String {
            fn from(path: &$name) -> Self {
                path.0.clone()
            }
        }
    )* };
}

paths! {
    /// An absolute path on a machine, as an input. It is a `&str` wherever one is needed.
    TargetPath;
    /// A path on the controller, as an input: the host makes it absolute, relative to the runbook's folder, and lets the step read
    /// there. It is a `&str` wherever one is needed.
    ControllerPath;
}
