//! `known_hosts` files: parsing, and the question which lines speak of a host.
//!
//! Pure, and our own: russh's matcher knows no wildcards, negation, `@revoked` or `@cert-authority`, takes any other line of
//! the same algorithm for a changed key, and reads an unreadable file as an empty one. The format is that of sshd(8).

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// A public key as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Name of its type, such as "ssh-ed25519".
    pub algorithm: String,
    /// The encoded key, which begins with the same name.
    pub blob: Vec<u8>,
}

impl HostKey {
    /// Reads `blob`, whose first field names the type.
    pub fn from_blob(blob: Vec<u8>) -> Option<Self> {
        let length = u32::from_be_bytes(blob.get(..4)?.try_into().ok()?) as usize;
        let algorithm = std::str::from_utf8(blob.get(4..length.checked_add(4)?)?).ok()?.to_owned();
        Some(Self { algorithm, blob })
    }

    /// As `ssh-keygen -l` shows it: "SHA256:" and base64 without padding.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }

    /// Type and key as they stand in files: "ssh-ed25519 AAAA...".
    pub fn openssh(&self) -> String {
        format!("{} {}", self.algorithm, STANDARD.encode(&self.blob))
    }
}

/// What a line says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// It is a host's key.
    Plain,
    /// It signs certificates of hosts.
    Authority,
    /// It must never be accepted.
    Revoked,
}

/// One line that says something.
#[derive(Debug, Clone)]
pub struct Line {
    /// The file that it stands in.
    pub file: PathBuf,
    /// Counted from 1, comments and empty lines included.
    pub number: usize,
    /// What it says of the key.
    pub marker: Marker,
    /// The key.
    pub key: HostKey,
    hosts: Hosts,
}

impl Line {
    /// Where it stands: "FILE:LINE".
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.number)
    }

    /// Whether it speaks of the host that is called `name` ("nas", "10.0.0.1", "[10.0.0.1]:2222").
    pub fn is_for(&self, name: &str) -> bool {
        self.hosts.has(&name.to_ascii_lowercase())
    }
}

#[derive(Debug, Clone)]
enum Hosts {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl Hosts {
    /// Whether `name`, in lower case, is one of them.
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Hashed { salt, hash } => Hmac::<sha1::Sha1>::new_from_slice(salt)
                .is_ok_and(|mac| mac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
            Self::Patterns(patterns) => match_list(patterns, name),
        }
    }
}

/// Under which names a host is looked up.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Tried in this order. Names in one group mean the same.
    pub groups: Vec<Vec<String>>,
    /// Other names of the same machine: they can make a key known, never changed.
    pub also: Vec<String>,
}

impl Names {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flatten().chain(&self.also).map(String::as_str)
    }
}

/// What is known of a key that a host shows.
#[derive(Debug)]
pub enum Match<'a> {
    /// A line says so.
    Known(&'a Line),
    /// Lines for the host name other keys; those of the same type first.
    Changed(Vec<&'a Line>),
    /// A line forbids the key.
    Revoked(&'a Line),
    /// No line speaks of the host.
    Unknown,
}

/// The lines of some `known_hosts` files.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
    notes: Vec<String>,
}

impl KnownHosts {
    /// Adds the lines of a file. Lines that make no sense are left out with a note, as OpenSSH leaves them out.
    pub fn add(&mut self, file: &Path, text: &str) {
        for (index, raw) in text.lines().enumerate() {
            let content = raw.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            self.add_line(file, index + 1, content);
        }
    }

    fn add_line(&mut self, file: &Path, number: usize, content: &str) {
        match parse_line(file, number, content) {
            Ok(line) => self.lines.push(line),
            Err(reason) => self.notes.push(format!("{}:{number}: ignored: {reason}", file.display())),
        }
    }

    /// Adds the lines of a file that speak of a host with these names, or that nobody can say of whom they speak. The others cost
    /// little: files that were gathered over years are long, and are read for each host.
    pub(crate) fn add_for(&mut self, names: &Names, file: &Path, text: &str) {
        let mut wanted: Vec<String> = names.all().map(str::to_ascii_lowercase).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for (index, raw) in text.lines().enumerate() {
            let content = raw.trim();
            if content.is_empty() || content.starts_with('#') || !may_speak_of(&wanted, content) {
                continue;
            }
            self.add_line(file, index + 1, content);
        }
    }

    /// Lines that were left out, with the reason.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What is known of `key` for a host with these names. A key that any line of the first speaking group names is known, even
    /// where another line of the same type differs.
    pub fn check(&self, names: &Names, key: &HostKey) -> Match<'_> {
        if let Some(line) = self.revoked(names, key) {
            return Match::Revoked(line);
        }
        let mut others = Vec::new();
        for group in &names.groups {
            let lines: Vec<_> = self.plain(group).collect();
            if let Some(known) = lines.iter().find(|l| l.key == *key) {
                return Match::Known(known);
            }
            // A line of the same type settles it; one of another type may stand beside a better one under the next name.
            let same_type = lines.iter().any(|l| l.key.algorithm == key.algorithm);
            others.extend(lines);
            if same_type {
                others.sort_by_key(|l| l.key.algorithm != key.algorithm);
                return Match::Changed(others);
            }
        }
        if let Some(known) = self.plain(&names.also).find(|l| l.key == *key) {
            return Match::Known(known);
        }
        if others.is_empty() { Match::Unknown } else { Match::Changed(others) }
    }

    /// The line that forbids `key` for the host, where there is one.
    pub fn revoked(&self, names: &Names, key: &HostKey) -> Option<&Line> {
        self.matching(names, Marker::Revoked).find(|l| l.key == *key)
    }

    /// The authorities that may vouch for the host.
    pub fn authorities(&self, names: &Names) -> Vec<&Line> {
        self.matching(names, Marker::Authority).collect()
    }

    /// The types of the keys that are known for the host, without repetition, so that one of them is asked of the server.
    pub fn algorithms(&self, names: &Names) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for group in names.groups.iter().chain([&names.also]) {
            for line in self.plain(group) {
                if !found.contains(&line.key.algorithm.as_str()) {
                    found.push(&line.key.algorithm);
                }
            }
        }
        found
    }

    fn plain<'a>(&'a self, group: &[String]) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |l| l.marker == Marker::Plain && group.iter().any(|n| l.is_for(n)))
    }

    fn matching<'a>(&'a self, names: &Names, marker: Marker) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |l| l.marker == marker && names.all().any(|n| l.is_for(n)))
    }
}

/// Whether a line speaks of one of the names, which are in lower case, or cannot be read. Its key is not looked at.
fn may_speak_of(names: &[String], content: &str) -> bool {
    let mut fields = content.split_ascii_whitespace();
    let hosts = match fields.next() {
        Some(marker) if marker.starts_with('@') => fields.next(),
        hosts => hosts,
    };
    match hosts.map(parse_hosts) {
        Some(Ok(hosts)) => names.iter().any(|name| hosts.has(name)),
        _ => true,
    }
}

fn parse_line(file: &Path, number: usize, content: &str) -> Result<Line, String> {
    let mut fields = content.split_ascii_whitespace();
    let mut next = |what: &str| fields.next().ok_or_else(|| format!("no {what}"));
    let mut first = next("host names")?;
    let marker = match first {
        "@cert-authority" => Marker::Authority,
        "@revoked" => Marker::Revoked,
        other if other.starts_with('@') => return Err(format!("unknown marker {other}")),
        _ => Marker::Plain,
    };
    if marker != Marker::Plain {
        first = next("host names")?;
    }
    let hosts = parse_hosts(first)?;
    let algorithm = next("key type")?;
    let blob = STANDARD.decode(next("key")?).map_err(|_| "the key is not base64".to_owned())?;
    let key = HostKey::from_blob(blob).ok_or("the key is cut off")?;
    if key.algorithm != algorithm {
        return Err(format!("the key is of type {:?}, not {algorithm}", key.algorithm));
    }
    Ok(Line { file: file.to_owned(), number, marker, key, hosts })
}

fn parse_hosts(field: &str) -> Result<Hosts, String> {
    let Some(hashed) = field.strip_prefix("|1|") else {
        if field.starts_with('|') {
            return Err("the host name is hashed in an unknown way".to_owned());
        }
        return Ok(Hosts::Patterns(field.split(',').map(str::to_ascii_lowercase).collect()));
    };
    let decode = |part: &str| STANDARD.decode(part).map_err(|_| "the hashed host name is not base64".to_owned());
    let (salt, hash) = hashed.split_once('|').ok_or("the hashed host name is cut off")?;
    Ok(Hosts::Hashed { salt: decode(salt)?, hash: decode(hash)? })
}

/// Whether a pattern of the list matches and no negated one does. Both sides in lower case.
pub(crate) fn match_list<P: AsRef<str>>(patterns: &[P], name: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.as_ref().strip_prefix('!') {
            Some(negated) if match_pattern(negated, name) => return false,
            Some(_) => {}
            None => found |= match_pattern(pattern.as_ref(), name),
        }
    }
    found
}

/// `*` stands for any characters, `?` for one; nothing else is special, brackets least of all.
pub(crate) fn match_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
