//! Each frontend leads to the backends of its own family.

use super::{
    Checker,
    nodes::Cluster,
    values::{self, wrong},
};
use crate::source::file::schema::{self, Text};

/// Complains about frontends that would lead nowhere though there are backends, and about backends that nothing leads to.
pub(super) fn check(check: &mut Checker, i: usize, entry: &schema::Service, cluster: &Cluster<'_>) {
    let is_ipv4 = |text: &Text| values::address(&text.value).ok().map(|address| address.is_ipv4());
    let frontends = entry.frontends.value.iter().map(|frontend| &frontend.vip);
    let external = entry.external_frontends.iter().map(|frontend| &frontend.vip);
    let balancers = entry.load_balancer_frontends.iter().map(|frontend| &frontend.vip);
    let vips: Vec<_> = (frontends.enumerate().map(|(j, vip)| (vip, "frontends", j)))
        .chain(external.enumerate().map(|(j, vip)| (vip, "externalFrontends", j)))
        .chain(balancers.enumerate().map(|(j, vip)| (vip, "loadBalancerFrontends", j)))
        .collect();
    let mut families: Vec<_> = vips.iter().map(|(vip, ..)| is_ipv4(vip)).collect();
    if !entry.node_ports.is_empty() {
        families.extend(cluster.addresses().iter().map(|(address, _)| Some(address.is_ipv4())));
    }
    let backends: Vec<_> = entry.backends.iter().map(|backend| is_ipv4(&backend.address)).collect();
    // What makes no sense by itself was complained about already.
    if families.contains(&None) || backends.contains(&None) {
        return;
    }
    let name = |family| if family == Some(true) { "IPv4" } else { "IPv6" };
    for (j, backend) in entry.backends.iter().enumerate() {
        let family = backends[j];
        if !families.contains(&family) {
            let cause = format!("it is {0}, and no frontend of this service is", name(family));
            let cure = format!("add an {} frontend, or remove it", name(family));
            let field = format_args!("services[{i}].backends[{j}].address");
            check.complain(backend.address.referenced, field, wrong(cause, cure));
        }
    }
    if backends.is_empty() {
        return;
    }
    for ((vip, list, j), family) in vips.into_iter().zip(&families) {
        if !backends.contains(family) {
            let cause = format!("it is {}, and no backend of this service is", name(*family));
            let cure = format!("add an {} backend, or remove it", name(*family));
            check.complain(vip.referenced, format_args!("services[{i}].{list}[{j}].vip"), wrong(cause, cure));
        }
    }
    if let Some(first) = entry.node_ports.first()
        && !cluster.addresses().iter().any(|(address, _)| backends.contains(&Some(address.is_ipv4())))
    {
        let cause = "nodes have it at their addresses, and no backend of this service is of that family";
        let cure = "add a backend of the nodes' family, give the nodes `otherAddresses`, or remove it";
        let field = format_args!("services[{i}].nodePorts[0]");
        check.complain(first.port.referenced, field, wrong(cause, cure));
    }
}
