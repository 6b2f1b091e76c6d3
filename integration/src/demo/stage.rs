//! The demo's cluster: a client and one web server on node 1, the other web server on node 2, and the two servers
//! behind two VIPs, one with DSR and one left to the host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;

use crate::{Cluster, Pod, Service, process::Running, progress::Progress};

/// The VIP with DSR.
pub(super) const DIRECT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 8000);
/// The VIP left to the host, where the demo's nftables rules do what kube-proxy does.
pub(super) const BY_HOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 11)), 8000);
/// Port of the web servers.
const WEB_PORT: u16 = 80;

/// Everything the demo shows. Fields go in this order: programs and pods before their cluster.
#[derive(Debug)]
pub(super) struct Stage {
    _programs: Vec<Running>,
    pub(super) client: Pod,
    /// On the client's node, and on the other.
    pub(super) web: [Pod; 2],
    pub(super) cluster: Cluster,
}

impl Stage {
    /// Makes it all.
    pub(super) fn set(progress: &Progress) -> Result<Self> {
        progress.step("Making two nodes, each with its own beelined");
        let cluster = Cluster::builder().plain_names().start()?;
        progress.step("Wiring three pods by CNI");
        let (node1, node2) = (cluster.node(1)?, cluster.node(2)?);
        let client = cluster.pod("client").on(node1)?;
        let web = [cluster.pod("web1").on(node1)?, cluster.pod("web2").on(node2)?];
        let programs = web.iter().map(|pod| pod.serve(WEB_PORT)).collect::<Result<_>>()?;
        let behind =
            |service| web.iter().fold(service, |service: Service, pod| service.to(pod.address(), WEB_PORT));
        cluster.set_services([
            behind(Service::new("echo", DIRECT)),
            behind(Service::new("echo-by-host", BY_HOST)).dsr(false),
        ])?;
        node1.nft(&translation(&web))?;
        Ok(Self { _programs: programs, client, web, cluster })
    }
}

/// Rules shaped like kube-proxy's in its nftables mode: VIP and port lead to a chain that picks a backend at random.
fn translation(web: &[Pod; 2]) -> String {
    let chain = |pod: &Pod| {
        format!("chain {} {{\n meta l4proto tcp dnat to {}:{WEB_PORT}\n}}\n", pod.name(), pod.address())
    };
    let [near, far] = web;
    format!(
        "table ip like-kube-proxy {{\n{}{}chain prerouting {{\n type nat hook prerouting priority -100\n \
         ip daddr {} tcp dport {} numgen random mod 2 vmap {{ 0 : goto {}, 1 : goto {} }}\n}}\n}}\n",
        chain(near),
        chain(far),
        BY_HOST.ip(),
        BY_HOST.port(),
        near.name(),
        far.name(),
    )
}
