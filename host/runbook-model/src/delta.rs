//! From a change and what it would meet: whether anything differs, and what, in a person's words.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use similar::TextDiff;

use crate::call::{
    Act, Attributes, Call, Change, Content, FileKind, FilePrior, FileWant, FilesAct, KubeAct, ObjectRef, Prior,
    Request, SshAct, Stat, Text, TextPart,
};
use crate::event::Diff;
use crate::overlay;
use crate::redact;

/// Bytes: no diff is made of texts larger than this.
const LARGEST_DIFF: usize = 256 << 10;

/// What the change would alter; none: it is so already.
///
/// `prior` holds no secret: it was redacted, as the wanted content is here.
pub fn delta(change: &Change, prior: &Prior) -> Option<Diff> {
    match (&change.act, prior) {
        (Act::Files(act), Prior::File(prior)) => files(act, prior),
        (_, Prior::DoneWhen(true) | Prior::Process { done: Some(true), .. }) => None,
        (Act::Kube(act), Prior::PodFile { sha256, content: None })
            if pod_file_wanted(act).is_some_and(|it| it == *sha256) =>
        {
            None
        }
        (Act::Kube(act), Prior::Object { live, would }) => {
            kube(&change.effect.summary, act, live.as_ref(), would.as_ref())
        }
        (act @ (Act::Ssh(_) | Act::Files(_) | Act::Kube(_)), _) => {
            Some(Diff { summary: describe(&change.effect.summary, act), text: None })
        }
    }
}

/// The content that is wanted, as a person may see it: secrets as tokens. None for content that lies elsewhere.
pub fn visible(content: &Content) -> Option<Vec<u8>> {
    match content {
        Content::Bytes(bytes) => Some(bytes.0.clone()),
        Content::Text(text) => Some(visible_text(text).into_bytes()),
        Content::CopyOf(_) => None,
    }
}

/// A text with secrets as tokens.
pub fn visible_text(text: &Text) -> String {
    text.0.iter().fold(String::new(), |mut out, part| {
        match part {
            TextPart::Plain(plain) => out.push_str(plain),
            TextPart::Secret(name) => out.push_str(&redact::token(name)),
        }
        out
    })
}

/// Lower-case hex of the SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What a change would do, in one line; empty for what is no change.
pub fn summary(request: &Request) -> String {
    match &request.call {
        Call::Change(change) => describe(&change.effect.summary, &change.act),
        Call::Look(_) | Call::Note(_) => String::new(),
    }
}

fn describe(summary: &str, act: &Act) -> String {
    if !summary.is_empty() {
        return summary.to_owned();
    }
    match act {
        Act::Ssh(SshAct::Run { pipeline, .. }) => {
            let commands: Vec<String> = pipeline.iter().map(|command| command.argv.join(" ")).collect();
            format!("run {}", commands.join(" | "))
        }
        Act::Ssh(SshAct::Confirm { commit, .. }) => format!("run {}, to be confirmed", commit.argv.join(" ")),
        Act::Ssh(SshAct::Reboot { .. }) => "reboot".to_owned(),
        Act::Ssh(SshAct::Http { request, .. }) => format!("{} {}", request.method, request.url),
        Act::Files(act) => format!("write {}", act.path),
        Act::Kube(act) => kube_summary(act),
    }
}

fn files(act: &FilesAct, prior: &FilePrior) -> Option<Diff> {
    let path = &act.path;
    let stat = prior.stat.as_ref();
    match &act.want {
        FileWant::File { content, attributes, .. } => {
            let Some(stat) = stat.filter(|stat| stat.kind == FileKind::File) else {
                let what = match stat {
                    Some(stat) => format!("replace the {} {path} by a file", kind(stat.kind)),
                    None => format!("create {path}"),
                };
                return Some(Diff { summary: what, text: text_diff(path, None, content) });
            };
            let attributes = attribute_changes(attributes, stat, prior);
            if prior.sha256.is_some() && prior.sha256 == prior.wanted_sha256 {
                return attributes.map(|what| Diff { summary: format!("set {what} of {path}"), text: None });
            }
            let mut summary = format!("update {path}");
            if let Some(what) = attributes {
                let _ = write!(summary, " ({what})");
            }
            Some(Diff { summary, text: text_diff(path, prior.content.as_ref().map(|c| c.0.as_slice()), content) })
        }
        FileWant::Directory { attributes } => match stat {
            Some(stat) if stat.kind == FileKind::Directory => attribute_changes(attributes, stat, prior)
                .map(|what| Diff { summary: format!("set {what} of {path}"), text: None }),
            Some(stat) => {
                Some(Diff { summary: format!("replace the {} {path} by a directory", kind(stat.kind)), text: None })
            }
            None => Some(Diff { summary: format!("create directory {path}"), text: None }),
        },
        FileWant::Link { target } => match stat {
            Some(stat) if stat.link_target.as_deref() == Some(target) => None,
            Some(stat) => Some(Diff {
                summary: match &stat.link_target {
                    Some(old) => format!("point {path} to {target} (was {old})"),
                    None => format!("replace the {} {path} by a link to {target}", kind(stat.kind)),
                },
                text: None,
            }),
            None => Some(Diff { summary: format!("link {path} to {target}"), text: None }),
        },
        FileWant::Tree { .. } => match stat {
            Some(_) => None,
            None => Some(Diff { summary: format!("put the directory {path} back"), text: None }),
        },
        FileWant::Absent | FileWant::AbsentIfEmpty => {
            stat.map(|stat| Diff { summary: format!("remove the {} {path}", kind(stat.kind)), text: None })
        }
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Link => "link",
        FileKind::Other => "special file",
    }
}

fn attribute_changes(wanted: &Attributes, stat: &Stat, prior: &FilePrior) -> Option<String> {
    let same_name = |wanted: &str, is: &str, sort: &str| {
        wanted == is || prior.ids.get(&format!("{sort}:{wanted}")).is_some_and(|id| id == is)
    };
    let mut parts = Vec::new();
    if let Some(mode) = wanted.mode.filter(|mode| *mode != stat.mode) {
        parts.push(format!("mode {:04o} -> {mode:04o}", stat.mode));
    }
    if let Some(owner) = wanted.owner.as_ref().filter(|owner| !same_name(owner, &stat.owner, "user")) {
        parts.push(format!("owner {} -> {owner}", stat.owner));
    }
    if let Some(group) = wanted.group.as_ref().filter(|group| !same_name(group, &stat.group, "group")) {
        parts.push(format!("group {} -> {group}", stat.group));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn text_diff(path: &str, before: Option<&[u8]>, wanted: &Content) -> Option<String> {
    let after = visible(wanted)?;
    let before = std::str::from_utf8(before.unwrap_or_default()).ok()?;
    let after = std::str::from_utf8(&after).ok()?;
    unified(path, before, after)
}

fn unified(name: &str, before: &str, after: &str) -> Option<String> {
    if before.len().max(after.len()) > LARGEST_DIFF || before == after || after.contains('\0') {
        return None;
    }
    let diff = TextDiff::from_lines(before, after);
    Some(diff.unified_diff().context_radius(2).header(name, name).to_string())
}

fn kube_summary(act: &KubeAct) -> String {
    match act {
        KubeAct::Apply { manifest, .. } => {
            let object = ObjectRef::of(manifest).map_or_else(|_| "an object".to_owned(), |o| o.to_string());
            format!("apply {object}")
        }
        KubeAct::Patch { object, subresource, .. } => match subresource {
            Some(subresource) => format!("patch {subresource} of {object}"),
            None => format!("patch {object}"),
        },
        KubeAct::Delete { object, .. } => format!("delete {object}"),
        KubeAct::Scale { object, replicas } => format!("scale {object} to {replicas}"),
        KubeAct::Evict { pod, .. } => format!("evict {pod}"),
        KubeAct::Exec { pod, argv, .. } => format!("run {} in {pod}", argv.join(" ")),
        KubeAct::CopyIn { pod, path, source, .. } => format!("copy {} bytes to {path} in {pod}", source.size),
        KubeAct::PutBack { pod, path, before: Some(_), .. } => format!("put {path} in {pod} back"),
        KubeAct::PutBack { pod, path, before: None, .. } => format!("remove {path} in {pod}"),
    }
}

/// SHA-256 of what a file of a pod is to contain (none: it is to be gone); none of both: the change is of something else.
pub fn pod_file_wanted(act: &KubeAct) -> Option<Option<String>> {
    match act {
        KubeAct::CopyIn { source, .. } => Some(Some(source.sha256.clone())),
        KubeAct::PutBack { before, .. } => Some(before.as_ref().map(|bytes| sha256(&bytes.0))),
        KubeAct::Apply { .. }
        | KubeAct::Patch { .. }
        | KubeAct::Delete { .. }
        | KubeAct::Scale { .. }
        | KubeAct::Evict { .. }
        | KubeAct::Exec { .. } => None,
    }
}

fn kube(said: &str, act: &KubeAct, live: Option<&Value>, would: Option<&Value>) -> Option<Diff> {
    let before = live.map(comparable);
    let after = would.map(comparable);
    if before == after {
        return None;
    }
    let summary = match (said, live) {
        ("", None) => kube_summary(act).replacen("apply", "create", 1),
        ("", Some(_)) => kube_summary(act),
        (said, _) => said.to_owned(),
    };
    let yaml = |value: &Option<Value>, other: &Option<Value>, word: &str| {
        let shown = value.as_ref().map(|value| shown(value, other.as_ref(), word));
        shown.and_then(|value| serde_yaml_ng::to_string(&value).ok()).unwrap_or_default()
    };
    let text = match act {
        KubeAct::Delete { .. } | KubeAct::Evict { .. } => None,
        KubeAct::Apply { .. }
        | KubeAct::Patch { .. }
        | KubeAct::Scale { .. }
        | KubeAct::Exec { .. }
        | KubeAct::CopyIn { .. }
        | KubeAct::PutBack { .. } => {
            unified("object", &yaml(&before, &after, "before"), &yaml(&after, &before, "after"))
        }
    };
    Some(Diff { summary, text })
}

/// An object without the fields that the API server changes by itself.
pub fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
        map.remove(overlay::PLANNED);
        if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"] {
                metadata.remove(field);
            }
        }
    }
    object
}

/// An object as it is shown: a Secret's data is nobody's to read in a diff, whether it differs is. What kubectl noted of its last
/// `apply` is the whole object once more, a Secret's data included. `word` marks the values that differ from `other`.
fn shown(object: &Value, other: Option<&Value>, word: &str) -> Value {
    let mut object = object.clone();
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        if annotations.is_empty()
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("annotations");
        }
    }
    if object.get("kind").and_then(Value::as_str) == Some("Secret") {
        for field in ["data", "stringData"] {
            let Some(data) = object.get_mut(field).and_then(Value::as_object_mut) else { continue };
            for (key, value) in data {
                let same = other.and_then(|other| other.get(field)).and_then(|data| data.get(key)) == Some(value);
                *value = Value::String(if same { "(hidden)".to_owned() } else { format!("(hidden, {word})") });
            }
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;
    use crate::call::Effect;

    fn file_prior(content: &str, wanted: &str, mode: u32) -> Prior {
        Prior::File(FilePrior {
            stat: Some(Stat {
                kind: FileKind::File,
                size: content.len() as u64,
                mode,
                owner: "root".into(),
                group: "root".into(),
                link_target: None,
            }),
            sha256: Some(sha256(content.as_bytes())),
            content: Some(Bytes::from(content)),
            wanted_sha256: Some(sha256(wanted.as_bytes())),
            ids: [("user:backup".to_owned(), "34".to_owned())].into(),
            missing_parents: 0,
        })
    }

    fn write(content: &str, attributes: Attributes) -> Change {
        Change {
            act: Act::Files(FilesAct {
                path: "/etc/x".into(),
                want: FileWant::File { content: Content::Text(Text::plain(content)), attributes, validate: Vec::new() },
            }),
            effect: Effect::default(),
        }
    }

    #[test]
    fn files_differ_by_content_and_attributes() {
        let same = Attributes { mode: Some(0o644), owner: Some("root".into()), group: None };
        assert_eq!(delta(&write("a\n", same.clone()), &file_prior("a\n", "a\n", 0o644)), None);

        let mode = delta(&write("a\n", same), &file_prior("a\n", "a\n", 0o600)).expect("differs");
        assert_eq!(mode.summary, "set mode 0600 -> 0644 of /etc/x");

        let content = delta(&write("b\n", Attributes::default()), &file_prior("a\n", "b\n", 0o644)).expect("differs");
        assert_eq!(content.summary, "update /etc/x");
        let text = content.text.expect("a text diff");
        assert!(text.contains("-a\n+b\n"), "{text}");
    }

    #[test]
    fn secrets_of_the_wanted_content_are_tokens() {
        let mut change = write("", Attributes::default());
        if let Act::Files(FilesAct { want: FileWant::File { content, .. }, .. }) = &mut change.act {
            *content = Content::Text(Text(vec![TextPart::Plain("pw=".into()), TextPart::Secret("pw".into())]));
        }
        let prior = Prior::File(FilePrior::default());
        let text = delta(&change, &prior).expect("differs").text.expect("a text diff");
        assert!(text.contains("+pw=\u{27E6}secret:pw\u{27E7}"), "{text}");
    }

    #[test]
    fn objects_are_compared_without_what_the_server_changes() {
        let act = KubeAct::Scale {
            object: ObjectRef {
                kind: crate::call::ResourceKind {
                    group: "apps".into(),
                    version: String::new(),
                    kind: "Deployment".into(),
                },
                namespace: Some("a".into()),
                name: "b".into(),
            },
            replicas: 0,
        };
        let change = Change { act: Act::Kube(act), effect: Effect::default() };
        let object = |version: &str, replicas: u32| {
            Some(
                serde_json::json!({"kind": "Deployment", "metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}),
            )
        };
        assert_eq!(delta(&change, &Prior::Object { live: object("1", 2), would: object("2", 2) }), None);
        let diff = delta(&change, &Prior::Object { live: object("1", 2), would: object("2", 0) }).expect("differs");
        assert_eq!(diff.summary, "scale Deployment a/b to 0");
        assert!(diff.text.expect("yaml diff").contains("-  replicas: 2\n+  replicas: 0"));
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let last = r#"{"kind": "Secret", "stringData": {"password": "open sesame"}}"#;
        let object = serde_json::json!({
            "kind": "Secret",
            "metadata": {"name": "a", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": last}},
            "data": {"password": "b3BlbiBzZXNhbWU="},
        });
        let mut other = object.clone();
        other["data"]["user"] = "cm9vdA==".into();
        let text = shown(&object, Some(&other), "before").to_string();
        assert!(text.contains("\"password\":\"(hidden)\""), "{text}");
        other["data"]["password"] = "other".into();
        let text = shown(&object, Some(&other), "before").to_string();
        assert!(!text.contains("sesame") && !text.contains("b3Bl") && !text.contains("annotations"), "{text}");
        assert!(text.contains("\"password\":\"(hidden, "), "{text}");
    }
}
