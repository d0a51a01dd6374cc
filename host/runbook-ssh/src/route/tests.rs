use std::path::Path;

use super::*;

fn options() -> ConnectOptions {
    let mut options = ConnectOptions::bare(Local { home: PathBuf::from("/home/me"), user: "me".to_owned() });
    options.global_known_hosts = vec![PathBuf::from("/etc/ssh/ssh_known_hosts")];
    options.agent = Some(PathBuf::from("/run/agent"));
    options
}

fn config(text: &str) -> SshConfig {
    let mut config = SshConfig::default();
    config.add::<()>(Path::new("config"), text, Path::new(""), &mut |_, _| Ok(Vec::new())).unwrap();
    config
}

fn endpoint(name: &str, addresses: &[&str]) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        ..Endpoint::default()
    }
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

#[test]
fn defaults() {
    let route = route(&endpoint("nas", &["10.0.0.1"]), "10.0.0.1", &config(""), &options());
    assert_eq!(route.place(), "me@10.0.0.1:22");
    assert_eq!(route.names.groups, [vec!["nas"], vec!["10.0.0.1"]]);
    assert_eq!(route.entry, "10.0.0.1");
    assert_eq!(
        route.known_hosts,
        paths(&["/home/me/.ssh/known_hosts", "/home/me/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts"])
    );
    assert!(route.login.files.is_empty());
    assert_eq!(route.login.defaults[0], Path::new("/home/me/.ssh/id_ed25519"));
    assert_eq!(route.login.agent.as_deref(), Some(Path::new("/run/agent")));
    assert_eq!((route.timeout.as_secs(), route.keepalive.map(|k| k.as_secs())), (10, Some(15)));
    assert_eq!(route.jump, None);
}

#[test]
fn the_inventory_wins_over_ssh_config() {
    let config = config(
        "Host nas\nUser theirs\nPort 99\nIdentityFile ~/.ssh/%r\nUserKnownHostsFile ~/kh none\nGlobalKnownHostsFile none\n\
         ConnectTimeout 3\nServerAliveInterval 0\nIdentityAgent none\nIdentitiesOnly yes\nProxyJump bastion",
    );
    let mut host = endpoint("nas", &["10.0.0.1"]);
    let theirs = route(&host, "10.0.0.1", &config, &options());
    assert_eq!(theirs.place(), "theirs@10.0.0.1:99");
    assert_eq!(theirs.login.files, paths(&["/home/me/.ssh/theirs"]));
    assert_eq!(theirs.known_hosts, paths(&["/home/me/kh"]));
    assert_eq!((theirs.timeout.as_secs(), theirs.keepalive), (3, None));
    assert_eq!((theirs.login.agent, theirs.login.identities_only), (None, true));
    assert_eq!(theirs.jump.map(|j| j.name).as_deref(), Some("bastion"));

    host.user = Some("mine".to_owned());
    host.port = Some(2222);
    host.identity_file = Some(PathBuf::from("~/mine"));
    host.known_hosts = Some(PathBuf::from("/inventory/kh"));
    host.jump = Some(Box::new(endpoint("gate", &["10.0.0.254"])));
    let mine = route(&host, "10.0.0.1", &config, &options());
    assert_eq!(mine.place(), "mine@10.0.0.1:2222");
    assert_eq!(mine.login.files, paths(&["/home/me/mine", "/home/me/.ssh/mine"]));
    assert_eq!(mine.known_hosts, paths(&["/inventory/kh", "/home/me/kh"]));
    assert_eq!(mine.jump.map(|j| j.name).as_deref(), Some("gate"));
}

#[test]
fn names_for_host_keys() {
    let mut host = endpoint("nas", &["alias", "10.0.0.9"]);
    host.port = Some(2222);
    let config = config("Host alias\nHostName real.lan\nHostKeyAlias nas-key");
    let found = route(&host, "alias", &config, &options());
    assert_eq!(found.host, "real.lan");
    assert_eq!(found.names.groups, [vec!["[nas]:2222", "nas"], vec!["nas-key"], vec!["[real.lan]:2222"]]);
    assert_eq!(found.names.also, ["real.lan", "[alias]:2222", "[alias]:2222", "[10.0.0.9]:2222"]);
    assert_eq!(found.entry, "nas-key");

    let mut jump = endpoint("10.0.0.1", &["10.0.0.1"]);
    jump.port = Some(2222);
    let found = route(&jump, "10.0.0.1", &SshConfig::default(), &options());
    assert_eq!(found.names.groups[0], ["[10.0.0.1]:2222"], "the key on port 22 may be another machine's");
}

#[test]
fn addresses_of_version_six() {
    let mut host = endpoint("nas", &["[fe80::1]"]);
    host.port = Some(2222);
    let found = route(&host, "[fe80::1]", &SshConfig::default(), &options());
    assert_eq!((found.host.as_str(), found.entry.as_str()), ("fe80::1", "[fe80::1]:2222"));
    assert_eq!(found.place(), "me@[fe80::1]:2222");
}

#[test]
fn jump_chains() {
    let jump = |text: &str| route(&endpoint("nas", &["10.0.0.1"]), "10.0.0.1", &config(text), &options()).jump;
    let chain = jump("ProxyJump u@outer:2200,inner").unwrap();
    assert_eq!(chain.name, "inner");
    let outer = chain.jump.unwrap();
    assert_eq!((outer.name.as_str(), outer.user.as_deref(), outer.port), ("outer", Some("u"), Some(2200)));
    assert_eq!(jump("ProxyJump none"), None);
    assert_eq!(jump("Host *\nProxyJump nas"), None, "a host is not its own jump host");
    let noted = route(&endpoint("nas", &["a"]), "a", &config("ProxyCommand nc %h %p"), &options());
    assert!(noted.notes[0].contains("ProxyCommand \"nc %h %p\""), "{:?}", noted.notes);
}
