//! Packs: built from a folder, and what happens to those that were made by somebody with other intentions.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use runbook_packs::config::{Config, FileKind, TITLE};
use runbook_packs::image::{Descriptor, Digest, Image, Manifest};
use runbook_packs::pack::{Pack, PackError};
use runbook_packs::source::build;
use serde_json::{Value, json};

fn manifest(name: &str, version: &str) -> Value {
    json!({
        "name": name,
        "version": version,
        "summary": "Snapshots",
        "action": [{
            "name": "snapshot",
            "summary": "Makes one",
            "role": [{ "name": "on" }],
            "ask": [{ "call": "ssh.change", "on": { "argv": ["zfs", "snapshot"] }, "privileged": true, "reason": "that is it" }],
        }],
    })
}

fn component(manifest: &Value) -> Vec<u8> {
    let manifest: String = manifest.to_string().bytes().map(|b| format!("\\{b:02x}")).collect();
    wat::parse_str(format!(
        r#"(component (import "runbook:ssh/machines@0.1.0" (instance)) (@custom "runbook:manifest" "{manifest}"))"#
    ))
    .unwrap()
}

const SOURCE: &str =
    "schema = 1\nname = \"bob/zfs\"\nversion = \"1.2.0\"\nsummary = \"ZFS at home\"\nlicense = \"MIT\"\n";

fn put(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// An author's folder.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let lists = "plugins = [\"zfs\"]\nrunbooks = [\"runbooks\"]\ndocs = [\"README.md\"]\n";
    put(dir.path(), "pack.toml", format!("{SOURCE}{lists}"));
    put(dir.path(), "zfs/target/wasm32-wasip2/release/zfs.wasm", component(&manifest("zfs", "1.2.0")));
    put(dir.path(), "zfs/target/wasm32-wasip2/release/other.wasm", "of the same workspace");
    put(dir.path(), "runbooks/b.toml", "b");
    put(dir.path(), "runbooks/a.toml", "a");
    put(dir.path(), "runbooks/.hidden", "x");
    put(dir.path(), "README.md", "read me");
    dir
}

#[test]
fn the_same_folder_gives_the_same_pack() {
    let (one, other) = (build(folder().path()).unwrap(), build(folder().path()).unwrap());
    assert_eq!(one, other);
    let files: Vec<(&str, FileKind)> = one.config.files.iter().map(|file| (file.path.as_str(), file.kind)).collect();
    let runbook = FileKind::Runbook;
    assert_eq!(files, [("runbooks/a.toml", runbook), ("runbooks/b.toml", runbook), ("README.md", FileKind::Doc)]);
    assert_eq!(one.file("runbooks/a.toml"), Some(b"a".as_slice()));
    assert_eq!(one.component("zfs"), Some(component(&manifest("zfs", "1.2.0")).as_slice()));
    assert_eq!(one.config.plugins[0].imports, ["runbook:ssh/machines@0.1.0"]);
    assert_eq!(one.config.plugins[0].actions[0].asks[0].reason, "that is it");
    assert_eq!(Pack::read(one.image().clone()).unwrap(), one);
    let changed = folder();
    put(changed.path(), "README.md", "read me!");
    assert_ne!(build(changed.path()).unwrap().digest, one.digest);
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let cases: [(&str, &str, &str); 13] = [
        ("plugins = []\n", "pack.toml", "neither a plugin nor a runbook"),
        ("plugin = [\"zfs\"]\n", "pack.toml", "unknown field `plugin`"),
        ("plugins = [\"gone.wasm\"]\n", "pack.toml", "gone.wasm"),
        ("plugins = [\"README.md\"]\n", "pack.toml", "not WebAssembly"),
        ("plugins = [\"runbooks\"]\n", "pack.toml", "0 components were found"),
        ("plugins = [\"zfs\", \"zfs\"]\n", "pack.toml", "`zfs.wasm` is there twice"),
        ("docs = [\"README.md\"]\n", "pack.toml", "neither a plugin nor a runbook"),
        ("runbooks = [\"../x\"]\n", "pack.toml", "leads out of the pack"),
        ("runbooks = [\"/etc/passwd\"]\n", "pack.toml", "leads out of the pack"),
        ("runbooks = [\"runbooks\", \"./runbooks/a.toml\"]\n", "pack.toml", "`runbooks/a.toml` is there twice"),
        ("runbooks = [\"runbooks\"]\n", "runbooks/a;b.toml", "characters"),
        ("runbooks = [\"link\"]\n", "pack.toml", "it is no file"),
        ("plugins = [\"two\"]\n", "pack.toml", "2 components were found"),
    ];
    for (lists, file, wanted) in cases {
        let dir = folder();
        if file != "pack.toml" {
            put(dir.path(), file, "x");
        }
        put(dir.path(), "two/a.wasm", "x");
        put(dir.path(), "two/b.wasm", "x");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        put(dir.path(), "pack.toml", format!("{SOURCE}{lists}"));
        let error = build(dir.path()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{lists}: {error}");
    }
    for (from, to, wanted) in [
        ("schema = 1", "schema = 2", "reads `schema = 1`"),
        ("bob/zfs", "Bob", "not the name of a pack"),
        ("bob/zfs", "a/b/c", "not the name of a pack"),
        ("bob/zfs", "../zfs", "not the name of a pack"),
        ("1.2.0", "1.2", "not a semantic version"),
        ("1.2.0", "1.2.0+x", "not a semantic version"),
        ("ZFS at home", "", "one line"),
        ("MIT", "a\\u001bb", "one line"),
    ] {
        let dir = folder();
        put(dir.path(), "pack.toml", SOURCE.replace(from, to));
        let error = build(dir.path()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{to}: {error}");
    }
}

/// A pack whose parts were changed by somebody who can compute digests.
struct Forged {
    config: Value,
    layers: Vec<(String, String, Vec<u8>)>,
    kind: &'static str,
}

impl Forged {
    fn new() -> Self {
        let pack = build(folder().path()).unwrap();
        let manifest = Manifest::parse(&pack.image().manifest).unwrap();
        let layers = manifest.layers.iter().map(|layer| {
            let title = layer.annotations[TITLE].clone();
            (layer.media_type.clone(), title, pack.image().blobs[&layer.digest].clone())
        });
        Self {
            layers: layers.collect(),
            config: serde_json::to_value(&pack.config).unwrap(),
            kind: "application/vnd.runbook.pack.v1+json",
        }
    }

    /// Another component, and the digest that the pack gives for it.
    fn component(&mut self, manifest: &Value) {
        let bytes = component(manifest);
        self.config["plugins"][0]["digest"] = json!(Digest::of(&bytes).as_str());
        self.layers[0].2 = bytes;
    }

    fn read(self) -> Result<Pack, PackError> {
        let config = self.config.to_string().into_bytes();
        let mut blobs = BTreeMap::from([(Digest::of(&config), config.clone())]);
        let mut layers = Vec::new();
        for (media_type, title, bytes) in self.layers {
            let annotations = BTreeMap::from([(TITLE.to_owned(), title)]);
            layers.push(Descriptor { annotations, ..Descriptor::of(&media_type, &bytes) });
            blobs.insert(Digest::of(&bytes), bytes);
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            artifact_type: Some(self.kind.to_owned()),
            config: Descriptor::of("application/vnd.runbook.pack.config.v1+json", &config),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        };
        Pack::read(Image { manifest: serde_json::to_vec(&manifest).unwrap(), blobs, signatures: Vec::new() })
    }
}

#[test]
fn a_pack_that_disagrees_with_itself_is_refused() {
    Forged::new().read().unwrap();
    type Forge = fn(&mut Forged);
    let cases: [(&str, Forge); 17] = [
        ("it is no pack of runbook", |f| f.kind = "application/vnd.example+json"),
        ("made for a newer version", |f| f.config["schema"] = json!(2)),
        ("unknown field `more`", |f| f.config["more"] = json!(2)),
        ("not the name of a pack", |f| f.config["name"] = json!("bob/../zfs")),
        ("calls itself `other`", |f| f.component(&manifest("other", "1.2.0"))),
        ("the pack says version 1.2.0, the component 1.3.0", |f| f.component(&manifest("zfs", "1.3.0"))),
        ("asks for what the pack does not say, or the other way round: action `snapshot`", |f| {
            let mut more = manifest("zfs", "1.2.0");
            more["action"][0]["ask"][0]["on"]["argv"] = json!(["zfs", "**"]);
            f.component(&more);
        }),
        ("asks for what the pack does not say, or the other way round: action `wipe`", |f| {
            let mut more = manifest("zfs", "1.2.0");
            more["action"].as_array_mut().unwrap().push(json!({"name": "wipe", "summary": "x"}));
            f.component(&more);
        }),
        ("imports what the pack does not say", |f| f.config["plugins"][0]["imports"] = json!([])),
        ("is no plugin: it is not WebAssembly", |f| {
            f.config["plugins"][0]["digest"] = json!(Digest::of(b"x").as_str());
            f.layers[0].2 = b"x".to_vec();
        }),
        ("lists other parts than its configuration: `zfs.wasm`", |f| f.layers[0].2 = b"x".to_vec()),
        ("lists other parts than its configuration: `runbooks/a.toml`", |f| {
            f.layers[1].1 = "runbooks/c.toml".to_owned()
        }),
        ("lists other parts than its configuration: `README.md`", |f| drop(f.layers.pop())),
        ("is one too many", |f| f.layers.push(f.layers[1].clone())),
        ("the path `../../.ssh/config` leads out of the pack", |f| {
            f.config["files"][0]["path"] = json!("../../.ssh/config");
            f.layers[1].1 = "../../.ssh/config".to_owned();
        }),
        ("leads out of the pack", |f| f.layers[1].1 = "/etc/passwd".to_owned()),
        ("`README.md` is there twice", |f| f.config["files"][0]["path"] = json!("README.md")),
    ];
    for (wanted, forge) in cases {
        let mut forged = Forged::new();
        forge(&mut forged);
        let error = forged.read().unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn one_other_byte_anywhere_is_refused() {
    let pack = build(folder().path()).unwrap();
    for digest in pack.image().blobs.keys() {
        let mut image = pack.image().clone();
        let blob = image.blobs.get_mut(digest).unwrap();
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
        let error = Pack::read(image).unwrap_err().to_string();
        assert!(error.contains(digest.as_str()) && error.contains("was altered"), "{error}");
    }
    // The manifest is what the digest is of: another byte is another pack, which no signature is for.
    for at in 0..pack.image().manifest.len() {
        let mut image = pack.image().clone();
        image.manifest[at] ^= 1;
        assert!(Pack::read(image).map_or(true, |other| other.digest != pack.digest));
    }
    let config: Config = serde_json::from_value(Forged::new().config).unwrap();
    assert_eq!(config, pack.config);
}
