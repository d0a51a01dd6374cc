//! `static-ip`: a machine takes an address, and never loses itself.

mod arping;
mod input;
mod look;
mod manager;
mod netplan;
mod words;

use std::net::Ipv4Addr;

use runbook_sdk::Cmd;
use runbook_sdk::prelude::*;

use arping::Neighbour;
use input::{Input, Mode, Renderer, Wish};
use look::{Interface, Network};
use manager::Profile;
use netplan::{Definition, Files, Wanted};
use words::{How, Takeover, Words};

/// The files of netplan, and whether cloud-init is there.
const LOOK: &str = include_str!("static_ip/look.sh");
/// Whether netplan understands its files, with others in their places.
const TRY: &str = include_str!("static_ip/try.sh");
/// The change, and what takes it back.
const TAKE: &str = include_str!("static_ip/take.sh");

/// What stands under `outputs`.
#[derive(Output)]
pub(crate) struct Outputs {
    /// The interface that has the address.
    interface: String,
    /// The address with its prefix length.
    address: String,
    /// What the interface had before the step.
    before: Vec<String>,
}

/// The machine, and what it says of its network.
struct Site {
    machine: Machine,
    network: Network,
    files: Files,
    /// What NetworkManager says of its active profiles; none: it does not run.
    active: Option<String>,
    resolv_conf: String,
    arping: Output,
}

pub(crate) fn converge(input: Input) -> Result<Outputs> {
    let wish = Wish::new(input)?;
    let site = Site::look()?;
    let interface = site.network.interface(wish.interface.as_deref())?;
    let held: Vec<String> = interface.held().iter().map(|held| held.address.to_string()).collect();
    // What was there before the step, also when it is gone on with after a crash.
    let before = run::baseline("before", &held)?;
    let how = site.how(&wish, interface)?;
    let takeover = Takeover {
        interface: &interface.name,
        address: wish.address,
        mode: wish.mode,
        held: interface.held(),
        how: &how,
    };
    if !(how.is_settled() && takeover.is_done()) {
        site.refuse_what_cannot_be(&wish, interface)?;
        if !interface.has(wish.address) {
            site.refuse_what_is_taken(&wish, interface)?;
        }
        site.take(&wish, &takeover)?;
    }
    Ok(Outputs { interface: interface.name.clone(), address: wish.address.to_string(), before })
}

/// By what others see, and by netplan's and NetworkManager's own words: `converge` went by the kernel's and the files.
pub(crate) fn verify(input: Input) -> Result<Vec<String>> {
    let wish = Wish::new(input)?;
    let site = Site::look()?;
    let interface = site.network.interface(wish.interface.as_deref())?;
    let (address, name) = (wish.address, &interface.name);
    let mut wrong = Vec::new();
    match site.neighbour(interface, address.ip)? {
        Neighbour::Nobody => {}
        Neighbour::Somebody(mac) => wrong.push(format!(
            "another machine answers for {}{}: switch one of the two off",
            address.ip,
            by(mac.as_deref())
        )),
        Neighbour::Unknown(said) => {
            wrong.push(format!("nobody can tell whether another machine has {}: {said}", address.ip))
        }
    }
    if let Some(gateway) = site.network.gateway(name).filter(|gateway| address.reaches(*gateway)) {
        let [ip, gateway] = [address.ip, gateway].map(|ip| ip.to_string());
        let asked = site.root(["arping", "-c", "2", "-w", "4", "-I", name, "-s", &ip, &gateway]).observe()?;
        if !matches!(arping::read(&asked.text()), Neighbour::Somebody(_)) {
            wrong.push(format!("the gateway {gateway} does not answer {ip} on {name}"));
        }
    }
    let (who, said) = match site.how(&wish, interface)? {
        How::Netplan(_) => ("netplan", site.root(["netplan", "get"]).observe()?),
        How::Profile { .. } => {
            ("NetworkManager", site.root(["nmcli", "-g", "IP4.ADDRESS", "device", "show", name]).observe()?)
        }
    };
    let words = |c: char| !(c.is_ascii_digit() || matches!(c, '.' | '/'));
    if !said.text().split(words).any(|word| word == address.to_string()) {
        wrong.push(format!("{who} does not speak of {address}: it may be lost at the next boot"));
    }
    Ok(wrong)
}

impl Site {
    fn look() -> Result<Self> {
        let machine = Machine::target("host")?;
        let look =
            |argv: &[&str]| machine.cmd(argv.iter().copied()).privileged().reads(READS).timeout(Period::seconds(30));
        let outputs = machine.observe_all([
            look(&["ip", "-j", "addr", "show"]),
            look(&["ip", "-j", "route", "show", "default"]),
            look(&["sh", "-c", LOOK]),
            look(&["nmcli", "-t", "-f", "NAME,UUID,DEVICE", "con", "show", "--active"]),
            look(&["cat", "/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"]),
            look(&["arping", "-V"]),
        ])?;
        let Ok([addresses, routes, files, active, resolv_conf, arping]) = <[Output; 6]>::try_from(outputs) else {
            fail!("internal error: not as many answers as questions");
        };
        let network = Network { interfaces: addresses.ok()?.json()?, routes: routes.ok()?.json()? };
        Ok(Self {
            network,
            files: Files::read(&String::from_utf8_lossy(&files.ok()?.stdout)),
            active: active.success().then(|| active.text()),
            // One of the two may be missing.
            resolv_conf: resolv_conf.text(),
            arping,
            machine,
        })
    }

    /// A command of root's, which looks.
    fn root<'a>(&self, argv: impl IntoIterator<Item = &'a str>) -> Cmd<'_> {
        self.machine.cmd(argv).privileged().reads(READS).timeout(Period::seconds(30))
    }

    /// Who is to do it, and what it is to be told.
    fn how(&self, wish: &Wish, interface: &Interface) -> Result<How> {
        let name = interface.name.as_str();
        let definition = self.files.definition(name, &interface.mac)?;
        let profile = self.active.as_deref().and_then(|active| manager::active_on(name, active));
        match (wish.renderer, profile) {
            (Renderer::Auto, Some(uuid)) if definition.is_none() => self.profile(wish, interface, uuid),
            (Renderer::Auto | Renderer::Netplan, _) if !self.files.is_empty() => {
                self.netplan(wish, interface, definition.as_ref())
            }
            (Renderer::NetworkManager, Some(uuid)) => self.profile(wish, interface, uuid),
            (Renderer::NetworkManager, None) => {
                conflict!("NetworkManager has no active profile for {name} on {}", self.machine.name())
            }
            (Renderer::Netplan, _) => conflict!("netplan has no files on {}", self.machine.name()),
            (Renderer::Auto, _) => conflict!(
                "neither netplan nor NetworkManager gives {name} its addresses on {}: what does is not known here \
                 (/etc/network/interfaces is done by hand)",
                self.machine.name()
            ),
        }
    }

    fn netplan(&self, wish: &Wish, interface: &Interface, definition: Option<&Definition>) -> Result<How> {
        let name = interface.name.as_str();
        let own = self.files.own(name, definition)?;
        let is_ours = own.dhcp4 == Some(false) && own.addresses == [wish.address];
        let known = match is_ours {
            // What was found when the file was written, whatever it looks like since.
            true => (own.gateway, own.nameservers),
            false if self.files.leaves_dns_to_dhcp(name, definition)? => self.found(interface),
            false => (self.network.gateway(name), Vec::new()),
        };
        let (gateway, nameservers) = wish.way_out(known)?;
        let wanted = Wanted {
            interface: name,
            mac: &interface.mac,
            address: wish.address,
            mode: wish.mode,
            gateway,
            nameservers,
        };
        Ok(How::Netplan(self.files.changes(&wanted)?))
    }

    fn profile(&self, wish: &Wish, interface: &Interface, uuid: String) -> Result<How> {
        let now = self.root(["nmcli", "-g", Profile::FIELDS, "con", "show", &uuid]).observe()?.ok()?;
        let now = Profile::read(&String::from_utf8_lossy(&now.stdout))?;
        let is_ours = now.method == "manual" && now.addresses == [wish.address];
        let known = match is_ours {
            true => (now.gateway, now.dns.clone()),
            false if now.dns.is_empty() => self.found(interface),
            false => (self.network.gateway(&interface.name), now.dns.clone()),
        };
        let (gateway, dns) = wish.way_out(known)?;
        let wanted = now.wanted(wish.address, wish.mode, gateway, &dns);
        Ok(How::Profile { uuid, now, wanted })
    }

    /// Where the way out leads now, and who is asked for names.
    fn found(&self, interface: &Interface) -> (Option<Ipv4Addr>, Vec<Ipv4Addr>) {
        (self.network.gateway(&interface.name), look::nameservers(&self.resolv_conf))
    }

    /// Before anything is asked of the neighbours.
    fn refuse_what_cannot_be(&self, wish: &Wish, interface: &Interface) -> Result<()> {
        let (host, address) = (self.machine.name(), wish.address);
        if !interface.is_up() {
            conflict!("{} on {host} is down, or its cable is out: nothing can be known of its network", interface.name);
        }
        match self.network.holder(address.ip) {
            Some((holder, _)) if holder.name != interface.name => {
                conflict!("{host} has {} already, on {}", address.ip, holder.name)
            }
            Some((_, held)) if held != address => conflict!(
                "{host} has {} already, as {held}: take that away first, or say `address = \"{held}\"`",
                address.ip
            ),
            _ => Ok(()),
        }
    }

    /// The mandatory question to the neighbours.
    fn refuse_what_is_taken(&self, wish: &Wish, interface: &Interface) -> Result<()> {
        let ip = wish.address.ip;
        if !arping::is_iputils(&(self.arping.text() + &self.arping.stderr_text())) {
            conflict!(
                "{} has no arping of iputils, which tells whether {ip} is free (Debian and Ubuntu: the package iputils-arping)",
                self.machine.name()
            );
        }
        match self.neighbour(interface, ip)? {
            Neighbour::Nobody => Ok(()),
            Neighbour::Somebody(mac) => conflict!(
                "{ip} is taken: a machine{} answers for it on {}. Switch it off, or take the address from it, so that it cannot come \
                 back; then go on",
                by(mac.as_deref()),
                interface.name
            ),
            Neighbour::Unknown(said) => conflict!(
                "nobody can tell whether {ip} is free: not one question went out by {} ({said})",
                interface.name
            ),
        }
    }

    fn neighbour(&self, interface: &Interface, ip: Ipv4Addr) -> Result<Neighbour> {
        let ip = ip.to_string();
        // Its exit code says nothing: it differs from version to version.
        let asked = self.root(["arping", "-D", "-c", "3", "-w", "5", "-I", &interface.name, &ip]).observe()?;
        Ok(arping::read(&(asked.text() + "\n" + &asked.stderr_text())))
    }

    fn take(&self, wish: &Wish, takeover: &Takeover<'_>) -> Result<()> {
        if let How::Netplan(changes) = takeover.how {
            self.refuse_what_netplan_does_not_understand(changes)?;
        }
        let others = takeover.held.iter().filter(|held| held.address != wish.address);
        let others: Vec<String> = others.map(|held| held.address.to_string()).collect();
        let others = match (others.is_empty(), wish.mode) {
            (true, _) => String::new(),
            (false, Mode::Additional) => format!(" besides {}", others.join(", ")),
            (false, Mode::Primary) => format!(" instead of {}", others.join(", ")),
        };
        let summary = format!(
            "take {} on {}{others}, by {}; taken back unless {} answers within {}",
            wish.address,
            takeover.interface,
            takeover.how.name(),
            self.machine.name(),
            wish.window
        );
        let change = self.cmd(TAKE, takeover.commit()).change(summary);
        change.confirmed(self.cmd(TAKE, takeover.revert()), wish.window, &wish.confirm_at).alters(READS).run()?;
        if wish.mode == Mode::Primary {
            info!(
                "{} is at {} from now on: write that into the inventory, first of its addresses",
                self.machine.name(),
                wish.address.ip
            );
        }
        Ok(())
    }

    /// Before anything is changed, and in plans, too.
    fn refuse_what_netplan_does_not_understand(&self, changes: &[netplan::FileChange]) -> Result<()> {
        let mut words = Words::default();
        for (index, change) in changes.iter().filter(|change| change.path.ends_with(".yaml")).enumerate() {
            let name = format!("f{index}");
            words.argv.extend([change.path.clone(), format!("{{{name}}}")]);
            words.files.push((name, change.after.clone()));
        }
        let tried = self.cmd(TRY, words).reads(READS).timeout(Period::seconds(60)).observe()?;
        tried.ok().context("netplan does not accept what it would be told").map(drop)
    }

    /// One of the scripts, as root.
    fn cmd(&self, script: &str, words: Words) -> Cmd<'_> {
        let cmd = self.machine.cmd(["sh", "-c", script, "static-ip"]).args(words.argv).privileged();
        words.files.into_iter().fold(cmd, |cmd, (name, content)| cmd.temporary_file(name, content))
    }
}

impl Takeover<'_> {
    /// Whether the interface is as it is to be.
    fn is_done(&self) -> bool {
        let has_it = self.held.iter().any(|held| held.address == self.address && !held.is_leased);
        has_it && (self.mode == Mode::Additional || self.held.len() == 1)
    }
}

/// What the looks depend on, and what the change alters.
const READS: [&str; 6] = [
    "network",
    "path:/etc/netplan",
    "path:/run/netplan",
    "path:/etc/cloud",
    "path:/etc/NetworkManager",
    "path:/etc/resolv.conf",
];

fn by(mac: Option<&str>) -> String {
    mac.map(|mac| format!(" with the MAC address {mac}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the owner is shown, and agrees to, is what runs.
    #[test]
    fn the_manifest_asks_for_these_scripts_to_the_letter() {
        let manifest: toml::Value = toml::from_str(include_str!("../plugin.toml")).unwrap();
        let asks = manifest["action"][0]["ask"].as_array().unwrap();
        for (call, script) in [("ssh.observe", LOOK), ("ssh.observe", TRY), ("ssh.change", TAKE)] {
            let asked = asks.iter().any(|ask| {
                ask["call"].as_str() == Some(call)
                    && ask["on"].get("argv").and_then(|argv| argv.get(2)).and_then(toml::Value::as_str) == Some(script)
            });
            assert!(asked, "{call} of {script}");
        }
    }
}
