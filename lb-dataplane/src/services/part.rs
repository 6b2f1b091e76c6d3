//! What one address family has of one service in the maps.

use std::collections::HashMap;

use beeline_abi::{Address, Backend, Be16, FrontendKey, Service, SourceRangeKey, Vni};

use super::maglev_tables::{TableId, pieces};
use crate::{
    desired,
    family::{self, Family},
};

/// It, as last read or written.
#[derive(Debug)]
pub(super) struct Part<A> {
    /// With their ids.
    pub(super) backends: Box<[(u32, Backend<A>)]>,
    pub(super) frontends: Box<[At<A>]>,
    /// Who may ask where it is not open to all: prefix lengths, what stands before the address included, with keys.
    pub(super) source_ranges: Box<[(u32, SourceRangeKey<A>)]>,
    /// What all frontends say, but for [`Service::SOURCE_RANGES`], which is each one's own.
    pub(super) value: Service,
}

/// A frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct At<A> {
    pub(super) key: FrontendKey<A>,
    /// Whether its address is nothing but a VIP.
    pub(super) is_vip_only: bool,
    /// Whether only clients in the service's source ranges may ask.
    pub(super) has_ranges: bool,
}

impl<A> At<A> {
    /// What this one says of a service of which all say `value`.
    pub(super) fn value(&self, value: Service) -> Service {
        let ranges = if self.has_ranges { Service::SOURCE_RANGES } else { 0 };
        Service { flags: value.flags | ranges, ..value }
    }
}

impl<A> Default for Part<A> {
    fn default() -> Self {
        Self {
            backends: [].into(),
            frontends: [].into(),
            source_ranges: [].into(),
            value: Service::default(),
        }
    }
}

impl<A: Address> Part<A> {
    /// Its Maglev table, and the slots of it.
    pub(super) fn table(&self) -> (TableId, u32) {
        (self.value.table, self.value.slots)
    }

    /// Pieces of its Maglev table.
    pub(super) fn pieces(&self) -> usize {
        if self.value.table == 0 { 0 } else { pieces(self.value.slots) }
    }

    /// What its frontend at `key` says, if it has one there.
    pub(super) fn said_at(&self, key: &FrontendKey<A>) -> Option<Service> {
        self.frontends.iter().find(|at| at.key == *key).map(|at| at.value(self.value))
    }

    /// Whether it has a frontend at `key`.
    pub(super) fn has(&self, key: &FrontendKey<A>) -> bool {
        self.frontends.iter().any(|at| at.key == *key)
    }
}

impl<A: Family> Part<A> {
    /// Its backends with their ids, by where they are.
    pub(super) fn ids(&self) -> HashMap<(A, Be16), (u32, Backend<A>)> {
        self.backends.iter().map(|&(id, backend)| ((backend.addr, backend.port), (id, backend))).collect()
    }
}

/// The frontends of `service` that are of family `A`.
pub(super) fn frontends<A: Family>(vni: Vni, service: &desired::Service) -> Box<[At<A>]> {
    let at = |is_vip_only, has_ranges| {
        move |(vip, frontend): (A, &desired::Frontend)| {
            let key = FrontendKey::new(vni, frontend.protocol.number(), vip, Be16::new(frontend.port.get()));
            At { key, is_vip_only, has_ranges }
        }
    };
    let has_ranges = family::source_ranges::<A>(service).next().is_some();
    let vips = family::of::<A>(&service.frontends).map(at(true, false));
    vips.chain(family::of::<A>(&service.shared).map(at(false, false)))
        .chain(family::of::<A>(&service.load_balancers).map(at(false, has_ranges)))
        .collect()
}

/// The source ranges of `service`, which has this id, that are of family `A`.
pub(super) fn source_ranges<A: Family>(
    id: u32,
    service: &desired::Service,
) -> Box<[(u32, SourceRangeKey<A>)]> {
    // Where nobody asks for them, they cost nothing.
    let is_used = family::of::<A>(&service.load_balancers).next().is_some();
    let ranges = family::source_ranges::<A>(service).filter(|_| is_used);
    ranges
        .map(|(addr, bits)| {
            let bits = SourceRangeKey::<A>::SERVICE_BITS + u32::from(bits);
            (bits, SourceRangeKey { service: id, addr })
        })
        .collect()
}
