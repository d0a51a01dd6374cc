//! The event stream as JSON lines on stdout.

use std::io::Write as _;

use runbook_engine::journal::Watcher;
use runbook_model::event::Record;

/// Prints each record as one line.
pub(crate) struct Json;

impl Watcher for Json {
    fn record(&self, record: &Record) {
        if let Ok(line) = serde_json::to_string(record) {
            // Whoever closed the pipe has seen enough.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}
