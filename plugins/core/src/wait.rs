//! `wait`: until something answers.

use runbook_sdk::prelude::*;
use runbook_sdk::run::wait_until;

use crate::probe::Probe;

#[derive(Deserialize)]
pub(crate) struct Input {
    #[serde(flatten)]
    probe: Probe,
    #[serde(default = "five_minutes")]
    timeout: Period,
    #[serde(default = "two_seconds")]
    interval: Period,
}

fn five_minutes() -> Period {
    Period::minutes(5)
}

fn two_seconds() -> Period {
    Period::seconds(2)
}

pub(crate) fn converge(input: Input) -> Result<()> {
    let what = input.probe.said()?;
    let machine = Machine::target("host")?;
    wait_until(&what, input.timeout, input.interval, || input.probe.look(&machine))
}
