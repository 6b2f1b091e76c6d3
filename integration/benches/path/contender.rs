//! Who is measured: each has a client and a server on two machines of one underlay, and its own way between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use integration::{Cluster, Netns, Pod, Service};

use crate::{
    flannel::{self, Flannel},
    kube_proxy,
    load::Ends,
};

/// Where the measured service is found.
pub(crate) const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 8000);
/// Where its server listens for those who ask the service, and for those who ask the server itself: a client's port that
/// asks both would be two connections of one kind to the server.
pub(crate) const BEHIND_VIP: u16 = 8001;
pub(crate) const ITSELF: u16 = 8002;

/// Where other services are, of which there are many, with two backends each that nobody ever asks.
pub(crate) fn other_service(n: usize) -> Result<(SocketAddr, [SocketAddr; 2])> {
    let [high, low] = u16::try_from(n)?.to_be_bytes();
    let backend = |last| SocketAddr::from((Ipv4Addr::new(10, 244, 2, last), 8001));
    let vip = Ipv4Addr::new(10, 96, high.checked_add(1).context("too many services")?, low);
    Ok((SocketAddr::from((vip, 8000)), [backend(201), backend(202)]))
}

/// The paths, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Path {
    /// From node to node.
    Bare,
    /// From pod to pod over a flannel-shaped overlay.
    FlannelPod,
    /// From a pod to a VIP, translated by kube-proxy's rules.
    FlannelVip,
    /// From pod to pod by Beeline.
    BeelinePod,
    /// From a pod to a VIP by Beeline.
    BeelineVip,
}

impl Path {
    pub(crate) const ALL: [Self; 5] =
        [Self::Bare, Self::FlannelPod, Self::FlannelVip, Self::BeelinePod, Self::BeelineVip];

    /// As people call it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare node to node",
            Self::FlannelPod => "flannel-shaped, pod",
            Self::FlannelVip => "flannel + kube-proxy, VIP",
            Self::BeelinePod => "Beeline, pod",
            Self::BeelineVip => "Beeline, VIP",
        }
    }

    /// Whether it leads by the VIP.
    const fn is_vip(self) -> bool {
        matches!(self, Self::FlannelVip | Self::BeelineVip)
    }
}

/// All of them, ready.
#[derive(Debug)]
pub(crate) struct Contenders {
    bare: [Netns; 2],
    flannel: Flannel,
    beeline: [Pod; 2],
    // What they are in goes last.
    _cluster: Cluster,
}

/// Underlay addresses of the machines that are no nodes of Beeline.
const BARE: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 77, 11), Ipv4Addr::new(192, 168, 77, 12)];

impl Contenders {
    /// Makes them all, with `services` services besides the measured one. `step` is told what goes on.
    pub(crate) fn start(services: usize, step: impl Fn(&str)) -> Result<Self> {
        step("starting two Beeline nodes");
        let cluster = Cluster::start()?;
        let pods = [cluster.pod("client").on(cluster.node(1)?)?, cluster.pod("server").on(cluster.node(2)?)?];
        let mut all = vec![Service::new("measured", VIP).to(pods[1].address(), BEHIND_VIP)];
        for n in 0..services {
            let (vip, backends) = other_service(n)?;
            let service = Service::new(&format!("other{n}"), vip);
            all.push(backends.iter().fold(service, |service, to| service.to(to.ip(), to.port())));
        }
        cluster.set_services(all)?;

        step("starting two machines with nothing, and two with a kernel VXLAN as flannel makes it");
        let bare = [cluster.outsider("bare1", BARE[0])?, cluster.outsider("bare2", BARE[1])?];
        let flannel = Flannel::start(&cluster)?;
        step("having kube-proxy write its rules");
        kube_proxy::write_rules(&cluster, &flannel, services)?;

        let clients = [&bare[0], &flannel.client, &pods[0]];
        clients.into_iter().try_for_each(let_ports_be_used_again)?;
        Ok(Self { bare, flannel, beeline: pods, _cluster: cluster })
    }

    /// The ends of a path.
    pub(crate) fn ends(&self, path: Path) -> Ends<'_> {
        let (client, server, address): (&Netns, &Netns, IpAddr) = match path {
            Path::Bare => (&self.bare[0], &self.bare[1], BARE[1].into()),
            Path::FlannelPod | Path::FlannelVip => {
                (&self.flannel.client, &self.flannel.server, flannel::pod_address(2).into())
            }
            Path::BeelinePod | Path::BeelineVip => {
                (&self.beeline[0], &self.beeline[1], self.beeline[1].address())
            }
        };
        let listens = SocketAddr::new(address, if path.is_vip() { BEHIND_VIP } else { ITSELF });
        Ends { client, server, asked: if path.is_vip() { VIP } else { listens }, listens }
    }
}

/// A connection for each request uses ports up faster than a closed one gives its port back.
fn let_ports_be_used_again(client: &Netns) -> Result<()> {
    client.sysctl("net/ipv4/ip_local_port_range", "10000 65000")?;
    client.sysctl("net/ipv4/tcp_tw_reuse", "1")
}
