//! What is in the volume, seen through a container that has it mounted.

use std::collections::BTreeMap;

use runbook_sdk::Output as Said;
use runbook_sdk::prelude::*;

use crate::input::Input;
use crate::pod;
use crate::users::Window;
use crate::wanted::{Set, Wanted};

/// Files that are looked at with one command: their names go into a URL.
const BATCH: usize = 40;

/// A file as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) sha256: String,
    /// Mode, owner and group; none where the container has no `stat`.
    pub(crate) attributes: Option<(u32, u32, u32)>,
}

/// What is there, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Content {
    pub(crate) files: BTreeMap<String, Seen>,
    /// The marker, where there is one and it is of use.
    pub(crate) marker: Option<String>,
}

impl Content {
    /// Looks through a container; none where it has no `sha256sum` to look with.
    ///
    /// # Errors
    ///
    /// Where the pod cannot be reached, or something is wrong with the volume.
    pub(crate) fn through(cluster: &Cluster, window: &Window, input: &Input, set: &Set) -> Result<Option<Self>> {
        let mut content = Self::default();
        let absolute = |path: &str| format!("{}/{path}", window.top);
        let run = |argv: Vec<String>| cluster.exec(&window.pod, argv).container(&window.container).observe();
        for batch in set.0.chunks(BATCH) {
            let paths = batch.iter().map(|wanted| absolute(&wanted.path));
            let sums = match run(["sha256sum".to_owned()].into_iter().chain(paths.clone()).collect()) {
                Ok(said) if !lacks_program(&said) => said,
                Ok(_) => return Ok(None),
                Err(error) if is_missing_program(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            check_errors(&sums)?;
            for (path, sha256) in read_sums(&sums.text()) {
                if let Some(path) = path.strip_prefix(&format!("{}/", window.top)) {
                    content.files.insert(path.to_owned(), Seen { sha256, attributes: None });
                }
            }
            let there: Vec<String> = paths.filter(|path| content.has(path, &window.top)).collect();
            if there.is_empty() {
                continue;
            }
            let argv = ["stat", "-c", "%a %u %g %n"].map(str::to_owned).into_iter().chain(there).collect();
            let stats = match run(argv) {
                Ok(said) if said.success() => said.text(),
                Ok(_) => continue,
                Err(error) if is_missing_program(&error) => continue,
                Err(error) => return Err(error),
            };
            for (path, attributes) in read_stats(&stats) {
                let seen = path.strip_prefix(&format!("{}/", window.top)).and_then(|path| content.files.get_mut(path));
                if let Some(seen) = seen {
                    seen.attributes = Some(attributes);
                }
            }
        }
        if input.remove_extra && window.pod == pod::reference(input) {
            content.marker = match run(vec!["cat".to_owned(), absolute(&input.marker())]) {
                Ok(said) if said.success() => Some(said.text()),
                Ok(_) => None,
                Err(error) if is_missing_program(&error) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(Some(content))
    }

    fn has(&self, path: &str, top: &str) -> bool {
        path.strip_prefix(&format!("{top}/")).is_some_and(|path| self.files.contains_key(path))
    }

    /// Whether a file is there with this content.
    pub(crate) fn has_content(&self, wanted: &Wanted) -> bool {
        self.files.get(&wanted.path).is_some_and(|seen| seen.sha256 == wanted.sha256)
    }

    /// Whether a file has the mode and owner that are wanted, as far as that can be seen.
    pub(crate) fn has_attributes(&self, wanted: &Wanted, input: &Input) -> bool {
        let Some(seen) = self.files.get(&wanted.path) else { return false };
        seen.attributes.is_none_or(|(mode, owner, group)| {
            mode == wanted.mode && input.owner.is_none_or(|id| id == owner) && input.group.is_none_or(|id| id == group)
        })
    }

    /// Files that an earlier seed of this name put there, and that are not wanted any more.
    pub(crate) fn extra(&self, set: &Set) -> Vec<String> {
        let listed = read_sums(self.marker.as_deref().unwrap_or_default());
        listed
            .into_iter()
            .map(|(path, _)| path)
            .filter(|path| !set.0.iter().any(|wanted| wanted.path == *path))
            .collect()
    }

    /// Whether all is as it should be.
    pub(crate) fn is_right(&self, set: &Set, input: &Input) -> bool {
        set.0.iter().all(|wanted| self.has_content(wanted) && self.has_attributes(wanted, input))
            && self.extra(set).is_empty()
    }
}

/// Lines of `sha256sum`: path and sum.
fn read_sums(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (sum, path) = line.split_once([' ', '\t'])?;
        // The second character says how it was read: text or binary.
        let path = path.strip_prefix([' ', '*']).unwrap_or(path);
        let sum = sum.to_ascii_lowercase();
        (sum.bytes().all(|b| b.is_ascii_hexdigit()) && !path.is_empty()).then(|| (path.to_owned(), sum))
    };
    text.lines().filter_map(line).collect()
}

/// Lines of `stat -c '%a %u %g %n'`: path, and mode, owner, group.
fn read_stats(text: &str) -> Vec<(String, (u32, u32, u32))> {
    let line = |line: &str| {
        let mut parts = line.splitn(4, ' ');
        let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
        let (owner, group) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((parts.next()?.to_owned(), (mode, owner, group)))
    };
    text.lines().filter_map(line).collect()
}

/// What sha256sum complains of, beside files that are not there, keeps from knowing.
fn check_errors(said: &Said) -> Result<()> {
    let text = said.stderr_text();
    let harmless =
        |line: &str| line.contains("No such file") || line.contains("Not a directory") || line.trim().is_empty();
    match text.lines().find(|line| !harmless(line)) {
        Some(line) => fail!("cannot read the volume: {line}"),
        None => Ok(()),
    }
}

fn lacks_program(said: &Said) -> bool {
    matches!(said.code(), Some(126 | 127))
}

/// What container runtimes say where the program is not in the image.
fn is_missing_program(error: &Error) -> bool {
    let text = error.message();
    ["executable file not found", "no such file or directory", "not found in $PATH"]
        .iter()
        .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::tests::{input, set};

    type Line<'a> = (&'a str, &'a str, Option<(u32, u32, u32)>);

    fn content(files: &[Line<'_>]) -> Content {
        let files = files
            .iter()
            .map(|&(path, sha256, attributes)| (path.to_owned(), Seen { sha256: sha256.to_owned(), attributes }));
        Content { files: files.collect(), marker: None }
    }

    #[test]
    fn outputs_are_read() {
        let sums = read_sums("AB  /data/a b.mp3\ncd */data/c\nnonsense\nzz  /x\n");
        assert_eq!(sums, [("/data/a b.mp3".into(), "ab".into()), ("/data/c".into(), "cd".into())]);
        assert_eq!(read_stats("644 1000 33 /data/a b\n4755 0 0 /c\nx\n")[0], ("/data/a b".into(), (0o644, 1000, 33)));
        assert_eq!(read_stats("4755 0 0 /c\n")[0].1.0, 0o4755);
    }

    #[test]
    fn what_differs_is_found() {
        let set = set(&[("a", "11"), ("b", "22")]);
        let plain = input(json!({}));
        let good = content(&[("a", "11", Some((0o644, 0, 0))), ("b", "22", None)]);
        assert!(good.is_right(&set, &plain));
        assert!(!good.is_right(&set, &input(json!({ "owner": 33 }))));
        assert!(!content(&[("a", "11", None)]).is_right(&set, &plain));
        assert!(!content(&[("a", "12", None), ("b", "22", None)]).is_right(&set, &plain));
        assert!(!content(&[("a", "11", Some((0o600, 0, 0))), ("b", "22", None)]).is_right(&set, &plain));
    }

    #[test]
    fn only_what_was_seeded_before_is_extra() {
        let set = set(&[("a", "11")]);
        let mut content = content(&[("a", "11", None)]);
        assert!(content.extra(&set).is_empty());
        content.marker = Some("11  a\n22  old/b\n".into());
        assert_eq!(content.extra(&set), ["old/b"]);
    }

    #[test]
    fn a_missing_program_is_known() {
        let error =
            Error::failed("run sha256sum in Pod a/b: exec: \"sha256sum\": executable file not found in $PATH: unknown");
        assert!(is_missing_program(&error));
        assert!(!is_missing_program(&Error::failed("container not found (\"nginx\")")));
    }
}
