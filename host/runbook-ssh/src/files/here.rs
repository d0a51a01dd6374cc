//! Looks at files of the controller: by the program itself, since no process is needed to read what lies beside it.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path as OsPath;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runbook_engine::backend::CallContext;
use runbook_model::call::{Answer, CallError, Entry, FileKind, FilesLook, Response, SourceRef, Stat, Target};
use sha2::{Digest as _, Sha256};

use super::{Path, jail};
use crate::command::OUTPUT_LIMIT;

/// Bytes of a file that is read without further ado.
const SMALL: u64 = 1 << 20;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Bytes: smaller files are read again at once.
const LARGE: u64 = 8 << 20;
/// A change right after another one may leave the same time behind.
const SETTLED: Duration = Duration::from_secs(2);

/// Large files that were read to the end.
static SEEN: Mutex<BTreeMap<Identity, String>> = Mutex::new(BTreeMap::new());

/// Answers a look.
pub(super) async fn look(look: &FilesLook, ctx: &CallContext) -> Response {
    let (look, path, jail) = (look.clone(), Path::new(look.path())?, jail(ctx.jail.as_deref())?);
    let is_small = |metadata: Metadata| metadata.is_file() && metadata.len() <= SMALL;
    if matches!(look, FilesLook::Stat { .. }) || fs::metadata(&path.whole).is_ok_and(is_small) {
        // It takes less than handing it to a thread; and what is asked right after it goes along with what others ask.
        return answer(&look, &path, &jail);
    }
    let work = tokio::task::spawn_blocking(move || answer(&look, &path, &jail));
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(CallError::Failed("cancelled while a file of the controller was read".to_owned())),
        () = tokio::time::sleep_until(ctx.deadline.into()) => {
            Err(CallError::TimedOut("waited for a file of the controller until the time was over".to_owned()))
        }
        answer = work => answer.unwrap_or_else(|_| Err(CallError::Failed("the program is ending".to_owned()))),
    }
}

fn answer(look: &FilesLook, path: &Path, jail: &str) -> Response {
    let failed = |error: io::Error| explain(path, &error);
    if let FilesLook::Stat { .. } = look {
        let place = match OsPath::new(&path.parent).canonicalize() {
            Ok(parent) => parent.join(&path.name),
            Err(error) if is_absent(&error) => return Ok(Answer::Stat(None)),
            Err(error) => return Err(failed(error)),
        };
        within(path, &place, jail)?;
        return match fs::symlink_metadata(&place) {
            Ok(metadata) => Ok(Answer::Stat(Some(stat(&place, &metadata).map_err(failed)?))),
            Err(error) if is_absent(&error) => Ok(Answer::Stat(None)),
            Err(error) => Err(failed(error)),
        };
    }
    let place = OsPath::new(&path.whole).canonicalize().map_err(failed)?;
    within(path, &place, jail)?;
    let metadata = fs::metadata(&place).map_err(failed)?;
    if let FilesLook::List { .. } = look {
        if !metadata.is_dir() {
            return Err(CallError::Invalid(words(path, "it is not a directory")));
        }
        return list(&place).map(Answer::Entries).map_err(failed);
    }
    if !metadata.is_file() {
        return Err(CallError::Invalid(words(path, "it is not a regular file")));
    }
    match look {
        FilesLook::Read { limit, .. } => {
            let limit = (*limit).min(OUTPUT_LIMIT);
            let mut bytes = Vec::new();
            let file = File::open(&place).map_err(failed)?;
            file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() as u64 > limit {
                return Err(CallError::Invalid(words(path, &format!("it is larger than {limit} bytes"))));
            }
            Ok(Answer::Bytes(bytes.into()))
        }
        FilesLook::Sha256 { .. } => hash(&place).map(|(sha256, _)| Answer::Text(sha256)).map_err(failed),
        FilesLook::Source { .. } => {
            let (sha256, size) = hash(&place).map_err(failed)?;
            Ok(Answer::Source(SourceRef { target: Target::Controller, path: path.whole.clone(), size, sha256 }))
        }
        FilesLook::Stat { .. } | FilesLook::List { .. } => Err(CallError::Failed("answered above".to_owned())),
    }
}

/// Whether a resolved path lies at or below the granted one, which is resolved the same way.
fn within(path: &Path, place: &OsPath, jail: &str) -> Result<(), CallError> {
    if jail.is_empty() {
        return Ok(());
    }
    let granted = OsPath::new(jail);
    let entry = granted.parent().zip(granted.file_name());
    let itself = entry.and_then(|(parent, name)| parent.canonicalize().ok().map(|parent| parent.join(name)));
    let below = granted.canonicalize().is_ok_and(|granted| place.starts_with(granted));
    if below || itself.is_some_and(|itself| itself == place) {
        return Ok(());
    }
    Err(CallError::Denied(words(path, "it lies outside of what is granted")))
}

fn list(place: &OsPath) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            // It went meanwhile.
            Err(error) if is_absent(&error) => continue,
            metadata => metadata?,
        };
        let name = String::from_utf8_lossy(entry.file_name().as_bytes()).into_owned();
        entries.push(Entry { name, stat: stat(&entry.path(), &metadata)? });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn stat(place: &OsPath, metadata: &Metadata) -> io::Result<Stat> {
    let kind = match metadata.file_type() {
        kind if kind.is_file() => FileKind::File,
        kind if kind.is_dir() => FileKind::Directory,
        kind if kind.is_symlink() => FileKind::Link,
        _ => FileKind::Other,
    };
    let link_target = match kind {
        FileKind::Link => Some(String::from_utf8_lossy(fs::read_link(place)?.as_os_str().as_bytes()).into_owned()),
        FileKind::File | FileKind::Directory | FileKind::Other => None,
    };
    Ok(Stat {
        kind,
        size: if kind == FileKind::File { metadata.size() } else { 0 },
        mode: metadata.mode() & 0o7777,
        owner: name_of("/etc/passwd", metadata.uid()),
        group: name_of("/etc/group", metadata.gid()),
        link_target,
    })
}

/// The name that goes with a number, else the number.
fn name_of(file: &str, number: u32) -> String {
    let number = number.to_string();
    let known = fs::read_to_string(file).unwrap_or_default();
    let mut names = known.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id == number).then(|| name.to_owned())
    });
    names.next().unwrap_or(number)
}

/// The SHA-256 of a large file that was read to the end before, and has not been touched since.
pub(crate) fn remembered(file: &File) -> Option<String> {
    let identity = Identity::of(&file.metadata().ok()?);
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).get(&identity).cloned()
}

/// The SHA-256 of a file, and how many bytes it has. That of a large file is remembered as long as the file stays as it is: a
/// step looks at its source again after the change.
fn hash(place: &OsPath) -> io::Result<(String, u64)> {
    let mut file = File::open(place)?;
    let before = Identity::of(&file.metadata()?);
    let known = |seen: &BTreeMap<Identity, String>| seen.get(&before).cloned();
    if let Some(sha256) = known(&SEEN.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Ok((sha256, before.size));
    }
    let (sha256, size) = read_through(&mut file)?;
    let same = size == before.size && Identity::of(&file.metadata()?) == before;
    if same && size >= LARGE && before.is_settled() {
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(before, sha256.clone());
    }
    Ok((sha256, size))
}

/// What differs after every write: the kernel sets the time of the last change of the inode, and nobody else can.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { device: metadata.dev(), inode: metadata.ino(), size: metadata.size(), changed }
    }

    /// Whether the last change is long enough ago that a further one would show.
    fn is_settled(&self) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or(u64::MAX);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.checked_sub(Duration::from_secs(seconds)).is_some_and(|ago| ago > SETTLED)
    }
}

fn read_through(file: &mut File) -> io::Result<(String, u64)> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => return Ok((hex::encode(hash.finalize()), size)),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&piece[..read]);
        size += read as u64;
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn words(path: &Path, why: &str) -> String {
    format!("{} on the controller: {why}", path.whole)
}

fn explain(path: &Path, error: &io::Error) -> CallError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => CallError::NotFound(words(path, "nothing is there")),
        ErrorKind::PermissionDenied => CallError::Failed(words(path, &format!("no permission ({error})"))),
        _ => CallError::Failed(words(path, &error.to_string())),
    }
}
