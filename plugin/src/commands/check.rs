//! CHECK: sees whether what ADD made is still there, and names all that is not.

use std::{net::IpAddr, path::Path};

use beeline_cni::{Attachment, Code, Success};
use ipnet::IpNet;
use lb_dataplane::{Mac, Netlink, NodeFile, Ports, netlink::Link};

use crate::{
    addressing::Addressing,
    attachment,
    error::{Error, MISMATCH, Result},
    node, pod,
    pod::Wiring,
    settings,
};

/// Answers CHECK.
pub(super) async fn check(attachment: &Attachment, netns: &Path) -> Result<()> {
    let (id, network) = (&attachment.id, &attachment.network);
    let result = network.require_prev_result()?;
    let runtime_dir = settings::runtime_dir(network)?;
    let file = NodeFile::read(&runtime_dir)?;
    let host = Netlink::open()?;
    let (_namespace, inside) = node::open_netns(netns)?;
    let wiring = told(result, &id.ifname);
    if wiring.addresses.is_empty() {
        let msg = format!("the `prevResult` gives {} no address: CHECK needs the result of ADD", id.ifname);
        return Err(Error::new(Code::CONFIG, msg));
    }

    let addressing = Addressing::of(network, &runtime_dir, &file)?;
    let mut missing = addressing.check(attachment, &wiring.addresses)?;
    let far = inside.link(&id.ifname).await?;
    match &far {
        Some(link) => {
            missing.extend(mac_differs(result, link));
            missing.extend(pod::missing(&inside, link, &wiring).await?);
        }
        None => missing.push(format!("the container has no interface {}", id.ifname)),
    }
    let port = attachment::port_name(id);
    match host.link(&port).await? {
        Some(link) => missing.extend(missing_at_port(&file, &link, &wiring.addresses, far.as_ref())),
        None => missing.push(format!("the port {port} is gone")),
    }
    if missing.is_empty() {
        return Ok(());
    }
    let found = missing.join("; ");
    Err(Error::new(MISMATCH, format!("{id} is not as it was made: {found}; make the pod anew")))
}

/// What the result of ADD, and of the plugins around this one, says of the interface.
fn told(result: &Success, ifname: &str) -> Wiring {
    let addresses: Vec<IpAddr> = result.addresses_of(ifname).map(|ip| ip.address.addr()).collect();
    // Routes name no interface: ours are those through the link's gateway.
    let through = |gw: Option<IpAddr>| gw.is_some_and(|gw| gw == pod::gateway(gw));
    let routes: Vec<IpNet> =
        result.routes.iter().filter(|route| through(route.gw)).map(|route| route.dst).collect();
    Wiring::new(addresses, routes)
}

fn mac_differs(result: &Success, link: &Link) -> Option<String> {
    let told = &result.interface(&link.name)?.mac;
    let has = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let differs = !told.is_empty() && !told.eq_ignore_ascii_case(&has);
    differs.then(|| format!("{} has the MAC {has}, not {told}", link.name))
}

/// What is wrong at the port; whatever cannot be looked at is wrong too.
fn missing_at_port(file: &NodeFile, port: &Link, addresses: &[IpAddr], far: Option<&Link>) -> Vec<String> {
    let mut missing = Vec::new();
    let name = &port.name;
    if !port.up {
        missing.push(format!("the port {name} is down"));
    }
    if port.mac != Some(Mac::GATEWAY) {
        missing.push(format!("the port {name} has another MAC than {}", Mac::GATEWAY));
    }
    let ports = match Ports::open(file) {
        Ok(ports) => ports,
        Err(e) => {
            missing.push(format!("the dataplane cannot be looked at: {e}"));
            return missing;
        }
    };
    match ports.is_attached(name) {
        Ok(true) => {}
        Ok(false) => missing.push(format!("the program is not attached to the port {name}")),
        Err(e) => missing.push(format!("the program on the port {name} cannot be looked at: {e}")),
    }
    for address in addresses {
        match ports.endpoint(*address) {
            Ok(Some(entry)) if entry.ifindex != port.index => {
                missing.push(format!("the endpoint entry of {address} is another's"));
            }
            Ok(Some(entry)) if far.is_some_and(|far| far.mac != Some(entry.mac)) => {
                missing.push(format!("the endpoint entry of {address} has the MAC {}", entry.mac));
            }
            Ok(Some(_)) => {}
            Ok(None) => missing.push(format!("the endpoint entry of {address} is gone")),
            Err(e) => missing.push(format!("the endpoint entry of {address} cannot be looked at: {e}")),
        }
    }
    missing
}
