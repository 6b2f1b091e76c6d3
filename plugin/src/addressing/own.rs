//! Addresses from Beeline's own store, which all processes of the node share: by default one of each family from
//! the node's pod CIDRs, else from the ranges that the configuration names.

use std::{collections::HashMap, net::IpAddr, path::Path, sync::Arc};

use beeline_cni::{Attachment, AttachmentId, Code, Dns, Network, Route};
use beeline_ipam::{RangeConfig, RangeSet, Request, Sandbox, Settings, Store, Usage};
use ipnet::IpNet;
use lb_dataplane::{NodeFile, runtime_dir};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Given;
use crate::{
    attachment,
    error::{Error, Result},
};

/// The store, and what it is to give from.
pub(crate) struct Own {
    store: Arc<Store>,
    settings: Settings,
    routes: Vec<Route>,
    dns: Option<Dns>,
}

/// Keys of the `ipam` section that mean something here; `beeline-ipam` as a program knows more.
const KEYS: [&str; 9] =
    ["subnet", "rangeStart", "rangeEnd", "gateway", "exclude", "ranges", "routes", "cooldown", "dns"];

impl Own {
    pub(super) fn of(network: &Network, runtime_dir: &Path, file: &NodeFile) -> Result<Self> {
        let section = network.ipam.as_ref().map(|ipam| ipam.specific.clone()).unwrap_or_default();
        if let Some(key) = section.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let msg = format!(
                "the configuration's `ipam` has a key `{key}` that this plugin does not know: remove it"
            );
            return Err(Error::new(Code::UNSUPPORTED_FIELD, msg));
        }
        let mut settings = Settings::read(&section, network.requested_ranges()).map_err(|e| bad(&e))?;
        if settings.sets.is_empty() {
            settings.sets = of_the_node(file)?;
        }
        Ok(Self {
            store: Arc::new(Store::open(&runtime_dir::address_store(runtime_dir))?),
            settings,
            routes: read(&section, "routes")?.unwrap_or_default(),
            dns: read(&section, "dns")?,
        })
    }

    pub(super) fn give(&self, attachment: &Attachment, sandbox: &Sandbox) -> Result<Given> {
        let wanted = attachment.network.requested_addresses(&attachment.args)?;
        let lease = self.store.reserve(&Request {
            wanted: &wanted,
            sandbox: Some(sandbox.clone()),
            pod: attachment.args.pod.as_ref().map(ToString::to_string),
            cooldown: self.settings.cooldown,
            ..Request::new(&attachment::owner(&attachment.id)?, &self.settings.sets)
        })?;
        Ok(Given { addresses: lease.addresses, routes: self.routes.clone(), dns: self.dns.clone() })
    }

    pub(super) fn take_back(&self, id: &AttachmentId) -> Result<()> {
        self.store.release(&attachment::owner(id)?)?;
        Ok(())
    }

    pub(super) fn check(&self, id: &AttachmentId, addresses: &[IpAddr]) -> Result<Vec<String>> {
        let Some(lease) = self.store.lease(&attachment::owner(id)?)? else {
            return Err(Error::new(
                Code::UNKNOWN_CONTAINER,
                format!("{id} holds no address here: it was never added, or is deleted; make the pod anew"),
            ));
        };
        let untold = lease.addresses.iter().filter(|held| !addresses.contains(held));
        let unheld = addresses.iter().filter(|told| !lease.addresses.contains(told));
        let untold = untold.map(|address| format!("{address} is held, and not in prevResult"));
        let unheld = unheld.map(|address| format!("{address} is in prevResult, and not held"));
        Ok(untold.chain(unheld).collect())
    }

    /// The store itself.
    pub(crate) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Use of the range set that has nothing left to give, if there is one.
    pub(crate) fn exhausted(&self) -> Result<Option<Usage>> {
        for set in &self.settings.sets {
            let usage = self.store.usage(set)?;
            if usage.is_exhausted() {
                return Ok(Some(usage));
            }
        }
        Ok(None)
    }
}

/// A range set for each family among the node's pod CIDRs.
fn of_the_node(file: &NodeFile) -> Result<Vec<RangeSet>> {
    let gateway = |cidr: &IpNet| file.gateways.iter().copied().find(|gateway| cidr.contains(gateway));
    let range = |cidr: &IpNet| RangeConfig { gateway: gateway(cidr), ..RangeConfig::from(*cidr) };
    let (ipv4, ipv6): (Vec<&IpNet>, Vec<&IpNet>) =
        file.pod_cidrs.iter().partition(|cidr| cidr.addr().is_ipv4());
    let sets = [ipv4, ipv6].map(|cidrs| cidrs.into_iter().map(range).collect::<Vec<_>>());
    let sets: Vec<_> = sets.into_iter().filter(|set| !set.is_empty()).collect();
    if sets.is_empty() {
        return Err(Error::new(
            Code::CONFIG,
            "this node has no pod CIDR to take addresses from; give it one in beelined's configuration",
        ));
    }
    RangeSet::several(&sets).map_err(|e| {
        let msg = format!("the node's pod CIDRs cannot be used: {e}; correct beelined's configuration");
        Error::new(Code::CONFIG, msg)
    })
}

fn read<T: DeserializeOwned>(section: &HashMap<String, Value>, key: &str) -> Result<Option<T>> {
    let value = section.get(key).cloned().unwrap_or_default();
    serde_json::from_value(value).map_err(|e| bad(&format!("`{key}` cannot be read: {e}")))
}

fn bad(why: &dyn std::fmt::Display) -> Error {
    Error::new(Code::CONFIG, format!("the configuration's `ipam` makes no sense: {why}; correct it"))
}
