//! Commands that behave.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use runbook_engine::backend::Backend as _;
use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Act, Answer, CallError, Command, Exit, Input, Look, Prior, SshAct, SshLook, Target, Text, TextPart, Undo,
};

use crate::world::{FLAVOURS, Flavour, World, argv, node, running, sh};

fn secret(before: &str, after: &str) -> Text {
    Text(vec![TextPart::Plain(before.into()), TextPart::Secret("token".into()), TextPart::Plain(after.into())])
}

#[tokio::test]
async fn exit_and_output_come_back_as_they_are() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let commands = vec![
            sh("printf 'no newline'; printf 'err\\n' >&2; exit 3"),
            argv(&["true"]),
            sh("kill -KILL $$"),
            argv(&["there-is-no-such-program"]),
            argv(&["pwd"]),
            sh("echo $LC_ALL; echo \"$PATH\" | tr : '\\n' | grep -c '^/usr/sbin$'"),
        ];
        let outputs = world.observe_all(commands).await.unwrap();
        assert_eq!(outputs[0].exit, Exit::Code(3), "{flavour:?}");
        assert_eq!(outputs[0].stdout.0, b"no newline");
        assert_eq!(outputs[0].stderr.0, b"err\n");
        assert_eq!(outputs[1].exit, Exit::Code(0));
        assert!(outputs[1].stdout.0.is_empty() && outputs[1].stderr.0.is_empty());
        assert_eq!(outputs[2].exit, Exit::Signal("KILL".into()));
        assert!(outputs[2].stderr.0.is_empty(), "the shell's own words: {:?}", outputs[2].stderr.lossy());
        assert_eq!(outputs[3].exit, Exit::Code(127), "{:?}", outputs[3]);
        assert_eq!(outputs[4].stdout.lossy().trim(), std::env::var("HOME").unwrap());
        assert_eq!(outputs[5].stdout.lossy(), "C\n1\n");
    }
}

#[tokio::test]
async fn environment_directory_files_and_stdin_reach_the_command() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let command = Command {
            cwd: Some("/usr/share".into()),
            env: vec![
                ("A".into(), Text::plain("it's \"x\"\n$HOME {cfg}")),
                ("PATH".into(), Text::plain("/usr/bin:/bin")),
                ("S".into(), secret("<", ">")),
            ],
            stdin: Input::Text(secret("in:", "\nno end")),
            files: vec![("cfg".into(), secret("file ", "")), ("b.txt".into(), Text::plain("b"))],
            ..argv(&[
                "sh",
                "-c",
                "pwd; printf '%s|%s\\n' \"$A\" \"$S\"; cat; echo; cat \"$1\"; stat -c ' %a' \"$1\"; cat \"${2#x=}\"; echo; echo $2",
                "sh",
                "{cfg}",
                "x={b.txt}",
            ])
        };
        let text = world.text(command).await;
        let path = text.trim_end().rsplit("x=").next().unwrap().to_owned();
        let folder = path.strip_suffix("/b.txt").unwrap();
        let expected = format!(
            "/usr/share\nit's \"x\"\n$HOME {folder}/cfg|<s3cr3t-VALUE-77>\nin:s3cr3t-VALUE-77\nno end\nfile s3cr3t-VALUE-77 \
             600\nb\nx={path}\n"
        );
        assert_eq!(text, expected, "{flavour:?}");
        assert!(!std::path::Path::new(folder).exists(), "temporary files are left: {folder}");
    }
}

#[tokio::test]
async fn large_and_binary_stdin_is_streamed() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let big: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 256).to_le_bytes()[0]).collect();
        let command = Command { stdin: Input::Bytes(Bytes(big.clone())), ..argv(&["cat"]) };
        assert!(world.observe(command).await.unwrap().stdout.0 == big, "{flavour:?}");
        // What a command leaves unread is not taken for the text of the next one.
        let evil = format!("touch {}\n", world.path("evil")).repeat(20_000);
        let command = Command { stdin: Input::Text(Text::plain(evil)), ..argv(&["head", "-c", "10"]) };
        assert_eq!(world.change(vec![command]).await.unwrap().stdout.0.len(), 10);
        assert_eq!(world.text(argv(&["echo", "still well"])).await, "still well\n");
        assert!(!std::path::Path::new(&world.path("evil")).exists());
    }
}

#[tokio::test]
async fn pipelines_fail_when_any_part_fails() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let first = Command { stdin: Input::Text(Text::plain("b\na\n")), ..argv(&["cat"]) };
        let output = world.change(vec![first, argv(&["sort"]), argv(&["tr", "a-z", "A-Z"])]).await.unwrap();
        assert_eq!((output.exit, output.stdout.0), (Exit::Code(0), b"A\nB\n".to_vec()), "{flavour:?}");
        let output =
            world.change(vec![sh("echo x; exit 4"), sh("echo oops >&2; cat; exit 5"), argv(&["cat"])]).await.unwrap();
        assert_eq!(output.exit, Exit::Code(5));
        assert_eq!((output.stdout.0, output.stderr.0), (b"x\n".to_vec(), b"oops\n".to_vec()));
    }
}

#[tokio::test]
async fn bad_commands_are_refused_before_anything_runs() {
    let world = World::new(Flavour::Dash);
    let token = runbook_model::redact::token("token");
    let cases: Vec<(Command, &str)> = vec![
        (Command::default(), "invalid: `"),
        (argv(&["a\0b"]), "NUL byte in argv"),
        (argv(&["-x"]), "hyphen"),
        (argv(&["echo", &token]), "denied: "),
        (Command { env: vec![("A=B".into(), Text::default())], ..argv(&["true"]) }, "no name for an environment"),
        (Command { files: vec![("../x".into(), Text::default())], ..argv(&["true"]) }, "no name for a temporary"),
        (
            Command { env: vec![("A".into(), Text(vec![TextPart::Secret("nope".into())]))], ..argv(&["true"]) },
            "`nope` has no",
        ),
        (Command { cwd: Some("/nowhere".into()), ..argv(&["true"]) }, "working directory"),
        (Command { env: vec![("A".into(), Text::plain("a\0"))], ..argv(&["true"]) }, "NUL byte in env"),
    ];
    for (command, words) in cases {
        let error = world.observe(command).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error} should say {words}");
    }
    assert_eq!(world.text(argv(&["echo", "fine"])).await, "fine\n");
}

#[tokio::test]
async fn a_plan_changes_nothing() {
    let mut world = World::new(Flavour::Dash);
    world.ctx.read_only = true;
    let error = world.change(vec![argv(&["touch", &world.path("x")])]).await.unwrap_err();
    assert_eq!(error, CallError::Denied("a plan changes nothing".into()));
    assert!(!std::path::Path::new(&world.path("x")).exists());
}

#[tokio::test]
async fn done_when_is_looked_at() {
    let world = World::new(Flavour::Dash);
    let act = |command| {
        Act::Ssh(SshAct::Run {
            pipeline: vec![argv(&["true"])],
            done_when: Some(Box::new(command)),
            undo: Undo::Harmless,
        })
    };
    let prior = async |command| world.backend.prior(&node(), &act(command), &world.ctx).await.unwrap();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    let done = |done| Prior::Process { done: Some(done), boot_id: boot_id.clone() };
    assert_eq!(prior(argv(&["true"])).await, done(true));
    assert_eq!(prior(argv(&["false"])).await, done(false));
}

#[tokio::test]
async fn the_controller_is_a_machine_without_become() {
    let world = World::new(Flavour::Dash);
    let look = Look::Ssh(SshLook::Observe { commands: vec![Command { privileged: true, ..argv(&["echo", "here"]) }] });
    match world.backend.look(&Target::Controller, &look, &world.ctx).await.unwrap() {
        Answer::Outputs(outputs) => assert_eq!(outputs[0].stdout.0, b"here\n"),
        other => panic!("{other:?}"),
    }
    let error = world.backend.look(&Target::Cluster("home".into()), &look, &world.ctx).await.unwrap_err();
    assert!(matches!(error, CallError::Invalid(_)));
}

#[tokio::test]
async fn facts_are_asked_once() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let facts = || async {
            match world.backend.look(&node(), &Look::Ssh(SshLook::Facts), &world.ctx).await.unwrap() {
                Answer::Facts(facts) => facts,
                other => panic!("{other:?}"),
            }
        };
        let first = facts().await;
        assert_eq!(first.os_id, "debian");
        assert_eq!(first.boot_id, std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
        assert_eq!(facts().await, first);
    }
}

#[tokio::test]
async fn followed_lines_come_while_it_runs() {
    let world = World::new(Flavour::Dash);
    let command = Command { follow: true, ..sh("echo first; sleep 1; echo second >&2; printf third") };
    world.change(vec![command]).await.unwrap();
    let lines = world.told.lines.lock().unwrap();
    let mut words: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
    words.sort_unstable();
    assert_eq!(words, ["first", "second", "third"]);
    assert!(lines.last().unwrap().0 - lines[0].0 > Duration::from_millis(500), "lines came late");
}

#[tokio::test]
async fn twenty_calls_at_once() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let calls = (0..20).map(|n| {
            let world = &world;
            async move {
                let command = sh(&format!("echo {n}; head -c 100000 /dev/zero; echo {n} >&2"));
                let output =
                    if n % 2 == 0 { world.observe(command).await } else { world.change(vec![command]).await }.unwrap();
                assert_eq!(output.stderr.lossy(), format!("{n}\n"));
                assert!(output.stdout.0.starts_with(format!("{n}\n\0").as_bytes()));
                assert_eq!(output.stdout.0.len(), 100_001 + n.to_string().len());
            }
        });
        futures::future::join_all(calls).await;
    }
}

#[tokio::test]
async fn a_command_costs_one_fork() {
    for flavour in FLAVOURS {
        // In a PID namespace of its own, numbers are given one after the other.
        let world = World::contained(flavour);
        let commands: Vec<Command> = (0..8).map(|_| sh("echo $$")).collect();
        let outputs = world.observe_all(commands).await.unwrap();
        let mut pids: Vec<u32> = outputs.iter().map(|output| output.stdout.lossy().trim().parse().unwrap()).collect();
        pids.push(world.text(sh("echo $$")).await.trim().parse().unwrap());
        assert!(pids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{flavour:?}: {pids:?}");
    }
}

#[tokio::test]
async fn no_secret_is_in_any_argument() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let command = Command {
            env: vec![("S".into(), secret("", ""))],
            stdin: Input::Text(secret("", "")),
            files: vec![("f".into(), secret("", ""))],
            ..sh("sleep 2; echo \"$S\"; cat")
        };
        let call = world.observe(command);
        let scan = async {
            let until = Instant::now() + Duration::from_millis(1500);
            while Instant::now() < until {
                assert_eq!(running("s3cr3t-VALUE-77"), Vec::<String>::new());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (output, ()) = tokio::join!(call, scan);
        assert_eq!(output.unwrap().stdout.lossy(), "s3cr3t-VALUE-77\ns3cr3t-VALUE-77");
    }
}

#[test]
fn any_argument_arrives_as_it_is() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for flavour in FLAVOURS {
        let world = runtime.block_on(async { World::new(flavour) });
        let words = prop::collection::vec(prop_oneof!["[^\\x00]{0,40}", "['\"$`\\\\!*?~\\n\\t -]{0,20}"], 1..6);
        let mut runner =
            proptest::test_runner::TestRunner::new(ProptestConfig { cases: 60, ..ProptestConfig::default() });
        runner
            .run(&words, |words| {
                let mut command = argv(&["printf", "%s\\0"]);
                command.argv.extend(words.iter().cloned());
                command.env = vec![("LAST".into(), Text::plain(words.last().unwrap()))];
                let env = Command { env: command.env.clone(), ..sh("printf '%s' \"$LAST\"") };
                let input = Command { stdin: Input::Text(Text::plain(words.concat())), ..argv(&["cat"]) };
                let outputs = runtime.block_on(world.observe_all(vec![command, env, input])).unwrap();
                let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
                prop_assert_eq!(&outputs[0].stdout.0, &expected);
                prop_assert_eq!(outputs[1].stdout.0.as_slice(), words.last().unwrap().as_bytes());
                prop_assert_eq!(outputs[2].stdout.lossy().into_owned(), words.concat());
                Ok(())
            })
            .unwrap();
    }
}
