//! Processes and files in pods, against a server that runs the commands on this machine, in both protocols.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use runbook_engine::backend::{Backend as _, CallContext};
use runbook_kube::KubeBackend;
use runbook_model::call::{
    Act, Answer, CallError, Finding, KubeAct, KubeLook, Outcome, PodOutput, PodUndo, Prior, Response, SourceRef,
    Target, Verdict,
};
use runbook_model::undo_kube::take_back;
use serde_json::{Value, json};
use sha2::Digest as _;
use support::server::{Reply, Server, absent, status};
use support::{Told, act, backend, context, home, look, plan_context, pod};

const V4: &str = "v4.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";

fn cluster(protocol: &'static str) -> (Arc<Server>, KubeBackend) {
    let server = Server::new(move |seen, _| match seen.path.as_str() {
        "/api/v1/namespaces/d/pods/vanish/exec" => Some(Reply::Vanish),
        "/api/v1/namespaces/d/pods/gone/exec" => Some(absent("pods", "gone")),
        "/api/v1/namespaces/d/pods/stopped/exec" => Some(Reply::Text(404, "container not found (\"web\")")),
        "/api/v1/namespaces/d/pods/garbled/exec" => Some(Reply::Status(Value::String("?".into()))),
        "/api/v1/namespaces/d/pods/denied/exec" => {
            Some(Reply::Json(403, status(403, "Forbidden", "cannot create pods/exec", &json!({}))))
        }
        path if path.ends_with("/exec") => Some(Reply::Run(protocol)),
        _ => None,
    });
    let backend = backend(server.access());
    (server, backend)
}

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}

async fn observe(backend: &KubeBackend, name: &str, argv: &[&str]) -> Response {
    let exec = KubeLook::Exec { pod: pod(name), container: None, argv: words(argv) };
    backend.look(&home(), &look(exec), &plan_context(20.0)).await
}

async fn change(backend: &KubeBackend, argv: &[&str], stdin: &[u8]) -> Result<PodOutput, CallError> {
    let exec = KubeAct::Exec {
        pod: pod("web"),
        container: None,
        argv: words(argv),
        stdin: stdin.to_vec().into(),
        done_when: None,
        undo: PodUndo::Harmless,
    };
    match backend.act(&home(), &act(exec), &Prior::None, &context(30.0)).await? {
        Answer::Outcome(Outcome::PodDone(output)) => Ok(output),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn output_and_exit_codes_arrive() {
    let (_, backend) = cluster(V4);
    let answer = observe(&backend, "web", &["sh", "-c", "echo 'a  b'; printf '\\377' >&2; exit 7"]).await;
    let Ok(Answer::Pod(output)) = answer else { panic!("{answer:?}") };
    assert_eq!(
        (output.exit_code, output.stdout.0.as_slice(), output.stderr.0.as_slice()),
        (7, &b"a  b\n"[..], &[255][..])
    );
    let answer = observe(&backend, "web", &["echo", "$HOME; `id` && x=1?&%"]).await;
    assert!(matches!(&answer, Ok(Answer::Pod(output)) if output.stdout.0 == b"$HOME; `id` && x=1?&%\n"), "{answer:?}");
}

#[tokio::test]
async fn what_did_not_run_or_end_is_said() {
    let (_, backend) = cluster(V4);
    let said = async |name: &str, argv: &[&str]| observe(&backend, name, argv).await.expect_err("is an error");
    assert!(matches!(said("vanish", &["ls"]).await, CallError::Unreachable(t) if t.contains("cannot be said how")));
    assert!(matches!(said("garbled", &["ls"]).await, CallError::Unreachable(t) if t.contains("garbled")));
    assert!(matches!(said("gone", &["ls"]).await, CallError::NotFound(_)));
    assert!(matches!(said("stopped", &["ls"]).await, CallError::Failed(t) if t.contains("container not found")));
    assert!(matches!(said("denied", &["ls"]).await, CallError::Failed(t) if t.contains("403")));
    assert!(matches!(said("web", &["no-such-program"]).await, CallError::Failed(t) if t.contains("not found")));
    assert!(matches!(said("web", &[]).await, CallError::Invalid(_)));
    let flood = said("web", &["head", "-c", "9000000", "/dev/zero"]).await;
    assert!(matches!(&flood, CallError::Failed(t) if t.contains("4 MiB")), "{flood}");
}

#[tokio::test]
async fn a_process_that_never_ends_ends_the_call() {
    let (_, backend) = cluster(V4);
    let exec = KubeLook::Exec { pod: pod("web"), container: None, argv: words(&["sleep", "60"]) };
    let error = backend.look(&home(), &look(exec), &plan_context(0.8)).await;
    assert!(matches!(&error, Err(CallError::TimedOut(t)) if t.contains("may still be running")), "{error:?}");
}

#[tokio::test]
async fn input_reaches_its_end_in_both_protocols() {
    let long = vec![b'x'; 3 << 20];
    for protocol in [V4, V5] {
        let (server, backend) = cluster(protocol);
        let output = change(&backend, &["cat"], b"some input").await.unwrap();
        assert_eq!((output.exit_code, output.stdout.0.as_slice()), (0, &b"some input"[..]), "{protocol}");
        // More than fits into any buffer on the way, in both directions at once.
        let output = change(&backend, &["cat"], &long).await.unwrap();
        assert!(output.stdout.0 == long, "{protocol}: {} bytes", output.stdout.0.len());
        let output = change(&backend, &["sh", "-c", "wc -c; exit 3"], &long).await.unwrap();
        assert_eq!((output.exit_code, output.stdout.lossy().trim()), (3, "3145728"), "{protocol}");
        // A process that does not read its input.
        let output = change(&backend, &["true"], &long).await.unwrap();
        assert_eq!(output.exit_code, 0, "{protocol}");
        let wrapped = server.seen().iter().filter(|seen| seen.query.contains("head")).count();
        assert_eq!(wrapped, if protocol == V4 { 4 } else { 0 }, "{protocol}");
        let output = change(&backend, &["echo", "no input"], b"").await.unwrap();
        assert_eq!(output.stdout.0, b"no input\n");
    }
}

fn source(path: &Path) -> SourceRef {
    let content = std::fs::read(path).unwrap();
    SourceRef {
        target: Target::Controller,
        path: path.to_string_lossy().into_owned(),
        size: content.len() as u64,
        sha256: hex::encode(sha2::Sha256::digest(&content)),
    }
}

fn sha256(content: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(content))
}

fn copy_in(source: &SourceRef, path: &Path) -> runbook_model::call::Act {
    let path = path.to_string_lossy().into_owned();
    act(KubeAct::CopyIn { pod: pod("web"), container: None, source: source.clone(), path })
}

#[tokio::test]
async fn a_file_is_copied_in_once_and_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("chime.mp3"), dir.path().join("volume with 'quotes' $x.mp3"));
    let content: Vec<u8> = (0..5_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&here, &content).unwrap();
    std::fs::write(&there, "old").unwrap();
    std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o640)).unwrap();
    for protocol in [V4, V5] {
        let (_, backend) = cluster(protocol);
        let copy = copy_in(&source(&here), &there);
        let told = Arc::new(Told::default());
        let ctx =
            CallContext { progress: Arc::clone(&told) as _, artifacts: dir.path().join("artifacts"), ..context(60.0) };
        let prior = backend.prior(&home(), &copy, &plan_context(10.0)).await.unwrap();
        let old = Prior::PodFile { sha256: Some(sha256(b"old")), content: Some("old".into()) };
        assert_eq!(prior, old);
        assert_eq!(backend.act(&home(), &copy, &prior, &ctx).await, Ok(Answer::Verdict(Verdict::Changed)));
        assert!(std::fs::read(&there).unwrap() == content);
        assert_eq!(std::fs::metadata(&there).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(
            told.0.lock().unwrap().iter().any(|(_, done, total)| *total == Some(20_000_000) && *done == 20_000_000)
        );
        let prior = backend.prior(&home(), &copy, &plan_context(10.0)).await.unwrap();
        assert_eq!(prior, Prior::PodFile { sha256: Some(sha256(&content)), content: None });
        assert_eq!(backend.act(&home(), &copy, &prior, &ctx).await, Ok(Answer::Verdict(Verdict::Unchanged)));

        let out = KubeLook::CopyOut { pod: pod("web"), container: None, path: there.to_string_lossy().into_owned() };
        let answer = backend.look(&home(), &look(out), &ctx).await;
        let Ok(Answer::Source(copied)) = answer else { panic!("{answer:?}") };
        assert_eq!((copied.size, &copied.sha256), (20_000_000, &source(&here).sha256));
        assert!(std::fs::read(&copied.path).unwrap() == content);
        let names: Vec<_> =
            std::fs::read_dir(dir.path().join("artifacts")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 1, "nothing half done is left: {names:?}");
        std::fs::write(&there, "old").unwrap();
    }
}

#[tokio::test]
async fn a_copy_that_is_not_whole_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    std::fs::write(&here, "some content").unwrap();
    std::fs::write(&there, "before").unwrap();
    let (_, backend) = cluster(V4);
    let run = async |source: &SourceRef, path: &Path| {
        backend.act(&home(), &copy_in(source, path), &Prior::DoneWhen(false), &context(20.0)).await
    };
    let good = source(&here);
    std::fs::write(&here, "same length!").unwrap();
    let error = run(&good, &there).await;
    assert!(matches!(&error, Err(CallError::Conflict(t)) if t.contains("not what it was")), "{error:?}");
    std::fs::write(&here, "short").unwrap();
    let error = run(&good, &there).await;
    assert!(matches!(&error, Err(CallError::Failed(t)) if t.contains("5 of 12 bytes")), "{error:?}");
    let error = run(&source(&here), dir.path()).await;
    assert!(matches!(&error, Err(CallError::Failed(t)) if t.contains("directory")), "{error:?}");
    let error = run(&source(&here), &dir.path().join("missing/file")).await;
    assert!(matches!(&error, Err(CallError::Failed(_))), "{error:?}");
    let error = run(&SourceRef { target: Target::Machine("n1".into()), ..source(&here) }, &there).await;
    assert!(matches!(&error, Err(CallError::Invalid(_))), "{error:?}");
    assert_eq!(std::fs::read(&there).unwrap(), b"before");
    // What is left beside it, where the shell there was ended before it could clean up, is removed by the next copy.
}

#[tokio::test]
async fn an_empty_file_can_be_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    std::fs::write(&here, "").unwrap();
    let (_, backend) = cluster(V4);
    let copy = copy_in(&source(&here), &there);
    assert_eq!(
        backend.prior(&home(), &copy, &plan_context(10.0)).await,
        Ok(Prior::PodFile { sha256: None, content: None })
    );
    let done = backend.act(&home(), &copy, &Prior::DoneWhen(false), &context(20.0)).await;
    assert_eq!(done, Ok(Answer::Verdict(Verdict::Changed)));
    assert_eq!(std::fs::read(&there).unwrap(), b"");
}

#[tokio::test]
async fn copying_out_what_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (_, backend) = cluster(V4);
    let ctx = CallContext { artifacts: dir.path().to_owned(), ..context(20.0) };
    let out = |path: &str| look(KubeLook::CopyOut { pod: pod("web"), container: None, path: path.to_owned() });
    assert!(matches!(backend.look(&home(), &out("/nonexistent/x"), &ctx).await, Err(CallError::NotFound(_))));
    assert!(matches!(backend.look(&home(), &out("/tmp"), &ctx).await, Err(CallError::Failed(_))));
    assert!(matches!(backend.look(&home(), &out("relative"), &ctx).await, Err(CallError::Invalid(_))));
}

#[tokio::test]
async fn a_file_that_was_copied_in_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    std::fs::write(&here, "new").unwrap();
    let (_, backend) = cluster(V4);
    let copy = copy_in(&source(&here), &there);
    let Act::Kube(copied) = &copy else { panic!("a change of a cluster") };
    let made = async |change: &Act| {
        let prior = backend.prior(&home(), change, &context(20.0)).await?;
        let answer = backend.act(&home(), change, &prior, &context(20.0)).await?;
        Ok::<_, CallError>((prior, answer))
    };
    let binary: &[u8] = b"\x00 before \xff";
    for before in [None, Some(binary)] {
        match before {
            Some(content) => std::fs::write(&there, content).unwrap(),
            None => drop(std::fs::remove_file(&there)),
        }
        let (prior, _) = made(&copy).await.unwrap();
        assert_eq!(std::fs::read(&there).unwrap(), b"new");
        let back = take_back(copied, &prior, None).unwrap();
        let [back] = &back[..] else { panic!("{back:?}") };
        let back = act(back.clone());
        let found = backend.settle(&home(), &back, &Prior::None, &context(20.0)).await;
        assert_eq!(found, Ok(Finding::NotDone));
        // Somebody else's content stays.
        std::fs::write(&there, "theirs").unwrap();
        let error = made(&back).await;
        assert!(matches!(&error, Err(CallError::Conflict(t)) if t.contains("not what was left there")), "{error:?}");
        assert_eq!(std::fs::read(&there).unwrap(), b"theirs");
        std::fs::write(&there, "new").unwrap();
        assert_eq!(made(&back).await.unwrap().1, Answer::Verdict(Verdict::Changed));
        assert_eq!(std::fs::read(&there).ok().as_deref(), before);
        assert_eq!(made(&back).await.unwrap().1, Answer::Verdict(Verdict::Unchanged));
        let found = backend.settle(&home(), &back, &Prior::None, &context(20.0)).await;
        assert_eq!(found, Ok(Finding::Done(Answer::Verdict(Verdict::Changed))));
    }
}

#[tokio::test]
async fn more_than_is_kept_is_said_by_the_undo() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    std::fs::write(&here, "new").unwrap();
    std::fs::write(&there, vec![b'x'; (8 << 20) + 1]).unwrap();
    let (_, backend) = cluster(V4);
    let copy = copy_in(&source(&here), &there);
    let prior = backend.prior(&home(), &copy, &context(20.0)).await.unwrap();
    assert!(matches!(&prior, Prior::PodFile { sha256: Some(_), content: None }));
    let Act::Kube(copied) = &copy else { panic!("a change of a cluster") };
    let error = take_back(copied, &prior, None).unwrap_err();
    assert!(error.to_string().contains("8 MiB"), "{error}");
    std::fs::write(&there, vec![b'x'; 8 << 20]).unwrap();
    let prior = backend.prior(&home(), &copy, &context(20.0)).await.unwrap();
    assert!(matches!(&prior, Prior::PodFile { content: Some(content), .. } if content.0.len() == 8 << 20));
}

#[tokio::test]
async fn what_says_that_a_process_is_done_is_asked_before_and_after() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mark").to_string_lossy().into_owned();
    let (_, backend) = cluster(V4);
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let exec = |done_when: Option<Vec<String>>| {
        act(KubeAct::Exec {
            pod: pod("web"),
            container: None,
            argv: words(&["touch", &file]),
            stdin: Default::default(),
            done_when,
            undo: PodUndo::Inverse(words(&["rm", &file])),
        })
    };
    let guarded = exec(Some(words(&["test", "-e", &file])));
    let settled = async |change: &Act| backend.settle(&home(), change, &Prior::None, &context(20.0)).await.unwrap();
    assert_eq!(backend.prior(&home(), &guarded, &plan_context(10.0)).await, Ok(Prior::DoneWhen(false)));
    assert!(matches!(settled(&guarded).await, Finding::Unclear(text) if text.contains("leaves no mark")));
    let done = backend.act(&home(), &guarded, &Prior::DoneWhen(false), &context(20.0)).await;
    assert!(matches!(done, Ok(Answer::Outcome(Outcome::PodDone(output))) if output.exit_code == 0));
    assert_eq!(backend.prior(&home(), &guarded, &plan_context(10.0)).await, Ok(Prior::DoneWhen(true)));
    assert_eq!(settled(&guarded).await, Finding::Done(Answer::Outcome(Outcome::Already)));
    assert!(matches!(settled(&exec(None)).await, Finding::Unclear(_)));
}
