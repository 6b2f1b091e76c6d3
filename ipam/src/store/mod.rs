//! The store: an LMDB file that every process of the node opens for itself, one transaction for each request.
//!
//! A reboot ends every pod, and so must forget every lease: each boot has a store of its own, best on a
//! tmpfs. LMDB keeps a writer's lock in shared memory that the kernel releases when its holder dies, and a
//! transaction that was not committed leaves no trace; so killing a process at any instant neither leaks nor
//! doubles an address.

mod access;
mod choose;
mod key;
mod migrate;
mod open;
mod reclaim;
mod rest;
mod usage;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use heed::{Database, Env, types::Bytes};

use crate::{Clock, Error, Lease, Owner, Request};
use key::Use;
pub use usage::Usage;

/// Version of the keys and values.
pub(crate) const FORMAT: u32 = 2;

/// Who holds which address of one network on this node.
#[derive(Debug)]
pub struct Store {
    env: Env,
    table: Database<'static, Bytes, Bytes>,
    path: PathBuf,
    clock: Clock,
}

impl Store {
    /// Gives the owner one address from each range set, or none at all.
    ///
    /// Addresses go round: one that was given back is the last to be given again. Within its cool-down it is given
    /// only if it is wanted by name, or if nothing else of its set is left: a pod that starts is worth more than a
    /// stale flow. How often that was is counted ([`Self::early_reuses`]).
    pub fn reserve(&self, request: &Request<'_>) -> Result<Lease, Error> {
        let mut txn = self.env.write_txn().map_err(self.failed())?;
        let owner = request.owner;
        if let Some(lease) = self.lease_in(&txn, owner)? {
            return Err(Error::Held { owner: owner.clone(), addresses: lease.addresses });
        }
        self.end_rests(&mut txn)?;
        let wanted = choose::sort_wanted(request)?;
        let mut addresses = Vec::with_capacity(request.sets.len());
        for (set, wanted) in request.sets.iter().zip(wanted) {
            let address = match wanted {
                Some(address) => self.take_wanted(&mut txn, address)?,
                None => self.take_next(&mut txn, set)?,
            };
            self.put(&mut txn, &key::address(address), &Use::Held(owner.clone()).to_bytes())?;
            self.remember(&mut txn, set)?;
            addresses.push(address);
        }
        let lease = Lease::now(request, addresses, self.count(&mut txn, key::SERIAL)?);
        let json = serde_json::to_vec(&lease).map_err(|e| self.damaged(e.to_string()))?;
        self.put(&mut txn, &key::owner(owner), &json)?;
        txn.commit().map_err(self.failed())?;
        Ok(lease)
    }

    /// Takes back what `owner` holds, and says what that was. It is no error if it holds nothing.
    pub fn release(&self, owner: &Owner) -> Result<Option<Lease>, Error> {
        let mut txn = self.env.write_txn().map_err(self.failed())?;
        let Some(lease) = self.lease_in(&txn, owner)? else {
            return Ok(None);
        };
        self.end_rests(&mut txn)?;
        self.take_back(&mut txn, owner, &lease)?;
        txn.commit().map_err(self.failed())?;
        Ok(Some(lease))
    }

    /// What `owner` holds.
    pub fn lease(&self, owner: &Owner) -> Result<Option<Lease>, Error> {
        let txn = self.read()?;
        self.lease_in(&txn, owner)
    }

    /// Every lease with its owner, ordered by owner.
    pub fn leases(&self) -> Result<Vec<(Owner, Lease)>, Error> {
        let txn = self.read()?;
        let entries = self.table.prefix_iter(&txn, key::OWNERS).map_err(self.failed())?;
        let mut leases = Vec::new();
        for entry in entries {
            let (key, json) = entry.map_err(self.failed())?;
            let owner = Owner::from_bytes(&key[1..]).ok_or_else(|| self.damaged("an owner is unreadable"))?;
            leases.push((owner, self.parse(json)?));
        }
        Ok(leases)
    }
}
