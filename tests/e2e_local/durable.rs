//! Durable runs as a person meets them: what is kept of secrets, what a person says, edits of the runbook, blocks, receipts, locks.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use runbook_model::event::{BlockEnd, Event};
use runbook_tests::{TestEnv, wait_until};
use rustix::process::Signal;

use crate::support::{folder, journal, local, runs};

fn file(id: &str, path: &Path, content: &str) -> String {
    format!(
        "[[step]]\nid = \"{id}\"\nuses = \"core/file\"\non = \"here\"\nwith = {{ path = \"{}\", content = \"{content}\" }}\n\n",
        path.display()
    )
}

const SECRET: &str = "corr3ct-horse \"battery\" $staple/+é";

/// The forms in which a secret could lie somewhere.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let json = serde_json::to_string(secret).expect("JSON");
    let url: String = secret
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    let encoded = STANDARD.encode(secret);
    let (first, second) = encoded.split_at(16);
    vec![
        secret.as_bytes().to_vec(),
        json.trim_matches('"').as_bytes().to_vec(),
        STANDARD_NO_PAD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        hex::encode(secret).into_bytes(),
        hex::encode_upper(secret).into_bytes(),
        url.into_bytes(),
        format!("{first}\n{second}").into_bytes(),
    ]
}

fn leaks(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory of our own can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(leaks(&path));
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file of our own can be read");
        for form in forms(SECRET) {
            if bytes.windows(form.len()).any(|window| window == form) {
                found.push(format!("{}: {}", path.display(), String::from_utf8_lossy(&form)));
            }
        }
    }
    found
}

#[test]
fn no_secret_lies_in_what_is_kept_of_a_run_that_was_killed_resumed_and_undone() {
    let env = TestEnv::new().var("THE_TOKEN", SECRET);
    let scratch = folder(&env, "scratch");
    // Larger than what stands in the journal itself, so that there is a blob, too.
    std::fs::write(scratch.join("old"), format!("{SECRET}\n").repeat(3000)).expect("our own folder");
    let steps = format!(
        "[inputs.token]\ntype = \"secret\"\nfrom = {{ env = \"THE_TOKEN\" }}\n\n{}{}[[step]]\nid = \"says\"\nuses = \"core/script\"\non = \
         \"here\"\nwith = {{ env = {{ T = \"{{{{ inputs.token }}}}\" }}, script = \"echo $T; echo $T | base64; echo $T | base64 -w16; printf %s \\\"$T\\\" | \
         od -An -tx1\" }}\n\n{}",
        file("old", &scratch.join("old"), "new"),
        file("new", &scratch.join("new"), "token = {{ inputs.token }}"),
        file("last", &scratch.join("last"), "x"),
    );
    env.write("x.toml", local(&steps));
    let killed = env.run(&["exec", "x.toml", "--drill-kill", "last"]);
    assert_eq!(killed.signal, Some(9), "{killed}");
    env.run(&["resume"]).ok();
    env.run(&["undo", "--step", "new"]).ok();
    env.run(&["undo", "--step", "old"]).ok();
    assert_eq!(std::fs::read_to_string(scratch.join("old")).expect("it is back"), format!("{SECRET}\n").repeat(3000));
    assert!(!scratch.join("new").exists());
    let state = env.xdg().join("state");
    let blobs = walk(&state).iter().filter(|path| path.parent().is_some_and(|p| p.ends_with("blobs"))).count();
    assert!(blobs > 0, "the old content was kept in a blob");
    let leaks = leaks(&state);
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory of our own can be read").flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] }).collect()
}

#[test]
fn a_corrected_runbook_goes_on_and_finished_steps_keep_their_outputs() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let count = format!(
        "[[step]]\nid = \"count\"\nuses = \"core/script\"\non = \"here\"\nwith = {{ script = \"echo x >> {0}/count; wc -l < {0}/count\" }}\n\n",
        scratch.display()
    );
    let fails = "[[step]]\nid = \"fails\"\nuses = \"core/command\"\non = \"here\"\nwith = { argv = [\"false\"] }\n\n";
    let after = file("after", &scratch.join("after"), "{{ steps.count.outputs.stdout | trim }}");
    env.write("x.toml", local(&[&count, fails, &after].map(String::from).concat()));
    env.run(&["exec", "x.toml"]).code(1);
    env.write("x.toml", local(&[&count, &fails.replace("false", "true"), &after].map(String::from).concat()));
    env.run(&["resume"])
        .ok()
        .stderr_has("The runbook is not what it was")
        .stderr_has("~ step fails: with.argv")
        .stderr_has("count on here  changed before")
        .last_line("succeeded: 3 steps, 3 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(std::fs::read_to_string(scratch.join("count")).expect("it was made"), "x\n");
    assert_eq!(std::fs::read_to_string(scratch.join("after")).expect("it was made"), "1");
    env.run(&["resume"]).code(2).stderr_has("came to its end");
}

#[test]
fn what_a_person_did_by_hand_is_recorded_where_the_step_agrees() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let steps = [
        "[[step]]\nid = \"first\"\nuses = \"core/command\"\non = \"here\"\nwith = { argv = [\"false\"] }\n\n"
            .to_owned(),
        file("second", &scratch.join("second"), "x"),
    ];
    env.write(
        "x.toml",
        local(&steps.concat().replacen(
            "[\"false\"]",
            &format!("[\"false\"], creates = \"{}/first\"", scratch.display()),
            1,
        )),
    );
    env.run(&["exec", "x.toml"]).code(1);
    env.run(&["done", "first", "--because", "I made it"]).code(1).stderr_has("not yet");
    std::fs::write(scratch.join("first"), "").expect("our own folder");
    env.run(&["done", "first", "--because", "I made it"]).ok();
    env.run(&["resume"]).ok().last_line("succeeded: 2 steps, 1 changed, 1 unchanged, 0 skipped, 0 failed");
    env.run(&["show"]).ok().stdout_has("done by hand: I made it");
}

#[test]
fn a_block_that_fails_is_undone_released_or_held() {
    for (on_failure, how) in [("undo", Some(BlockEnd::Undone)), ("release", Some(BlockEnd::Released)), ("hold", None)] {
        let env = TestEnv::new();
        let scratch = folder(&env, "scratch");
        let inner = file("inner", &scratch.join("inner"), "x").replacen("[[step]]", "[[step.do]]", 1);
        let fails =
            "[[step.do]]\nid = \"fails\"\nuses = \"core/assert\"\nwith = { that = false, message = \"not so\" }\n";
        let block = format!("[[step]]\nid = \"both\"\non_failure = \"{on_failure}\"\n\n{inner}{fails}");
        env.write("x.toml", local(&block));
        env.run(&["exec", "x.toml"]).code(if how.is_none() { 5 } else { 1 });
        assert_eq!(scratch.join("inner").exists(), on_failure != "undo", "{on_failure}");
        let ends: Vec<BlockEnd> = journal(&env)
            .iter()
            .filter_map(|record| match record.event {
                Event::Exited { how, .. } => Some(how),
                _ => None,
            })
            .collect();
        assert_eq!(ends, Vec::from_iter(how), "{on_failure}");
        if how.is_none() {
            env.run(&["exec", "x.toml"]).code(4).stderr_has("did not come to its end");
            let run = env.run(&["next"]).ok().stdout_has("the block both was entered").stdout;
            let run = run.split(' ').next().expect("its name is the first word").to_owned();
            env.run(&["resolve", &run, "both", "--release"]).ok();
            env.run(&["next", &run]).ok().stdout_has("runbook undo");
        }
    }
}

#[test]
fn a_step_that_needs_a_receipt_changes_nothing_without_one() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let needs = file("restore", &scratch.join("restored"), "x")
        + "needs_receipt = { kind = \"backup\", subject = \"db\", max_age = \"1h\" }\n";
    env.write("needs.toml", local(&needs));
    env.run(&["exec", "needs.toml"]).code(1).stderr_has("needs a receipt of kind `backup` for db, and there is none");
    std::fs::write(scratch.join("db.tar"), "the backup").expect("our own folder");
    let issues = format!(
        "[[step]]\nid = \"backup\"\nuses = \"core/receipt\"\non = \"here\"\nwith = {{ kind = \"backup\", subject = \"db\", path = \"{}/db.tar\" }}\n",
        scratch.display()
    );
    env.write("issues.toml", local(&issues));
    env.run(&["exec", "issues.toml"]).ok();
    env.run(&["exec", "needs.toml"]).ok();
    assert!(scratch.join("restored").exists());
    // The backup is not any more what it was: its digest is looked at again.
    std::fs::remove_file(scratch.join("restored")).expect("our own file");
    std::fs::write(scratch.join("db.tar"), "another one").expect("our own folder");
    env.run(&["exec", "needs.toml"]).code(1).stderr_has("is not any more what the receipt says");
    assert!(!scratch.join("restored").exists());
}

#[test]
fn an_unfinished_run_keeps_others_away_until_it_is_abandoned() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    env.write("x.toml", local(&file("a", &scratch.join("a"), "x")));
    assert_eq!(env.run(&["exec", "x.toml", "--drill-kill", "a"]).signal, Some(9));
    env.run(&["exec", "x.toml"]).code(4).stderr_has("runbook resume").stderr_has("--abandon");
    env.run(&["plan", "x.toml"]).ok();
    env.run(&["exec", "x.toml", "--abandon"]).ok();
    assert!(scratch.join("a").exists());
    let listed = env.run(&["runs"]).ok().stdout;
    let old = listed.lines().last().and_then(|line| line.split(' ').next()).expect("two runs").to_owned();
    env.run(&["resume", &old]).code(2).stderr_has("was abandoned");
}

#[test]
fn one_process_at_a_time_goes_on_with_a_run() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let script = format!("echo x >> {0}/begun; while [ ! -e {0}/go ]; do sleep 0.1; done", scratch.display());
    let steps =
        format!("[[step]]\nid = \"slow\"\nuses = \"core/script\"\non = \"here\"\nwith = {{ script = \"{script}\" }}\n");
    env.write("x.toml", local(&steps));
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it is at work", Duration::from_secs(60), || scratch.join("begun").exists());
    let run = runs(&env)[0].file_name().expect("a run has a name").to_string_lossy().into_owned();
    for args in [&["resume"][..], &["undo"], &["resolve", &run, "slow", "--done", "--because", "I say so"]] {
        env.run(args).code(4).stderr_has("at work on the run");
    }
    std::fs::write(scratch.join("go"), "").expect("our own folder");
    running.wait().ok();
    assert_eq!(std::fs::read_to_string(scratch.join("begun")).expect("it was begun"), "x\n");
    assert_eq!(journal(&env).iter().filter(|record| matches!(record.event, Event::Reopened { .. })).count(), 0);
}

#[test]
fn a_run_that_died_in_its_goodbye_holds_nobody_up() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let script = format!("echo x >> {}/ran", scratch.display());
    let steps =
        format!("[[step]]\nid = \"s\"\nuses = \"core/script\"\non = \"here\"\nwith = {{ script = \"{script}\" }}\n");
    env.write("x.toml", local(&steps));
    assert_eq!(env.run(&["exec", "x.toml", "--drill-kill", "@last"]).signal, Some(9));
    env.run(&["resume"]).code(2).stderr_has("came to its end");
    env.run(&["exec", "x.toml"]).ok().stderr_has("the lease of here was taken over from");
    assert_eq!(std::fs::read_to_string(scratch.join("ran")).expect("it ran"), "x\nx\n");
    env.run(&["exec", "x.toml"]).ok().nowhere("taken over");
}

#[test]
fn whoever_cannot_wait_for_the_end_leaves_a_run_that_can_be_resumed() {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    // It does not heed signals, so its end is waited for.
    let script = format!(
        "trap '' TERM; echo x >> {0}/begun; while [ ! -e {0}/go ]; do sleep 0.1; done; echo said",
        scratch.display()
    );
    let steps =
        format!("[[step]]\nid = \"slow\"\nuses = \"core/script\"\non = \"here\"\nwith = {{ script = \"{script}\" }}\n");
    env.write("x.toml", local(&steps));
    let running = env.start(&["exec", "x.toml"]);
    wait_until("it is at work", Duration::from_secs(60), || scratch.join("begun").exists());
    running.signal(Signal::INT);
    // Signals that come at once are one; ending the script takes seconds.
    std::thread::sleep(Duration::from_millis(500));
    running.signal(Signal::INT);
    let out = running.wait();
    assert_ne!(out.code, Some(0), "{out}");
    env.run(&["next"]).ok().stdout_has("did not come to its end").stdout_has("in doubt: slow on here");
    // It was killed in its middle: how far it got, only a person can tell, and until then it is not begun once more.
    env.run(&["resume"]).code(5).stderr_has("was started, and is gone without having noted how it ended");
    assert_eq!(std::fs::read_to_string(scratch.join("begun")).expect("it was begun"), "x\n");
    let run = runs(&env)[0].file_name().expect("a run has a name").to_string_lossy().into_owned();
    env.run(&["resolve", &run, "slow", "--not-done", "--because", "it did nothing"]).ok();
    std::fs::write(scratch.join("go"), "").expect("our own folder");
    env.run(&["resume"]).ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    assert_eq!(std::fs::read_to_string(scratch.join("begun")).expect("it was begun"), "x\nx\n");
}
