//! Ranges: a stretch of one subnet that addresses are given from, as it is written in configurations (the
//! names are those of the `host-local` plugin) and as it is once that was found to make sense.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::number::{Family, number};

/// A range as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RangeConfig {
    /// The subnet; pods are told its length.
    pub subnet: IpNet,
    /// First address to give; without it, the first that a host may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_start: Option<IpAddr>,
    /// Last address to give; without it, the last that a host may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_end: Option<IpAddr>,
    /// The gateway, which is never given; without it, the first address that a host may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// What is never given besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Exclusion>,
}

impl From<IpNet> for RangeConfig {
    fn from(subnet: IpNet) -> Self {
        Self { subnet, range_start: None, range_end: None, gateway: None, exclude: Vec::new() }
    }
}

/// An address, or all addresses of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Exclusion {
    /// One address.
    Address(IpAddr),
    /// A prefix, its first and last address included.
    Prefix(IpNet),
}

impl Exclusion {
    pub(crate) fn numbers(&self) -> RangeInclusive<u128> {
        match self {
            Self::Address(address) => number(*address)..=number(*address),
            Self::Prefix(prefix) => number(prefix.network())..=number(prefix.broadcast()),
        }
    }

    fn family(&self) -> Family {
        match self {
            Self::Address(address) => Family::of(*address),
            Self::Prefix(prefix) => Family::of(prefix.addr()),
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}

/// A range that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    subnet: IpNet,
    gateway: Option<IpAddr>,
    exclude: Vec<Exclusion>,
    numbers: RangeInclusive<u128>,
}

/// Why ranges make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRange {
    /// A set has no range.
    #[error("a range set needs at least one range")]
    Empty,
    /// An address lies outside of its range's subnet.
    #[error("{field} {address} is not in the subnet {subnet}")]
    Outside {
        /// Which field.
        field: &'static str,
        /// What it says.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// The first address comes after the last one.
    #[error("rangeStart {start} comes after rangeEnd {end}")]
    Backwards {
        /// The first.
        start: IpAddr,
        /// The last.
        end: IpAddr,
    },
    /// No address that a host may have is between the first and the last one.
    #[error(
        "the range in {0} has no address that a host may have (network and broadcast addresses are none)"
    )]
    Nothing(IpNet),
    /// Something is of the other family than its subnet.
    #[error("{field} {value} and the subnet {subnet} are of different families")]
    Family {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: String,
        /// The subnet.
        subnet: IpNet,
    },
    /// The ranges of a set are of both families.
    #[error("{0} and {1} are of different families: give each family a range set of its own")]
    Mixed(IpNet, IpNet),
    /// Two ranges have addresses in common.
    #[error("the ranges {0} and {1} overlap")]
    Overlap(String, String),
}

impl Range {
    pub(crate) fn new(config: &RangeConfig) -> Result<Self, InvalidRange> {
        let subnet = config.subnet.trunc();
        let hosts = hosts(&subnet);
        let within = |field, address: Option<IpAddr>| match address {
            Some(address) if !subnet.contains(&address) => {
                Err(InvalidRange::Outside { field, address, subnet })
            }
            address => Ok(address.map(number)),
        };
        let start = within("rangeStart", config.range_start)?.unwrap_or(*hosts.start());
        let end = within("rangeEnd", config.range_end)?.unwrap_or(*hosts.end());
        if let (true, Some(first), Some(last)) = (start > end, config.range_start, config.range_end) {
            return Err(InvalidRange::Backwards { start: first, end: last });
        }
        let numbers = start.max(*hosts.start())..=end.min(*hosts.end());
        if numbers.is_empty() {
            return Err(InvalidRange::Nothing(subnet));
        }
        let family = Family::of(subnet.addr());
        let other = |field, value: String| Err(InvalidRange::Family { field, value, subnet });
        if let Some(gateway) = config.gateway.filter(|gateway| Family::of(*gateway) != family) {
            return other("gateway", gateway.to_string());
        }
        if let Some(exclusion) = config.exclude.iter().find(|exclusion| exclusion.family() != family) {
            return other("exclude", exclusion.to_string());
        }
        // Where no address is to spare there is no gateway unless one is named.
        let has_hosts_besides = hosts.end() - hosts.start() > 0;
        let default = family.address(*hosts.start()).filter(|_| has_hosts_besides);
        Ok(Self { subnet, gateway: config.gateway.or(default), exclude: config.exclude.clone(), numbers })
    }

    /// The subnet.
    #[must_use]
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The gateway, unless the subnet is too small to have one.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// What is never given besides.
    #[must_use]
    pub fn exclusions(&self) -> &[Exclusion] {
        &self.exclude
    }

    /// As it could have been written.
    pub(crate) fn to_config(&self) -> RangeConfig {
        let end = |number: &u128| self.family().address(*number);
        RangeConfig {
            subnet: self.subnet,
            range_start: end(self.numbers.start()),
            range_end: end(self.numbers.end()),
            gateway: self.gateway,
            exclude: self.exclude.clone(),
        }
    }

    pub(crate) fn family(&self) -> Family {
        Family::of(self.subnet.addr())
    }

    /// From the first address to the last one, the gateway and exclusions among them.
    pub(crate) fn numbers(&self) -> &RangeInclusive<u128> {
        &self.numbers
    }

    /// True if `address` is between the first and the last one.
    pub(crate) fn spans(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && self.numbers.contains(&number(address))
    }
}

impl fmt::Display for Range {
    /// The subnet if all of it is meant, else the first and the last address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |number: u128| self.family().address(number);
        match (end(*self.numbers.start()), end(*self.numbers.end())) {
            (Some(start), Some(end)) if self.numbers != hosts(&self.subnet) => {
                write!(f, "{start} to {end} of {}", self.subnet)
            }
            _ => self.subnet.fmt(f),
        }
    }
}

/// The addresses of `prefix` that a host may have: not the network and broadcast addresses of an IPv4 prefix, nor
/// the all-zeroes (subnet router) address of an IPv6 one; prefixes too short to have them (/31, /32, /127, /128)
/// are used whole (RFC 3021, RFC 6164).
fn hosts(prefix: &IpNet) -> RangeInclusive<u128> {
    let (first, last) = (number(prefix.network()), number(prefix.broadcast()));
    match prefix {
        _ if last - first < 2 => first..=last,
        IpNet::V4(_) => first + 1..=last - 1,
        IpNet::V6(_) => first + 1..=last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(json: serde_json::Value) -> Result<Range, String> {
        let config: RangeConfig = serde_json::from_value(json).map_err(|e| e.to_string())?;
        Range::new(&config).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_whole_subnet_with_its_first_address_as_gateway() {
        for (subnet, gateway, shown) in [
            ("10.0.0.0/24", Some("10.0.0.1"), "10.0.0.1 to 10.0.0.254"),
            ("10.0.0.0/31", Some("10.0.0.0"), "10.0.0.0 to 10.0.0.1"),
            ("10.0.0.7/32", None, "10.0.0.7 to 10.0.0.7"),
            ("fd00::/64", Some("fd00::1"), "fd00::1 to fd00::ffff:ffff:ffff:ffff"),
            ("fd00::/128", None, "fd00:: to fd00::"),
        ] {
            let range = range(serde_json::json!({ "subnet": subnet })).unwrap();
            assert_eq!(range.gateway().map(|gateway| gateway.to_string()).as_deref(), gateway, "{subnet}");
            let address = |number| range.family().address(number).unwrap();
            let ends = (address(*range.numbers().start()), address(*range.numbers().end()));
            assert_eq!(format!("{} to {}", ends.0, ends.1), shown);
            assert_eq!(range.to_string(), subnet);
        }
    }

    #[test]
    fn network_and_broadcast_addresses_are_left_out_even_if_named() {
        let range = range(serde_json::json!({
            "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.0", "rangeEnd": "10.0.0.255", "gateway": "192.0.2.1"
        }));
        let range = range.unwrap();
        assert!(!range.spans("10.0.0.0".parse().unwrap()) && !range.spans("10.0.0.255".parse().unwrap()));
        assert!(range.spans("10.0.0.1".parse().unwrap()), "a gateway elsewhere takes no address here");
    }

    #[test]
    fn ranges_that_make_no_sense_say_why() {
        use serde_json::json;
        for (json, why) in [
            (json!({ "subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1" }), "rangeStart 10.0.1.1 is not in"),
            (json!({ "subnet": "10.0.0.0/24", "rangeEnd": "fd00::1" }), "rangeEnd fd00::1 is not in"),
            (
                json!({ "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.5" }),
                "rangeStart 10.0.0.9 comes after rangeEnd 10.0.0.5",
            ),
            (
                json!({ "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.255" }),
                "no address that a host may have",
            ),
            (json!({ "subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.0" }), "no address that a host may have"),
            (json!({ "subnet": "10.0.0.0/24", "gateway": "fd00::1" }), "gateway fd00::1 and"),
            (json!({ "subnet": "fd00::/64", "exclude": ["10.0.0.0/30"] }), "exclude 10.0.0.0/30 and"),
            (json!({ "subnet": "10.0.0.0/33" }), "invalid"),
            (json!({ "subnet": "10.0.0.0/24", "excludes": [] }), "unknown field `excludes`"),
            (json!({}), "missing field `subnet`"),
        ] {
            let error = range(json.clone()).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
