//! What the programs would do with a pod's packet, layer by layer as in `ebpf/src/port.rs`, from the live maps. Nothing is
//! sent, and nothing is remembered.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use beeline_abi::{
    Affinity, AffinityKey, Be16, Drop, EndpointKey, FlowKey, FrontendKey, Inet4, Node, RouteKey, Service,
    SourceRangeKey, VERSION, Vni, flow_hash,
};

use crate::{
    desired::Protocol,
    error::Result,
    family::Family,
    ports::EndpointView,
    service_name,
    services::maglev_tables::MaglevTables,
    tables::{ServiceNames, monotonic_ns},
    view::{FamilyMaps, FlowView, flow_view, some_ip},
};

/// What each layer says. A layer that is not reached says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The guard: the port that the source is behind, if it is one of this node's.
    pub port: Option<EndpointView>,
    /// The flow table: what is remembered of such packets.
    pub flow: Option<FlowView>,
    /// The load balancer.
    pub balanced: Option<Balanced>,
    /// Where the packet is for, after that.
    pub destination: SocketAddr,
    /// Forwarding.
    pub way: Option<Way>,
    /// The end of a packet that goes nowhere, and why.
    pub drop: Option<Drop>,
}

/// What the load balancer makes of a flow that it has not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balanced {
    /// No service is there.
    NoService,
    /// The service is left to the host.
    LeftToHost {
        /// Its name.
        service: String,
    },
    /// The client is outside the source ranges of a load balancer's address.
    OutOfRange {
        /// The service's name.
        service: String,
    },
    /// No backend takes it.
    NoBackend {
        /// The service's name.
        service: String,
    },
    /// A backend was chosen.
    Backend {
        /// The service's name.
        service: String,
        /// Slot of its Maglev table, from 0.
        slot: u32,
        /// Slots of the table.
        slots: u32,
        /// The backend.
        backend: SocketAddr,
        /// Whether the client's address alone decided.
        by_client: bool,
    },
}

/// Which way a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a pod of this node.
    Pod(EndpointView),
    /// To this node's own stack.
    Host,
    /// By VXLAN to another node.
    Overlay {
        /// Its underlay address.
        vtep: Ipv4Addr,
        /// The underlay's next hop, if it is given.
        next_hop: Option<Ipv4Addr>,
    },
}

/// The maps that are asked.
pub(crate) struct Tracer<'a> {
    pub(crate) node: Node,
    pub(crate) maglev: &'a MaglevTables,
    pub(crate) names: &'a ServiceNames,
    pub(crate) now: u64,
}

impl Tracer<'_> {
    /// Follows a packet from `src` to `dst`, both of family `A`.
    pub(crate) fn follow<A: Family>(
        &self,
        maps: &FamilyMaps<A>,
        protocol: Protocol,
        src: (A, u16),
        dst: (A, u16),
    ) -> Result<Trace> {
        let mut trace = Trace {
            port: None,
            flow: None,
            balanced: None,
            destination: SocketAddr::new(dst.0.to_ip(), dst.1),
            way: None,
            drop: None,
        };
        let vni = Vni::new(self.node.vni).filter(|_| self.node.abi_version == VERSION);
        let Some(vni) = vni else {
            trace.drop = Some(Drop::NotReady);
            return Ok(trace);
        };
        let endpoint = |addr: A| -> Result<Option<EndpointView>> {
            let found = maps.endpoints.get(&EndpointKey::new(vni, addr))?;
            Ok(found.map(|endpoint| EndpointView::new(addr.to_ip(), &endpoint)))
        };
        trace.port = endpoint(src.0)?.filter(|endpoint| !endpoint.host);
        if trace.port.is_none() {
            trace.drop = Some(Drop::ForgedSource);
            return Ok(trace);
        }
        let key = FlowKey::new(vni, protocol.number(), (src.0, Be16::new(src.1)), (dst.0, Be16::new(dst.1)));
        trace.flow = maps.flows.get(&key)?.and_then(|flow| flow_view(&key, &flow, self.now));
        let mut destination = dst.0;
        match self.balance(maps, vni, &key)? {
            Ok((balanced, backend)) => {
                if let (Balanced::Backend { backend: to, .. }, Some(addr)) = (&balanced, backend) {
                    trace.destination = *to;
                    destination = addr;
                }
                let is_left = matches!(balanced, Balanced::LeftToHost { .. });
                trace.balanced = Some(balanced);
                if is_left {
                    trace.way = Some(Way::Host);
                    return Ok(trace);
                }
            }
            Err((balanced, drop)) => {
                (trace.balanced, trace.drop) = (Some(balanced), Some(drop));
                return Ok(trace);
            }
        }
        trace.way = Some(match endpoint(destination)? {
            Some(endpoint) if endpoint.host => Way::Host,
            Some(endpoint) => Way::Pod(endpoint),
            None => match maps.routes.get(RouteKey::new(vni, destination))? {
                Some(route) => {
                    Way::Overlay { vtep: Inet4(route.vtep).into(), next_hop: some_ip(route.next_hop) }
                }
                None => Way::Host,
            },
        });
        Ok(trace)
    }

    /// The balancer's say, with the backend's address; or how it ends there.
    #[expect(
        clippy::type_complexity,
        reason = "a result within a result: one is the maps', the other the packet's"
    )]
    fn balance<A: Family>(
        &self,
        maps: &FamilyMaps<A>,
        vni: Vni,
        key: &FlowKey<A>,
    ) -> Result<std::result::Result<(Balanced, Option<A>), (Balanced, Drop)>> {
        let frontend = FrontendKey::new(vni, key.protocol(), key.dst, key.dst_port);
        let Some(service) = maps.frontends.get(&frontend)? else {
            let address = maps.frontends.get(&FrontendKey::any(vni, key.dst))?;
            let is_refused = address.is_some_and(|address| address.has(Service::ALL_PORTS));
            return Ok(if is_refused {
                Err((Balanced::NoService, Drop::NoFrontend))
            } else {
                Ok((Balanced::NoService, None))
            });
        };
        let name = self.names.get(&service.id)?;
        let name = name.map_or_else(|| format!("#{}", service.id), |name| service_name::decode(&name));
        if !service.has(Service::DSR) {
            return Ok(Ok((Balanced::LeftToHost { service: name }, None)));
        }
        let range = SourceRangeKey { service: service.id, addr: key.src };
        if service.has(Service::SOURCE_RANGES) && maps.source_ranges.get(range)?.is_none() {
            return Ok(Err((Balanced::OutOfRange { service: name }, Drop::SourceRange)));
        }
        let by_client = service.has(Service::CLIENT_IP_AFFINITY);
        let last =
            if by_client { maps.affinities.get(&AffinityKey::new(key.src, service.id))? } else { None };
        let last = match last {
            Some(last) if is_recent(&last, &service) => {
                maps.backends.get(&last.backend)?.map(|it| (last.backend, it))
            }
            _ => None,
        };
        let last = last.filter(|(_, it)| it.service == service.id && it.takes_new_flows()).map(|(id, _)| id);
        if let Some(slot) = flow_hash(key).checked_rem(service.slots)
            && let Some(id) = last.map_or_else(|| self.maglev.slot(service.table, slot), |id| Ok(Some(id)))?
            && let Some(backend) = maps.backends.get(&id)?
        {
            let to = SocketAddr::new(backend.addr.to_ip(), backend.port.get());
            let slots = service.slots;
            let balanced = Balanced::Backend { service: name, slot, slots, backend: to, by_client };
            return Ok(Ok((balanced, Some(backend.addr))));
        }
        let drop = if service.has(Service::SILENT) { Drop::NoLocalBackend } else { Drop::NoBackend };
        Ok(Err((Balanced::NoBackend { service: name }, drop)))
    }
}

/// Which of two families both addresses are of.
pub(crate) fn pair<A: Family>(src: IpAddr, dst: IpAddr) -> Option<(A, A)> {
    A::from_ip(src).zip(A::from_ip(dst))
}

/// True if the service's time-out has not passed since a client last used its backend.
fn is_recent(last: &Affinity, service: &Service) -> bool {
    let idle = std::time::Duration::from_nanos(monotonic_ns().saturating_sub(last.last_used));
    idle <= std::time::Duration::from_secs(service.affinity_timeout_s.into())
}
