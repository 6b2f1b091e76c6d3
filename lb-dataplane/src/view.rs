//! What the dataplane is and does, read from the live maps: for people's tools. Nothing here writes.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use beeline_abi::{
    Action, Be16, Drop, Flow, FlowKey, Hop, Inet4, Inet6, Mac, Node, Rewrite, RouteKey, Service,
    ServiceStats, SourceRangeKey, VERSION,
};
use ipnet::IpNet;

use crate::{
    desired::{Affinity, Backend, BackendState, Frontend, Protocol},
    error::Result,
    family::Family,
    pins::Pins,
    ports::EndpointView,
    service_name,
    services::maglev_tables::MaglevTables,
    tables::{
        Affinities, Backends, Cell, Counters, Endpoints, Flows, Frontends, Routes, ServiceNames,
        SourceRanges, Stats, check_layout, monotonic_ns,
    },
    trace::{self, Trace, Tracer},
};

/// What the programs know of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Layout of the maps.
    pub abi_version: u32,
    /// VNI of the pod network.
    pub vni: u32,
    /// This node's underlay address.
    pub vtep: Ipv4Addr,
    /// Device that carries the underlay.
    pub uplink_ifindex: u32,
    /// The host's own device.
    pub host_ifindex: u32,
    /// The host's own port.
    pub host_port_ifindex: u32,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Its id in the maps.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// True if it is balanced here, with direct return.
    pub dsr: bool,
    /// Whether a client stays with its backend.
    pub affinity: Affinity,
    /// Idle time to live of its flows.
    pub flow_ttl: Duration,
    /// Where it is found.
    pub frontends: Vec<Frontend>,
    /// Those of them that are for clients in `source_ranges` alone.
    pub restricted: Vec<Frontend>,
    /// Who may ask there.
    pub source_ranges: Vec<IpNet>,
    /// Who answers, and how many slots of the Maglev table each has.
    pub backends: Vec<(Backend, u32)>,
    /// What it did, summed over the CPUs.
    pub stats: ServiceStats,
}

/// The way to a remote pod prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView {
    /// The prefix.
    pub prefix: IpNet,
    /// Tunnel end.
    pub vtep: Ipv4Addr,
    /// Underlay next hop, if it is given.
    pub next_hop: Option<Ipv4Addr>,
    /// Inner destination MAC, if it is a plain VTEP.
    pub mac: Option<Mac>,
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// IP protocol number.
    pub protocol: u8,
    /// Source, as its packets come.
    pub src: SocketAddr,
    /// Destination, as its packets come.
    pub dst: SocketAddr,
    /// Where its packets go.
    pub action: Action,
    /// What is changed in them, and into what.
    pub rewrite: Rewrite,
    /// The address and port that `rewrite` writes.
    pub rewritten: Option<SocketAddr>,
    /// Service that decided; 0 for none.
    pub service: u32,
    /// Port its packets come from; `None` if they come from the overlay.
    pub from_ifindex: Option<u32>,
    /// Tunnel end its packets come from.
    pub from_vtep: Option<Ipv4Addr>,
    /// Device its packets leave by.
    pub to_ifindex: u32,
    /// Tunnel end its packets go to.
    pub to_vtep: Option<Ipv4Addr>,
    /// Time since a packet was seen, to a second or two.
    pub idle: Duration,
    /// True for the half that came with a request or stands alone; false for the half made for replies.
    pub forward: bool,
}

/// A reader of the live maps.
pub struct View {
    node: Cell<Node>,
    ipv4: FamilyMaps<Inet4>,
    ipv6: FamilyMaps<Inet6>,
    maglev: MaglevTables,
    names: ServiceNames,
    stats: Stats,
    drops: Counters<u64>,
    hops: Counters<u64>,
}

impl View {
    /// Opens the maps that the agent has pinned.
    pub fn open(pins: &Pins) -> Result<Self> {
        check_layout(pins)?;
        Ok(Self {
            node: Cell::open(pins, "NODE")?,
            ipv4: FamilyMaps::open(pins)?,
            ipv6: FamilyMaps::open(pins)?,
            maglev: MaglevTables::open(pins)?,
            names: ServiceNames::open(pins, "SERVICE_NAMES")?,
            stats: Stats::open(pins, "SERVICE_STATS")?,
            drops: Counters::open(pins, "DROPS")?,
            hops: Counters::open(pins, "HOPS")?,
        })
    }

    /// What the programs know of the node; `None` before the agent has told them.
    pub fn node(&self) -> Result<Option<NodeView>> {
        let node = self.node.get()?;
        Ok((node.abi_version == VERSION).then(|| NodeView {
            abi_version: node.abi_version,
            vni: node.vni,
            vtep: Inet4(node.vtep).into(),
            uplink_ifindex: node.uplink_ifindex,
            host_ifindex: node.host_ifindex,
            host_port_ifindex: node.host_port_ifindex,
            vxlan_port: node.vxlan_port.get(),
        }))
    }

    /// Name of each service, by its id.
    pub fn service_names(&self) -> Result<HashMap<u32, String>> {
        Ok(self.names.read()?.iter().map(|(&id, name)| (id, service_name::decode(name))).collect())
    }

    /// All services, by name.
    pub fn services(&self) -> Result<Vec<ServiceView>> {
        let mut parts = HashMap::new();
        let shares4 = self.ipv4.add_frontends(&self.maglev, &mut parts)?;
        let shares6 = self.ipv6.add_frontends(&self.maglev, &mut parts)?;
        // A service may have backends of a family by which it is not found.
        self.ipv4.add_backends(&shares4, &mut parts)?;
        self.ipv6.add_backends(&shares6, &mut parts)?;
        self.ipv4.add_source_ranges(&mut parts)?;
        self.ipv6.add_source_ranges(&mut parts)?;
        let mut services = Vec::with_capacity(parts.len());
        for (id, name) in self.names.read()? {
            let Some(mut part) = parts.remove(&id) else {
                continue;
            };
            part.frontends.sort();
            part.restricted.sort();
            part.source_ranges.sort();
            part.backends.sort();
            services.push(ServiceView {
                id,
                name: service_name::decode(&name),
                dsr: part.service.has(Service::DSR),
                affinity: if part.service.has(Service::CLIENT_IP_AFFINITY) {
                    Affinity::ClientIp {
                        timeout: Duration::from_secs(part.service.affinity_timeout_s.into()),
                    }
                } else {
                    Affinity::None
                },
                flow_ttl: Duration::from_millis(part.service.flow_ttl_ms.into()),
                frontends: part.frontends,
                restricted: part.restricted,
                source_ranges: part.source_ranges,
                backends: part.backends,
                stats: self.stats.sum(id, add_stats)?.unwrap_or_default(),
            });
        }
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(services)
    }

    /// All endpoints of this node, by address.
    pub fn endpoints(&self) -> Result<Vec<EndpointView>> {
        let mut endpoints: Vec<_> = EndpointView::all(&self.ipv4.endpoints)?
            .chain(EndpointView::all(&self.ipv6.endpoints)?)
            .collect();
        endpoints.sort_by_key(|endpoint| endpoint.address);
        Ok(endpoints)
    }

    /// All routes, by prefix.
    pub fn routes(&self) -> Result<Vec<RouteView>> {
        let mut routes: Vec<_> = self.ipv4.routes()?.chain(self.ipv6.routes()?).collect();
        routes.sort_by_key(|route| route.prefix);
        Ok(routes)
    }

    /// All flows, most recently seen first.
    pub fn flows(&self) -> Result<Vec<FlowView>> {
        let now = monotonic_ns();
        let mut flows: Vec<_> = self.ipv4.flows(now)?.chain(self.ipv6.flows(now)?).collect();
        flows.sort_by_key(|flow| (flow.idle, flow.src, flow.dst));
        Ok(flows)
    }

    /// What the programs would do with a pod's packet from `src` to `dst`; `None` if they are of two families.
    pub fn trace(&self, protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Result<Option<Trace>> {
        let tracer =
            Tracer { node: self.node.get()?, maglev: &self.maglev, names: &self.names, now: monotonic_ns() };
        let (from, to) = ((src.ip(), src.port()), (dst.ip(), dst.port()));
        if let Some((src, dst)) = trace::pair(from.0, to.0) {
            return tracer.follow(&self.ipv4, protocol, (src, from.1), (dst, to.1)).map(Some);
        }
        match trace::pair(from.0, to.0) {
            Some((src, dst)) => tracer.follow(&self.ipv6, protocol, (src, from.1), (dst, to.1)).map(Some),
            None => Ok(None),
        }
    }

    /// Packets dropped, for every reason there is.
    pub fn drops(&self) -> Result<Vec<(Drop, u64)>> {
        Drop::ALL
            .iter()
            .map(|&reason| Ok((reason, self.drops.sum(reason as u32, |a, b| a + b)?.unwrap_or(0))))
            .collect()
    }

    /// Packets that went on, for every way there is.
    pub fn hops(&self) -> Result<Vec<(Hop, u64)>> {
        Hop::ALL.iter().map(|&hop| Ok((hop, self.hops.sum(hop as u32, |a, b| a + b)?.unwrap_or(0)))).collect()
    }
}

/// The maps of one address family.
pub(crate) struct FamilyMaps<A: Family> {
    pub(crate) flows: Flows<A>,
    pub(crate) frontends: Frontends<A>,
    pub(crate) source_ranges: SourceRanges<A>,
    pub(crate) backends: Backends<A>,
    pub(crate) affinities: Affinities<A>,
    pub(crate) endpoints: Endpoints<A>,
    pub(crate) routes: Routes<A>,
}

/// Slots by service and backend.
type Shares = HashMap<u32, HashMap<u32, u32>>;

/// What the families have of one service, together.
struct Parts {
    service: Service,
    frontends: Vec<Frontend>,
    restricted: Vec<Frontend>,
    source_ranges: Vec<IpNet>,
    backends: Vec<(Backend, u32)>,
}

impl<A: Family> FamilyMaps<A> {
    fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            flows: Flows::open(pins, A::FLOWS)?,
            frontends: Frontends::open(pins, A::FRONTENDS)?,
            source_ranges: SourceRanges::open(pins, A::SOURCE_RANGES)?,
            backends: Backends::open(pins, A::BACKENDS)?,
            affinities: Affinities::open(pins, A::AFFINITY)?,
            endpoints: Endpoints::open(pins, A::ENDPOINTS)?,
            routes: Routes::open(pins, A::ROUTES)?,
        })
    }

    /// Adds the frontends that each service has in this family to `parts`, which are by service id. Gives how many slots
    /// each backend has of a service's table, by service and backend.
    fn add_frontends(&self, maglev: &MaglevTables, parts: &mut HashMap<u32, Parts>) -> Result<Shares> {
        let mut shares = Shares::new();
        for (key, service) in self.frontends.read()? {
            let (Some(port), Some(protocol)) =
                (NonZeroU16::new(key.port.get()), Protocol::from_number(key.protocol()))
            else {
                continue;
            };
            let entry = parts.entry(service.id).or_insert_with(|| Parts {
                service,
                frontends: Vec::new(),
                restricted: Vec::new(),
                source_ranges: Vec::new(),
                backends: Vec::new(),
            });
            let frontend = Frontend { vip: key.vip.to_ip(), port, protocol };
            entry.frontends.push(frontend);
            entry.restricted.extend(service.has(Service::SOURCE_RANGES).then_some(frontend));
            if let Entry::Vacant(by_id) = shares.entry(service.id) {
                let mut share = HashMap::new();
                for id in maglev.read(service.table, service.slots)? {
                    *share.entry(id).or_default() += 1;
                }
                by_id.insert(share);
            }
        }
        Ok(shares)
    }

    /// Adds the backends that each service has in this family.
    fn add_backends(&self, shares: &Shares, parts: &mut HashMap<u32, Parts>) -> Result<()> {
        for (id, backend) in self.backends.read()? {
            if let Some(port) = NonZeroU16::new(backend.port.get())
                && let Some(service) = parts.get_mut(&backend.service)
            {
                let share = shares.get(&backend.service).and_then(|shares| shares.get(&id)).copied();
                service.backends.push((
                    Backend {
                        address: backend.addr.to_ip(),
                        port,
                        state: if backend.takes_new_flows() {
                            BackendState::Ready
                        } else {
                            BackendState::Draining
                        },
                    },
                    share.unwrap_or(0),
                ));
            }
        }
        Ok(())
    }

    /// Adds the source ranges that each service has in this family.
    fn add_source_ranges(&self, parts: &mut HashMap<u32, Parts>) -> Result<()> {
        for (bits, key) in self.source_ranges.read()?.into_keys() {
            let bits = bits.checked_sub(SourceRangeKey::<A>::SERVICE_BITS);
            let length = bits.and_then(|bits| u8::try_from(bits).ok());
            if let Some(range) = length.and_then(|length| IpNet::new(key.addr.to_ip(), length).ok())
                && let Some(service) = parts.get_mut(&key.service)
            {
                service.source_ranges.push(range);
            }
        }
        Ok(())
    }

    fn routes(&self) -> Result<impl Iterator<Item = RouteView>> {
        Ok(self.routes.read()?.into_iter().filter_map(|((length, key), route)| {
            let length = u8::try_from(length.checked_sub(RouteKey::<A>::VNI_BITS)?).ok()?;
            Some(RouteView {
                prefix: IpNet::new(key.addr.to_ip(), length).ok()?,
                vtep: Inet4(route.vtep).into(),
                next_hop: some_ip(route.next_hop),
                mac: (route.mac != Mac::NONE).then_some(route.mac),
            })
        }))
    }

    fn flows(&self, now: u64) -> Result<impl Iterator<Item = FlowView>> {
        Ok(self.flows.read()?.into_iter().filter_map(move |(key, flow)| flow_view(&key, &flow, now)))
    }
}

pub(crate) fn flow_view<A: Family>(key: &FlowKey<A>, flow: &Flow<A>, now: u64) -> Option<FlowView> {
    let rewrite = match flow.rewrite {
        1 => Rewrite::Destination,
        2 => Rewrite::Source,
        _ => Rewrite::None,
    };
    Some(FlowView {
        protocol: key.protocol(),
        src: socket(key.src, key.src_port),
        dst: socket(key.dst, key.dst_port),
        action: Action::from_u8(flow.action)?,
        rewrite,
        rewritten: match rewrite {
            Rewrite::None => None,
            Rewrite::Destination => Some(socket(flow.dst, flow.dst_port)),
            Rewrite::Source => Some(socket(flow.src, flow.src_port)),
        },
        service: flow.service,
        from_ifindex: (flow.from_vtep == 0).then_some(flow.from_ifindex),
        from_vtep: some_ip(flow.from_vtep),
        to_ifindex: flow.to_ifindex,
        to_vtep: some_ip(flow.to_vtep),
        idle: Duration::from_nanos(now.saturating_sub(flow.last_seen)),
        forward: flow.forward == 1,
    })
}

fn add_stats(sum: ServiceStats, one: &ServiceStats) -> ServiceStats {
    ServiceStats {
        packets: sum.packets + one.packets,
        bytes: sum.bytes + one.bytes,
        new_flows: sum.new_flows + one.new_flows,
        replies_undone: sum.replies_undone + one.replies_undone,
        via_host: sum.via_host + one.via_host,
    }
}

pub(crate) fn some_ip(word: u32) -> Option<Ipv4Addr> {
    (word != 0).then(|| Inet4(word).into())
}

fn socket<A: Family>(address: A, port: Be16) -> SocketAddr {
    SocketAddr::new(address.to_ip(), port.get())
}
