//! The plugins that are part of the program.

/// Name and component of each standard plugin. `build.rs` compiles them from `plugins/`.
pub(crate) static STANDARD: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/standard.rs"));

#[cfg(test)]
mod tests {
    use runbook_plugins::{Host, Options};

    use super::*;

    #[tokio::test]
    async fn every_standard_plugin_fits_this_program() {
        assert!(STANDARD.iter().any(|(name, _)| *name == "core"));
        let host = Host::new(Options::default()).expect("starts");
        for (name, bytes) in STANDARD {
            host.load(name, *bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            host.prepare(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
