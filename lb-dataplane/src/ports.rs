//! What the plugin needs of the dataplane: programs on ports, and entries for their endpoints.
//!
//! It opens pins only; nothing is loaded or verified, so that it is quick.

use std::net::IpAddr;

use beeline_abi::{Endpoint, EndpointKey, EndpointKind, Inet4, Inet6, Mac, Vni};

use crate::{
    attach::{self, AttachMode, Attacher},
    error::Result,
    family::Family,
    node_file::NodeFile,
    pins::{Pins, Program},
    tables::{Cell, Endpoints, bump_epoch, check_layout},
};

/// An endpoint as the dataplane knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// Its address.
    pub address: IpAddr,
    /// Index of its port; of the host's own device, if it is this node.
    pub ifindex: u32,
    /// Its own MAC.
    pub mac: Mac,
    /// True if it is this node itself.
    pub host: bool,
}

/// Ports of this node.
pub struct Ports {
    pins: Pins,
    mode: AttachMode,
    vni: Vni,
    ipv4: Endpoints<Inet4>,
    ipv6: Endpoints<Inet6>,
    epoch: Cell<u64>,
}

impl Ports {
    /// Opens the tables that the agent has pinned.
    pub fn open(node: &NodeFile) -> Result<Self> {
        let pins = node.pins();
        check_layout(&pins)?;
        Ok(Self {
            mode: node.port_attach,
            vni: node.vni,
            ipv4: Endpoints::open(&pins, Inet4::ENDPOINTS)?,
            ipv6: Endpoints::open(&pins, Inet6::ENDPOINTS)?,
            epoch: Cell::open(&pins, "EPOCH")?,
            pins,
        })
    }

    /// Puts `from_pod` on port `ifname`. That it may be there is no error.
    pub fn attach(&self, ifname: &str) -> Result<()> {
        match self.mode.for_ports() {
            AttachMode::Clsact => attach::attach_clsact(&self.pins, Program::FromPod, ifname),
            mode => Attacher::open(&self.pins, Program::FromPod)?.attach(ifname, mode).map(drop),
        }
    }

    /// Removes what keeps `from_pod` on port `ifname`. The port, the program and the pins may be gone.
    pub fn detach(&self, ifname: &str) -> Result<()> {
        Self::detach_with(&self.pins, ifname)
    }

    /// As [`Self::detach`], where the rest of the dataplane cannot be opened. A `clsact` filter goes with its port.
    pub fn detach_with(pins: &Pins, ifname: &str) -> Result<()> {
        attach::remove_link(pins, ifname)
    }

    /// As [`Self::attach`], but leaves room for a qdisc of somebody else's, such as the one by which the CNI project's
    /// bandwidth plugin limits what a pod sends: `clsact` would be in its place. That needs TCX (Linux 6.6), and its wait.
    pub fn attach_beside(&self, ifname: &str) -> Result<()> {
        match AttachMode::Auto.resolve() {
            AttachMode::Tcx => {
                Attacher::open(&self.pins, Program::FromPod)?.attach(ifname, AttachMode::Tcx).map(drop)
            }
            _ => self.attach(ifname),
        }
    }

    /// True if the pinned `from_pod` is on port `ifname`.
    pub fn is_attached(&self, ifname: &str) -> Result<bool> {
        Attacher::open(&self.pins, Program::FromPod)?.is_attached_somehow(ifname, self.mode)
    }

    /// Makes `addr` an endpoint behind port `ifindex`.
    pub fn insert_endpoint(&mut self, addr: IpAddr, ifindex: u32, mac: Mac) -> Result<()> {
        let endpoint = Endpoint::new(EndpointKind::Pod, ifindex, mac);
        match addr {
            IpAddr::V4(addr) => self.ipv4.insert(EndpointKey::new(self.vni, addr.into()), endpoint),
            IpAddr::V6(addr) => self.ipv6.insert(EndpointKey::new(self.vni, addr.into()), endpoint),
        }?;
        bump_epoch(&mut self.epoch)
    }

    /// Removes the endpoint `addr`, if there is one.
    pub fn remove_endpoint(&mut self, addr: IpAddr) -> Result<()> {
        match addr {
            IpAddr::V4(addr) => self.ipv4.remove(&EndpointKey::new(self.vni, addr.into())),
            IpAddr::V6(addr) => self.ipv6.remove(&EndpointKey::new(self.vni, addr.into())),
        }?;
        bump_epoch(&mut self.epoch)
    }

    /// Removes the endpoint `addr` if it is the one behind port `ifindex`, and not a newer one.
    pub fn remove_endpoint_if(&mut self, addr: IpAddr, ifindex: u32) -> Result<()> {
        match self.endpoint(addr)? {
            Some(found) if found.ifindex == ifindex => self.remove_endpoint(addr),
            _ => Ok(()),
        }
    }

    /// The endpoint `addr`.
    pub fn endpoint(&self, addr: IpAddr) -> Result<Option<EndpointView>> {
        let found = match addr {
            IpAddr::V4(addr) => self.ipv4.get(&EndpointKey::new(self.vni, addr.into())),
            IpAddr::V6(addr) => self.ipv6.get(&EndpointKey::new(self.vni, addr.into())),
        }?;
        Ok(found.map(|endpoint| EndpointView::new(addr, &endpoint)))
    }

    /// All endpoints of this node.
    pub fn endpoints(&self) -> Result<Vec<EndpointView>> {
        Ok(EndpointView::all(&self.ipv4)?.chain(EndpointView::all(&self.ipv6)?).collect())
    }
}

impl EndpointView {
    pub(crate) fn new(address: IpAddr, endpoint: &Endpoint) -> Self {
        Self { address, ifindex: endpoint.ifindex, mac: endpoint.mac, host: endpoint.is_host() }
    }

    /// All that are in `table`.
    pub(crate) fn all<A: Family>(table: &Endpoints<A>) -> Result<impl Iterator<Item = Self>> {
        Ok(table.read()?.into_iter().map(|(key, endpoint)| Self::new(key.addr.to_ip(), &endpoint)))
    }
}
