//! Files, on every kind of machine.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command as Process;

use runbook_engine::backend::Backend as _;
use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Answer, Attributes, CallError, Content, Entry, FileKind, FileWant, FilesAct, FilesLook, SourceRef, Stat, Target,
    Text, TextPart, Verdict,
};
use runbook_model::delta::sha256;

use crate::world::{FLAVOURS, Flavour, World};

fn file(path: &str, content: &str) -> FilesAct {
    with(path, Content::Text(Text::plain(content)), Attributes::default(), &[])
}

fn with(path: &str, content: Content, attributes: Attributes, validate: &[&str]) -> FilesAct {
    let validate = validate.iter().map(|word| (*word).to_owned()).collect();
    FilesAct { path: path.to_owned(), want: FileWant::File { content, attributes, validate } }
}

fn directory(path: &str, mode: Option<u32>) -> FilesAct {
    FilesAct {
        path: path.to_owned(),
        want: FileWant::Directory { attributes: Attributes { mode, ..Attributes::default() } },
    }
}

fn link(path: &str, target: &str) -> FilesAct {
    FilesAct { path: path.to_owned(), want: FileWant::Link { target: target.to_owned() } }
}

fn absent(path: &str) -> FilesAct {
    FilesAct { path: path.to_owned(), want: FileWant::Absent }
}

async fn stat(world: &World, path: &str) -> Result<Option<Stat>, CallError> {
    match world.files(FilesLook::Stat { path: path.to_owned() }).await? {
        Answer::Stat(stat) => Ok(stat),
        other => panic!("{other:?}"),
    }
}

async fn read(world: &World, path: &str, limit: u64) -> Result<Vec<u8>, CallError> {
    match world.files(FilesLook::Read { path: path.to_owned(), limit }).await? {
        Answer::Bytes(bytes) => Ok(bytes.0),
        other => panic!("{other:?}"),
    }
}

async fn list(world: &World, path: &str) -> Result<Vec<Entry>, CallError> {
    match world.files(FilesLook::List { path: path.to_owned() }).await? {
        Answer::Entries(entries) => Ok(entries),
        other => panic!("{other:?}"),
    }
}

async fn source(world: &World, path: &str) -> SourceRef {
    match world.files(FilesLook::Source { path: path.to_owned() }).await.unwrap() {
        Answer::Source(source) => source,
        other => panic!("{other:?}"),
    }
}

/// Nothing is left beside what was written.
fn no_leftovers(directory: &str) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        assert!(!entry.file_name().to_string_lossy().contains(".runbook-"), "left behind: {:?}", entry.path());
    }
}

#[tokio::test]
async fn looks_tell_absent_from_unknown() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let path = world.path("file");
        assert_eq!(stat(&world, &path).await.unwrap(), None, "{flavour:?}");
        assert_eq!(stat(&world, &world.path("no/such/dir")).await.unwrap(), None);
        fs::write(&path, b"content\0\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4640)).unwrap();
        let is = stat(&world, &path).await.unwrap().unwrap();
        assert_eq!((is.kind, is.size, is.mode), (FileKind::File, 9, 0o4640));
        assert_eq!((is.owner.as_str(), is.group.as_str()), ("root", "root"));
        assert_eq!(stat(&world, &format!("{path}/below")).await.unwrap(), None);
        assert_eq!(stat(&world, "/").await.unwrap().unwrap().kind, FileKind::Directory);
        assert_eq!(stat(&world, "/dev/null").await.unwrap().unwrap().kind, FileKind::Other);
        symlink("file", world.path("link")).unwrap();
        symlink("nowhere\n", world.path("dangling")).unwrap();
        assert_eq!(stat(&world, &world.path("link")).await.unwrap().unwrap().link_target.as_deref(), Some("file"));
        let dangling = stat(&world, &world.path("dangling")).await.unwrap().unwrap();
        assert_eq!(dangling.link_target.as_deref(), Some("nowhere\n"));

        assert_eq!(read(&world, &path, 9).await.unwrap(), b"content\0\n");
        assert_eq!(read(&world, &world.path("link"), 100).await.unwrap(), b"content\0\n");
        assert!(matches!(read(&world, &path, 8).await, Err(CallError::Invalid(_))));
        assert!(matches!(read(&world, &world.path("nothing"), 8).await, Err(CallError::NotFound(_))));
        assert!(matches!(read(&world, &world.path("dangling"), 8).await, Err(CallError::NotFound(_))));
        assert!(matches!(read(&world, "/", 8).await, Err(CallError::Invalid(_))));
        assert!(matches!(read(&world, "relative", 8).await, Err(CallError::Invalid(_))));
        assert!(matches!(read(&world, "/etc/../etc/passwd", 8).await, Err(CallError::Denied(_))));
        match world.files(FilesLook::Sha256 { path: path.clone() }).await.unwrap() {
            Answer::Text(hash) => assert_eq!(hash, sha256(b"content\0\n")),
            other => panic!("{other:?}"),
        }
        let source = source(&world, &path).await;
        assert_eq!((source.size, source.sha256), (9, sha256(b"content\0\n")));
        assert!(read(&world, "/proc/version", 10_000).await.unwrap().len() > 20);
    }
}

#[tokio::test]
async fn names_survive_whatever_is_in_them() {
    let names =
        ["-rf", "a b", "new\nline", "it's", "\"q\" $HOME `x` \\", ".hidden", "..dots", "ünï ☃", "*", "{}", "%s\\n"];
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let dir = world.path("names");
        assert_eq!(world.apply(&directory(&dir, None)).await.unwrap(), Verdict::Changed);
        assert_eq!(list(&world, &dir).await.unwrap(), []);
        for name in names {
            let path = format!("{dir}/{name}");
            assert_eq!(world.apply(&file(&path, name)).await.unwrap(), Verdict::Changed, "{flavour:?} {name:?}");
            assert_eq!(fs::read(&path).unwrap(), name.as_bytes());
            assert_eq!(read(&world, &path, 100).await.unwrap(), name.as_bytes());
            assert_eq!(stat(&world, &path).await.unwrap().unwrap().kind, FileKind::File);
        }
        let target = "some\nwhere -n";
        assert_eq!(world.apply(&link(&format!("{dir}/link"), target)).await.unwrap(), Verdict::Changed);
        assert_eq!(world.apply(&link(&format!("{dir}/link"), target)).await.unwrap(), Verdict::Unchanged);
        let entries = list(&world, &dir).await.unwrap();
        let mut expected: Vec<&str> = names.into_iter().chain(["link"]).collect();
        expected.sort_unstable();
        assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), expected);
        let is = &entries.iter().find(|entry| entry.name == "link").unwrap().stat;
        assert_eq!(is.link_target.as_deref(), Some(target));
        for name in expected {
            assert_eq!(world.apply(&absent(&format!("{dir}/{name}"))).await.unwrap(), Verdict::Changed, "{name:?}");
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_file_is_written_whole_with_its_attributes() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let path = world.path("etc.conf");
        let secret = Content::Text(Text(vec![TextPart::Plain("p=".into()), TextPart::Secret("token".into())]));
        let prior = world.prior(&with(&path, secret.clone(), Attributes::default(), &[])).await.unwrap();
        assert_eq!((prior.stat, prior.wanted_sha256), (None, Some(sha256(b"p=s3cr3t-VALUE-77"))));
        assert_eq!(world.apply(&with(&path, secret, Attributes::default(), &[])).await.unwrap(), Verdict::Changed);
        assert_eq!(fs::read(&path).unwrap(), b"p=s3cr3t-VALUE-77");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);

        // What exists keeps its attributes.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        let prior = world.prior(&file(&path, "new")).await.unwrap();
        assert_eq!(prior.content, Some(Bytes::from("p=s3cr3t-VALUE-77")));
        assert_eq!(prior.stat.as_ref().unwrap().owner, "1234");
        assert_eq!(world.apply_with(&file(&path, "new"), prior).await.unwrap(), Verdict::Changed);
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o600, 1234, 4321));

        // Attributes alone: the file is the same one.
        let wanted = Attributes { mode: Some(0o750), owner: Some("daemon".into()), group: Some("0".into()) };
        let act = with(&path, Content::Text(Text::plain("new")), wanted, &[]);
        let inode = meta.ino();
        assert_eq!(world.apply(&act).await.unwrap(), Verdict::Changed);
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.ino()), (0o750, 1, 0, inode));
        assert_eq!(world.apply(&act).await.unwrap(), Verdict::Unchanged);
        let prior = world.prior(&act).await.unwrap();
        assert_eq!(prior.content, None);
        assert_eq!(prior.ids["user:daemon"], "daemon");
        assert_eq!(prior.ids["group:0"], "root");

        // A redacted read that is written back keeps its secret.
        let token = format!("p={}\nx", runbook_model::redact::token("token"));
        let act = with(&path, Content::Bytes(Bytes::from(token.as_str())), Attributes::default(), &[]);
        world.apply(&act).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"p=s3cr3t-VALUE-77\nx");

        let act = with(
            &path,
            Content::Text(Text::plain("z")),
            Attributes { owner: Some("nobody-there".into()), ..Attributes::default() },
            &[],
        );
        let error = world.apply(&act).await.unwrap_err();
        assert!(matches!(&error, CallError::Failed(text) if text.contains("nobody-there")), "{error}");
        no_leftovers(&world.path(""));
    }
}

#[tokio::test]
async fn large_content_is_streamed_and_checked() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let big: Vec<u8> = (0..20_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
        let (from, to) = (world.path("from"), world.path("to"));
        let act = with(&from, Content::Bytes(Bytes(big.clone())), Attributes::default(), &[]);
        assert_eq!(world.apply(&act).await.unwrap(), Verdict::Changed, "{flavour:?}");
        assert!(fs::read(&from).unwrap() == big);
        // From machine to machine, and from the controller.
        let source = source(&world, &from).await;
        for target in [Target::Machine("other".into()), Target::Controller] {
            let source = SourceRef { target, ..source.clone() };
            let copy = with(&to, Content::CopyOf(source.clone()), Attributes::default(), &["test", "-s", "{}"]);
            assert_eq!(world.apply(&copy).await.unwrap(), Verdict::Changed);
            assert!(fs::read(&to).unwrap() == big);
            assert_eq!(world.apply(&copy).await.unwrap(), Verdict::Unchanged);
            fs::remove_file(&to).unwrap();
        }
        // Not what it was any more.
        fs::write(&from, b"another").unwrap();
        let error = world.apply(&with(&to, Content::CopyOf(source), Attributes::default(), &[])).await.unwrap_err();
        assert!(matches!(&error, CallError::Conflict(text) if text.contains(&from)), "{error}");
        assert!(!Path::new(&to).exists());
        no_leftovers(&world.path(""));
    }
}

#[tokio::test]
async fn a_validator_decides() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let path = world.path("v");
        fs::write(&path, "old").unwrap();
        let check = ["sh", "-c", "grep good \"$1\" || { echo no good in it; exit 9; }", "sh", "{}"];
        let act = |text: &str| with(&path, Content::Text(Text::plain(text)), Attributes::default(), &check);
        let error = world.apply(&act("bad")).await.unwrap_err();
        assert!(matches!(&error, CallError::Failed(text) if text.contains("no good in it")), "{flavour:?}: {error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(world.apply(&act("good")).await.unwrap(), Verdict::Changed);
        assert_eq!(fs::read(&path).unwrap(), b"good");
        no_leftovers(&world.path(""));
    }
}

#[tokio::test]
async fn what_changed_meanwhile_is_a_conflict() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let path = world.path("file");
        let act = file(&path, "mine");
        let prior = world.prior(&act).await.unwrap();
        fs::write(&path, "theirs").unwrap();
        let error = world.apply_with(&act, prior).await.unwrap_err();
        assert!(matches!(error, CallError::Conflict(_)), "{flavour:?}: {error}");
        let prior = world.prior(&act).await.unwrap();
        fs::write(&path, "others").unwrap();
        for act in [act, absent(&path), link(&path, "x")] {
            let error = world.apply_with(&act, prior.clone()).await.unwrap_err();
            assert!(matches!(error, CallError::Conflict(_)), "{flavour:?}: {error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"others");
        // Kinds are not exchanged behind anybody's back.
        let error = world.prior(&directory(&path, None)).await.unwrap_err();
        assert!(matches!(&error, CallError::Conflict(text) if text.contains("is a file")), "{error}");
        assert!(matches!(world.prior(&file(&world.path(""), "x")).await, Err(CallError::Conflict(_))));
        no_leftovers(&world.path(""));
    }
}

#[tokio::test]
async fn links_and_directories() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let deep = world.path("a/b/c");
        assert_eq!(world.apply(&directory(&deep, Some(0o2750))).await.unwrap(), Verdict::Changed, "{flavour:?}");
        assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o7777, 0o2750);
        assert_eq!(fs::metadata(world.path("a")).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(world.apply(&directory(&deep, Some(0o2750))).await.unwrap(), Verdict::Unchanged);
        assert_eq!(world.apply(&directory(&deep, Some(0o700))).await.unwrap(), Verdict::Changed);
        // A link to a directory is replaced itself, and nothing lands in the directory.
        let current = world.path("current");
        symlink(&deep, &current).unwrap();
        assert_eq!(world.apply(&link(&current, "elsewhere")).await.unwrap(), Verdict::Changed);
        assert_eq!(fs::read_link(&current).unwrap(), Path::new("elsewhere"));
        symlink(&deep, world.path("other")).unwrap();
        assert_eq!(world.apply(&file(&world.path("other"), "x")).await.unwrap(), Verdict::Changed);
        assert!(fs::symlink_metadata(world.path("other")).unwrap().is_file());
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
        // No parent: said so.
        let error = world.apply(&file(&world.path("no/dir/file"), "x")).await.unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
        // Gone with all that is below.
        fs::write(format!("{deep}/x"), "x").unwrap();
        assert_eq!(world.apply(&absent(&world.path("a"))).await.unwrap(), Verdict::Changed);
        assert!(!Path::new(&world.path("a")).exists());
        assert_eq!(world.apply(&absent(&world.path("a"))).await.unwrap(), Verdict::Unchanged);
        assert_eq!(world.apply(&absent(&world.path("a/b/c"))).await.unwrap(), Verdict::Unchanged);
        for path in ["/", "/etc", "/usr/lib", "//home/"] {
            let error = world.apply(&absent(path)).await.unwrap_err();
            assert!(matches!(error, CallError::Denied(_)), "{path}: {error}");
        }
    }
}

#[tokio::test]
async fn nobody_leaves_the_jail() {
    for flavour in FLAVOURS {
        let mut world = World::new(flavour);
        let (jail, outside) = (world.path("jail"), world.path("outside"));
        fs::create_dir(&jail).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(format!("{outside}/secret"), "x").unwrap();
        fs::write(format!("{jail}/inside"), "y").unwrap();
        symlink(&outside, format!("{jail}/dir")).unwrap();
        symlink(format!("{outside}/secret"), format!("{jail}/file")).unwrap();
        symlink("inside", format!("{jail}/good")).unwrap();
        symlink(&jail, world.path("alias")).unwrap();
        for granted in [jail.clone(), format!("{jail}/**"), world.path("alias")] {
            world.ctx.jail = Some(granted);
            assert_eq!(read(&world, &format!("{jail}/inside"), 9).await.unwrap(), b"y", "{flavour:?}");
            assert_eq!(read(&world, &format!("{jail}/good"), 9).await.unwrap(), b"y");
            for path in ["dir/secret", "file"] {
                let error = read(&world, &format!("{jail}/{path}"), 9).await.unwrap_err();
                assert!(matches!(error, CallError::Denied(_)), "{path}: {error}");
            }
            for path in ["dir/secret", "dir/nothing", "dir/no/such"] {
                let error = stat(&world, &format!("{jail}/{path}")).await.unwrap_err();
                assert!(matches!(error, CallError::Denied(_)), "{path}: {error}");
            }
            assert!(matches!(list(&world, &format!("{jail}/dir")).await, Err(CallError::Denied(_))));
            for act in [
                file(&format!("{jail}/dir/new"), "x"),
                directory(&format!("{jail}/dir/new/deep"), None),
                link(&format!("{jail}/dir/new"), "x"),
                absent(&format!("{jail}/dir/secret")),
                absent(&outside),
            ] {
                let error = world.prior(&act).await.unwrap_err();
                assert!(matches!(error, CallError::Denied(_)), "{flavour:?} {act:?}: {error}");
                let error = world.apply_with(&act, Default::default()).await.unwrap_err();
                assert!(matches!(error, CallError::Denied(_)), "{flavour:?} {act:?}: {error}");
            }
            assert_eq!(world.apply(&file(&format!("{jail}/new"), "x")).await.unwrap(), Verdict::Changed);
            assert_eq!(world.apply(&directory(&format!("{jail}/n/e/w"), None)).await.unwrap(), Verdict::Changed);
            assert_eq!(world.apply(&absent(&format!("{jail}/n"))).await.unwrap(), Verdict::Changed);
            assert_eq!(world.apply(&absent(&format!("{jail}/new"))).await.unwrap(), Verdict::Changed);
        }
        // A granted path that is a link itself: the link may be replaced, what it points to may not.
        let only = format!("{jail}/file");
        world.ctx.jail = Some(only.clone());
        assert_eq!(world.apply(&file(&only, "mine")).await.unwrap(), Verdict::Changed);
        assert_eq!(fs::read(format!("{outside}/secret")).unwrap(), b"x");
        assert!(matches!(world.prior(&file(&format!("{jail}/files"), "x")).await, Err(CallError::Denied(_))));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}

/// A file system of its own, unmounted at the end.
struct Mounted(String);

impl Mounted {
    fn new(path: &str, options: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        let mounted = Process::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", path]).status().unwrap();
        assert!(mounted.success(), "needs root, to mount");
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Process::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn full_and_read_only_disks_are_named_and_left_clean() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let full = Mounted::new(&world.path("full disk"), "size=64k");
        let path = format!("{}/file", full.0);
        fs::write(&path, "old").unwrap();
        for size in [30_000, 4_000_000] {
            fs::write(format!("{}/ballast", full.0), vec![0; 40_000]).unwrap();
            let error = world.apply(&file(&path, &"x".repeat(size))).await.unwrap_err();
            assert!(error.to_string().contains("the disk is full"), "{flavour:?} {size}: {error}");
            assert!(error.to_string().contains(&path));
            assert_eq!(fs::read(&path).unwrap(), b"old");
            no_leftovers(&full.0);
        }
        let removed = world.apply(&absent(&full.0)).await.unwrap_err();
        assert!(matches!(&removed, CallError::Denied(text) if text.contains("mounted")), "{removed}");
        let above = world.path("above");
        let below = Mounted::new(&format!("{above}/x y/m"), "size=64k");
        let removed = world.apply(&absent(&above)).await.unwrap_err();
        assert!(matches!(&removed, CallError::Denied(text) if text.contains("x y/m")), "{removed}");
        drop(below);
        assert_eq!(world.apply(&absent(&above)).await.unwrap(), Verdict::Changed);

        let status = Process::new("mount").args(["-o", "remount,ro", &full.0]).status().unwrap();
        assert!(status.success());
        for act in [
            file(&path, "new"),
            absent(&path),
            link(&format!("{}/l", full.0), "x"),
            directory(&format!("{}/d", full.0), None),
        ] {
            let error = world.apply(&act).await.unwrap_err();
            assert!(matches!(&error, CallError::Failed(text) if text.contains("read-only")), "{flavour:?}: {error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}

#[tokio::test]
async fn the_controller_has_files_too() {
    let world = World::new(Flavour::Dash);
    fs::write(world.path("f"), "here").unwrap();
    let look = runbook_model::call::Look::Files(FilesLook::Read { path: world.path("f"), limit: 10 });
    match world.backend.look(&Target::Controller, &look, &world.ctx).await.unwrap() {
        Answer::Bytes(bytes) => assert_eq!(bytes.0, b"here"),
        other => panic!("{other:?}"),
    }
}

fn act(path: &str, want: FileWant) -> FilesAct {
    FilesAct { path: path.to_owned(), want }
}

#[tokio::test]
async fn made_directories_are_taken_back_when_they_are_empty() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let deep = world.path("a/b c/d");
        assert_eq!(world.prior(&directory(&deep, None)).await.unwrap().missing_parents, 2, "{flavour:?}");
        assert_eq!(world.prior(&file(&world.path("x"), "y")).await.unwrap().missing_parents, 0);
        world.apply(&directory(&deep, None)).await.unwrap();
        assert_eq!(world.prior(&directory(&deep, None)).await.unwrap().missing_parents, 0);
        let parent = act(&world.path("a/b c"), FileWant::AbsentIfEmpty);
        let error = world.apply(&parent).await.unwrap_err();
        assert!(matches!(&error, CallError::Conflict(text) if text.contains("not empty")), "{flavour:?}: {error}");
        for path in ["a/b c/d", "a/b c", "a"] {
            let back = act(&world.path(path), FileWant::AbsentIfEmpty);
            assert_eq!(world.apply(&back).await.unwrap(), Verdict::Changed, "{flavour:?} {path}");
            assert_eq!(world.apply(&back).await.unwrap(), Verdict::Unchanged);
        }
        fs::write(world.path("f"), "x").unwrap();
        let error = world.apply(&act(&world.path("f"), FileWant::AbsentIfEmpty)).await.unwrap_err();
        assert!(matches!(error, CallError::Conflict(_)), "{error}");
        let error = world.apply(&act("/etc", FileWant::AbsentIfEmpty)).await.unwrap_err();
        assert!(matches!(error, CallError::Denied(_)), "{error}");
    }
}

#[tokio::test]
async fn a_removed_directory_is_put_back_as_it_was() {
    for flavour in FLAVOURS {
        let world = World::new(flavour);
        let (dir, sub) = (world.path("tree 'x'"), world.path("tree 'x'/sub"));
        fs::create_dir_all(&sub).unwrap();
        fs::write(format!("{sub}/file\n"), b"content\0\n").unwrap();
        fs::set_permissions(format!("{sub}/file\n"), fs::Permissions::from_mode(0o4640)).unwrap();
        std::os::unix::fs::chown(format!("{sub}/file\n"), Some(1234), Some(4321)).unwrap();
        fs::set_permissions(format!("{sub}/file\n"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(format!("{dir}/.hidden"), "s3cr3t-VALUE-77").unwrap();
        symlink("nowhere", format!("{dir}/link")).unwrap();
        fs::set_permissions(&sub, fs::Permissions::from_mode(0o2710)).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        let prior = world.prior(&absent(&dir)).await.unwrap();
        let archive = prior.content.clone().expect("it is small");
        assert_eq!(world.apply_with(&absent(&dir), prior).await.unwrap(), Verdict::Changed, "{flavour:?}");
        assert!(!Path::new(&dir).exists());

        // In the journal, a token stands where the secret was.
        let secrets = [("token".to_owned(), "s3cr3t-VALUE-77".to_owned())].into();
        let redactor = runbook_model::redact::Redactor::new(&secrets);
        let kept = redactor.prior(runbook_model::call::Prior::File(runbook_model::call::FilePrior {
            content: Some(archive),
            ..Default::default()
        }));
        let runbook_model::call::Prior::File(kept) = kept else { panic!("{kept:?}") };
        let archive = kept.content.unwrap();
        let back = act(&dir, FileWant::Tree { archive });
        assert_eq!(world.apply(&back).await.unwrap(), Verdict::Changed, "{flavour:?}");
        assert_eq!(fs::read(format!("{sub}/file\n")).unwrap(), b"content\0\n");
        let meta = fs::metadata(format!("{sub}/file\n")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 1234, 4321), "{flavour:?}");
        assert_eq!(fs::metadata(&sub).unwrap().mode() & 0o7777, 0o2710, "{flavour:?}");
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(fs::read(format!("{dir}/.hidden")).unwrap(), b"s3cr3t-VALUE-77");
        assert_eq!(fs::read_link(format!("{dir}/link")).unwrap(), Path::new("nowhere"));

        // Nothing is put in the place of something.
        let error = world.apply(&back).await.unwrap_err();
        assert!(matches!(&error, CallError::Conflict(text) if text.contains("something is there")), "{error}");
        let error = world.apply_with(&back, Default::default()).await.unwrap_err();
        assert!(matches!(error, CallError::Conflict(_)), "{flavour:?}: {error}");
        let broken = act(&world.path("new"), FileWant::Tree { archive: Bytes::from("no archive") });
        assert!(matches!(world.apply(&broken).await, Err(CallError::Failed(_))), "{flavour:?}");
        assert!(!Path::new(&world.path("new")).exists());
        no_leftovers(&world.path(""));

        // What is too large is not kept.
        let large = fs::File::create(format!("{dir}/large")).unwrap();
        large.set_len(9 << 20).unwrap();
        assert_eq!(world.prior(&absent(&dir)).await.unwrap().content, None, "{flavour:?}");
        assert_eq!(world.text(crate::world::argv(&["echo", "on"])).await, "on\n");
    }
    let world = World::with_tools(&["stat", "readlink", "sha256sum"]);
    fs::create_dir(world.path("d")).unwrap();
    let prior = world.prior(&absent(&world.path("d"))).await.unwrap();
    assert_eq!((prior.content, prior.stat.unwrap().kind), (None, FileKind::Directory), "there is no tar");
}
