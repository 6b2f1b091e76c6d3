//! Frontends: VIPs that are nothing else, external addresses, those of load balancers, and ports of nodes; each found nowhere else.

use std::net::IpAddr;

use lb_dataplane::desired::{Frontend, Protocol};

use super::{
    Checker, Unique,
    nodes::Cluster,
    values::{self, Wrong, wrong},
};
use crate::source::{
    balance::Claims,
    file::schema::{self, Text},
};

/// The frontends of all services.
pub(super) type Claimed = Unique<Frontend>;

/// Where service `i` is found.
pub(super) fn claims(
    check: &mut Checker,
    i: usize,
    entry: &schema::Service,
    claimed: &mut Claimed,
    cluster: &Cluster<'_>,
) -> Claims {
    if entry.frontends.value.is_empty() {
        let none = wrong("there is no frontend", "write at least one, with vip and port");
        check.complain(entry.frontends.referenced, format_args!("services[{i}].frontends"), none);
    }
    let mut list = List { check, claimed, i };
    let internal = list.read("frontends", &entry.frontends.value, |vip| match cluster.at(vip) {
        Some(_) => Err(wrong(format!("{vip} is a node's address"), "take VIPs from a prefix of their own")),
        None => outside_pods(vip, cluster),
    });
    let external =
        list.read("externalFrontends", &entry.external_frontends, |vip| outside_pods(vip, cluster));
    let load_balancers =
        list.read("loadBalancerFrontends", &entry.load_balancer_frontends, |vip| outside_pods(vip, cluster));
    Claims { internal, external, load_balancers, nodes: list.node_ports(&entry.node_ports, cluster) }
}

fn outside_pods(vip: IpAddr, cluster: &Cluster<'_>) -> Result<(), Wrong> {
    match cluster.pods_around(vip) {
        Some(cidr) => {
            let cause = format!("{vip} lies in the pod prefix {cidr}");
            Err(wrong(cause, "take VIPs from a prefix of their own"))
        }
        None => Ok(()),
    }
}

/// One of the lists of service `i`.
struct List<'a> {
    check: &'a mut Checker,
    claimed: &'a mut Claimed,
    i: usize,
}

impl List<'_> {
    /// The frontends of the list called `name` whose VIPs are `fit`.
    fn read(
        &mut self,
        name: &str,
        entries: &[schema::Frontend],
        fit: impl Fn(IpAddr) -> Result<(), Wrong>,
    ) -> Vec<Frontend> {
        let i = self.i;
        let mut frontends = Vec::with_capacity(entries.len());
        for (j, entry) in entries.iter().enumerate() {
            let field = format_args!("services[{i}].{name}[{j}].vip");
            let vip = self.check.value(field, &entry.vip, |text| {
                let vip = values::address(text)?;
                fit(vip).map(|()| vip)
            });
            let number = self.number(name, j, &entry.port, entry.protocol.as_ref());
            let (Some(vip), Some((port, protocol))) = (vip, number) else {
                continue;
            };
            let found = Frontend { vip, port, protocol };
            self.claim(found, &entry.vip, name, j);
            frontends.push(found);
        }
        frontends
    }

    fn node_ports(
        &mut self,
        entries: &[schema::NodePort],
        cluster: &Cluster<'_>,
    ) -> Vec<(crate::source::balance::Name, Frontend)> {
        let mut frontends = Vec::new();
        for (j, entry) in entries.iter().enumerate() {
            let number = self.number("nodePorts", j, &entry.port, entry.protocol.as_ref());
            let Some((port, protocol)) = number else {
                continue;
            };
            for (n, (vip, node)) in cluster.addresses().iter().enumerate() {
                let found = Frontend { vip: *vip, port, protocol };
                let is_new = self.claimed.insert(found, entry.port.referenced);
                // What is wrong at one node is wrong at all.
                if let (0, Err(line)) = (n, is_new) {
                    self.complain(found, line, &entry.port, "nodePorts", j);
                }
                frontends.push((node.clone(), found));
            }
        }
        frontends
    }

    fn number(
        &mut self,
        name: &str,
        j: usize,
        port: &Text,
        protocol: Option<&Text>,
    ) -> Option<(std::num::NonZeroU16, Protocol)> {
        let i = self.i;
        let port = self.check.value(format_args!("services[{i}].{name}[{j}].port"), port, values::port);
        let field = format_args!("services[{i}].{name}[{j}].protocol");
        let protocol = match protocol {
            Some(text) => self.check.value(field, text, values::protocol),
            None => Some(Protocol::Tcp),
        };
        port.zip(protocol)
    }

    fn claim(&mut self, found: Frontend, at: &Text, name: &str, j: usize) {
        if let Err(line) = self.claimed.insert(found, at.referenced) {
            self.complain(found, line, at, name, j);
        }
    }

    fn complain(&mut self, found: Frontend, line: u64, at: &Text, name: &str, j: usize) {
        let i = self.i;
        let twice =
            wrong(format!("{found} is already the frontend on line {line}"), "change one, or remove it");
        self.check.complain(at.referenced, format_args!("services[{i}].{name}[{j}]"), twice);
    }
}
