//! `allowed_signers`: whose signatures count, in OpenSSH's format (`man ssh-keygen`, ALLOWED SIGNERS).
//!
//! ```text
//! # principals  options                                               key
//! bob@home      namespaces="runbook-pack",valid-before="20270101Z"     ssh-ed25519 AAAA... bob's laptop
//! ```
//!
//! Verdicts are those of `ssh-keygen -Y verify`, with two exceptions. A file with any line that cannot be read is refused as a whole,
//! and every such line is said; `ssh-keygen` stops at the first one, so that it depends on the order of lines whom it trusts. And
//! local times are what the clock on the wall shows; `ssh-keygen` takes those of summer for times of winter, an hour off.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::image::said;
use crate::sshsig::SignerKey;

/// Bytes of a file.
pub const MAX_FILE: usize = 1 << 20;

/// Whose signatures count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedSigners {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    number: usize,
    principals: String,
    namespaces: Option<String>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
    key: SignerKey,
}

/// A line that says that a signature counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signer<'a> {
    /// Whose key it is: the patterns as they stand in the file.
    pub principals: &'a str,
    /// The line in the file, from 1.
    pub line: usize,
}

/// Why a key's signatures do not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No line has the key.
    #[error("no line of allowed_signers has the key")]
    Unknown,
    /// The key is another one's.
    #[error("line {line} of allowed_signers has the key, but not for `{principal}`")]
    Principal {
        /// The line.
        line: usize,
        /// Who it should be.
        principal: String,
    },
    /// The key is for something else.
    #[error("line {line} of allowed_signers does not let the key sign for `{namespace}`")]
    Namespace {
        /// The line.
        line: usize,
        /// What it should be for.
        namespace: String,
    },
    /// The key counts later.
    #[error("line {line} of allowed_signers lets the key count only from {from} on")]
    NotYet {
        /// The line.
        line: usize,
        /// From when on.
        from: Timestamp,
    },
    /// The key counted earlier.
    #[error("line {line} of allowed_signers let the key count only until {until}")]
    Expired {
        /// The line.
        line: usize,
        /// Until when.
        until: Timestamp,
    },
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Larger than [`MAX_FILE`].
    #[error("the file is larger than {} KiB", MAX_FILE >> 10)]
    TooLarge,
    /// Not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// Nothing follows the principals.
    #[error("it needs principals, then options if any, then a key: `bob@home ssh-ed25519 AAAA...`")]
    Short,
    /// A quote without its other half.
    #[error("a quote does not end")]
    Quote,
    /// The key cannot be used.
    #[error("its key: {0}")]
    Key(#[from] crate::sshsig::KeyError),
    /// An option that there is not.
    #[error("`{0}` is not an option (namespaces=\"...\", valid-after=\"...\" and valid-before=\"...\" are)")]
    Option(String),
    /// An option that needs a quoted value.
    #[error("the value of `{0}` must stand in double quotes")]
    Unquoted(&'static str),
    /// An option that is there already.
    #[error("`{0}` stands there twice")]
    Twice(&'static str),
    /// Nothing follows a comma.
    #[error("an option is missing after the comma")]
    Comma,
    /// Keys of authorities, which sign certificates.
    #[error("`cert-authority` is not supported: SSH certificates are not taken, list the plain keys")]
    Authority,
    /// Not a time.
    #[error("`{0}` is not a time: YYYYMMDD[HHMM[SS]], with a Z for UTC")]
    Time(String),
    /// No moment lies between both.
    #[error("`valid-before` is not after `valid-after`")]
    Never,
}

impl AllowedSigners {
    /// Reads a file; its times without a Z are those of this machine.
    ///
    /// # Errors
    ///
    /// Every line that cannot be read.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<Mistake>> {
        Self::parse_in(text, &TimeZone::system())
    }

    /// Reads a file; its times without a Z are of this zone.
    ///
    /// # Errors
    ///
    /// Every line that cannot be read.
    pub fn parse_in(text: &[u8], zone: &TimeZone) -> Result<Self, Vec<Mistake>> {
        if text.len() > MAX_FILE {
            return Err(vec![Mistake { line: 1, wrong: Wrong::TooLarge }]);
        }
        let (mut lines, mut mistakes) = (Vec::new(), Vec::new());
        for (i, line) in text.split(|b| *b == b'\n').enumerate() {
            match read_line(line, i + 1, zone) {
                Ok(read) => lines.extend(read),
                Err(wrong) => mistakes.push(Mistake { line: i + 1, wrong }),
            }
        }
        if mistakes.is_empty() { Ok(Self { lines }) } else { Err(mistakes) }
    }

    /// Whether signatures of this key for `namespace` count at this time; of `principal`, where one is named, else whose ever
    /// it is. Where several lines have the key, one that lets it count is enough.
    ///
    /// # Errors
    ///
    /// Why not: what the last line with the key says.
    pub fn allow(
        &self,
        key: &SignerKey,
        principal: Option<&str>,
        namespace: &str,
        now: Timestamp,
    ) -> Result<Signer<'_>, Refusal> {
        let mut refusal = Refusal::Unknown;
        for line in self.lines.iter().filter(|line| line.key == *key) {
            match line.refuses(principal, namespace, now) {
                None => return Ok(Signer { principals: &line.principals, line: line.number }),
                Some(why) => refusal = why,
            }
        }
        Err(refusal)
    }
}

impl Line {
    fn refuses(&self, principal: Option<&str>, namespace: &str, now: Timestamp) -> Option<Refusal> {
        let line = self.number;
        if let Some(principal) = principal.filter(|name| !matches_list(name, &self.principals)) {
            return Some(Refusal::Principal { line, principal: principal.to_owned() });
        }
        if self.namespaces.as_ref().is_some_and(|list| !matches_list(namespace, list)) {
            return Some(Refusal::Namespace { line, namespace: namespace.to_owned() });
        }
        // OpenSSH compares whole seconds, and both ends count.
        if let Some(from) = self.after.filter(|from| now.as_second() < from.as_second()) {
            return Some(Refusal::NotYet { line, from });
        }
        let until = self.before.filter(|until| now.as_second() > until.as_second())?;
        Some(Refusal::Expired { line, until })
    }
}

const BLANK: [char; 3] = [' ', '\t', '\r'];

fn read_line(line: &[u8], number: usize, zone: &TimeZone) -> Result<Option<Line>, Wrong> {
    let text = std::str::from_utf8(line).map_err(|_| Wrong::NotText)?;
    let text = text.trim_matches(BLANK);
    if text.contains('\0') {
        return Err(Wrong::NotText);
    }
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (principals, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or(Wrong::Quote)?,
        None => text.split_once(BLANK).ok_or(Wrong::Short)?,
    };
    let rest = rest.trim_start_matches(BLANK);
    if rest.is_empty() {
        return Err(Wrong::Short);
    }
    // As OpenSSH: what reads as a key is one, anything else are options.
    let (options, key) = if starts_a_key(rest) { ("", rest) } else { split_options(rest)? };
    let mut read = Options::read(options, zone)?;
    let key = SignerKey::parse(key)?;
    Ok(Some(Line {
        number,
        principals: principals.to_owned(),
        namespaces: read.namespaces.take(),
        after: read.after,
        before: read.before,
        key,
    }))
}

/// Whether the first word is the name of a kind of key. No option's name is like it.
fn starts_a_key(text: &str) -> bool {
    let word = text.split(BLANK).next().unwrap_or_default();
    ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start))
}

/// Options up to the first blank outside of quotes, and what follows it.
fn split_options(text: &str) -> Result<(&str, &str), Wrong> {
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in text.char_indices() {
        match c {
            '"' if escaped => {}
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Ok((&text[..i], &text[i..])),
            _ => {}
        }
        escaped = c == '\\';
    }
    Err(if quoted { Wrong::Quote } else { Wrong::Short })
}

#[derive(Default)]
struct Options {
    namespaces: Option<String>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Options {
    fn read(mut text: &str, zone: &TimeZone) -> Result<Self, Wrong> {
        let mut options = Self::default();
        while !text.is_empty() {
            let end = text.find([',', '=']).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            let (value, rest) = match rest.strip_prefix('=') {
                Some(value) => {
                    let (value, rest) = unquote(value, known(name)?)?;
                    (Some(value), rest)
                }
                None => (None, rest),
            };
            options.set(name, value, zone)?;
            text = match rest.strip_prefix(',') {
                Some("") => return Err(Wrong::Comma),
                Some(more) => more,
                None if rest.is_empty() => rest,
                None => return Err(Wrong::Option(said(rest))),
            };
        }
        match (options.after, options.before) {
            (Some(after), Some(before)) if before <= after => Err(Wrong::Never),
            _ => Ok(options),
        }
    }

    fn set(&mut self, name: &str, value: Option<String>, zone: &TimeZone) -> Result<(), Wrong> {
        let option = known(name)?;
        let value = match (option, value) {
            ("cert-authority", _) => return Err(Wrong::Authority),
            (_, None) => return Err(Wrong::Unquoted(option)),
            (_, Some(value)) => value,
        };
        let twice = match option {
            "namespaces" => self.namespaces.replace(value).is_some(),
            "valid-after" => self.after.replace(time(&value, zone)?).is_some(),
            _ => self.before.replace(time(&value, zone)?).is_some(),
        };
        if twice { Err(Wrong::Twice(option)) } else { Ok(()) }
    }
}

/// The option of this name, in whatever case it is written.
fn known(name: &str) -> Result<&'static str, Wrong> {
    ["cert-authority", "namespaces", "valid-after", "valid-before"]
        .into_iter()
        .find(|option| option.eq_ignore_ascii_case(name))
        .ok_or_else(|| Wrong::Option(said(name)))
}

/// A value in double quotes, `\"` being one of it, and what follows it.
fn unquote<'a>(text: &'a str, option: &'static str) -> Result<(String, &'a str), Wrong> {
    let mut rest = text.strip_prefix('"').ok_or(Wrong::Unquoted(option))?;
    let mut value = String::new();
    loop {
        let end = rest.find('"').ok_or(Wrong::Quote)?;
        let (before, after) = (&rest[..end], &rest[end + 1..]);
        match before.strip_suffix('\\') {
            Some(before) => value.extend([before, "\""]),
            None => {
                value.push_str(before);
                return Ok((value, after));
            }
        }
        rest = after;
    }
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, with `Z` or `UTC` behind it for UTC.
fn time(text: &str, zone: &TimeZone) -> Result<Timestamp, Wrong> {
    let wrong = || Wrong::Time(said(text));
    let upper = text.to_ascii_uppercase();
    let utc = upper.strip_suffix('Z').or_else(|| upper.strip_suffix("UTC"));
    let digits = utc.unwrap_or(&upper);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let full = format!("{digits:0<14}");
    let civil = DateTime::strptime("%Y%m%d%H%M%S", &full).map_err(|_| wrong())?;
    let zone = if utc.is_some() { &TimeZone::UTC } else { zone };
    let at = civil.to_zoned(zone.clone()).map_err(|_| wrong())?.timestamp();
    // OpenSSH takes the first moment of 1970 for "none", and knows nothing before it.
    if at.as_second() > 0 { Ok(at) } else { Err(wrong()) }
}

/// OpenSSH's lists of patterns: separated by commas, `*` and `?` as ever; a `!` before one refuses whatever else matches.
fn matches_list(text: &str, list: &str) -> bool {
    let mut matched = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(text.as_bytes(), pattern.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= matches(text.as_bytes(), pattern.as_bytes()),
        }
    }
    matched
}

/// One pattern, in a time that is at most the product of both lengths.
fn matches(text: &[u8], pattern: &[u8]) -> bool {
    let (mut t, mut p) = (0, 0);
    // Where the last star stands, and how far its text reaches.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (t, p) = (t + 1, p + 1),
            _ => match star {
                Some((at, reached)) => {
                    star = Some((at, reached + 1));
                    (t, p) = (reached + 1, at + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}
