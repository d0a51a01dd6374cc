//! Signatures as OCI artifacts: an image manifest of its own, about the manifest that was signed.

use serde::{Deserialize, Serialize};

use crate::image::{Descriptor, Digest, ImageError, MANIFEST_TYPE, MAX_SIGNATURE, Manifest, SIGNATURE_TYPE};

/// Media type of lists of manifests: `index.json` of a layout, and what refers to a manifest in a registry.
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// A list of manifests.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    /// What it names.
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    /// A list of these.
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(INDEX_TYPE.to_owned()), manifests }
    }
}

/// Media type of a config that says nothing.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// The config that says nothing.
pub(crate) const EMPTY: &[u8] = b"{}";

/// The artifact of a signature: `{}` is its config, the armored signature its one layer.
pub(crate) struct Attached {
    /// Its manifest.
    pub(crate) manifest: Vec<u8>,
    /// What names the manifest in an index.
    pub(crate) descriptor: Descriptor,
}

impl Attached {
    /// Of this signature, over this manifest. The same signature gives the same artifact.
    pub(crate) fn new(signature: &[u8], signed: &[u8]) -> Self {
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: Some(SIGNATURE_TYPE.to_owned()),
            config: Descriptor::of(EMPTY_TYPE, EMPTY),
            layers: vec![Descriptor::of(SIGNATURE_TYPE, signature)],
            subject: Some(Descriptor::of(MANIFEST_TYPE, signed)),
            annotations: std::collections::BTreeMap::new(),
        };
        let manifest = manifest.to_bytes();
        let mut descriptor = Descriptor::of(MANIFEST_TYPE, &manifest);
        descriptor.artifact_type = Some(SIGNATURE_TYPE.to_owned());
        Self { manifest, descriptor }
    }
}

/// Whether a manifest is that of a signature.
pub(crate) fn is_signature(manifest: &Manifest) -> bool {
    manifest.artifact_type.as_deref() == Some(SIGNATURE_TYPE)
}

/// What names the armored signature in the manifest of one.
///
/// # Errors
///
/// When it is about something else than `signed`, or is not built as a signature is.
pub(crate) fn layer<'a>(manifest: &'a Manifest, signed: &Digest) -> Result<&'a Descriptor, ImageError> {
    if manifest.subject.as_ref().map(|s| &s.digest) != Some(signed) {
        return Err(ImageError::SignatureOfOther);
    }
    match manifest.layers.as_slice() {
        [layer] if layer.size <= MAX_SIGNATURE as u64 => Ok(layer),
        [_] => Err(ImageError::SignatureTooLarge),
        _ => Err(ImageError::SignatureShape),
    }
}
