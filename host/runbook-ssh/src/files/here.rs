//! Looks at files of the controller: by the program itself, since no process is needed to read what lies beside it.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path as OsPath;

use runbook_engine::backend::CallContext;
use runbook_model::call::{Answer, CallError, Entry, FileKind, FilesLook, Response, SourceRef, Stat, Target};
use sha2::{Digest as _, Sha256};

use super::{Path, jail};
use crate::command::OUTPUT_LIMIT;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Answers a look.
pub(super) async fn look(look: &FilesLook, ctx: &CallContext) -> Response {
    let (look, path, jail) = (look.clone(), Path::new(look.path())?, jail(ctx.jail.as_deref())?);
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

fn hash(place: &OsPath) -> io::Result<(String, u64)> {
    let (mut file, mut hash, mut size) = (File::open(place)?, Sha256::new(), 0);
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
