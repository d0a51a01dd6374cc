//! A report as one HTML page that needs nothing besides itself: no script, no picture, no font, no request.
//!
//! What stands in a journal came from hosts and plugins and is trusted by nobody: each value that the template shows is escaped here,
//! whatever it is, and the page forbids all scripts and requests to the browser, should that ever fail.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::tz::TimeZone;
use minijinja::value::Serde;
use minijinja::{Error, Output, State, Value, context};
use sha2::{Digest as _, Sha256};

use crate::words;

use super::Report;
use super::phrase::Clock;
use super::template;
use super::view::View;

const TEMPLATE: &str = include_str!("report.html.j2");
const STYLE: &str = include_str!("report.css");

/// A report as a page. `zone`: the times of day on it.
///
/// # Errors
///
/// The page could not be made: the program is at fault.
pub fn html(report: &Report, zone: &TimeZone) -> Result<String, Error> {
    let mut env = template::environment()?;
    env.set_formatter(escaped);
    env.add_template("report", TEMPLATE)?;
    let style = Value::from_safe_string(STYLE.to_owned());
    // Of styles the browser takes this very text and no other.
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    env.get_template("report")?
        .render(context! { r => Serde(View::of(report, &Clock::new(zone, report.began_at))), style, digest })
}

/// Writes a value as text of a page or of an attribute in double quotes.
fn escaped(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if value.is_safe() {
        return out.write_str(&text).map_err(Error::from);
    }
    for c in words::safe(&text).chars() {
        match c {
            '&' => out.write_str("&amp;"),
            '<' => out.write_str("&lt;"),
            '>' => out.write_str("&gt;"),
            '"' => out.write_str("&quot;"),
            '\'' => out.write_str("&#39;"),
            other => out.write_char(other),
        }
        .map_err(Error::from)?;
    }
    Ok(())
}
