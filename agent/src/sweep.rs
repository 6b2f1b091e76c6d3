//! The sweep: what pods left behind goes, and what running pods have lost comes back.
//!
//! Runtimes do not always tell that a pod is gone, so its address would never come back; and whoever empties the bpffs
//! takes away the entries of pods that go on running. The plugin's leases tell what belongs to whom. What is in use is
//! never taken: a lease stays as long as its port or its sandbox exists, and while it is young enough to be still on
//! its way through an ADD.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use beeline_ipam::{Lease, LivingSandboxes, Owner, Store};
use lb_dataplane::{
    EndpointView, Mac, NetNs, Netlink, NodeFile, PortOwner, Ports, netlink::Link, runtime_dir,
};

use crate::{host::ports::is_port, model::derived_mac};

/// How often leases are looked through.
const EVERY: Duration = Duration::from_mins(1);
/// How long a port must have been without an entry before it is given one.
const SETTLED: Duration = Duration::from_secs(5);
/// How old a lease must be before anybody may doubt it.
const YOUNG: Duration = Duration::from_mins(1);

/// What it remembers in order not to look through leases in every pass.
pub(crate) struct Sweep {
    runtime_dir: PathBuf,
    looked: Option<Instant>,
    /// Ports that no endpoint names, by index, and since when that is known.
    bare: HashMap<u32, Instant>,
}

impl Sweep {
    /// Of the leases that the plugin keeps in runtime folder `runtime_dir`.
    pub(crate) fn new(runtime_dir: &Path) -> Self {
        Self { runtime_dir: runtime_dir.to_owned(), looked: None, bare: HashMap::new() }
    }

    /// Sweeps, and returns how many ports got entries back, which may have lost their programs as well.
    pub(crate) async fn pass(&mut self, netlink: &Netlink, node: &NodeFile) -> Result<usize> {
        let mut ports = Ports::open(node)?;
        // Endpoints first: a port that is younger than the list of endpoints is not missed, and one that is older is in
        // the list of links, unless it is gone.
        let endpoints = ports.endpoints()?;
        let links = netlink.links().await?;
        let gone = gone(&endpoints, &links);
        for endpoint in &gone {
            ports.remove_endpoint_if(endpoint.address, endpoint.ifindex)?;
            tracing::info!(address = %endpoint.address, "removed the entry of a pod whose port is gone");
        }
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= EVERY);
        let bare = self.long_bare(without_entry(&endpoints, &links));
        if bare.is_empty() && !due {
            return Ok(0);
        }
        let store = Store::open_existing(&runtime_dir::address_store(&self.runtime_dir));
        let Some(store) = store.context("cannot open the account of addresses")? else {
            return Ok(0);
        };
        let mut restored = 0;
        for (link, owner) in &bare {
            restored += usize::from(restore(&mut ports, &store, link, owner).await?);
        }
        if due {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            for port in take_back(&store, &links, now)? {
                forget(&self.runtime_dir, node, &port)?;
            }
            self.looked = Some(Instant::now());
        }
        Ok(restored)
    }

    /// Those of the `bare` ports that have been so for longer than an ADD or a DEL on its way would leave them.
    fn long_bare<'a>(&mut self, bare: Vec<(&'a Link, PortOwner)>) -> Vec<(&'a Link, PortOwner)> {
        let now = Instant::now();
        let since = |link: &Link| self.bare.get(&link.index).copied().unwrap_or(now);
        self.bare = bare.iter().map(|(link, _)| (link.index, since(link))).collect();
        bare.into_iter().filter(|(link, _)| now - self.bare[&link.index] >= SETTLED).collect()
    }
}

/// Removes what else the plugin kept for `port`, of a pod that is gone.
fn forget(runtime_dir: &Path, node: &NodeFile, port: &str) -> Result<()> {
    Ports::detach_with(&node.pins(), port)?;
    for boot in fs::read_dir(runtime_dir::attachments(runtime_dir)).into_iter().flatten().flatten() {
        // Most boots have no such record.
        let _ = fs::remove_file(boot.path().join(port));
    }
    Ok(())
}

/// Pods' endpoints whose device is no more.
fn gone<'a>(endpoints: &'a [EndpointView], links: &[Link]) -> Vec<&'a EndpointView> {
    let present: HashSet<u32> = links.iter().map(|link| link.index).collect();
    endpoints.iter().filter(|endpoint| !endpoint.host && !present.contains(&endpoint.ifindex)).collect()
}

/// Pods' ports that are up and that no endpoint names, with their owners.
fn without_entry<'a>(endpoints: &[EndpointView], links: &'a [Link]) -> Vec<(&'a Link, PortOwner)> {
    let known: HashSet<u32> = endpoints.iter().map(|endpoint| endpoint.ifindex).collect();
    links
        .iter()
        .filter(|link| is_port(link) && link.up && !known.contains(&link.index))
        .filter_map(|link| Some((link, PortOwner::from_alias(link.alias.as_deref()?)?)))
        .collect()
}

/// Makes the addresses that `owner` holds endpoints behind `link` again; says whether it holds any.
async fn restore(ports: &mut Ports, store: &Store, link: &Link, owner: &PortOwner) -> Result<bool> {
    // An alias that was cut to size names nobody.
    let Ok(holder) = Owner::new(owner.container.as_str(), owner.interface.as_str()) else {
        return Ok(false);
    };
    let Some(lease) = store.lease(&holder)? else {
        return Ok(false);
    };
    let Some(mac) = pod_mac(&lease, &owner.interface).await.or_else(|| derived_mac(&lease.addresses)) else {
        return Ok(false);
    };
    for address in &lease.addresses {
        ports.insert_endpoint(*address, link.index, mac)?;
    }
    tracing::info!(port = link.name, addresses = ?lease.addresses, "gave a pod its entry back");
    Ok(true)
}

/// The MAC that the pod's own end has, if its sandbox can be looked into: a runtime may have chosen it.
async fn pod_mac(lease: &Lease, interface: &str) -> Option<Mac> {
    let netns = NetNs::open(&lease.sandbox.as_ref()?.netns).ok()?;
    Netlink::open_in(&netns).ok()?.link(interface).await.ok()??.mac
}

/// Takes back the leases that nobody uses at `now`, since 1970, and gives the names of the ports that they were for.
fn take_back(store: &Store, links: &[Link], now: Duration) -> Result<Vec<String>> {
    let ports: HashSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
    let mut living = LivingSandboxes::new();
    let released = store.retain(|owner, lease| {
        is_young(lease, now) || ports.contains(port_name(owner).as_str()) || lives(lease, &mut living)
    })?;
    for (owner, lease) in &released {
        tracing::info!(
            container = owner.container_id(), addresses = ?lease.addresses,
            "took addresses back from a pod that is gone and was never deleted"
        );
    }
    Ok(released.iter().map(|(owner, _)| port_name(owner)).collect())
}

/// Whether the lease's sandbox exists, as far as can be told: what cannot be told is taken to exist.
fn lives(lease: &Lease, living: &mut LivingSandboxes) -> bool {
    lease.sandbox.as_ref().is_some_and(|sandbox| living.contains(sandbox).unwrap_or(true))
}

fn port_name(owner: &Owner) -> String {
    let owner = PortOwner {
        container: owner.container_id().to_owned(),
        interface: owner.ifname().to_owned(),
        pod: None,
    };
    owner.port_name()
}

/// Whether `lease` may be part of an ADD that is still under way; also if the clock was set back since.
fn is_young(lease: &Lease, now: Duration) -> bool {
    now.checked_sub(Duration::from_secs(lease.since)).is_none_or(|age| age < YOUNG)
}

#[cfg(test)]
mod tests {
    use beeline_ipam::{RangeSet, Request, Sandbox};

    use super::*;

    fn link(index: u32, name: &str, alias: Option<&str>) -> Link {
        Link {
            index,
            name: name.into(),
            up: true,
            kind: Some("veth".into()),
            alias: alias.map(str::to_owned),
            ..Link::default()
        }
    }

    fn endpoint(address: &str, ifindex: u32, host: bool) -> EndpointView {
        EndpointView { address: address.parse().unwrap(), ifindex, mac: Mac::NONE, host }
    }

    const PORT: &str = "bl0123456789abc";

    #[test]
    fn only_pods_whose_device_is_gone_are_gone() {
        let endpoints = [
            endpoint("10.244.1.1", 3, true),
            endpoint("10.244.1.2", 7, false),
            endpoint("fd00::2", 9, false),
        ];
        let found = gone(&endpoints, &[link(7, PORT, None)]);
        assert_eq!(found, [&endpoints[2]]);
    }

    #[test]
    fn ports_of_pods_alone_lack_an_entry_and_only_once_they_are_up() {
        let alias = Some("c0ffee eth0 default/web");
        let down = Link { up: false, ..link(5, PORT, alias) };
        let links = [link(3, "beeline0-port", alias), link(4, PORT, alias), down, link(6, PORT, None)];
        let found: Vec<_> =
            without_entry(&[], &links).into_iter().map(|(link, owner)| (link.index, owner)).collect();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1.container.as_str()), (4, "c0ffee"));
        assert!(without_entry(&[endpoint("10.244.1.2", 4, false)], &links).is_empty());
    }

    #[test]
    fn a_lease_is_young_for_a_minute_and_if_the_clock_went_back() {
        let lease: Lease = serde_json::from_str(r#"{"addresses": [], "since": 1000}"#).unwrap();
        let young = |now| is_young(&lease, Duration::from_secs(now));
        assert!(young(1_000) && young(1_059) && young(900));
        assert!(!young(1_060));
    }

    #[test]
    fn leases_without_port_and_sandbox_come_back_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&runtime_dir::address_store(dir.path())).unwrap();
        let prefix: ipnet::IpNet = "10.244.1.0/24".parse().unwrap();
        let sets = RangeSet::several(&[vec![prefix.into()]]).unwrap();
        let [gone, wired, alive] = ["gone", "wired", "alive"].map(|id| Owner::new(id, "eth0").unwrap());
        for owner in [&gone, &wired] {
            store.reserve(&Request::new(owner, &sets)).unwrap();
        }
        let sandbox = Some(Sandbox::of(Path::new("/proc/self/ns/net")).unwrap());
        store.reserve(&Request { sandbox, ..Request::new(&alive, &sets) }).unwrap();

        let links = [link(4, &port_name(&wired), None)];
        let now = Duration::from_secs(store.lease(&gone).unwrap().unwrap().since);
        assert!(take_back(&store, &links, now).unwrap().is_empty());
        assert_eq!(store.leases().unwrap().len(), 3, "all are young");
        assert_eq!(take_back(&store, &links, now + YOUNG).unwrap(), [port_name(&gone)]);
        let left: Vec<_> = store.leases().unwrap().into_iter().map(|(owner, _)| owner).collect();
        assert_eq!(left, [alive, wired]);
    }
}
