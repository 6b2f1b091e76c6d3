//! Addresses from another IPAM plugin, by the specification's delegation.

use beeline_cni::{AttachmentId, Delegate, Network, Verb};

use super::Given;
use crate::error::Result;

/// The other plugin.
pub(crate) struct Delegated(Delegate);

impl Delegated {
    pub(crate) fn find(plugin: &str, network: &Network) -> Result<Self> {
        Ok(Self(Delegate::find(plugin, network)?))
    }

    pub(super) fn give(&self, network: &Network) -> Result<Given> {
        let result = self.0.call(Verb::Add, network, None)?;
        let dns = result.dns;
        let has_dns = dns.domain.is_some()
            || [dns.search.is_empty(), dns.options.is_empty(), dns.nameservers.is_empty()].contains(&false);
        Ok(Given {
            addresses: result.ips.iter().map(|ip| ip.address.addr()).collect(),
            routes: result.routes,
            dns: has_dns.then_some(dns),
        })
    }

    /// Takes back what `id` holds; what this call's attachment does, if it is `None`.
    pub(crate) fn take_back(&self, network: &Network, id: Option<&AttachmentId>) -> Result<()> {
        self.0.call(Verb::Del, network, id)?;
        Ok(())
    }

    pub(super) fn check(&self, network: &Network) -> Result<()> {
        self.0.call(Verb::Check, network, None)?;
        Ok(())
    }

    /// Has it take back what no valid attachment holds.
    pub(crate) fn gc(&self, network: &Network) -> Result<()> {
        self.0.call(Verb::Gc, network, None)?;
        Ok(())
    }

    /// Asks whether it could give addresses.
    pub(crate) fn status(&self, network: &Network) -> Result<()> {
        self.0.call(Verb::Status, network, None)?;
        Ok(())
    }
}
