//! An image as directory and as file: the same image, the same bytes, and nothing else is taken for one.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use runbook_packs::image::{Descriptor, Digest, Image, MANIFEST_TYPE, Manifest};
use runbook_packs::layout::{archive, read, read_archive, write_dir, write_file};

fn image(parts: &[&[u8]]) -> Image {
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        artifact_type: Some("application/vnd.runbook.pack.v1+json".to_owned()),
        config: Descriptor::of("application/vnd.runbook.pack.config.v1+json", b"{\"config\":1}"),
        layers: parts.iter().map(|part| Descriptor::of("application/wasm", part)).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    let blobs = parts.iter().copied().chain([b"{\"config\":1}".as_slice()]);
    Image {
        manifest: manifest.to_bytes(),
        blobs: blobs.map(|bytes| (Digest::of(bytes), bytes.to_vec())).collect(),
        signatures: vec![b"one".to_vec(), b"another".to_vec()],
    }
}

fn sorted(mut image: Image) -> Image {
    image.signatures.sort();
    image
}

/// Name and content.
type NamedFile<'a> = (&'a str, &'a [u8]);

/// What makes an image less than whole.
type Spoil = fn(&mut Image);

/// The archive of these files, with nothing but what is asked for.
fn tar(files: &[NamedFile<'_>]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    for (name, content) in files {
        fs::write(dir.path().join("x"), content).unwrap();
        // The header of a real tar, under the name that is wanted.
        let rename = format!("--transform=s|.*|{name}|");
        let made = std::process::Command::new("tar")
            .args(["--format=ustar", "-P", "-cf", "-", &rename, "-C"])
            .arg(dir.path())
            .arg("x")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        out.extend_from_slice(&made.stdout[..512 + content.len().next_multiple_of(512)]);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn refused(bytes: &[u8]) -> String {
    read_archive(bytes).expect_err("it is refused").to_string()
}

#[test]
fn the_same_image_as_file_and_as_directory() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(&[b"first", b"second", b"first"]);
    let (file, folder) = (dir.path().join("x.pack"), dir.path().join("x"));
    write_file(&image, &file).unwrap();
    write_dir(&image, &folder).unwrap();
    let (one, two) = (read(&file).unwrap(), read(&folder).unwrap());
    assert_eq!(one, sorted(image.clone()));
    assert_eq!(one, two);
    assert_eq!(one.digest(), image.digest());

    // Whoever writes it, and in whatever order the signatures came.
    assert_eq!(archive(&image).unwrap(), fs::read(&file).unwrap());
    assert_eq!(archive(&sorted(image.clone())).unwrap(), archive(&two).unwrap());
    // Written over itself, with one signature less.
    let fewer = Image { signatures: vec![b"one".to_vec()], ..image };
    write_dir(&fewer, &folder).unwrap();
    assert_eq!(read(&folder).unwrap(), fewer);
    assert_eq!(read(&folder).unwrap().digest(), one.digest());
}

#[test]
fn tar_reads_what_is_written_and_what_tar_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let image = sorted(image(&[&[7; 1000], b""]));
    let file = dir.path().join("x.pack");
    write_file(&image, &file).unwrap();
    let folder = dir.path().join("unpacked");
    fs::create_dir(&folder).unwrap();
    let unpacked = std::process::Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(&folder).status().unwrap();
    assert!(unpacked.success());
    assert_eq!(read(&folder).unwrap(), image);
    for format in ["gnu", "ustar"] {
        let packed = std::process::Command::new("tar")
            .arg(format!("--format={format}"))
            .arg("-cf")
            .arg(dir.path().join("again"))
            .arg("-C")
            .arg(&folder)
            .arg(".")
            .status()
            .unwrap();
        assert!(packed.success());
        assert_eq!(read(&dir.path().join("again")).unwrap(), image, "{format}");
    }
}

#[test]
fn one_altered_byte_anywhere_is_noticed() {
    let good = archive(&image(&[b"first", b"second"])).unwrap();
    let image = read_archive(good.as_slice()).unwrap();
    let mut step = 1;
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= step;
        step = step.rotate_left(1);
        // Where a header says who wrote a file, and when, nothing is decided by it; its checksum still is.
        match read_archive(bad.as_slice()) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(read) => assert_eq!(read.digest(), image.digest(), "byte {at}"),
        }
    }
    let mut cut = good.clone();
    while cut.len() > 1024 {
        cut.truncate(cut.len() - 500);
        // The last two blocks are zeros; one is enough.
        if cut.len() + 1024 <= good.len() {
            assert!(read_archive(cut.as_slice()).is_err(), "{} bytes of {}", cut.len(), good.len());
        }
    }
}

#[test]
fn what_is_no_layout_of_one_image() {
    let marker: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    let blob = format!("blobs/sha256/{}", Digest::of(b"x").hex());
    let index = |manifests: &str| format!("{{\"schemaVersion\":2,\"manifests\":[{manifests}]}}").into_bytes();
    let one = |kind: &str, size: u64| {
        let digest = Digest::of(b"x");
        format!("{{\"mediaType\":\"{kind}\",\"digest\":\"{digest}\",\"size\":{size}}}")
    };
    let empty = index("");
    let other = index(&one("application/vnd.oci.image.index.v1+json", 1));
    let named = index(&one(MANIFEST_TYPE, 1));
    let huge = index(&one(MANIFEST_TYPE, 1 << 40));
    let many = index(&vec![one(MANIFEST_TYPE, 1); 40].join(","));
    let table: &[(&[NamedFile<'_>], &str)] = &[
        (&[("index.json", &empty)], "`oci-layout` is missing"),
        (&[marker], "`index.json` is missing"),
        (&[marker, ("index.json", b"[")], "its `index.json` cannot be read"),
        (&[("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#), ("index.json", &empty)], "it is of version `2.0.0`"),
        (&[marker, ("index.json", &empty)], "it holds 0 images"),
        (&[marker, ("index.json", &other)], "says that it is `application/vnd.oci.image.index.v1+json`"),
        (&[marker, ("index.json", &huge)], "its manifest is larger than 1024 KiB"),
        (&[marker, ("index.json", &many)], "more than 32 signatures"),
        (&[marker, ("index.json", &named)], "is missing"),
        (&[marker, ("index.json", &named), (&blob, b"y")], "was altered"),
        (&[marker, ("index.json", &named), (&blob, b"xx")], "does not have the 1 bytes"),
        (&[marker, ("index.json", &named), (&blob, b"x")], "not an OCI image manifest"),
        (&[marker, marker], "it holds `oci-layout` twice"),
        (&[marker, ("index.json", &empty), (&blob, b"x"), (&blob, b"x")], "twice"),
        (&[marker, ("../../etc/passwd", b"x")], "it holds `../../etc/passwd`, which is no part of an OCI layout"),
        (&[marker, ("blobs/sha256/..", b"x")], "no part of an OCI layout"),
        (&[marker, ("/etc/shadow", b"x")], "no part of an OCI layout"),
        (&[("oci-layout", &[b' '; 5000])], "a file in it is larger than 1 MiB"),
    ];
    for (files, wanted) in table {
        let said = refused(&tar(files));
        assert!(said.contains(wanted), "wanted {wanted:?}, got {said:?}");
    }
    assert!(refused(b"").contains("it ends in the middle of a file"));
    assert!(refused(&[1; 600]).contains("there is no tar header at byte 0"));

    // A part that nothing names would be carried along unseen.
    let mut smuggled = archive(&image(&[b"first"])).unwrap();
    smuggled.truncate(smuggled.len() - 1024);
    smuggled.extend(tar(&[(&blob, b"x")]));
    assert!(refused(&smuggled).contains("that its manifest does not name"));
    let mut trailing = archive(&image(&[b"first"])).unwrap();
    trailing.extend(b"more");
    assert!(refused(&trailing).contains("something follows its end"));
}

#[test]
fn links_devices_and_long_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("plain"), "x").unwrap();
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    fs::hard_link(dir.path().join("plain"), dir.path().join("hard")).unwrap();
    fs::write(dir.path().join("n".repeat(120)), "x").unwrap();
    let long = "n".repeat(120);
    let table: &[(&[&str], &str)] = &[
        (&["--transform=s|.*|oci-layout|", "link"], "it holds something that is no plain file (tar calls it `2`)"),
        (&["--transform=s|plain|oci-layout|", "plain", "hard"], "(tar calls it `1`)"),
        (&["-P", "/dev/null"], "(tar calls it `3`)"),
        (&["--format=gnu", &long], "(tar calls it `L`)"),
        (&["--format=pax", &long], "(tar calls it `x`)"),
    ];
    for (args, wanted) in table {
        let made = std::process::Command::new("tar").args(["-cf", "-", "-C"]).arg(dir.path()).args(*args).output();
        let said = refused(&made.unwrap().stdout);
        assert!(said.contains(wanted), "{args:?}: {said}");
    }

    // In a directory, where one file is replaced by something else.
    let image = image(&[b"first"]);
    let blob = format!("blobs/sha256/{}", Digest::of(b"first").hex());
    for (name, target) in [("index.json", "/etc/passwd"), (&blob, "/dev/zero")] {
        let folder = tempfile::tempdir().unwrap();
        write_dir(&image, folder.path()).unwrap();
        fs::remove_file(folder.path().join(name)).unwrap();
        symlink(target, folder.path().join(name)).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("not a plain file"), "{name}");
        fs::remove_file(folder.path().join(name)).unwrap();
        let piped = std::process::Command::new("mkfifo").arg(folder.path().join(name)).status().unwrap();
        assert!(piped.success());
        assert!(read(folder.path()).unwrap_err().to_string().contains("not a plain file"), "{name}");
        fs::remove_file(folder.path().join(name)).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("is missing"), "{name}");
    }
    assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("not a plain file"));
}

#[test]
fn a_directory_that_holds_something_else_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "x").unwrap();
    let said = write_dir(&image(&[b"first"]), folder.path()).unwrap_err().to_string();
    assert!(said.contains("is not empty, and no OCI layout"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_image_that_is_not_whole_is_not_written() {
    let whole = image(&[b"first", b"second"]);
    let table: [(&str, Spoil); 6] = [
        ("is missing", |image| drop(image.blobs.pop_first())),
        ("was altered", |image| image.blobs.values_mut().for_each(|bytes| bytes[0] ^= 1)),
        ("does not have the", |image| image.blobs.values_mut().for_each(|bytes| bytes.push(1))),
        ("that its manifest does not name", |image| drop(image.blobs.insert(Digest::of(b"x"), b"x".to_vec()))),
        ("more than 32 signatures", |image| image.signatures = vec![vec![1]; 33]),
        ("a signature of it is larger than 16 KiB", |image| image.signatures.push(vec![1; 20_000])),
    ];
    for (wanted, spoil) in table {
        let mut image = whole.clone();
        spoil(&mut image);
        let said = archive(&image).expect_err(wanted).to_string();
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn a_signature_of_something_else_is_refused() {
    let (one, other) = (image(&[b"first"]), image(&[b"second"]));
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_dir(&one, a.path()).unwrap();
    write_dir(&other, b.path()).unwrap();
    for blob in fs::read_dir(b.path().join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), a.path().join("blobs/sha256").join(blob.file_name())).unwrap();
    }
    // The pack of one layout with the signatures of the other.
    let read_index = |dir: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap()
    };
    let mut index = read_index(a.path());
    index["manifests"][1] = read_index(b.path())["manifests"][1].clone();
    fs::write(a.path().join("index.json"), index.to_string()).unwrap();
    assert!(read(a.path()).unwrap_err().to_string().contains("is about something else"));
    // Two packs.
    index["manifests"] = serde_json::json!([index["manifests"][0], read_index(b.path())["manifests"][0]]);
    fs::write(a.path().join("index.json"), index.to_string()).unwrap();
    assert!(read(a.path()).unwrap_err().to_string().contains("it holds 2 images; a pack is one"));
}
