//! `receipt`: proof that a backup lies somewhere, for steps that say `needs_receipt`.

use std::time::{Duration, SystemTime};

use runbook_sdk::prelude::*;
use runbook_sdk::run;

#[derive(Deserialize)]
pub(crate) struct Input {
    kind: String,
    subject: String,
    path: String,
}

#[derive(Serialize)]
pub(crate) struct Output {
    sha256: String,
    size: u64,
}

pub(crate) fn converge(input: Input) -> Result<Output> {
    let Input { kind, subject, path } = input;
    let machine = Machine::target("host")?;
    let place = machine.files().source(&path)?;
    // As old as the file, not as the receipt: last year's backup does not become new by being looked at.
    let said = machine.cmd(["stat", "-L", "-c", "%Y", &path]).privileged().observe()?.ok()?.text();
    let seconds =
        said.trim().parse().map_err(|_| Error::failed(format!("`stat` does not say how old {path} is: {said:?}")))?;
    run::receipt(&kind, &subject, &place, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))?;
    Ok(Output { sha256: place.sha256(), size: place.size() })
}
