//! `runbook.lock`: what it lets pass, what it refuses, and how it reads.
#![expect(clippy::unwrap_used, reason = "tests")]

use runbook_packs::image::Digest;
use runbook_packs::lock::{Lock, LockError, LockedPack, LockedPlugin, Refusal, Standing, Use};
use serde_json::{Value, json};

/// A plugin of a pack that asks for commands with these programs.
fn of_pack(source: &str, version: &str, content: &str, programs: &[&str]) -> Use {
    let plugin =
        LockedPlugin { pack: Some("zfs".to_owned()), source: None, ..of_file(version, content, programs).plugin };
    let pack = LockedPack {
        runbook: "dr.toml".to_owned(),
        name: "zfs".to_owned(),
        source: source.to_owned(),
        version: version.parse().unwrap(),
        digest: Digest::of(content.as_bytes()),
        signer: "SHA256:x".to_owned(),
    };
    Use { plugin, pack: Some(pack) }
}

fn of_file(version: &str, content: &str, programs: &[&str]) -> Use {
    let ask = |program: &&str| json!({"action": "go", "call": "ssh.change", "on": {"argv": [program]}});
    let plugin = LockedPlugin {
        runbook: "dr.toml".to_owned(),
        name: "zfs".to_owned(),
        pack: None,
        in_pack: None,
        source: Some("./zfs.wasm".to_owned()),
        version: version.parse().unwrap(),
        digest: Digest::of(content.as_bytes()),
        granted: serde_json::from_value(programs.iter().map(ask).collect::<Value>()).unwrap(),
    };
    Use { plugin, pack: None }
}

fn locked(used: &Use) -> Lock {
    let mut lock = Lock::default();
    lock.grant("dr.toml", std::slice::from_ref(used));
    // As it is read again.
    Lock::parse(&lock.to_text()).unwrap()
}

#[test]
fn what_was_granted_passes_and_nothing_else() {
    let pack = |source, version, content, programs: &[&str]| of_pack(source, version, content, programs);
    let was = pack("zfs:1.2.0", "1.2.0", "a", &["zfs", "zpool"]);
    let lock = locked(&was);
    let same = "is not what was granted";
    let cases = [
        (was.clone(), Ok(Standing::Locked)),
        (pack("zfs:1.2.0", "1.2.0", "a", &["zfs"]), Ok(Standing::Locked)),
        (pack("mirror/zfs:1.2.0", "1.2.0", "a", &["zfs", "zpool"]), Ok(Standing::Locked)),
        (
            pack("zfs:1.2.0", "1.2.0", "a", &["zfs", "dd"]),
            Err("asks for more than was granted to 1.2.0\n  + go: ssh.change dd"),
        ),
        (pack("zfs:1.3.0", "1.3.0", "b", &["zfs", "zpool"]), Ok(Standing::Newer)),
        (pack("zfs:1.3.0", "1.3.0", "b", &["zfs"]), Ok(Standing::Newer)),
        (pack("zfs:1.3.0", "1.3.0", "b", &["zfs", "dd"]), Err("`zfs` 1.3.0 asks for more than was granted to 1.2.0")),
        (pack("zfs:1.2.0", "1.2.0", "b", &["zfs"]), Err(same)),
        (pack("mirror/zfs:1.2.0", "1.2.0", "b", &["zfs"]), Err(same)),
        (pack("zfs:1.2.0", "1.3.0", "b", &["zfs"]), Err(same)),
        (pack("zfs:1.1.9", "1.1.9", "b", &["zfs"]), Err("has the version 1.1.9, which is older than 1.2.0")),
        (pack("zfs:1.2.0-rc.1", "1.2.0-rc.1", "b", &["zfs"]), Err("older than 1.2.0")),
        (of_file("1.2.0", "a", &["zfs"]), Ok(Standing::Locked)),
        (of_file("1.3.0", "b", &["zfs"]), Err(same)),
        (of_file("1.1.0", "b", &["zfs"]), Err("older")),
    ];
    for (used, wanted) in cases {
        match (lock.check(&used), wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{used:?}"),
            (Err(refusal), Err(wanted)) => assert!(refusal.to_string().contains(wanted), "{used:?}: {refusal}"),
            (found, wanted) => panic!("{used:?}: {found:?}, not {wanted:?}"),
        }
    }
    // The name stands for another plugin: of this pack, or of another one.
    let renamed = |mut used: Use, pack: &str, in_pack: Option<&str>, content: &str| {
        used.plugin.pack = Some(pack.to_owned());
        used.plugin.in_pack = in_pack.map(str::to_owned);
        used.plugin.digest = Digest::of(content.as_bytes());
        used
    };
    let another =
        "is `ufs` of the pack `zfs` here, and what was granted in dr.toml was granted to `zfs` of the pack `zfs`";
    let refusal = lock.check(&renamed(was.clone(), "zfs", Some("ufs"), "c")).unwrap_err().to_string();
    assert!(refusal.contains(another), "{refusal}");
    let refusal = lock.check(&renamed(was.clone(), "eve", None, "c")).unwrap_err().to_string();
    assert!(refusal.contains("is `zfs` of the pack `eve` here"), "{refusal}");
    assert_eq!(lock.check(&renamed(was.clone(), "zfs", Some("ufs"), "a")), Ok(Standing::Locked));
    let mut stranger = pack("zfs:1.3.0", "1.3.0", "b", &["zfs"]);
    stranger.pack.as_mut().unwrap().signer = "SHA256:y".to_owned();
    let refusal = lock.check(&stranger).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "the pack `zfs` 1.3.0 is signed by SHA256:y, and 1.2.0, which the lock has, was signed by SHA256:x"
    );
    let mut elsewhere = was.clone();
    elsewhere.plugin.runbook = "other.toml".to_owned();
    let unknown = Refusal::Unknown { plugin: "zfs".to_owned(), runbook: "other.toml".to_owned() };
    assert_eq!(lock.check(&elsewhere), Err(unknown), "a grant is for one runbook");
    // What lay in a file does not vouch for a pack.
    assert!(matches!(locked(&of_file("1.2.0", "a", &["zfs"])).check(&was), Err(Refusal::Unknown { .. })));
}

#[test]
fn a_lock_reads_well_and_shows_differences_by_line() {
    let mut used = of_pack("bob/zfs:1.2.0", "1.2.0", "a", &["zpool", "zfs", "zfs"]);
    used.plugin.granted[0].privileged = true;
    let text = locked(&used).to_text();
    let digest = Digest::of(b"a");
    let wanted = format!(
        r#"
version = 1

[[pack]]
runbook = "dr.toml"
name = "zfs"
source = "bob/zfs:1.2.0"
version = "1.2.0"
digest = "{digest}"
signer = "SHA256:x"

[[plugin]]
runbook = "dr.toml"
name = "zfs"
pack = "zfs"
version = "1.2.0"
digest = "{digest}"
granted = [
    {{ action = "go", call = "ssh.change", on = {{ argv = ["zfs"] }} }},
    {{ action = "go", call = "ssh.change", on = {{ argv = ["zpool"] }}, privileged = true }},
]
"#
    );
    assert!(text.ends_with(&wanted[1..]), "{text}");
    assert!(text.lines().take_while(|line| line.starts_with('#')).any(|line| line.contains("runbook grant")), "{text}");
    // Whatever is granted in whichever order, the text is the same.
    used.plugin.granted.reverse();
    assert_eq!(locked(&used).to_text(), text);
}

#[test]
fn runbooks_of_one_folder_do_not_disturb_each_other() {
    let mut lock = locked(&of_pack("zfs:1.2.0", "1.2.0", "a", &["zfs"]));
    let mut other = of_file("1.0.0", "b", &["dd"]);
    other.plugin.runbook = "other.toml".to_owned();
    lock.grant("other.toml", &[other]);
    assert!(lock.pack("dr.toml", "zfs").is_some() && lock.plugin("other.toml", "zfs").is_some());
    lock.grant("dr.toml", &[]);
    assert!(lock.pack("dr.toml", "zfs").is_none() && lock.plugin("other.toml", "zfs").is_some());
}

#[test]
fn what_is_no_lock_is_refused() {
    assert_eq!(Lock::parse("version = 2"), Err(LockError::Newer(2)));
    let once = locked(&of_file("1.0.0", "a", &["zfs"])).to_text();
    let entry = once.split_once("\n[[plugin]]").unwrap().1;
    let twice = LockError::Twice { runbook: "dr.toml".to_owned(), name: "zfs".to_owned() };
    assert_eq!(Lock::parse(&format!("{once}\n[[plugin]]{entry}")), Err(twice));
    let long = "#".repeat(9 << 20);
    assert_eq!(Lock::parse(&long), Err(LockError::TooLarge));
    for text in [
        "",
        "version = 1\nmore = 1",
        "version = 1\n[[pack]]\nname = \"x\"",
        "version = 1\n[[plugin]]\nrunbook = 1",
        "\0",
    ] {
        assert!(matches!(Lock::parse(text), Err(LockError::Shape(_))), "{text:?}");
    }
}
