//! What changes leave at a machine, and what is made of it when their answer was lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use runbook_engine::backend::{Backend as _, CallContext};
use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Act, Answer, Attributes, CallError, Command, Content, Exit, FileWant, FilesAct, Finding, Input, Outcome, Output,
    Prior, SshAct, Text, Undo, Verdict,
};

use crate::world::{FLAVOURS, Flavour, World, argv, mark, node, running, sh, unique_seconds};

/// A change that only a person can take back, and that nothing tells the end of.
fn precious(script: &str) -> Act {
    run(vec![sh(script)], None, Undo::ByHand("look".into()))
}

fn run(pipeline: Vec<Command>, done_when: Option<Command>, undo: Undo) -> Act {
    Act::Ssh(SshAct::Run { pipeline, done_when: done_when.map(Box::new), undo })
}

fn session(world: &World, session: u32, record: u64) -> CallContext {
    CallContext { mark: mark("r1", session, record), ..world.ctx.clone() }
}

async fn prior(world: &World, act: &Act) -> Prior {
    world.backend.prior(&node(), act, &world.ctx).await.unwrap()
}

async fn act(world: &World, act: &Act, ctx: &CallContext) -> Result<Output, CallError> {
    match world.backend.act(&node(), act, &prior(world, act).await, ctx).await? {
        Answer::Outcome(Outcome::Done(output)) => Ok(output),
        other => panic!("{other:?}"),
    }
}

/// What another controller makes of it, later.
async fn settle(world: &World, change: &Act, prior: &Prior, ctx: &CallContext) -> Finding {
    world.backend.settle(&node(), change, prior, ctx).await.unwrap()
}

fn done(finding: Finding) -> Output {
    match finding {
        Finding::Done(Answer::Outcome(Outcome::Done(output))) => output,
        other => panic!("{other:?}"),
    }
}

/// Waits until something is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < limit, "not in a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

#[tokio::test]
async fn marked_commands_answer_as_others_do() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let mut record = 0;
        let mut ctx = || {
            record += 1;
            session(&world, 1, record)
        };
        for undo in [Undo::Harmless, Undo::Irreversible("gone".into())] {
            let one = |command| run(vec![command], None, undo.clone());
            let output =
                act(&world, &one(sh("printf 'no newline'; printf 'err\\n' >&2; exit 3")), &ctx()).await.unwrap();
            assert_eq!(output.exit, Exit::Code(3), "{flavour:?}");
            assert_eq!((output.stdout.0.as_slice(), output.stderr.0.as_slice()), (&b"no newline"[..], &b"err\n"[..]));
            let output = act(&world, &one(sh("kill -KILL $$")), &ctx()).await.unwrap();
            assert_eq!((output.exit, output.stderr.0), (Exit::Signal("KILL".into()), Vec::new()), "{flavour:?}");
            let input = Command { stdin: Input::Text(Text::plain("b\na\n")), ..argv(&["cat"]) };
            let pipeline = run(vec![input, argv(&["sort"]), sh("cat; echo oops >&2; exit 5")], None, undo.clone());
            let output = act(&world, &pipeline, &ctx()).await.unwrap();
            assert_eq!(output.exit, Exit::Code(5), "{flavour:?}");
            assert_eq!((output.stdout.0.as_slice(), output.stderr.0.as_slice()), (&b"a\nb\n"[..], &b"oops\n"[..]));
            let big: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 256).to_le_bytes()[0]).collect();
            let fed = Command { stdin: Input::Bytes(Bytes(big.clone())), ..argv(&["cat"]) };
            assert!(act(&world, &one(fed), &ctx()).await.unwrap().stdout.0 == big, "{flavour:?}");
            let files = vec![("f".into(), Text::plain("kept"))];
            let output = act(&world, &one(Command { files, ..argv(&["cat", "{f}"]) }), &ctx()).await.unwrap();
            assert_eq!(output.stdout.0, b"kept");
            let lost = Command { cwd: Some("/nowhere".into()), ..argv(&["true"]) };
            let error = act(&world, &one(lost), &ctx()).await.unwrap_err();
            assert!(error.to_string().contains("working directory"), "{error}");
        }
        world.backend.close().await;
        assert!(!Path::new(&world.path("state")).exists(), "{flavour:?}: something was left behind");
    }
}

#[tokio::test]
async fn something_left_running_holds_up_no_kept_output() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let seconds = unique_seconds();
        let daemon = precious(&format!("echo up; sleep {seconds} & echo well >&2"));
        let output = act(&world, &daemon, &session(&world, 1, 1)).await.unwrap();
        assert_eq!(
            (output.stdout.0.as_slice(), output.stderr.0.as_slice()),
            (&b"up\n"[..], &b"well\n"[..]),
            "{flavour:?}"
        );
        assert_eq!(world.text(argv(&["echo", "on"])).await, "on\n");
        let output = act(&world, &precious("echo next"), &session(&world, 1, 2)).await.unwrap();
        assert_eq!(output.stdout.0, b"next\n", "{flavour:?}");
        let _ = Process::new("pkill").args(["-f", &format!("^sleep {seconds}")]).status();
    }
}

#[tokio::test]
async fn a_harmless_marked_command_costs_one_fork() {
    for flavour in FLAVOURS {
        // In a PID namespace of its own, numbers are given one after the other.
        let world = World::contained(flavour);
        let harmless = run(vec![sh("echo $$")], None, Undo::Harmless);
        let mut pids: Vec<u32> = Vec::new();
        for record in 1..6 {
            let output = act(&world, &harmless, &session(&world, 1, record)).await.unwrap();
            pids.push(output.stdout.lossy().trim().parse().unwrap());
        }
        assert!(pids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{flavour:?}: {pids:?}");
    }
}

#[tokio::test]
async fn what_left_no_word_is_unclear_unless_something_else_tells() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let go = world.path("go");
        let script = format!(
            "echo $PPID >{go}.pid; printf out; echo err >&2; until [ -e {go} ]; do sleep 0.1; done; echo end; echo x >>{go}.runs; exit 3"
        );
        let change = precious(&script);
        let before = prior(&world, &change).await;
        assert_eq!(before, Prior::Process { done: None, boot_id: boot_id() });
        let ctx = session(&world, 1, 7);
        let target = node();
        let first = world.backend.act(&target, &change, &before, &ctx);
        let lost = async {
            until("it runs", || Path::new(&format!("{go}.pid")).exists()).await;
            let started = world.path("state/runbook-target/runs/r1/marks");
            let start = format!("\n7.1 start {} ", boot_id());
            assert!(fs::read_to_string(started).unwrap().starts_with(&start));
        };
        tokio::select! {
            _ = first => panic!("{flavour:?}: it cannot have ended"),
            () = lost => {}
        }
        // A program that lives stops what nobody waits for any more.
        until("it is stopped", || running(&go).is_empty()).await;
        let finding = settle(&world.again(), &change, &before, &session(&world, 2, 7)).await;
        assert!(
            matches!(&finding, Finding::Unclear(text) if text.contains("was it killed")),
            "{flavour:?}: {finding:?}"
        );
        let harmless = run(vec![sh(&script)], None, Undo::Harmless);
        assert_eq!(settle(&world.again(), &harmless, &before, &session(&world, 2, 7)).await, Finding::NotDone);
        let already = run(vec![sh(&script)], Some(argv(&["true"])), Undo::ByHand("x".into()));
        let finding = settle(&world.again(), &already, &before, &session(&world, 2, 7)).await;
        assert_eq!(finding, Finding::Done(Answer::Outcome(Outcome::Already)));
        // A change that never left.
        assert_eq!(settle(&world.again(), &change, &before, &session(&world, 2, 8)).await, Finding::NotDone);
        let rebooted = Prior::Process { done: None, boot_id: "another-boot".into() };
        let finding = settle(&world.again(), &change, &rebooted, &session(&world, 2, 8)).await;
        assert!(matches!(&finding, Finding::Unclear(text) if text.contains("lost the note")), "{finding:?}");
        assert_eq!(settle(&world.again(), &harmless, &rebooted, &session(&world, 2, 8)).await, Finding::NotDone);
    }
}

#[tokio::test]
async fn an_answer_is_never_made_up_of_what_was_not_kept() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        // Whether its end is its own, or that nobody listened any more, nobody knows.
        let change = run(vec![sh("echo out; exit 4")], None, Undo::Harmless);
        let before = prior(&world, &change).await;
        act(&world, &change, &session(&world, 1, 1)).await.unwrap();
        assert_eq!(settle(&world.again(), &change, &before, &session(&world, 2, 1)).await, Finding::NotDone);
        // What somebody watches is kept, although doing it again were harmless.
        let followed = Command { follow: true, ..sh("echo out; exit 4") };
        let change = run(vec![followed], None, Undo::Harmless);
        let first = act(&world.again(), &change, &session(&world, 2, 3)).await.unwrap();
        let second = done(settle(&world.again(), &change, &before, &session(&world, 3, 3)).await);
        assert_eq!(second, first, "{flavour:?}");

        let world = World::new(flavour);
        let change = run(vec![sh("echo out; exit 4")], Some(argv(&["false"])), Undo::ByHand("x".into()));
        act(&world, &change, &session(&world, 1, 1)).await.unwrap();
        let output = done(settle(&world.again(), &change, &before, &session(&world, 2, 1)).await);
        assert_eq!((output.exit, output.stdout.0.as_slice()), (Exit::Code(4), &b""[..]), "{flavour:?}");
        assert!(output.stderr.lossy().contains("lost with the connection"));
        // Kept output comes as it was, also of a pipeline.
        let pipeline = run(vec![sh("echo x; exit 4"), sh("echo oops >&2; cat")], None, Undo::ByHand("x".into()));
        let first = act(&world.again(), &pipeline, &session(&world, 2, 2)).await.unwrap();
        assert_eq!(first.exit, Exit::Code(4));
        let second = done(settle(&world.again(), &pipeline, &before, &session(&world, 3, 2)).await);
        assert_eq!(second, first, "{flavour:?}");
    }
}

#[tokio::test]
async fn a_late_text_of_an_older_session_refuses_itself() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        act(&world, &precious("true"), &session(&world, 1, 1)).await.unwrap();
        // The next session takes over while the first one still has its connection.
        let change = precious(&format!("touch {}", world.path("late")));
        let before = prior(&world, &change).await;
        let next = world.again();
        assert_eq!(settle(&next, &change, &before, &session(&world, 2, 2)).await, Finding::NotDone);
        for change in [
            change.clone(),
            run(vec![sh(&format!("touch {}", world.path("late"))), argv(&["cat"])], None, Undo::Harmless),
        ] {
            let error = act(&world, &change, &session(&world, 1, 2)).await.unwrap_err();
            assert!(
                matches!(&error, CallError::Conflict(text) if text.contains("newer session")),
                "{flavour:?}: {error}"
            );
        }
        assert!(!Path::new(&world.path("late")).exists());
        // Its note tells that it did nothing.
        assert_eq!(settle(&next, &change, &before, &session(&world, 2, 2)).await, Finding::NotDone);
        next.backend.close().await;
        assert!(!Path::new(&world.path("state")).exists());
    }
}

#[tokio::test]
async fn files_are_settled_by_what_lies_there() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let path = world.path("conf");
        fs::write(&path, "old").unwrap();
        let content = Content::Text(Text::plain("new"));
        let want = FileWant::File { content, attributes: Attributes::default(), validate: Vec::new() };
        let change = Act::Files(FilesAct { path: path.clone(), want });
        let before = prior(&world, &change).await;
        let later = async || settle(&world.again(), &change, &before, &session(&world, 2, 1)).await;
        assert_eq!(later().await, Finding::NotDone, "{flavour:?}");
        let answer = world.backend.act(&node(), &change, &before, &session(&world, 2, 1)).await;
        assert_eq!(answer, Ok(Answer::Verdict(Verdict::Changed)));
        assert_eq!(later().await, Finding::Done(Answer::Verdict(Verdict::Changed)));
        fs::write(&path, "odd").unwrap();
        let finding = later().await;
        assert!(matches!(&finding, Finding::Unclear(text) if text.contains("a file of 3 bytes")), "{finding:?}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let finding = later().await;
        assert!(matches!(&finding, Finding::Unclear(text) if text.contains("is a directory")), "{finding:?}");
    }
    let world = World::new(Flavour::Dash);
    let change = precious("true");
    let error = world.backend.settle(&node(), &change, &Prior::None, &world.ctx).await.unwrap_err();
    assert!(matches!(error, CallError::Invalid(_)), "{error}");
}

#[tokio::test]
async fn a_reboot_is_settled_by_the_boot_id() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let file = world.path("boot_id");
        fs::write(&file, "b1\n").unwrap();
        for name in ["systemctl", "shutdown", "reboot"] {
            let stand_in = world.path(&format!("bin/{name}"));
            let _ = fs::remove_file(&stand_in);
            fs::write(&stand_in, format!("#!/bin/sh\necho told >>{}\n", world.path("told"))).unwrap();
            fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let again = || world.again_with(|backend| backend.with_boot_id(&file));
        let change = Act::Ssh(SshAct::Reboot { timeout_ms: 60_000 });
        let before = again().backend.prior(&node(), &change, &world.ctx).await.unwrap();
        assert_eq!(before, Prior::Process { done: None, boot_id: "b1".into() }, "{flavour:?}");
        let later = async |session_number, before: &Prior| {
            let next = again();
            let finding = settle(&next, &change, before, &session(&world, session_number, 1)).await;
            next.backend.close().await;
            finding
        };
        assert_eq!(later(2, &before).await, Finding::NotDone, "{flavour:?}");
        fs::write(&file, "b2\n").unwrap();
        assert_eq!(done(later(3, &before).await).stdout.0, b"b2\n");
        assert!(matches!(later(4, &Prior::None).await, Finding::Unclear(_)));
        // One that came about meanwhile is not asked for again.
        let next = again();
        let answer = next.backend.act(&node(), &change, &before, &session(&world, 5, 1)).await.unwrap();
        assert!(matches!(&answer, Answer::Outcome(Outcome::Done(output)) if output.stdout.0 == b"b2\n"), "{answer:?}");
        assert!(!Path::new(&world.path("told")).exists(), "{flavour:?}: it was told to reboot");
    }
}

#[tokio::test]
async fn output_is_kept_only_where_there_are_tools_for_it() {
    let tools = ["mkdir", "mv", "date", "rmdir"];
    for more in [&["tee"][..], &["mkfifo"], &[]] {
        let world = World::with_tools(&[&tools[..], more].concat());
        let change = precious("echo out; echo err >&2");
        let before = prior(&world, &change).await;
        let output = act(&world, &change, &session(&world, 1, 1)).await.unwrap();
        assert_eq!(
            (output.stdout.0.as_slice(), output.stderr.0.as_slice()),
            (&b"out\n"[..], &b"err\n"[..]),
            "{more:?}"
        );
        let output = done(settle(&world.again(), &change, &before, &session(&world, 2, 1)).await);
        assert_eq!(output.exit, Exit::Code(0));
        assert!(output.stderr.lossy().contains("lost with the connection"), "{more:?}: {output:?}");
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_noted_is_not_made() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        act(&world, &precious("true"), &session(&world, 1, 1)).await.unwrap();
        // The state folder is lost while the lease is held.
        fs::remove_dir_all(world.path("state/runbook-target/runs")).unwrap();
        for undo in [Undo::Harmless, Undo::ByHand("look".into())] {
            let change = run(vec![argv(&["touch", &world.path("made")])], None, undo);
            let error = act(&world, &change, &session(&world, 1, 2)).await.unwrap_err();
            assert!(error.to_string().contains("could not be noted"), "{flavour:?}: {error}");
        }
        assert!(!Path::new(&world.path("made")).exists());
    }
}

#[tokio::test]
async fn only_whole_lines_tell() {
    for flavour in FLAVOURS {
        // No process has such a number.
        let start = |record: u64| format!("\n{record}.1 start {} n 99999999 .\n", boot_id());
        for (marks, ended) in [
            (format!("{}\n7.1 end 1", start(7)), None),
            // What comes later is not taken for its end.
            (format!("{}\n7.1 end 1{}\n8.1 end 0 .\n", start(7), start(8)), None),
            (format!("\n7.1 sta{}\n8.1 end 0 .\n\n7.1 end 4 .\n", start(8)), None),
            (format!("{}\0\0\0\n\n70.1 end 0 .\n\n7.10 end 0 .\n\n7.1 end 13 .\n", start(7)), Some(13)),
            // Of two sessions, the newer one's start counts.
            (format!("{}\n7.1 end 5 .\n{}", start(7), start(7)), None),
        ] {
            let world = World::new(flavour);
            let change = precious("true");
            let before = prior(&world, &change).await;
            let notes = world.path("state/runbook-target/runs/r1");
            fs::create_dir_all(&notes).unwrap();
            fs::write(format!("{notes}/session"), "1 1\n").unwrap();
            fs::write(format!("{notes}/marks"), &marks).unwrap();
            let finding = settle(&world, &change, &before, &session(&world, 2, 7)).await;
            match (ended, finding) {
                (Some(status), finding) => assert_eq!(done(finding).exit, Exit::Code(status), "{flavour:?}: {marks:?}"),
                (None, Finding::Unclear(_)) => assert!(marks.starts_with(&start(7)), "{flavour:?}: {marks:?}"),
                (None, Finding::NotDone) => assert!(!marks.contains("7.1 start"), "{flavour:?}: {marks:?}"),
                (None, finding) => panic!("{flavour:?}: {marks:?}: {finding:?}"),
            }
        }
    }
}
