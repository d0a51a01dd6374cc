//! Compiles components, and keeps what was compiled of those that fit this program.
//!
//! A compiled component is machine code that we run with our own rights: loading one is a decision of trust. So the cache is a
//! folder that nobody else may enter, and what is in it came from this program. It is never taken from a pack.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::Engine;
use wasmtime::component::Component;

/// What it means that a compiled component is in the cache. Changes with what is asked of a plugin before it is kept.
const MEANING: u32 = 1;

/// Bytes of a compiled component: twice to four times those of the component.
const MAX_COMPILED: u64 = 1 << 30;

/// Bytes of all compiled components that are kept. A component of an interpreter is some 35 MiB, and each build of it another one.
const MOST_KEPT: u64 = 512 << 20;

/// A private folder of compiled components.
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens the folder, and makes it where it is missing.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or somebody else may write to it.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let found = fs::symlink_metadata(&dir)?;
        if !found.is_dir() {
            return Err(io::Error::other("it is not a directory"));
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to somebody else"));
        }
        if found.mode() & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "others may enter it (mode {:04o}): chmod 700 {}",
                found.mode() & 0o7777,
                dir.display()
            )));
        }
        Ok(Self { dir })
    }

    /// Where a component lies once it is compiled for this engine.
    fn path(&self, engine: &Engine, sha256: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        MEANING.hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.dir.join(format!("{sha256}-{:016x}.cwasm", hasher.finish()))
    }

    fn store(&self, path: &Path, compiled: &[u8]) -> io::Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!(".{}-{number}.tmp", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(compiled)?;
            // The name must never stand for half of the code, not even after a power failure.
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// Removes what was compiled longest ago, until at most `most` bytes are left. Who has a file open keeps what is in it.
fn make_room(dir: &Path, most: u64) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "cwasm") {
            let found = entry.metadata()?;
            kept.push((found.modified()?, found.len(), entry.path()));
        }
    }
    kept.sort_unstable();
    let mut size: u64 = kept.iter().map(|(_, size, _)| size).sum();
    for (_, bytes, path) in kept {
        if size <= most {
            break;
        }
        fs::remove_file(path)?;
        size -= bytes;
    }
    Ok(())
}

/// A compiled component.
pub(crate) enum Code {
    /// From the cache: it was found to fit when it was compiled.
    Kept(Component),
    /// Nobody has looked yet whether it fits.
    New(Component),
}

/// The component, from the cache or compiled. Blocks: up to a tenth of a second for a plugin in Rust, ten seconds for an interpreter.
///
/// # Errors
///
/// When the component is not valid, or has more code than is compiled in reasonable time.
pub(crate) fn load(engine: &Engine, cache: Option<&Cache>, sha256: &str, bytes: &[u8]) -> wasmtime::Result<Code> {
    if let Some(cache) = cache {
        let path = cache.path(engine, sha256);
        match stored(engine, &path) {
            Ok(Some(component)) => return Ok(Code::Kept(component)),
            Ok(None) => {}
            Err(error) => tracing::warn!("compiling again: {} cannot be used: {error:#}", path.display()),
        }
    }
    runbook_packs::check_code(bytes)?;
    Component::new(engine, bytes).map(Code::New)
}

/// Keeps a component that was found to fit, for the processes to come.
pub(crate) fn keep(engine: &Engine, cache: &Cache, sha256: &str, component: &Component) {
    let path = cache.path(engine, sha256);
    // A full disk costs the time to compile, not the run.
    if let Err(error) = component.serialize().map_err(io::Error::other).and_then(|code| cache.store(&path, &code)) {
        tracing::warn!("the compiled plugin could not be kept at {}: {error}", path.display());
    }
    // Another process may be at it, too: what is gone already is no trouble.
    if let Err(error) = make_room(&cache.dir, MOST_KEPT) {
        tracing::debug!("old compiled plugins could not be removed: {error}");
    }
}

/// What was compiled earlier, if there is any.
fn stored(engine: &Engine, path: &Path) -> wasmtime::Result<Option<Component>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let size = trusted(&file)?;
    // The file that was looked at, whatever its name stands for by now. Mapped, not read: of some MiB of code, a run executes a
    // small part.
    let mapped = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if mapped.exists() {
        #[expect(unsafe_code, reason = "loading compiled code is the purpose of the cache")]
        // SAFETY: the bytes must come from this engine's `serialize`, and must not change while they are mapped. It is a regular
        // file that belongs to us and that nobody else can write, in a folder that nobody else can enter. Only `Cache::store`
        // writes there, under a name that is complete once it exists, and never into a file that has its name already.
        // wasmtime itself checks that its version and settings are the same.
        return Ok(Some(unsafe { Component::deserialize_file(engine, &mapped)? }));
    }
    let mut code = Vec::with_capacity(size);
    file.take(MAX_COMPILED).read_to_end(&mut code)?;
    #[expect(unsafe_code, reason = "loading compiled code is the purpose of the cache")]
    // SAFETY: as above.
    Ok(Some(unsafe { Component::deserialize(engine, code)? }))
}

/// Looks whether only we can have written a file; gives its size.
fn trusted(file: &File) -> io::Result<usize> {
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may have written it"));
    }
    if found.len() > MAX_COMPILED {
        return Err(io::Error::other("it is too large"));
    }
    usize::try_from(found.len()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn component() -> (Engine, Vec<u8>, String) {
        let engine = crate::engine::start().expect("starts");
        let bytes = wat::parse_str("(component (core module (func (export \"f\"))))").expect("is WAT");
        let sha256 = runbook_packs::digest(&bytes);
        (engine, bytes, sha256)
    }

    /// Whether it had to be compiled; keeps it then.
    fn compiles(engine: &Engine, cache: &Cache, sha256: &str, bytes: &[u8]) -> bool {
        match load(engine, Some(cache), sha256, bytes).expect("loads") {
            Code::Kept(_) => false,
            Code::New(component) => {
                keep(engine, cache, sha256, &component);
                true
            }
        }
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(dir).expect("lists").map(|entry| entry.expect("is there").path()).collect()
    }

    #[test]
    fn compiles_once_and_loads_afterwards() {
        let (engine, bytes, sha256) = component();
        let dir = tempfile::tempdir().expect("makes a folder");
        let cache = Cache::open(dir.path().join("a/b")).expect("opens");
        assert!(compiles(&engine, &cache, &sha256, &bytes));
        let kept = files(&cache.dir);
        assert_eq!(kept.len(), 1, "one file, no temporary one: {kept:?}");
        assert_eq!(fs::metadata(&kept[0]).expect("is there").mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&cache.dir).expect("is there").mode() & 0o777, 0o700);
        // No component at all: it can only come from the cache.
        assert!(!compiles(&engine, &cache, &sha256, b"nothing"));
        assert!(load(&engine, None, &sha256, b"nothing").is_err(), "it does not compile");
    }

    #[test]
    fn compiles_again_what_is_damaged_or_not_ours_alone() {
        let (engine, bytes, sha256) = component();
        let dir = tempfile::tempdir().expect("makes a folder");
        let cache = Cache::open(dir.path().join("c")).expect("opens");
        let path = cache.path(&engine, &sha256);
        assert!(compiles(&engine, &cache, &sha256, &bytes));
        let good = fs::read(&path).expect("reads");

        for damage in [b"garbage".to_vec(), Vec::new(), good[..good.len() / 2].to_vec()] {
            fs::write(&path, damage).expect("writes");
            assert!(compiles(&engine, &cache, &sha256, &bytes));
            assert!(stored(&engine, &path).expect("is good again").is_some());
        }

        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("changes the mode");
        assert!(stored(&engine, &path).is_err(), "others could have written it");
        fs::remove_file(&path).expect("removes");
        std::os::unix::fs::symlink("/etc/hostname", &path).expect("links");
        assert!(stored(&engine, &path).is_err(), "a link leads anywhere");
    }

    #[test]
    fn what_was_compiled_longest_ago_makes_room() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let start = std::time::SystemTime::now();
        for (age, name) in ["new.cwasm", "old.cwasm", "oldest.cwasm", "other"].into_iter().enumerate() {
            let path = dir.path().join(name);
            fs::write(&path, [0; 10]).expect("writes");
            let then = start - std::time::Duration::from_secs(age as u64 * 60);
            File::options().write(true).open(path).and_then(|file| file.set_modified(then)).expect("sets its time");
        }
        let left = |most| {
            make_room(dir.path(), most).expect("makes room");
            let mut names: Vec<_> =
                files(dir.path()).iter().map(|path| path.file_name().map(ToOwned::to_owned)).collect();
            names.sort_unstable();
            names.into_iter().flatten().map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(left(30), ["new.cwasm", "old.cwasm", "oldest.cwasm", "other"]);
        assert_eq!(left(29), ["new.cwasm", "old.cwasm", "other"]);
        assert_eq!(left(0), ["other"]);
    }

    #[test]
    fn refuses_folders_that_others_may_enter() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let open = dir.path().join("open");
        fs::create_dir(&open).expect("makes it");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("changes the mode");
        let error = Cache::open(open).err().expect("is refused").to_string();
        assert!(error.contains("mode 0755") && error.contains("chmod 700"), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("writes");
        Cache::open(file).err().expect("is refused");
    }
}
