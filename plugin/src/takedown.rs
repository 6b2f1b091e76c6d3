//! Taking an attachment away, whatever is left of it: the one way that DEL, GC and reconciliation share. What is
//! not there is no error.

use std::net::IpAddr;

use beeline_cni::{AttachmentId, Network};
use lb_dataplane::{
    NetNs, Netlink, Ports,
    netlink::{Link, device_name},
};

use crate::{
    addressing::{self, Delegated},
    attachment,
    error::Result,
    node::Remains,
    pod,
    record::Record,
};

/// What is to go, and what is known of it.
pub(crate) struct Target<'a> {
    pub(crate) id: &'a AttachmentId,
    pub(crate) record: Option<&'a Record>,
    /// Addresses that the runtime remembers.
    pub(crate) told: Vec<IpAddr>,
    /// The network, if what is to go is of it: its IPAM plugin may have to be told.
    pub(crate) network: Option<&'a Network>,
    /// True if it is this call's own attachment.
    pub(crate) own: bool,
}

/// Takes it away. Addresses are given back when nothing of their old life is left, and the record goes last.
pub(crate) async fn take_down(remains: &mut Remains, target: &Target<'_>) -> Result<()> {
    let owner = attachment::port_owner(target.id, None);
    let name = owner.port_name();
    let port = remains.host.link(&name).await?;
    // A port without an alias is one whose ADD was cut short.
    let alias = port.as_ref().and_then(|port| port.alias.as_deref());
    let ours = alias.is_none_or(|alias| owner.has_alias(alias));
    let port = port.filter(|_| ours);

    remove_endpoints(remains, target, port.as_ref())?;
    remove_rules(target).await;
    if let Some(port) = &port {
        remains.host.delete_link(port.index).await?;
    }
    if let (Some(pins), true) = (&remains.pins, ours) {
        Ports::detach_with(pins, &name)?;
    }
    if let Some(store) = &remains.store {
        store.release(&attachment::owner(target.id)?)?;
    }
    if let Some((network, plugin)) =
        target.network.and_then(|network| Some((network, addressing::delegate(network)?)))
    {
        Delegated::find(plugin, network)?.take_back(network, (!target.own).then_some(target.id))?;
    }
    remains.records.remove(&name)
}

fn remove_endpoints(remains: &mut Remains, target: &Target<'_>, port: Option<&Link>) -> Result<()> {
    let Some(ports) = &mut remains.ports else {
        return Ok(());
    };
    let owner = attachment::owner(target.id)?;
    let lease = remains.store.as_ref().map(|store| store.lease(&owner)).transpose()?.flatten();
    // As long as the owner holds an address, an entry for it can be nobody else's.
    for address in lease.iter().flat_map(|lease| &lease.addresses) {
        ports.remove_endpoint(*address)?;
    }
    // An address that only the record or the runtime remembers may be another pod's by now.
    let recorded = target.record.iter().flat_map(|record| &record.addresses);
    for address in recorded.chain(&target.told) {
        let Some(entry) = ports.endpoint(*address)? else { continue };
        let is_ours = port.is_some_and(|port| port.index == entry.ifindex);
        if is_ours || !(entry.host || device_name(entry.ifindex).is_some()) {
            ports.remove_endpoint(*address)?;
        }
    }
    Ok(())
}

/// A further interface of a pod has rules that outlive it, but not the pod. That the pod may be gone is why nothing
/// here is an error.
async fn remove_rules(target: &Target<'_>) {
    let Some(record) = target.record.filter(|record| record.further) else { return };
    if let Ok(netns) = NetNs::open(&record.sandbox.netns)
        && let Ok(inside) = Netlink::open_in(&netns)
    {
        let _ = pod::disconnect(&inside, &record.addresses).await;
    }
}
