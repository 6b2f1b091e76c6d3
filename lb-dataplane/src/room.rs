//! Whether what is desired fits into the maps: known before anything of it is written.

use std::sync::Arc;

use beeline_abi::{Inet4, Inet6, capacity, maglev_size};

use crate::{
    desired::{Peer, Service},
    error::{Error, Result},
    family::{self, Family},
    services::maglev_tables::pieces,
};

/// An error if `peers` and `services` cannot all be in the maps, whatever is in them now.
pub fn check_room(peers: &[Peer], services: &[Arc<Service>]) -> Result<()> {
    check_peers(peers)?;
    Room::default().admit(services)
}

/// What services need of the maps, kept up as they come and go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    taken: Need,
}

impl Room {
    /// Counts `services` in.
    pub fn add(&mut self, services: &[Arc<Service>]) {
        for service in services {
            self.taken.add(Need::of(service));
        }
    }

    /// Counts `services`, which were counted in, out.
    pub fn remove(&mut self, services: &[Arc<Service>]) {
        for service in services {
            self.taken.take_away(Need::of(service));
        }
    }

    /// Whether the maps can hold what was counted in.
    ///
    /// # Errors
    /// [`Error::Full`] with the map that cannot.
    pub fn check(&self) -> Result<()> {
        self.taken.check()
    }

    /// Counts `services` in if the maps can hold them besides the others; else none of them.
    ///
    /// # Errors
    /// [`Error::Full`] with the map that cannot.
    pub fn admit(&mut self, services: &[Arc<Service>]) -> Result<()> {
        let mut with = *self;
        with.add(services);
        with.check()?;
        *self = with;
        Ok(())
    }
}

/// An error if `peers` cannot all be in the maps.
pub(crate) fn check_peers(peers: &[Peer]) -> Result<()> {
    room("PEERS", capacity::PEERS, peers.len())?;
    check_routes::<Inet4>(peers)?;
    check_routes::<Inet6>(peers)
}

fn check_routes<A: Family>(peers: &[Peer]) -> Result<()> {
    let cidrs = peers.iter().flat_map(|peer| &peer.pod_cidrs);
    let routes = cidrs.filter(|cidr| A::from_ip(cidr.network()).is_some()).count();
    room(A::ROUTES, capacity::ROUTES, routes)
}

/// Entries that services need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    services: usize,
    ipv4: FamilyNeed,
    ipv6: FamilyNeed,
    /// Pieces of Maglev tables.
    pub(crate) pieces: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FamilyNeed {
    frontends: usize,
    source_ranges: usize,
    backends: usize,
}

impl Need {
    /// What `service` needs.
    pub(crate) fn of(service: &Service) -> Self {
        let (ipv4, ipv4_pieces) = FamilyNeed::of::<Inet4>(service);
        let (ipv6, ipv6_pieces) = FamilyNeed::of::<Inet6>(service);
        Self { services: 1, ipv4, ipv6, pieces: ipv4_pieces + ipv6_pieces }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.each(more, |sum, more| *sum += more);
    }

    pub(crate) fn take_away(&mut self, less: Self) {
        self.each(less, |sum, less| *sum -= less);
    }

    fn each(&mut self, other: Self, change: impl Fn(&mut usize, usize)) {
        change(&mut self.services, other.services);
        for (own, other) in [(&mut self.ipv4, other.ipv4), (&mut self.ipv6, other.ipv6)] {
            change(&mut own.frontends, other.frontends);
            change(&mut own.source_ranges, other.source_ranges);
            change(&mut own.backends, other.backends);
        }
        change(&mut self.pieces, other.pieces);
    }

    /// An error if it is more than there is room for.
    pub(crate) fn check(&self) -> Result<()> {
        // Service 0 is none.
        room("SERVICE_NAMES", capacity::SERVICES - 1, self.services)?;
        self.ipv4.check::<Inet4>()?;
        self.ipv6.check::<Inet6>()?;
        room("MAGLEV", capacity::MAGLEV, self.pieces)
    }
}

impl FamilyNeed {
    /// What `service` needs, and how many pieces of Maglev tables.
    fn of<A: Family>(service: &Service) -> (Self, usize) {
        // Each frontend, and each VIP once more.
        let frontends = 2 * family::frontends::<A>(service).count();
        let source_ranges = family::source_ranges::<A>(service).count();
        let backends = family::backends::<A>(service).count();
        (
            Self { frontends, source_ranges, backends },
            pieces(maglev_size(family::ready::<A>(service).count())),
        )
    }

    fn check<A: Family>(&self) -> Result<()> {
        room(A::FRONTENDS, capacity::FRONTENDS, self.frontends)?;
        room(A::SOURCE_RANGES, capacity::SOURCE_RANGES, self.source_ranges)?;
        room(A::BACKENDS, capacity::BACKENDS, self.backends)
    }
}

/// An error if `wanted` entries are more than `map` holds.
pub(crate) fn room(map: &'static str, capacity: usize, wanted: usize) -> Result<()> {
    if wanted > capacity { Err(Error::Full { map, capacity, wanted }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, num::NonZeroU16, time::Duration};

    use super::*;
    use crate::desired::{Affinity, Backend, BackendState, Frontend, Protocol, WithoutBackends};

    fn service(frontends: usize, backends: usize) -> Arc<Service> {
        let (vip, port) = (Ipv4Addr::LOCALHOST.into(), NonZeroU16::MIN);
        Arc::new(Service {
            name: "echo".into(),
            frontends: vec![Frontend { vip, port, protocol: Protocol::Tcp }; frontends],
            shared: vec![],
            load_balancers: vec![],
            source_ranges: vec![],
            backends: vec![Backend { address: vip, port, state: BackendState::Ready }; backends],
            affinity: Affinity::None,
            without_backends: WithoutBackends::default(),
            flow_ttl: Duration::from_secs(1),
            dsr: true,
        })
    }

    fn peer(cidrs: usize) -> Peer {
        let cidr = "10.244.2.0/24".parse().unwrap();
        Peer { vtep: Ipv4Addr::LOCALHOST, next_hop: None, pod_cidrs: vec![cidr; cidrs], mac: None }
    }

    /// The map that is too small, if one is.
    fn full(peers: &[Peer], services: &[Arc<Service>]) -> Option<&'static str> {
        match check_room(peers, services) {
            Err(Error::Full { map, .. }) => Some(map),
            other => other.map(|()| None).unwrap(),
        }
    }

    #[test]
    fn every_map_is_full_by_one_entry_too_many() {
        assert_eq!(full(&vec![peer(2); capacity::PEERS], &[]), None);
        assert_eq!(full(&vec![peer(1); capacity::PEERS + 1], &[]), Some("PEERS"));
        assert_eq!(full(&[peer(capacity::ROUTES + 1)], &[]), Some("ROUTES4"));
        assert_eq!(full(&[], &vec![service(1, 1); capacity::SERVICES - 1]), None);
        assert_eq!(full(&[], &vec![service(0, 0); capacity::SERVICES]), Some("SERVICE_NAMES"));
        assert_eq!(full(&[], &[service(capacity::FRONTENDS / 2, 0)]), None);
        assert_eq!(full(&[], &[service(capacity::FRONTENDS / 2 + 1, 0)]), Some("FRONTENDS4"));
        assert_eq!(full(&[], &[service(1, capacity::BACKENDS)]), None);
        assert_eq!(full(&[], &[service(1, capacity::BACKENDS + 1)]), Some("BACKENDS4"));
        assert_eq!(full(&[], &vec![service(1, 101); 1_024]), None, "as many tables as its comment says");
        assert_eq!(full(&[], &vec![service(1, 101); 1_025]), Some("MAGLEV"));
    }
}
