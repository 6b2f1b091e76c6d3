//! Addresses as numbers, so that one piece of code counts and orders those of both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The address that `number` is in this family. A number too large for IPv4 is none of its.
    pub(crate) fn address(self, number: u128) -> Option<IpAddr> {
        match self {
            Self::V4 => u32::try_from(number).ok().map(|number| Ipv4Addr::from(number).into()),
            Self::V6 => Some(Ipv6Addr::from(number).into()),
        }
    }
}

/// The address as a number: its bytes, the first one weighing most.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
