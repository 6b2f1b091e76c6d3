//! How much of a range set is in use.

use std::ops::Bound;

use heed::RwTxn;
use serde::Serialize;

use super::{
    Store,
    key::{self, Use},
};
use crate::{Error, RangeSet};

/// How much of a range set is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Addresses that can be given at all.
    pub size: u128,
    /// Of these, held now.
    pub held: u128,
    /// Of these, given back and within their cool-down.
    pub resting: u128,
}

impl Usage {
    /// True if nothing can be given: resting addresses still can.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.held >= self.size
    }
}

impl Store {
    /// The range sets that addresses were given from since boot, each as it was the last time.
    pub fn sets(&self) -> Result<Vec<RangeSet>, Error> {
        let txn = self.read()?;
        let entries = self.table.prefix_iter(&txn, key::SETS).map_err(self.failed())?;
        let parse = |json| {
            serde_json::from_slice(json).map_err(|e| self.damaged(format!("a range set is unreadable: {e}")))
        };
        entries.map(|entry| parse(entry.map_err(self.failed())?.1)).collect()
    }

    /// Writes down what `set` is, for [`Self::sets`].
    pub(super) fn remember(&self, txn: &mut RwTxn<'_>, set: &RangeSet) -> Result<(), Error> {
        let json = serde_json::to_vec(set).map_err(|e| self.damaged(e.to_string()))?;
        let key = key::set(set);
        if self.get(txn, &key)? == Some(&json) {
            return Ok(());
        }
        self.put(txn, &key, &json)
    }

    /// How much of `set` is in use. Takes a step for each address in use, and none for free ones.
    pub fn usage(&self, set: &RangeSet) -> Result<Usage, Error> {
        let txn = self.read()?;
        let now = self.now()?;
        let mut usage = Usage { size: set.size(), held: 0, resting: 0 };
        for part in set.free() {
            let Some((first, last)) = key::span(set.family(), part) else { continue };
            let keys = (Bound::Included(first.as_slice()), Bound::Included(last.as_slice()));
            for entry in self.table.range(&txn, &keys).map_err(self.failed())? {
                let (_, bytes) = entry.map_err(self.failed())?;
                match self.parse_use(bytes)? {
                    Use::Held(_) => usage.held += 1,
                    Use::Resting(until) => usage.resting += u128::from(until > now),
                }
            }
        }
        Ok(usage)
    }
}
