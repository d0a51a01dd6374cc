//! Packs from one machine to another through Debian's docker-registry.

use runbook_packs::layout;
use runbook_tests::{Outcome, Registry, TestEnv, component};

/// Somebody with an author's folder or without, on a machine of their own.
struct Person {
    env: TestEnv,
}

impl Person {
    fn new() -> Self {
        Self { env: TestEnv::new() }
    }

    /// With a key, and a component to make packs of.
    fn author() -> Self {
        let person = Self::new();
        std::fs::copy(component("hostile"), person.env.work().join("hostile.wasm")).expect("it was built");
        drop(person.env.other(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", "key"]).ok());
        person
    }

    /// Builds a version, unsigned.
    fn build(&self, version: &str) -> String {
        let text = format!(
            "schema = 1\nname = \"eve/hostile\"\nversion = \"{version}\"\nsummary = \"Reaches\"\nplugins = [\"hostile.wasm\"]\n"
        );
        self.env.write("pack.toml", text);
        let file = format!("eve-hostile-{version}.pack");
        drop(self.env.run(&["pack", "build", "-o", &file]).ok());
        file
    }

    fn signed(&self, version: &str) -> String {
        let file = self.build(version);
        drop(self.env.run(&["pack", "sign", &file, "--key", "key"]).ok());
        file
    }

    fn push(&self, file: &str, to: &str) -> Outcome {
        self.env.run(&["pack", "push", file, to]).ok()
    }

    /// Lets the signatures of an author count.
    fn trusts(&self, author: &Self) {
        let public = std::fs::read_to_string(author.env.work().join("key.pub")).expect("a key has two halves");
        let settings = self.env.xdg().join("config/runbook");
        std::fs::create_dir_all(&settings).expect("our own folder");
        std::fs::write(settings.join("allowed_signers"), format!("eve {public}")).expect("our own folder");
    }

    fn kept(&self) -> String {
        self.env.run(&["pack", "list"]).ok().stdout
    }

    /// Nothing is stored, neither here nor there.
    fn refused(&self, from: &str, code: i32, says: &[&str]) {
        let before = self.kept();
        for more in [&[][..], &["-o", "refused.pack"]] {
            let mut out = self.env.run(&[&["pack", "pull", from], more].concat()).code(code);
            for part in says {
                out = out.stderr_has(part);
            }
            assert_eq!(out.stdout, "", "{from}");
        }
        assert_eq!(self.kept(), before, "{from}");
        assert!(!self.env.work().join("refused.pack").exists(), "{from}");
    }
}

#[test]
fn pushed_here_and_pulled_there_it_has_the_same_digest_everywhere() {
    let registry = Registry::start();
    let (author, other) = (Person::author(), Person::new());
    let file = author.signed("1.2.0");
    let digest = layout::read(&author.env.work().join(&file)).expect("a pack").digest().to_string();
    let place = format!("{}/eve/hostile", registry.endpoint());

    let pushed = author.push(&file, &format!("{place}:1.2.0"));
    assert_eq!(pushed.stdout.trim(), format!("{place}:1.2.0@{digest}"));
    drop(pushed.stderr_has("eve/hostile 1.2.0: 4 parts sent, 0 were there"));
    drop(author.push(&file, &format!("{place}:1.2.0")).stderr_has("0 parts sent, 4 were there"));

    other.trusts(&author);
    drop(other.env.run(&["pack", "pull", &format!("{place}:1.2.0")]).ok().stdout_has(&digest));
    assert!(other.kept().contains(&digest), "{}", other.kept());
    // As a file and as a directory, by the tag and by the digest: the same pack, the same signature, and the author's very file.
    drop(other.env.run(&["pack", "pull", &format!("{place}:1.2.0"), "-o", "x.pack"]).ok());
    drop(other.env.run(&["pack", "pull", &format!("{place}@{digest}"), "-o", "folder/"]).ok());
    for path in ["x.pack", "folder"] {
        drop(other.env.run(&["pack", "verify", path]).ok().stdout_has(&digest));
        let image = layout::read(&other.env.work().join(path)).expect("a pack");
        assert_eq!(image, layout::read(&author.env.work().join(&file)).expect("a pack"), "{path}");
    }
    let bytes = |env: &TestEnv, name: &str| std::fs::read(env.work().join(name)).expect("a file");
    assert_eq!(bytes(&other.env, "x.pack"), bytes(&author.env, &file));

    // A second signature joins the first one.
    drop(author.env.other(&["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", "", "-f", "second"]).ok());
    drop(author.env.run(&["pack", "sign", &file, "--key", "second"]).ok());
    drop(author.push(&file, &format!("{place}:1.2.0")).stderr_has("1 parts sent, 5 were there"));
    drop(other.env.run(&["pack", "pull", &format!("{place}@{digest}"), "-o", "x.pack"]).ok());
    assert_eq!(bytes(&other.env, "x.pack"), bytes(&author.env, &file));
}

#[test]
fn whom_nobody_knows_and_what_nobody_signed_is_not_stored() {
    let registry = Registry::start();
    let (author, other) = (Person::author(), Person::new());
    let place = format!("{}/eve/hostile", registry.endpoint());
    let unsigned = author.build("1.0.0");
    drop(author.push(&unsigned, &format!("{place}:1.0.0")).stderr_has("it is not signed"));
    other.refused(&format!("{place}:1.0.0"), 4, &["it is not signed"]);
    drop(author.push(&author.signed("1.1.0"), &format!("{place}:1.1.0")));
    other.refused(
        &format!("{place}:1.1.0"),
        4,
        &["signed by a key that is not known here: SHA256:", "ssh-ed25519 AAAA"],
    );

    other.trusts(&author);
    drop(other.env.run(&["pack", "pull", &format!("{place}:1.1.0")]).ok());
    other.refused(&format!("{place}:9.9.9"), 2, &["it is not there"]);
    other.refused(&place, 2, &["say which: a tag"]);
    other.refused("eve/hostile:1.1.0", 2, &["names no registry"]);
    // An image of another kind.
    let image = registry.push("eve/other", "1", &runbook_tests::Image::tiny());
    other.refused(&image, 4, &["something else lies there: `application/vnd.docker.distribution.manifest.v2+json`"]);
    // A registry that is not there, and one that is spoken to with TLS and has none.
    other.refused("127.0.0.1:1/eve/hostile:1.1.0", 7, &["cannot be reached", "--plain-http"]);
}

#[test]
fn an_old_pack_that_is_dug_out_again_is_refused() {
    let registry = Registry::start();
    let (author, other) = (Person::author(), Person::new());
    other.trusts(&author);
    let place = format!("{}/eve/hostile", registry.endpoint());
    let (old, new) = (author.signed("1.1.0"), author.signed("1.2.0"));
    drop(author.push(&new, &format!("{place}:latest")));
    drop(other.env.run(&["pack", "pull", &format!("{place}:latest")]).ok().stdout_has("eve/hostile 1.2.0"));

    // The old one is well signed, and is served under a tag that stood for the new one.
    drop(author.push(&old, &format!("{place}:latest")));
    let latest = format!("{place}:latest");
    other.refused(&latest, 4, &["eve/hostile 1.1.0 lies there, and 1.2.0 is kept on this machine", "--allow-older"]);
    drop(author.push(&old, &format!("{place}:1.2.0")));
    other.refused(&format!("{place}:1.2.0"), 4, &["the tag says 1.2.0, but the pack in it is 1.1.0"]);
    drop(other.env.run(&["pack", "pull", &latest, "--allow-older", "-o", "old.pack"]).ok());

    // On a machine that keeps nothing, the lock knows.
    let third = Person::new();
    third.trusts(&author);
    let digest = layout::read(&author.env.work().join(&new)).expect("a pack").digest();
    let lock = format!(
        "version = 1\n\n[[pack]]\nrunbook = \"x.toml\"\nname = \"things\"\nsource = \"{place}:1.2.0\"\nversion = \"1.2.0\"\n\
         digest = \"{digest}\"\nsigner = \"SHA256:x\"\n"
    );
    third.env.write("runbook.lock", lock);
    third.refused(&latest, 4, &["eve/hostile 1.1.0 lies there, and 1.2.0 is locked in ./runbook.lock"]);
    // Who asks for the old one, by its version or its digest, gets it.
    drop(author.push(&old, &format!("{place}:1.1.0")));
    drop(third.env.run(&["pack", "pull", &format!("{place}:1.1.0")]).ok());
}
