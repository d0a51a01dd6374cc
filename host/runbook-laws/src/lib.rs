//! The laws that a plugin keeps, as a harness.
