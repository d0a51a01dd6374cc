//! A plugin's way from its author to somebody else's run: built, signed, verified, granted, used; and all that stops it on the way.

use std::path::PathBuf;
use std::process::Command;

use runbook_packs::image::{Digest, Image};
use runbook_packs::{layout, sshsig};
use runbook_tests::{Outcome, TestEnv, Tree, component};

use crate::support::{behind, folder, runs};

const PACK: &str = "eve-hostile-1.0.0.pack";

struct World {
    env: TestEnv,
    inside: PathBuf,
}

impl World {
    /// An author's folder, a key, and a runbook that uses the pack.
    fn new() -> Self {
        let env = TestEnv::new();
        let inside = folder(&env, "inside");
        std::fs::copy(component("hostile"), env.work().join("hostile.wasm")).expect("it was built");
        let w = Self { env, inside };
        w.source("1.0.0");
        w.env.write("README.md", "Reaches.");
        w.env.write("books/reach.toml", w.runbook("eve/hostile:1.0.0", "literal"));
        w.key("key");
        w.env.write("x.toml", w.runbook(&format!("./{PACK}"), "literal"));
        w
    }

    /// With a pack that is signed, trusted and granted.
    fn granted() -> Self {
        let w = Self::new();
        w.signed();
        w.trust("key");
        w.env.grant("x.toml");
        w
    }

    fn source(&self, version: &str) {
        let text = format!(
            "schema = 1\nname = \"eve/hostile\"\nversion = \"{version}\"\nsummary = \"Reaches\"\nplugins = [\"hostile.wasm\"]\n\
             runbooks = [\"books\"]\ndocs = [\"README.md\"]\n"
        );
        self.env.write("pack.toml", text);
    }

    fn runbook(&self, pack: &str, how: &str) -> String {
        let inside = self.inside.display();
        format!(
            r#"schema = 1
name = "x"

[packs]
things = "{pack}"

[hosts.here]
transport = "local"

[[step]]
id = "reach"
uses = "hostile/reach"
on = "here"
with = {{ how = "{how}", inside = "{inside}", outside = "/nowhere" }}
"#
        )
    }

    fn key(&self, name: &str) {
        drop(self.env.other(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", name]).ok());
    }

    fn build(&self) -> Outcome {
        self.env.run(&["pack", "build"]).ok()
    }

    fn signed(&self) {
        drop(self.build());
        drop(self.env.run(&["pack", "sign", PACK, "--key", "key"]).ok());
    }

    /// Lets the signatures of a key count.
    fn trust(&self, key: &str) {
        let public = std::fs::read_to_string(self.env.work().join(format!("{key}.pub"))).expect("a key has two halves");
        let settings = self.env.xdg().join("config/runbook");
        std::fs::create_dir_all(&settings).expect("our own folder");
        let line = format!("eve namespaces=\"runbook-pack\" {public}");
        std::fs::write(settings.join("allowed_signers"), line).expect("our own folder");
    }

    fn pack(&self) -> Image {
        layout::read(&self.env.work().join(PACK)).expect("a pack")
    }

    /// Puts another image in the place of the pack, signed by the same key.
    fn replace(&self, mut image: Image) {
        let (signature, _) =
            sshsig::sign(&self.env.work().join("key"), &image.manifest, "runbook-pack").expect("signs");
        image.signatures = vec![signature];
        layout::write_file(&image, &self.env.work().join(PACK)).expect("our own folder");
    }

    /// Changes the component everywhere, as if its author had: texts of the same length, in what it says of itself.
    fn other_component(&self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let path = self.env.work().join("hostile.wasm");
        let mut bytes = std::fs::read(&path).expect("our own file");
        let places: Vec<usize> =
            (0..bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from.as_bytes())).collect();
        assert!(!places.is_empty(), "{from}");
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        std::fs::write(path, bytes).expect("our own file");
    }

    /// What `validate` says is still to be done, about a runbook without mistakes.
    fn noted(&self, count: usize, notes: &[&str]) {
        let mut out = self.env.run(&["validate", "x.toml"]).ok().stdout_has("no mistakes");
        for note in notes {
            out = out.stderr_has(note);
        }
        let json = self.env.run(&["validate", "--json", "x.toml"]).ok().stdout;
        let said: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((out.stderr.matches("note[").count(), said.len()), (count, count), "{out}");
        assert!(said.iter().all(|note| note["severity"] == "note" && note["message"] != ""), "{json}");
    }

    /// Whatever is refused is refused before a run began, in a plan as in an exec.
    fn refused(&self, what: &str, says: &[&str]) {
        let inside = Tree::of(&self.inside);
        for verb in ["exec", "plan"] {
            let mut out = self.env.run(&[verb, "x.toml"]);
            assert_eq!(out.code, Some(4), "{what}: {verb}: {out}");
            for part in says {
                out = out.stderr_has(part);
            }
            assert_eq!(out.stdout, "", "{what}");
        }
        inside.assert_untouched();
        assert!(runs(&self.env).is_empty(), "{what}");
    }
}

const DONE: &str = "succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed";

#[test]
fn from_a_folder_to_a_run() {
    let w = World::new();
    let built = w
        .build()
        .stdout_has("eve/hostile 1.0.0")
        .stdout_has("asks ssh.observe echo *")
        .stdout_has("runbook books/reach.toml")
        .stdout_has("plugin hostile 1.0.0  made for runbook:");
    assert_eq!(w.env.run(&["pack", "build", "-o", "again.pack"]).ok().stdout, built.stdout);
    let (one, again) = (w.env.work().join(PACK), w.env.work().join("again.pack"));
    assert_eq!(std::fs::read(&one).expect("built"), std::fs::read(&again).expect("built"), "the same bytes");

    drop(w.env.run(&["pack", "sign", PACK, "--key", "key"]).ok().stdout_has("is signed by SHA256:"));
    // OpenSSH comes to the same verdict.
    let image = w.pack();
    w.env.write("manifest", &image.manifest);
    w.env.write("signature", &image.signatures[0]);
    w.trust("key");
    // A directory is the same pack.
    layout::write_dir(&image, &w.env.work().join("layout")).expect("our own folder");
    let as_directory = w.env.run(&["pack", "verify", "layout"]).ok();
    assert_eq!(as_directory.stdout, w.env.run(&["pack", "verify", PACK]).ok().stdout);
    drop(w.env.run(&["pack", "build", "-o", "fresh/"]).ok());
    drop(w.env.run(&["pack", "sign", "fresh", "--key", "key"]).ok());
    drop(w.env.run(&["pack", "verify", "fresh"]).ok().stdout_has(image.digest().as_str()));
    let signers = w.env.xdg().join("config/runbook/allowed_signers").display().to_string();
    let verify = format!("ssh-keygen -Y verify -f '{signers}' -I eve -n runbook-pack -s signature < manifest");
    drop(w.env.other(&["sh", "-c", &verify]).ok().stdout_has("Good \"runbook-pack\" signature for eve"));
    drop(w.env.run(&["pack", "verify", PACK]).ok().stdout_has("signed by eve with the key SHA256:"));

    // Grants are asked for, and shown.
    w.refused("not granted", &["nothing was granted to it in x.toml", "runbook grant x.toml"]);
    w.noted(
        1,
        &["note[not-granted]: the plugin `hostile` is from elsewhere, and nothing was granted to it in x.toml\n"],
    );
    let shown = w.env.run(&["grant", "x.toml"]).code(2).stderr_has("--yes");
    let shown = shown
        .stdout_has("reach may do this in the step reach on here")
        .stdout_has("+ ssh.change touch ${input.inside}/*");
    let shown = shown.stdout_has("Makes files there.").stdout_has("signed by SHA256:");
    drop(shown.stdout_has("+ ssh.observe echo *\n        Talks to itself.\n        runs during plan, too"));
    assert!(!w.env.work().join("runbook.lock").exists());
    w.env.grant("x.toml");
    w.noted(0, &[]);
    let lock = std::fs::read_to_string(w.env.work().join("runbook.lock")).expect("written");
    assert!(lock.contains(image.digest().as_str()), "{lock}");
    drop(w.env.run(&["grant", "x.toml"]).ok().stdout_has("grants what is asked for already"));
    drop(w.env.run(&["plan", "x.toml"]).ok());
    let out = w.env.run(&["exec", "x.toml"]).ok().last_line(DONE);
    drop(out.stderr_has("grants that this run did not use: 1 of 3 of `hostile`; runbook grant --unused "));
    let run = runs(&w.env)[0].file_name().expect("a name").to_string_lossy().into_owned();
    let unused = w.env.run(&["grant", "--unused", &run]).ok().stdout_has("reach: files.write ${input.inside}/**");
    assert!(!unused.stdout.contains("echo") && !unused.stdout.contains("touch"), "{unused}");
    drop(w.env.run(&["replay"]).ok());
}

/// `runbook grant x.toml` at a terminal, where a person types this.
fn grant_at_a_terminal(w: &World, typed: &str) -> Outcome {
    let inner = w.env.command(&[]);
    let grant = format!("{} grant x.toml", inner.get_program().to_string_lossy());
    let text = format!("printf '{typed}\\n' | script -qec '{grant}' /dev/null");
    Outcome::of(&mut behind(&["sh", "-c", &text], &inner))
}

#[test]
fn all_that_is_not_granted_is_named_at_once() {
    let w = World::new();
    drop(w.build());
    // Two plugins: one in a pack that nobody signed, one in a file.
    let text = w.runbook(&format!("./{PACK}"), "literal");
    let (head, step) = text.split_once("[[step]]").expect("a step");
    w.other_component("hostile", "hostage");
    let other = step.replace("\"reach\"", "\"again\"").replace("hostile/reach", "hostage/reach");
    let plugins = "[plugins]\nhostage = \"./hostile.wasm\"\n\n";
    w.env.write("x.toml", format!("{head}{plugins}[[step]]{step}\n[[step]]{other}"));
    let both = ["the plugin `hostage` is from elsewhere, and nothing was granted to it", "it is not signed"];
    w.refused("two", &both);
    w.noted(2, &both);
    drop(w.env.run(&["grant", "x.toml", "--yes"]).code(4).stderr_has("it is not signed"));
}

#[test]
fn a_person_decides() {
    let w = World::new();
    w.signed();
    w.trust("key");
    let lock = w.env.work().join("runbook.lock");
    drop(grant_at_a_terminal(&w, "n").code(6).stdout_has("Grant this?").stdout_has("nothing was written"));
    assert!(!lock.exists());
    drop(grant_at_a_terminal(&w, "y").code(0).stdout_has("runbook.lock: written"));
    assert!(lock.exists());
}

#[test]
fn two_packs_with_a_plugin_of_one_name() {
    let w = World::new();
    w.signed();
    w.trust("key");
    // Another pack with a plugin of that name, which is not the same.
    w.other_component("Talks to itself.", "Talks to nobody.");
    let source = std::fs::read_to_string(w.env.work().join("pack.toml")).expect("our own file");
    w.env.write("pack.toml", source.replace("eve/hostile", "eve/another"));
    w.env.write("books/reach.toml", w.runbook("eve/another:1.0.0", "literal"));
    drop(w.env.run(&["pack", "build", "-o", "another.pack"]).ok());
    drop(w.env.run(&["pack", "sign", "another.pack", "--key", "key"]).ok());
    let text = w.runbook(&format!("./{PACK}"), "literal");
    let (head, step) = text.split_once("[[step]]").expect("a step");
    let both = |packs: &str, plugin: &str| {
        let other = step.replace("\"reach\"", "\"again\"").replace("hostile/", &format!("{plugin}/"));
        w.env.write(
            "x.toml",
            format!("{}[[step]]{step}\n[[step]]{other}", head.replace("\n[hosts", &format!("{packs}\n[hosts"))),
        );
    };
    both("tools = \"./another.pack\"\n", "hostile");
    let help = "tools = { source = \"./another.pack\", rename = { hostile = \"tools-hostile\" } }";
    w.refused("two of one name", &["the packs `things` and `tools` both bring a plugin `hostile`", help]);
    // What the hint says is what helps.
    both(&format!("{help}\n"), "tools-hostile");
    w.noted(
        2,
        &["the plugin `hostile` is from", "the plugin `tools-hostile` is from elsewhere, and nothing was granted"],
    );
    let shown = w.env.run(&["grant", "x.toml", "--yes"]).ok().stdout_has("tools-hostile 1.0.0");
    drop(
        shown.stdout_has(", where it is called hostile").stdout_has("Talks to nobody.").stdout_has("Talks to itself."),
    );
    let lock = std::fs::read_to_string(w.env.work().join("runbook.lock")).expect("written");
    assert!(lock.contains("name = \"tools-hostile\"\npack = \"tools\"\nin_pack = \"hostile\"\n"), "{lock}");
    w.noted(0, &[]);
    drop(w.env.run(&["schema", "x.toml"]).ok().stdout_has("\"tools-hostile/reach\"").stdout_has("\"hostile/reach\""));
    drop(
        w.env
            .run(&["exec", "x.toml"])
            .ok()
            .last_line("succeeded: 2 steps, 2 changed, 0 unchanged, 0 skipped, 0 failed"),
    );
    // A later session knows it under that name, too.
    drop(w.env.run(&["replay"]).ok());
    drop(w.env.run(&["undo"]).ok());
    // Names are the runbook's: what was granted to a plugin is not handed to another one that takes its name.
    let swapped = std::fs::read_to_string(w.env.work().join("x.toml")).expect("our own file");
    let swapped = swapped.replace(
        &format!("things = \"./{PACK}\""),
        "things = { source = \"./PACK\", rename = { hostile = \"first\" } }",
    );
    let swapped = swapped.replace("rename = { hostile = \"tools-hostile\" }", "rename = { hostile = \"hostile\" }");
    w.env.write("x.toml", swapped.replace("./PACK", &format!("./{PACK}")).replace("tools-hostile/", "first/"));
    drop(
        w.env.run(&["exec", "x.toml"]).code(4).stderr_has("the plugin `hostile` is `hostile` of the pack `tools` here"),
    );
    // What there is not cannot be renamed.
    both("tools = { source = \"./another.pack\", rename = { hostil = \"b\" } }\n", "b");
    drop(
        w.env
            .run(&["validate", "x.toml"])
            .code(3)
            .stderr_has("no plugin `hostil` to rename")
            .stderr_has("did you mean `hostile`?"),
    );
}

#[test]
fn an_included_runbook_is_granted_with_the_one_that_includes_it() {
    let w = World::new();
    w.signed();
    w.trust("key");
    w.env.write("sub/inner.toml", w.runbook(&format!("../{PACK}"), "literal"));
    w.env.write(
        "x.toml",
        "schema = 1\nname = \"outer\"\n\n[hosts.here]\ntransport = \"local\"\n\n[[step]]\nid = \"all\"\ninclude = \"sub/inner.toml\"\n",
    );
    w.refused("not granted", &["nothing was granted to it in x.toml"]);
    w.env.grant("x.toml");
    assert!(!w.env.work().join("sub/runbook.lock").exists());
    drop(w.env.run(&["exec", "x.toml"]).ok().last_line(DONE));
}

#[test]
fn by_its_name_from_what_is_kept_here() {
    let w = World::granted();
    drop(w.env.run(&["pack", "verify", PACK, "--keep"]).ok().stdout_has("eve/hostile:1.0.0"));
    let digest = w.pack().digest();
    drop(w.env.run(&["pack", "list"]).ok().stdout_has(&format!("eve/hostile 1.0.0  {digest}")));
    std::fs::remove_file(w.env.work().join(PACK)).expect("our own file");
    w.refused("gone", &[PACK]);
    for source in ["eve/hostile:1.0.0", "registry.home.example/eve/hostile:1.0.0", &format!("eve/hostile@{digest}")] {
        w.env.write("x.toml", w.runbook(source, "literal"));
        drop(w.env.run(&["exec", "x.toml"]).ok().last_line(DONE));
    }
    drop(w.env.run(&["schema", "x.toml"]).ok().stdout_has("hostile/reach"));
    // Names of files in the store prove nothing.
    let kept = w.env.xdg().join("data/runbook/packs/eve/hostile/1.0.0").join(format!("{}.pack", digest.hex()));
    w.env.write("README.md", "Something else.");
    drop(w.env.run(&["pack", "build", "-o", kept.to_str().expect("text")]).ok());
    let other = w.env.run(&["exec", "x.toml"]).code(4).stderr_has(&format!(", not {digest}"));
    drop(other.stderr_has("pack `things`"));
}

#[test]
fn a_pack_is_unpacked_into_a_fresh_folder() {
    let w = World::granted();
    drop(w.env.run(&["pack", "unpack", PACK, "-o", "out"]).ok());
    let text = std::fs::read_to_string(w.env.work().join("out/books/reach.toml")).expect("unpacked");
    assert_eq!(text, w.runbook("eve/hostile:1.0.0", "literal"));
    drop(w.env.run(&["pack", "unpack", PACK, "-o", "out"]).code(2));
}

#[test]
fn a_pack_with_a_wrong_runbook_is_not_built() {
    let w = World::new();
    w.env.write("books/reach.toml", w.runbook("eve/hostile:1.0.0", "literal").replace("hostile/reach", "hostile/rech"));
    drop(w.env.run(&["pack", "build"]).code(3).stderr_has("did you mean").stderr_has("books/reach.toml"));
    assert!(!w.env.work().join(PACK).exists());
}

#[test]
fn what_is_not_what_was_granted_is_refused() {
    type Change = fn(&World);
    let cases: [(&str, Change, &[&str]); 14] = [
        ("no signature", |w| drop(w.build()), &["it is not signed"]),
        (
            "a signature by an unknown key",
            |w| {
                w.key("other");
                w.trust("other");
            },
            &[
                "signed by a key that is not known here: SHA256:",
                "add this line to",
                "\neve namespaces=\"runbook-pack\" ssh-ed25519 AAAA",
            ],
        ),
        (
            "nobody's signature counts",
            |w| std::fs::remove_file(w.env.xdg().join("config/runbook/allowed_signers")).expect("it is there"),
            &["signed by a key that is not known here"],
        ),
        (
            "a key that counted once",
            |w| {
                let path = w.env.xdg().join("config/runbook/allowed_signers");
                let text = std::fs::read_to_string(&path).expect("it is there");
                std::fs::write(path, text.replace("eve ", "eve valid-before=\"20200101\",")).expect("our own file");
            },
            &["its signature does not count", "until"],
        ),
        (
            "a signature of something else",
            |w| {
                let mut image = w.pack();
                let signed = sshsig::sign(&w.env.work().join("key"), b"other", "runbook-pack").expect("signs");
                image.signatures = vec![signed.0];
                layout::write_file(&image, &w.env.work().join(PACK)).expect("our own folder");
            },
            &["its signature is none of this pack"],
        ),
        (
            "one other byte",
            |w| {
                let path = w.env.work().join(PACK);
                let mut bytes = std::fs::read(&path).expect("built");
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(path, bytes).expect("our own file");
            },
            &["altered", "sha256:"],
        ),
        (
            "a manifest that disagrees with the component",
            |w| {
                let mut image = w.pack();
                let manifest = String::from_utf8(image.manifest.clone()).expect("text");
                let config = image.check().expect("whole").config;
                let text = String::from_utf8(image.blobs.remove(&config.digest).expect("there")).expect("text");
                // The plugin's version, not the pack's.
                let other = text.replacen(
                    "\"name\":\"hostile\",\"version\":\"1.0.0\"",
                    "\"name\":\"hostile\",\"version\":\"1.0.1\"",
                    1,
                );
                assert_ne!(text, other);
                let digest = Digest::of(other.as_bytes());
                image.manifest = manifest.replace(config.digest.as_str(), digest.as_str()).into_bytes();
                image.blobs.insert(digest, other.into_bytes());
                w.replace(image);
            },
            &["disagrees with its plugin `hostile`: the pack says version 1.0.1, the component 1.0.0"],
        ),
        (
            "the same version, another content",
            |w| {
                w.env.write("README.md", "Something else.");
                w.signed();
            },
            &["the pack `things` is not what was granted: the lock has sha256:"],
        ),
        (
            "a newer version under the same name",
            |w| {
                w.source("1.1.0");
                drop(w.env.run(&["pack", "build", "-o", PACK]).ok());
                drop(w.env.run(&["pack", "sign", PACK, "--key", "key"]).ok());
            },
            &["is not what was granted"],
        ),
        (
            "an older version",
            |w| {
                w.source("0.9.0");
                drop(w.env.run(&["pack", "build", "-o", "old.pack"]).ok());
                drop(w.env.run(&["pack", "sign", "old.pack", "--key", "key"]).ok());
                w.env.write("x.toml", w.runbook("./old.pack", "literal"));
            },
            &["has the version 0.9.0, which is older than 1.0.0, which the lock has"],
        ),
        (
            "a floating tag",
            |w| drop(w.env.write("x.toml", w.runbook("eve/hostile:latest", "literal"))),
            &["`eve/hostile:latest` is no version"],
        ),
        ("no tag at all", |w| drop(w.env.write("x.toml", w.runbook("eve/hostile", "literal"))), &["is no version"]),
        (
            "a pack that is nowhere",
            |w| drop(w.env.write("x.toml", w.runbook("eve/hostile:1.0.0", "literal"))),
            &["is not kept on this machine", "runbook pack pull eve/hostile:1.0.0"],
        ),
        (
            "a lock that is none",
            |w| drop(w.env.write("runbook.lock", "version = 1\n[[pack]]\n")),
            &["runbook.lock", "missing field"],
        ),
    ];
    for (what, change, says) in cases {
        let w = World::granted();
        change(&w);
        w.refused(what, says);
    }
}

/// A newer pack whose component asks for another program.
fn more() -> World {
    let w = World::granted();
    w.other_component("\"argv\":[\"echo\",\"*\"]", "\"argv\":[\"ls\",\"-l*\"]");
    w.source("1.1.0");
    drop(w.env.run(&["pack", "build", "-o", "new.pack"]).ok());
    drop(w.env.run(&["pack", "sign", "new.pack", "--key", "key"]).ok());
    w.env.write("x.toml", w.runbook("./new.pack", "literal"));
    w
}

#[test]
fn a_new_version_that_asks_for_more_stops_until_it_is_granted() {
    let w = more();
    w.refused(
        "more",
        &["asks for more than was granted to 1.0.0\n  + reach: ssh.observe ls -l*\n", "runbook grant x.toml"],
    );
    w.noted(1, &["asks for more than was granted to 1.0.0"]);
    let shown =
        w.env.run(&["grant", "x.toml"]).code(2).stdout_has("    + ssh.observe ls -l*").stdout_has("      files.write");
    drop(shown.stdout_has("- reach: ssh.observe echo * (no longer asked for)"));
    w.env.grant("x.toml");
    // It runs, and is denied what it no longer asked for.
    drop(w.env.run(&["exec", "x.toml"]).code(1).stderr_has("the plugin did not ask for"));
}

#[test]
fn a_new_version_that_asks_for_no_more_passes() {
    let w = World::granted();
    w.source("1.1.0");
    drop(w.env.run(&["pack", "build", "-o", "new.pack"]).ok());
    drop(w.env.run(&["pack", "sign", "new.pack", "--key", "key"]).ok());
    w.env.write("x.toml", w.runbook("./new.pack", "literal"));
    let lock = w.env.work().join("runbook.lock");
    let before = std::fs::read_to_string(&lock).expect("written");
    std::fs::write(
        &lock,
        before.replace("granted = [\n", "granted = [\n    { action = \"reach\", call = \"ssh.reboot\" },\n"),
    )
    .expect("our own file");
    drop(w.env.run(&["exec", "x.toml"]).ok().last_line(DONE).stderr_has("asks for no more"));
    // Nobody is asked when it is written down.
    drop(
        w.env
            .run(&["grant", "x.toml"])
            .ok()
            .stdout_has("nothing new was asked for")
            .stdout_has("ssh.reboot (no longer asked for)"),
    );
    let after = std::fs::read_to_string(&lock).expect("written");
    assert!(after.contains("version = \"1.1.0\"") && !after.contains("ssh.reboot"), "{after}");
    // Back to the older one only on purpose.
    w.env.write("x.toml", w.runbook(&format!("./{PACK}"), "literal"));
    drop(w.env.run(&["grant", "x.toml", "--yes"]).code(4).stderr_has("older than 1.1.0").stderr_has("--allow-older"));
    drop(w.env.run(&["grant", "x.toml", "--yes", "--allow-older"]).ok());
}

#[test]
fn what_a_run_did_is_taken_back_without_the_pack() {
    let w = World::granted();
    w.env.write("x.toml", w.runbook(&format!("./{PACK}"), "own link"));
    drop(w.env.run(&["exec", "x.toml"]).code(1));
    assert!(w.inside.join("mine").is_symlink());
    // It goes on with the same pack, from wherever it is called, and is denied the same again.
    let mut from_home = w.env.command(&["resume"]);
    drop(Outcome::of(from_home.current_dir(w.env.home())).code(1).stderr_has("denied"));
    std::fs::remove_file(w.env.work().join(PACK)).expect("our own file");
    std::fs::remove_file(w.env.work().join("runbook.lock")).expect("our own file");
    drop(w.env.run(&["resume"]).code(4));
    drop(w.env.run(&["undo"]).ok());
    assert!(!w.inside.join("mine").is_symlink());
}

#[test]
fn a_component_that_nobody_signed_is_locked_by_its_digest() {
    let w = World::new();
    let text =
        w.runbook("./x", "literal").replace("[packs]\nthings = \"./x\"", "[plugins]\nhostile = \"./hostile.wasm\"");
    w.env.write("x.toml", text);
    w.refused("not granted", &["nothing was granted to it in x.toml"]);
    w.noted(1, &["nothing was granted to it in x.toml\n", "= help: runbook grant x.toml shows what they ask for"]);
    drop(
        w.env
            .run(&["grant", "x.toml", "--yes"])
            .ok()
            .stdout_has("from the file ./hostile.wasm sha256:")
            .stdout_has("which nobody signed"),
    );
    // From wherever it is called.
    let path = w.env.work().join("x.toml").display().to_string();
    let mut from_home: Command = w.env.command(&["exec", &path]);
    drop(Outcome::of(from_home.current_dir(w.env.home())).ok().last_line(DONE));
    w.other_component("Talks to itself.", "Talks to nobody.");
    w.noted(1, &["the plugin `hostile` is not what was granted: the lock has sha256:"]);
    let out = w.env.run(&["exec", "x.toml"]).code(4).stderr_has("the plugin `hostile` is not what was granted");
    drop(out);
    drop(w.env.run(&["grant", "x.toml"]).code(2).stderr_has("a person has to agree"));
    w.env.grant("x.toml");
    drop(w.env.run(&["exec", "x.toml"]).ok().last_line(DONE));
}
