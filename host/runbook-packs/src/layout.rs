//! An image at rest, as OCI lays it out: `oci-layout`, `index.json` and `blobs/sha256/HEX`, in a directory or in one tar file.
//!
//! The image's digest is the same in both, and in a registry. A file is the same for the same image, whoever writes it and when.
//! What is read may be anybody's: sizes are capped before anything is held, no name of an archive ever becomes a path, links and devices are
//! refused, and each part is compared with its digest.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;

use crate::attached::{self, Attached, EMPTY, Index};
use crate::image::{
    Descriptor, Digest, Image, ImageError, MANIFEST_TYPE, MAX_BLOB, MAX_BLOBS, MAX_IMAGE, MAX_IMAGE_MANIFEST,
    MAX_SIGNATURES, Manifest, said,
};
use crate::tar::{self, TarError};

const MARKER: &str = "oci-layout";
const MARKER_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256";

/// Bytes of `oci-layout`, which holds a version.
const MAX_MARKER: u64 = 4 << 10;

/// Files and folders of an archive: the blobs, three for each signature, and what is always there.
const MAX_FILES: usize = MAX_BLOBS + 3 * MAX_SIGNATURES + 8;

/// Bytes of all files of an archive: the image and what is not part of it.
const MAX_ARCHIVE: u64 = (MAX_IMAGE + 8 * MAX_IMAGE_MANIFEST) as u64;

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The image in it does not hold together.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The file is no archive of plain files.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// Neither an archive nor a directory with an OCI layout.
    #[error("it is not an OCI layout: `{0}` is missing")]
    Missing(&'static str),
    /// `oci-layout` or `index.json` does not read as such.
    #[error("its `{file}` cannot be read: {message}")]
    Shape {
        /// Which of them.
        file: &'static str,
        /// Why not.
        message: String,
    },
    /// A layout may hold any number of images; a pack is one.
    #[error("it holds {0} images; a pack is one")]
    NotOne(usize),
    /// A file in an archive that no layout has.
    #[error("it holds `{0}`, which is no part of an OCI layout")]
    Foreign(String),
    /// A name in an archive twice.
    #[error("it holds `{0}` twice")]
    Twice(String),
    /// An archive of more bytes than an image may have.
    #[error("it is larger than {} MiB", MAX_ARCHIVE >> 20)]
    TooLarge,
    /// A link, a device or a pipe in a directory.
    #[error("{}: not a plain file", .0.display())]
    NotPlain(PathBuf),
    /// A directory that holds something else is not written to.
    #[error("{}: is not empty, and no OCI layout", .0.display())]
    Occupied(PathBuf),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// Reads an image from a directory or a file.
///
/// # Errors
///
/// When it cannot be read, is no layout of one image, or is not whole.
pub fn read(path: &Path) -> Result<Image, LayoutError> {
    let found = std::fs::metadata(path).map_err(|error| at(path, error))?;
    if found.is_dir() {
        return read_dir(path);
    }
    if !found.is_file() {
        return Err(LayoutError::NotPlain(path.to_owned()));
    }
    read_archive(BufReader::new(File::open(path).map_err(|error| at(path, error))?))
}

/// Reads an image from the bytes of a file.
///
/// # Errors
///
/// When they are no archive of a layout of one image, or it is not whole.
pub fn read_archive(from: impl Read) -> Result<Image, LayoutError> {
    let (mut marker, mut index, mut blobs) = (None, None, BTreeMap::new());
    let mut total = 0;
    let mut reader = tar::Reader::new(from, MAX_FILES);
    while let Some((name, content)) = reader.next(|name| limit(name, MAX_ARCHIVE - total))? {
        total += content.len() as u64;
        let earlier = match name.as_str() {
            MARKER => marker.replace(content),
            INDEX => index.replace(content),
            _ => blobs.insert(blob_name(&name)?, content),
        };
        if earlier.is_some() {
            return Err(LayoutError::Twice(name));
        }
    }
    check_marker(&marker.ok_or(LayoutError::Missing(MARKER))?)?;
    let index = index.ok_or(LayoutError::Missing(INDEX))?;
    let image = gather(&index, |part, _| {
        blobs.remove(&part.digest).ok_or_else(|| ImageError::Missing(part.digest.clone()).into())
    })?;
    match blobs.into_keys().next() {
        Some(foreign) => Err(ImageError::Foreign(foreign).into()),
        None => Ok(image),
    }
}

/// Bytes that the file of this name may have.
fn limit(name: &str, left: u64) -> Result<u64, LayoutError> {
    if left == 0 {
        return Err(LayoutError::TooLarge);
    }
    let most = match name {
        MARKER => MAX_MARKER,
        INDEX => MAX_IMAGE_MANIFEST as u64,
        _ => blob_name(name).map(|_| MAX_BLOB as u64)?,
    };
    Ok(most.min(left))
}

fn blob_name(name: &str) -> Result<Digest, LayoutError> {
    let hex = name.strip_prefix(BLOBS).and_then(|rest| rest.strip_prefix('/'));
    hex.and_then(|hex| Digest::parse(&format!("sha256:{hex}")).ok()).ok_or_else(|| LayoutError::Foreign(said(name)))
}

fn read_dir(dir: &Path) -> Result<Image, LayoutError> {
    check_marker(&plain(&dir.join(MARKER), MAX_MARKER, LayoutError::Missing(MARKER))?)?;
    let index = plain(&dir.join(INDEX), MAX_IMAGE_MANIFEST as u64, LayoutError::Missing(INDEX))?;
    gather(&index, |part, most| {
        let missing = ImageError::Missing(part.digest.clone()).into();
        plain(&dir.join(BLOBS).join(part.digest.hex()), most, missing)
    })
}

/// The content of a plain file, read no further than one byte beyond `most`.
fn plain(path: &Path, most: u64, missing: LayoutError) -> Result<Vec<u8>, LayoutError> {
    // Not to hang on a pipe, and not to follow a link to a device.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(LayoutError::NotPlain(path.to_owned()));
        }
        Err(error) => return Err(at(path, error)),
    };
    if !file.metadata().map_err(|error| at(path, error))?.is_file() {
        return Err(LayoutError::NotPlain(path.to_owned()));
    }
    let mut content = Vec::new();
    file.take(most + 1).read_to_end(&mut content).map_err(|error| at(path, error))?;
    Ok(content)
}

fn check_marker(text: &[u8]) -> Result<(), LayoutError> {
    let marker: Marker = json(MARKER, text)?;
    if marker.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    let message = format!("it is of version `{}`, this program knows 1.0", said(&marker.image_layout_version));
    Err(LayoutError::Shape { file: MARKER, message })
}

fn json<T: serde::de::DeserializeOwned>(file: &'static str, text: &[u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(text).map_err(|error| LayoutError::Shape { file, message: said(&error.to_string()) })
}

/// Puts an image together from what `index.json` names. `fetch` gives the bytes of a part, and need not look at more than so many.
fn gather(
    index: &[u8],
    mut fetch: impl FnMut(&Descriptor, u64) -> Result<Vec<u8>, LayoutError>,
) -> Result<Image, LayoutError> {
    if index.len() > MAX_IMAGE_MANIFEST {
        return Err(LayoutError::Shape { file: INDEX, message: "it is too large".to_owned() });
    }
    let index: Index = json(INDEX, index)?;
    let mut seen = BTreeSet::new();
    let mut get = |part: &Descriptor, most: usize| -> Result<Option<Vec<u8>>, LayoutError> {
        if !seen.insert(part.digest.clone()) {
            return Ok(None);
        }
        let bytes = fetch(part, part.size.min(most as u64))?;
        part.check(&bytes)?;
        Ok(Some(bytes))
    };

    let (mut packs, mut signatures) = (Vec::new(), Vec::new());
    if index.manifests.len() > MAX_SIGNATURES + 1 {
        return Err(ImageError::TooManySignatures.into());
    }
    for named in &index.manifests {
        if named.media_type != MANIFEST_TYPE {
            return Err(ImageError::ManifestType(said(&named.media_type)).into());
        }
        if named.size > MAX_IMAGE_MANIFEST as u64 {
            return Err(ImageError::ManifestTooLarge.into());
        }
        let Some(bytes) = get(named, MAX_IMAGE_MANIFEST)? else { continue };
        let manifest = Manifest::parse(&bytes)?;
        // What the index says of it is nobody's word; the manifest is signed.
        if attached::is_signature(&manifest) { signatures.push(manifest) } else { packs.push((bytes, manifest)) }
    }
    let count = packs.len();
    let (Some((bytes, manifest)), 1) = (packs.pop(), count) else { return Err(LayoutError::NotOne(count)) };

    let mut image = Image { manifest: bytes, ..Image::default() };
    for part in manifest.parts() {
        if let Some(bytes) = get(part, MAX_BLOB)? {
            image.blobs.insert(part.digest.clone(), bytes);
        }
    }
    let digest = image.digest();
    for signature in signatures {
        let layer = attached::layer(&signature, &digest)?;
        get(&signature.config, EMPTY.len())?;
        image.signatures.extend(get(layer, crate::image::MAX_SIGNATURE)?);
    }
    // For the sizes of parts that have the same digest.
    image.check()?;
    Ok(image)
}

/// Name and content.
type NamedFile<'a> = (String, Cow<'a, [u8]>);

/// The files of an image's layout, in their order. Signatures are sorted: their order says nothing.
fn files(image: &Image) -> Result<Vec<NamedFile<'_>>, LayoutError> {
    let manifest = image.check()?;
    let mut named = Descriptor::of(MANIFEST_TYPE, &image.manifest);
    named.artifact_type = manifest.artifact_type;
    let mut index = Index::new(vec![named.clone()]);
    let mut blobs: BTreeMap<Digest, Cow<'_, [u8]>> =
        image.blobs.iter().map(|(digest, bytes)| (digest.clone(), Cow::from(bytes))).collect();
    blobs.insert(named.digest, Cow::from(&image.manifest));
    let signatures: BTreeSet<&Vec<u8>> = image.signatures.iter().collect();
    for signature in signatures {
        let attached = Attached::new(signature, &image.manifest);
        blobs.insert(Digest::of(EMPTY), Cow::from(EMPTY));
        blobs.insert(Digest::of(signature), Cow::from(signature));
        blobs.insert(attached.descriptor.digest.clone(), attached.manifest.into());
        index.manifests.push(attached.descriptor);
    }
    let index =
        serde_json::to_vec(&index).map_err(|error| LayoutError::Shape { file: INDEX, message: error.to_string() })?;
    let fixed = [(MARKER.to_owned(), Cow::from(MARKER_TEXT)), (INDEX.to_owned(), Cow::from(index))];
    let blobs = blobs.into_iter().map(|(digest, bytes)| (format!("{BLOBS}/{}", digest.hex()), bytes));
    Ok(fixed.into_iter().chain(blobs).collect())
}

/// The bytes of an image as one file.
///
/// # Errors
///
/// When the image is not whole.
pub fn archive(image: &Image) -> Result<Vec<u8>, LayoutError> {
    let mut out = Vec::new();
    for (name, content) in files(image)? {
        tar::append(&mut out, &name, &content);
    }
    tar::finish(&mut out);
    Ok(out)
}

/// Writes an image as one file, in place of what was there: whole, or not at all.
///
/// # Errors
///
/// When the image is not whole, or the file cannot be written.
pub fn write_file(image: &Image, path: &Path) -> Result<(), LayoutError> {
    put(path, &archive(image)?)
}

/// Writes an image as a directory: a new or empty one, or one that holds a layout. That then holds this image alone; parts of
/// another one stay and are named by nothing.
///
/// # Errors
///
/// When the image is not whole, the directory holds something else, or cannot be written to.
pub fn write_dir(image: &Image, dir: &Path) -> Result<(), LayoutError> {
    let mut files = files(image)?;
    std::fs::create_dir_all(dir).map_err(|error| at(dir, error))?;
    let occupied = std::fs::read_dir(dir).map_err(|error| at(dir, error))?.next().is_some();
    if occupied && !dir.join(MARKER).is_file() {
        return Err(LayoutError::Occupied(dir.to_owned()));
    }
    let blobs = dir.join(BLOBS);
    std::fs::create_dir_all(&blobs).map_err(|error| at(&blobs, error))?;
    // The index comes last: what it names is there.
    files.sort_by_key(|(name, _)| name == INDEX);
    files.iter().try_for_each(|(name, content)| put(&dir.join(name), content))
}

fn put(path: &Path, content: &[u8]) -> Result<(), LayoutError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // As readable as any other file of this user.
    let mut builder = tempfile::Builder::new();
    builder.permissions(Permissions::from_mode(0o666));
    let written = builder.tempfile_in(folder).and_then(|mut file| {
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|failed| failed.error)
    });
    written.map(drop).map_err(|error| at(path, error))
}

fn at(path: &Path, error: io::Error) -> LayoutError {
    LayoutError::Io { path: path.to_owned(), error }
}
