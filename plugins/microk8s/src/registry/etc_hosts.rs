//! /etc/hosts: one name has one address.

/// The text in which `name` has this address and no other: other names, comments and lines stay as they are.
pub(super) fn ensure(text: &str, address: &str, name: &str) -> String {
    let wanted: Option<std::net::IpAddr> = address.parse().ok();
    let mut lines: Vec<String> = Vec::new();
    let mut there = false;
    for line in text.split_inclusive('\n') {
        let (entry, comment) = line.find('#').map_or((line, ""), |at| line.split_at(at));
        let mut fields = entry.split_whitespace();
        let its_address = fields.next().unwrap_or_default();
        let names: Vec<&str> = fields.collect();
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            lines.push(line.to_owned());
        } else if its_address.parse().ok() == wanted {
            there = true;
            lines.push(line.to_owned());
        } else {
            // The line of another address loses the name, and goes where it had no other.
            let others: Vec<&str> = names.into_iter().filter(|known| !known.eq_ignore_ascii_case(name)).collect();
            match (others.is_empty(), comment.trim().is_empty()) {
                (true, true) => {}
                (true, false) => lines.push(comment.to_owned()),
                (false, true) => lines.push(format!("{its_address}\t{}\n", others.join(" "))),
                (false, false) => lines.push(format!("{its_address}\t{} {comment}", others.join(" "))),
            }
        }
    }
    let mut out = lines.concat();
    if !there {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.extend([address, " ", name, "\n"]);
    }
    out
}

#[cfg(test)]
mod tests {
    fn ensure(text: &str) -> String {
        let once = super::ensure(text, "192.168.1.5", "registry.localdomain");
        assert_eq!(super::ensure(&once, "192.168.1.5", "registry.localdomain"), once, "{text:?}");
        once
    }

    #[test]
    fn a_name_gets_its_address() {
        let base = "127.0.0.1\tlocalhost\n";
        assert_eq!(ensure(base), "127.0.0.1\tlocalhost\n192.168.1.5 registry.localdomain\n");
        assert_eq!(ensure("127.0.0.1\tlocalhost"), "127.0.0.1\tlocalhost\n192.168.1.5 registry.localdomain\n");
        let there = "127.0.0.1 localhost\n192.168.1.5  nas Registry.localdomain # the NAS\n";
        assert_eq!(ensure(there), there);
    }

    #[test]
    fn another_address_loses_the_name_and_nothing_else() {
        assert_eq!(ensure("192.168.1.9 registry.localdomain\n"), "192.168.1.5 registry.localdomain\n");
        assert_eq!(
            ensure("192.168.1.9 nas registry.localdomain # old\n# registry.localdomain\n"),
            "192.168.1.9\tnas # old\n# registry.localdomain\n192.168.1.5 registry.localdomain\n"
        );
    }
}
