//! What a machine says of its network.

use std::net::Ipv4Addr;

use runbook_sdk::prelude::*;

use super::input::Address;

/// An interface, as `ip -j addr show` prints it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Interface {
    #[serde(rename = "ifname")]
    pub(super) name: String,
    /// Its MAC address.
    #[serde(default, rename = "address")]
    pub(super) mac: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default, rename = "addr_info")]
    addresses: Vec<AddrInfo>,
}

#[derive(Debug, Clone, Deserialize)]
struct AddrInfo {
    #[serde(default)]
    family: String,
    #[serde(default)]
    local: String,
    #[serde(default)]
    prefixlen: u8,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    dynamic: bool,
}

/// A default route, as `ip -j route show default` prints it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Route {
    gateway: Option<Ipv4Addr>,
    dev: Option<String>,
    #[serde(default)]
    metric: u32,
}

/// An address that an interface has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) address: Address,
    /// From DHCP.
    pub(super) is_leased: bool,
}

impl Interface {
    /// Its IPv4 addresses, those that lead nowhere left out.
    pub(super) fn held(&self) -> Vec<Held> {
        let held = self
            .addresses
            .iter()
            .filter(|info| info.family == "inet" && matches!(info.scope.as_str(), "global" | "site"));
        held.filter_map(|info| {
            let address = Address { ip: info.local.parse().ok()?, prefix: info.prefixlen };
            Some(Held { address, is_leased: info.dynamic })
        })
        .collect()
    }

    pub(super) fn has(&self, address: Address) -> bool {
        self.held().iter().any(|held| held.address == address)
    }

    /// The cable is in, or whatever stands for it.
    pub(super) fn is_up(&self) -> bool {
        self.flags.iter().any(|flag| flag == "LOWER_UP")
    }
}

/// The machine's network as it is now.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) interfaces: Vec<Interface>,
    pub(super) routes: Vec<Route>,
}

impl Network {
    /// The interface of this name; none given: the one that the way out goes by.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub(super) fn interface(&self, name: Option<&str>) -> Result<&Interface> {
        let best = || self.routes.iter().min_by_key(|route| route.metric)?.dev.as_deref();
        let Some(name) = name.or_else(best) else {
            invalid!(
                "the machine has no default route that would tell which interface is meant: say it as `interface`"
            );
        };
        let known = || self.interfaces.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        self.interfaces
            .iter()
            .find(|one| one.name == name)
            .ok_or_else(|| Error::invalid(format!("there is no interface {name}; there are {}", known())))
    }

    /// Where the way out by an interface leads.
    pub(super) fn gateway(&self, interface: &str) -> Option<Ipv4Addr> {
        let by = self.routes.iter().filter(|route| route.dev.as_deref() == Some(interface));
        by.min_by_key(|route| route.metric)?.gateway
    }

    /// The interface that has an address now, with whatever prefix.
    pub(super) fn holder(&self, ip: Ipv4Addr) -> Option<(&Interface, Address)> {
        self.interfaces.iter().find_map(|one| {
            let held = one.held().into_iter().find(|held| held.address.ip == ip)?;
            Some((one, held.address))
        })
    }
}

/// The name servers of a resolv.conf that other machines are: what stands for the machine itself says nothing.
pub(super) fn nameservers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let mut servers: Vec<Ipv4Addr> = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        if let Some(server) = words.next().and_then(|word| word.parse::<Ipv4Addr>().ok())
            && !server.is_loopback()
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        Network {
            interfaces: serde_json::from_str(include_str!("../../testdata/ip_j_addr_show.json")).unwrap(),
            routes: serde_json::from_str(include_str!("../../testdata/ip_j_route_default.json")).unwrap(),
        }
    }

    #[test]
    fn the_interface_of_the_default_route_is_meant() {
        let network = network();
        let interface = network.interface(None).unwrap();
        assert_eq!((interface.name.as_str(), interface.mac.as_str()), ("enp1s0", "52:54:00:12:34:56"));
        let address = Address::read("192.168.1.6/24").unwrap();
        assert_eq!(interface.held(), [Held { address, is_leased: true }]);
        assert!(interface.has(address) && interface.is_up());
        assert!(!interface.has(Address::read("192.168.1.6/16").unwrap()));
        assert_eq!(network.gateway("enp1s0"), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(network.gateway("eth7"), None);
        assert_eq!(network.holder(address.ip).map(|(one, held)| (one.name.as_str(), held)), Some(("enp1s0", address)));
    }

    #[test]
    fn an_interface_that_is_not_there_is_said() {
        let error = network().interface(Some("eth0")).unwrap_err();
        assert!(error.message().contains("eth0") && error.message().contains("enp1s0"), "{error}");
        let lost = Network { routes: Vec::new(), ..network() };
        assert!(lost.interface(None).unwrap_err().message().contains("`interface`"));
    }

    #[test]
    fn the_least_metric_wins() {
        let route =
            |dev: &str, metric| json!({ "dst": "default", "gateway": "10.0.0.1", "dev": dev, "metric": metric });
        let routes = json!([route("wlan0", 600), route("enp1s0", 100)]);
        let network = Network { routes: serde_json::from_value(routes).unwrap(), ..network() };
        assert_eq!(network.interface(None).unwrap().name, "enp1s0");
    }

    #[test]
    fn name_servers_of_the_machine_itself_say_nothing() {
        let text = "# x\nnameserver 127.0.0.53\nnameserver 192.168.1.8\noptions edns0\nnameserver 192.168.1.8\nnameserver fe80::1\n";
        assert_eq!(nameservers(text), [Ipv4Addr::new(192, 168, 1, 8)]);
    }
}
