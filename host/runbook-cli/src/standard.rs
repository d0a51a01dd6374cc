//! The plugins that are part of the program.

/// A plugin that is part of the program.
pub(crate) struct Plugin {
    pub(crate) name: &'static str,
    /// SHA-256 of the component, lower-case hex. From the build: it would take a millisecond of each run.
    pub(crate) sha256: &'static str,
    /// The component.
    pub(crate) bytes: &'static [u8],
}

/// The standard plugins. `build.rs` compiles them from `plugins/`.
pub(crate) static STANDARD: &[Plugin] = include!(concat!(env!("OUT_DIR"), "/standard.rs"));

/// The standard plugin with this name.
pub(crate) fn find(name: &str) -> Option<&'static Plugin> {
    STANDARD.iter().find(|plugin| plugin.name == name)
}

#[cfg(test)]
mod tests {
    use runbook_plugins::{Host, Options};

    use super::*;

    /// What is read of a standard plugin without being checked, [`Host::load_own`], is checked here.
    #[tokio::test]
    async fn every_standard_plugin_fits_this_program() {
        assert!(find("core").is_some() && find("none").is_none());
        let (host, own) = [(); 2].map(|()| Host::new(Options::default()).expect("starts")).into();
        for Plugin { name, sha256, bytes } in STANDARD {
            let checked = host.load(name, *bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(checked, own.load_own(name, bytes, sha256).unwrap_or_else(|error| panic!("{name}: {error}")));
            host.prepare(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
