//! What differs between the address families in user space: the names of their tables, and how addresses are
//! written. All else is generic over it.

use std::{fmt::Debug, hash::Hash, net::IpAddr};

use beeline_abi::{Address, Inet4, Inet6};

use crate::desired::{Backend, BackendState, Frontend, Service};

/// An address family.
pub(crate) trait Family: Address + Hash + Debug {
    const FLOWS: &'static str;
    const FRONTENDS: &'static str;
    const SOURCE_RANGES: &'static str;
    const BACKENDS: &'static str;
    const AFFINITY: &'static str;
    const ENDPOINTS: &'static str;
    const ROUTES: &'static str;

    /// `address` as the maps keep it, if it is of this family.
    fn from_ip(address: IpAddr) -> Option<Self>;
    /// The address for people and for the rest of the program.
    fn to_ip(self) -> IpAddr;
}

impl Family for Inet4 {
    const FLOWS: &'static str = "FLOWS4";
    const FRONTENDS: &'static str = "FRONTENDS4";
    const SOURCE_RANGES: &'static str = "SOURCE_RANGES4";
    const BACKENDS: &'static str = "BACKENDS4";
    const AFFINITY: &'static str = "AFFINITY4";
    const ENDPOINTS: &'static str = "ENDPOINTS4";
    const ROUTES: &'static str = "ROUTES4";

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }

    fn to_ip(self) -> IpAddr {
        std::net::Ipv4Addr::from(self).into()
    }
}

impl Family for Inet6 {
    const FLOWS: &'static str = "FLOWS6";
    const FRONTENDS: &'static str = "FRONTENDS6";
    const SOURCE_RANGES: &'static str = "SOURCE_RANGES6";
    const BACKENDS: &'static str = "BACKENDS6";
    const AFFINITY: &'static str = "AFFINITY6";
    const ENDPOINTS: &'static str = "ENDPOINTS6";
    const ROUTES: &'static str = "ROUTES6";

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.into()),
        }
    }

    fn to_ip(self) -> IpAddr {
        std::net::Ipv6Addr::from(self).into()
    }
}

/// Those of `frontends` that are of family `A`, with their VIPs.
pub(crate) fn of<A: Family>(frontends: &[Frontend]) -> impl Iterator<Item = (A, &Frontend)> {
    frontends.iter().filter_map(|frontend| Some((A::from_ip(frontend.vip)?, frontend)))
}

/// The frontends of `service` that are of family `A`, with their VIPs.
pub(crate) fn frontends<A: Family>(service: &Service) -> impl Iterator<Item = (A, &Frontend)> {
    of(&service.frontends).chain(of(&service.shared)).chain(of(&service.load_balancers))
}

/// The source ranges of `service` that are of family `A`: first address, and length in bits. Without any, all may ask.
pub(crate) fn source_ranges<A: Family>(service: &Service) -> impl Iterator<Item = (A, u8)> {
    service.source_ranges.iter().filter_map(|range| Some((A::from_ip(range.network())?, range.prefix_len())))
}

/// The backends of `service` that are of family `A`.
pub(crate) fn backends<A: Family>(service: &Service) -> impl Iterator<Item = (A, &Backend)> {
    service.backends.iter().filter_map(|backend| Some((A::from_ip(backend.address)?, backend)))
}

/// Those of them that take new flows.
pub(crate) fn ready<A: Family>(service: &Service) -> impl Iterator<Item = &Backend> {
    backends::<A>(service).map(|(_, backend)| backend).filter(|backend| backend.state == BackendState::Ready)
}
