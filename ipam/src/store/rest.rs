//! The rest of addresses between two owners: its beginning, its end, and its being cut short.

use std::net::IpAddr;

use heed::{RoTxn, RwTxn};

use super::{
    Store,
    key::{self, Use},
};
use crate::{Error, Lease, Owner, RangeSet};

impl Store {
    /// How many addresses were given within their cool-down since boot. More than a few mean that the ranges are too
    /// small for the pods that come and go.
    pub fn early_reuses(&self) -> Result<u64, Error> {
        let txn = self.read()?;
        self.counter(&txn, key::EARLY)
    }

    pub(super) fn now(&self) -> Result<u64, Error> {
        self.clock.now().map_err(|e| Error::Io { path: self.path.clone(), source: e.into() })
    }

    /// Ends the lease; its addresses rest from now on.
    pub(super) fn take_back(&self, txn: &mut RwTxn<'_>, owner: &Owner, lease: &Lease) -> Result<(), Error> {
        let until = self.now()?.saturating_add(lease.cooldown);
        for address in &lease.addresses {
            if lease.cooldown == 0 {
                self.delete(txn, &key::address(*address))?;
                continue;
            }
            self.put(txn, &key::address(*address), &Use::Resting(until).to_bytes())?;
            self.put(txn, &key::rest(until, *address), &[])?;
        }
        self.delete(txn, &key::owner(owner))?;
        Ok(())
    }

    /// Frees all addresses that have rested enough.
    pub(super) fn end_rests(&self, txn: &mut RwTxn<'_>) -> Result<(), Error> {
        let now = self.now()?;
        let mut ended = Vec::new();
        for rest in self.rests(txn)? {
            let (until, address) = rest?;
            if until > now {
                break;
            }
            ended.push((until, address));
        }
        for (until, address) in ended {
            self.delete(txn, &key::rest(until, address))?;
            self.delete(txn, &key::address(address))?;
        }
        Ok(())
    }

    /// The address of `set` whose rest ends first, and when that is.
    pub(super) fn next_rested(
        &self,
        txn: &RoTxn<'_>,
        set: &RangeSet,
    ) -> Result<Option<(u64, IpAddr)>, Error> {
        let of_set = |rest: &Result<(u64, IpAddr), Error>| match rest {
            Ok((_, address)) => set.contains(*address),
            Err(_) => true,
        };
        self.rests(txn)?.find(of_set).transpose()
    }

    /// Ends a rest before its time. The address is to be given at once.
    pub(super) fn reuse_early(&self, txn: &mut RwTxn<'_>, until: u64, address: IpAddr) -> Result<(), Error> {
        self.delete(txn, &key::rest(until, address))?;
        self.count(txn, key::EARLY).map(drop)
    }

    /// All that rests, in the order in which rests end.
    fn rests<'txn>(
        &'txn self,
        txn: &'txn RoTxn<'_>,
    ) -> Result<impl Iterator<Item = Result<(u64, IpAddr), Error>> + 'txn, Error> {
        let entries = self.table.prefix_iter(txn, key::RESTS).map_err(self.failed())?;
        Ok(entries.map(|entry| {
            let (key, ()) = entry.map(|(key, _)| (key, ())).map_err(self.failed())?;
            key::to_rest(key).ok_or_else(|| self.damaged("the rest of an address is unreadable"))
        }))
    }
}
