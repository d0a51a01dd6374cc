//! Bytes of packs and of registries, and who may have signed them.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use runbook_packs::allowed_signers::AllowedSigners;
use runbook_packs::image::{Digest, Image, Manifest};
use runbook_packs::layout;
use runbook_packs::lock::{Lock, Standing, Use};
use runbook_packs::registry::{Credentials, Reference};
use runbook_packs::source::Source;
use runbook_packs::sshsig::{self, SignerKey};

/// What packs are signed for.
const NAMESPACE: &str = "runbook-pack";

/// An `allowed_signers`. A key counts only where a line has it.
pub(crate) fn allowed_signers(data: &[u8]) {
    let zone = TimeZone::fixed(jiff::tz::offset(1));
    let signers = match AllowedSigners::parse_in(data, &zone) {
        Ok(signers) => signers,
        Err(mistakes) => return mistakes.iter().for_each(|mistake| drop(mistake.to_string())),
    };
    let text = String::from_utf8_lossy(data);
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    for pair in words.windows(2) {
        let Ok(key) = SignerKey::parse(&pair.join(" ")) else { continue };
        let _ = (key.fingerprint(), key.to_string());
        for principal in [None, Some("ann@home.example")] {
            if let Ok(signer) = signers.allow(&key, principal, NAMESPACE, Timestamp::UNIX_EPOCH) {
                assert!(text.lines().count() >= signer.line && text.contains(pair[1]), "{signer:?}");
            }
        }
    }
}

/// A signature, armored or what is inside of the armor, and after `---` what is signed. It is of nothing else.
pub(crate) fn signature(data: &[u8]) {
    let cut = data.windows(5).position(|window| window == b"\n---\n");
    let (signature, message) = cut.map_or((data, &[][..]), |at| (&data[..at], &data[at + 5..]));
    let armored =
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(signature));
    for armored in [signature, armored.as_bytes()] {
        if sshsig::verify(armored, message, NAMESPACE).is_ok() {
            let another = [message, b"x"].concat();
            assert!(sshsig::verify(armored, &another, NAMESPACE).is_err(), "it is of another message, too");
            assert!(sshsig::verify(armored, message, "file").is_err(), "it is for another purpose, too");
        }
    }
}

/// A pack as one file; also with the checksums of its headers put right, which nobody would guess. What is read has the digests that it says, and is read the same when it is written again.
pub(crate) fn pack_archive(data: &[u8]) {
    read_archive(data);
    read_archive(&with_checksums(data));
}

/// An archive whose headers have right checksums, as far as one header leads to the next.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let (mut data, mut at) = (data.to_vec(), 0);
    while let Some(header) = data.get_mut(at..at + 512).filter(|header| header.iter().any(|byte| *byte != 0)) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok().and_then(|size| usize::from_str_radix(size, 8).ok());
        at = at.saturating_add(512).saturating_add(size.unwrap_or(0).div_ceil(512).saturating_mul(512));
        if at > data.len() {
            break;
        }
    }
    data
}

fn read_archive(data: &[u8]) {
    let Ok(image) = layout::read_archive(data) else { return };
    for (digest, blob) in &image.blobs {
        assert_eq!(*digest, Digest::of(blob));
    }
    if image.check().is_ok() {
        let written = layout::archive(&image).unwrap_or_default();
        assert_eq!(layout::read_archive(&written[..]).ok().as_ref(), Some(&image));
    }
}

/// The manifest of a pack, with blobs that may be meant; and what stands in files and on command lines beside it.
pub(crate) fn pack_manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        assert_eq!(Manifest::parse(&manifest.to_bytes()).ok().as_ref(), Some(&manifest));
        let blobs: BTreeMap<Digest, Vec<u8>> = [&b""[..], b"{}", data].map(|b| (Digest::of(b), b.to_vec())).into();
        let image = Image { manifest: data.to_vec(), blobs, signatures: Vec::new() };
        if image.check().is_ok() {
            for part in manifest.parts() {
                assert!(image.blobs.contains_key(&part.digest), "a part is missing");
            }
        }
    }
    let _ = Credentials::parse(data).map(|credentials| credentials.has_helpers());
    if let Ok(reference) = std::str::from_utf8(data).map_err(drop).and_then(|text| Reference::parse(text).map_err(drop))
    {
        assert_eq!(Reference::parse(&reference.to_string()).ok(), Some(reference));
    }
}

/// A `pack.toml`. What it is called can be the name of a file, and mistakes can go to a terminal.
pub(crate) fn pack_source(data: &[u8]) {
    match Source::parse(Path::new("pack.toml"), &String::from_utf8_lossy(data)) {
        Ok(source) => {
            let words = format!("{}-{} {}", source.name.replace('/', "-"), source.version, source.summary);
            assert!(!words.contains(char::is_control), "{words:?}");
            assert!(!source.name.contains("..") && !source.version.contains('/'), "{words:?}");
        }
        Err(mistake) => {
            let said = mistake.to_string();
            assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
        }
    }
}

/// A `runbook.lock`. What is read is written and read the same, and lets pass what it has.
pub(crate) fn lock(data: &[u8]) {
    let lock = match Lock::parse(&String::from_utf8_lossy(data)) {
        Ok(lock) => lock,
        Err(mistake) => return drop(mistake.to_string()),
    };
    let written = lock.to_text();
    let again = Lock::parse(&written).unwrap_or_else(|error| panic!("what is written is refused: {error}\n{written}"));
    assert_eq!(again.to_text(), written, "it is not the same when it is written again");
    for (runbook, name) in lock.names() {
        let plugin = lock.plugin(runbook, name).unwrap_or_else(|| panic!("{name} is not found"));
        let pack = plugin.pack.as_ref().and_then(|pack| lock.pack(runbook, pack));
        let used = Use { plugin: plugin.clone(), pack: pack.cloned() };
        assert_eq!(again.check(&used), Ok(Standing::Locked), "what is locked is refused");
        let mut another = used;
        another.plugin.name.push('x');
        if lock.plugin(runbook, &another.plugin.name).is_none() {
            assert!(lock.check(&another).is_err(), "what is not locked passes");
        }
    }
}
