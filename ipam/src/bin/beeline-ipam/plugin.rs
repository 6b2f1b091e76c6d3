//! The CNI commands, over the library.

use std::path::Path;

use beeline_cni::{Attachment, AttachmentId, Code, Failure, Ip, Network, Plugin, Success};
use beeline_ipam::{Error, Lease, Owner, RangeSet, Request, Sandbox, Store};
use ipnet::IpNet;

use crate::{config, failure};

/// Gives addresses.
pub(crate) struct Allocator;

impl Plugin for Allocator {
    fn add(&self, attachment: &Attachment, netns: &Path) -> Result<Success, Failure> {
        let network = &attachment.network;
        // All that can be found wrong without changing anything is found first.
        let settings = config::settings(network)?;
        let (routes, dns) = (config::routes(network)?, config::dns(network)?);
        let owner = owner(&attachment.id)?;
        let wanted = network.requested_addresses(&attachment.args)?;
        let request = Request {
            wanted: &wanted,
            // Some main plugins know no namespace; their leases are taken back by DEL and GC alone.
            sandbox: Sandbox::of(netns).ok(),
            pod: attachment.args.pod.as_ref().map(ToString::to_string),
            cooldown: settings.cooldown,
            ..Request::new(&owner, &settings.sets)
        };
        let store = Store::open(&config::store_dir(network)?).map_err(|e| failure::of_store(&e))?;
        let lease = reserve(&store, &request).map_err(|e| failure::of_store(&e))?;
        let ips = lease.addresses.iter().zip(&settings.sets);
        let ips = ips.map(|(address, set)| told(*address, set)).collect::<Result<_, _>>()?;
        Ok(Success { ips, routes, dns, ..Success::default() })
    }

    fn del(&self, attachment: &Attachment) -> Result<(), Failure> {
        if let Some(store) = existing(&attachment.network)? {
            store.release(&owner(&attachment.id)?).map_err(|e| failure::of_store(&e))?;
        }
        Ok(())
    }

    fn check(&self, attachment: &Attachment, _: &Path) -> Result<(), Failure> {
        let store = existing(&attachment.network)?;
        let owner = owner(&attachment.id)?;
        let lease = store.map(|store| store.lease(&owner)).transpose().map_err(|e| failure::of_store(&e))?;
        let Some(lease) = lease.flatten() else {
            let msg =
                format!("{owner} holds no address: it was never added, or is deleted; make the pod anew");
            return Err(Failure::new(Code::UNKNOWN_CONTAINER, msg));
        };
        match attachment.network.prev_result()? {
            Some(result) => compare(&owner, &lease, result),
            None => Ok(()),
        }
    }

    fn gc(&self, network: &Network) -> Result<(), Failure> {
        let Some(store) = existing(network)? else { return Ok(()) };
        match network.valid_attachments()? {
            Some(valid) => store.retain(|owner, _| valid.contains(&id(owner))).map(drop),
            // Runtimes that do not say what is valid must not take away what lives.
            None => reclaim(&store).map(drop),
        }
        .map_err(|e| failure::of_store(&e))
    }

    fn status(&self, network: &Network) -> Result<(), Failure> {
        let settings = config::settings(network)?;
        let Some(store) = existing(network)? else { return Ok(()) };
        let exhausted = exhausted(&store, &settings.sets).map_err(|e| {
            let why = failure::of_store(&e);
            Failure::new(Code::NOT_AVAILABLE, why.msg).with_details(why.details)
        })?;
        match exhausted {
            Some(set) => {
                let (set, size) = (set.to_string(), set.size());
                Err(Failure::new(Code::NOT_AVAILABLE, Error::Exhausted { set, size }.to_string()))
            }
            None => Ok(()),
        }
    }
}

/// Reserves; if what is wanted is held, first takes back what runtimes forgot.
fn reserve(store: &Store, request: &Request<'_>) -> Result<Lease, Error> {
    match store.reserve(request) {
        Err(short @ (Error::Exhausted { .. } | Error::Taken { .. })) => match reclaim(store) {
            Ok(0) | Err(_) => Err(short),
            Ok(_) => store.reserve(request),
        },
        result => result,
    }
}

/// Takes back the leases of sandboxes that are gone, and says how many there were.
fn reclaim(store: &Store) -> Result<usize, Error> {
    Ok(store.release_leases(store.orphans()?)?.len())
}

/// The first set of which ADD could give nothing, not even what a runtime forgot.
fn exhausted<'a>(store: &Store, sets: &'a [RangeSet]) -> Result<Option<&'a RangeSet>, Error> {
    let mut full = Vec::new();
    for set in sets {
        if store.usage(set)?.is_exhausted() {
            full.push(set);
        }
    }
    if full.is_empty() {
        return Ok(None);
    }
    // What cannot be told counts as living, as it does in ADD.
    let orphans = store.orphans().unwrap_or_default();
    let returns = |set: &RangeSet| {
        orphans.iter().flat_map(|(_, lease)| &lease.addresses).any(|address| set.contains(*address))
    };
    Ok(full.into_iter().find(|set| !returns(set)))
}

/// An address as results tell it: with the length of its subnet, and its gateway.
fn told(address: std::net::IpAddr, set: &RangeSet) -> Result<Ip, Failure> {
    let range = set.range_of(address).ok_or_else(|| Failure::bug("an address of no range was given"))?;
    let address = IpNet::new(address, range.subnet().prefix_len()).map_err(Failure::bug)?;
    Ok(Ip { address, gateway: range.gateway(), interface: None })
}

fn compare(owner: &Owner, lease: &Lease, result: &Success) -> Result<(), Failure> {
    let told = |held: &&std::net::IpAddr| result.ips.iter().any(|ip| ip.address.addr() == **held);
    match lease.addresses.iter().find(|held| !told(held)) {
        Some(held) => Err(Failure::new(
            failure::MISMATCH,
            format!("{owner} holds {held}, which its prevResult does not have; make the pod anew"),
        )),
        None => Ok(()),
    }
}

fn existing(network: &Network) -> Result<Option<Store>, Failure> {
    Store::open_existing(&config::store_dir(network)?).map_err(|e| failure::of_store(&e))
}

fn owner(id: &AttachmentId) -> Result<Owner, Failure> {
    Owner::new(&id.container_id, &id.ifname).map_err(|e| Failure::new(Code::ENVIRONMENT, e.to_string()))
}

fn id(owner: &Owner) -> AttachmentId {
    AttachmentId { container_id: owner.container_id().to_owned(), ifname: owner.ifname().to_owned() }
}
