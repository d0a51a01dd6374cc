//! The files of netplan: what they say of an interface, and what they have to say.
//!
//! netplan reads its files in the order of their names and puts them together: what stands later replaces what stands earlier, but
//! lists become longer. So one file of our own is enough for an additional address, and to say `dhcp4: false`; an address that another file
//! gives the interface goes only by changing that file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use runbook_sdk::prelude::*;
use serde_yaml_ng::Value as Yaml;

use super::input::{Address, Mode};

/// Sections of `network` that hold interfaces with addresses.
const SECTIONS: [&str; 7] = ["ethernets", "wifis", "bonds", "bridges", "vlans", "tunnels", "modems"];
/// What `look.sh` puts in the place of a secret.
const HIDDEN: &str = "\"(hidden)\"";
/// What keeps cloud-init from writing its file back.
const GUARD: (&str, &str) = ("/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg", "network: {config: disabled}\n");
/// Where a person's files lie. What lies elsewhere is made anew by whoever made it.
const FOLDER: &str = "/etc/netplan";

/// What `look.sh` printed.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// By path, in the order in which netplan reads them.
    files: Vec<(String, String)>,
    /// cloud-init is there, and nothing keeps it from writing its own file back.
    cloud_init: bool,
    /// What the file says that is to keep it from that.
    guard: Option<String>,
}

/// What the files say of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    section: String,
    id: String,
}

/// What a file of netplan gives its interface, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// Whether DHCP gives addresses; none: not said here.
    pub(super) dhcp4: Option<bool>,
    /// Addresses.
    pub(super) addresses: Vec<Address>,
    /// Of the default route.
    pub(super) gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub(super) nameservers: Vec<Ipv4Addr>,
}

/// A file that is to change: what it contains now and then; none: it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileChange {
    /// Absolute path.
    pub(super) path: String,
    /// Permission bits, as chmod takes them.
    pub(super) mode: &'static str,
    /// Content now.
    pub(super) before: Option<String>,
    /// Content then.
    pub(super) after: String,
}

/// What the files are to say of an interface.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) interface: &'a str,
    pub(super) mac: &'a str,
    pub(super) address: Address,
    pub(super) mode: Mode,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) nameservers: Vec<Ipv4Addr>,
}

/// The file that is ours alone: late in the order, and out of the way of those that a person writes.
pub(super) fn own_path(interface: &str) -> String {
    format!("{FOLDER}/90-runbook-{interface}.yaml")
}

impl Files {
    pub(super) fn read(text: &str) -> Self {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut cloud_init = false;
        let text = text.strip_suffix('\n').unwrap_or(text);
        for part in text.split("\n@").map(|part| part.strip_prefix('@').unwrap_or(part)) {
            match part.split_once('\n') {
                _ if part.trim_end() == "cloud-init" => cloud_init = true,
                Some((path, content)) => drop(found.insert(path.to_owned(), unprefixed(content))),
                None => {}
            }
        }
        // A later folder's file replaces an earlier one's of the same name; `look.sh` prints the folders in their order.
        let mut by_name: BTreeMap<String, (String, String)> = BTreeMap::new();
        for folder in ["/lib/netplan/", FOLDER, "/run/netplan/"] {
            for (path, content) in found.iter().filter(|(path, _)| path.starts_with(folder)) {
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                by_name.insert(name, (path.clone(), content.clone()));
            }
        }
        Self { files: by_name.into_values().collect(), cloud_init, guard: found.remove(GUARD.0) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn content(&self, path: &str) -> Option<&String> {
        self.files.iter().find(|(known, _)| known == path).map(|(_, content)| content)
    }

    fn parsed(&self) -> Result<Vec<(&str, Yaml)>> {
        let parse = |(path, content): &'_ (String, String)| match serde_yaml_ng::from_str(content) {
            Ok(yaml) => Ok(yaml),
            Err(_) if content.contains(HIDDEN) => Err(Error::conflict(format!(
                "{path} has passwords within braces, which cannot be left out when it is read: write them on lines of their own"
            ))),
            Err(error) => Err(Error::conflict(format!("{path} is no YAML: {error}"))),
        };
        self.files.iter().map(|file| Ok((file.0.as_str(), parse(file)?))).collect()
    }

    /// Where the files speak of an interface; none: nowhere.
    ///
    /// # Errors
    ///
    /// Where more than one definition could be meant, or a file is not understood.
    pub(super) fn definition(&self, interface: &str, mac: &str) -> Result<Option<Definition>> {
        let parsed = self.parsed()?;
        let mut definitions: BTreeMap<(&str, String), Vec<&Yaml>> = BTreeMap::new();
        for (_, yaml) in &parsed {
            for section in SECTIONS {
                let known = yaml.get("network").and_then(|network| network.get(section)).and_then(Yaml::as_mapping);
                for (id, definition) in known.into_iter().flatten() {
                    let Some(id) = id.as_str() else { continue };
                    definitions.entry((section, id.to_owned())).or_default().push(definition);
                }
            }
        }
        let meant = definitions.into_iter().filter(|((_, id), parts)| speaks_of(id, parts, interface, mac));
        let mut meant = meant.map(|((section, id), _)| Definition { section: section.to_owned(), id });
        match (meant.next(), meant.next()) {
            (Some(one), Some(other)) => conflict!(
                "netplan's files speak of {interface} as {} and as {}: which of them is to be changed cannot be told",
                one.id,
                other.id
            ),
            (first, _) => Ok(first),
        }
    }

    /// What our own file says now.
    pub(super) fn own(&self, interface: &str, definition: Option<&Definition>) -> Result<Own> {
        let path = own_path(interface);
        let Some(definition) = definition else { return Ok(Own::default()) };
        let parsed = self.parsed()?;
        let found = parsed.iter().find(|(known, _)| *known == path).and_then(|(_, yaml)| definition.of(yaml));
        Ok(found.map(Own::read).unwrap_or_default())
    }

    /// Whether the files other than our own leave an interface to DHCP, and whether they name servers for it.
    pub(super) fn leaves_dns_to_dhcp(&self, interface: &str, definition: Option<&Definition>) -> Result<bool> {
        let Some(definition) = definition else { return Ok(true) };
        let parsed = self.parsed()?;
        let own = own_path(interface);
        let others = parsed.iter().filter(|(path, _)| *path != own).filter_map(|(_, yaml)| definition.of(yaml));
        Ok(others.map(Own::read).all(|said| said.nameservers.is_empty()))
    }

    /// The files that have to change, ours last.
    ///
    /// # Errors
    ///
    /// Where the files cannot be made to say so, in words.
    pub(super) fn changes(&self, wanted: &Wanted<'_>) -> Result<Vec<FileChange>> {
        let Wanted { interface, address, .. } = *wanted;
        let definition = self.definition(interface, wanted.mac)?;
        let own = self.own(interface, definition.as_ref())?;
        let path = own_path(interface);
        let mut changes = self.cloud_init_guard();
        let (definition, own) = match (definition, wanted.mode) {
            (Some(definition), Mode::Additional) => {
                let mut elsewhere = self.others(&path, &definition)?.into_iter();
                if elsewhere.any(|(_, said, _)| said.addresses.contains(&address)) {
                    return Ok(changes);
                }
                let mut own = own;
                if !own.addresses.contains(&address) {
                    own.addresses.push(address);
                }
                (definition, own)
            }
            (None, Mode::Additional) => conflict!(
                "no file of netplan says how {interface} gets its own address, so it would lose that: say it in {FOLDER} first, or \
                 use `mode = \"primary\"`"
            ),
            (definition, Mode::Primary) => {
                let definition = definition
                    .unwrap_or_else(|| Definition { section: SECTIONS[0].to_owned(), id: interface.to_owned() });
                changes.extend(self.without_addresses(&path, interface, &definition)?);
                let own = Own {
                    dhcp4: Some(false),
                    addresses: vec![address],
                    gateway: wanted.gateway,
                    nameservers: wanted.nameservers.clone(),
                };
                (definition, own)
            }
        };
        let after = own.write(&definition);
        let before = self.content(&path).cloned();
        if before.as_ref() != Some(&after) {
            changes.push(FileChange { path, mode: "600", before, after });
        }
        Ok(changes)
    }

    fn cloud_init_guard(&self) -> Vec<FileChange> {
        let (path, after) = GUARD;
        let change =
            FileChange { path: path.to_owned(), mode: "644", before: self.guard.clone(), after: after.to_owned() };
        self.cloud_init.then_some(change).into_iter().collect()
    }

    /// What the other files say of it: path, what it says, and the whole.
    fn others(&self, own: &str, definition: &Definition) -> Result<Vec<(String, Own, Yaml)>> {
        let parsed = self.parsed()?.into_iter().filter(|(path, _)| *path != own);
        let said = parsed.filter_map(|(path, yaml)| {
            let said = Own::read(definition.of(&yaml)?);
            Some((path.to_owned(), said, yaml))
        });
        Ok(said.collect())
    }

    /// The other files that give the interface addresses of its own, without them.
    fn without_addresses(&self, own: &str, interface: &str, definition: &Definition) -> Result<Vec<FileChange>> {
        let mut changes = Vec::new();
        for (path, said, mut yaml) in self.others(own, definition)? {
            let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
            if said.dhcp4 == Some(true) && name(&path) > name(own) {
                conflict!("{path} says `dhcp4: true` for {interface}, and comes after {own}: rename it to come before");
            }
            if said.addresses.is_empty() && said.gateway.is_none() {
                continue;
            }
            let before = self.content(&path).cloned().unwrap_or_default();
            if before.contains(HIDDEN) {
                conflict!(
                    "{path} gives {interface} an address, and has passwords, which runbook does not read: move what it says of \
                     {interface} into a file of its own"
                );
            }
            if !path.starts_with(FOLDER) {
                conflict!("{path} gives {interface} an address, and is made by something else: take it away there");
            }
            definition.forget_addresses(&mut yaml);
            let yaml = serde_yaml_ng::to_string(&yaml)
                .map_err(|error| Error::failed(format!("{path} cannot be written again: {error}")))?;
            let after = format!("# The addresses of {interface} are in {own} now (runbook, net/static-ip).\n{yaml}");
            changes.push(FileChange { path, mode: "600", before: Some(before), after });
        }
        Ok(changes)
    }
}

/// The content of a file whose lines were printed after `|`, up to its own end.
fn unprefixed(text: &str) -> String {
    let lines = text.split_terminator('\n').map(|line| line.strip_prefix('|').unwrap_or(line));
    let content = lines.collect::<Vec<_>>().join("\n");
    if text.ends_with('\n') && !content.is_empty() { content + "\n" } else { content }
}

/// Whether the parts of a definition, put together, mean an interface.
fn speaks_of(id: &str, parts: &[&Yaml], interface: &str, mac: &str) -> bool {
    let text = |key: &str| parts.iter().filter_map(|part| part.get(key)).find_map(Yaml::as_str);
    let matches = |key: &str| {
        let matches = parts.iter().filter_map(|part| part.get("match"));
        matches.filter_map(|rule| rule.get(key)).find_map(Yaml::as_str)
    };
    if let Some(name) = text("set-name") {
        return name == interface;
    }
    match (matches("name"), matches("macaddress")) {
        (None, None) if parts.iter().any(|part| part.get("match").is_some()) => false,
        (None, None) => id == interface,
        (name, address) => {
            name.is_none_or(|name| glob(name, interface))
                && address.is_none_or(|address| address.eq_ignore_ascii_case(mac))
        }
    }
}

/// `en*`, as netplan matches names.
fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name
            .strip_prefix(start)
            .is_some_and(|left| (0..=left.len()).any(|at| left.get(at..).is_some_and(|left| glob(rest, left)))),
    }
}

impl Definition {
    /// The part of a file that is this definition.
    fn of<'a>(&self, yaml: &'a Yaml) -> Option<&'a Yaml> {
        yaml.get("network")?.get(self.section.as_str())?.get(self.id.as_str())
    }

    /// Takes IPv4 addresses and the way out by IPv4 away.
    fn forget_addresses(&self, yaml: &mut Yaml) {
        let definition = yaml
            .get_mut("network")
            .and_then(|network| network.get_mut(self.section.as_str()))
            .and_then(|section| section.get_mut(self.id.as_str()))
            .and_then(Yaml::as_mapping_mut);
        let Some(definition) = definition else { return };
        definition.remove("gateway4");
        for (key, goes) in [("addresses", is_address as fn(&Yaml) -> bool), ("routes", is_default_route)] {
            let Some(list) = definition.get_mut(key).and_then(Yaml::as_sequence_mut) else { continue };
            list.retain(|item| !goes(item));
            if list.is_empty() {
                definition.remove(key);
            }
        }
    }
}

/// `192.168.1.6/24`, or the same with options: `192.168.1.6/24: {label: x}`.
fn address(item: &Yaml) -> Option<Address> {
    let text = item.as_str().or_else(|| item.as_mapping()?.keys().next()?.as_str())?;
    Address::read(text)
}

fn is_address(item: &Yaml) -> bool {
    address(item).is_some()
}

fn is_default_route(item: &Yaml) -> bool {
    let to = item.get("to").and_then(Yaml::as_str).unwrap_or_default();
    let via = item.get("via").and_then(Yaml::as_str).unwrap_or_default();
    matches!(to, "default" | "0.0.0.0/0" | "0/0") && !via.contains(':') && item.get("table").is_none()
}

impl Own {
    fn read(definition: &Yaml) -> Self {
        let list = |value: Option<&Yaml>| value.and_then(Yaml::as_sequence).cloned().unwrap_or_default();
        let ip = |value: &Yaml| value.as_str().and_then(|text| text.parse().ok());
        let dhcp4 = definition.get("dhcp4").and_then(|said| match said {
            Yaml::Bool(yes) => Some(*yes),
            // What YAML 1.1 knows besides.
            other => other.as_str().map(|word| matches!(word.to_lowercase().as_str(), "yes" | "on" | "y" | "true")),
        });
        let routes = list(definition.get("routes"));
        let routed = routes.iter().filter(|route| is_default_route(route)).find_map(|route| ip(route.get("via")?));
        let servers = definition.get("nameservers").and_then(|servers| servers.get("addresses"));
        Self {
            dhcp4,
            addresses: list(definition.get("addresses")).iter().filter_map(address).collect(),
            gateway: definition.get("gateway4").and_then(ip).or(routed),
            nameservers: list(servers).iter().filter_map(ip).collect(),
        }
    }

    /// The whole file.
    fn write(&self, definition: &Definition) -> String {
        let mut text = format!(
            "# Written by runbook (net/static-ip).\nnetwork:\n  version: 2\n  {}:\n    {}:\n",
            definition.section,
            quoted(&definition.id)
        );
        // Writing to a string cannot fail.
        if let Some(dhcp4) = self.dhcp4 {
            let _ = writeln!(text, "      dhcp4: {dhcp4}");
        }
        text.push_str("      addresses:\n");
        for address in &self.addresses {
            let _ = writeln!(text, "      - \"{address}\"");
        }
        if let Some(gateway) = self.gateway {
            // `default` is newer than some of the netplans that are in use.
            let _ = writeln!(text, "      routes:\n      - to: \"0.0.0.0/0\"\n        via: \"{gateway}\"");
        }
        if !self.nameservers.is_empty() {
            text.push_str("      nameservers:\n        addresses:\n");
            for server in &self.nameservers {
                let _ = writeln!(text, "        - \"{server}\"");
            }
        }
        text
    }
}

/// A text of YAML: its double quotes are those of JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "52:54:00:12:34:56";
    const CLOUD: &str = "network:\n  version: 2\n  ethernets:\n    enp1s0:\n      dhcp4: true\n";
    const STATIC: &str = include_str!("../../testdata/netplan_static.yaml");

    fn files(files: &[(&str, &str)]) -> Files {
        let lines = |content: &str| content.split_inclusive('\n').map(|line| format!("|{line}")).collect::<String>();
        Files::read(&files.iter().map(|(path, content)| format!("@{path}\n{}\n", lines(content))).collect::<String>())
    }

    fn wanted(address: &str, mode: Mode) -> Wanted<'static> {
        Wanted {
            interface: "enp1s0",
            mac: MAC,
            address: Address::read(address).unwrap(),
            mode,
            gateway: (mode == Mode::Primary).then_some(Ipv4Addr::new(192, 168, 1, 1)),
            nameservers: if mode == Mode::Primary { vec![Ipv4Addr::new(192, 168, 1, 8)] } else { Vec::new() },
        }
    }

    /// The files once the changes are made.
    fn after(now: &Files, changes: &[FileChange]) -> Files {
        let mut by_path: BTreeMap<String, String> = now.files.iter().cloned().collect();
        by_path.extend(changes.iter().map(|change| (change.path.clone(), change.after.clone())));
        files(&by_path.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect::<Vec<_>>())
    }

    #[test]
    fn one_more_address_is_one_file_of_our_own() {
        let now = files(&[("/etc/netplan/50-cloud-init.yaml", CLOUD)]);
        let wanted = wanted("192.168.1.5/24", Mode::Additional);
        let changes = now.changes(&wanted).unwrap();
        assert_eq!(changes.len(), 1);
        assert_eq!((changes[0].path.as_str(), changes[0].mode), ("/etc/netplan/90-runbook-enp1s0.yaml", "600"));
        assert_eq!(changes[0].before, None);
        assert_eq!(
            changes[0].after,
            "# Written by runbook (net/static-ip).\nnetwork:\n  version: 2\n  ethernets:\n    \"enp1s0\":\n      addresses:\n      - \"192.168.1.5/24\"\n"
        );
        assert_eq!(after(&now, &changes).changes(&wanted).unwrap(), []);
    }

    #[test]
    fn a_second_additional_address_keeps_the_first() {
        let now = files(&[("/etc/netplan/50-cloud-init.yaml", CLOUD)]);
        let now = after(&now, &now.changes(&wanted("192.168.1.5/24", Mode::Additional)).unwrap());
        let then = after(&now, &now.changes(&wanted("192.168.1.7/24", Mode::Additional)).unwrap());
        let own = then.own("enp1s0", then.definition("enp1s0", MAC).unwrap().as_ref()).unwrap();
        assert_eq!(
            own.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.168.1.5/24", "192.168.1.7/24"]
        );
        assert_eq!(own.dhcp4, None);
    }

    #[test]
    fn an_address_that_another_file_gives_needs_no_file() {
        let now = files(&[("/etc/netplan/01-netcfg.yaml", STATIC)]);
        assert_eq!(now.changes(&wanted("192.168.1.5/24", Mode::Additional)).unwrap(), []);
    }

    #[test]
    fn a_primary_address_ends_dhcp() {
        let now = files(&[("/etc/netplan/50-cloud-init.yaml", CLOUD)]);
        let wanted = wanted("192.168.1.5/24", Mode::Primary);
        let changes = now.changes(&wanted).unwrap();
        assert_eq!(changes.len(), 1, "cloud-init's own file stays: {changes:?}");
        let then = after(&now, &changes);
        let own = then.own("enp1s0", then.definition("enp1s0", MAC).unwrap().as_ref()).unwrap();
        assert_eq!(own.dhcp4, Some(false));
        assert_eq!((own.gateway, own.nameservers.len()), (Some(Ipv4Addr::new(192, 168, 1, 1)), 1));
        assert_eq!(then.changes(&wanted).unwrap(), []);
    }

    #[test]
    fn a_static_address_of_another_file_goes_and_all_else_stays() {
        let other = format!("{STATIC}      mtu: 9000\n    enp2s0:\n      addresses: [10.0.0.1/24, \"fd00::1/64\"]\n");
        let now = files(&[("/etc/netplan/01-netcfg.yaml", &other)]);
        let wanted = wanted("192.168.1.9/24", Mode::Primary);
        let changes = now.changes(&wanted).unwrap();
        let [theirs, ours] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((theirs.before.as_ref(), theirs.path.as_str()), (Some(&other), "/etc/netplan/01-netcfg.yaml"));
        let yaml: Yaml = serde_yaml_ng::from_str(&theirs.after).unwrap();
        let one = &yaml["network"]["ethernets"]["enp1s0"];
        assert_eq!((one.get("addresses"), one.get("routes")), (None, None));
        assert_eq!(
            (one["mtu"].as_u64(), one["nameservers"]["addresses"][0].as_str()),
            (Some(9000), Some("192.168.1.8"))
        );
        assert_eq!(yaml["network"]["ethernets"]["enp2s0"]["addresses"].as_sequence().unwrap().len(), 2);
        assert!(ours.path.ends_with("90-runbook-enp1s0.yaml"));
        assert_eq!(after(&now, &changes).changes(&wanted).unwrap(), []);
    }

    #[test]
    fn secrets_of_a_file_are_never_written_again() {
        let wifi = format!(
            "{STATIC}  wifis:\n    wlan0:\n      access-points:\n        home:\n          password: {HIDDEN}\n"
        );
        let now = files(&[("/etc/netplan/01-netcfg.yaml", &wifi)]);
        let error = now.changes(&wanted("192.168.1.9/24", Mode::Primary)).unwrap_err();
        assert!(error.kind() == Kind::Conflict && error.message().contains("passwords"), "{error}");
        // Where the file is not to change, its secrets do not matter.
        assert_eq!(now.changes(&wanted("192.168.1.9/24", Mode::Additional)).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_comes_later_is_not_overlooked() {
        let now = files(&[("/etc/netplan/99-mine.yaml", CLOUD)]);
        let error = now.changes(&wanted("192.168.1.5/24", Mode::Primary)).unwrap_err();
        assert!(error.message().contains("comes after"), "{error}");
    }

    #[test]
    fn an_interface_that_netplan_does_not_know_keeps_its_own_address() {
        let now =
            files(&[("/etc/netplan/01-network-manager-all.yaml", "network: {version: 2, renderer: NetworkManager}\n")]);
        assert_eq!(now.definition("enp1s0", MAC).unwrap(), None);
        let error = now.changes(&wanted("192.168.1.5/24", Mode::Additional)).unwrap_err();
        assert!(error.message().contains("would lose"), "{error}");
        assert_eq!(now.changes(&wanted("192.168.1.5/24", Mode::Primary)).unwrap().len(), 1);
    }

    #[test]
    fn definitions_are_found_as_netplan_finds_them() {
        let found =
            |yaml: &str| files(&[("/etc/netplan/a.yaml", yaml)]).definition("enp1s0", MAC).unwrap().map(|d| d.id);
        let by = |rule: &str| format!("network: {{ethernets: {{lan: {{{rule}}}}}}}\n");
        assert_eq!(found(&by("match: {macaddress: \"52:54:00:12:34:56\"}, set-name: enp1s0")).as_deref(), Some("lan"));
        assert_eq!(found(&by("match: {name: \"en*\"}")).as_deref(), Some("lan"));
        assert_eq!(found(&by("match: {macaddress: \"52:54:00:12:34:57\"}")), None);
        assert_eq!(found(&by("match: {driver: virtio}")), None);
        assert_eq!(found(&by("dhcp4: true")), None);
        let both = "network: {ethernets: {enp1s0: {dhcp4: true}, all: {match: {name: \"en*\"}}}}\n";
        let error = files(&[("/etc/netplan/a.yaml", both)]).definition("enp1s0", MAC).unwrap_err();
        assert!(error.message().contains("cannot be told"), "{error}");
        assert!(glob("e*p?s0".replace('?', "1").as_str(), "enp1s0") && !glob("eth*", "enp1s0"));
    }

    #[test]
    fn files_are_read_to_the_letter() {
        let read = |text: &str| Files::read(text).content("/etc/netplan/a.yaml").cloned().unwrap();
        assert_eq!(read("@/etc/netplan/a.yaml\n|a: 1\n|\n|b: 2\n\n@/etc/netplan/b.yaml\n|x\n\n"), "a: 1\n\nb: 2\n");
        assert_eq!(read("@/etc/netplan/a.yaml\n|\n|a\n\n@cloud-init\n"), "\na\n");
        assert_eq!(read("@/etc/netplan/a.yaml\n\n@/etc/netplan/b.yaml\n|x\n\n"), "");
        assert_eq!(read("@/etc/netplan/a.yaml\n|a: 1\n@/etc/netplan/b.yaml\n|x\n\n"), "a: 1");
    }

    #[test]
    fn later_folders_replace_files_of_the_same_name() {
        let now =
            files(&[("/run/netplan/a.yaml", "{}"), ("/etc/netplan/a.yaml", CLOUD), ("/lib/netplan/0.yaml", "{}")]);
        assert_eq!(
            now.files.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
            ["/lib/netplan/0.yaml", "/run/netplan/a.yaml"]
        );
    }

    #[test]
    fn cloud_init_is_told_once() {
        let told = Files::read(
            "@/etc/netplan/50-cloud-init.yaml\n|network: {ethernets: {enp1s0: {dhcp4: true}}}\n\n@cloud-init\n",
        );
        let changes = told.changes(&wanted("192.168.1.5/24", Mode::Additional)).unwrap();
        assert_eq!((changes[0].path.as_str(), changes[0].mode, &changes[0].before), (GUARD.0, "644", &None));
        assert_eq!(changes.len(), 2);
    }
}
