//! What a person sees of a run: readers of the one event stream.

mod json;
mod line;
mod live;
mod page;
mod style;
mod told;
mod words;

use std::io::IsTerminal as _;
use std::sync::Arc;

use indicatif::MultiProgress;
use runbook_engine::journal::Watcher;

pub(crate) use json::Json;
pub(crate) use line::Lines;
pub(crate) use live::Live;
pub(crate) use page::{Page, Pages};
pub(crate) use style::Styles;
pub(crate) use words::{ago, elapsed, safe};

/// What a person may do next, on stderr.
pub(crate) fn hint(text: &str) {
    use std::io::Write as _;
    let style = Styles::PERHAPS;
    let _ = writeln!(anstream::stderr().lock(), "{style}hint:{style:#} {text}");
}

/// A result, on stdout.
pub(crate) fn print(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(anstream::stdout().lock(), "{line}");
}

/// The display that fits: JSON lines where asked for, a live one on a terminal, plain lines elsewhere. With the bars of the live
/// one, which have to make room for a question.
pub(crate) fn progress(json: bool) -> (Arc<dyn Watcher>, Option<MultiProgress>) {
    if json {
        (Arc::new(Json), None)
    } else if std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb") {
        let live = Live::new();
        let bars = live.bars();
        (Arc::new(live), Some(bars))
    } else {
        (Arc::new(Lines::default()), None)
    }
}
