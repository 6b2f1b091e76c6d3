//! Two machines with pods as flannel and the CNI project's bridge wire them: a kernel VXLAN device with a route, a neighbour
//! and a forwarding entry for the other machine, and pods on a bridge.

use std::net::Ipv4Addr;

use anyhow::Result;
use integration::{Cluster, Netns, underlay::MTU};

/// What VXLAN takes of the underlay's MTU.
const OVERHEAD: u32 = 50;
/// The prefix of all pods.
pub(crate) const POD_CIDR: &str = "10.245.0.0/16";

/// The machines, with the client's pod on the first and the server's on the second.
#[derive(Debug)]
pub(crate) struct Flannel {
    pub(crate) machines: [Netns; 2],
    pub(crate) client: Netns,
    pub(crate) server: Netns,
}

impl Flannel {
    pub(crate) fn start(cluster: &Cluster) -> Result<Self> {
        let machines = [machine(cluster, 1)?, machine(cluster, 2)?];
        let client = pod(cluster, &machines[0], 1)?;
        let server = pod(cluster, &machines[1], 2)?;
        Ok(Self { machines, client, server })
    }
}

/// Name of machine `n` of the two.
pub(crate) fn name(n: u8) -> String {
    format!("flannel{n}")
}

/// Underlay address of machine `n`.
pub(crate) fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, 20 + n)
}

/// The prefix of machine `n`'s pods.
pub(crate) fn pod_cidr(n: u8) -> String {
    format!("10.245.{n}.0/24")
}

/// Address of the pod on machine `n`.
pub(crate) fn pod_address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 245, n, 2)
}

fn machine(cluster: &Cluster, n: u8) -> Result<Netns> {
    let machine = cluster.outsider(&name(n), address(n))?;
    let (other, mtu) = (3 - n, MTU - OVERHEAD);
    let (own, peer) = (address(n), address(other));
    machine.sysctl("net/ipv4/ip_forward", "1")?;
    machine.ip(&format!(
        "link add flannel.1 mtu {mtu} address 02:00:00:00:f1:0{n} type vxlan id 1 local {own} dev eth0 dstport 8472 nolearning noudpcsum\n\
         addr add 10.245.{n}.0/32 dev flannel.1\n\
         link set flannel.1 up\n\
         neigh add 10.245.{other}.0 lladdr 02:00:00:00:f1:0{other} dev flannel.1 nud permanent\n\
         route add 10.245.{other}.0/24 via 10.245.{other}.0 dev flannel.1 onlink\n\
         link add cni0 mtu {mtu} type bridge\n\
         addr add 10.245.{n}.1/24 dev cni0\n\
         link set cni0 up"
    ))?;
    machine.exec(&format!("bridge fdb append 02:00:00:00:f1:0{other} dev flannel.1 dst {peer}"))?;
    machine.nft(&rules(n))?;
    Ok(machine)
}

/// The table that flanneld itself makes: what pods say to each other is not masqueraded, and all of it is forwarded.
fn rules(n: u8) -> String {
    let own = pod_cidr(n);
    format!(
        "table ip flannel-ipv4 {{
           chain postrtg {{
             type nat hook postrouting priority srcnat;
             meta mark & 0x4000 == 0x4000 return
             ip saddr {own} ip daddr {POD_CIDR} return
             ip saddr {POD_CIDR} ip daddr {own} return
             ip saddr != {own} ip daddr {own} return
             ip saddr {POD_CIDR} ip daddr != 224.0.0.0/4 masquerade fully-random
             ip saddr != {POD_CIDR} ip daddr {POD_CIDR} masquerade fully-random
           }}
           chain forward {{
             type filter hook forward priority filter;
             ip saddr {POD_CIDR} accept
             ip daddr {POD_CIDR} accept
           }}
         }}\n"
    )
}

fn pod(cluster: &Cluster, machine: &Netns, n: u8) -> Result<Netns> {
    let pod = Netns::create(&format!("{}{}-pod", cluster.prefix(), name(n)))?;
    let (mtu, address) = (MTU - OVERHEAD, pod_address(n));
    machine.ip(&format!(
        "link add veth0 mtu {mtu} master cni0 type veth peer name eth0 mtu {mtu} netns {}\n\
         link set veth0 type bridge_slave hairpin on\n\
         link set veth0 up",
        pod.name()
    ))?;
    pod.ip(&format!(
        "addr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via 10.245.{n}.1 dev eth0"
    ))?;
    Ok(pod)
}
