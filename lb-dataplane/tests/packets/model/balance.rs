//! Load balancing: which backend a flow gets, if it is for a service.

use std::net::IpAddr;

use beeline_abi::{Be16, FlowKey, Inet4, Inet6, Vni, flow_hash};
use lb_dataplane::{
    Drop,
    desired::{Affinity, Backend, BackendState, Frontend, Service, WithoutBackends},
    maglev,
};

use super::{
    Choice, Model, Part, Tuple,
    flows::{Memory, Role},
};
use crate::{
    frame::{Packet, Transport},
    world::VNI,
};

impl Model {
    pub(super) fn balance(
        &mut self,
        tuple: &Tuple,
        known: Option<&Memory>,
        packet: &Packet,
        piece: Part,
    ) -> Result<Choice, Drop> {
        let &(protocol, src, dst) = tuple;
        let before = known.and_then(|known| match &known.role {
            Role::First { choice, .. } => Some(choice),
            Role::Reply { .. } => None,
        });
        let is_connection = matches!(before, Some(Choice::Backend(..) | Choice::Gone))
            && matches!(packet.transport, Transport::Tcp { syn, ack, .. } if !syn || ack);
        let is_asked = |frontend: &Frontend| {
            (frontend.vip, frontend.port.get(), frontend.protocol.number()) == (dst.0, dst.1, protocol)
        };
        let Some(service) = self.services.iter().find(|service| service.all_frontends().any(is_asked)) else {
            let is_vip = |service: &Service| service.dsr && service.frontends.iter().any(|f| f.vip == dst.0);
            return match packet.transport {
                _ if is_connection => Err(Drop::BackendGone),
                Transport::Ping { .. } | Transport::Error { .. } => Ok(Choice::None),
                _ if self.services.iter().any(is_vip) => {
                    let is_unknown = piece == Part::Later && dst.1 == 0;
                    Err(if is_unknown { Drop::FragmentWithoutFirst } else { Drop::NoFrontend })
                }
                _ => Ok(Choice::None),
            };
        };
        let client = (service.name.clone(), src.0);
        let is_sticky = matches!(service.affinity, Affinity::ClientIp { .. });
        match before {
            Some(Choice::ToHost(name)) if *name == service.name => {
                return Ok(Choice::ToHost(name.clone()));
            }
            // A connection goes on also where its frontend is another service's by now.
            Some(Choice::Backend(name, backend))
                if (is_connection || *name == service.name)
                    && self.services.iter().filter(|one| one.name == *name).any(|its| {
                        its.backends.iter().any(|one| {
                            is_at(one, *backend) && (is_connection || one.state == BackendState::Ready)
                        })
                    }) =>
            {
                if is_sticky
                    && *name == service.name
                    && let Some((last, used)) = self.affinities.get_mut(&client)
                    && last == backend
                {
                    *used = self.now;
                }
                return Ok(Choice::Backend(name.clone(), *backend));
            }
            _ => {}
        }
        if is_connection {
            return Err(Drop::BackendGone);
        }
        if !service.dsr {
            return Ok(Choice::ToHost(service.name.clone()));
        }
        if service.load_balancers.iter().any(is_asked) && !lets_in(service, src.0) {
            return Err(Drop::SourceRange);
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
        let slot = ready[table[hash(tuple) as usize % table.len()] as usize];
        let mut backend = (slot.address, slot.port.get());
        if let Affinity::ClientIp { timeout } = service.affinity {
            if let Some(&(last, used)) = self.affinities.get(&client)
                && self.now - used <= timeout.as_secs()
                && ready.iter().any(|one| is_at(one, last))
            {
                backend = last;
            }
            self.affinities.insert(client, (backend, self.now));
        }
        Ok(Choice::Backend(service.name.clone(), backend))
    }
}

/// Whether `client` may ask at load balancers' addresses.
fn lets_in(service: &Service, client: IpAddr) -> bool {
    let mut alike =
        service.source_ranges.iter().filter(|range| range.addr().is_ipv4() == client.is_ipv4()).peekable();
    alike.peek().is_none() || alike.any(|range| range.contains(&client))
}

/// True if `backend` is at this address and port.
pub(super) fn is_at(backend: &Backend, at: (IpAddr, u16)) -> bool {
    (backend.address, backend.port.get()) == at
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

fn hash(tuple: &Tuple) -> u32 {
    of_key(tuple, flow_hash, flow_hash)
}
