//! Small things that all labs need.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The directory `tests` of the project.
pub fn tests_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Calls `condition` until it holds, for at most `limit`.
///
/// # Panics
///
/// When it does not come to hold in time.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "{what}: not so after {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that nobody listens on now.
///
/// # Panics
///
/// When the address cannot be bound.
pub fn free_port(address: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap_or_else(|e| panic!("binding a port of {address}: {e}"));
    listener.local_addr().expect("a bound listener has an address").port()
}

/// Counts the things that one test process makes, for names that must differ.
pub(crate) fn serial() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs a command that has to succeed, and gives its standard output.
pub(crate) fn must<S: AsRef<str>>(argv: &[S]) -> String {
    must_feed(argv, b"")
}

/// The same, with something on its standard input.
pub(crate) fn must_feed<S: AsRef<str>>(argv: &[S], stdin: &[u8]) -> String {
    let out = feed(argv, stdin);
    let command = || argv.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
    assert!(
        out.status.success(),
        "`{}` ended with {}:\n{}{}",
        command(),
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Runs a command with something on its standard input, however it ends.
pub(crate) fn feed<S: AsRef<str>>(argv: &[S], stdin: &[u8]) -> Output {
    use std::io::Write as _;
    let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("starting `{}`: {e} (tests/run installs what the labs need)", words[0]));
    let mut pipe = child.stdin.take().expect("stdin is piped");
    let bytes = stdin.to_vec();
    // In a thread: a command that writes much before it has read all would otherwise wait for us, and we for it. A command that
    // does not read its input to the end is its own affair.
    let feeding = std::thread::spawn(move || drop(pipe.write_all(&bytes)));
    let out = child.wait_with_output().unwrap_or_else(|e| panic!("waiting for `{}`: {e}", words.join(" ")));
    feeding.join().expect("the feeding thread does not panic");
    out
}

/// The path as text; the labs choose paths that are.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_else(|| panic!("{} is not UTF-8", path.display()))
}

/// One word of a POSIX shell command.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A fresh directory that everybody may enter: users other than root read keys in it.
pub(crate) fn open_temp_dir(prefix: &str, parent: &Path) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(parent)
        .unwrap_or_else(|e| panic!("creating a directory in {}: {e}", parent.display()));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))
        .expect("the mode of our own directory can be set");
    dir
}

/// Writes a file and the directories above it.
pub(crate) fn put(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).unwrap_or_else(|e| panic!("creating {}: {e}", parent.display()));
    }
    std::fs::write(path, content).unwrap_or_else(|e| panic!("writing {}: {e}", path.display()));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("mode of {}: {e}", path.display()));
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("reading {}: {e}", path.display()))
}
