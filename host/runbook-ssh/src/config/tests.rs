use super::*;

fn local() -> Local {
    Local { home: PathBuf::from("/home/me"), user: "me".to_owned() }
}

fn parse_with(text: &str, files: &[(&str, &str)]) -> SshConfig {
    let mut config = SshConfig::default();
    let mut load = |pattern: &str, base: &Path| {
        assert_eq!(base, Path::new("/home/me/.ssh"));
        let named = files.iter().filter(|(name, _)| *name == pattern);
        Ok::<_, ()>(named.map(|(n, t)| (base.join(n), (*t).to_owned())).collect())
    };
    config.add(Path::new("config"), text, Path::new("/home/me/.ssh"), &mut load).unwrap();
    config
}

fn parse(text: &str) -> SshConfig {
    parse_with(text, &[])
}

#[test]
fn host_sections() {
    let user_of = |text: &str, host: &str| parse(text).lookup(host, None).user.unwrap_or_default();
    let cases: &[(&str, &str, &str)] = &[
        ("User a", "x", "a"),
        ("Host x\nUser a", "x", "a"),
        ("Host x\nUser a", "y", ""),
        ("Host X\nUser a", "x", "a"),
        ("Host x y\n  User a", "y", "a"),
        ("Host *.lan !nas.lan\nUser a", "tv.lan", "a"),
        ("Host *.lan !nas.lan\nUser a", "nas.lan", ""),
        ("Host !x\nUser a", "y", ""),
        ("Host 10.0.0.?\nUser a", "10.0.0.7", "a"),
        ("Host x\nUser a\nHost *\nUser b", "x", "a"),
        ("Host *\nUser b\nHost x\nUser a", "x", "b"),
        ("User c\nHost x\nUser a", "x", "c"),
        ("host=x\nUSER = a", "x", "a"),
        ("Host x\n\tUser\t\"a b\"  ", "x", "a b"),
        ("# Host y\n\nHost x # the x\nUser a # him", "x", "a"),
        ("Host x\r\nUser a\r\n", "x", "a"),
        ("Match all\nUser a", "x", "a"),
        ("Match host x\nUser a", "x", "a"),
        ("Match host x,y\nUser a", "y", "a"),
        ("Match host *.lan,!nas.lan\nUser a", "nas.lan", ""),
        ("Host x\nHostName real\nMatch host real\nUser a", "x", "a"),
        ("Host x\nHostName real\nMatch originalhost x\nUser a", "x", "a"),
        ("Match exec true\nUser a\nHost *\nUser b", "x", "b"),
        ("Match host x user me\nUser a", "x", ""),
    ];
    for (text, host, expected) in cases {
        assert_eq!(user_of(text, host), *expected, "{text:?} for {host}");
    }
}

#[test]
fn values() {
    let config = parse(
        "Host nas\n HostName 192.168.1.10\n Port 2222\n IdentityFile ~/.ssh/a\n IdentityFile ~/.ssh/b\n IdentitiesOnly yes\n \
         IdentityAgent none\n ProxyJump me@bastion:2200,[fe80::1]:22\n UserKnownHostsFile ~/a ~/b\n GlobalKnownHostsFile /dev/null\n \
         HostKeyAlias nas-key\n ConnectTimeout 1m5\n ServerAliveInterval 0\n CertificateFile ~/.ssh/c\n StrictHostKeyChecking no\n\
         Host *\n IdentityFile ~/.ssh/c\n Port 99",
    );
    assert!(config.notes().is_empty(), "{:?}", config.notes());
    let found = config.lookup("nas", Some("whatever"));
    let strings = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        found,
        HostConfig {
            host_name: Some("192.168.1.10".to_owned()),
            user: None,
            port: Some(2222),
            identity_files: strings(&["~/.ssh/a", "~/.ssh/b", "~/.ssh/c"]),
            identities_only: Some(true),
            identity_agent: Some("none".to_owned()),
            proxy_jump: Some(vec![
                JumpSpec { host: "bastion".to_owned(), user: Some("me".to_owned()), port: Some(2200) },
                JumpSpec { host: "fe80::1".to_owned(), user: None, port: Some(22) },
            ]),
            proxy_command: None,
            user_known_hosts: Some(strings(&["~/a", "~/b"])),
            global_known_hosts: Some(strings(&["/dev/null"])),
            host_key_alias: Some("nas-key".to_owned()),
            connect_timeout: Some(Duration::from_secs(65)),
            server_alive_interval: Some(Duration::ZERO),
        }
    );
}

#[test]
fn by_the_inventorys_name() {
    let config = parse("Host node1\nUser ubuntu\nHostName 10.9.9.9\nHost 10.0.0.1\nPort 22\nHost *\nPort 99");
    let found = config.lookup("10.0.0.1", Some("node1"));
    assert_eq!(found.user.as_deref(), Some("ubuntu"));
    assert_eq!(found.host_name, None, "the inventory's address wins over the alias' HostName");
    assert_eq!(found.port, Some(22));
    assert_eq!(config.lookup("node1", Some("node1")).host_name.as_deref(), Some("10.9.9.9"));
}

#[test]
fn jumps() {
    let jump = |text: &str| parse(text).lookup("x", None).proxy_jump;
    assert_eq!(jump("ProxyJump none\nProxyJump a"), Some(vec![]));
    assert_eq!(jump("ProxyJump NONE"), Some(vec![]));
    let hosts = |text: &str| jump(text).unwrap().into_iter().map(|j| (j.user, j.host, j.port)).collect::<Vec<_>>();
    let spec = |u: Option<&str>, h: &str, p: Option<u16>| (u.map(str::to_owned), h.to_owned(), p);
    assert_eq!(hosts("ProxyJump a"), [spec(None, "a", None)]);
    assert_eq!(hosts("ProxyJump a,b:2"), [spec(None, "a", None), spec(None, "b", Some(2))]);
    assert_eq!(hosts("ProxyJump ssh://u@v@a:2"), [spec(Some("u@v"), "a", Some(2))]);
    assert_eq!(hosts("ProxyJump ::1"), [spec(None, "::1", None)]);
    let both = parse("Host *\nProxyCommand nc %h %p\nProxyJump a").lookup("x", None);
    assert_eq!((both.proxy_command.as_deref(), both.proxy_jump), (Some("nc %h %p"), None));
}

#[test]
fn includes() {
    let files = &[("more", "User fromfile\nHost y\nPort 7"), ("loop", "Include loop\nUser looped")];
    let lookup = |text: &str, host: &str| parse_with(text, files).lookup(host, None);
    assert_eq!(lookup("Include more", "x").user.as_deref(), Some("fromfile"));
    assert_eq!(lookup("Include nowhere\nUser a", "x").user.as_deref(), Some("a"));
    let inside = "Host x\nInclude more\nPort 5\nHost *\nUser other";
    assert_eq!(lookup(inside, "x").user.as_deref(), Some("fromfile"));
    assert_eq!(lookup(inside, "x").port, Some(5), "after the file, the section goes on");
    assert_eq!(lookup(inside, "y").user.as_deref(), Some("other"), "the file holds for x only");
    assert_eq!(lookup(inside, "y").port, None, "so do its own sections");
    assert_eq!(lookup("Include loop", "x").user.as_deref(), Some("looped"));
    let tree = parse_with("Include tree", &[("tree", "Include tree tree tree")]);
    assert!(tree.notes().last().is_some_and(|note| note.ends_with("tree:1: ignored: Include after 1000 files")));
}

#[test]
fn notes_name_file_and_line() {
    let config = parse("User\nHost \"x\nMatch exec \"true\"\nUser a");
    assert_eq!(
        config.notes(),
        [
            "config:1: ignored: user has no value",
            "config:2: ignored: a quotation mark is not closed",
            "config:3: section skipped: Match exec true",
        ]
    );
    assert_eq!(config.lookup("x", None).user, None);
}

#[test]
fn tokens() {
    let local = local();
    let tokens = Tokens { local: &local, host: "10.0.0.1", alias: "nas", user: "root", port: 2222 };
    for (text, expected) in [
        ("~/.ssh/id", "/home/me/.ssh/id"),
        ("~", "/home/me"),
        ("~other/x", "~other/x"),
        ("%d/.ssh/%u-%r@%h:%p-%n", "/home/me/.ssh/me-root@10.0.0.1:2222-nas"),
        ("100%%", "100%"),
        ("%Z-%", "%Z-%"),
        ("${HOME_OF_NOBODY_AT_ALL}/x", "/x"),
        ("$x", "$x"),
        ("ü%hü", "ü10.0.0.1ü"),
    ] {
        assert_eq!(expand(text, &tokens), expected, "{text}");
    }
}

#[test]
fn times() {
    for (text, seconds) in
        [("90", Some(90)), ("1m30s", Some(90)), ("2h", Some(7200)), ("1m5", Some(65)), ("x", None), ("5y", None)]
    {
        assert_eq!(parse_time(text).map(|t| t.as_secs()), seconds, "{text}");
    }
    assert_eq!(parse_time("99999999999999999999"), None);
}

#[test]
fn files_and_globs() {
    let dir = tempfile::tempdir().unwrap();
    let local = Local { home: dir.path().to_owned(), user: "me".to_owned() };
    let ssh = dir.path().join(".ssh");
    std::fs::create_dir_all(ssh.join("conf.d")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(ssh.join(name), text).unwrap();
    write("config", "Include conf.d/*.conf ~/.ssh/extra missing");
    write("conf.d/1.conf", "Host a\nUser one");
    write("conf.d/2.conf", "Host *\nUser two");
    write("conf.d/3.off", "Host *\nPort 3");
    write("extra", "Host *\nPort 4");
    let config = SshConfig::read(&[ssh.join("config"), ssh.join("nothing")], &local).unwrap();
    assert_eq!(config.lookup("a", None).user.as_deref(), Some("one"));
    assert_eq!(config.lookup("b", None).user.as_deref(), Some("two"));
    assert_eq!(config.lookup("b", None).port, Some(4));
    let (path, _) = SshConfig::read(std::slice::from_ref(&ssh), &local).unwrap_err();
    assert_eq!(path, ssh, "a folder cannot be read");
}
