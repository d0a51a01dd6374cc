//! What stands under `with`, and what it means.

use std::fmt;
use std::net::Ipv4Addr;

use runbook_sdk::prelude::*;

/// What stands under `with`.
#[derive(Input)]
pub(crate) struct Input {
    /// The IPv4 address with the length of its network's prefix, such as "192.168.1.5/24".
    #[input(pattern = "^[0-9.]+/[0-9]+$")]
    address: String,
    /// What becomes of the addresses that the interface has.
    #[input(default = "additional")]
    mode: Mode,
    /// The interface. Left out: that of the default route.
    #[input(pattern = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$")]
    interface: Option<String>,
    /// `primary`: where the way out leads. Left out: where it leads now.
    gateway: Option<Ipv4Addr>,
    /// `primary`: who is asked for names. Left out: those that are asked now.
    #[input(default)]
    nameservers: Vec<Ipv4Addr>,
    /// Who gives the interface its addresses.
    #[input(default = "auto")]
    renderer: Renderer,
    /// Addresses where the machine has to answer afterwards. Left out: at the new one with `primary`, else where the inventory says.
    #[input(min_items = 1)]
    confirm_at: Option<Vec<String>>,
    /// The machine takes the change back by itself unless it was reached in this time.
    #[input(default = "120s")]
    window: Period,
}

/// What becomes of the addresses that the interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Input)]
pub(super) enum Mode {
    /// The machine keeps its own addresses.
    Additional,
    /// It has this one instead of all others of the interface, and is reached there from then on.
    Primary,
}

/// Who gives the interface its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Input)]
pub(super) enum Renderer {
    /// Whoever does now.
    Auto,
    /// Files of netplan.
    Netplan,
    /// A profile of NetworkManager.
    #[input(name = "networkmanager")]
    NetworkManager,
}

/// An IPv4 address and the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    /// The address itself.
    pub(super) ip: Ipv4Addr,
    /// 1 to 32.
    pub(super) prefix: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl Address {
    /// Of `192.168.1.5/24`; none where it is something else, such as an IPv6 address.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (ip, prefix) = text.trim().split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        (1..=32).contains(&prefix).then_some(())?;
        Some(Self { ip: ip.parse().ok()?, prefix })
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }

    /// Whether another address is in its network.
    pub(super) fn reaches(self, other: Ipv4Addr) -> bool {
        u32::from(self.ip) & self.mask() == u32::from(other) & self.mask()
    }

    /// Whether a machine can have it: the first and the last one of a network are not for machines.
    fn is_for_a_machine(self) -> bool {
        let host = u32::from(self.ip) & !self.mask();
        let ends = self.prefix < 31 && (host == 0 || host == !self.mask());
        !ends
            && !self.ip.is_unspecified()
            && !self.ip.is_loopback()
            && !self.ip.is_multicast()
            && !self.ip.is_broadcast()
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// The address.
    pub(super) address: Address,
    /// What becomes of the others.
    pub(super) mode: Mode,
    /// None: the one of the default route.
    pub(super) interface: Option<String>,
    /// None: the one there is.
    pub(super) gateway: Option<Ipv4Addr>,
    /// Empty: those there are.
    pub(super) nameservers: Vec<Ipv4Addr>,
    /// Who is to do it.
    pub(super) renderer: Renderer,
    /// Where the machine answers afterwards; empty: as the inventory says.
    pub(super) confirm_at: Vec<String>,
    /// How long a new connection may take.
    pub(super) window: Period,
}

impl Wish {
    pub(super) fn new(input: Input) -> Result<Self> {
        let Some(address) = Address::read(&input.address) else {
            invalid!(
                "`address` is no IPv4 address with the length of its network's prefix, such as \"192.168.1.5/24\": {}",
                input.address
            );
        };
        ensure!(address.is_for_a_machine(), "`address` is none that a machine can have: {address}");
        let Input { gateway, nameservers, .. } = input;
        if input.mode == Mode::Additional && (gateway.is_some() || !nameservers.is_empty()) {
            invalid!(
                "`gateway` and `nameservers` belong to `mode = \"primary\"`: with an additional address the machine keeps its own"
            );
        }
        if let Some(gateway) = gateway {
            check_gateway(address, gateway)?;
        }
        if input.confirm_at.iter().flatten().any(String::is_empty) {
            invalid!("`confirm_at`: an address is empty");
        }
        let confirm_at = match (input.confirm_at, input.mode) {
            (Some(addresses), _) => addresses,
            (None, Mode::Primary) => vec![address.ip.to_string()],
            (None, Mode::Additional) => Vec::new(),
        };
        Ok(Self {
            address,
            mode: input.mode,
            interface: input.interface,
            gateway,
            nameservers,
            renderer: input.renderer,
            confirm_at,
            window: input.window,
        })
    }

    /// Gateway and name servers that go with the address: those that were asked for, else those that are known.
    ///
    /// # Errors
    ///
    /// Where the gateway that is known is none for the new address.
    pub(super) fn way_out(
        &self,
        known: (Option<Ipv4Addr>, Vec<Ipv4Addr>),
    ) -> Result<(Option<Ipv4Addr>, Vec<Ipv4Addr>)> {
        if self.mode == Mode::Additional {
            return Ok((None, Vec::new()));
        }
        let (gateway, nameservers) = known;
        let gateway = self.gateway.or(gateway);
        if let Some(gateway) = gateway {
            check_gateway(self.address, gateway)?;
        }
        Ok((gateway, if self.nameservers.is_empty() { nameservers } else { self.nameservers.clone() }))
    }
}

/// A gateway that the machine could not reach with its new address would cut it off.
fn check_gateway(address: Address, gateway: Ipv4Addr) -> Result<()> {
    if gateway == address.ip || !address.reaches(gateway) {
        invalid!(
            "the gateway {gateway} is not another machine in the network of {address}: the machine would reach nobody outside; \
             say the right one as `gateway`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in super::super) fn wish(with: Value) -> Result<Wish> {
        Wish::new(serde_json::from_value(with)?)
    }

    #[test]
    fn the_safest_is_the_default() {
        let wish = wish(json!({ "address": "192.168.1.5/24" })).unwrap();
        assert_eq!((wish.mode, wish.renderer, wish.window), (Mode::Additional, Renderer::Auto, Period::minutes(2)));
        assert!(wish.confirm_at.is_empty());
    }

    #[test]
    fn a_primary_address_is_confirmed_at_itself() {
        let with = json!({ "address": "192.168.1.5/24", "mode": "primary", "gateway": "192.168.1.1", "window": "30s" });
        let primary = wish(with).unwrap();
        assert_eq!(primary.confirm_at, ["192.168.1.5"]);
        let with = json!({ "address": "192.168.1.5/24", "mode": "primary", "confirm_at": ["n1.lan"] });
        assert_eq!(wish(with).unwrap().confirm_at, ["n1.lan"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (with, word) in [
            (json!({ "address": "192.168.1.5" }), "prefix"),
            (json!({ "address": "192.168.1.5/0" }), "prefix"),
            (json!({ "address": "fd00::5/64" }), "IPv4"),
            (json!({ "address": "192.168.1.0/24" }), "none that a machine can have"),
            (json!({ "address": "192.168.1.255/24" }), "none that a machine can have"),
            (json!({ "address": "127.0.0.1/8" }), "none that a machine can have"),
            (json!({ "address": "192.168.1.5/24", "gateway": "192.168.1.1" }), "primary"),
            (json!({ "address": "192.168.1.5/24", "mode": "primary", "gateway": "192.168.2.1" }), "gateway"),
            (json!({ "address": "192.168.1.5/24", "mode": "primary", "gateway": "192.168.1.5" }), "gateway"),
            (json!({ "address": "192.168.1.5/24", "mode": "primary", "nameservers": ["dns"] }), "IPv4"),
        ] {
            let error = wish(with).unwrap_err();
            assert!(error.message().contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn the_way_out_stays_unless_another_one_is_said() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let known = || (Some(ip("192.168.1.1")), vec![ip("192.168.1.8")]);
        let primary = |more: Value| {
            let mut with = json!({ "address": "192.168.1.5/24", "mode": "primary" });
            with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            wish(with).unwrap()
        };
        assert_eq!(primary(json!({})).way_out(known()).unwrap(), known());
        let other = primary(json!({ "gateway": "192.168.1.254", "nameservers": ["1.1.1.1"] }));
        assert_eq!(other.way_out(known()).unwrap(), (Some(ip("192.168.1.254")), vec![ip("1.1.1.1")]));
        // To another network, the known way does not lead.
        let error = primary(json!({ "address": "10.0.0.5/24" })).way_out(known()).unwrap_err();
        assert!(error.message().contains("`gateway`"), "{error}");
        let additional = wish(json!({ "address": "10.0.0.5/24" })).unwrap();
        assert_eq!(additional.way_out(known()).unwrap(), (None, Vec::new()));
    }

    #[test]
    fn networks_are_told_apart() {
        let address = Address::read("10.1.2.3/20").unwrap();
        assert!(address.reaches(Ipv4Addr::new(10, 1, 15, 254)) && !address.reaches(Ipv4Addr::new(10, 1, 16, 1)));
        // Two machines with a cable between them have no first and last address to spare.
        assert!(Address::read("10.0.0.0/31").unwrap().is_for_a_machine());
        assert!(Address::read("10.0.0.7/32").unwrap().is_for_a_machine());
    }
}
