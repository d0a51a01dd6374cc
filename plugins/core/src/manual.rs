//! `manual`: a person acts, a probe decides.

use runbook_sdk::prelude::*;
use runbook_sdk::run::{Probe as Seen, wait_until};

use crate::probe::Probe;

#[derive(Deserialize)]
pub(crate) struct Input {
    instructions: String,
    until: Probe,
    #[serde(default = "one_hour")]
    timeout: Period,
    #[serde(default = "ten_seconds")]
    interval: Period,
}

fn one_hour() -> Period {
    Period::minutes(60)
}

fn ten_seconds() -> Period {
    Period::seconds(10)
}

pub(crate) fn converge(input: Input) -> Result<()> {
    let what = format!("a person ({})", input.until.said()?);
    let machine = Machine::target("host")?;
    let mut said = false;
    wait_until(&what, input.timeout, input.interval, || {
        let seen = input.until.look(&machine)?;
        if !said && seen != Seen::Ready(()) {
            warn!("to be done by hand: {}", input.instructions.trim());
            said = true;
        }
        Ok(seen)
    })
}
