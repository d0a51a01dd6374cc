//! What is to be done, and doing it.

use std::collections::{BTreeMap, BTreeSet};

use runbook_sdk::Condition;
use runbook_sdk::prelude::*;

use crate::input::{Input, Output};
use crate::look::Content;
use crate::pod;
use crate::users::{self, Users};
use crate::wanted::{Set, Wanted};

/// How long the seeding pod may take to start: an image may have to be pulled.
const STARTS: Period = Period::minutes(5);
/// How long a pod may take to go.
const GONE: Period = Period::minutes(2);
/// Paths in one command: they go into a URL.
const BATCH: usize = 40;

/// Folders that are missing, the outer ones first: OWNER FOLDER...
const MAKE_FOLDERS: &str = r#"set -eu; owner=$1; shift
for d; do [ -d "$d" ] || { mkdir "$d"; [ -z "$owner" ] || chown "$owner" "$d"; chmod 755 "$d"; }; done"#;
/// MODE OWNER FILE... (changing the owner takes mode bits away, so it comes first)
const SET_ATTRIBUTES: &str = r#"set -eu; mode=$1 owner=$2; shift 2
for f; do [ -z "$owner" ] || chown "$owner" "$f"; chmod "$mode" "$f"; done"#;
/// FILE SIZE: its content comes on standard input.
const WRITE_MARKER: &str = r#"set -eu; cat >"$1.new"
[ "$(wc -c <"$1.new")" -eq "$2" ] || { rm -f "$1.new"; echo "the marker did not arrive whole" >&2; exit 1; }
chmod 644 "$1.new"; mv -f "$1.new" "$1"; sync"#;

/// Puts the files into the volume, where they are not there already.
///
/// # Errors
///
/// Why they cannot be put there; what is in the volume then has no marker.
pub(crate) fn converge(input: Input) -> Result<Output> {
    let cluster = Cluster::target()?;
    let set = Set::collect(&input)?;
    let claim = claim(&cluster, &input)?;
    let users = look_for_users(&cluster, &input)?;
    let seen = look(&cluster, &users, &input, &set)?;
    let right = match &seen {
        // What is too much is only seen from the seeding pod; the record says whether it was looked for.
        Some(content) => content.is_right(&set, &input) && (!input.remove_extra || is_recorded(&claim, &input, &set)),
        // Nobody has it mounted: what the last seed wrote on the claim is all that can be known without a pod.
        None => is_recorded(&claim, &input, &set),
    };
    if !right {
        fill(&cluster, &input, &set, &claim, &users, seen)?;
    }
    Ok(Output { files: set.0.len(), bytes: set.bytes(), changed: !right })
}

/// The claim, which must be there.
pub(crate) fn claim(cluster: &Cluster, input: &Input) -> Result<Value> {
    let object = ObjectRef::new("PersistentVolumeClaim", &input.claim).namespace(&input.namespace);
    let live: Option<Value> = cluster.get(&object)?;
    live.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no claim {}: check `namespace` and `claim`", input.key()))
    })
}

/// The pods that use the claim.
pub(crate) fn look_for_users(cluster: &Cluster, input: &Input) -> Result<Users> {
    let pods: Vec<Value> = cluster.list(&Selector::new("Pod").namespace(&input.namespace))?;
    Ok(Users::of(&pods, &input.claim, &pod::reference(input).name))
}

/// What is in the volume, through the first container that can tell.
pub(crate) fn look(cluster: &Cluster, users: &Users, input: &Input, set: &Set) -> Result<Option<Content>> {
    for window in &users.windows {
        match Content::through(cluster, window, input, set) {
            Ok(Some(content)) => return Ok(Some(content)),
            Ok(None) => info!("{} ({}) has no sha256sum to look with", window.pod, window.container),
            // It may just be ending; another one may tell.
            Err(error) if matches!(error.kind(), Kind::Failed | Kind::NotFound) => {
                info!("could not look through {}: {error}", window.pod);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether the claim says that the same files were put there.
pub(crate) fn is_recorded(claim: &Value, input: &Input, set: &Set) -> bool {
    claim["status"]["phase"] == "Bound"
        && claim["metadata"]["annotations"][input.record()].as_str() == Some(set.record(input).as_str())
}

fn fill(
    cluster: &Cluster,
    input: &Input,
    set: &Set,
    claim: &Value,
    users: &Users,
    seen: Option<Content>,
) -> Result<()> {
    let node = users::node(&input.key(), claim, users)?;
    check_namespace(cluster, input)?;
    // In a plan there is no pod to look through: what a user of the volume showed, or nothing.
    let content = match start(cluster, input, set, node.as_deref())? {
        Some(content) => content,
        None => seen.unwrap_or_default(),
    };
    let todo = Todo::of(&content, set, input);
    todo.carry_out(cluster, input)?;
    // The marker says nothing of modes and owners.
    if todo.is_more_than_attributes() || !is_recorded(claim, input, set) {
        finish(cluster, input, set)?;
    }
    Ok(())
}

fn check_namespace(cluster: &Cluster, input: &Input) -> Result<()> {
    let object = ObjectRef::new("Namespace", &input.namespace);
    let Some(live): Option<Value> = cluster.get(&object)? else { invalid!("namespace: there is no {object}") };
    if live["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted" {
        conflict!(
            "{object} admits no pod that runs as root (pod-security.kubernetes.io/enforce: restricted), and without that owners \
             cannot be set: set the label to baseline for the time of the seeding"
        );
    }
    Ok(())
}

/// Starts the seeding pod, and looks through it. None in a plan.
fn start(cluster: &Cluster, input: &Input, set: &Set, node: Option<&str>) -> Result<Option<Content>> {
    let object = pod::reference(input);
    let left: Option<Value> = cluster.get(&object)?;
    if let Some(left) = left {
        let uid = left["metadata"]["uid"].as_str().unwrap_or_default();
        let what = format!("delete {object}, left from an interrupted seeding");
        cluster.delete(&object).uid(uid).grace(0).summary(what).repeats().run()?;
        cluster.wait(&object, &Condition::Absent, GONE)?;
    }
    // However the step ends.
    cluster.delete(&object).grace(0).summary(format!("delete {object}")).repeats().at_step_end().run()?;
    let manifest = pod::manifest(input, node);
    cluster.apply(&manifest)?.summary(format!("start {object} to fill the volume")).repeats().run()?;
    let ready = Condition::Status("Ready".into(), "True".into());
    let ready = cluster.wait(&object, &ready, STARTS.min(input.timeout)).if_known();
    let ready =
        ready.context(format!("the seeding pod did not start (image {}, claim {})", input.image, input.key()))?;
    if ready.is_none() {
        return Ok(None);
    }
    match Content::through(cluster, &pod::window(input), input, set)? {
        Some(content) => Ok(Some(content)),
        None => fail!("image: {} has no sha256sum: take one with busybox or coreutils", input.image),
    }
}

/// What differs.
#[derive(Debug, Default)]
struct Todo<'a> {
    folders: Vec<String>,
    copies: Vec<&'a Wanted>,
    /// Files by the mode that they are to get.
    attributes: BTreeMap<u32, Vec<String>>,
    extra: Vec<String>,
}

impl<'a> Todo<'a> {
    fn of(content: &Content, set: &'a Set, input: &Input) -> Self {
        let mut todo = Self { extra: content.extra(set), ..Self::default() };
        let mut folders = BTreeSet::new();
        for wanted in &set.0 {
            let same = content.has_content(wanted);
            if !same {
                todo.copies.push(wanted);
                folders.extend(wanted.path.match_indices('/').map(|(end, _)| wanted.path[..end].to_owned()));
            }
            if !same || !content.has_attributes(wanted, input) {
                todo.attributes.entry(wanted.mode).or_default().push(wanted.path.clone());
            }
        }
        // A folder sorts before what is in it.
        todo.folders = folders.into_iter().collect();
        todo
    }

    fn is_more_than_attributes(&self) -> bool {
        !self.copies.is_empty() || !self.extra.is_empty()
    }

    fn carry_out(&self, cluster: &Cluster, input: &Input) -> Result<()> {
        let owner = owner(input);
        for folders in self.folders.chunks(BATCH) {
            script(cluster, input, MAKE_FOLDERS, &[&owner], folders, "make the folders of the files")?;
        }
        let total = self.copies.iter().map(|wanted| wanted.size).sum();
        let mut done = 0;
        for wanted in &self.copies {
            run::progress(&format!("copy {}", wanted.path), done, Some(total), "bytes");
            let Some(source) = &wanted.source else { fail!("{} has no source", wanted.path) };
            let path = format!("{}/{}", pod::TOP, wanted.path);
            let copy = cluster.copy_in(source, &pod::reference(input), Some(pod::CONTAINER), &path);
            copy.summary(format!("copy {} into the volume ({} bytes)", wanted.path, wanted.size)).run()?;
            done += wanted.size;
        }
        for (mode, paths) in &self.attributes {
            for paths in paths.chunks(BATCH) {
                let mode = format!("{mode:o}");
                let what = format!("set mode {mode} and owner of {} files", paths.len());
                script(cluster, input, SET_ATTRIBUTES, &[&mode, &owner], paths, &what)?;
            }
        }
        for path in &self.extra {
            remove(cluster, input, path)?;
        }
        Ok(())
    }
}

/// As `chown` takes it; empty: left as it is.
fn owner(input: &Input) -> String {
    match (input.owner, input.group) {
        (None, None) => String::new(),
        (owner, None) => owner.map_or_else(String::new, |id| id.to_string()),
        (owner, Some(group)) => format!("{}:{group}", owner.map_or_else(String::new, |id| id.to_string())),
    }
}

fn script(cluster: &Cluster, input: &Input, text: &str, first: &[&str], paths: &[String], what: &str) -> Result<()> {
    let paths = paths.iter().map(|path| format!("{}/{path}", pod::TOP));
    let argv = ["sh", "-c", text, "sh"].into_iter().chain(first.iter().copied()).map(str::to_owned).chain(paths);
    let exec = cluster.exec(&pod::reference(input), argv).container(pod::CONTAINER);
    // Folders, and the attributes of files whose content is put back: what an undo leaves of them is in nobody's way.
    let _ran = exec.change(what).harmless().run()?;
    Ok(())
}

/// One at a time: what became of it can then be seen when nobody heard how it ended.
fn remove(cluster: &Cluster, input: &Input, path: &str) -> Result<()> {
    let file = format!("{}/{path}", pod::TOP);
    let exec = cluster.exec(&pod::reference(input), ["rm", "-f", &file]).container(pod::CONTAINER);
    let change = exec.change(format!("remove {path}, seeded earlier and not wanted any more"));
    let by_hand = format!("{path} had been put into {} by an earlier seed: seed it again", input.key());
    let _ran = change.done_when(["test", "!", "-e", &file]).undo_by_hand(by_hand).run()?;
    Ok(())
}

/// The marker comes last in the volume, and after it the record on the claim.
fn finish(cluster: &Cluster, input: &Input, set: &Set) -> Result<()> {
    let marker = set.marker();
    let path = format!("{}/{}", pod::TOP, input.marker());
    let argv = ["sh", "-c", WRITE_MARKER, "sh", &path, &marker.len().to_string()].map(str::to_owned);
    let write = cluster.exec(&pod::reference(input), argv).container(pod::CONTAINER).stdin(marker);
    // It says what a later seed may remove. One that is left by an undo says too much: what it names is gone.
    let _written = write.change(format!("write the marker {}", input.marker())).harmless().run()?;
    let object = ObjectRef::new("PersistentVolumeClaim", &input.claim).namespace(&input.namespace);
    let patch = json!({ "metadata": { "annotations": { input.record(): set.record(input) } } });
    cluster.patch_merge(&object, &patch).summary(format!("note on {object} what was put into it")).run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::look::Seen;
    use crate::wanted::tests::{input, set};

    #[test]
    fn only_what_differs_is_done() {
        let set = set(&[("a", "11"), ("x/y/b", "22"), ("x/c", "33")]);
        let mut content = Content::default();
        content.files.insert("a".into(), Seen { sha256: "11".into(), attributes: Some((0o600, 0, 0)) });
        content.files.insert("x/c".into(), Seen { sha256: "33".into(), attributes: Some((0o644, 0, 0)) });
        let todo = Todo::of(&content, &set, &input(json!({})));
        assert_eq!(todo.folders, ["x", "x/y"]);
        assert_eq!(todo.copies.iter().map(|wanted| wanted.path.as_str()).collect::<Vec<_>>(), ["x/y/b"]);
        assert_eq!(todo.attributes, BTreeMap::from([(0o644, vec!["a".to_owned(), "x/y/b".to_owned()])]));
        assert!(todo.is_more_than_attributes());
    }

    #[test]
    fn owners_are_written_as_chown_takes_them() {
        let owner = |more: Value| owner(&input(more));
        assert_eq!(owner(json!({})), "");
        assert_eq!(owner(json!({ "owner": 33 })), "33");
        assert_eq!(owner(json!({ "group": 0 })), ":0");
        assert_eq!(owner(json!({ "owner": 1000, "group": 33 })), "1000:33");
    }

    #[test]
    fn the_record_counts_only_on_a_bound_claim() {
        let (set, input) = (set(&[("a", "11")]), input(json!({})));
        let claim = |phase: &str, record: &str| json!({ "metadata": { "annotations": { "runbook/seed-files": record } }, "status": { "phase": phase } });
        assert!(is_recorded(&claim("Bound", &set.record(&input)), &input, &set));
        assert!(!is_recorded(&claim("Pending", &set.record(&input)), &input, &set));
        assert!(!is_recorded(&claim("Bound", "other"), &input, &set));
        assert!(!is_recorded(&json!({ "status": { "phase": "Bound" } }), &input, &set));
    }
}
