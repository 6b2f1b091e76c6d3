//! Single reads and writes of the store's table, and how their failures are told.

use heed::{RoTxn, RwTxn, WithTls};

use super::{
    Store,
    key::{self, Use},
    open,
};
use crate::{Error, Lease, Owner};

impl Store {
    pub(super) fn read(&self) -> Result<RoTxn<'_, WithTls>, Error> {
        self.env.read_txn().map_err(self.failed())
    }

    pub(super) fn get<'txn>(&self, txn: &'txn RoTxn<'_>, key: &[u8]) -> Result<Option<&'txn [u8]>, Error> {
        self.table.get(txn, key).map_err(self.failed())
    }

    pub(super) fn put(&self, txn: &mut RwTxn<'_>, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.table.put(txn, key, value).map_err(self.failed())
    }

    pub(super) fn delete(&self, txn: &mut RwTxn<'_>, key: &[u8]) -> Result<bool, Error> {
        self.table.delete(txn, key).map_err(self.failed())
    }

    pub(super) fn lease_in(&self, txn: &RoTxn<'_>, owner: &Owner) -> Result<Option<Lease>, Error> {
        self.get(txn, &key::owner(owner))?.map(|json| self.parse(json)).transpose()
    }

    pub(super) fn parse(&self, json: &[u8]) -> Result<Lease, Error> {
        serde_json::from_slice(json).map_err(|e| self.damaged(format!("a lease is unreadable: {e}")))
    }

    pub(super) fn parse_use(&self, bytes: &[u8]) -> Result<Use, Error> {
        Use::from_bytes(bytes).ok_or_else(|| self.damaged("the use of an address is unreadable"))
    }

    /// The counter at `key`; 0 if nothing was counted.
    pub(super) fn counter(&self, txn: &RoTxn<'_>, key: &[u8]) -> Result<u64, Error> {
        match self.get(txn, key)?.map(TryInto::try_into) {
            None => Ok(0),
            Some(Ok(bytes)) => Ok(u64::from_be_bytes(bytes)),
            Some(Err(_)) => Err(self.damaged("a counter is unreadable")),
        }
    }

    /// Counts one more, and says how many that makes.
    pub(super) fn count(&self, txn: &mut RwTxn<'_>, key: &[u8]) -> Result<u64, Error> {
        let count = self.counter(txn, key)? + 1;
        self.put(txn, key, &count.to_be_bytes())?;
        Ok(count)
    }

    pub(super) fn failed(&self) -> impl Fn(heed::Error) -> Error {
        open::failed(&self.path)
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), what: what.into() }
    }
}
