//! Signatures of every kind of key, made and verified by us and by `ssh-keygen`; and allowed_signers, by both.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runbook_packs::allowed_signers::{AllowedSigners, Refusal};
use runbook_packs::sshsig::{KeyError, NAMESPACE, SignError, SignatureError, SignerKey, sign, verify};
use sha2::{Digest as _, Sha256};
use ssh_key::public::{KeyData, SkEcdsaSha2NistP256, SkEd25519};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, Signature, SigningKey, SshSig};

const MESSAGE: &[u8] = b"{\"schemaVersion\":2}";

/// Keys of one person, made by `ssh-keygen`.
struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A key without a passphrase, of `-t KIND -b BITS`.
    fn make(&self, name: &str, kind: &[&str]) -> PathBuf {
        let path = self.path(name);
        run(Command::new("ssh-keygen").args(["-q", "-N", "", "-C", "", "-t"]).args(kind).arg("-f").arg(&path));
        path
    }

    fn public(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Whether `ssh-keygen -Y verify` takes a signature as one of `who`, at a time as it writes it.
    fn ssh_keygen_takes(&self, allowed: &str, who: &str, signature: &[u8], message: &[u8], at: Option<&str>) -> bool {
        let allowed = self.write("allowed_signers", allowed);
        let signature = self.write("signature", signature);
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-n", NAMESPACE, "-I", who, "-f"]).arg(allowed).arg("-s").arg(signature);
        command.args(at.map(|at| format!("-Overify-time={at}"))).env("TZ", "Europe/Berlin");
        feed(&mut command, message).status.success()
    }
}

fn run(command: &mut Command) -> Output {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who refuses at once does not read.
    drop(child.stdin.take().unwrap().write_all(input));
    child.wait_with_output().unwrap()
}

#[test]
fn every_kind_of_key_in_both_directions() {
    let keys = Keys::new();
    let kinds: [&[&str]; 6] = [
        &["ed25519"],
        &["ecdsa", "-b", "256"],
        &["ecdsa", "-b", "384"],
        &["ecdsa", "-b", "521"],
        &["rsa", "-b", "2048"],
        &["rsa", "-b", "4096"],
    ];
    for (i, kind) in kinds.into_iter().enumerate() {
        let name = format!("key{i}");
        let path = keys.make(&name, kind);
        let (signature, signer) = sign(&path, MESSAGE, NAMESPACE).unwrap();
        assert_eq!(signer.to_string(), keys.public(&name), "{kind:?}");
        let listed = run(Command::new("ssh-keygen").args(["-l", "-f"]).arg(&path));
        assert!(String::from_utf8_lossy(&listed.stdout).contains(&signer.fingerprint()), "{kind:?}");
        let allowed = format!("bob {signer}\n");
        assert!(keys.ssh_keygen_takes(&allowed, "bob", &signature, MESSAGE, None), "{kind:?}");

        // Both hashes, by a call that is not ours.
        for hash in ["sha256", "sha512"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-O", &format!("hashalg={hash}"), "-f"]).arg(&path);
            let signature = feed(&mut command, MESSAGE).stdout;
            assert_eq!(verify(&signature, MESSAGE, NAMESPACE), Ok(signer.clone()), "{kind:?} {hash}");
            let other = verify(&signature, b"{\"schemaVersion\":3}", NAMESPACE);
            assert_eq!(other, Err(SignatureError::Mismatch(signer.fingerprint())), "{kind:?} {hash}");
            // The other keys of this message: the armor with another key in it is no signature of that key.
            let signature = SshSig::from_pem(&signature).unwrap();
            let forged = SshSig::new(
                PublicKey::from_openssh(&keys.public("key0")).unwrap().key_data().clone(),
                NAMESPACE,
                signature.hash_alg(),
                signature.signature().clone(),
            );
            let forged = forged.unwrap().to_pem(LineEnding::LF).unwrap();
            assert_eq!(verify(forged.as_bytes(), MESSAGE, NAMESPACE).is_ok(), i == 0, "{kind:?} {hash}");
        }
    }
}

#[test]
fn a_signature_for_something_else_is_none_of_a_pack() {
    let keys = Keys::new();
    let path = keys.make("key", &["ed25519"]);
    let signature = feed(Command::new("ssh-keygen").args(["-q", "-Y", "sign", "-n", "git", "-f"]).arg(&path), MESSAGE);
    let said = verify(&signature.stdout, MESSAGE, NAMESPACE).unwrap_err();
    assert_eq!(said.to_string(), "it was made for `git`, not for `runbook-pack`");
}

#[test]
fn one_altered_byte_makes_it_worthless() {
    let keys = Keys::new();
    let (good, _) = sign(&keys.make("key", &["ed25519"]), MESSAGE, NAMESPACE).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        if let Ok(signer) = verify(&bad, MESSAGE, NAMESPACE) {
            panic!("byte {at} makes it a signature of {signer}");
        }
    }
    for bad in [&b""[..], b"-----BEGIN SSH SIGNATURE-----", &good[..good.len() / 2], &[0xff; 100], &[b'A'; 20_000]] {
        assert_eq!(verify(bad, MESSAGE, NAMESPACE), Err(SignatureError::Unreadable));
    }
}

#[test]
fn weak_keys_and_hashes_are_not_taken() {
    let keys = Keys::new();
    let path = keys.make("short", &["rsa", "-b", "1024"]);
    let refused = sign(&path, MESSAGE, NAMESPACE).unwrap_err();
    assert!(matches!(refused, SignError::Useless(SignatureError::Key(KeyError::Short(1024)))), "{refused}");

    keys.make("rsa", &["rsa", "-b", "2048"]);
    let rsa = PublicKey::from_openssh(&keys.public("rsa")).unwrap();
    for (algorithm, name) in [(Algorithm::Rsa { hash: None }, "ssh-rsa"), (Algorithm::Ed25519, "ssh-ed25519")] {
        let bytes = if name == "ssh-rsa" { vec![1; 256] } else { vec![1; 64] };
        let signature = Signature::new(algorithm, bytes).unwrap();
        let signature = SshSig::new(rsa.key_data().clone(), NAMESPACE, HashAlg::Sha512, signature).unwrap();
        let said = verify(signature.to_pem(LineEnding::LF).unwrap().as_bytes(), MESSAGE, NAMESPACE);
        assert_eq!(said, Err(SignatureError::Algorithm(name.to_owned())));
    }
}

#[test]
fn what_ssh_keygen_refuses_is_refused() {
    let keys = Keys::new();
    assert!(matches!(sign(&keys.path("none"), MESSAGE, NAMESPACE), Err(SignError::Refused { .. })));
    // A public key whose private half nobody has.
    keys.make("key", &["ed25519"]);
    fs::remove_file(keys.path("key")).unwrap();
    assert!(matches!(sign(&keys.path("key.pub"), MESSAGE, NAMESPACE), Err(SignError::Refused { .. })));
}

fn raw(key: &impl SigningKey, message: &[u8]) -> Signature {
    key.try_sign(message).unwrap()
}

/// What a security key would answer: the same as an ordinary one, over more.
fn security_key(plain: &PrivateKey, touched: bool) -> (String, Vec<u8>) {
    let application = "ssh:";
    let (public, algorithm) = match plain.public_key().key_data() {
        KeyData::Ed25519(key) => (KeyData::from(SkEd25519::new(*key, application)), Algorithm::SkEd25519),
        KeyData::Ecdsa(key) => {
            let ssh_key::public::EcdsaPublicKey::NistP256(point) = key else { panic!("of the curve that they have") };
            let key = SkEcdsaSha2NistP256::new(*point, application);
            (KeyData::from(key), Algorithm::SkEcdsaSha2NistP256)
        }
        other => panic!("no security key has {other:?}"),
    };
    let flags_and_counter = [u8::from(touched), 0, 0, 0, 7];
    let data = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, MESSAGE).unwrap();
    let mut signed = Sha256::digest(application).to_vec();
    signed.extend(flags_and_counter);
    signed.extend(Sha256::digest(data));
    let signature = raw(plain, &signed);
    let signature = [signature.as_bytes(), &flags_and_counter].concat();
    let signature = Signature::new(algorithm, signature).unwrap();
    let armored = SshSig::new(public.clone(), NAMESPACE, HashAlg::Sha512, signature).unwrap();
    let public = PublicKey::new(public, "").to_openssh().unwrap().trim().to_owned();
    (public, armored.to_pem(LineEnding::LF).unwrap().into_bytes())
}

#[test]
fn security_keys() {
    let keys = Keys::new();
    for (name, kind) in [("ed", &["ed25519"][..]), ("ec", &["ecdsa", "-b", "256"])] {
        let plain = PrivateKey::read_openssh_file(keys.make(name, kind)).unwrap();
        for touched in [true, false] {
            let (public, armored) = security_key(&plain, touched);
            assert!(public.starts_with("sk-"), "{public}");
            let signer = verify(&armored, MESSAGE, NAMESPACE).unwrap();
            assert_eq!(signer.to_string(), public);
            assert!(keys.ssh_keygen_takes(&format!("bob {public}\n"), "bob", &armored, MESSAGE, None), "{public}");
            assert!(verify(&armored, b"other", NAMESPACE).is_err());
        }
    }
}

#[test]
fn certificates_are_not_taken_and_said_to_be() {
    let keys = Keys::new();
    let ca = keys.make("ca", &["ed25519"]);
    keys.make("key", &["ed25519"]);
    let public = keys.path("key.pub");
    run(Command::new("ssh-keygen").args(["-q", "-I", "bob", "-n", "bob", "-s"]).arg(&ca).arg(&public));
    let certificate = keys.path("key-cert.pub");
    let refused = sign(&certificate, MESSAGE, NAMESPACE);
    match refused {
        // OpenSSH signs with the key behind the certificate, and names the certificate.
        Err(SignError::Useless(why)) => assert_eq!(why, SignatureError::Key(KeyError::Certificate)),
        other => panic!("{other:?}"),
    }
    let said = SignerKey::parse(&fs::read_to_string(certificate).unwrap()).unwrap_err();
    assert_eq!(said, KeyError::Certificate);
}

fn parse(text: &str) -> Result<AllowedSigners, Vec<String>> {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    AllowedSigners::parse_in(text.as_bytes(), &berlin)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The file, who it should be, at which time (as `ssh-keygen` writes it, and as we do), and the verdict.
const VERDICTS: &[(&str, &str, &str, &str, bool)] = &[
    ("bob KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("bob KEY with a comment # of words", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("  bob \t KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("\n# bob KEY\n\nann KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("ann KEY\nbob KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("bob OTHER\nbob KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("bob OTHER", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("\"bob\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("ann,bob KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("*@home KEY", "bob@home", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("*@home KEY", "bob@work", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("b?b KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("*,!bob KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("!ann KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("BOB KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob namespaces=\"runbook-pack\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("bob NameSpaces=\"git,runbook-*\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("bob namespaces=\"git\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob namespaces=\"*,!runbook-pack\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob namespaces=\"\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob namespaces=\"git\" KEY\nbob KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("bob valid-after=\"20260601Z\" KEY", "bob", "20260531235959Z", "2026-05-31T23:59:59Z", false),
    ("bob valid-after=\"20260601Z\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("bob valid-before=\"20260601Z\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("bob valid-before=\"20260601Z\" KEY", "bob", "20260601000001Z", "2026-06-01T00:00:01Z", false),
    ("bob valid-before=\"202606011200UTC\" KEY", "bob", "202606011201Z", "2026-06-01T12:01:00Z", false),
    // Without a Z it is Berlin's time.
    ("bob valid-before=\"20260101120000\" KEY", "bob", "202601011100Z", "2026-01-01T11:00:00Z", true),
    ("bob valid-before=\"20260101120000\" KEY", "bob", "202601011101Z", "2026-01-01T11:01:00Z", false),
    (
        "bob namespaces=\"runbook-pack\",valid-after=\"2026\\\"0101\" KEY",
        "bob",
        "20260601Z",
        "2026-06-01T00:00:00Z",
        false,
    ),
    (
        "bob valid-after=\"20260101Z\",valid-before=\"20270101Z\",namespaces=\"x,runbook-pack\" KEY",
        "bob",
        "20260601Z",
        "2026-06-01T00:00:00Z",
        true,
    ),
    ("bob KEY\nann nonsense", "bob", "20260601Z", "2026-06-01T00:00:00Z", true),
    ("ann nonsense\nbob OTHER", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob cert-authority KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob unheard-of KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob namespaces=git KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob namespaces=\"git KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob valid-after=\"yesterday\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob valid-after=\"20261301Z\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob valid-after=\"20270101Z\",valid-before=\"20260101Z\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob namespaces=\"a\",namespaces=\"runbook-pack\" KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob namespaces=\"runbook-pack\", KEY", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob ssh-ed25519", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
    ("bob ssh-ed25519 AAAA", "bob", "20260601Z", "2026-06-01T00:00:00Z", false),
];

#[test]
fn verdicts_are_those_of_ssh_keygen() {
    let keys = Keys::new();
    let (signature, signer) = sign(&keys.make("key", &["ed25519"]), MESSAGE, NAMESPACE).unwrap();
    keys.make("other", &["ed25519"]);
    for (file, who, theirs, ours, wanted) in VERDICTS {
        let file = file.replace("KEY", &signer.to_string()).replace("OTHER", &keys.public("other"));
        let taken = keys.ssh_keygen_takes(&file, who, &signature, MESSAGE, Some(theirs));
        assert_eq!(taken, *wanted, "ssh-keygen: {file}");
        let allowed = match parse(&file) {
            Ok(allowed) => allowed,
            // The one difference: a file with a line that cannot be read is refused whatever else is in it.
            Err(mistakes) => {
                assert!(!wanted || file.contains("nonsense"), "{file}: {mistakes:?}");
                continue;
            }
        };
        let verdict = allowed.allow(&signer, Some(who), NAMESPACE, at(ours));
        assert_eq!(verdict.is_ok(), *wanted, "{file}: {verdict:?}");
    }
}

#[test]
fn times_of_summer_are_times_of_summer() {
    let keys = Keys::new();
    keys.make("key", &["ed25519"]);
    let key = SignerKey::parse(&keys.public("key")).unwrap();
    let allowed = parse(&format!("bob valid-before=\"202606011200\" {key}")).unwrap();
    assert!(allowed.allow(&key, None, NAMESPACE, at("2026-06-01T10:00:00Z")).is_ok());
    assert!(allowed.allow(&key, None, NAMESPACE, at("2026-06-01T10:00:01Z")).is_err());
}

#[test]
fn whose_key_it_is_is_found_as_ssh_keygen_finds_it() {
    let keys = Keys::new();
    let (signature, signer) = sign(&keys.make("key", &["ed25519"]), MESSAGE, NAMESPACE).unwrap();
    keys.make("other", &["ed25519"]);
    for (file, wanted) in [
        ("bob@home,*@work KEY", Some("bob@home,*@work")),
        ("ann OTHER\n\"bob\" namespaces=\"runbook-pack\" KEY", Some("bob")),
        ("ann OTHER", None),
    ] {
        let file = file.replace("KEY", &signer.to_string()).replace("OTHER", &keys.public("other"));
        let (allowed, armored) = (keys.write("allowed", &file), keys.write("armored", &signature));
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "find-principals", "-f"]).arg(allowed).arg("-s").arg(armored);
        let found = feed(&mut command, b"");
        let theirs = String::from_utf8_lossy(&found.stdout).trim().replace('\n', ",");
        assert_eq!(theirs, wanted.unwrap_or_default(), "ssh-keygen: {file}");
        let allowed = parse(&file).unwrap();
        let ours = allowed.allow(&signer, None, NAMESPACE, at("2026-06-01T00:00:00Z"));
        assert_eq!(ours.ok().map(|signer| signer.principals), wanted, "{file}");
    }
}

#[test]
fn each_refusal_says_why() {
    let keys = Keys::new();
    keys.make("key", &["ed25519"]);
    let key = SignerKey::parse(&keys.public("key")).unwrap();
    let now = at("2026-06-01T00:00:00Z");
    let said = |options: &str, who: Option<&str>| {
        let file = format!("# mine\nbob {options} {key}");
        parse(&file).unwrap().allow(&key, who, NAMESPACE, now).unwrap_err().to_string()
    };
    assert_eq!(AllowedSigners::default().allow(&key, None, NAMESPACE, now), Err(Refusal::Unknown));
    assert_eq!(said("", Some("ann")), "line 2 of allowed_signers has the key, but not for `ann`");
    assert_eq!(
        said("namespaces=\"git\"", None),
        "line 2 of allowed_signers does not let the key sign for `runbook-pack`"
    );
    assert_eq!(
        said("valid-after=\"20270101Z\"", None),
        "line 2 of allowed_signers lets the key count only from 2027-01-01T00:00:00Z on"
    );
    assert_eq!(
        said("valid-before=\"20260101Z\"", None),
        "line 2 of allowed_signers let the key count only until 2026-01-01T00:00:00Z"
    );
}

#[test]
fn every_line_that_cannot_be_read_is_said() {
    let keys = Keys::new();
    keys.make("key", &["ed25519"]);
    keys.make("short", &["rsa", "-b", "1024"]);
    let (key, short) = (keys.public("key"), keys.public("short"));
    let table = [
        ("bob", "it needs principals, then options if any, then a key"),
        ("bob namespaces=\"a\"", "it needs principals, then options"),
        ("\"bob KEY", "a quote does not end"),
        ("bob namespaces=\"a KEY", "a quote does not end"),
        ("bob ssh-ed25519 AAAA", "its key: it is not an SSH public key"),
        ("bob ssh-dss AAAA", "its key: "),
        ("bob SHORT", "its key: an RSA key of 1024 bits is too short: it needs 2048"),
        ("bob nonsense KEY", "`nonsense` is not an option"),
        ("bob namespaces=a KEY", "the value of `namespaces` must stand in double quotes"),
        ("bob namespaces KEY", "the value of `namespaces` must stand in double quotes"),
        ("bob valid-after=\"20260101\",valid-after=\"20260102\" KEY", "`valid-after` stands there twice"),
        ("bob namespaces=\"a\", KEY", "an option is missing after the comma"),
        ("bob namespaces=\"a\"b KEY", "`b` is not an option"),
        ("bob cert-authority KEY", "`cert-authority` is not supported"),
        ("bob CERT-AUTHORITY,namespaces=\"a\" KEY", "`cert-authority` is not supported"),
        ("bob valid-after=\"2026\" KEY", "`2026` is not a time"),
        ("bob valid-before=\"20260230\" KEY", "`20260230` is not a time"),
        ("bob valid-before=\"19700101Z\" KEY", "`19700101Z` is not a time"),
        ("bob valid-after=\"20260102\",valid-before=\"20260102\" KEY", "`valid-before` is not after `valid-after`"),
        ("b\u{0}b KEY", "it is not UTF-8 text"),
    ];
    let file: String = table.iter().map(|(line, _)| format!("{line}\n\n")).collect();
    let mistakes = parse(&file.replace("KEY", &key).replace("SHORT", &short)).unwrap_err();
    assert_eq!(mistakes.len(), table.len(), "{mistakes:#?}");
    for (i, ((line, wanted), said)) in table.iter().zip(&mistakes).enumerate() {
        let start = format!("line {}: {wanted}", 2 * i + 1);
        assert!(said.starts_with(&start), "{line}: {said}, wanted {start}");
    }
    assert!(AllowedSigners::parse(b"b\xffb ssh-ed25519 AAAA").is_err());
    assert!(AllowedSigners::parse(&vec![b'#'; 2 << 20]).is_err());
}

#[test]
fn patterns_take_no_more_than_their_product() {
    let keys = Keys::new();
    keys.make("key", &["ed25519"]);
    let key = SignerKey::parse(&keys.public("key")).unwrap();
    // A matcher that tries all ways would not come to its end.
    let file = format!("{}b {key}", "a*".repeat(2000));
    let who = "a".repeat(20_000);
    let allowed = parse(&file).unwrap();
    let verdict = allowed.allow(&key, Some(&who), NAMESPACE, at("2026-06-01T00:00:00Z"));
    assert!(matches!(verdict, Err(Refusal::Principal { .. })));
}
