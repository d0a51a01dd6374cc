//! Registries that lie, stall, flood and point elsewhere: each is refused with its own message, within bounds.

#![expect(clippy::unwrap_used, reason = "tests")]

mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_packs::image::{Descriptor, Digest, Image, MANIFEST_TYPE, Manifest, SIGNATURE_TYPE};
use runbook_packs::registry::{Client, Credentials, Options, Patience, Reference, ReferenceError, RegistryError};
use server::{Asked, Identity, Reply, Server, honest, nobody};

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

fn image() -> Image {
    let (config, layer) = (b"{}".to_vec(), vec![7; 5000]);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        artifact_type: Some("application/vnd.runbook.pack.v1+json".to_owned()),
        config: Descriptor::of("application/vnd.runbook.pack.config.v1+json", &config),
        layers: vec![Descriptor::of("application/wasm", &layer)],
        subject: None,
        annotations: BTreeMap::new(),
    };
    let blobs = [config, layer].into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect();
    Image { manifest: manifest.to_bytes(), blobs, signatures: Vec::new() }
}

/// The digest of the layer, which is the larger of both blobs.
fn layer(image: &Image) -> String {
    image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0.to_string()
}

/// Patience that a test can wait out.
fn impatient() -> Options {
    let second = Duration::from_secs(1);
    let patience = Patience { connect: second, answer: second, silence: second, slowest: u64::MAX };
    Options { patience, ..Options::default() }
}

async fn pull_with(registry: &str, at: &str, options: Options) -> Result<Image, RegistryError> {
    let place = Reference::parse(&format!("{registry}/bob/zfs{at}")).unwrap();
    Client::new(&place, false, options)?.pull().await
}

async fn pull(server: &Server, at: &str) -> Result<Image, RegistryError> {
    pull_with(&server.registry(), at, Options::default()).await
}

fn credentials(registries: &[&str]) -> Credentials {
    let auths: Vec<String> =
        registries.iter().map(|r| format!("\"{r}\": {{\"auth\": \"{}\"}}", STANDARD.encode("bob:secret"))).collect();
    Credentials::parse(format!("{{\"auths\": {{{}}}}}", auths.join(",")).as_bytes()).unwrap()
}

#[tokio::test]
async fn an_honest_one_for_comparison() {
    let image = image();
    let server = {
        let image = image.clone();
        Server::start(move |asked| honest(&image, asked))
    };
    assert_eq!(pull(&server, ":1.0").await.unwrap(), image);
    assert_eq!(pull(&server, &format!("@{}", image.digest())).await.unwrap(), image);
    let said = pull(&server, ":2.0").await.unwrap_err().to_string();
    assert_eq!(said, format!("{}: the manifest of bob/zfs:2.0: it is not there", server.registry()));
    let said = pull(&server, "").await.unwrap_err().to_string();
    assert!(said.contains("say which: a tag (`:1.0`) or a digest"), "{said}");
    let said = pull_with(&nobody(), ":1.0", Options::default()).await.unwrap_err().to_string();
    assert!(said.contains("cannot be reached"), "{said}");
}

/// What a registry does with requests whose path contains a text, the way it deviates, and what is said then. `LAYER`
/// is the digest of the layer.
type Lie = (&'static str, fn(&Image) -> Reply, &'static str);

const LIES: &[Lie] = &[
    ("LAYER", |_| Reply::new(200, &[], vec![8; 5000]), "the registry gave other content: asked for sha256:"),
    ("LAYER", |_| Reply::new(200, &[], vec![7; 4999]), "the registry gave other content: asked for sha256:"),
    ("LAYER", |_| Reply::new(200, &[], vec![7; 5001]), "longer than the 5000 bytes that it may have"),
    ("LAYER", |_| Reply::not_found(), "it is not there"),
    (
        "LAYER",
        |_| Reply::new(500, &[], "{\"errors\":[{\"message\":\"disk\\u001b[2J full\"}]}"),
        "the registry answered 500: disk\u{fffd}[2J full",
    ),
    ("LAYER", |_| Reply::new(204, &[], ""), "the registry answered 204"),
    ("manifests", |image| Reply::new(200, &[("Content-Type", MANIFEST_TYPE)], other(image)), "asked for sha256:"),
    (
        "manifests",
        |image| Reply::new(200, &[("Content-Type", INDEX_TYPE)], image.manifest.clone()),
        "something else lies there: `application/vnd.oci.image.index.v1+json`",
    ),
    (
        "manifests",
        |_| Reply::new(200, &[("Content-Type", "text/html")], "<html>"),
        "something else lies there: `text/html`",
    ),
    ("manifests", |image| Reply::new(200, &[], image.manifest.clone()), "something else lies there: ``"),
    (
        "manifests",
        |image| {
            let headers = [("Content-Type", MANIFEST_TYPE), ("Docker-Content-Digest", "sha256:00")];
            Reply::new(200, &headers, image.manifest.clone())
        },
        "the registry says that it is sha256:00, but its content is sha256:",
    ),
    (
        "manifests",
        |_| Reply::new(200, &[("Content-Type", MANIFEST_TYPE)], vec![b' '; 2 << 20]),
        "longer than the 1048576 bytes",
    ),
    // Bodies that do not end, with and without a length.
    (
        "LAYER",
        |_| {
            Reply::raw(|to| {
                drop(to.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
                while to.write_all(b"8\r\naaaaaaaa\r\n").is_ok() {}
            })
        },
        "longer than the 5000 bytes",
    ),
    (
        "LAYER",
        |_| {
            Reply::raw(|to| {
                drop(to.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"));
                while to.write_all(&[7; 1000]).is_ok() {}
            })
        },
        "longer than the 5000 bytes",
    ),
    (
        "LAYER",
        |_| Reply::raw(|to| drop(to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"))),
        "longer than the 5000 bytes",
    ),
    (
        "LAYER",
        |_| {
            Reply::raw(|to| {
                drop(to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n"));
                drop(to.write_all(&[7; 4000]));
            })
        },
        "the answer ended early",
    ),
    (
        "LAYER",
        |_| {
            Reply::raw(|to| {
                drop(to.write_all(b"HTTP/1.1 200 OK\r\nX: "));
                while to.write_all(&[b'x'; 4000]).is_ok() {}
            })
        },
        "the connection broke",
    ),
    ("LAYER", |_| Reply::raw(|to| drop(to.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n"))), "the connection broke"),
    ("LAYER", |_| Reply::raw(|_| ()), "the connection broke"),
    // Redirects: to plain http elsewhere, to other schemes, in a circle, to nothing.
    (
        "LAYER",
        |_| Reply::new(307, &[("Location", "http://127.0.0.2/x")], ""),
        "redirected to `http://127.0.0.2/x`, which is not https",
    ),
    ("LAYER", |_| Reply::new(302, &[("Location", "file:///etc/passwd")], ""), "redirected to `file:///etc/passwd`"),
    ("LAYER", |_| Reply::new(301, &[("Location", "//127.0.0.2/x")], ""), "redirected to `//127.0.0.2/x`"),
    ("/circle", |_| Reply::new(308, &[("Location", "/circle")], ""), ""),
    ("LAYER", |_| Reply::new(303, &[("Location", "/circle")], ""), "redirected more than 5 times"),
    ("LAYER", |_| Reply::new(302, &[], ""), "redirected where it should not be"),
    // Lists of signatures.
    ("referrers", |_| Reply::new(200, &[("Content-Type", INDEX_TYPE)], "{"), "its list of signatures cannot be read"),
    ("referrers", |_| Reply::new(503, &[], ""), "the list of signatures: the registry answered 503"),
    ("referrers", |_| Reply::new(200, &[("Content-Type", INDEX_TYPE)], signatures(1)), "it is not there"),
    (
        "referrers",
        |_| Reply::new(200, &[("Content-Type", INDEX_TYPE)], signatures(600)),
        "it names more than 500 manifests",
    ),
    (
        "referrers",
        |image| Reply::new(200, &[("Content-Type", INDEX_TYPE)], itself(image)),
        "a signature that lies beside it is about something else",
    ),
    (
        "referrers",
        |_| {
            let headers = [("Content-Type", INDEX_TYPE), ("Link", "</v2/bob/zfs/referrers/again>; rel=\"next\"")];
            Reply::new(200, &headers, signatures(0))
        },
        "it has more than 50 pages",
    ),
    (
        "referrers",
        |_| {
            let headers = [("Content-Type", INDEX_TYPE), ("Link", "</v2/bob/zfs/referrers/again>; rel=\"next\"")];
            Reply::new(200, &headers, signatures(300))
        },
        "it names more than 500 manifests",
    ),
    (
        "referrers",
        |_| {
            let headers = [("Content-Type", INDEX_TYPE), ("Link", "</v2/bob/zfs/tags/list>; rel=\"next\"")];
            Reply::new(200, &headers, signatures(0))
        },
        "the list of signatures: it is not there",
    ),
    (
        "referrers",
        |_| {
            let headers = [("Content-Type", INDEX_TYPE), ("Link", "<http://127.0.0.2/x>; rel=\"next\"")];
            Reply::new(200, &headers, signatures(0))
        },
        "redirected to `http://127.0.0.2/x`, which is not https",
    ),
    (
        "manifests/sha256-",
        |_| Reply::new(200, &[("Content-Type", INDEX_TYPE)], "[]"),
        "its list of signatures cannot be read",
    ),
];

/// A pack as it was some versions ago.
fn other(image: &Image) -> Vec<u8> {
    let mut manifest = Manifest::parse(&image.manifest).unwrap();
    manifest.annotations.insert("version".to_owned(), "0.9".to_owned());
    manifest.to_bytes()
}

/// A list of signatures that are not there.
fn signatures(count: usize) -> Vec<u8> {
    let named = |i: usize| {
        let digest = Digest::of(&i.to_le_bytes());
        serde_json::json!({"mediaType": MANIFEST_TYPE, "digest": digest, "size": 8, "artifactType": SIGNATURE_TYPE})
    };
    let manifests: Vec<_> = (0..count).map(named).collect();
    serde_json::json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes()
}

/// A list that calls the pack its own signature.
fn itself(image: &Image) -> Vec<u8> {
    let mut named = Descriptor::of(MANIFEST_TYPE, &image.manifest);
    named.artifact_type = Some(SIGNATURE_TYPE.to_owned());
    serde_json::json!({"schemaVersion": 2, "manifests": [named]}).to_string().into_bytes()
}

#[tokio::test]
async fn each_lie_is_refused_with_its_own_message() {
    let image = Arc::new(image());
    let at = format!("@{}", image.digest());
    for (where_, lie, wanted) in LIES {
        let served = image.clone();
        let server = Server::start(move |asked| {
            // The circle is there in each of them.
            let lie =
                LIES.iter().find(|(other, ..)| *other == "/circle" && asked.path == "/circle").map_or(*lie, |l| l.1);
            let hit = asked.path == "/circle" || asked.path.contains(&where_.replace("LAYER", &layer(&served)));
            if hit { lie(&served) } else { honest(&served, asked) }
        });
        let said = match pull(&server, &at).await {
            Ok(_) if wanted.is_empty() => continue,
            Ok(_) => panic!("{where_}: nothing was noticed, wanted {wanted}"),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(wanted), "{where_}: wanted {wanted:?}, got {said:?}");
        assert!(said.starts_with(&server.registry()), "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_has_an_end() {
    let image = Arc::new(image());
    type Stall = fn(&mut dyn std::io::Write);
    let table: [(Stall, &str); 3] = [
        (|_| std::thread::sleep(Duration::from_secs(60)), "no answer within 1 s"),
        (
            |to| {
                drop(to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"));
                drop(to.write_all(&[7; 100]));
                std::thread::sleep(Duration::from_secs(60));
            },
            "for 1 s in the middle of the answer",
        ),
        (
            |to| {
                drop(to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"));
                while to.write_all(&[7]).is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            },
            "the answer is too slow: not whole after 1 s",
        ),
    ];
    for (stall, wanted) in table {
        let served = image.clone();
        let server = Server::start(move |asked| match asked.path.contains(&layer(&served)) {
            true => Reply::raw(stall),
            false => honest(&served, asked),
        });
        let mut options = impatient();
        if wanted.contains("middle") {
            // Much for the whole, little for a pause.
            options.patience.slowest = 100;
        }
        let said = pull_with(&server.registry(), ":1.0", options).await.unwrap_err().to_string();
        assert!(said.contains(wanted), "wanted {wanted:?}, got {said:?}");
    }
}

#[tokio::test]
async fn a_redirect_never_carries_who_we_are_to_another_host() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::new(dir.path());
    let image = Arc::new(image());
    let store = {
        let image = image.clone();
        Server::start_tls(&identity, move |_| {
            Reply::new(200, &[], image.blobs[&Digest::parse(&layer(&image)).unwrap()].clone())
        })
    };
    let elsewhere = format!("https://{}/blob", store.registry());
    let server = {
        let (image, elsewhere) = (image.clone(), elsewhere.clone());
        Server::start_tls(&identity, move |asked| match asked.authorization {
            None => Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""),
            Some(_) if asked.path.contains(&layer(&image)) => Reply::new(307, &[("Location", &elsewhere)], ""),
            Some(_) => honest(&image, asked),
        })
    };
    // Both are known to us, and still the other one is told nothing.
    let options = Options {
        ca: Some(identity.certificate.clone()),
        credentials: credentials(&[&server.registry(), &store.registry()]),
        ..Options::default()
    };
    assert_eq!(pull_with(&server.registry(), ":1.0", options.clone()).await.unwrap(), *image);
    assert_eq!(store.seen().len(), 1);
    assert_eq!(store.seen()[0].authorization, None);
    assert!(server.seen().iter().any(|asked| asked.authorization.as_deref() == Some("Basic Ym9iOnNlY3JldA==")));

    // Whom nobody vouches for is not talked to.
    let said = pull_with(&server.registry(), ":1.0", Options { ca: None, ..options }).await.unwrap_err().to_string();
    assert!(said.contains("the connection broke") || said.contains("cannot be reached"), "{said}");
    let strange = Identity::new(tempfile::tempdir().unwrap().path());
    let options = Options { ca: Some(strange.certificate), ..Options::default() };
    let said = pull_with(&server.registry(), ":1.0", options).await.unwrap_err().to_string();
    assert!(said.contains("certificate"), "{said}");
    let options = Options { ca: Some(b"nothing".to_vec()), ..Options::default() };
    let said = pull_with(&server.registry(), ":1.0", options).await.unwrap_err().to_string();
    assert!(said.contains("the CA file holds no certificate"), "{said}");
}

/// A registry that wants a token; `/token` gives `t-for-bob` to who shows the password, and `anonymous` to everybody else.
fn with_tokens(image: &Image, asked: &Asked, needed: &'static str) -> Reply {
    if let Some(query) = asked.path.strip_prefix("/token?") {
        assert_eq!(query, "service=the%20house&scope=repository%3Abob%2Fzfs%3Apull");
        let token =
            if asked.authorization.as_deref() == Some("Basic Ym9iOnNlY3JldA==") { "t-for-bob" } else { "anonymous" };
        return Reply::new(200, &[], format!("{{\"access_token\": \"{token}\"}}"));
    }
    if asked.authorization.as_deref() == Some(&format!("Bearer {needed}")) {
        return honest(image, asked);
    }
    Reply::raw(|to| {
        // Where the token server is, the client cannot know: it is the same port.
        drop(to.write_all(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\nConnection: close\r\nWWW-Authenticate: Bearer realm=\"/token\",service=\"the house\",scope=\"repository:all:push\"\r\n\r\n"));
    })
}

#[tokio::test]
async fn tokens() {
    let image = Arc::new(image());
    let start = |needed: &'static str| {
        let image = image.clone();
        Server::start(move |asked| with_tokens(&image, asked, needed))
    };
    // Nobody needs to be known for what is public.
    let public = start("anonymous");
    assert_eq!(pull(&public, ":1.0").await.unwrap(), *image);
    let logins = public.seen().iter().filter(|asked| asked.path.starts_with("/token")).count();
    assert_eq!(logins, 1, "a token is used again");

    let private = start("t-for-bob");
    let said = pull(&private, ":1.0").await.unwrap_err().to_string();
    assert!(said.contains("access is denied (401)"), "{said}");
    let options = Options { credentials: credentials(&[&private.registry()]), ..Options::default() };
    assert_eq!(pull_with(&private.registry(), ":1.0", options).await.unwrap(), *image);

    // One that wants the password at a place without TLS does not get it.
    let thief = Server::start(|_| Reply::new(200, &[], "{\"token\": \"x\"}"));
    let realm = format!("Bearer realm=\"http://{}/token\"", thief.registry());
    let server = Server::start(move |_| Reply::new(401, &[("WWW-Authenticate", &realm)], ""));
    let options = Options { credentials: credentials(&[&server.registry(), &thief.registry()]), ..Options::default() };
    let said = pull_with(&server.registry(), ":1.0", options).await.unwrap_err().to_string();
    assert!(said.contains("which is not https"), "{said}");
    assert!(thief.seen().is_empty());

    for (challenge, wanted) in [
        ("Basic realm=\"x\"", "access is denied (docker's configuration has no name and password for 127.0.0.1"),
        ("Negotiate", "does not say in a known way how to log in"),
    ] {
        let server = Server::start(move |_| Reply::new(401, &[("WWW-Authenticate", challenge)], ""));
        let said = pull(&server, ":1.0").await.unwrap_err().to_string();
        assert!(said.contains(wanted), "{said}");
    }
}

/// A registry that keeps what it gets, and whose lists of what refers to something are its own.
#[tokio::test]
async fn a_registry_with_the_referrers_api_keeps_the_list_itself() {
    let signed = Image { signatures: vec![b"armored".to_vec()], ..image() };
    let server = Server::start(|asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("HEAD", path) if path.contains(&Digest::of(b"{}").to_string()) => Reply::new(200, &[], ""),
        ("HEAD", _) => Reply::not_found(),
        ("POST", _) => Reply::new(202, &[("Location", "/v2/bob/zfs/blobs/uploads/1?state=x")], ""),
        ("PUT", path) if path.contains("/manifests/") => Reply::new(201, &[("OCI-Subject", "sha256:..")], ""),
        _ => Reply::new(201, &[], ""),
    });
    let place = Reference::parse(&format!("{}/bob/zfs:1.0", server.registry())).unwrap();
    let pushed = Client::new(&place, true, Options::default()).unwrap().push(&signed).await.unwrap();
    assert_eq!((pushed.digest.clone(), pushed.sent, pushed.there), (signed.digest(), 2, 2));
    let puts: Vec<Asked> = server.seen().into_iter().filter(|asked| asked.method == "PUT").collect();
    assert!(puts.iter().all(|put| !put.path.contains("manifests/sha256-")), "no tag for older registries");
    assert_eq!(puts.last().unwrap().path, "/v2/bob/zfs/manifests/1.0", "the tag moves when all is there");
    assert_eq!(puts.last().unwrap().body, signed.manifest);
    assert!(puts[0].path.starts_with("/v2/bob/zfs/blobs/uploads/1?state=x&digest=sha256:"), "{}", puts[0].path);
}

/// A registry with the API of OCI 1.1: it keeps what it gets, and lists what refers to a manifest, so many on a page.
fn keeping(kept: &Mutex<Kept>, on_a_page: usize, asked: &Asked) -> Reply {
    let mut kept = kept.lock().unwrap();
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let (sort, at) = path.strip_prefix("/v2/bob/zfs/").unwrap().split_once('/').unwrap();
    match (asked.method.as_str(), sort) {
        ("POST", _) => Reply::new(202, &[("Location", "/v2/bob/zfs/blobs/uploads/1")], ""),
        ("PUT", "blobs") => {
            kept.blobs.insert(query.strip_prefix("digest=").unwrap().to_owned(), asked.body.clone());
            Reply::new(201, &[], "")
        }
        ("PUT", "manifests") => {
            kept.manifests.insert(at.to_owned(), asked.body.clone());
            match Manifest::parse(&asked.body).unwrap().subject {
                Some(subject) => Reply::new(201, &[("OCI-Subject", subject.digest.as_str())], ""),
                None => Reply::new(201, &[], ""),
            }
        }
        ("GET", "referrers") => {
            let (kind, page) = query.split_once("&page=").unwrap_or((query, "0"));
            let page: usize = page.parse().unwrap();
            // Not all of them leave out what was not asked for.
            let about = kept.manifests.values().filter_map(|bytes| {
                let manifest = Manifest::parse(bytes).unwrap();
                let named =
                    Descriptor { artifact_type: manifest.artifact_type, ..Descriptor::of(MANIFEST_TYPE, bytes) };
                manifest.subject.filter(|subject| subject.digest.as_str() == at).map(|_| named)
            });
            let on_it: Vec<Descriptor> = about.skip(page * on_a_page).take(on_a_page + 1).collect();
            let next = format!("</v2/bob/zfs/{sort}/{at}?{kind}&page={}>; rel=\"next\"", page + 1);
            let mut headers = vec![("Content-Type", INDEX_TYPE)];
            if on_it.len() > on_a_page {
                headers.push(("Link", &next));
            }
            let manifests = &on_it[..on_it.len().min(on_a_page)];
            let list = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests});
            Reply::new(200, &headers, list.to_string())
        }
        (_, "manifests") => match kept.manifests.get(at) {
            Some(bytes) => Reply::new(200, &[("Content-Type", MANIFEST_TYPE)], bytes.clone()),
            None => Reply::not_found(),
        },
        _ => kept.blobs.get(at).map_or_else(Reply::not_found, |bytes| Reply::new(200, &[], bytes.clone())),
    }
}

#[derive(Default)]
struct Kept {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
}

#[tokio::test]
async fn signatures_come_from_the_referrers_api_page_after_page() {
    let signatures = [b"alice".to_vec(), b"bob".to_vec(), b"carol".to_vec()];
    for (on_a_page, pages) in [(100, 1), (2, 2), (1, 4)] {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let server = {
            let kept = kept.clone();
            Server::start(move |asked| keeping(&kept, on_a_page, asked))
        };
        let place = Reference::parse(&format!("{}/bob/zfs:1.0", server.registry())).unwrap();
        // Each pushes what only they have signed.
        for signature in &signatures {
            let signed = Image { signatures: vec![signature.clone()], ..image() };
            Client::new(&place, true, Options::default()).unwrap().push(&signed).await.unwrap();
        }
        // Something that somebody else says of the pack.
        let pack = image();
        let mut other = Manifest::parse(&pack.manifest).unwrap();
        other.artifact_type = Some("application/vnd.example.sbom".to_owned());
        other.subject = Some(Descriptor::of(MANIFEST_TYPE, &pack.manifest));
        let other = other.to_bytes();
        kept.lock().unwrap().manifests.insert(Digest::of(&other).to_string(), other);

        let pulled = pull(&server, ":1.0").await.unwrap();
        assert_eq!(pulled, Image { signatures: signatures.to_vec(), ..pack });
        let seen = server.seen();
        let asked = |part: &str| seen.iter().filter(|asked| asked.path.contains(part)).count();
        assert_eq!((asked("/referrers/"), asked("/manifests/sha256-")), (pages, 0), "{on_a_page} on a page");
    }
}

#[tokio::test]
async fn what_is_not_whole_or_not_what_was_named_is_not_pushed() {
    let server = Server::start(|_| Reply::new(201, &[], ""));
    let mut broken = image();
    broken.blobs.pop_first();
    let digest = Digest::of(b"another");
    for (image, at, wanted) in [(broken, ":1.0", "is missing"), (image(), &format!("@{digest}"), "asked for sha256:")] {
        let place = Reference::parse(&format!("{}/bob/zfs{at}", server.registry())).unwrap();
        let said = Client::new(&place, true, Options::default()).unwrap().push(&image).await.unwrap_err().to_string();
        assert!(said.contains(wanted), "{said}");
    }
    assert!(server.seen().is_empty());
}

#[test]
fn references() {
    let digest = Digest::of(b"x");
    for (text, registry, name, tag) in [
        ("localhost/zfs:1", "localhost", "zfs", Some("1")),
        ("registry.home.example/bob/zfs:1.2.0-rc_1", "registry.home.example", "bob/zfs", Some("1.2.0-rc_1")),
        ("127.0.0.1:5000/a/b__c/d-e.f", "127.0.0.1:5000", "a/b__c/d-e.f", None),
        ("[::1]:5000/zfs:1", "[::1]:5000", "zfs", Some("1")),
        ("[::1]/zfs", "[::1]", "zfs", None),
    ] {
        for (text, digest) in [(text.to_owned(), None), (format!("{text}@{digest}"), Some(digest.clone()))] {
            let read = Reference::parse(&text).unwrap();
            let wanted =
                Reference { registry: registry.to_owned(), name: name.to_owned(), tag: tag.map(str::to_owned), digest };
            assert_eq!(read, wanted);
            assert_eq!(read.to_string(), text);
        }
    }
    let long = "a".repeat(300);
    for text in ["zfs", "bob/zfs:1", "", "/zfs", "UPPER/zfs"] {
        assert!(matches!(Reference::parse(text), Err(ReferenceError::NoRegistry(_))), "{text}");
    }
    for text in ["a b.c/zfs", "a.b:/x:y/zfs", "a.b:99999/zfs", "a.b:+1/zfs", "user@a.b/zfs", "[x]:1/zfs", ":1/zfs"] {
        assert!(Reference::parse(text).is_err(), "{text}");
    }
    for name in ["UP", "a//b", "a/", "", "..", "../x", "a..b", "a/.b", "-a", "a-", "a b", "a%2f", &long] {
        assert!(matches!(Reference::parse(&format!("a.b/{name}:1")), Err(ReferenceError::Name(_))), "{name}");
    }
    for tag in ["", ".a", "-a", "a b", "a/b", &long] {
        assert!(Reference::parse(&format!("a.b/c:{tag}")).is_err(), "{tag}");
    }
    for digest in ["", "sha256:x", "sha512:00", "md5:0", &digest.to_string().to_uppercase()] {
        assert!(matches!(Reference::parse(&format!("a.b/c@{digest}")), Err(ReferenceError::Digest(_))), "{digest}");
    }
}
