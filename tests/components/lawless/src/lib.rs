//! Breaks each of the laws of plugins, one action for each: what `runbook plugin verify` must find.

use runbook_sdk::prelude::*;

#[derive(Deserialize)]
struct Input {
    #[serde(rename = "token")]
    _token: Option<Text>,
}

fn machine() -> Result<Machine> {
    Machine::target("host")
}

#[derive(Deserialize)]
struct Honest {
    path: String,
    token: Option<Text>,
}

fn honest(input: Honest) -> Result<()> {
    let token = input.token.unwrap_or_else(|| "data".into());
    machine()?.files().file(input.path).text(token).mode(0o600).ensure()?;
    Ok(())
}

/// Law 1.
fn peeks(_: Input) -> Result<()> {
    let _ = machine()?.cmd(["count-me"]).observe()?.ok()?;
    Ok(())
}

/// Law 2: what is read after the command is another in apply.
fn understates(_: Input) -> Result<()> {
    let machine = machine()?;
    let change = machine.cmd(["rewrite"]).change("rewrite").alters(["service:other"]);
    change
        .done_when(machine.cmd(["test", "-e", "/srv/rewritten"]).reads(["path:/srv/rewritten"]))
        .undo(machine.cmd(["unwrite"]))
        .run()?;
    let text = machine.files().read_text("/srv/conf")?;
    machine.files().file("/srv/copy").text(text).ensure()?;
    Ok(())
}

/// Law 3: within a run it is content, the next run counts on.
fn grows(_: Input) -> Result<()> {
    let files = machine()?.files();
    let count = files.read_text_if_found("/srv/count")?.and_then(|text| text.trim().parse::<u32>().ok());
    let count = run::baseline("count", &(count.unwrap_or(0) + 1))?;
    files.file("/srv/count").text(format!("{count}\n")).ensure()?;
    Ok(())
}

/// Law 4: killed at work, it is run once more.
fn repeats(_: Input) -> Result<()> {
    let machine = machine()?;
    if !machine.files().exists("/srv/log")? {
        machine.cmd(["append"]).change("append a line").harmless().run()?;
    }
    Ok(())
}

/// Law 5.
fn forgets(_: Input) -> Result<()> {
    let machine = machine()?;
    if !machine.files().exists("/srv/log")? {
        machine.cmd(["append"]).change("append a line").undo(machine.cmd(["true"])).run()?;
    }
    Ok(())
}

/// Law 6.
fn blind(_: Input) -> Result<()> {
    let files = machine()?.files();
    if !files.exists("/srv/mark")? {
        files.file("/srv/data").text("data\n").ensure()?;
        files.file("/srv/mark").text("done\n").ensure()?;
    }
    Ok(())
}

/// Law 7: the refusal is swallowed, so that nobody notices.
fn reaches(_: Input) -> Result<()> {
    let _ = machine()?.files().read_text("/etc/shadow");
    Ok(())
}

/// Law 7: where something is gone that it had made.
fn strays(_: Input) -> Result<()> {
    let files = machine()?.files();
    if files.exists("/srv/mark")? && !files.exists("/srv/data")? {
        let _ = files.read_text("/etc/shadow");
    }
    files.file("/srv/data").text("data\n").ensure()?;
    files.file("/srv/mark").text("done\n").ensure()?;
    Ok(())
}

fn panics(_: Input) -> Result<()> {
    let said = machine()?.cmd(["say", "42"]).observe()?.text();
    let number: u32 = said.parse().expect("a number");
    ensure!(number == 42, "it is another");
    Ok(())
}

fn spins(_: Input) -> Result<()> {
    let machine = machine()?;
    while !machine.cmd(["say", "42"]).observe().is_ok_and(|output| output.text() == "42") {}
    Ok(())
}

/// What the host says letter by letter looks like no secret.
fn tells(_: Input) -> Result<()> {
    info!("{}", machine()?.cmd(["spell"]).observe()?.text());
    Ok(())
}

plugin! {
    manifest: "plugin.toml",
    actions: {
        "honest" => honest;
        "peeks" => peeks;
        "understates" => understates;
        "grows" => grows;
        "repeats" => repeats;
        "forgets" => forgets;
        "blind" => blind;
        "reaches" => reaches;
        "strays" => strays;
        "panics" => panics;
        "spins" => spins;
        "tells" => tells;
    }
}
