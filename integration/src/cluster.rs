//! Clusters: nodes on an underlay of their own, one configuration for all of them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};

use crate::{
    config::{Attach, Config, Peer, Service},
    family::{Family, Stack},
    netns::Netns,
    node::Node,
    sandbox, suite,
    underlay::Underlay,
};

/// A running cluster. Everything it made goes when it goes.
#[derive(Debug)]
pub struct Cluster {
    prefix: String,
    underlay: Underlay,
    nodes: Vec<Node>,
    config: Mutex<Config>,
}

/// A cluster to be.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    nodes: u8,
    stack: Stack,
    attach: Attach,
    vni: u32,
    pod_prefix: u8,
    underlay_ipv6: bool,
    peers: Vec<Peer>,
    prefixed: bool,
    agents: bool,
}

impl Builder {
    /// With this many nodes, `node1`, `node2`, …: 192.168.77.1 with pods in 10.244.1.0/24, and so on.
    pub fn nodes(self, nodes: u8) -> Self {
        Self { nodes, ..self }
    }

    /// With pods of these families; of IPv6, node 1's are in `fd00:10:244:1::/64`, and so on.
    pub fn stack(self, stack: Stack) -> Self {
        Self { stack, ..self }
    }

    /// The families that pods will have.
    #[must_use]
    pub const fn families(&self) -> &'static [Family] {
        self.stack.families()
    }

    /// With nodes that have an IPv6 address, too: [`underlay_ipv6`].
    pub fn underlay_ipv6(self) -> Self {
        Self { underlay_ipv6: true, ..self }
    }

    /// With programs attached so.
    pub fn attach(self, attach: Attach) -> Self {
        Self { attach, ..self }
    }

    /// With IPv4 pod prefixes of this length.
    pub fn pod_prefix(self, pod_prefix: u8) -> Self {
        Self { pod_prefix, ..self }
    }

    /// With a plain VTEP that Beeline is to know of: its name, underlay address, pods' prefixes and inner MAC.
    pub fn plain_vtep(mut self, name: &str, address: Ipv4Addr, pod_cidrs: &[&str], mac: &str) -> Self {
        self.peers.push(Peer {
            name: name.to_owned(),
            address,
            other_addresses: vec![],
            pod_cidrs: pod_cidrs.iter().map(|&cidr| cidr.to_owned()).collect(),
            vtep_mac: Some(mac.to_owned()),
            zone: None,
        });
        self
    }

    /// With namespaces called plainly `node1`, for the only cluster of a process.
    pub fn plain_names(self) -> Self {
        Self { prefixed: false, ..self }
    }

    /// Without starting any agent.
    pub fn without_agents(self) -> Self {
        Self { agents: false, ..self }
    }

    /// Makes it all, and waits until every node is ready for pods.
    ///
    /// # Errors
    /// If any of it fails; nothing is left then.
    pub fn start(self) -> Result<Cluster> {
        let (name, dir) = sandbox::new_state_dir()?;
        let prefix = if self.prefixed { format!("{name}-") } else { String::new() };
        let underlay = Underlay::create(&prefix)?;
        let mut peers = Vec::new();
        for n in 1..=self.nodes {
            let pod_cidr = |family: &Family| match family {
                Family::V4 => format!("10.244.{n}.0/{}", self.pod_prefix),
                Family::V6 => format!("fd00:10:244:{n}::/64"),
            };
            peers.push(Peer {
                name: format!("node{n}"),
                address: underlay_address(n),
                other_addresses: self.underlay_ipv6.then(|| underlay_ipv6(n)).into_iter().collect(),
                pod_cidrs: self.families().iter().map(pod_cidr).collect(),
                vtep_mac: None,
                zone: None,
            });
        }
        let mut nodes = Vec::new();
        for Peer { name, address, other_addresses, .. } in &peers {
            let netns = underlay.machine(&prefix, name, *address)?;
            for address in other_addresses {
                netns.ip(&format!("addr add {address}/64 dev eth0 nodad"))?;
            }
            netns.watch_hooks()?;
            nodes.push(Node::create(name, *address, netns, &dir)?);
        }
        peers.extend(self.peers);
        let config = Config { vni: self.vni, attach: self.attach, nodes: peers, services: Vec::new() };
        let cluster = Cluster { prefix, underlay, nodes, config: Mutex::new(config) };
        cluster.start_agents(self.agents)?;
        Ok(cluster)
    }
}

impl Cluster {
    /// A cluster of two nodes, to be changed and started.
    pub fn builder() -> Builder {
        Builder {
            nodes: 2,
            stack: Stack::V4,
            underlay_ipv6: false,
            attach: Attach::Auto,
            vni: 7,
            pod_prefix: 24,
            peers: Vec::new(),
            prefixed: true,
            agents: true,
        }
    }

    /// Two nodes, ready for pods.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    fn start_agents(&self, agents: bool) -> Result<()> {
        let config = self.config();
        for node in &self.nodes {
            node.write_config(&config.yaml(node.name()))?;
        }
        if agents {
            // All at once: most of the time goes into verifying programs.
            self.nodes.iter().try_for_each(Node::spawn_agent)?;
            self.nodes.iter().try_for_each(Node::wait_ready)?;
        }
        Ok(())
    }

    /// What its namespaces' names begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The nodes, in order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Node `n`, from 1 up.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn node(&self, n: usize) -> Result<&Node> {
        n.checked_sub(1).and_then(|at| self.nodes.get(at)).with_context(|| format!("there is no node{n}"))
    }

    /// The underlay's own namespace, for captures.
    #[must_use]
    pub fn underlay(&self) -> &Netns {
        self.underlay.netns()
    }

    /// A machine on the underlay that has nothing of Beeline.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn outsider(&self, name: &str, address: Ipv4Addr) -> Result<Netns> {
        self.underlay.machine(&self.prefix, name, address)
    }

    /// What the nodes are told now.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells all nodes of these services in place of those before, and waits until every agent applied them.
    ///
    /// # Errors
    /// If an agent refuses or takes too long.
    pub fn set_services(&self, services: impl IntoIterator<Item = Service>) -> Result<()> {
        let config = {
            let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
            config.services = services.into_iter().collect();
            config.clone()
        };
        for node in &self.nodes {
            let text = config.yaml(node.name());
            if node.has_agent() {
                node.apply(&text)?;
            } else {
                node.write_config(&text)?;
            }
        }
        Ok(())
    }

    /// Puts the nodes into these zones, one a node. They are told with the services that are set next.
    pub fn move_to_zones(&self, zones: &[&str]) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, zone) in config.nodes.iter_mut().zip(zones) {
            node.zone = Some((*zone).to_owned());
        }
    }

    fn logs(&self) -> Vec<(String, PathBuf)> {
        self.nodes.iter().map(|node| (node.name().to_owned(), node.log_path("beelined"))).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        suite::remember_logs(&self.logs());
    }
}

/// Underlay address of node `n`.
#[must_use]
pub fn underlay_address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 77, n)
}

/// IPv6 address on the underlay of node `n`, if it has one.
#[must_use]
pub fn underlay_ipv6(n: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0x192, 0x168, 0x77, 0, 0, 0, n.into()).into()
}
