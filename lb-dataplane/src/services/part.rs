//! What one address family has of one service in the maps.

use std::collections::HashMap;

use beeline_abi::{Address, Backend, Be16, FrontendKey, Service, Vni};

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
    /// What all frontends say.
    pub(super) value: Service,
}

/// A frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct At<A> {
    pub(super) key: FrontendKey<A>,
    /// Whether its address is nothing but a VIP.
    pub(super) is_vip_only: bool,
}

impl<A> Default for Part<A> {
    fn default() -> Self {
        Self { backends: [].into(), frontends: [].into(), value: Service::default() }
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
    let at = |is_vip_only| {
        move |(vip, frontend): (A, &desired::Frontend)| {
            let port = Be16::new(frontend.port.get());
            At { key: FrontendKey::new(vni, frontend.protocol.number(), vip, port), is_vip_only }
        }
    };
    let vips = family::of::<A>(&service.frontends).map(at(true));
    vips.chain(family::of::<A>(&service.shared).map(at(false))).collect()
}
