//! Names for the numbers that the maps hold: protocols, services, devices, and the pods behind them.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::bail;
use lb_dataplane::{EndpointView, PortOwner, netlink::Link};
use serde::Serialize;

use crate::live::{Live, links};

/// Names for the numbers that flows hold.
pub(crate) struct Names {
    /// Services by id.
    pub(crate) services: HashMap<u32, String>,
    /// Devices by index.
    pub(crate) links: HashMap<u32, Link>,
    /// Indexes of the host's own device and its port.
    pub(crate) host: Vec<u32>,
}

impl Names {
    /// All names that this node knows now.
    pub(crate) fn read(live: &Live) -> anyhow::Result<Self> {
        let host = live.view.node()?.map(|node| vec![node.host_ifindex, node.host_port_ifindex]);
        Ok(Self { services: live.view.service_names()?, links: links(), host: host.unwrap_or_default() })
    }

    fn owner(&self, ifindex: u32) -> Option<PortOwner> {
        PortOwner::from_alias(self.links.get(&ifindex)?.alias.as_deref()?)
    }

    /// Addresses of this node's pod called `wanted`, with or without its namespace.
    pub(crate) fn addresses(&self, wanted: &str, endpoints: &[EndpointView]) -> anyhow::Result<Vec<IpAddr>> {
        let is_wanted =
            |pod: &str| pod == wanted || pod.split_once('/').is_some_and(|(_, name)| name == wanted);
        let addresses: Vec<IpAddr> = endpoints
            .iter()
            .filter(|endpoint| {
                self.owner(endpoint.ifindex).and_then(|owner| owner.pod).is_some_and(|pod| is_wanted(&pod))
            })
            .map(|endpoint| endpoint.address)
            .collect();
        if addresses.is_empty() {
            bail!(
                "this node has no pod `{wanted}`: `beelinectl endpoints` lists them; pods elsewhere go by address"
            );
        }
        Ok(addresses)
    }

    /// The place with device `ifindex` on this node, or that of another node at `vtep`.
    pub(crate) fn place(&self, ifindex: Option<u32>, vtep: Option<Ipv4Addr>) -> Place {
        let kind = match (vtep, ifindex) {
            (Some(_), _) => "node",
            (None, Some(ifindex)) if self.host.contains(&ifindex) => "host",
            _ => "pod",
        };
        Place {
            kind,
            device: ifindex.map(|index| {
                self.links.get(&index).map_or_else(|| format!("#{index}"), |link| link.name.clone())
            }),
            pod: ifindex.and_then(|index| self.owner(index)).and_then(|owner| owner.pod),
            vtep: vtep.map(|vtep| vtep.to_string()),
        }
    }
}

/// Where a flow's packets come from or go to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Place {
    /// `pod`, `host` or `node` (another one, by VXLAN).
    pub(crate) kind: &'static str,
    /// Device on this node, by name if it is there.
    pub(crate) device: Option<String>,
    /// `<namespace>/<name>` of a local pod, where known.
    pub(crate) pod: Option<String>,
    /// Underlay address of another node.
    pub(crate) vtep: Option<String>,
}

impl Place {
    /// The place in two words: `pod default/a`, `node 192.0.2.7`, `host`.
    pub(crate) fn text(&self) -> String {
        let name = match self.kind {
            "host" => None,
            "node" => self.vtep.as_ref(),
            _ => self.pod.as_ref().or(self.device.as_ref()),
        };
        name.map_or_else(|| self.kind.to_owned(), |name| format!("{} {name}", self.kind))
    }
}

const PROTOCOLS: [(u8, &str); 4] = [(1, "icmp"), (6, "tcp"), (17, "udp"), (58, "icmpv6")];

/// An IP protocol's name, or its number if it is none of the common ones.
pub(crate) fn protocol_name(number: u8) -> String {
    PROTOCOLS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

/// The IP protocol that `text` names or numbers.
pub(crate) fn protocol_number(text: &str) -> Result<u8, String> {
    let known = PROTOCOLS.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(number, _)| *number);
    known
        .or_else(|| text.parse().ok())
        .ok_or_else(|| "expected tcp, udp, icmp, icmpv6 or a number from 0 to 255".to_owned())
}
