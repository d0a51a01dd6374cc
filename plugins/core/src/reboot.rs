//! `reboot`.

use runbook_sdk::prelude::*;

/// Debian and Ubuntu leave this behind where an update needs a reboot.
const REQUIRED: &str = "/run/reboot-required";

#[derive(Deserialize)]
pub(crate) struct Input {
    #[serde(default = "ten_minutes")]
    timeout: Period,
    #[serde(default)]
    when_required: bool,
}

fn ten_minutes() -> Period {
    Period::minutes(10)
}

pub(crate) fn converge(input: Input) -> Result<()> {
    let machine = Machine::target("host")?;
    if input.when_required && !machine.files().exists(REQUIRED)? {
        return Ok(());
    }
    machine.reboot(format!("reboot {}", machine.name()), input.timeout)?;
    Ok(())
}
