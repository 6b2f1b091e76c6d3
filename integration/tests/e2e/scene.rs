//! The scene most stories play in: a client pod, an echo server in one or more pods, one VIP; and what is asked of
//! hosts while requests pass.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Result, bail, ensure};
use integration::{
    Cluster, Family, Node, Pod, Service, Stack,
    cluster::Builder,
    counters::HostStack,
    load::{Connections, Report},
    process::Running,
};

/// Where the echo service is found by IPv4.
pub(crate) const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 8000);
/// Where it is found by IPv6.
pub(crate) const VIP6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x10)), 8000);

/// Where it is found by `family`.
pub(crate) const fn vip_of(family: Family) -> SocketAddr {
    match family {
        Family::V4 => VIP,
        Family::V6 => VIP6,
    }
}

/// The families of a cluster with pods of both.
pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// Requests that a proof of bypass takes at least.
pub(crate) const MANY: u32 = 10_000;

/// A client on node 1 and the servers of the echo service.
pub(crate) struct Scene {
    // Pods go before the cluster they are in.
    pub(crate) client: Pod,
    pub(crate) servers: Vec<Pod>,
    programs: Vec<Running>,
    families: &'static [Family],
    pub(crate) cluster: Cluster,
}

impl Scene {
    /// A server on each of these nodes (from 1 up).
    pub(crate) fn with_servers_on(builder: Builder, nodes: &[usize]) -> Result<Self> {
        let families = builder.families();
        let cluster = builder.start()?;
        let client = cluster.pod("client").on(cluster.node(1)?)?;
        let mut scene = Self { client, servers: Vec::new(), programs: Vec::new(), families, cluster };
        for (n, node) in nodes.iter().enumerate() {
            let node = scene.cluster.node(*node)?.clone();
            scene.add_server(&format!("server{n}"), &node)?;
        }
        scene.cluster.set_services([scene.service()])?;
        Ok(scene)
    }

    /// Adds a server, which the service is not told of.
    pub(crate) fn add_server(&mut self, name: &str, node: &Node) -> Result<()> {
        let server = self.cluster.pod(name).on(node)?;
        self.programs.push(server.serve(80)?);
        self.servers.push(server);
        Ok(())
    }

    /// Takes all servers away without a word to their clients, as when a machine is lost; the service is not told of it.
    pub(crate) fn remove_servers(&mut self) {
        // The programs last: their ends would be told to clients.
        self.servers.clear();
        self.programs.clear();
    }

    /// Client and server on two nodes.
    pub(crate) fn across_nodes() -> Result<Self> {
        Self::across_nodes_with(Stack::V4)
    }

    /// Client and server on two nodes, whose pods have these families.
    pub(crate) fn across_nodes_with(stack: Stack) -> Result<Self> {
        Self::with_servers_on(Cluster::builder().stack(stack), &[2])
    }

    /// Client and server on one node.
    pub(crate) fn on_one_node() -> Result<Self> {
        Self::on_one_node_with(Stack::V4)
    }

    /// Client and server on one node, whose pods have these families.
    pub(crate) fn on_one_node_with(stack: Stack) -> Result<Self> {
        Self::with_servers_on(Cluster::builder().stack(stack).nodes(1), &[1])
    }

    /// A scene of either kind.
    pub(crate) fn of_each_kind(stack: Stack) -> Result<[Self; 2]> {
        Ok([Self::across_nodes_with(stack)?, Self::on_one_node_with(stack)?])
    }

    /// The family of pods' first addresses.
    pub(crate) fn family(&self) -> Family {
        self.families[0]
    }

    /// Where the echo service is found by that family.
    pub(crate) fn vip(&self) -> SocketAddr {
        vip_of(self.family())
    }

    /// Bytes that a ping's headers take.
    pub(crate) fn ping_headers(&self) -> usize {
        self.family().header() + 8
    }

    /// The echo service over all servers, in every family of the cluster, with DSR.
    pub(crate) fn service(&self) -> Service {
        let mut service = Service::new("echo", self.vip());
        for family in &self.families[1..] {
            service = service.at(vip_of(*family));
        }
        let addresses = self.servers.iter().flat_map(Pod::addresses);
        addresses.fold(service, |service, address| service.to(*address, 80))
    }

    /// The only server, or the first.
    pub(crate) fn server(&self) -> &Pod {
        &self.servers[0]
    }

    /// Turns DSR off and does in the client's host what kube-proxy would: translates the VIP in netfilter.
    pub(crate) fn turn_dsr_off(&self) -> Result<()> {
        self.cluster.set_services([self.service().dsr(false)])?;
        let ip = match self.family() {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        let (vip, to) = (self.vip(), SocketAddr::new(self.server().address(), 80));
        let rule = format!("{ip} daddr {} tcp dport {} dnat to {to}", vip.ip(), vip.port());
        self.client.node().nft(&format!(
            "table {ip} services {{\n chain pre {{\n type nat hook prerouting priority -100\n {rule}\n }}\n }}\n"
        ))
    }

    /// Sends `requests` to the VIP while watching the hosts; every request must be answered, by the right server,
    /// which sees the client's own address. Gives what each host's stack saw, in the nodes' order.
    pub(crate) fn watch(&self, requests: u32, connections: Connections) -> Result<Vec<HostStack>> {
        let (seen, report) = self.watch_hosts(|| self.client.load(self.vip(), requests, connections))?;
        ensure_perfect(&report, requests)?;
        Ok(seen)
    }

    /// What each host's stack sees while `work` is done.
    pub(crate) fn watch_hosts<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(Vec<HostStack>, T)> {
        let stacks = || self.cluster.nodes().iter().map(|node| node.host_stack()).collect::<Result<Vec<_>>>();
        let before = stacks()?;
        let done = work()?;
        let seen = stacks()?.iter().zip(&before).map(|(after, before)| after.since(before)).collect();
        Ok((seen, done))
    }
}

/// Fails unless every request was answered and none translated.
pub(crate) fn ensure_perfect(report: &Report, requests: u32) -> Result<()> {
    let failures = report.failures.len();
    ensure!(failures == 0, "{failures} of {requests} requests failed, the first: {}", report.failures[0]);
    ensure!(report.answered == u64::from(requests));
    ensure!(report.translated == 0, "{} requests had their source translated", report.translated);
    Ok(())
}

/// Fails unless no packet touched the stack of any host.
pub(crate) fn ensure_silent(nodes: &[Node], seen: &[HostStack]) -> Result<()> {
    for (node, seen) in nodes.iter().zip(seen) {
        ensure!(seen.is_silent(), "packets touched the stack of {}: {seen}", node.name());
    }
    Ok(())
}

/// Fails unless the request was refused.
pub(crate) fn ensure_refused(asked: io::Result<()>) -> Result<()> {
    match asked {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => bail!("not refused, but {other:?}"),
    }
}
