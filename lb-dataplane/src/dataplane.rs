//! The agent's hold on the dataplane: load it, attach it, and make it what is desired.

use std::collections::{BTreeSet, HashMap};

use beeline_abi::{
    Be16, Endpoint, EndpointKey, EndpointKind, Inet4, Inet6, Mac, Node, Peer, Route, RouteKey, VERSION, Vni,
};

use crate::{
    attach::{AttachMode, Attacher},
    desired::{self, Desired},
    diff::{Changes, prune, put},
    error::{Error, Result},
    family::Family,
    load,
    netlink::device_name,
    pins::{Pins, Program},
    room::check_peers,
    services::ServiceTables,
    tables::{Cell, Endpoints, Peers, Routes, bump_epoch},
};

/// The dataplane of one node.
pub struct Dataplane {
    pins: Pins,
    node: Cell<Node>,
    epoch: Cell<u64>,
    ipv4: Places<Inet4>,
    ipv6: Places<Inet6>,
    peers: Peers,
    services: ServiceTables,
    /// What was applied besides services, if that went well.
    placed: Option<(desired::Host, Vec<desired::Peer>)>,
    /// False until this process has applied something: a predecessor may have died before it told the flows.
    has_applied: bool,
}

impl Dataplane {
    /// Loads programs and maps, or takes over those that are pinned; programs that changed are replaced under
    /// their links, so that no packet meets an empty hook.
    pub fn load(pins: &Pins) -> Result<Self> {
        load::load(pins)?;
        Ok(Self {
            node: Cell::open(pins, "NODE")?,
            epoch: Cell::open(pins, "EPOCH")?,
            ipv4: Places::open(pins)?,
            ipv6: Places::open(pins)?,
            peers: Peers::open(pins, "PEERS")?,
            services: ServiceTables::open(pins)?,
            pins: pins.clone(),
            placed: None,
            has_applied: false,
        })
    }

    /// Puts `program` on device `ifname`, unless it is there; heals a half-lost attachment. Returns
    /// whether there was anything to do.
    pub fn attach(&mut self, program: Program, ifname: &str, mode: AttachMode) -> Result<bool> {
        Attacher::open(&self.pins, program)?.attach(ifname, mode)
    }

    /// Takes `program` off device `ifname`; the device may be gone.
    pub fn detach(&mut self, program: Program, ifname: &str, mode: AttachMode) -> Result<()> {
        Attacher::open(&self.pins, program)?.detach(ifname, mode)
    }

    /// Puts `from_pod` on the port of every pod that has lost it or has another version of it, and returns how many
    /// there were. Ports that are gone are passed over, and so are those that have it in another way than `mode` says.
    pub fn attach_ports(&mut self, mode: AttachMode) -> Result<usize> {
        let mut attacher = Attacher::open(&self.pins, Program::FromPod)?;
        let ports: BTreeSet<u32> = self.ipv4.ports()?.chain(self.ipv6.ports()?).collect();
        let mut healed = 0;
        for port in ports.into_iter().filter_map(device_name) {
            if !attacher.is_attached_somehow(&port, mode)? {
                healed += usize::from(attacher.attach(&port, mode)?);
            }
        }
        Ok(healed)
    }

    /// Makes the maps say what `desired` says, with the fewest writes. What is added comes before what points to
    /// it, and goes after it; flows are told to resolve anew once all is in place, also if something failed on
    /// the way.
    pub fn apply(&mut self, desired: &Desired) -> Result<Changes> {
        let mut changes = Changes::default();
        let result = self.write(desired, &mut changes);
        if !changes.is_empty() || !self.has_applied {
            bump_epoch(&mut self.epoch)?;
            self.has_applied = true;
        }
        result.map(|()| changes)
    }

    /// Removes what was left until no program could be reading it any more. To be called every few seconds.
    pub fn tidy(&mut self) -> Result<()> {
        self.services.tidy()
    }

    fn write(&mut self, desired: &Desired, changes: &mut Changes) -> Result<()> {
        check_peers(&desired.peers)?;
        let services = self.services.prepare(desired.host.vni, &desired.services)?;
        // What comes and goes all the time are services: nobody asks the kernel for all else because of them.
        if self.placed.as_ref().is_some_and(|(host, peers)| *host == desired.host && *peers == desired.peers)
        {
            let pruned = self.services.apply(services, changes)?;
            return self.services.prune(pruned, changes);
        }
        self.placed = None;
        let peers_now = self.peers.read()?;
        let peers: HashMap<u32, Peer> =
            desired.peers.iter().map(|peer| (Inet4::from(peer.vtep).0, Peer { flags: 0 })).collect();
        put(&peers, &peers_now, changes, |key, value| self.peers.insert(key, value))?;

        let ipv4 = self.ipv4.write(desired, changes)?;
        let ipv6 = self.ipv6.write(desired, changes)?;
        let pruned = self.services.apply(services, changes)?;

        // Last of what is added: with it, programs begin to work.
        let node = node(&desired.host);
        let node_now = self.node.get()?;
        if node != node_now {
            self.node.set(node)?;
            changes.changed += 1;
        }

        self.services.prune(pruned, changes)?;
        self.ipv4.prune(&ipv4, changes)?;
        self.ipv6.prune(&ipv6, changes)?;
        prune(&peers, &peers_now, changes, |key| self.peers.remove(key))?;
        self.placed = Some((desired.host.clone(), desired.peers.clone()));
        Ok(())
    }
}

/// Where the addresses of one family are: on this node, or behind which other.
struct Places<A: Family> {
    endpoints: Endpoints<A>,
    routes: Routes<A>,
}

/// What [`Places`] should be, and what it was.
struct PlacesPlan<A: Family> {
    endpoints: HashMap<EndpointKey<A>, Endpoint>,
    endpoints_now: HashMap<EndpointKey<A>, Endpoint>,
    routes: HashMap<(u32, RouteKey<A>), Route>,
    routes_now: HashMap<(u32, RouteKey<A>), Route>,
}

impl<A: Family> Places<A> {
    fn open(pins: &Pins) -> Result<Self> {
        Ok(Self { endpoints: Endpoints::open(pins, A::ENDPOINTS)?, routes: Routes::open(pins, A::ROUTES)? })
    }

    /// Indexes of the ports of all pods.
    fn ports(&self) -> Result<impl Iterator<Item = u32>> {
        let endpoints = self.endpoints.read()?.into_values();
        Ok(endpoints.filter(|endpoint| !endpoint.is_host()).map(|pod| pod.ifindex))
    }

    /// Writes what is missing or different; what is no longer wanted stays until [`Self::prune`].
    fn write(&mut self, desired: &Desired, changes: &mut Changes) -> Result<PlacesPlan<A>> {
        let vni = desired.host.vni;
        let (endpoints_now, pods_now): (HashMap<_, _>, HashMap<_, _>) =
            self.endpoints.read()?.into_iter().partition(|(_, endpoint)| endpoint.is_host());
        check_vni(vni, &pods_now)?;
        let routes_now = self.routes.read()?;
        let routes = routes(vni, &desired.peers);
        put(&routes, &routes_now, changes, |key, value| self.routes.insert(key, value))?;
        let endpoints = host_endpoints(&desired.host);
        put(&endpoints, &endpoints_now, changes, |key, value| self.endpoints.insert(key, value))?;
        Ok(PlacesPlan { endpoints, endpoints_now, routes, routes_now })
    }

    /// Removes what `plan` no longer wants.
    fn prune(&mut self, plan: &PlacesPlan<A>, changes: &mut Changes) -> Result<()> {
        prune(&plan.endpoints, &plan.endpoints_now, changes, |key| self.endpoints.remove(key))?;
        prune(&plan.routes, &plan.routes_now, changes, |key| self.routes.remove(key))
    }
}

/// Pods were given their entries within a VNI, and keep them until they go.
fn check_vni<A: Family>(vni: Vni, pods: &HashMap<EndpointKey<A>, Endpoint>) -> Result<()> {
    match pods.keys().find(|pod| pod.vni != vni.get()) {
        Some(pod) => Err(Error::VniInUse { has: pod.vni, wanted: vni.get() }),
        None => Ok(()),
    }
}

fn node(host: &desired::Host) -> Node {
    Node {
        abi_version: VERSION,
        vni: host.vni.get(),
        vtep: Inet4::from(host.vtep).0,
        uplink_ifindex: host.uplink_ifindex,
        host_ifindex: host.host_ifindex,
        host_port_ifindex: host.host_port_ifindex,
        host_mac: host.host_mac,
        vxlan_port: Be16::new(host.vxlan_port.get()),
        ipv6_checksum_flags: load::ipv6_checksum_flags(),
        gateway4: gateway(host).unwrap_or_default(),
        object: load::digest(),
        gateway6: gateway(host).unwrap_or_default(),
        overlay_mtu: host.overlay_mtu,
        pad: 0,
    }
}

/// The node's address in the overlay.
fn gateway<A: Family>(host: &desired::Host) -> Option<A> {
    host.gateways.iter().find_map(|&gateway| A::from_ip(gateway))
}

fn host_endpoints<A: Family>(host: &desired::Host) -> HashMap<EndpointKey<A>, Endpoint> {
    let endpoint = Endpoint::new(EndpointKind::Host, host.host_ifindex, host.host_mac);
    let addresses = host.addresses.iter().chain(&host.gateways).filter_map(|&address| A::from_ip(address));
    addresses.map(|address| (EndpointKey::new(host.vni, address), endpoint)).collect()
}

fn routes<A: Family>(vni: Vni, peers: &[desired::Peer]) -> HashMap<(u32, RouteKey<A>), Route> {
    let mut routes = HashMap::new();
    for peer in peers {
        let route = Route {
            vtep: Inet4::from(peer.vtep).0,
            next_hop: peer.next_hop.map_or(0, |next_hop| Inet4::from(next_hop).0),
            mac: peer.mac.unwrap_or(Mac::NONE),
            pad: 0,
        };
        for cidr in &peer.pod_cidrs {
            if let Some(network) = A::from_ip(cidr.network()) {
                let bits = RouteKey::<A>::VNI_BITS + u32::from(cidr.prefix_len());
                routes.insert((bits, RouteKey::new(vni, network)), route);
            }
        }
    }
    routes
}
