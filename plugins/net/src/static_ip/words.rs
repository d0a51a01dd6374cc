//! What `take.sh` is told: how the address is taken, and how that is taken back.

use super::input::{Address, Mode};
use super::look::Held;
use super::manager::Profile;
use super::netplan::FileChange;

/// Who is to give the interface its addresses, and what it is told for that.
#[derive(Debug)]
pub(super) enum How {
    /// Files of netplan.
    Netplan(Vec<FileChange>),
    /// A profile of NetworkManager, as it is and as it is to be.
    Profile { uuid: String, now: Profile, wanted: Profile },
}

impl How {
    /// Whether it says so already.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Netplan(changes) => changes.is_empty(),
            Self::Profile { now, wanted, .. } => now == wanted,
        }
    }

    /// For people.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Netplan(_) => "netplan",
            Self::Profile { .. } => "NetworkManager",
        }
    }
}

/// A change of an interface's addresses.
#[derive(Debug)]
pub(super) struct Takeover<'a> {
    pub(super) interface: &'a str,
    pub(super) address: Address,
    pub(super) mode: Mode,
    /// What the interface has now.
    pub(super) held: Vec<Held>,
    pub(super) how: &'a How,
}

/// Arguments, and the files that they name as `{NAME}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) argv: Vec<String>,
    pub(super) files: Vec<(String, String)>,
}

impl Words {
    fn say<const N: usize>(&mut self, words: [&str; N]) {
        self.argv.extend(words.map(str::to_owned));
    }

    fn file(&mut self, path: &str, mode: &str, content: &str) {
        let name = format!("f{}", self.files.len());
        self.say(["file", path, mode, &format!("{{{name}}}")]);
        self.files.push((name, content.to_owned()));
    }

    fn profile(&mut self, uuid: &str, profile: &Profile) {
        self.say(["profile", uuid]);
        self.argv.extend(profile.words());
    }
}

impl Takeover<'_> {
    fn has_it_already(&self) -> bool {
        self.held.iter().any(|held| held.address == self.address)
    }

    /// The addresses that go.
    fn others(&self) -> impl Iterator<Item = Held> + '_ {
        let go = self.mode == Mode::Primary;
        self.held.iter().copied().filter(move |held| go && held.address != self.address)
    }

    pub(super) fn commit(&self) -> Words {
        let (address, ip) = (self.address.to_string(), self.address.ip.to_string());
        let mut words = Words::default();
        words.say([self.interface]);
        if !self.has_it_already() {
            // Once more than `converge` did: a run that was cut off there comes back here, whenever that is.
            words.say(["free", &ip]);
        }
        match self.how {
            How::Netplan(changes) => {
                for change in changes {
                    words.file(&change.path, change.mode, &change.after);
                }
                words.say(["netplan"]);
            }
            How::Profile { uuid, wanted, .. } => words.profile(uuid, wanted),
        }
        words.say(["has", &address]);
        for other in self.others() {
            words.say(["not", &other.address.to_string()]);
        }
        // Also what confirms it may believe until now that the address is somebody else's.
        words.say(["tell", &ip]);
        words
    }

    pub(super) fn revert(&self) -> Words {
        let mut words = Words::default();
        words.say([self.interface]);
        // A lease is given anew, and may be another one.
        let fixed: Vec<Address> = self.others().filter(|held| !held.is_leased).map(|held| held.address).collect();
        match self.how {
            How::Netplan(changes) => {
                for change in changes.iter().rev() {
                    match &change.before {
                        Some(before) => words.file(&change.path, change.mode, before),
                        None => words.say(["gone", &change.path]),
                    }
                }
                fixed.iter().for_each(|address| words.say(["keep", &address.to_string()]));
                words.say(["netplan"]);
            }
            How::Profile { uuid, now, .. } => words.profile(uuid, now),
        }
        fixed.iter().for_each(|address| words.say(["has", &address.to_string()]));
        if !self.has_it_already() {
            words.say(["not", &self.address.to_string()]);
        }
        fixed.iter().for_each(|address| words.say(["tell", &address.ip.to_string()]));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(address: &str, is_leased: bool) -> Held {
        Held { address: Address::read(address).unwrap(), is_leased }
    }

    fn takeover(how: &How, mode: Mode, held: Vec<Held>) -> Takeover<'_> {
        Takeover { interface: "eth0", address: Address::read("192.168.1.5/24").unwrap(), mode, held, how }
    }

    fn file(path: &str, before: Option<&str>) -> FileChange {
        FileChange {
            path: path.to_owned(),
            mode: "600",
            before: before.map(str::to_owned),
            after: format!("new {path}"),
        }
    }

    #[test]
    fn an_additional_address_leaves_the_others_alone() {
        let how = How::Netplan(vec![file("/etc/netplan/90.yaml", None)]);
        let takeover = takeover(&how, Mode::Additional, vec![held("192.168.1.6/24", false)]);
        let commit = takeover.commit();
        assert_eq!(
            commit.argv.join(" "),
            "eth0 free 192.168.1.5 file /etc/netplan/90.yaml 600 {f0} netplan has 192.168.1.5/24 tell 192.168.1.5"
        );
        assert_eq!(commit.files, [("f0".to_owned(), "new /etc/netplan/90.yaml".to_owned())]);
        assert_eq!(takeover.revert().argv.join(" "), "eth0 gone /etc/netplan/90.yaml netplan not 192.168.1.5/24");
    }

    #[test]
    fn a_primary_address_comes_before_the_others_go() {
        let how = How::Netplan(vec![file("/etc/netplan/01.yaml", Some("old")), file("/etc/netplan/90.yaml", None)]);
        let takeover =
            takeover(&how, Mode::Primary, vec![held("192.168.1.6/24", false), held("192.168.1.77/24", true)]);
        assert_eq!(
            takeover.commit().argv.join(" "),
            "eth0 free 192.168.1.5 file /etc/netplan/01.yaml 600 {f0} file /etc/netplan/90.yaml 600 {f1} netplan has 192.168.1.5/24 \
             not 192.168.1.6/24 not 192.168.1.77/24 tell 192.168.1.5"
        );
        let revert = takeover.revert();
        assert_eq!(
            revert.argv.join(" "),
            "eth0 gone /etc/netplan/90.yaml file /etc/netplan/01.yaml 600 {f0} keep 192.168.1.6/24 netplan has 192.168.1.6/24 \
             not 192.168.1.5/24 tell 192.168.1.6"
        );
        assert_eq!(revert.files, [("f0".to_owned(), "old".to_owned())]);
    }

    #[test]
    fn an_address_that_is_held_already_is_not_asked_for_and_stays() {
        let how = How::Netplan(vec![file("/etc/netplan/90.yaml", None)]);
        let takeover = takeover(&how, Mode::Additional, vec![held("192.168.1.5/24", false)]);
        assert!(!takeover.commit().argv.contains(&"free".to_owned()));
        assert!(!takeover.revert().argv.contains(&"not".to_owned()));
    }

    #[test]
    fn a_profile_gets_its_former_values_back() {
        let now = Profile::read("auto\n\n\n\n").unwrap();
        let address = Address::read("192.168.1.5/24").unwrap();
        let gateway = Some(std::net::Ipv4Addr::new(192, 168, 1, 1));
        let wanted = now.wanted(address, Mode::Primary, gateway, &[std::net::Ipv4Addr::new(192, 168, 1, 8)]);
        let how = How::Profile { uuid: "u1".to_owned(), now, wanted };
        let takeover = takeover(&how, Mode::Primary, vec![held("192.168.1.77/24", true)]);
        assert_eq!(
            takeover.commit().argv,
            [
                "eth0",
                "free",
                "192.168.1.5",
                "profile",
                "u1",
                "manual",
                "192.168.1.5/24",
                "192.168.1.1",
                "192.168.1.8",
                "has",
                "192.168.1.5/24",
                "not",
                "192.168.1.77/24",
                "tell",
                "192.168.1.5"
            ]
        );
        assert_eq!(takeover.revert().argv, ["eth0", "profile", "u1", "auto", "", "", "", "not", "192.168.1.5/24"]);
    }
}
