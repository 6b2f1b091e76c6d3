//! Bringing the store of an older release up to this one's format, in one transaction.
//!
//! Format 1 had `a` and the bytes of the address as the key of an address, its owner as the value, and named range
//! sets otherwise. Its leases know neither sandbox nor cool-down, and are kept as they are.

use std::net::IpAddr;

use heed::RwTxn;

use super::{
    FORMAT, Store,
    key::{self, Use},
};
use crate::{Error, Owner};

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);

/// Begins every key of an address in format 1.
const ADDRESSES_1: &[u8] = b"a";

impl Store {
    /// Reads the format, and changes the store to this release's if it is older. `whole`: the file has its full size,
    /// which those of the first format lack.
    pub(super) fn bring_up_to_date(&self, whole: bool) -> Result<(), Error> {
        let txn = self.read()?;
        let bytes = self.get(&txn, key::FORMAT)?;
        match self.format(bytes)? {
            FORMAT if whole => return Ok(()),
            FORMAT => return Err(self.cut_short()),
            _ => {}
        }
        drop(txn);
        let mut txn = self.env.write_txn().map_err(self.failed())?;
        // Another process may have been quicker.
        let bytes = self.get(&txn, key::FORMAT)?;
        match self.format(bytes)? {
            FORMAT => return Ok(()),
            1 => self.migrate_1(&mut txn)?,
            found => return Err(Error::Format { path: self.path.clone(), found }),
        }
        self.put(&mut txn, key::FORMAT, &FORMAT.to_le_bytes())?;
        self.make_whole()?;
        txn.commit().map_err(self.failed())
    }

    fn format(&self, bytes: Option<&[u8]>) -> Result<u32, Error> {
        let found = bytes.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        found.ok_or_else(|| self.damaged("it names no format"))
    }

    fn migrate_1(&self, txn: &mut RwTxn<'_>) -> Result<(), Error> {
        for (old, owner) in self.entries(txn, ADDRESSES_1)? {
            let address = address_1(&old).ok_or_else(|| self.damaged("an address is unreadable"))?;
            let owner = Owner::from_bytes(&owner).ok_or_else(|| self.damaged("an owner is unreadable"))?;
            self.put(txn, &key::address(address), &Use::Held(owner).to_bytes())?;
            self.delete(txn, &old)?;
        }
        for (old, _) in self.entries(txn, key::LAST)? {
            self.delete(txn, &old)?;
        }
        Ok(())
    }

    /// Every entry whose key begins with `prefix`.
    fn entries(&self, txn: &RwTxn<'_>, prefix: &[u8]) -> Result<Vec<Entry>, Error> {
        let entries = self.table.prefix_iter(txn, prefix).map_err(self.failed())?;
        let owned = |(key, value): (&[u8], &[u8])| (key.to_vec(), value.to_vec());
        entries.map(|entry| entry.map(owned).map_err(self.failed())).collect()
    }
}

fn address_1(key: &[u8]) -> Option<IpAddr> {
    let bytes = key.strip_prefix(ADDRESSES_1)?;
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
