//! Commands that do not behave.

use std::time::{Duration, Instant};

use runbook_model::call::{Attributes, CallError, Command, Exit, FileWant, FilesAct, Verdict};

use crate::world::{FLAVOURS, World, argv, running, sh, unique_seconds};

async fn is_well(world: &World) {
    assert_eq!(world.text(argv(&["echo", "well"])).await, "well\n");
    assert_eq!(world.change(vec![argv(&["echo", "well"])]).await.unwrap().stdout.0, b"well\n");
}

/// Waits until no process with this text in its arguments is left.
async fn gone(text: &str) {
    let until = Instant::now() + Duration::from_secs(15);
    while !running(text).is_empty() {
        assert!(Instant::now() < until, "still running: {:?}", running(text));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn output_that_looks_like_marks_is_output() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let text = "\n0123456789abcdef0123456789abcdef E 0\n\n";
        let script = sh(&format!("printf '%s' '{text}'; printf '%s' '{text}' >&2"));
        let output = world.observe(script).await.unwrap();
        assert_eq!(
            (output.stdout.0.as_slice(), output.stderr.0.as_slice()),
            (text.as_bytes(), text.as_bytes()),
            "{flavour:?}"
        );
    }
}

#[tokio::test]
async fn much_output_is_kept_and_too_much_is_stopped() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let output = world.observe(sh("head -c 5242880 /dev/urandom; head -c 3000000 /dev/zero >&2")).await.unwrap();
        assert_eq!((output.stdout.0.len(), output.stderr.0.len()), (5_242_880, 3_000_000), "{flavour:?}");
        let error = world.observe(sh("cat /dev/zero")).await.unwrap_err();
        assert!(matches!(&error, CallError::Invalid(text) if text.contains("67108864")), "{error}");
        is_well(&world).await;
    }
}

#[tokio::test]
async fn a_command_may_close_its_streams() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let output = world.observe(sh("exec >&- 2>&-; exit 7")).await.unwrap();
        assert_eq!(output.exit, Exit::Code(7), "{flavour:?}");
        is_well(&world).await;
    }
}

#[tokio::test]
async fn a_daemon_does_not_disturb_later_commands() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let daemon = "n=0; while [ $n -lt 300 ]; do echo stray; echo stray >&2; n=$((n+1)); sleep 0.01; done & exit 0";
        let output = world.change(vec![sh(daemon)]).await.unwrap();
        assert_eq!(output.exit, Exit::Code(0));
        // The same in the middle of a batch.
        world.observe_all(vec![sh(daemon), argv(&["true"])]).await.unwrap();
        for _ in 0..5 {
            assert_eq!(world.text(argv(&["echo", "mine"])).await, "mine\n", "{flavour:?}");
        }
        for _ in 0..20 {
            let output = world.change(vec![argv(&["echo", "mine"])]).await.unwrap();
            assert_eq!(
                (output.stdout.0.as_slice(), output.stderr.0.as_slice()),
                (&b"mine\n"[..], &b""[..]),
                "{flavour:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_command_that_kills_its_shell_is_in_doubt() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let error = world.change(vec![sh("kill -9 $PPID; sleep 1")]).await.unwrap_err();
        assert!(matches!(&error, CallError::Unreachable(text) if text.contains("in doubt")), "{flavour:?}: {error}");
        is_well(&world).await;
    }
}

#[tokio::test]
async fn a_timeout_stops_the_whole_tree() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let seconds = unique_seconds();
        // A child in the background, one in a group of its own, one that ignores the polite signal.
        let script = format!(
            "echo started; sleep {seconds} & timeout 5000 sleep {seconds} & (trap '' TERM; while :; do sleep {seconds}; done) & wait"
        );
        let command = Command { timeout_ms: Some(1500), ..sh(&script) };
        let start = Instant::now();
        let error = world.change(vec![command]).await.unwrap_err();
        let CallError::TimedOut(text) = &error else { panic!("{flavour:?}: {error}") };
        assert!(text.contains("started"), "{text}");
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
        gone(&seconds).await;
        is_well(&world).await;
    }
}

#[tokio::test]
async fn machines_without_setsid_are_served_too() {
    for tools in [&["perl"][..], &[]] {
        let world = World::with_only(tools);
        assert_eq!(world.observe(sh("exit 3")).await.unwrap().exit, Exit::Code(3));
        assert_eq!(
            world.observe(argv(&["there-is-no-such-program"])).await.unwrap().exit,
            Exit::Code(127),
            "{tools:?}"
        );
        let seconds = unique_seconds();
        let script = format!("sleep {seconds} & sleep {seconds}");
        let error = world.change(vec![Command { timeout_ms: Some(700), ..sh(&script) }]).await.unwrap_err();
        assert!(matches!(error, CallError::TimedOut(_)), "{tools:?}: {error}");
        gone(&seconds).await;
        is_well(&world).await;
    }
}

#[tokio::test]
async fn a_timeout_stops_pipelines_and_the_rest_of_a_batch() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let seconds = unique_seconds();
        let slow = Command { timeout_ms: Some(700), ..argv(&["sleep", &seconds]) };
        let error = world.change(vec![argv(&["true"]), slow.clone(), argv(&["cat"])]).await.unwrap_err();
        assert!(matches!(error, CallError::TimedOut(_)), "{flavour:?}: {error}");
        gone(&seconds).await;
        let marker = world.path("later");
        let error = world.observe_all(vec![argv(&["true"]), slow, argv(&["touch", &marker])]).await.unwrap_err();
        assert!(matches!(error, CallError::TimedOut(_)), "{flavour:?}: {error}");
        assert!(!std::path::Path::new(&marker).exists(), "a command after the one that was stopped was run");
        is_well(&world).await;
    }
}

#[tokio::test]
async fn cancelling_and_dropping_stop_what_runs() {
    for flavour in FLAVOURS {
        let mut world = World::new(flavour);
        let seconds = unique_seconds();
        let command = Command { files: vec![("f".into(), Default::default())], ..argv(&["sleep", &seconds, "{f}"]) };
        let sleeping =
            Command { argv: vec!["sh".into(), "-c".into(), format!("sleep {seconds}"), "{f}".into()], ..command };
        // Dropped.
        let call = tokio::time::timeout(Duration::from_millis(500), world.change(vec![sleeping.clone()]));
        assert!(call.await.is_err());
        gone(&seconds).await;
        // Cancelled.
        let cancel = world.ctx.cancel.clone();
        let later = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(world.change(vec![sleeping]), later);
        assert!(result.unwrap_err().to_string().contains("cancelled"), "{flavour:?}");
        gone(&seconds).await;
        world.ctx.cancel = tokio_util::sync::CancellationToken::new();
        is_well(&world).await;
    }
}

#[tokio::test]
async fn waiting_for_the_shell_has_a_deadline_too() {
    let world = World::new(FLAVOURS[0]);
    let seconds = unique_seconds();
    let long = world.change(vec![Command { timeout_ms: Some(3000), ..argv(&["sleep", &seconds]) }]);
    let second = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut ctx = world.ctx.clone();
        ctx.deadline = Instant::now() + Duration::from_millis(500);
        let act = runbook_model::call::Act::Ssh(runbook_model::call::SshAct::Run {
            pipeline: vec![argv(&["true"])],
            done_when: None,
            undo: runbook_model::call::Undo::Harmless,
        });
        use runbook_engine::backend::Backend as _;
        world.backend.act(&crate::world::node(), &act, &runbook_model::call::Prior::None, &ctx).await
    };
    let (_, second) = tokio::join!(long, second);
    assert!(second.unwrap_err().to_string().contains("another change"));
}

#[tokio::test]
async fn a_shell_whose_streams_somebody_still_holds_is_not_used_again() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let stop = world.path("stop");
        let shell = async || world.change(vec![sh("echo $PPID")]).await.unwrap().stdout;
        let before = shell().await;
        assert_eq!(before, shell().await, "{flavour:?}");
        world.change(vec![sh(&format!("(until [ -e {stop} ]; do printf xxxx; sleep 0.01; done) &"))]).await.unwrap();
        let want = FileWant::Directory { attributes: Attributes::default() };
        let act = FilesAct { path: world.path("made"), want };
        assert_eq!(world.apply(&act).await, Ok(Verdict::Changed), "{flavour:?}");
        assert_ne!(before, shell().await, "{flavour:?}");
        std::fs::write(stop, "").unwrap();
    }
}
