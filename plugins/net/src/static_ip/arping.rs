//! Whether an address is free, by what arping of iputils wrote. Its exit code says another thing in nearly every version.

/// What the questions into the network gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// Asked, and nobody answered.
    Nobody,
    /// Somebody has the address; whose MAC address, where it was written.
    Somebody(Option<String>),
    /// Nothing could be asked, or the output is none that is known: nobody can tell.
    Unknown(String),
}

/// Reads what `arping -D` wrote.
pub(super) fn read(text: &str) -> Neighbour {
    let count = |start: &str| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(start))?;
        line[start.len()..].split_whitespace().next()?.parse::<u32>().ok()
    };
    match (count("Sent "), count("Received ")) {
        (_, Some(received)) if received > 0 => Neighbour::Somebody(mac(text)),
        (Some(sent), Some(0)) if sent > 0 => Neighbour::Nobody,
        _ => Neighbour::Unknown(last_line(text)),
    }
}

/// Whether `arping -V` is that of iputils: Habets' arping has the same name and means other things by the same letters.
pub(super) fn is_iputils(version: &str) -> bool {
    version.contains("iputils")
}

/// Of the line `Unicast reply from 192.168.1.5 [52:54:00:AB:CD:EF]  0.812ms`.
fn mac(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains(" reply from "))?;
    let (mac, _) = line.split_once('[')?.1.split_once(']')?;
    Some(mac.to_lowercase())
}

fn last_line(text: &str) -> String {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it wrote nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_decide() {
        assert_eq!(read(include_str!("../../testdata/arping_dad_free.txt")), Neighbour::Nobody);
        let taken = Neighbour::Somebody(Some("52:54:00:ab:cd:ef".to_owned()));
        assert_eq!(read(include_str!("../../testdata/arping_dad_conflict.txt")), taken);
    }

    #[test]
    fn what_could_not_be_asked_is_not_free() {
        let unplugged =
            "ARPING 192.168.1.5 from 0.0.0.0 enp1s0\nSent 0 probes (0 broadcast(s))\nReceived 0 response(s)\n";
        assert_eq!(read(unplugged), Neighbour::Unknown("Received 0 response(s)".to_owned()));
        assert_eq!(
            read("arping: Interface \"eth7\" is not ARPable\n"),
            Neighbour::Unknown("arping: Interface \"eth7\" is not ARPable".to_owned())
        );
        assert!(matches!(read(""), Neighbour::Unknown(_)));
        // Cut off before it counted.
        assert!(matches!(read("Sent 3 probes (3 broadcast(s))\n"), Neighbour::Unknown(_)));
    }

    #[test]
    fn an_answer_without_a_mac_is_an_answer() {
        assert_eq!(read("Sent 1 probes (1 broadcast(s))\nReceived 1 response(s)\n"), Neighbour::Somebody(None));
    }

    #[test]
    fn the_other_arping_is_told_by_its_version() {
        assert!(is_iputils("arping from iputils 20221126"));
        assert!(!is_iputils("ARPing 2.23, by Thomas Habets <thomas@habets.se>"));
    }
}
