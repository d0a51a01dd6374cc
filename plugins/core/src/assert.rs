//! `assert`: the run goes no further unless something holds.

use runbook_sdk::prelude::*;

#[derive(Deserialize)]
pub(crate) struct Input {
    that: bool,
    message: String,
}

pub(crate) fn converge(input: Input) -> Result<()> {
    ensure!(input.that, "{}", input.message);
    Ok(())
}
