//! The reconciler: it alone owns the kernel, and makes it what the model says.
//!
//! One pass does everything in an order in which each step can rely on those before it, and changes only what
//! differs. The same pass therefore applies a new configuration, takes over after a restart, and heals.

mod services_only;

use std::path::PathBuf;

use anyhow::{Context, Error, Result};
use lb_dataplane::{
    AttachMode, Changes, Dataplane, Desired, Mac, Netlink, NodeFile, Pins, Program, check_room,
    desired::{Host, Peer},
    netlink::Link,
};

use self::services_only::Settled;
use crate::{
    error::told,
    host::{
        VXLAN_OVERHEAD,
        devices::{self, Devices},
        ipv6,
        nat::Nat,
        nexthop, ports, routes, sysctl, uplink,
    },
    model::{Network, derived_mac},
    sweep::Sweep,
};

/// The reconciler, and what it remembers in order to do nothing twice.
pub(crate) struct Reconciler {
    netlink: Netlink,
    pins: Pins,
    runtime_dir: PathBuf,
    /// Where sysctls are.
    sysctls: PathBuf,
    /// Loaded in the first pass, and again after it failed.
    dataplane: Option<Dataplane>,
    /// What the maps say.
    applied: Option<Desired>,
    nat: Nat,
    /// What the last whole pass made real, if nothing has failed since.
    settled: Option<Settled>,
    sweep: Sweep,
}

/// What a pass came to.
#[derive(Clone)]
pub(crate) struct Outcome {
    /// The uplink it found.
    pub(crate) uplink: Link,
    /// MTU of pods.
    pub(crate) mtu: u32,
    /// How programs are attached; never [`AttachMode::Auto`].
    pub(crate) attach: AttachMode,
    /// What changed in the maps.
    pub(crate) changes: Changes,
    /// What could not be had, though pods can be wired and reach each other.
    pub(crate) troubles: Vec<String>,
}

/// How programs are attached; never [`AttachMode::Auto`].
#[derive(Clone, Copy)]
struct Attach {
    devices: AttachMode,
    ports: AttachMode,
}

impl Attach {
    fn of(network: &Network) -> Self {
        Self { devices: network.attach.resolve(), ports: network.attach.for_ports() }
    }
}

impl Reconciler {
    /// Works in this thread's network namespace.
    pub(crate) fn new(pins: Pins, runtime_dir: PathBuf, sysctls: PathBuf) -> Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            sweep: Sweep::new(&runtime_dir),
            pins,
            runtime_dir,
            sysctls,
            dataplane: None,
            applied: None,
            nat: Nat::default(),
            settled: None,
        })
    }

    /// Makes the kernel what `network` says, and then tells the plugin in `node.json` that pods can be wired.
    pub(crate) async fn pass(&mut self, network: &Network) -> Result<Outcome> {
        self.settled = None;
        let outcome = self.whole_pass(network).await?;
        self.settled = Some(Settled::new(network, outcome.clone()));
        Ok(outcome)
    }

    async fn whole_pass(&mut self, network: &Network) -> Result<Outcome> {
        if let Some(prefix) = network.node.ipv6() {
            ipv6::check(prefix)?;
        }
        let address = network.node.address;
        let holder = self.netlink.link_with_address(address.into()).await?;
        let uplink = uplink::find(&self.netlink, network, holder.as_ref()).await?;
        let mtu = uplink.mtu - VXLAN_OVERHEAD;
        let mut troubles = vec![];
        let peers = self.peers(network, &uplink, &mut troubles).await?;
        // Now: what does not fit must not have changed anything on the way.
        check_room(&peers, &network.services)?;
        let attach = Attach::of(network);
        let gateways: Vec<_> = network.node.gateways().collect();
        let host_mac =
            derived_mac(&gateways).context("the node has no pod prefix with room for a gateway")?;
        let wanted = devices::Wanted {
            gateways: &gateways,
            host_mac,
            mtu,
            vxlan_port: network.vxlan_port,
            sysctls: &self.sysctls,
        };
        let devices = devices::ensure(&self.netlink, &wanted).await?;
        troubles.extend(sysctl::ensure(&self.sysctls, network.node.ipv6().is_some()));
        troubles.extend(uplink::trouble(&self.netlink, network, &uplink, holder.as_ref()).await?);
        troubles.extend(ports::too_large(&self.netlink.links().await?, mtu));

        let desired = Desired {
            host: host(network, &uplink, &devices, host_mac),
            peers,
            services: network.services.clone(),
        };
        // Routes come before the maps that they lead to, and go after them: in between, packets find no entry and
        // are dropped as before or after, but none takes a way that was never meant.
        let wanted = routes::wanted(network, devices.host.index, holder.as_ref().map(|_| address));
        let plan = routes::plan(&wanted, &self.netlink.routes(None).await?);
        for route in &plan.set {
            self.netlink.replace_route(route).await?;
        }
        if !plan.set.is_empty() || !plan.delete.is_empty() {
            tracing::info!(set = plan.set.len(), deleted = plan.delete.len(), "changing routes");
        }
        troubles.extend(plan.taken.iter().map(routes::conflict));
        let changes = self.dataplane(&uplink.name, attach, desired)?;
        for route in &plan.delete {
            self.netlink.delete_route(route).await?;
        }
        if let Err(error) = self.nat.ensure(network) {
            troubles.push(told(&error));
        }
        let node = self.hand_over(network, &uplink, mtu, attach)?;
        let swept = self.sweep.pass(&self.netlink, &node).await;
        match (swept, &mut self.dataplane) {
            (Ok(0), _) | (Ok(_), None) => {}
            (Ok(_), Some(dataplane)) => drop(dataplane.attach_ports(attach.ports)?),
            (Err(error), _) => troubles.push(told(&error)),
        }
        if let Some(dataplane) = &mut self.dataplane {
            dataplane.tidy()?;
        }
        Ok(Outcome { uplink, mtu, attach: attach.devices, changes, troubles })
    }

    async fn peers(&self, network: &Network, uplink: &Link, troubles: &mut Vec<String>) -> Result<Vec<Peer>> {
        let mut peers = Vec::with_capacity(network.peers.len());
        for node in &network.peers {
            let next_hop = match nexthop::towards(&self.netlink, uplink, node).await? {
                Ok(next_hop) => Some(next_hop),
                Err(trouble) => {
                    troubles.push(trouble);
                    None
                }
            };
            peers.push(Peer {
                vtep: node.address,
                next_hop,
                pod_cidrs: node.pod_cidrs.clone(),
                mac: node.vtep_mac,
            });
        }
        Ok(peers)
    }

    /// Programs loaded, maps as desired, programs attached.
    fn dataplane(&mut self, uplink: &str, attach: Attach, desired: Desired) -> Result<Changes> {
        self.or_forget(|this| this.try_dataplane(uplink, attach, desired))
    }

    /// Does something with the dataplane, and forgets it if that fails.
    fn or_forget<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let result = work(self);
        if result.as_ref().is_err_and(|error| !is_lasting(error)) {
            // Pins may be gone or broken: the next pass begins anew, from what is there then.
            self.dataplane = None;
            self.applied = None;
        }
        result
    }

    /// Whether all programs are pinned, and the maps.
    fn are_pins_there(&self) -> bool {
        let programs = Program::ALL.map(|program| self.pins.program(program));
        programs.iter().chain([&self.pins.map("NODE")]).all(|pin| pin.exists())
    }

    /// Maps as desired.
    fn apply(&mut self, desired: Desired) -> Result<Changes> {
        let dataplane = match &mut self.dataplane {
            Some(dataplane) => dataplane,
            none => none.insert(Dataplane::load(&self.pins)?),
        };
        if self.applied.as_ref() == Some(&desired) {
            return Ok(Changes::default());
        }
        // What fails half-way leaves the maps as nobody knows them.
        self.applied = None;
        let changes = dataplane.apply(&desired)?;
        self.applied = Some(desired);
        Ok(changes)
    }

    fn try_dataplane(&mut self, uplink: &str, attach: Attach, desired: Desired) -> Result<Changes> {
        if !self.are_pins_there() {
            // Somebody removed pins: what is held here may not be what will be found there.
            self.dataplane = None;
            self.applied = None;
        }
        let changes = self.apply(desired)?;
        let Some(dataplane) = &mut self.dataplane else {
            return Ok(changes);
        };
        // Only now: a program whose maps could not be filled has no business on the machine's way to the world.
        for (program, device) in attachments(uplink) {
            if dataplane.attach(program, device, attach.devices)? {
                tracing::info!(program = program.name(), device, mode = ?attach.devices, "attached");
            }
        }
        let ports = dataplane.attach_ports(attach.ports)?;
        if ports > 0 {
            tracing::info!(ports, mode = ?attach.ports, "attached to pods' ports");
        }
        Ok(changes)
    }

    /// Takes programs off where they were before, and writes `node.json`, unless it says all this already. Returns what
    /// it says.
    fn hand_over(&mut self, network: &Network, uplink: &Link, mtu: u32, attach: Attach) -> Result<NodeFile> {
        let node = &network.node;
        let file = NodeFile {
            abi_version: lb_dataplane::ABI_VERSION,
            node: node.name.clone(),
            vni: network.vni,
            pod_cidrs: node.pod_cidrs.clone(),
            mtu,
            uplink: uplink.name.clone(),
            gateways: node.gateways().collect(),
            bpffs: self.pins.dir().to_owned(),
            attach: attach.devices,
            port_attach: attach.ports,
        };
        let before = NodeFile::read(&self.runtime_dir).ok();
        if before.as_ref() == Some(&file) {
            return Ok(file);
        }
        // The file comes last: as long as it says where programs were, the next pass takes off what this one cannot.
        if let (Some(before), Some(dataplane)) = (before, &mut self.dataplane) {
            let now = attachments(&file.uplink);
            for (program, device) in attachments(&before.uplink) {
                if before.attach != attach.devices || !now.contains(&(program, device)) {
                    dataplane.detach(program, device, before.attach)?;
                    tracing::info!(program = program.name(), device, mode = ?before.attach, "detached");
                }
            }
        }
        file.write(&self.runtime_dir)?;
        Ok(file)
    }
}

/// Whether `error` will come again until the configuration is another one: the maps have no room for it, or this
/// machine has not the family.
pub(crate) fn is_lasting(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<ipv6::Lacking>() || matches!(cause.downcast_ref(), Some(lb_dataplane::Error::Full { .. }))
    })
}

/// Which program goes on which device. (Pods' ports are the plugin's.)
pub(crate) fn attachments(uplink: &str) -> [(Program, &str); 3] {
    [
        (Program::FromPod, devices::HOST_PORT),
        (Program::FromUplink, uplink),
        (Program::FromOverlay, devices::VXLAN),
    ]
}

fn host(network: &Network, uplink: &Link, devices: &Devices, host_mac: Mac) -> Host {
    let own = std::iter::once(network.node.address.into());
    Host {
        vni: network.vni,
        vtep: network.node.address,
        uplink_ifindex: uplink.index,
        host_ifindex: devices.host.index,
        host_port_ifindex: devices.host_port.index,
        host_mac,
        vxlan_port: network.vxlan_port,
        overlay_mtu: uplink.mtu - VXLAN_OVERHEAD,
        addresses: own.collect(),
        gateways: network.node.gateways().collect(),
    }
}
