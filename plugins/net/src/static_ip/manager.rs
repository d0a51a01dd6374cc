//! Profiles of NetworkManager.

use std::net::Ipv4Addr;

use runbook_sdk::prelude::*;

use super::input::{Address, Mode};

/// What a profile says of IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// `auto`, `manual`, ...
    pub(super) method: String,
    /// Addresses of its own, besides those from DHCP.
    pub(super) addresses: Vec<Address>,
    /// Of the default route.
    pub(super) gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub(super) dns: Vec<Ipv4Addr>,
}

/// The UUID of the profile that is active on an interface, by `nmcli -t -f NAME,UUID,DEVICE con show --active`.
pub(super) fn active_on(interface: &str, text: &str) -> Option<String> {
    text.lines().map(fields).find_map(|fields| match &fields[..] {
        [_, uuid, device] if device == interface => Some(uuid.clone()),
        _ => None,
    })
}

/// The fields of a line: `:` between them, `\:` and `\\` in them.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, fields.last_mut()) {
            (':', _) => fields.push(String::new()),
            ('\\', Some(last)) => last.extend(chars.next()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    fields
}

impl Profile {
    /// What `nmcli -g FIELD,...` asks for, in the order of [`Profile::read`].
    pub(super) const FIELDS: &'static str = "ipv4.method,ipv4.addresses,ipv4.gateway,ipv4.dns";

    /// Reads what `nmcli -g` printed: a line for each field.
    ///
    /// # Errors
    ///
    /// Where it is something else.
    pub(super) fn read(text: &str) -> Result<Self> {
        let lines: Vec<&str> = text.split('\n').map(str::trim).collect();
        let [method, addresses, gateway, dns, ..] = &lines[..] else {
            fail!("nmcli did not print the {} that were asked for, but: {text}", Self::FIELDS);
        };
        let list =
            |text: &str| text.split([',', ' ']).map(str::to_owned).filter(|word| !word.is_empty()).collect::<Vec<_>>();
        let read = |word: &String| {
            Address::read(word).ok_or_else(|| Error::failed(format!("nmcli calls {word} an address, which it is not")))
        };
        Ok(Self {
            method: (*method).to_owned(),
            addresses: list(addresses).iter().map(read).collect::<Result<_>>()?,
            gateway: gateway.parse().ok(),
            dns: list(dns).iter().filter_map(|word| word.parse().ok()).collect(),
        })
    }

    /// What it has to say.
    pub(super) fn wanted(&self, address: Address, mode: Mode, gateway: Option<Ipv4Addr>, dns: &[Ipv4Addr]) -> Self {
        match mode {
            Mode::Additional => {
                let mut wanted = self.clone();
                if !wanted.addresses.contains(&address) {
                    wanted.addresses.push(address);
                }
                wanted
            }
            Mode::Primary => Self { method: "manual".to_owned(), addresses: vec![address], gateway, dns: dns.to_vec() },
        }
    }

    /// Method, addresses, gateway and name servers, as `nmcli con mod` takes them.
    pub(super) fn words(&self) -> [String; 4] {
        fn list<T: ToString>(items: &[T]) -> String {
            items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        let gateway = self.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
        [self.method.clone(), list(&self.addresses), gateway, list(&self.dns)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0c7b1b3a-2d6b-4f3a-9f60-0f3c1b0f4d11";

    #[test]
    fn the_active_profile_is_found_by_its_device() {
        let text = format!("Wi-Fi\\: home:9d0e:wlan0\nWired connection 1:{UUID}:eth0\nlo:1:lo\n");
        assert_eq!(active_on("eth0", &text).as_deref(), Some(UUID));
        assert_eq!(active_on("wlan0", &text).as_deref(), Some("9d0e"));
        assert_eq!(active_on("eth1", &text), None);
    }

    #[test]
    fn one_more_address_keeps_dhcp() {
        let now = Profile::read("auto\n\n\n\n").unwrap();
        let address = Address::read("192.168.1.5/24").unwrap();
        let wanted = now.wanted(address, Mode::Additional, None, &[]);
        assert_eq!(wanted.words(), ["auto", "192.168.1.5/24", "", ""]);
        assert_eq!(wanted.wanted(address, Mode::Additional, None, &[]), wanted);
        // What takes it back says the former values.
        assert_eq!(now.words(), ["auto", "", "", ""]);
    }

    #[test]
    fn a_primary_address_replaces_the_others() {
        let now = Profile::read("manual\n192.168.1.6/24, 10.0.0.2/8\n192.168.1.1\n192.168.1.8,1.1.1.1\n").unwrap();
        assert_eq!(now.words(), ["manual", "192.168.1.6/24,10.0.0.2/8", "192.168.1.1", "192.168.1.8,1.1.1.1"]);
        let gateway = Some(Ipv4Addr::new(192, 168, 1, 1));
        let dns = [Ipv4Addr::new(192, 168, 1, 8)];
        let wanted = now.wanted(Address::read("192.168.1.5/24").unwrap(), Mode::Primary, gateway, &dns);
        assert_eq!(wanted.words(), ["manual", "192.168.1.5/24", "192.168.1.1", "192.168.1.8"]);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        assert!(Profile::read("auto").is_err());
        assert!(Profile::read("manual\nnonsense\n\n\n").is_err());
    }
}
