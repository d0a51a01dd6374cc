use super::*;
use crate::bytes::Bytes;
use crate::call::{CallError, Output, Text, Verdict};
use crate::delta::sha256;

const OK: Response = Ok(Answer::Verdict(Verdict::Changed));

fn stat(kind: FileKind, mode: u32) -> Stat {
    Stat { kind, size: 3, mode, owner: "root".into(), group: "adm".into(), link_target: None }
}

fn file(content: &str, mode: Option<u32>) -> FileWant {
    let attributes = Attributes { mode, ..Attributes::default() };
    FileWant::File { content: Content::Text(Text::plain(content)), attributes, validate: Vec::new() }
}

fn take_back(want: FileWant, prior: FilePrior) -> Inverse {
    let act = Act::Files(FilesAct { path: "/a/b/c".into(), want });
    inverse(&Target::Controller, &Change { act, effect: Effect::default() }, &Prior::File(prior), &OK)
}

fn wanted(content: &str) -> Option<String> {
    Some(sha256(content.as_bytes()))
}

#[test]
fn what_was_made_where_nothing_was_goes_with_the_parents_that_were_made_for_it() {
    let directory = FileWant::Directory { attributes: Attributes::default() };
    let Inverse::Files { acts, left } = take_back(directory, FilePrior { missing_parents: 1, ..FilePrior::default() })
    else {
        panic!("files")
    };
    assert_eq!(left, Left::Directory);
    let paths: Vec<_> = acts.iter().map(|act| (act.path.as_str(), &act.want)).collect();
    assert_eq!(paths, [("/a/b/c", &FileWant::AbsentIfEmpty), ("/a/b", &FileWant::AbsentIfEmpty)]);

    let made = FilePrior { wanted_sha256: wanted("new"), ..FilePrior::default() };
    let Inverse::Files { acts, left } = take_back(file("new", Some(0o600)), made) else { panic!("files") };
    assert_eq!(acts[0].want, FileWant::Absent);
    assert_eq!(left, Left::File { sha256: sha256(b"new"), mode: Some(0o600) });
}

#[test]
fn what_was_there_is_put_back_with_mode_and_owner() {
    let attributes = Attributes { mode: Some(0o640), owner: Some("root".to_owned()), group: Some("adm".to_owned()) };
    let before = FilePrior {
        stat: Some(stat(FileKind::File, 0o640)),
        sha256: wanted("old"),
        content: Some(Bytes::from("old")),
        wanted_sha256: wanted("new"),
        ..FilePrior::default()
    };
    let Inverse::Files { acts, .. } = take_back(file("new", None), before.clone()) else { panic!("files") };
    let content = Content::Bytes(Bytes::from("old"));
    assert_eq!(acts[0].want, FileWant::File { content, attributes: attributes.clone(), validate: Vec::new() });

    // Only the mode was changed.
    let same = FilePrior { content: None, wanted_sha256: wanted("old"), ..before.clone() };
    let Inverse::Files { acts, .. } = take_back(file("old", Some(0o600)), same) else { panic!("files") };
    assert!(matches!(&acts[0].want, FileWant::File { content: Content::CopyOf(source), attributes: a, .. }
        if source.path == "/a/b/c" && source.sha256 == sha256(b"old") && *a == attributes));

    // What was too large to be kept is for a person.
    let large = FilePrior { content: None, ..before };
    assert!(matches!(take_back(file("new", None), large), Inverse::ByHand(text) if text.contains("backup")));
}

#[test]
fn links_directories_and_special_files() {
    let link = Stat { link_target: Some("/old".into()), ..stat(FileKind::Link, 0o777) };
    let prior = FilePrior { stat: Some(link), ..FilePrior::default() };
    let Inverse::Files { acts, left } = take_back(FileWant::Link { target: "/new".into() }, prior) else { panic!() };
    assert_eq!((&acts[0].want, left), (&FileWant::Link { target: "/old".into() }, Left::Link("/new".into())));

    let tree = |content| FilePrior { stat: Some(stat(FileKind::Directory, 0o755)), content, ..FilePrior::default() };
    let Inverse::Files { acts, .. } = take_back(FileWant::Absent, tree(Some(Bytes::from("tar")))) else { panic!() };
    assert_eq!(acts[0].want, FileWant::Tree { archive: Bytes::from("tar") });
    assert!(matches!(take_back(FileWant::Absent, tree(None)), Inverse::ByHand(_)));
    let special = FilePrior { stat: Some(stat(FileKind::Other, 0o600)), ..FilePrior::default() };
    assert!(matches!(take_back(FileWant::Absent, special), Inverse::ByHand(_)));
}

#[test]
fn a_path_is_compared_with_what_was_left_there() {
    let left = Left::File { sha256: sha256(b"new"), mode: Some(0o644) };
    let undo = FilesAct { path: "/x".into(), want: file("old", Some(0o644)) };
    let now = |content: &str, mode| FilePrior {
        stat: Some(stat(FileKind::File, mode)),
        sha256: wanted(content),
        wanted_sha256: wanted("old"),
        ..FilePrior::default()
    };
    assert_eq!(compare(&left, &undo, &now("new", 0o644)), Now::AsLeft);
    assert_eq!(compare(&left, &undo, &now("old", 0o644)), Now::Back);
    for other in [now("mine", 0o644), now("new", 0o600), FilePrior::default()] {
        assert!(matches!(compare(&left, &undo, &other), Now::Other(text) if text.contains("/x is not as it was left")));
    }
}

fn run(undo: Undo, done_when: Option<&str>, response: &Response) -> Inverse {
    let command = |argv: &str| Command { argv: argv.split(' ').map(str::to_owned).collect(), ..Command::default() };
    let act = Act::Ssh(SshAct::Run {
        pipeline: vec![command("zpool create tank")],
        done_when: done_when.map(|argv| Box::new(command(argv))),
        undo,
    });
    let effect = Effect { summary: "make the pool".into(), ..Effect::default() };
    inverse(&Target::Machine("n".into()), &Change { act, effect }, &Prior::None, response)
}

fn ended(code: i32) -> Response {
    let (exit, stdout, stderr) = (Exit::Code(code), Bytes::default(), Bytes::default());
    Ok(Answer::Outcome(Outcome::Done(Output { exit, stdout, stderr })))
}

#[test]
fn commands_are_taken_back_as_they_said() {
    assert!(matches!(run(Undo::Harmless, None, &ended(0)), Inverse::Nothing(_)));
    assert!(matches!(run(Undo::Irreversible("gone".into()), None, &ended(0)), Inverse::Irreversible(_)));
    assert_eq!(run(Undo::ByHand("call me".into()), None, &ended(0)), Inverse::ByHand("call me".into()));
    assert!(
        matches!(run(Undo::ByHand(String::new()), None, &ended(0)), Inverse::ByHand(t) if t.contains("make the pool"))
    );
    let destroy = || Undo::Inverse {
        command: Box::new(Command { argv: vec!["zpool".into(), "destroy".into()], ..Command::default() }),
        only_if: None,
    };
    let Inverse::Command { act: SshAct::Run { pipeline, undo, .. }, unless_undone: None, .. } =
        run(destroy(), Some("test -d /tank"), &ended(0))
    else {
        panic!("a command")
    };
    assert_eq!(pipeline[0].argv, ["zpool", "destroy"]);
    assert!(matches!(undo, Undo::Inverse { command, .. } if command.argv[1] == "create"), "an undo can be undone");
    // It failed: whether there is anything to take back, its own condition says.
    let failed = run(destroy(), Some("test -d /tank"), &ended(1));
    assert!(matches!(failed, Inverse::Command { unless_undone: Some(_), .. }));
    for nothing in [CallError::Denied(String::new()), CallError::Invalid(String::new())] {
        assert!(matches!(run(destroy(), None, &Err(nothing)), Inverse::Nothing(_)));
    }
    assert!(matches!(run(destroy(), None, &Err(CallError::TimedOut(String::new()))), Inverse::Command { .. }));
}
