//! A pack as OCI sees it: an image manifest and the blobs that it names, each known by its digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::component::MAX_COMPONENT;

/// Media type of the manifest of a pack, and of that of a signature.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// `artifactType` of a signature: an image manifest whose `subject` is the pack's manifest and whose one layer is the armored SSHSIG.
pub const SIGNATURE_TYPE: &str = "application/vnd.runbook.signature.v1+ssh";

/// Bytes of a manifest. Registries take 4 MiB; a pack of a thousand files has some 300 KiB.
pub const MAX_IMAGE_MANIFEST: usize = 1 << 20;

/// Bytes of a blob: the largest component.
pub const MAX_BLOB: usize = MAX_COMPONENT;

/// Bytes of all blobs of an image, which are held in memory.
pub const MAX_IMAGE: usize = 512 << 20;

/// Blobs of an image.
pub const MAX_BLOBS: usize = 2000;

/// Signatures of an image. Each is verified, so they are a cost that strangers can add to.
pub const MAX_SIGNATURES: usize = 32;

/// Bytes of an armored signature. One of a 16384-bit RSA key has some 6 KiB.
pub const MAX_SIGNATURE: usize = 16 << 10;

/// `sha256:` and 64 lower-case hex digits: what something is, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
    }

    /// Reads a digest.
    ///
    /// # Errors
    ///
    /// When it is not written as one, or is of another algorithm.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix("sha256:").ok_or(DigestError)?;
        let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text.to_owned())) } else { Err(DigestError) }
    }

    /// As it is written: `sha256:...`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits alone.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// Why a text is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is written `sha256:` and 64 lower-case hex digits")]
pub struct DigestError;

/// A pack as OCI sees it. As long as nobody has called [`Image::check`], only what it claims to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The OCI image manifest, exactly as it was written. Its SHA-256 is the digest of the pack, everywhere.
    pub manifest: Vec<u8>,
    /// Config and layers, by their digests.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    /// SSHSIG over the bytes of `manifest`, armored. They are no part of the digest.
    pub signatures: Vec<Vec<u8>>,
}

/// What an OCI image manifest says. What it says beyond this is ignored, as OCI wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// [`MANIFEST_TYPE`].
    pub media_type: String,
    /// What kind of thing it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What the artifact says of itself.
    pub config: Descriptor,
    /// Its parts.
    pub layers: Vec<Descriptor>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// More of it, for people and tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What names a blob or a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Which it is.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// For manifests: their `artifactType`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// More of it: a layer's name is `org.opencontainers.image.title`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// What names these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether these are the bytes that it names.
    ///
    /// # Errors
    ///
    /// When they are not.
    pub fn check(&self, bytes: &[u8]) -> Result<(), ImageError> {
        self.check_size(bytes)?;
        let found = Digest::of(bytes);
        if found == self.digest { Ok(()) } else { Err(ImageError::Altered { wanted: self.digest.clone(), found }) }
    }

    fn check_size(&self, bytes: &[u8]) -> Result<(), ImageError> {
        let same = bytes.len() as u64 == self.size;
        if same { Ok(()) } else { Err(ImageError::Size { digest: self.digest.clone(), said: self.size }) }
    }
}

/// Why an image does not hold together. Names of others are not repeated here: they may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// More bytes than [`MAX_IMAGE_MANIFEST`].
    #[error("its manifest is larger than {} KiB", MAX_IMAGE_MANIFEST >> 10)]
    ManifestTooLarge,
    /// Not JSON of the right shape.
    #[error("its manifest is not an OCI image manifest: {0}")]
    ManifestShape(String),
    /// JSON of the right shape that says it is something else.
    #[error("its manifest is not an OCI image manifest, but says that it is `{0}`")]
    ManifestType(String),
    /// A blob is larger than [`MAX_BLOB`].
    #[error("its part {0} is larger than {limit} MiB", limit = MAX_BLOB >> 20)]
    BlobTooLarge(Digest),
    /// More bytes than [`MAX_IMAGE`].
    #[error("it is larger than {} MiB", MAX_IMAGE >> 20)]
    TooLarge,
    /// More blobs than [`MAX_BLOBS`].
    #[error("it has more than {MAX_BLOBS} parts")]
    TooMany,
    /// More signatures than [`MAX_SIGNATURES`].
    #[error("it has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// A signature is larger than [`MAX_SIGNATURE`].
    #[error("a signature of it is larger than {} KiB", MAX_SIGNATURE >> 10)]
    SignatureTooLarge,
    /// The artifact of a signature has not one layer.
    #[error("a signature of it is not built as one: its manifest names more, or less, than one part")]
    SignatureShape,
    /// The artifact of a signature is about another manifest.
    #[error("a signature that lies beside it is about something else")]
    SignatureOfOther,
    /// The manifest names a blob that is not there.
    #[error("its part {0} is missing")]
    Missing(Digest),
    /// A blob that the manifest does not name.
    #[error("it has a part {0} that its manifest does not name")]
    Foreign(Digest),
    /// The bytes of a blob are others.
    #[error("its part {wanted} was altered: what is there is {found}")]
    Altered {
        /// What the manifest names.
        wanted: Digest,
        /// What is there.
        found: Digest,
    },
    /// A blob has another size than the manifest says.
    #[error("its part {digest} does not have the {said} bytes that its manifest says")]
    Size {
        /// The blob.
        digest: Digest,
        /// What the manifest says.
        said: u64,
    },
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// When it is too large, no OCI image manifest, or names more than an image may have.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() > MAX_IMAGE_MANIFEST {
            return Err(ImageError::ManifestTooLarge);
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|e| ImageError::ManifestShape(said(&e.to_string())))?;
        if manifest.media_type != MANIFEST_TYPE || manifest.schema_version != 2 {
            return Err(ImageError::ManifestType(said(&manifest.media_type)));
        }
        if manifest.layers.len() >= MAX_BLOBS {
            return Err(ImageError::TooMany);
        }
        let mut total = 0u64;
        for part in manifest.parts() {
            if part.size > MAX_BLOB as u64 {
                return Err(ImageError::BlobTooLarge(part.digest.clone()));
            }
            total += part.size;
        }
        if total > MAX_IMAGE as u64 { Err(ImageError::TooLarge) } else { Ok(manifest) }
    }

    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Nothing in it can fail to be JSON: its keys are texts, and it holds no numbers but integers.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Config and layers, in their order.
    pub fn parts(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// A word of a stranger that can be shown: one line, printable, and short.
pub(crate) fn said(text: &str) -> String {
    let short: String = text.chars().take(200).collect();
    runbook_model::words::safe(&short).replace(['\n', '\t'], " ")
}

impl Image {
    /// What it is.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Its manifest, when the image is whole: each blob that the manifest names is there, with its bytes, and no other.
    ///
    /// # Errors
    ///
    /// When it is not, or is larger than an image may be.
    pub fn check(&self) -> Result<Manifest, ImageError> {
        let manifest = Manifest::parse(&self.manifest)?;
        let mut named = BTreeSet::new();
        for part in manifest.parts() {
            let bytes = self.blobs.get(&part.digest).ok_or_else(|| ImageError::Missing(part.digest.clone()))?;
            // The same bytes under two names are looked at once; their sizes are not.
            if named.insert(&part.digest) { part.check(bytes)? } else { part.check_size(bytes)? }
        }
        if let Some(foreign) = self.blobs.keys().find(|digest| !named.contains(digest)) {
            return Err(ImageError::Foreign(foreign.clone()));
        }
        if self.signatures.len() > MAX_SIGNATURES {
            return Err(ImageError::TooManySignatures);
        }
        if self.signatures.iter().any(|s| s.len() > MAX_SIGNATURE) {
            return Err(ImageError::SignatureTooLarge);
        }
        Ok(manifest)
    }
}
