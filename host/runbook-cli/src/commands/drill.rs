//! The faults of a drill, as they are written on the command line.

use runbook_engine::drill::{Faults, Kill, Point};

use crate::args;
use crate::error::CliError;

/// Reads them.
pub(crate) fn faults(args: &args::Drill) -> Result<Faults, CliError> {
    Ok(Faults {
        fail: args.fail.iter().map(|text| point("--drill-fail", text)).collect::<Result<_, _>>()?,
        undo_fails: args.undo_fail,
        unreachable: args.unreachable.clone(),
        kill: args.kill.iter().map(|text| kill(text)).collect::<Result<_, _>>()?,
    })
}

fn kill(text: &str) -> Result<Kill, CliError> {
    if text == "@last" {
        return Ok(Kill::Last);
    }
    if let Some(record) = text.strip_prefix('@') {
        let help = "@RECORD is the number of a record, or @last";
        let record = record.parse().map_err(|_| wrong("--drill-kill", text, help))?;
        return Ok(Kill::Record(record));
    }
    match text.strip_suffix(":after") {
        Some(place) => point("--drill-kill", place).map(Kill::After),
        None => point("--drill-kill", text).map(Kill::Before),
    }
}

fn point(option: &str, text: &str) -> Result<Point, CliError> {
    let (step, call) = match text.split_once(':') {
        None => (text, None),
        Some((step, call)) => {
            let call = call.parse().map_err(|_| wrong(option, text, "CALL is the number of a call of the step"))?;
            (step, Some(call))
        }
    };
    if step.is_empty() {
        return Err(wrong(option, text, "name a step"));
    }
    Ok(Point { step: step.to_owned(), call })
}

fn wrong(option: &str, text: &str, help: &str) -> CliError {
    CliError::usage(format!("{option} {text}: {help}"))
}
