//! Sections of a component: the manifest, what it imports, what it exports.

use runbook_model::manifest::{Manifest, SECTION};
use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, Parser, Payload};

use crate::check::{Mistake, check};

/// Bytes. An interpreter compiled to WebAssembly takes some 20 MiB; nothing that is larger than this is a plugin.
pub const MAX_COMPONENT: usize = 128 << 20;

/// Bytes of a manifest.
pub const MAX_MANIFEST: usize = 1 << 20;

/// Names that a component may import or export. The world of plugins has 5 of its own, WASI some 30.
const MAX_NAMES: usize = 1000;

/// What can be known of a plugin without running it.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// What it says of itself. Checked.
    pub manifest: Manifest,
    /// The manifest as it stands in the component.
    pub manifest_json: String,
    /// SHA-256 of the component, lower-case hex.
    pub sha256: String,
    /// What it imports, in its order: `runbook:ssh/machines@0.1.0`. It can reach nothing else.
    pub imports: Vec<String>,
    /// What it exports, in its order.
    pub exports: Vec<String>,
}

impl Component {
    /// The capabilities among the imports: what the plugin can reach when it is granted.
    pub fn capabilities(&self) -> impl Iterator<Item = &str> {
        let shared = |name: &str| name.starts_with("runbook:base/") || name.starts_with("runbook:plugin/");
        self.imports.iter().map(String::as_str).filter(move |name| name.starts_with("runbook:") && !shared(name))
    }
}

/// Why a file is not a plugin.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// Larger than [`MAX_COMPONENT`].
    #[error("it is larger than {} MiB", MAX_COMPONENT >> 20)]
    TooLarge,
    /// Not WebAssembly at all.
    #[error("it is not WebAssembly")]
    NotWasm,
    /// A core module.
    #[error("it is a core WebAssembly module, not a component (build it for the target wasm32-wasip2)")]
    CoreModule,
    /// Damaged, or newer than this program.
    #[error("it is damaged, or newer than this version of runbook: {message} (at byte {offset})")]
    Malformed {
        /// What the parser met.
        message: String,
        /// Where.
        offset: u64,
    },
    /// More names than any plugin has.
    #[error("it has more than {MAX_NAMES} imports or exports")]
    TooManyNames,
    /// No manifest in it.
    #[error("it has no manifest (no custom section `{SECTION}`), so it is not a runbook plugin")]
    NoManifest,
    /// Several manifests in it.
    #[error("it has several manifests (custom sections `{SECTION}`), one is allowed")]
    SeveralManifests,
    /// A manifest larger than [`MAX_MANIFEST`].
    #[error("its manifest is larger than {} KiB", MAX_MANIFEST >> 10)]
    ManifestTooLarge,
    /// A manifest that is not JSON of the right shape.
    #[error("its manifest cannot be read: {0}")]
    ManifestShape(String),
    /// A manifest that says something impossible.
    #[error("its manifest is wrong: {}", join(.0))]
    ManifestWrong(Vec<Mistake>),
}

fn join(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("; ")
}

/// SHA-256 as lower-case hex: the identity of a component.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Reads a component.
///
/// # Errors
///
/// When it is no component, or has no manifest that holds together.
pub fn read(bytes: &[u8]) -> Result<Component, ReadError> {
    let component = read_own(bytes, String::new())?;
    let mistakes = check(&component.manifest);
    if !mistakes.is_empty() {
        return Err(ReadError::ManifestWrong(mistakes));
    }
    Ok(Component { sha256: digest(bytes), ..component })
}

/// [`read`] for a component that is part of the program: its digest was taken, and its manifest checked, when the program was
/// built and tested. Both take some milliseconds, which each run would spend again.
///
/// # Errors
///
/// When it is no component, or has no manifest.
pub fn read_own(bytes: &[u8], sha256: String) -> Result<Component, ReadError> {
    let sections = scan(bytes)?;
    let section = sections.manifest.ok_or(ReadError::NoManifest)?;
    if section.len() > MAX_MANIFEST {
        return Err(ReadError::ManifestTooLarge);
    }
    let text = std::str::from_utf8(section).map_err(|e| ReadError::ManifestShape(e.to_string()))?;
    let manifest: Manifest = serde_json::from_str(text).map_err(|e| ReadError::ManifestShape(e.to_string()))?;
    Ok(Component {
        manifest,
        manifest_json: text.to_owned(),
        sha256,
        imports: sections.imports,
        exports: sections.exports,
    })
}

#[derive(Default)]
struct Sections<'a> {
    manifest: Option<&'a [u8]>,
    imports: Vec<String>,
    exports: Vec<String>,
}

fn scan(bytes: &[u8]) -> Result<Sections<'_>, ReadError> {
    if bytes.len() > MAX_COMPONENT {
        return Err(ReadError::TooLarge);
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(ReadError::NotWasm);
    }
    if Parser::is_core_wasm(bytes) {
        return Err(ReadError::CoreModule);
    }
    let mut sections = Sections::default();
    // 0 is the component itself; a compiler puts the manifest into the core module, one level below.
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(ReadError::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if section.name() == SECTION => {
                let earlier = sections.manifest.replace(section.data());
                if earlier.is_some() {
                    return Err(ReadError::SeveralManifests);
                }
            }
            Payload::ComponentImportSection(reader) if depth == 0 => {
                for import in reader {
                    push(&mut sections.imports, import.map_err(malformed)?.name.name)?;
                }
            }
            Payload::ComponentExportSection(reader) if depth == 0 => {
                for export in reader {
                    push(&mut sections.exports, export.map_err(malformed)?.name.name)?;
                }
            }
            _ => {}
        }
    }
    Ok(sections)
}

fn push(names: &mut Vec<String>, name: &str) -> Result<(), ReadError> {
    if names.len() == MAX_NAMES {
        return Err(ReadError::TooManyNames);
    }
    names.push(name.to_owned());
    Ok(())
}

fn malformed(error: wasmparser::BinaryReaderError) -> ReadError {
    ReadError::Malformed { message: error.message().to_owned(), offset: error.offset() as u64 }
}
