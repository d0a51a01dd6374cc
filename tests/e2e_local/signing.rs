//! Signing with keys that are not lying about: in an agent, behind a passphrase.

use std::process::Command;

use runbook_tests::{Outcome, TestEnv, component};

use crate::support::behind;

const PACK: &str = "eve-hostile-1.0.0.pack";

/// A pack, and a key with this passphrase.
fn world(passphrase: &str) -> TestEnv {
    let env = TestEnv::new();
    std::fs::copy(component("hostile"), env.work().join("hostile.wasm")).expect("it was built");
    env.write(
        "pack.toml",
        "schema = 1\nname = \"eve/hostile\"\nversion = \"1.0.0\"\nsummary = \"Reaches\"\nplugins = [\"hostile.wasm\"]\n",
    );
    drop(env.run(&["pack", "build"]).ok());
    drop(env.other(&["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", "key"]).ok());
    let public = std::fs::read_to_string(env.work().join("key.pub")).expect("a key has two halves");
    env.write("allowed", format!("eve {public}"));
    env
}

/// A script in which `runbook` is the program, without a terminal.
fn script(env: &TestEnv, text: &str) -> Outcome {
    let inner: Command = env.command(&[]);
    let text = format!("runbook() {{ {} \"$@\"; }}\n{text}", inner.get_program().to_string_lossy());
    Outcome::of(&mut behind(&["setsid", "-w", "sh", "-c", &text], &inner))
}

#[test]
fn by_an_agent() {
    let env = world("");
    let text = format!(
        "eval \"$(ssh-agent -s)\" > /dev/null\nssh-add -q key && rm key && runbook pack sign {PACK} --key key.pub\n\
         code=$?\nkill $SSH_AGENT_PID\nexit $code"
    );
    drop(script(&env, &text).ok().stdout_has("is signed by SHA256:"));
    drop(env.run(&["pack", "verify", PACK, "--allowed-signers", "allowed"]).ok().stdout_has("signed by eve"));
}

#[test]
fn with_a_passphrase_and_without_one_to_ask() {
    let env = world("geheim");
    drop(script(&env, &format!("runbook pack sign {PACK} --key key")).code(2).stderr_has("did not sign with key"));
    drop(env.run(&["pack", "verify", PACK, "--allowed-signers", "allowed"]).code(4).stderr_has("it is not signed"));

    env.write("askpass", "#!/bin/sh\necho geheim\n");
    let text = format!(
        "chmod 755 askpass\nSSH_ASKPASS=$PWD/askpass SSH_ASKPASS_REQUIRE=force\nexport SSH_ASKPASS SSH_ASKPASS_REQUIRE\n\
         runbook pack sign {PACK} --key key"
    );
    drop(script(&env, &text).ok().stdout_has("is signed by SHA256:"));
    drop(env.run(&["pack", "verify", PACK, "--allowed-signers", "allowed"]).ok().stdout_has("signed by eve"));
}
