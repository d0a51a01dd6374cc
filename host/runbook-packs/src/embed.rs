//! From `plugin.toml` to the manifest in a component, for languages whose compiler does not put it there.

use runbook_model::manifest::{Manifest, SECTION};

use crate::check::check;
use crate::component::{MAX_COMPONENT, MAX_MANIFEST, ReadError, has_manifest, read};

/// Why a `plugin.toml` gives no manifest.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TomlError {
    /// Not TOML, or not of a manifest's shape; where, and why.
    #[error("{0}")]
    Shape(String),
    /// It says something impossible; each mistake on a line of its own.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<crate::Mistake>),
}

/// Reads a `plugin.toml`. Checked as a component's manifest is.
///
/// # Errors
///
/// Why it is none: every mistake.
pub fn from_toml(text: &str) -> Result<Manifest, TomlError> {
    if text.len() > MAX_MANIFEST {
        return Err(TomlError::Shape(ReadError::ManifestTooLarge.to_string()));
    }
    let manifest: Manifest = toml::from_str(text).map_err(|error| TomlError::Shape(error.to_string()))?;
    let mistakes = check(&manifest);
    if mistakes.is_empty() { Ok(manifest) } else { Err(TomlError::Wrong(mistakes)) }
}

/// The component with this manifest in its custom section. Nothing else in it changes.
///
/// # Errors
///
/// When it is no component or has a manifest already, and when what comes out is not one that [`read`] takes.
pub fn embed(component: &[u8], manifest_json: &str) -> Result<Vec<u8>, ReadError> {
    if has_manifest(component)? {
        return Err(ReadError::SeveralManifests);
    }
    if manifest_json.len() > MAX_MANIFEST {
        return Err(ReadError::ManifestTooLarge);
    }
    let mut name = Vec::new();
    length(&mut name, SECTION.len());
    name.extend_from_slice(SECTION.as_bytes());
    let mut whole = component.to_vec();
    whole.push(0); // The id of custom sections. At the end of a component one may always stand.
    length(&mut whole, name.len() + manifest_json.len());
    whole.extend_from_slice(&name);
    whole.extend_from_slice(manifest_json.as_bytes());
    if whole.len() > MAX_COMPONENT {
        return Err(ReadError::TooLarge);
    }
    read(&whole)?;
    Ok(whole)
}

/// A length as WebAssembly writes it: LEB128, seven bits in each byte, the lowest first.
fn length(into: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            return into.push(low);
        }
        into.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: &str = r#"
        name = "demo"
        version = "0.1.0"
        summary = "Shows how."
        [[action]]
        name = "hello"
        summary = "Says hello."
        [[action.role]]
        name = "host"
        [[action.ask]]
        call = "files.write"
        on.path = "/etc/motd"
        reason = "It is what is said."
    "#;

    fn empty() -> Vec<u8> {
        wat::parse_str("(component)").expect("is WAT")
    }

    #[test]
    fn what_is_embedded_is_what_is_read() {
        let manifest = from_toml(PLUGIN).expect("is a manifest");
        // Of every length around those at which LEB128 takes one more byte.
        for padding in [0, 1, 127, 128, 16_383, 16_384] {
            let json = serde_json::to_string(&manifest).expect("writes") + &" ".repeat(padding);
            let component = embed(&empty(), &json).expect("fits");
            let found = read(&component).expect("is a plugin");
            assert_eq!((found.manifest, found.manifest_json), (manifest.clone(), json));
            assert_eq!(embed(&component, "{}"), Err(ReadError::SeveralManifests));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(embed(b"nothing", "{}"), Err(ReadError::NotWasm));
        assert!(matches!(embed(&empty(), "{}"), Err(ReadError::ManifestShape(_))));
        assert_eq!(embed(&empty(), &" ".repeat(MAX_MANIFEST + 1)), Err(ReadError::ManifestTooLarge));
    }

    #[test]
    fn every_mistake_of_a_toml_is_told() {
        let wrong = PLUGIN.replace("0.1.0", "1").replace("/etc/motd", "etc/motd");
        let told = from_toml(&wrong).expect_err("is wrong").to_string();
        assert!(told.contains("semantic version") && told.contains("must be absolute"), "{told}");
        assert_eq!(told.lines().count(), 2, "{told}");
        let told =
            from_toml(&PLUGIN.replace("summary = \"Shows", "sumary = \"Shows")).expect_err("is wrong").to_string();
        assert!(told.contains("sumary") && told.contains("line 4"), "{told}");
        assert!(from_toml(&" ".repeat(MAX_MANIFEST + 1)).is_err());
    }
}
