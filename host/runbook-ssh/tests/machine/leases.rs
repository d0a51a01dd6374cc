//! Leases: one run at a time.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use runbook_engine::backend::{Backend as _, CallContext, Runs, Standing};
use runbook_model::call::{Act, Answer, CallError, Exit, FileWant, FilesAct, Outcome, Prior, Response, SshAct, Undo};

use crate::world::{FLAVOURS, Flavour, World, argv, mark, node};

async fn change(world: &World, run: &str, session: u32) -> Response {
    let act = Act::Ssh(SshAct::Run { pipeline: vec![argv(&["true"])], done_when: None, undo: Undo::Harmless });
    let ctx = CallContext { mark: mark(run, session, 1), ..world.ctx.clone() };
    world.backend.act(&node(), &act, &Prior::None, &ctx).await
}

fn is_done(response: &Response) -> bool {
    matches!(response, Ok(Answer::Outcome(Outcome::Done(output))) if output.exit == Exit::Code(0))
}

fn lock(world: &World) -> String {
    world.path("state/runbook-target/lock")
}

fn nothing_is_left(world: &World) {
    assert!(!Path::new(&world.path("state/runbook-target")).exists(), "something was left behind");
}

#[tokio::test]
async fn a_machine_has_one_run_at_a_time() {
    for flavour in FLAVOURS {
        let first = World::new(flavour);
        let second = first.again();
        assert!(is_done(&change(&first, "r1", 1).await), "{flavour:?}");
        let error = change(&second, "r2", 1).await.unwrap_err();
        let CallError::Conflict(text) = &error else { panic!("{flavour:?}: {error}") };
        for words in [
            "the run r1 of ann@laptop, pid 4711",
            "15 more minutes",
            "runbook resume r1",
            "runbook undo r1",
            &lock(&first),
        ] {
            assert!(text.contains(words), "{text} should say {words}");
        }
        // Files, too.
        let act = FilesAct { path: first.path("x"), want: FileWant::Directory { attributes: Default::default() } };
        let ctx = CallContext { mark: mark("r2", 1, 2), ..second.ctx.clone() };
        let prior = Prior::File(second.prior(&act).await.unwrap());
        let error = second.backend.act(&node(), &Act::Files(act), &prior, &ctx).await.unwrap_err();
        assert!(matches!(error, CallError::Conflict(_)), "{error}");
        // Looks are free.
        assert_eq!(second.text(argv(&["echo", "seen"])).await, "seen\n");
        second.backend.close().await;
        assert!(Path::new(&lock(&first)).exists(), "another run's lease was ended");
        first.backend.close().await;
        nothing_is_left(&first);
        let second = first.again();
        assert!(is_done(&change(&second, "r2", 1).await));
        second.backend.close().await;
        assert!(!Path::new(&first.path("state")).exists(), "what was made for it was left behind");
    }
}

#[tokio::test]
async fn the_newer_session_is_in_charge() {
    for flavour in FLAVOURS {
        let first = World::new(flavour);
        let (second, late) = (first.again(), first.again());
        assert!(is_done(&change(&first, "r1", 1).await), "{flavour:?}");
        assert!(is_done(&change(&second, "r1", 2).await), "{flavour:?}");
        for older in [&first, &late] {
            let error = change(older, "r1", 1).await.unwrap_err();
            assert!(matches!(&error, CallError::Conflict(text) if text.contains("newer session")), "{error}");
        }
        first.backend.close().await;
        assert!(Path::new(&lock(&first)).exists(), "the newer session's lease was ended");
        // Also when its lock is gone.
        fs::remove_file(lock(&first)).unwrap();
        let error = change(&first.again(), "r1", 1).await.unwrap_err();
        assert!(matches!(&error, CallError::Conflict(text) if text.contains("newer session")), "{error}");
        second.backend.close().await;
    }
}

#[tokio::test]
async fn a_lease_that_nobody_renews_ends() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        fs::create_dir_all(Path::new(&lock(&world)).parent().unwrap()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        fs::write(lock(&world), format!("r0 1 {} bob@desk\n", now + 3600)).unwrap();
        let error = change(&world, "r1", 1).await.unwrap_err();
        assert!(error.to_string().contains("60 more minutes"), "{flavour:?}: {error}");
        fs::write(lock(&world), format!("r0 1 {} bob@desk\n", now - 1)).unwrap();
        // Many at once: only one of them can have it.
        let worlds: Vec<World> = (0..6).map(|_| world.again()).collect();
        let names: Vec<String> = (0..6).map(|n| format!("r{}", n + 1)).collect();
        let all = worlds.iter().zip(&names).map(|(world, name)| change(world, name, 1));
        let all = futures::future::join_all(all).await;
        assert_eq!(all.iter().filter(|response| is_done(response)).count(), 1, "{flavour:?}: {all:?}");
        assert!(
            all.iter().all(|response| is_done(response) || matches!(response, Err(CallError::Conflict(_)))),
            "{all:?}"
        );
        for world in &worlds {
            world.backend.close().await;
        }
        nothing_is_left(&world);
        // What cannot be read holds nothing; and what died while it took the lease holds nobody up.
        fs::create_dir_all(Path::new(&lock(&world)).parent().unwrap()).unwrap();
        fs::write(lock(&world), "\0garbage $(reboot)\n").unwrap();
        fs::write(format!("{}.new", lock(&world)), "").unwrap();
        assert!(is_done(&change(&world, "r1", 1).await), "{flavour:?}");
        world.backend.close().await;
        nothing_is_left(&world);
    }
}

#[tokio::test]
async fn a_lease_is_renewed_while_the_connection_lives() {
    let world = World::new(Flavour::Dash).again_with(|backend| backend.with_lease(Duration::from_secs(6)));
    assert!(is_done(&change(&world, "r1", 1).await));
    let first = fs::read_to_string(lock(&world)).unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(lock(&world)).is_ok_and(|now| now == first || now.is_empty()) {
        assert!(Instant::now() < limit, "it was not renewed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One that was taken away is asked for again.
    fs::write(lock(&world), "r2 1 99999999999 bob@desk\n").unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while is_done(&change(&world, "r1", 1).await) {
        assert!(Instant::now() < limit, "it was not missed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn names_of_runs_stay_names() {
    let world = World::new(Flavour::Dash);
    for run in ["../x", "", ".r", "a b", "$(reboot)"] {
        let error = change(&world, run, 1).await.unwrap_err();
        assert!(matches!(error, CallError::Invalid(_)), "{run}: {error}");
    }
    assert!(!Path::new(&world.path("state")).exists());
}

/// Knows the run `r0` up to its session 2, whatever it is asked.
struct Knows<F>(F);

impl<F: Fn() -> Standing + Send + Sync> Runs for Knows<F> {
    fn standing(&self, run: &str, session: u32) -> Standing {
        if run == "r0" && session <= 2 { (self.0)() } else { Standing::Foreign }
    }
}

/// A change of the run `r1`, whose controller knows `r0` to stand so.
async fn change_knowing(world: &World, standing: impl Fn() -> Standing + Send + Sync + 'static) -> Response {
    let act = Act::Ssh(SshAct::Run { pipeline: vec![argv(&["true"])], done_when: None, undo: Undo::Harmless });
    let ctx = CallContext { mark: mark("r1", 1, 1), runs: Arc::new(Knows(standing)), ..world.ctx.clone() };
    world.backend.act(&node(), &act, &Prior::None, &ctx).await
}

fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600
}

#[tokio::test]
async fn what_a_run_holds_that_is_over_is_taken_over() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let notes = world.path("state/runbook-target/runs/r0");
        let held = format!("r0 2 {} ann@laptop, pid 4711\n", in_an_hour());
        let leave = || {
            fs::create_dir_all(&notes).unwrap();
            fs::write(lock(&world), &held).unwrap();
            fs::write(format!("{notes}/session"), "2 1\n").unwrap();
            fs::write(format!("{notes}/marks"), "\n7.2 end 0 .\n").unwrap();
        };
        leave();
        for (standing, words) in [
            (Standing::Foreign, "60 more minutes"),
            (Standing::AtWork, "is at work on this controller"),
            (Standing::Unfinished, "`runbook resume r0` goes on with it"),
        ] {
            let error = change_knowing(&world, move || standing.clone()).await.unwrap_err();
            assert!(matches!(&error, CallError::Conflict(text) if text.contains(words)), "{flavour:?}: {error}");
            assert_eq!(fs::read_to_string(lock(&world)).unwrap(), held, "{flavour:?}");
        }
        assert!(is_done(&change_knowing(&world, || Standing::Over).await), "{flavour:?}");
        assert!(fs::read_to_string(lock(&world)).unwrap().starts_with("r1 1 "), "{flavour:?}");
        assert!(!Path::new(&notes).exists(), "{flavour:?}: nobody asks for its notes any more");
        assert_eq!(*world.told.taken_over.lock().unwrap(), [("node".to_owned(), "r0".to_owned(), 2)], "{flavour:?}");
        // It is ours now: said once.
        assert!(is_done(&change_knowing(&world, || Standing::Over).await));
        assert_eq!(world.told.taken_over.lock().unwrap().len(), 1, "{flavour:?}");
        world.backend.close().await;
        nothing_is_left(&world);
        // A later session of it than this controller knows of, and one that has no plain name.
        for strange in ["r0 3", "../r0 1", "r0; 1", "r0 x"] {
            let world = World::new(flavour);
            fs::create_dir_all(Path::new(&lock(&world)).parent().unwrap()).unwrap();
            let held = format!("{strange} {} bob@desk\n", in_an_hour());
            fs::write(lock(&world), &held).unwrap();
            let answer = change_knowing(&world, || Standing::Over).await;
            if strange == "r0 x" {
                // What cannot be read holds nothing.
                assert!(is_done(&answer), "{flavour:?}: {answer:?}");
                assert_eq!(*world.told.taken_over.lock().unwrap(), [], "{flavour:?}");
            } else {
                assert!(matches!(answer, Err(CallError::Conflict(_))), "{flavour:?}, {strange}: {answer:?}");
                assert_eq!(fs::read_to_string(lock(&world)).unwrap(), held, "{flavour:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_taken_over_is_what_was_read() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        fs::create_dir_all(Path::new(&lock(&world)).parent().unwrap()).unwrap();
        let held = format!("r0 1 {} ann@laptop, pid 4711\n", in_an_hour());
        fs::write(lock(&world), &held).unwrap();
        // Between the look and the deed, somebody else of that name comes, and another one.
        let path = lock(&world);
        let answer = change_knowing(&world, move || {
            let now = fs::read_to_string(&path).unwrap();
            let next = if now.starts_with("r0 1 ") { "r0 2" } else { "r5 1" };
            fs::write(&path, format!("{next} {} bob@desk\n", in_an_hour())).unwrap();
            Standing::Over
        });
        let error = answer.await.unwrap_err();
        assert!(matches!(&error, CallError::Conflict(text) if text.contains("the run r5 of bob@desk")), "{error}");
        assert!(fs::read_to_string(lock(&world)).unwrap().starts_with("r5 1 "), "{flavour:?}");
        assert_eq!(*world.told.taken_over.lock().unwrap(), [], "{flavour:?}");
    }
}
