use super::*;

const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINHQh8OAiQSj686HE0pgLzUYNzHw+S9Uc5HRqmwbm5P2";
const ED2: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKjVeiOHMD/iJBBkI+YR0Kgw8COjNkGSs+pAR/q+TrtL";
const EC: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBE/e0zxESfm0qH6JCk6oYpW48BOYxk+224cVBjScKNvCcl1K5acO3zFNp64zcTsR6cu7igY4Ptso+kww7HxaIl8=";

/// Written by `ssh-keygen -H` of OpenSSH 9.2 from "nas.lan,192.168.1.10 ED" and "[nas.lan]:2222 EC".
const HASHED: &str = "\
|1|qJvmdkgd6JncQQqnXq8zVzQ3JIQ=|yKC4V3ww0kR+k+7AWAo444GBaDw= ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINHQh8OAiQSj686HE0pgLzUYNzHw+S9Uc5HRqmwbm5P2
|1|/+uDNNUS2qPrG0DkYMdzto7xGdU=|JUoGLJtr5sV2R2bB4Ga15No0EhQ= ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINHQh8OAiQSj686HE0pgLzUYNzHw+S9Uc5HRqmwbm5P2
|1|LZ+Y32HNOZCb68OZ62tmv0fvtqI=|5+s/g9cajX0r5SBKCWTz5TUuQlQ= ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBE/e0zxESfm0qH6JCk6oYpW48BOYxk+224cVBjScKNvCcl1K5acO3zFNp64zcTsR6cu7igY4Ptso+kww7HxaIl8=";

fn key(openssh: &str) -> HostKey {
    let blob = openssh.split(' ').nth(1).unwrap();
    HostKey::from_blob(STANDARD.decode(blob).unwrap()).unwrap()
}

fn parse(text: &str) -> KnownHosts {
    let mut known = KnownHosts::default();
    known.add(Path::new("kh"), text);
    known
}

fn names(groups: &[&[&str]]) -> Names {
    Names { groups: groups.iter().map(|g| g.iter().map(|n| (*n).to_owned()).collect()).collect(), also: Vec::new() }
}

/// "known N", "changed N,M", "revoked N" or "unknown", with the line numbers.
fn verdict(text: &str, groups: &[&[&str]], shown: &str) -> String {
    let names = names(groups);
    let mut own_lines = KnownHosts::default();
    own_lines.add_for(&names, Path::new("kh"), text);
    let [all, own] = [parse(text), own_lines].map(|known| match known.check(&names, &key(shown)) {
        Match::Known(line) => format!("known {}", line.number),
        Match::Changed(lines) => {
            let numbers: Vec<_> = lines.iter().map(|l| l.number.to_string()).collect();
            format!("changed {}", numbers.join(","))
        }
        Match::Revoked(line) => format!("revoked {}", line.number),
        Match::Unknown => "unknown".to_owned(),
    });
    assert_eq!(all, own, "lines of other hosts make no difference");
    all
}

fn one(text: &str, name: &str) -> String {
    verdict(text, &[&[name]], ED)
}

#[test]
fn host_fields() {
    let cases: &[(&str, &str, bool)] = &[
        ("nas", "nas", true),
        ("nas", "nas2", false),
        ("nas", "na", false),
        ("NAS.Lan", "nas.lan", true),
        ("nas.lan", "NAS.LAN", true),
        ("a,nas,b", "nas", true),
        ("*.lan", "nas.lan", true),
        ("*.lan", "lan", false),
        ("*.lan", "nas.lan.evil.com", false),
        ("n?s", "nas", true),
        ("n?s", "ns", false),
        ("*", "anything", true),
        ("*a*b*", "xxaxxbxx", true),
        ("*a*b*", "xxbxxaxx", false),
        ("192.168.1.*", "192.168.1.77", true),
        ("192.168.1.*", "192.168.10.7", false),
        ("*.lan,!nas.lan", "nas.lan", false),
        ("!nas.lan,*.lan", "nas.lan", false),
        ("*.lan,!nas.lan", "tv.lan", true),
        ("!nas.lan", "tv.lan", false),
        ("[nas.lan]:2222", "[nas.lan]:2222", true),
        ("[nas.lan]:2222", "nas.lan", false),
        ("[*.lan]:2222", "[nas.lan]:2222", true),
        ("[nas.lan]:*", "[nas.lan]:2222", true),
        ("nas.lan", "[nas.lan]:2222", false),
        ("[fe80::1]:22", "[fe80::1]:22", true),
        ("[abc]", "a", false),
    ];
    for (field, name, matches) in cases {
        let expected = if *matches { "known 1" } else { "unknown" };
        assert_eq!(one(&format!("{field} {ED}"), name), expected, "{field} for {name}");
    }
}

#[test]
fn hashed_by_ssh_keygen() {
    assert_eq!(one(HASHED, "nas.lan"), "known 1");
    assert_eq!(one(HASHED, "NAS.lan"), "known 1");
    assert_eq!(one(HASHED, "192.168.1.10"), "known 2");
    assert_eq!(one(HASHED, "192.168.1.11"), "unknown");
    assert_eq!(verdict(HASHED, &[&["[nas.lan]:2222"]], EC), "known 3");
    assert_eq!(verdict(HASHED, &[&["nas.lan"]], ED2), "changed 1");
}

#[test]
fn any_whitespace_comments_and_line_endings() {
    let text = format!("# a comment\n\n \t nas \t {} \t comment with words\r\n", ED.replace(' ', "\t"));
    assert_eq!(one(&text, "nas"), "known 3");
    assert_eq!(one(&format!("#nas {ED}"), "nas"), "unknown");
    assert_eq!(one(&format!("nas {ED}"), "nas"), "known 1", "no newline at the end");
}

#[test]
fn lines_that_make_no_sense_are_left_out_with_a_note() {
    let text = format!(
        "nas\nnas ssh-ed25519\nnas ssh-ed25519 ???\nnas ssh-rsa {}\n@wrong nas {ED}\n|2|a|b {ED}\n|1|zz {ED}\nnas ssh-ed25519 AAAA\n@revoked\nnas {ED}",
        ED.split(' ').nth(1).unwrap()
    );
    let known = parse(&text);
    assert_eq!(known.notes().len(), 9, "{:#?}", known.notes());
    assert!(known.notes()[3].starts_with("kh:4: ignored: the key is of type"), "{}", known.notes()[3]);
    assert_eq!(one(&text, "nas"), "known 10");
}

#[test]
fn changed_and_known() {
    let cases: &[(&str, String, &str)] = &[
        ("differs", format!("nas {ED2}"), "changed 1"),
        ("another line of the same type matches", format!("nas {ED2}\nnas {ED}"), "known 2"),
        ("the same before", format!("nas {ED}\nnas {ED2}"), "known 1"),
        ("only another type is known", format!("nas {EC}"), "changed 1"),
        ("same type first", format!("nas {EC}\nnas {ED2}"), "changed 2,1"),
        ("revoked wins", format!("nas {ED}\n@revoked * {ED}"), "revoked 2"),
        ("revoked elsewhere", format!("nas {ED}\n@revoked tv {ED}"), "known 1"),
        ("another key is revoked", format!("nas {ED}\n@revoked nas {ED2}"), "known 1"),
        ("an authority is no host key", format!("@cert-authority nas {ED}"), "unknown"),
        ("a revoked line makes nothing known", format!("@revoked nas {ED2}"), "unknown"),
    ];
    for (what, text, expected) in cases {
        assert_eq!(&one(text, "nas"), expected, "{what}");
    }
}

#[test]
fn the_name_goes_before_the_address() {
    let groups: &[&[&str]] = &[&["nas", "[nas]:22"], &["10.0.0.1"]];
    let cases: &[(&str, String, &str)] = &[
        ("address only", format!("10.0.0.1 {ED}"), "known 1"),
        ("name differs, address matches", format!("10.0.0.1 {ED}\nnas {ED2}"), "changed 2"),
        ("name matches, address differs", format!("10.0.0.1 {ED2}\nnas {ED}"), "known 2"),
        ("name has another type, address matches", format!("nas {EC}\n10.0.0.1 {ED}"), "known 2"),
        ("name has another type, address differs", format!("nas {EC}\n10.0.0.1 {ED2}"), "changed 2,1"),
    ];
    for (what, text, expected) in cases {
        assert_eq!(&verdict(text, groups, ED), expected, "{what}");
    }
}

#[test]
fn other_names_make_known_but_never_changed() {
    let mut names = names(&[&["[10.0.0.1]:2222"]]);
    names.also = vec!["10.0.0.1".to_owned()];
    assert!(matches!(parse(&format!("10.0.0.1 {ED}")).check(&names, &key(ED)), Match::Known(_)));
    assert!(matches!(parse(&format!("10.0.0.1 {ED2}")).check(&names, &key(ED)), Match::Unknown));
    assert!(matches!(parse(&format!("@revoked 10.0.0.1 {ED}")).check(&names, &key(ED)), Match::Revoked(_)));
}

#[test]
fn algorithms_and_authorities() {
    let known = parse(&format!("nas {EC}\nnas {ED}\nnas {ED2}\n@cert-authority *.lan {ED2}\n@cert-authority nas {ED}"));
    let names = names(&[&["nas"], &["nas.lan"]]);
    assert_eq!(known.algorithms(&names), ["ecdsa-sha2-nistp256", "ssh-ed25519"]);
    let authorities: Vec<_> = known.authorities(&names).iter().map(|l| l.number).collect();
    assert_eq!(authorities, [4, 5]);
}

#[test]
fn fingerprint_as_ssh_keygen_shows_it() {
    // `ssh-keygen -lf` on the same key.
    assert_eq!(key(ED).fingerprint(), "SHA256:ifdJz0PrUb2Q16OUM1L82EQLWUo1ZDHVfoyY1Sxis4E");
    assert_eq!(key(ED).openssh(), ED);
}

#[test]
fn a_pattern_of_many_stars_ends_soon() {
    let pattern = "*a".repeat(40) + "b";
    assert!(!match_pattern(&pattern, &"a".repeat(2000)));
}
