//! The connection goes in the middle of a change, over real SSH; another controller settles what became of it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use runbook_engine::backend::{Backend as _, CallContext};
use runbook_model::call::{Act, Answer, CallError, Command, Exit, Finding, Outcome, Prior, SshAct, Undo};
use runbook_ssh::r#become::Become;

use crate::remote::world;
use crate::sshd::{Lab, Server};
use crate::world::{World, argv, mark, node, sh};

/// A server whose machine has a state folder of its own.
fn server(lab: &Lab, more: &str) -> Server {
    let dir = lab.path("");
    lab.server_with(&format!("SetEnv XDG_STATE_HOME={0}/state HOME={0}/home {more}", dir.display()))
}

fn session(world: &World, session: u32, record: u64) -> CallContext {
    CallContext { mark: mark("r1", session, record), ..world.ctx.clone() }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < limit, "not in a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Crash {
    lab: Lab,
    server: Server,
}

impl Crash {
    fn new() -> Self {
        let lab = Lab::new();
        let server = server(&lab, "");
        Self { lab, server }
    }

    fn world(&self, perl: bool) -> World {
        let (world, _) = world(&self.lab, self.lab.endpoint(&self.server), Become::None);
        if perl { world } else { world.again_with(runbook_ssh::backend::SshBackend::without_perl) }
    }

    fn path(&self, name: &str) -> String {
        self.lab.path(name).display().to_string()
    }

    /// Cuts the connection while the change runs. Gives what was there before it.
    async fn cut(&mut self, perl: bool, change: &Act) -> Prior {
        let world = self.world(perl);
        let before = world.backend.prior(&node(), change, &world.ctx).await.unwrap();
        let (target, ctx, started) = (node(), session(&world, 1, 7), self.path("started"));
        let server = &mut self.server;
        let cutting = async {
            until("it runs", || Path::new(&started).exists()).await;
            server.kill();
        };
        let (lost, ()) = tokio::join!(world.backend.act(&target, change, &before, &ctx), cutting);
        assert!(matches!(&lost, Err(CallError::Unreachable(text)) if text.contains("in doubt")), "{lost:?}");
        self.server.start();
        before
    }

    fn nothing_is_left(&self) {
        assert!(!self.lab.path("state/runbook-target").exists(), "something was left behind");
    }
}

fn run(pipeline: Vec<Command>, undo: Undo) -> Act {
    Act::Ssh(SshAct::Run { pipeline, done_when: None, undo })
}

#[tokio::test]
async fn a_precious_command_runs_once_and_its_output_comes_with_the_next_session() {
    for perl in [true, false] {
        let mut crash = Crash::new();
        let (go, runs) = (crash.path("go"), crash.path("runs"));
        let lines = "n=0; while [ $n -lt 5000 ]; do echo line $n; echo error $n >&2; n=$((n+1)); done";
        let script = format!(
            "printf first; touch {}; until [ -e {go} ]; do sleep 0.05; done; {lines}; echo x >>{runs}; printf last; exit 3",
            crash.path("started")
        );
        let change = run(vec![sh(&script)], Undo::ByHand("look".into()));
        let before = crash.cut(perl, &change).await;

        // It is at work: the next session waits for it.
        let next = crash.world(perl);
        let ctx = session(&next, 2, 7);
        let target = node();
        let settling = next.backend.settle(&target, &change, &before, &ctx);
        let going = async {
            let session = crash.path("state/runbook-target/runs/r1/session");
            until("the next session is in charge", || fs::read_to_string(&session).is_ok_and(|s| s == "2 1\n")).await;
            fs::write(&go, "").unwrap();
        };
        let (finding, ()) = tokio::join!(settling, going);
        let Ok(Finding::Done(Answer::Outcome(Outcome::Done(output)))) = finding else { panic!("{finding:?}") };
        let lines = |word: &str| (0..5000).map(|n| format!("{word} {n}\n")).collect::<String>();
        assert_eq!(output.exit, Exit::Code(3), "perl: {perl}");
        assert_eq!(output.stdout.lossy(), format!("first{}last", lines("line")));
        assert_eq!(output.stderr.lossy(), lines("error"));
        assert_eq!(fs::read_to_string(&runs).unwrap(), "x\n");
        next.backend.close().await;
        crash.nothing_is_left();
    }
}

#[tokio::test]
async fn one_that_ended_meanwhile_is_found_ended() {
    for (perl, undo) in [(true, Undo::Irreversible("gone".into())), (false, Undo::Harmless)] {
        let mut crash = Crash::new();
        let (go, started) = (crash.path("go"), crash.path("started"));
        let script = format!("touch {started}; until [ -e {go} ]; do sleep 0.05; done; exit 4");
        let pipeline = vec![sh("printf in"), sh(&format!("cat >&2; {script}"))];
        let change = run(pipeline, undo.clone());
        let before = crash.cut(perl, &change).await;
        fs::write(&go, "").unwrap();
        let marks = crash.path("state/runbook-target/runs/r1/marks");
        until("it ends", || fs::read_to_string(&marks).is_ok_and(|text| text.contains("\n7.1 end "))).await;
        let next = crash.world(perl);
        let finding = next.backend.settle(&node(), &change, &before, &session(&next, 2, 7)).await;
        if undo == Undo::Harmless {
            assert_eq!(finding, Ok(Finding::NotDone), "its answer is lost, and it may be done again");
        } else {
            let Ok(Finding::Done(Answer::Outcome(Outcome::Done(output)))) = finding else { panic!("{finding:?}") };
            assert_eq!(output.exit, Exit::Code(4), "perl: {perl}");
            assert_eq!((output.stdout.lossy(), output.stderr.lossy()), ("".into(), "in".into()));
        }
        next.backend.close().await;
        crash.nothing_is_left();
    }
}

#[tokio::test]
async fn marks_stay_while_a_change_has_no_known_end() {
    let mut crash = Crash::new();
    let (go, started) = (crash.path("go"), crash.path("started"));
    let script = format!("echo $$ >{started}; until [ -e {go} ]; do sleep 0.05; done");
    let change = run(vec![sh(&script)], Undo::ByHand("look".into()));
    let before = crash.cut(true, &change).await;
    let marks = crash.path("state/runbook-target/runs/r1/marks");
    let mut next = crash.world(true);
    // The time is over while it still runs; then somebody kills it.
    next.ctx.deadline = Instant::now() + Duration::from_secs(5);
    let error = next.backend.settle(&node(), &change, &before, &session(&next, 2, 7)).await.unwrap_err();
    assert!(matches!(&error, CallError::TimedOut(text) if text.contains("process group")), "{error}");
    next.backend.close().await;
    assert!(Path::new(&marks).exists(), "what is not settled was forgotten");
    let pid = fs::read_to_string(&started).unwrap();
    let shell = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
    let shell = shell.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned();
    for pid in [shell.as_str(), pid.trim()] {
        assert!(std::process::Command::new("kill").args(["-9", pid]).status().unwrap().success());
    }
    let next = crash.world(true);
    let finding = next.backend.settle(&node(), &change, &before, &session(&next, 3, 7)).await.unwrap();
    assert!(matches!(&finding, Finding::Unclear(text) if text.contains("was it killed")), "{finding:?}");
    next.backend.close().await;
    assert!(Path::new(&marks).exists(), "what is unclear was forgotten");
    let next = crash.world(true);
    let harmless = run(vec![argv(&["true"])], Undo::Harmless);
    assert_eq!(next.backend.settle(&node(), &harmless, &before, &session(&next, 4, 7)).await, Ok(Finding::NotDone));
    next.backend.close().await;
    crash.nothing_is_left();
    // Where notes were cleared by a session that came to its end, their absence tells nothing.
    let next = crash.world(true);
    let finding = next.backend.settle(&node(), &change, &before, &session(&next, 5, 7)).await.unwrap();
    assert!(matches!(&finding, Finding::Unclear(text) if text.contains("cleared")), "{finding:?}");
}
