//! Bytes of machines, and of the files that OpenSSH keeps.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_ssh::config::{Local, SshConfig, Tokens, expand};
use runbook_ssh::fuzz;
use runbook_ssh::known_hosts::{HostKey, KnownHosts, Match, Names};

/// What a helper shell writes: the first byte cuts both streams into pieces, which must not matter; `---` parts the streams.
pub(crate) fn helper_shell(data: &[u8]) {
    let Some((piece, streams)) = data.split_first() else { return };
    let cut = streams.windows(5).position(|window| window == b"\n---\n");
    let (stdout, stderr) = match cut {
        Some(at) => (&streams[..=at], &streams[at + 5..]),
        None => (streams, &[][..]),
    };
    let whole = fuzz::frames(stdout, stderr, usize::MAX);
    let pieces = fuzz::frames(stdout, stderr, usize::from(*piece));
    assert_eq!(whole, pieces, "how it arrives in pieces changes what it says");
    for frame in whole.into_iter().flatten() {
        assert!(frame.pids.iter().all(|pid| *pid > 1), "no group that is not the command's own is ever signalled");
    }
}

/// Answers of a machine.
pub(crate) fn machine_answers(data: &[u8]) {
    fuzz::answers(data);
}

/// Answers of a helper, shell or perl, to file operations. No name in a listing leads out of it, and no content is longer than the answer.
pub(crate) fn file_answers(data: &[u8]) {
    let (names, content) = fuzz::file_answers(data);
    assert!(content <= data.len(), "there is content that nobody sent");
    assert!(names.iter().all(|name| !name.is_empty() && name != ".." && !name.contains('/')), "{names:?}");
}

/// A `known_hosts` file. A key is known only by a line that has it, and a revoked one is never known.
pub(crate) fn known_hosts(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut hosts = KnownHosts::default();
    hosts.add(Path::new("known_hosts"), &text);
    let names =
        Names { groups: vec![vec!["n1".to_owned()], vec!["[10.0.0.7]:2222".to_owned()]], also: vec!["n2".to_owned()] };
    let _ = (hosts.notes(), hosts.authorities(&names), hosts.algorithms(&names));
    for word in text.split_ascii_whitespace() {
        let Some(key) = STANDARD.decode(word).ok().and_then(HostKey::from_blob) else { continue };
        let _ = (key.fingerprint(), key.openssh());
        let revoked = hosts.revoked(&names, &key).is_some();
        match hosts.check(&names, &key) {
            Match::Known(line) => {
                assert!(!revoked && line.key == key && names.all().any(|name| line.is_for(name)), "{}", line.place());
            }
            Match::Revoked(line) => assert!(revoked && line.key == key, "{}", line.place()),
            Match::Changed(lines) => assert!(!revoked && !lines.is_empty()),
            Match::Unknown => assert!(!revoked),
        }
    }
}

/// An `ssh_config`, which includes its own second half.
pub(crate) fn ssh_config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (text, included) = crate::halves(&text);
    let mut config = SshConfig::default();
    let mut load = |path: &str, _: &Path| Ok::<_, Infallible>(vec![(PathBuf::from(path), included.to_owned())]);
    let Ok(()) = config.add(Path::new("config"), text, Path::new("/home/ann/.ssh"), &mut load);
    let local = Local { home: PathBuf::from("/home/ann"), user: "ann".to_owned() };
    for (address, name) in [("10.0.0.7", Some("n1")), ("n1.home.example", None), ("", Some(""))] {
        let found = config.lookup(address, name);
        let tokens = Tokens { local: &local, host: address, alias: name.unwrap_or(address), user: "ann", port: 22 };
        for value in found.identity_files.iter().chain(&found.identity_agent).chain(&found.proxy_command) {
            let _ = expand(value, &tokens);
        }
    }
}
