//! Load balancing: which backend a flow gets, if it is for a service.

use std::net::IpAddr;

use beeline_abi::{Be16, FlowKey, Inet4, Inet6, Vni, flow_hash};
use lb_dataplane::{
    Drop,
    desired::{Affinity, Backend, BackendState, Service, WithoutBackends},
    maglev,
};

use super::{Model, Part, Tuple, flows::Memory};
use crate::{frame::Packet, world::VNI};

pub(super) enum Balanced {
    No,
    ToHost(String),
    To(String, (IpAddr, u16)),
}

impl Model {
    pub(super) fn balance(
        &mut self,
        tuple: &Tuple,
        known: Option<Memory>,
        packet: &Packet,
        piece: Part,
    ) -> Result<Balanced, Drop> {
        use crate::frame::Transport::{Ping, Tcp};
        let &(protocol, src, dst) = tuple;
        let is_connection = matches!(known, Some(Memory::Request { .. }))
            && matches!(packet.transport, Tcp { syn, ack, .. } if !syn || ack);
        let Some(service) = self.services.iter().find(|service| {
            service.frontends.iter().any(|frontend| {
                (frontend.vip, frontend.port.get(), frontend.protocol.number()) == (dst.0, dst.1, protocol)
            })
        }) else {
            let is_vip = |service: &&Service| service.dsr && service.frontends.iter().any(|f| f.vip == dst.0);
            return match packet.transport {
                _ if is_connection => Err(Drop::BackendGone),
                Ping { .. } => Ok(Balanced::No),
                _ if self.services.iter().any(|service| is_vip(&service)) => {
                    let is_unknown = piece == Part::Later && dst.1 == 0;
                    Err(if is_unknown { Drop::FragmentWithoutFirst } else { Drop::NoFrontend })
                }
                _ => Ok(Balanced::No),
            };
        };
        if let Some(Memory::Left { service: before, .. }) = &known
            && *before == service.name
        {
            return Ok(Balanced::ToHost(before.clone()));
        }
        let takes = |b: &&Backend| is_connection || b.state == BackendState::Ready;
        if let Some(Memory::Request { service: before, backend, gone: false, .. }) = known
            && before == service.name
            && service.backends.iter().filter(takes).any(|b| (b.address, b.port.get()) == backend)
        {
            return Ok(Balanced::To(service.name.clone(), backend));
        }
        if is_connection {
            return Err(Drop::BackendGone);
        }
        if !service.dsr {
            return Ok(Balanced::ToHost(service.name.clone()));
        }
        let ready: Vec<_> =
            service.backends.iter().copied().filter(|b| b.state == BackendState::Ready).collect();
        let table = maglev::table(&ready);
        if table.is_empty() {
            return Err(match service.without_backends {
                WithoutBackends::Reject => Drop::NoBackend,
                WithoutBackends::Drop => Drop::NoLocalBackend,
            });
        }
        let client = (service.name.clone(), src.0);
        let sticks = matches!(service.affinity, Affinity::ClientIp { .. });
        if sticks
            && let Some(&last) = self.affinities.get(&client)
            && ready.iter().any(|b| (b.address, b.port.get()) == last)
        {
            return Ok(Balanced::To(service.name.clone(), last));
        }
        let Backend { address, port, .. } = ready[table[hash(tuple) as usize % table.len()] as usize];
        if sticks {
            self.affinities.insert(client, (address, port.get()));
        }
        Ok(Balanced::To(service.name.clone(), (address, port.get())))
    }
}

/// What `work` makes of the flow that `tuple` names.
pub(super) fn of_key<T>(
    &(protocol, src, dst): &Tuple,
    v4: impl Fn(&FlowKey<Inet4>) -> T,
    v6: impl Fn(&FlowKey<Inet6>) -> T,
) -> T {
    let vni = Vni::new(VNI).unwrap();
    let (from, to) = (Be16::new(src.1), Be16::new(dst.1));
    match (src.0, dst.0) {
        (IpAddr::V4(a), IpAddr::V4(b)) => v4(&FlowKey::new(vni, protocol, (a.into(), from), (b.into(), to))),
        (IpAddr::V6(a), IpAddr::V6(b)) => v6(&FlowKey::new(vni, protocol, (a.into(), from), (b.into(), to))),
        mixed => panic!("from one family to the other: {mixed:?}"),
    }
}

pub(super) fn hash(tuple: &Tuple) -> u32 {
    of_key(tuple, flow_hash, flow_hash)
}
