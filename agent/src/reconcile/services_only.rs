//! The short way: services' backends come and go all the time, and everything else hardly ever. As long as nothing else
//! differs from what the last whole pass applied, only the services' maps are touched, and nobody asks the kernel for
//! 10,000s of routes because of one endpoint. Whole passes still come every few seconds, and heal what is broken.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use anyhow::Result;
use lb_dataplane::desired::Service;

use super::{Outcome, Reconciler};
use crate::model::Network;

/// What the last whole pass made real.
pub(super) struct Settled {
    network: Network,
    outcome: Outcome,
}

impl Settled {
    pub(super) fn new(network: &Network, outcome: Outcome) -> Self {
        Self { network: network.clone(), outcome }
    }

    /// Whether the short way leads from here to `network`.
    fn leads_to(&self, network: &Network) -> bool {
        rest(&self.network) == rest(network) && are_found_alike(&self.network, network)
    }
}

impl Reconciler {
    /// Brings the services' maps up to date if nothing else is to be done; `None` if it takes a whole pass.
    pub(crate) fn services_only(&mut self, network: &Network) -> Result<Option<Outcome>> {
        let Some(settled) = self.settled.take_if(|settled| settled.leads_to(network)) else {
            return Ok(None);
        };
        let Some(mut desired) = self.applied.clone().filter(|_| self.are_pins_there()) else {
            return Ok(None);
        };
        desired.services.clone_from(&network.services);
        let changes = self.or_forget(|this| this.apply(desired))?;
        let outcome = Outcome { changes, ..settled.outcome.clone() };
        self.settled = Some(settled);
        Ok(Some(outcome))
    }
}

/// All of `network` but the services.
fn rest(network: &Network) -> impl PartialEq {
    let Network { vni, vxlan_port, uplink, attach, node, peers, services: _ } = network;
    (vni, vxlan_port, uplink, attach, node, peers)
}

/// Whether the host needs the same routes and NAT for the sake of either's services. Most of them are the very same.
fn are_found_alike(before: &Network, now: &Network) -> bool {
    let are_alike = |(before, now): (&Arc<Service>, &Arc<Service>)| {
        let found = |service: &Service| service.all_frontends().copied().collect::<Vec<_>>();
        Arc::ptr_eq(before, now) || (before.dsr == now.dsr && found(before) == found(now))
    };
    let pairs = before.services.iter().zip(&now.services);
    let in_order = before.services.len() == now.services.len() && pairs.into_iter().all(are_alike);
    in_order || (vips(&before.services) == vips(&now.services) && before.node_ports() == now.node_ports())
}

/// Addresses of the services that are balanced here.
fn vips(services: &[Arc<Service>]) -> HashSet<IpAddr> {
    let balanced = services.iter().filter(|service| service.dsr);
    balanced.flat_map(|service| &service.frontends).map(|frontend| frontend.vip).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lb_dataplane::{
        AttachMode, Changes,
        desired::{Backend, BackendState},
        netlink::Link,
    };

    use super::*;
    use crate::model::tests::network;

    fn outcome() -> Outcome {
        Outcome {
            uplink: Link::default(),
            mtu: 1450,
            attach: AttachMode::Tcx,
            changes: Changes::default(),
            troubles: vec![],
        }
    }

    #[test]
    fn only_a_change_of_backends_goes_the_short_way() {
        let before = network();
        let settled = Settled::new(&before, outcome());
        let mut changed = before.clone();
        let address = [10, 244, 1, 5].into();
        let port = 80.try_into().unwrap();
        Arc::make_mut(&mut changed.services[0]).backends.push(Backend {
            address,
            port,
            state: BackendState::Ready,
        });
        assert!(settled.leads_to(&changed));
        // Left to the host: no route, and none goes.
        changed.services.pop();
        assert!(settled.leads_to(&changed));

        let mut fewer = before.clone();
        fewer.services.remove(0);
        assert!(!settled.leads_to(&fewer), "a route must go");
        let mut switched = before.clone();
        Arc::make_mut(&mut switched.services[1]).dsr = true;
        assert!(!settled.leads_to(&switched), "a route must come");
        let mut peerless = before;
        peerless.peers.clear();
        assert!(!settled.leads_to(&peerless));
    }
}
