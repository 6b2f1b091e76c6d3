//! The node that packets are run on: devices in a network namespace of its own, and the dataplane loaded into a
//! bpffs of its own, set up through the crate's public interface.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    sync::Arc,
    time::Duration,
};

use aya::{
    maps::{HashMap, Map, MapData},
    programs::{SchedClassifier, TestRun, TestRunOptions},
};
use lb_dataplane::{
    AttachMode, Dataplane, Desired, Drop, Hop, Mac, NodeFile, Pins, Ports, Program, View, Vni,
    desired::{Affinity, Backend, BackendState, Frontend, Host, Peer, Protocol, Service, WithoutBackends},
    netlink::{Netlink, Veth, VethEnd},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{
    frame::VXLAN_PORT,
    net::{IPV4, IPV6, NETS, Net, host_mac, mac},
};

pub const VNI: u32 = 7;
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// A Beeline node.
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
/// A plain VTEP.
pub const PLAIN: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 9);
pub const PLAIN_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// Places where packets enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    PortA,
    PortB,
    HostPort,
    Uplink,
}

/// Interface indexes.
#[derive(Clone, Copy, Debug)]
pub struct Devices {
    pub port_a: u32,
    pub port_b: u32,
    pub uplink: u32,
    pub host: u32,
    pub host_port: u32,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Left to whoever comes next.
    Next,
    /// Dropped, for this reason.
    Dropped(Drop),
    /// Sent this way, as these bytes.
    Sent(Hop, Vec<u8>),
    /// Dropped, for this reason, of which its sender is told by these bytes.
    Answered(Drop, Vec<u8>),
}

pub struct World {
    pins: Pins,
    pub devices: Devices,
    dataplane: Dataplane,
    ports: Ports,
    view: View,
    overlay_mtu: u32,
    from_pod: SchedClassifier,
    from_uplink: SchedClassifier,
    drops: Vec<u64>,
    hops: Vec<u64>,
}

/// Moves this process into namespaces of its own; everything made in them goes with it. Call it before threads.
pub fn isolate() {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("these tests need root");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none).unwrap();
}

/// Its maps are large, and pins would keep them until the process ends.
impl std::ops::Drop for World {
    fn drop(&mut self) {
        if let Some(dir) = self.pins.dir().parent() {
            let _ = nix::mount::umount2(dir, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

impl World {
    /// A node with pods A and B, peers, and no service. `name` keeps worlds of one process apart.
    pub fn new(name: &str) -> Self {
        let mut world = Self::bare(name);
        world.set_services(&[]);
        for net in NETS {
            world.set_endpoint(net.pod_a, Some(world.devices.port_a));
            world.set_endpoint(net.pod_b, Some(world.devices.port_b));
        }
        world
    }

    /// A node whose programs are loaded, and of which the agent has said nothing yet.
    pub fn bare(name: &str) -> Self {
        let dir = std::path::Path::new("/mnt").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let none: Option<&str> = None;
        mount(Some("bpf"), &dir, Some("bpf"), MsFlags::empty(), none).unwrap();
        let pins = Pins::new(dir.join("beeline"));
        let devices = devices();
        let dataplane = Dataplane::load(&pins).unwrap();
        let ports = Ports::open(&NodeFile {
            abi_version: lb_dataplane::ABI_VERSION,
            node: "node1".into(),
            vni: Vni::new(VNI).unwrap(),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            mtu: 1450,
            uplink: "up".into(),
            gateways: NETS.iter().map(|net| net.gateway).collect(),
            bpffs: pins.dir().to_path_buf(),
            attach: AttachMode::Tcx,
            port_attach: AttachMode::Clsact,
        })
        .unwrap();
        let view = View::open(&pins).unwrap();
        let program = |which| SchedClassifier::from_pin(pins.program(which)).unwrap();
        let mut world = Self {
            pins: pins.clone(),
            devices,
            dataplane,
            ports,
            from_pod: program(Program::FromPod),
            from_uplink: program(Program::FromUplink),
            view,
            overlay_mtu: 9_000,
            drops: Vec::new(),
            hops: Vec::new(),
        };
        (world.drops, world.hops) = world.counters();
        world
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    pub fn set_services(&mut self, services: &[Service]) -> lb_dataplane::Changes {
        self.dataplane.apply(&self.desired(services)).unwrap()
    }

    /// The same without copies: what is passed again has not changed.
    pub fn set_shared_services(&mut self, services: &[Arc<Service>]) -> lb_dataplane::Changes {
        let desired = Desired { services: services.to_vec(), ..self.desired(&[]) };
        self.dataplane.apply(&desired).unwrap()
    }

    /// The overlay carries no larger IP packets from the next change of services on.
    pub fn set_mtu(&mut self, mtu: u32) {
        self.overlay_mtu = mtu;
    }

    fn desired(&self, services: &[Service]) -> Desired {
        let mut desired = desired(&self.devices, services);
        desired.host.overlay_mtu = self.overlay_mtu;
        desired
    }

    /// Another agent takes over what is in the maps.
    pub fn restart(&mut self) {
        self.dataplane = Dataplane::load(&self.pins).unwrap();
    }

    pub fn set_endpoint(&mut self, address: IpAddr, port: Option<u32>) {
        match port {
            Some(port) => self.ports.insert_endpoint(address, port, mac(address)).unwrap(),
            None => self.ports.remove_endpoint(address).unwrap(),
        }
    }

    /// Empties the tables that packets fill, as if none had ever come.
    pub fn forget_flows(&self) {
        self.empty::<40, 112>("FLOWS6");
        self.empty::<16, 88>("FLOWS4");
        self.empty::<40, 16>("FRAGMENTS6");
        self.empty::<16, 16>("FRAGMENTS4");
        self.empty::<20, 16>("AFFINITY6");
        self.empty::<8, 16>("AFFINITY4");
    }

    fn empty<const KEY: usize, const VALUE: usize>(&self, table: &str) {
        let mut table = self.table::<KEY, VALUE>(table);
        let keys: Vec<_> = table.keys().collect::<Result<_, _>>().unwrap();
        for key in keys {
            table.remove(&key).unwrap();
        }
    }

    /// One of the programs' tables, as bytes.
    pub fn table<const KEY: usize, const VALUE: usize>(
        &self,
        name: &str,
    ) -> HashMap<MapData, [u8; KEY], [u8; VALUE]> {
        let data = MapData::from_pin(self.pins.map(name)).unwrap();
        HashMap::try_from(Map::from_map_data(data).unwrap()).unwrap()
    }

    /// Runs `bytes` through the program at `place`. Every packet must be counted exactly once.
    pub fn run(&mut self, place: Place, bytes: &[u8]) -> Outcome {
        self.run_gso(place, bytes, 0)
    }

    /// The same for a packet that is to be cut into several, each of which has this many bytes of its payload.
    pub fn run_gso(&mut self, place: Place, bytes: &[u8], segment: u32) -> Outcome {
        let (program, ifindex) = match place {
            Place::PortA => (&self.from_pod, self.devices.port_a),
            Place::PortB => (&self.from_pod, self.devices.port_b),
            Place::HostPort => (&self.from_pod, self.devices.host_port),
            Place::Uplink => (&self.from_uplink, self.devices.uplink),
        };
        let context = context(ifindex, segment);
        let mut out = vec![0; bytes.len() + 1024];
        let mut options = TestRunOptions::new();
        options.data_in = Some(bytes);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        let result = program.test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);

        let (drops, hops) = self.counters();
        let dropped = moved(&self.drops, &drops).map(|index| Drop::ALL[index]);
        let sent = moved(&self.hops, &hops).map(|index| Hop::ALL[index]);
        (self.drops, self.hops) = (drops, hops);
        match (result.return_value.cast_signed(), dropped, sent) {
            (-1, None, None) => Outcome::Next,
            (2, Some(reason), None) => Outcome::Dropped(reason),
            (7, None, Some(hop)) if hop != Hop::Answered => Outcome::Sent(hop, out),
            (7, Some(reason), Some(Hop::Answered)) => Outcome::Answered(reason, out),
            other => panic!("verdict and counters disagree: {other:?}"),
        }
    }

    /// Runs many packets through `from_pod` at port B, and looks at none of what comes out.
    pub fn flood(&mut self, frames: impl Iterator<Item = Vec<u8>>) {
        let context = context(self.devices.port_b, 0);
        for frame in frames {
            let mut options = TestRunOptions::new();
            options.data_in = Some(&frame);
            options.ctx_in = Some(&context);
            self.from_pod.test_run(options).unwrap();
        }
        (self.drops, self.hops) = self.counters();
    }

    fn counters(&self) -> (Vec<u64>, Vec<u64>) {
        let drops = self.view.drops().unwrap().into_iter().map(|(_, count)| count).collect();
        let hops = self.view.hops().unwrap().into_iter().map(|(_, count)| count).collect();
        (drops, hops)
    }
}

/// `struct __sk_buff` of linux/bpf.h, for a packet that comes in on interface `ifindex`, with this `gso_size`.
fn context(ifindex: u32, segment: u32) -> [u8; 192] {
    let mut context = [0; 192];
    context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
    context[176..180].copy_from_slice(&segment.to_ne_bytes());
    context
}

/// The one counter that moved, by one; `None` if none did.
fn moved(before: &[u64], after: &[u64]) -> Option<usize> {
    let moved: Vec<_> = before.iter().zip(after).enumerate().filter(|(_, (b, a))| b != a).collect();
    match moved.as_slice() {
        [] => None,
        [(index, (before, after))] if **after == **before + 1 => Some(*index),
        several => panic!("one packet moved several counters: {several:?}"),
    }
}

/// The shortest frame with the Ethernet type of `frame` that the kernel's test run takes.
pub fn shortest(frame: &[u8]) -> usize {
    match frame[12..14] {
        [0x08, 0x00] => 14 + 20,
        [0x86, 0xdd] => 14 + 40,
        _ => 14,
    }
}

/// A service of `protocol` at `vip`, port 8000.
pub fn service(name: &str, protocol: Protocol, vip: IpAddr, backends: &[(IpAddr, u16)]) -> Service {
    let port = |port| NonZeroU16::new(port).unwrap();
    Service {
        name: name.into(),
        frontends: vec![Frontend { vip, port: port(8000), protocol }],
        shared: vec![],
        load_balancers: vec![],
        source_ranges: vec![],
        backends: backends
            .iter()
            .map(|&(a, p)| Backend { address: a, port: port(p), state: BackendState::Ready })
            .collect(),
        without_backends: WithoutBackends::Reject,
        affinity: Affinity::None,
        flow_ttl: Duration::from_mins(4),
        dsr: true,
    }
}

fn desired(devices: &Devices, services: &[Service]) -> Desired {
    let peer = |vtep, next_hop, cidr: fn(&Net) -> &'static str, mac| Peer {
        vtep,
        next_hop,
        pod_cidrs: NETS.iter().map(|net| cidr(net).parse().unwrap()).collect(),
        mac,
    };
    Desired {
        host: Host {
            vni: Vni::new(VNI).unwrap(),
            vtep: NODE,
            uplink_ifindex: devices.uplink,
            host_ifindex: devices.host,
            host_port_ifindex: devices.host_port,
            host_mac: host_mac(),
            vxlan_port: NonZeroU16::new(VXLAN_PORT).unwrap(),
            overlay_mtu: 0,
            addresses: vec![NODE.into()],
            gateways: vec![IPV4.gateway, IPV6.gateway],
        },
        peers: vec![
            peer(PEER, Some(PEER), |net| net.peer_cidr, None),
            peer(PLAIN, None, |net| net.plain_cidr, Some(PLAIN_MAC)),
        ],
        services: services.iter().cloned().map(Arc::new).collect(),
    }
}

/// Veth pairs that stand for ports and the uplink. The programs only look at their indexes here.
fn devices() -> Devices {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let netlink = Netlink::open().unwrap();
        let mut index = Vec::new();
        for (near, far) in [("pa", "pax"), ("pb", "pbx"), ("up", "upx"), ("host", "hostp")] {
            if netlink.link(near).await.unwrap().is_none() {
                let end = |name, mac| VethEnd { name, mac, mtu: 1500 };
                let (near, far) = (end(near, Mac::GATEWAY), end(far, Mac([2, 0, 0, 0, 0, 1])));
                netlink.create_veth(&Veth { near, far, far_netns: None }).await.unwrap();
            }
            index.push(netlink.require_link(near).await.unwrap().index);
        }
        let host_port = netlink.require_link("hostp").await.unwrap().index;
        Devices { port_a: index[0], port_b: index[1], uplink: index[2], host: index[3], host_port }
    })
}
