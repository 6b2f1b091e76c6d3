//! Reconciliation: taking away attachments whose pods no longer exist. Runtimes do not repeat a DEL that failed,
//! and most never call GC.
//!
//! An attachment is dead if it has no port, and its network namespace is no longer at its path. The port tells more
//! than any search for processes: a veth pair goes with either end's namespace, so where a process or a mount keeps a
//! wired namespace there is a port; and the numbers of namespaces that went are soon others'. Without a port nothing
//! can be sent from the address.

use std::{collections::BTreeSet, io};

use beeline_cni::{AttachmentId, Network};
use beeline_ipam::Sandbox;

use crate::{
    addressing,
    attachment::{self, Lock},
    error::Result,
    node::Remains,
    takedown::{Target, take_down},
};

/// Which attachments are to go.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    /// Those whose pods no longer exist.
    Dead,
    /// These too, and besides all of the network that are not among these.
    Invalid(&'a BTreeSet<AttachmentId>),
}

/// Names the lock of those who reconcile, as ports name those of attachments.
const LOCK: &str = "reconciliation";

/// Takes away what is to go, and says how many these were. Attachments that another call works on are left to it; but
/// whoever else reconciles is waited for, so that what he gets back can be had afterwards.
pub(crate) async fn reconcile(remains: &mut Remains, network: &Network, which: Which<'_>) -> Result<usize> {
    let _lock = Lock::take(&remains.runtime_dir, LOCK)?;
    let mut count = 0;
    let mut failure = None;
    for port in remains.records.ports()? {
        let Some(_lock) = Lock::try_take(&remains.runtime_dir, &port)? else { continue };
        match recorded(remains, network, which, &port).await {
            Ok(gone) => count += usize::from(gone),
            // One that cannot be taken away keeps none of the others.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match unrecorded(remains).await {
        Ok(gone) => count += gone,
        Err(error) => failure = failure.or(Some(error)),
    }
    match failure {
        Some(error) if count == 0 => Err(error),
        _ => Ok(count),
    }
}

/// Takes the attachment with this port away if it is to go. Its lock must be held.
async fn recorded(remains: &mut Remains, network: &Network, which: Which<'_>, port: &str) -> Result<bool> {
    let Some(record) = remains.records.read(port)? else {
        // Its writer was killed before it made anything else.
        remains.records.remove(port)?;
        return Ok(false);
    };
    let id = record.id();
    let of_this_network = record.network == network.name;
    let invalid = match which {
        Which::Invalid(valid) => of_this_network && !valid.contains(&id),
        Which::Dead => false,
    };
    // Only a call for its own network can tell another IPAM plugin.
    let theirs = record.delegate.is_some();
    if theirs && (!of_this_network || record.delegate.as_deref() != addressing::delegate(network)) {
        return Ok(false);
    }
    if !invalid && !is_dead(remains, port, &record.sandbox).await? {
        return Ok(false);
    }
    let network = theirs.then_some(network);
    let target = Target { id: &id, record: Some(&record), told: Vec::new(), network, own: false };
    take_down(remains, &target).await?;
    Ok(true)
}

/// Takes away what holds an address without a record: attachments of an older Beeline, whose network is not known,
/// and those of other plugins that share the store.
async fn unrecorded(remains: &mut Remains) -> Result<usize> {
    let leases = remains.store.as_ref().map(|store| store.leases()).transpose()?.unwrap_or_default();
    let mut count = 0;
    for (owner, lease) in leases {
        let id =
            AttachmentId { container_id: owner.container_id().to_owned(), ifname: owner.ifname().to_owned() };
        let port = attachment::port_name(&id);
        let Some(_lock) = Lock::try_take(&remains.runtime_dir, &port)? else { continue };
        let Some(store) = &remains.store else { continue };
        if remains.records.read(&port)?.is_some() || store.lease(&owner)?.as_ref() != Some(&lease) {
            continue;
        }
        let dead = match &lease.sandbox {
            Some(sandbox) => is_dead(remains, &port, sandbox).await?,
            // Older Beelines did not note it, but they made the port at once.
            None => lease.serial == 0 && remains.host.link(&port).await?.is_none(),
        };
        if !dead {
            continue;
        }
        take_down(remains, &Target { id: &id, record: None, told: Vec::new(), network: None, own: false })
            .await?;
        count += 1;
    }
    Ok(count)
}

async fn is_dead(remains: &Remains, port: &str, sandbox: &Sandbox) -> Result<bool> {
    Ok(remains.host.link(port).await?.is_none() && is_gone(sandbox))
}

/// True if the namespace is no longer at its path. In doubt it is.
fn is_gone(sandbox: &Sandbox) -> bool {
    match Sandbox::of(&sandbox.netns) {
        Ok(found) => found != *sandbox,
        Err(e) => matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}
