//! A network of its own for machines: a switch, and a cable from it to each of them.
//!
//! A machine's network is made as on a server, by netplan's files, `netplan`, and systemd-networkd, or as on a desktop, by a profile of
//! NetworkManager. All of them are Debian's own, and talk over a D-Bus of the machine; only `systemctl` and `udevadm`, which need
//! systemd and udev, are stand-ins (`tests/standins/networkd`).

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use crate::machine::Machine;
use crate::tools::{must, open_temp_dir, put, read, serial, tests_dir, text};

/// The interface of each machine.
const INTERFACE: &str = "eth0";

/// UUID of the profile of NetworkManager that a machine has.
const PROFILE: &str = "0c7b1b3a-2d6b-4f3a-9f60-0f3c1b0f4d11";

/// Who gives the machines their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renderer {
    /// netplan and systemd-networkd.
    Netplan,
    /// The same, and the addresses come from a DHCP server (busybox's), as `50-cloud-init.yaml` of a cloud image says it.
    Dhcp,
    /// NetworkManager alone; its profile is called `lan`.
    NetworkManager,
}

/// A switch with this computer on it, as the last address of its network, which is the gateway too.
#[derive(Debug)]
pub struct Lan {
    bridge: String,
    network: [u8; 3],
    machines: Vec<String>,
    dhcp: Option<(Child, tempfile::TempDir)>,
    leases: String,
}

impl Lan {
    pub(crate) fn create() -> Self {
        let bridge = format!("rbl{}x{}", std::process::id() % 1_000_000, serial());
        // Out of the first half of the benchmarking range, which is nobody's LAN.
        let [_, _, _, number] = std::process::id().wrapping_mul(7).wrapping_add(serial()).to_be_bytes();
        let lan = Self { bridge, network: [198, 18, number], machines: Vec::new(), dhcp: None, leases: String::new() };
        must(&["ip", "link", "add", &lan.bridge, "type", "bridge"]);
        must(&["ip", "addr", "add", &format!("{}/24", lan.at(254)), "dev", &lan.bridge]);
        must(&["ip", "link", "set", &lan.bridge, "up"]);
        lan
    }

    /// An address of the network.
    pub fn at(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, last)
    }

    /// Makes the network namespace of one more machine, with a cable to the switch.
    pub(crate) fn plug(&mut self) -> String {
        let name = format!("{}m{}", self.bridge, self.machines.len());
        must(&["ip", "netns", "add", &name]);
        self.machines.push(name.clone());
        must(&["ip", "link", "add", &name, "type", "veth", "peer", "name", INTERFACE, "netns", &name]);
        must(&["ip", "link", "set", &name, "master", &self.bridge, "up"]);
        for interface in ["lo", INTERFACE] {
            must(&["ip", "-n", &name, "link", "set", interface, "up"]);
        }
        name
    }

    /// The MAC address of the n-th machine, counted from 0.
    pub fn mac(&self, machine: usize) -> String {
        let link = must(&["ip", "-n", &self.machines[machine], "-o", "link", "show", INTERFACE]);
        let mut words = link.split_whitespace();
        words.find(|word| *word == "link/ether");
        words.next().unwrap_or_default().to_owned()
    }

    /// The IPv4 addresses that the n-th machine has now, counted from 0, with their prefix lengths; asked without SSH.
    pub fn addresses(&self, machine: usize) -> Vec<String> {
        let text = must(&["ip", "-n", &self.machines[machine], "-4", "-o", "addr", "show", "dev", INTERFACE]);
        text.lines().filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect()
    }

    /// The MAC address that this computer believes to be behind an address.
    pub fn neighbour(&self, address: Ipv4Addr) -> String {
        let known = must(&["ip", "neigh", "show", &address.to_string(), "dev", &self.bridge]);
        let mut words = known.split_whitespace();
        words.find(|word| *word == "lladdr");
        words.next().unwrap_or_default().to_owned()
    }

    /// Pulls the cable of the n-th machine, counted from 0, or puts it in again.
    pub fn cable(&self, machine: usize, is_in: bool) {
        must(&["ip", "link", "set", &self.machines[machine], if is_in { "up" } else { "down" }]);
    }

    /// Gives a machine, which is off, its network: this is what it comes up with.
    pub(crate) fn furnish(&mut self, machine: &Machine, renderer: Renderer, address: Ipv4Addr, systemd: bool) {
        let gateway = self.at(254);
        let standins: &[&str] = if systemd { &["udevadm"] } else { &["systemctl", "udevadm"] };
        for name in standins {
            let standin = read(&tests_dir().join("standins/networkd").join(name));
            machine.put(format!("/usr/local/sbin/{name}"), standin, 0o755);
        }
        let (path, content) = match renderer {
            Renderer::Netplan => (
                "/etc/netplan/01-lan.yaml",
                format!(
                    "# Written by hand.\nnetwork:\n  version: 2\n  ethernets:\n    {INTERFACE}:\n      addresses: [{address}/24]\n      \
                     routes:\n      - to: default\n        via: {gateway}\n"
                ),
            ),
            Renderer::Dhcp => {
                self.lease(address);
                let content = format!(
                    "network:\n  version: 2\n  ethernets:\n    {INTERFACE}:\n      dhcp4: true\n      dhcp-identifier: mac\n"
                );
                ("/etc/netplan/50-cloud-init.yaml", content)
            }
            Renderer::NetworkManager => (
                "/etc/NetworkManager/system-connections/lan.nmconnection",
                format!(
                    "[connection]\nid=lan\nuuid={PROFILE}\ntype=ethernet\ninterface-name={INTERFACE}\n[ipv4]\nmethod=manual\n\
                     address1={address}/24,{gateway}\ndns=198.51.100.53;\n[ipv6]\nmethod=disabled\n"
                ),
            ),
        };
        machine.put(path, content, 0o600);
    }

    /// From now on the machine that was plugged in last gets this address from the DHCP server.
    fn lease(&mut self, address: Ipv4Addr) {
        let mac = self.mac(self.machines.len() - 1);
        // Writing to a string cannot fail.
        let _ = writeln!(self.leases, "static_lease {mac} {address}");
        self.stop_dhcp();
        let dir = open_temp_dir("runbook-dhcp-", &std::env::temp_dir());
        let (file, gateway) = (|name: &str| dir.path().join(name), self.at(254));
        let config = format!(
            "interface {}\nstart {}\nend {}\nlease_file {}\npidfile {}\noption subnet 255.255.255.0\noption router {gateway}\noption dns \
             {gateway}\noption lease 3600\n{}",
            self.bridge,
            self.at(200),
            self.at(240),
            text(&file("leases")),
            text(&file("pid")),
            self.leases
        );
        put(&file("leases"), "", 0o644);
        put(&file("config"), config, 0o644);
        let server = Command::new("busybox")
            .args(["udhcpd", "-f", text(&file("config"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("busybox has a DHCP server");
        self.dhcp = Some((server, dir));
    }

    fn stop_dhcp(&mut self) {
        if let Some((mut server, _)) = self.dhcp.take() {
            drop(server.kill());
            drop(server.wait());
        }
    }

    /// What a machine does before its sshd starts.
    pub(crate) const BOOT: &str = "\
        export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
        mount -t sysfs -o ro sysfs /sys\n\
        mkdir -p /run/dbus\n\
        rm -f /run/dbus/system_bus_socket\n\
        dbus-daemon --system --fork --nopidfile\n\
        if [ -e /etc/NetworkManager/system-connections/lan.nmconnection ]; then\n\
        NetworkManager --no-daemon > /var/log/network-manager 2>&1 &\n\
        else\n\
        netplan generate\n\
        rm -rf /run/systemd/system\n\
        /lib/systemd/systemd-networkd > /var/log/networkd 2>&1 &\n\
        fi\n\
        exec \"$@\"";
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.stop_dhcp();
        // The cables go with them.
        for name in &self.machines {
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
        drop(Command::new("ip").args(["link", "del", &self.bridge]).output());
    }
}
