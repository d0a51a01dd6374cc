//! `ssh_config`: what the person's own ssh would do for a host.
//!
//! Understood: `Host` (patterns, negation), `Match all` and `Match host`, `Include`, and the keywords of [`HostConfig`]. The first
//! value found wins, as with OpenSSH. Other `Match` sections are skipped with a note, since guessing at their conditions would be
//! worse. Keywords that weaken checks (`StrictHostKeyChecking no`) are not read at all.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::known_hosts::{match_list, match_pattern};

/// Files included in files included ... at most this deep, as with OpenSSH.
const INCLUDE_DEPTH: usize = 16;

/// Files that may be included altogether: a file that includes itself twice would be read 65,536 times within that depth.
const MOST_INCLUDED: usize = 1000;

/// Answers an `Include`: the files that its pattern names, relative to the given folder, with their texts.
pub type Load<'a, E> = dyn FnMut(&str, &Path) -> Result<Vec<(PathBuf, String)>, E> + 'a;

/// Where relative things start: the person who runs the program.
#[derive(Debug, Clone)]
pub struct Local {
    /// Their home directory.
    pub home: PathBuf,
    /// Their login name.
    pub user: String,
}

/// Some `ssh_config` files, parsed.
#[derive(Debug, Clone, Default)]
pub struct SshConfig {
    sections: Vec<Section>,
    notes: Vec<String>,
    /// Files that were included.
    included: usize,
}

#[derive(Debug, Clone)]
struct Section {
    /// All of them must hold; more than one where a file is included inside a section.
    conditions: Vec<Condition>,
    settings: Vec<(String, Vec<String>)>,
}

#[derive(Debug, Clone)]
enum Condition {
    /// Patterns for what was typed.
    Host(Vec<String>),
    /// Patterns for where that leads (`HostName`).
    Final(Vec<String>),
    /// Cannot be judged here.
    Never,
}

/// One jump host as `ProxyJump` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpSpec {
    /// Alias or address.
    pub host: String,
    /// Login name.
    pub user: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
}

/// What the files say of one host. Tokens and `~` are still in the texts: [`expand`] them once user and host are settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// `HostName`, where a section for the address itself (not only for the inventory's name) gives it.
    pub host_name: Option<String>,
    /// `User`.
    pub user: Option<String>,
    /// `Port`.
    pub port: Option<u16>,
    /// `IdentityFile`, all of them.
    pub identity_files: Vec<String>,
    /// `IdentitiesOnly`.
    pub identities_only: Option<bool>,
    /// `IdentityAgent`.
    pub identity_agent: Option<String>,
    /// `ProxyJump`, the nearest first; empty for `none`.
    pub proxy_jump: Option<Vec<JumpSpec>>,
    /// `ProxyCommand`, which is not supported.
    pub proxy_command: Option<String>,
    /// `UserKnownHostsFile`.
    pub user_known_hosts: Option<Vec<String>>,
    /// `GlobalKnownHostsFile`.
    pub global_known_hosts: Option<Vec<String>>,
    /// `HostKeyAlias`.
    pub host_key_alias: Option<String>,
    /// `ConnectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `ServerAliveInterval`; zero: off.
    pub server_alive_interval: Option<Duration>,
}

impl SshConfig {
    /// Reads the files in this order; a file that is not there is empty.
    ///
    /// # Errors
    ///
    /// The path of a file that cannot be read, and why.
    pub fn read(files: &[PathBuf], local: &Local) -> Result<Self, (PathBuf, std::io::Error)> {
        let mut config = Self::default();
        for file in files {
            match std::fs::read(file) {
                Ok(text) => {
                    let mut load = |path: &str, base: &Path| included(path, base, &local.home);
                    let base = if file.starts_with(&local.home) { local.home.join(".ssh") } else { parent(file) };
                    config.add(file, &String::from_utf8_lossy(&text), &base, &mut load)?;
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err((file.clone(), e)),
            }
        }
        Ok(config)
    }

    /// Adds a file's text; what it includes lies in `base`, unless it says otherwise.
    ///
    /// # Errors
    ///
    /// Those of `load`.
    pub fn add<E>(&mut self, file: &Path, text: &str, base: &Path, load: &mut Load<'_, E>) -> Result<(), E> {
        self.add_nested(file, text, base, load, &[], 0)
    }

    fn add_nested<E>(
        &mut self,
        file: &Path,
        text: &str,
        base: &Path,
        load: &mut Load<'_, E>,
        outer: &[Condition],
        depth: usize,
    ) -> Result<(), E> {
        let mut conditions = outer.to_vec();
        self.sections.push(Section { conditions: conditions.clone(), settings: Vec::new() });
        for (index, line) in text.lines().enumerate() {
            let place = || format!("{}:{}", file.display(), index + 1);
            let (keyword, values) = match split(line) {
                Ok(Some(parts)) => parts,
                Ok(None) => continue,
                Err(reason) => {
                    self.notes.push(format!("{}: ignored: {reason}", place()));
                    continue;
                }
            };
            match keyword.as_str() {
                "host" | "match" => {
                    conditions = outer.to_vec();
                    if keyword == "host" {
                        conditions.push(Condition::Host(lower(&values)));
                    } else if let Some(more) = match_conditions(&values) {
                        conditions.extend(more);
                    } else {
                        self.notes.push(format!("{}: section skipped: Match {}", place(), values.join(" ")));
                        conditions.push(Condition::Never);
                    }
                    self.sections.push(Section { conditions: conditions.clone(), settings: Vec::new() });
                }
                "include" if depth == INCLUDE_DEPTH => {
                    self.notes.push(format!("{}: ignored: Include in {INCLUDE_DEPTH} files", place()));
                }
                "include" => {
                    for pattern in &values {
                        for (path, text) in load(pattern, base)? {
                            if self.included == MOST_INCLUDED {
                                self.notes.push(format!("{}: ignored: Include after {MOST_INCLUDED} files", place()));
                                return Ok(());
                            }
                            self.included += 1;
                            self.add_nested(&path, &text, base, load, &conditions, depth + 1)?;
                        }
                    }
                    // What follows belongs to the section again that the file was included in.
                    self.sections.push(Section { conditions: conditions.clone(), settings: Vec::new() });
                }
                _ => {
                    if let Some(section) = self.sections.last_mut() {
                        section.settings.push((keyword, values));
                    }
                }
            }
        }
        Ok(())
    }

    /// What was not understood or skipped, with file and line.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What holds for a host that the inventory calls `name` and that is reached at `address`: as if the person had typed either.
    pub fn lookup(&self, address: &str, name: Option<&str>) -> HostConfig {
        let (address, name) = (address.to_ascii_lowercase(), name.map(str::to_ascii_lowercase));
        let mut found = HostConfig::default();
        for section in &self.sections {
            let target = found.host_name.clone().unwrap_or_else(|| address.clone());
            let holds = |typed: &str, target: &str| {
                section.conditions.iter().all(|c| match c {
                    Condition::Host(patterns) => match_list(patterns, typed),
                    Condition::Final(patterns) => match_list(patterns, target),
                    Condition::Never => false,
                })
            };
            let by_address = holds(&address, &target.to_ascii_lowercase());
            if by_address || name.as_deref().is_some_and(|n| holds(n, n)) {
                for (keyword, values) in &section.settings {
                    found.set(keyword, values, by_address);
                }
            }
        }
        found
    }
}

impl HostConfig {
    /// Takes a value over where it is the first one, or the keyword gathers values.
    fn set(&mut self, keyword: &str, values: &[String], by_address: bool) {
        let Some(value) = values.first() else { return };
        match keyword {
            "hostname" if by_address => first(&mut self.host_name, Some(value.clone())),
            "user" => first(&mut self.user, Some(value.clone())),
            "port" => first(&mut self.port, value.parse().ok()),
            "identityfile" if value.eq_ignore_ascii_case("none") => {}
            "identityfile" => self.identity_files.push(value.clone()),
            "identitiesonly" => first(&mut self.identities_only, Some(value.eq_ignore_ascii_case("yes"))),
            "identityagent" => first(&mut self.identity_agent, Some(value.clone())),
            // Whichever of the two stands first switches the other off.
            "proxyjump" if self.proxy_command.is_none() => first(&mut self.proxy_jump, Some(parse_jumps(value))),
            "proxycommand" if self.proxy_jump.is_none() => first(&mut self.proxy_command, Some(values.join(" "))),
            "userknownhostsfile" => first(&mut self.user_known_hosts, Some(values.to_vec())),
            "globalknownhostsfile" => first(&mut self.global_known_hosts, Some(values.to_vec())),
            "hostkeyalias" => first(&mut self.host_key_alias, Some(value.clone())),
            "connecttimeout" => first(&mut self.connect_timeout, parse_time(value).filter(|t| !t.is_zero())),
            "serveraliveinterval" => first(&mut self.server_alive_interval, parse_time(value)),
            _ => {}
        }
    }
}

fn first<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

fn lower(values: &[String]) -> Vec<String> {
    values.iter().flat_map(|v| v.split(',')).filter(|v| !v.is_empty()).map(str::to_ascii_lowercase).collect()
}

/// The conditions of a `Match` line where all of them can be judged here.
fn match_conditions(values: &[String]) -> Option<Vec<Condition>> {
    let mut conditions = Vec::new();
    let mut words = values.iter();
    while let Some(word) = words.next() {
        match word.to_ascii_lowercase().as_str() {
            "all" => {}
            "host" => conditions.push(Condition::Final(lower(std::slice::from_ref(words.next()?)))),
            "originalhost" => conditions.push(Condition::Host(lower(std::slice::from_ref(words.next()?)))),
            _ => return None,
        }
    }
    (!values.is_empty()).then_some(conditions)
}

/// "none", or "user@host:port,...", nearest first.
fn parse_jumps(value: &str) -> Vec<JumpSpec> {
    if value.eq_ignore_ascii_case("none") {
        return Vec::new();
    }
    let spec = |text: &str| {
        let text = text.trim().strip_prefix("ssh://").unwrap_or(text.trim());
        let (user, rest) = text.rsplit_once('@').map_or((None, text), |(u, r)| (Some(u.to_owned()), r));
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            // More than one colon is an IPv6 address without port.
            None => match rest.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (rest, None),
            },
        };
        JumpSpec { host: host.to_owned(), user, port: port.and_then(|p| p.parse().ok()) }
    };
    value.split(',').filter(|t| !t.trim().is_empty()).map(spec).collect()
}

/// "90", "90s", "1m30s", "2h".
fn parse_time(value: &str) -> Option<Duration> {
    let mut seconds = 0_u64;
    let mut number: Option<u64> = None;
    for c in value.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit))?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    Some(Duration::from_secs(seconds.checked_add(number.unwrap_or(0))?))
}

/// A line's keyword in lower case and its values; none for comments and empty lines.
fn split(line: &str) -> Result<Option<(String, Vec<String>)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let keyword = line[..end].to_ascii_lowercase();
    let rest = line[end..].trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut values = Vec::new();
    let mut current: Option<String> = None;
    let mut quoted = false;
    for c in rest.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                current.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => values.extend(current.take()),
            '#' if !quoted && current.is_none() => break,
            c => current.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err("a quotation mark is not closed".to_owned());
    }
    values.extend(current);
    if values.is_empty() {
        return Err(format!("{keyword} has no value"));
    }
    Ok(Some((keyword, values)))
}

/// What the tokens in a value stand for.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// The person here: `~`, `%d`, `%u`.
    pub local: &'a Local,
    /// `%h`.
    pub host: &'a str,
    /// `%n`.
    pub alias: &'a str,
    /// `%r`.
    pub user: &'a str,
    /// `%p`.
    pub port: u16,
}

/// Puts in what `~`, `%...` and `${...}` stand for. A token that is not known stays as it is.
pub fn expand(value: &str, tokens: &Tokens<'_>) -> String {
    let home = tokens.local.home.to_string_lossy();
    let mut out = String::new();
    let mut rest = value;
    if rest == "~" || rest.starts_with("~/") {
        out.push_str(&home);
        rest = &rest[1..];
    }
    while let Some(at) = rest.find(['%', '$']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((name, after)) = rest.strip_prefix("${").and_then(|r| r.split_once('}')) {
            out.push_str(&std::env::var(name).unwrap_or_default());
            rest = after;
            continue;
        }
        let port;
        let known = match rest.as_bytes().get(..2) {
            Some(b"%%") => "%",
            Some(b"%d") => &home,
            Some(b"%u") => &tokens.local.user,
            Some(b"%h") => tokens.host,
            Some(b"%n") => tokens.alias,
            Some(b"%r") => tokens.user,
            Some(b"%p") => {
                port = tokens.port.to_string();
                &port
            }
            _ => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
                continue;
            }
        };
        out.push_str(known);
        rest = &rest[2..];
    }
    out + rest
}

fn parent(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

/// The files that an `Include` names: `*` and `?` in the last part of the path only. Those that are not there are left out.
fn included(pattern: &str, base: &Path, home: &Path) -> Result<Vec<(PathBuf, String)>, (PathBuf, std::io::Error)> {
    let path = match pattern.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => base.join(pattern),
    };
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut files = vec![path.clone()];
    if name.contains(['*', '?']) {
        files = match std::fs::read_dir(parent(&path)) {
            Ok(entries) => entries.filter_map(Result::ok).map(|e| e.path()).collect(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err((parent(&path), e)),
        };
        files.retain(|f| {
            f.file_name().is_some_and(|n| {
                let n = n.to_string_lossy();
                (!n.starts_with('.') || name.starts_with('.')) && match_pattern(&name, &n)
            })
        });
        files.sort();
    }
    let mut texts = Vec::new();
    for file in files.into_iter().filter(|f| !f.is_dir()) {
        match std::fs::read(&file) {
            Ok(text) => texts.push((file, String::from_utf8_lossy(&text).into_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err((file, e)),
        }
    }
    Ok(texts)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
