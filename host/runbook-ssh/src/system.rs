//! What a machine says of itself, and its reboot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook_engine::backend::CallContext;
use runbook_model::bytes::Bytes;
use runbook_model::call::{CallError, Exit, Facts, Output};

use crate::command::Item;
use crate::machine::{Machine, Who};
use crate::shells::Lane;

/// Where Linux shows an id that changes with each boot.
pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Between two attempts to reach a machine that reboots.
const BETWEEN: Duration = Duration::from_secs(1);
/// For one attempt.
const ATTEMPT: Duration = Duration::from_secs(15);

const FACTS: &str = r#"printf '%s\0' "$(uname -n)" "$(uname -m)" "$(cat "$1" 2>/dev/null)"
cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null || :
"#;

const REBOOT: &str = r#"if command -v systemctl >/dev/null 2>&1 && systemctl reboot; then exit 0; fi
if command -v shutdown >/dev/null 2>&1 && shutdown -r now; then exit 0; fi
reboot
"#;

/// Asks a machine what it is: once for each connection.
pub(crate) async fn facts(machine: &Arc<Machine>, ctx: &CallContext) -> Result<Facts, CallError> {
    let connection = machine.connection(ctx).await?;
    let facts = connection.facts.get_or_try_init(|| ask(machine, ctx)).await?;
    Ok(facts.clone())
}

async fn ask(machine: &Arc<Machine>, ctx: &CallContext) -> Result<Facts, CallError> {
    let boot_id_file = machine.ways.boot_id_file.as_bytes();
    let item = || Item::script("asking for facts", FACTS, vec![boot_id_file.to_vec()]);
    let answer = machine.script(Who::Login, Lane::Look, item, ctx, &[]).await?;
    let text = String::from_utf8_lossy(&answer);
    let mut fields = text.splitn(4, '\0');
    let mut next = || fields.next().unwrap_or_default().trim().to_owned();
    let (hostname, arch, boot_id, release) = (next(), next(), next(), next());
    Ok(Facts {
        hostname,
        os_id: os_release(&release, "ID").unwrap_or_else(|| "unknown".to_owned()),
        os_version: os_release(&release, "VERSION_ID").unwrap_or_default(),
        arch,
        boot_id,
    })
}

/// A value of os-release, which is read as data and never run.
pub(crate) fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?.trim();
    let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
    let mut out = String::new();
    let mut chars = quoted.unwrap_or(value).chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    Some(out)
}

/// Reboots a machine and waits until it answers with another boot id than `before` (empty: than now).
pub(crate) async fn reboot(
    machine: &Arc<Machine>,
    before: &str,
    timeout: Duration,
    ctx: &CallContext,
) -> Result<Output, CallError> {
    let name = &machine.name;
    let began = Instant::now();
    let ctx = CallContext { deadline: ctx.deadline.min(began + timeout), ..ctx.clone() };
    let now = ask(machine, &ctx).await?.boot_id;
    if now.is_empty() {
        return Err(CallError::Failed(format!(
            "{name} has no {}: after a reboot nobody could say that it happened",
            machine.ways.boot_id_file
        )));
    }
    if !before.is_empty() && before != now {
        // It went down and came back since it was looked at: what was wanted is so.
        return Ok(rebooted(&now));
    }
    let item = || Item::script("reboot", REBOOT, Vec::new());
    let asked = {
        let short = CallContext { deadline: ctx.deadline.min(Instant::now() + ATTEMPT), ..ctx.clone() };
        machine.script(machine.privileged(), Lane::Change, item, &short, &[]).await
    };
    match asked {
        // A machine that goes down often takes the answer with it: the boot id decides.
        Ok(_) | Err(CallError::Unreachable(_) | CallError::TimedOut(_)) => {}
        Err(error) => return Err(error),
    }
    machine.disconnect().await;
    wait_for(machine, &now, timeout.saturating_sub(began.elapsed()), &ctx).await.map(|boot_id| rebooted(&boot_id))
}

/// What a reboot answers.
pub(crate) fn rebooted(boot_id: &str) -> Output {
    let stdout = Bytes::from(format!("{boot_id}\n").as_str());
    Output { exit: Exit::Code(0), stdout, stderr: Bytes::default() }
}

/// Waits until a machine answers, with another boot id than `before`. Gives its boot id.
pub(crate) async fn wait_for(
    machine: &Arc<Machine>,
    before: &str,
    timeout: Duration,
    ctx: &CallContext,
) -> Result<String, CallError> {
    let name = &machine.name;
    let began = Instant::now();
    let ctx = CallContext { deadline: ctx.deadline.min(began + timeout), ..ctx.clone() };
    let mut last = String::from("it has not gone down");
    loop {
        let waiting = format!("waiting for {name} to come back ({last})");
        ctx.progress.progress(&waiting, began.elapsed().as_secs(), Some(timeout.as_secs()), "seconds");
        if machine.wait(tokio::time::sleep(BETWEEN), &ctx, "the reboot").await.is_err() {
            let why = format!("{name} was told to reboot and did not come back in time: {last}");
            return Err(if ctx.cancel.is_cancelled() { CallError::Failed(why) } else { CallError::TimedOut(why) });
        }
        let attempt = CallContext { deadline: ctx.deadline.min(Instant::now() + ATTEMPT), ..ctx.clone() };
        match ask(machine, &attempt).await {
            Ok(facts) if facts.boot_id.is_empty() => "it says no boot id".clone_into(&mut last),
            Ok(facts) if facts.boot_id != before => return Ok(facts.boot_id),
            Ok(_) => "it still runs as before".clone_into(&mut last),
            Err(error) => last = error.to_string(),
        }
        machine.disconnect().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_data() {
        let text = "PRETTY_NAME=\"x\"\nVERSION_ID=\"12\"\nID=debian\nEVIL=$(reboot)\nNAME='a\\$b'\n";
        assert_eq!(os_release(text, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(os_release(text, "NAME").as_deref(), Some("a$b"));
        assert_eq!(os_release(text, "BUILD_ID"), None);
    }
}
