//! Whom a pod's addresses come from: Beeline's own store, or another IPAM plugin. Makes no interface.

mod delegated;
mod own;

use std::{net::IpAddr, path::Path};

use beeline_cni::{Attachment, Code, Dns, Network, Route};
use beeline_ipam::Sandbox;
use lb_dataplane::NodeFile;

pub(crate) use delegated::Delegated;
pub(crate) use own::Own;

use crate::error::{Error, Result};

/// The `ipam.type` that means Beeline's own store, as its absence does.
const OWN: &str = "beeline-ipam";

/// Whom addresses come from.
pub(crate) enum Addressing {
    /// Beeline's own store.
    Own(Own),
    /// Another plugin.
    Delegated(Delegated),
}

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// The addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Routes to have in place of a way to anywhere.
    pub(crate) routes: Vec<Route>,
    /// Resolver settings, if the giver has any.
    pub(crate) dns: Option<Dns>,
}

/// Name of the other plugin that gives `network` its addresses, if one does.
pub(crate) fn delegate(network: &Network) -> Option<&str> {
    network.ipam.as_ref().map(|ipam| ipam.plugin.as_str()).filter(|plugin| *plugin != OWN)
}

impl Addressing {
    /// As `network` says, on the node of `file`, whose address store is in `runtime_dir`.
    pub(crate) fn of(network: &Network, runtime_dir: &Path, file: &NodeFile) -> Result<Self> {
        match delegate(network) {
            Some(plugin) => Delegated::find(plugin, network).map(Self::Delegated),
            None => Own::of(network, runtime_dir, file).map(Self::Own),
        }
    }

    /// Gives the attachment its addresses.
    pub(crate) fn give(&self, attachment: &Attachment, sandbox: &Sandbox) -> Result<Given> {
        match self {
            Self::Own(own) => own.give(attachment, sandbox),
            Self::Delegated(delegated) => delegated.give(&attachment.network),
        }
    }

    /// Takes back what [`Self::give`] gave this call's attachment.
    pub(crate) fn take_back(&self, attachment: &Attachment) -> Result<()> {
        match self {
            Self::Own(own) => own.take_back(&attachment.id),
            Self::Delegated(delegated) => delegated.take_back(&attachment.network, None),
        }
    }

    /// Sees whether the attachment still holds `addresses`; says what is wrong.
    pub(crate) fn check(&self, attachment: &Attachment, addresses: &[IpAddr]) -> Result<Vec<String>> {
        match self {
            Self::Own(own) => own.check(&attachment.id, addresses),
            Self::Delegated(delegated) => delegated.check(&attachment.network).map(|()| Vec::new()),
        }
    }
}

/// Refuses addresses that pods of this node cannot have, whoever gave them.
pub(crate) fn ensure_usable(addresses: &[IpAddr], file: &NodeFile) -> Result<()> {
    if addresses.is_empty() {
        return Err(Error::new(
            Code::CONFIG,
            "the IPAM plugin gave no address; see its part of the configuration",
        ));
    }
    for (i, address) in addresses.iter().enumerate() {
        if !file.pod_cidrs.iter().any(|cidr| cidr.contains(address)) {
            let cidrs = file.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::new(
                Code::CONFIG,
                format!(
                    "the address {address} is not in this node's pod CIDRs ({cidrs}), so that no other node would find \
                     the pod: correct the configuration's `ipam`"
                ),
            ));
        }
        if file.gateways.contains(address) {
            let msg =
                format!("the address {address} is this node's own: exclude it in the configuration's `ipam`");
            return Err(Error::new(Code::CONFIG, msg));
        }
        if addresses[..i].contains(address) {
            return Err(Error::new(
                Code::CONFIG,
                format!("the IPAM plugin gave the address {address} twice"),
            ));
        }
    }
    Ok(())
}
