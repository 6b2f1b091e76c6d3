//! The network the nodes stand on: a bridge in a namespace of its own, with one veth pair for each machine.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::netns::Netns;

/// MTU of the underlay, in bytes: Ethernet's usual one.
pub const MTU: u32 = 1500;

/// The underlay of one cluster.
#[derive(Debug)]
pub struct Underlay {
    netns: Netns,
}

impl Underlay {
    /// Makes it; `prefix` tells its namespace from other clusters'.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn create(prefix: &str) -> Result<Self> {
        let netns = Netns::create(&format!("{prefix}underlay"))?;
        // Nothing but the machines' own packets: no neighbour discovery, no group membership chatter.
        netns.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        netns.ip(&format!("link add br0 mtu {MTU} type bridge mcast_snooping 0\nlink set br0 up"))?;
        Ok(Self { netns })
    }

    /// Makes machine `name` with `address` on its `eth0`, in a namespace called `prefix` + `name`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn machine(&self, prefix: &str, name: &str, address: Ipv4Addr) -> Result<Netns> {
        let netns = Netns::create(&format!("{prefix}{name}"))?;
        // Reverse-path filtering as systemd and kind set it: what works so works without it, too.
        netns.sysctl("net/ipv4/conf/all/rp_filter", "1")?;
        netns.sysctl("net/ipv4/conf/default/rp_filter", "1")?;
        self.netns.ip(&format!(
            "link add {name} mtu {MTU} master br0 type veth peer name eth0 mtu {MTU} netns {}\n\
             link set {name} up",
            netns.name()
        ))?;
        // Nor does it ask for routers, or whether its own link-local address is taken: it has none.
        netns.ip(&format!(
            "addr add {address}/24 dev eth0\nlink set eth0 addrgenmode none\nlink set eth0 up"
        ))?;
        Ok(netns)
    }

    /// The bridge's own namespace: captures on `br0` see every packet between machines.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}
