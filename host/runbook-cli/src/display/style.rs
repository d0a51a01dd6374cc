//! The few styles that there are. Colours are left out by the streams where nobody wants them (NO_COLOR, no terminal).

use anstyle::{AnsiColor, Style};
use runbook_model::event::StepOutcome;

/// The styles by what they mean.
pub(crate) struct Styles;

impl Styles {
    pub(crate) const BOLD: Style = Style::new().bold();
    pub(crate) const DIM: Style = Style::new().dimmed();
    pub(crate) const GOOD: Style = colour(AnsiColor::Green);
    pub(crate) const CHANGE: Style = colour(AnsiColor::Yellow);
    pub(crate) const BAD: Style = colour(AnsiColor::Red);
    pub(crate) const PERHAPS: Style = colour(AnsiColor::Cyan);

    /// The sign and the style of an outcome. Signs differ too, for those who see no colours.
    pub(crate) fn outcome(outcome: StepOutcome) -> (&'static str, Style) {
        match outcome {
            StepOutcome::Unchanged => ("=", Self::GOOD),
            StepOutcome::Changed => ("~", Self::CHANGE),
            StepOutcome::MayChange => ("?", Self::PERHAPS),
            StepOutcome::Skipped => ("-", Self::DIM),
            StepOutcome::Cancelled
            | StepOutcome::Unreachable
            | StepOutcome::Denied
            | StepOutcome::Failed
            | StepOutcome::Stuck => ("x", Self::BAD),
        }
    }
}

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(anstyle::Color::Ansi(colour)))
}
