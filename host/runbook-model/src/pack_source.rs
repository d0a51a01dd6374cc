//! Where a runbook takes a pack from: what stands on the right side under `[packs]`.

/// Where a pack comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackSource {
    /// A file or directory on this machine: it begins with `.`, `/` or `~`.
    Path(String),
    /// A pack that is kept here, by the name that registries have it under.
    Stored(Reference),
}

/// A pack by its name: `[REGISTRY/]NAME[:VERSION][@sha256:DIGEST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `registry.home.example/bob/zfs`, `bob/zfs`.
    pub repository: String,
    /// What stands behind the colon.
    pub tag: Option<String>,
    /// `sha256:` and 64 hex digits.
    pub digest: Option<String>,
}

/// Why a text names no pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no pack")]
pub struct WrongSource {
    /// The text.
    pub text: String,
    /// How to write it.
    pub help: String,
}

const HELP: &str = "write \"NAME:VERSION\" or \"NAME@sha256:DIGEST\", perhaps with a registry before the name, or a path that begins \
                    with `./`, `/` or `~/`";

impl PackSource {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// When it is neither a path nor a name.
    pub fn parse(text: &str) -> Result<Self, WrongSource> {
        let wrong = |help: &str| WrongSource { text: text.to_owned(), help: help.to_owned() };
        if text.starts_with(['.', '/', '~']) {
            return Ok(Self::Path(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some((rest, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => {
                return Err(wrong(&format!("a version stands behind a colon: \"{rest}:{version}\"")));
            }
            Some(_) => return Err(wrong("a digest is `sha256:` and 64 lower-case hex digits")),
            None => (text, None),
        };
        // A colon before the last slash is that of a port.
        let at = rest.rfind(':').filter(|colon| rest.rfind('/').is_none_or(|slash| slash < *colon));
        let (repository, tag) = match at {
            Some(at) => (&rest[..at], Some(rest[at + 1..].to_owned())),
            None => (rest, None),
        };
        if std::path::Path::new(repository).extension().is_some_and(|ending| ending == "pack") {
            return Err(wrong(&format!("a path begins with `./`: \"./{text}\"")));
        }
        let good =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
        let tag_is_good = tag.as_deref().is_none_or(|tag| good(tag) && !tag.contains(':'));
        if !repository.split('/').all(good) || !tag_is_good {
            return Err(wrong(HELP));
        }
        Ok(Self::Stored(Reference { repository: repository.to_owned(), tag, digest }))
    }
}

impl Reference {
    /// Whether a pack with this name is meant.
    pub fn is_of(&self, name: &str) -> bool {
        self.repository.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/'))
    }

    /// The version that it names: a tag with three numbers. Other tags are moved from one pack to another, as `latest` is.
    pub fn version(&self) -> Option<&str> {
        let tag = self.tag.as_deref()?;
        let numbers: Vec<&str> = tag.split('-').next()?.split('.').collect();
        let is_number = |text: &&str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        (numbers.len() == 3 && numbers.iter().all(is_number)).then_some(tag)
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

fn is_digest(text: &str) -> bool {
    let hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.strip_prefix("sha256:").is_some_and(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths_and_names() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let path = |text: &str| PackSource::Path(text.to_owned());
        let stored = |repository: &str, tag: Option<&str>, digest: Option<&str>| {
            let owned = |text: &str| text.to_owned();
            PackSource::Stored(Reference {
                repository: repository.to_owned(),
                tag: tag.map(owned),
                digest: digest.map(owned),
            })
        };
        let cases = [
            ("./zfs.pack".to_owned(), path("./zfs.pack")),
            ("../x".to_owned(), path("../x")),
            ("~/packs/zfs".to_owned(), path("~/packs/zfs")),
            ("bob/zfs:1.2.0".to_owned(), stored("bob/zfs", Some("1.2.0"), None)),
            ("zfs".to_owned(), stored("zfs", None, None)),
            (format!("bob/zfs@{digest}"), stored("bob/zfs", None, Some(&digest))),
            ("localhost:5000/bob/zfs".to_owned(), stored("localhost:5000/bob/zfs", None, None)),
            (format!("localhost:5000/zfs:1.0.0@{digest}"), stored("localhost:5000/zfs", Some("1.0.0"), Some(&digest))),
        ];
        for (text, wanted) in cases {
            assert_eq!(PackSource::parse(&text), Ok(wanted.clone()), "{text}");
            if let PackSource::Stored(reference) = wanted {
                assert_eq!(reference.to_string(), text);
            }
        }
        for (text, help) in [
            ("bob/zfs@1.2.0", "bob/zfs:1.2.0"),
            ("zfs-1.2.0.pack", "./zfs-1.2.0.pack"),
            ("bob/zfs@sha256:123", "64"),
            ("", "NAME:VERSION"),
            ("bob//zfs", "NAME:VERSION"),
            ("bob/zfs:", "NAME:VERSION"),
            ("http://x/y", "NAME:VERSION"),
        ] {
            let error = PackSource::parse(text).expect_err(text);
            assert!(error.help.contains(help), "{text}: {}", error.help);
        }
    }

    #[test]
    fn a_tag_that_is_no_version_floats() {
        for (text, version) in [
            ("zfs:1.2.0", Some("1.2.0")),
            ("zfs:1.2.0-rc.1", Some("1.2.0-rc.1")),
            ("zfs:latest", None),
            ("zfs:1", None),
            ("zfs:1.2", None),
            ("zfs", None),
        ] {
            let Ok(PackSource::Stored(reference)) = PackSource::parse(text) else { panic!("{text}") };
            assert_eq!(reference.version(), version, "{text}");
        }
    }

    #[test]
    fn a_name_is_the_end_of_where_it_lies() {
        let Ok(PackSource::Stored(reference)) = PackSource::parse("registry.home.example/bob/zfs:1.0.0") else {
            panic!()
        };
        for (name, is) in [("bob/zfs", true), ("zfs", true), ("ob/zfs", false), ("eve/zfs", false)] {
            assert_eq!(reference.is_of(name), is, "{name}");
        }
    }
}
