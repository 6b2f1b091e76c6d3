//! Pod prefixes that share no address, of both families.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

/// The prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefixes(BTreeSet<IpNet>);

impl Prefixes {
    /// Adds `cidr`, unless it shares addresses with one that is there: then that one is returned.
    pub(super) fn insert(&mut self, cidr: IpNet) -> Result<(), IpNet> {
        // Prefixes are ordered by their first address, and either nest or are apart.
        let inside = self.0.range(cidr..).next().filter(|next| cidr.contains(*next));
        if let Some(other) = inside.copied().or_else(|| self.containing(cidr.network())) {
            return Err(other);
        }
        self.0.insert(cidr);
        Ok(())
    }

    /// The prefix that `address` lies in.
    pub(super) fn containing(&self, address: IpAddr) -> Option<IpNet> {
        let last = self.0.range(..=IpNet::from(address)).next_back()?;
        last.contains(&address).then_some(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_found_whichever_comes_first_and_families_are_apart() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mut prefixes = Prefixes::default();
        for apart in ["10.244.1.0/24", "10.244.3.0/24", "fd00:1::/64", "10.244.2.0/25"] {
            prefixes.insert(net(apart)).unwrap();
        }
        for (overlapping, with) in [
            ("10.244.1.0/24", "10.244.1.0/24"),
            ("10.244.0.0/16", "10.244.1.0/24"),
            ("10.244.1.128/25", "10.244.1.0/24"),
            ("fd00:1:0:0:1::/80", "fd00:1::/64"),
            ("fd00::/16", "fd00:1::/64"),
        ] {
            assert_eq!(prefixes.insert(net(overlapping)), Err(net(with)), "{overlapping}");
        }
        prefixes.insert(net("10.244.2.128/25")).unwrap();
    }

    #[test]
    fn an_address_is_found_in_its_prefix() {
        let mut prefixes = Prefixes::default();
        for cidr in ["10.244.1.0/24", "10.244.3.0/24", "fd00:1::/64"] {
            prefixes.insert(cidr.parse().unwrap()).unwrap();
        }
        for (address, expected) in [
            ("10.244.1.0", Some("10.244.1.0/24")),
            ("10.244.1.255", Some("10.244.1.0/24")),
            ("10.244.2.1", None),
            ("10.244.0.255", None),
            ("fd00:1::9", Some("fd00:1::/64")),
            ("::1", None),
        ] {
            let found = prefixes.containing(address.parse().unwrap());
            assert_eq!(found.map(|cidr| cidr.to_string()).as_deref(), expected, "{address}");
        }
    }
}
