//! Which address is given: the wanted one, the next free one, or the one that has rested longest.

use std::{net::IpAddr, ops::Bound};

use heed::{RoTxn, RwTxn};

use super::{
    Store,
    key::{self, Use},
};
use crate::{Error, RangeSet, Refusal, Request};

/// The wanted address of each set, if any, in the order of the sets.
pub(super) fn sort_wanted(request: &Request<'_>) -> Result<Vec<Option<IpAddr>>, Error> {
    let mut sorted: Vec<Option<IpAddr>> = vec![None; request.sets.len()];
    for &address in request.wanted {
        // Two sets may share a subnet; the one that can give the address has the say.
        let giving = request.sets.iter().position(|set| set.contains(address));
        let at = giving.or_else(|| request.sets.iter().position(|set| set.concerns(address)));
        let Some(at) = at else {
            return Err(Error::OutOfRange { address, sets: list(request.sets) });
        };
        let set = request.sets[at].to_string();
        match request.sets[at].refusal(address) {
            None => {}
            Some(Refusal::OutOfRange) => {
                return Err(Error::OutOfRange { address, sets: list(request.sets) });
            }
            Some(Refusal::Gateway) => return Err(Error::IsGateway { address, set }),
            Some(Refusal::Excluded(exclusion)) => return Err(Error::IsExcluded { address, exclusion, set }),
        }
        match sorted[at].replace(address) {
            Some(first) if first != address => {
                return Err(Error::TwoOfOneSet { first, second: address, set });
            }
            _ => {}
        }
    }
    Ok(sorted)
}

fn list(sets: &[RangeSet]) -> String {
    sets.iter().map(RangeSet::to_string).collect::<Vec<_>>().join(", ")
}

impl Store {
    /// `address`, unless another holds it.
    pub(super) fn take_wanted(&self, txn: &mut RwTxn<'_>, address: IpAddr) -> Result<IpAddr, Error> {
        match self.get(txn, &key::address(address))?.map(|bytes| self.parse_use(bytes)).transpose()? {
            None => {}
            Some(Use::Held(owner)) => return Err(Error::Taken { address, owner }),
            Some(Use::Resting(until)) => self.reuse_early(txn, until, address)?,
        }
        Ok(address)
    }

    /// The next free address of `set`, going round from the one given last; if there is none, the one whose rest
    /// ends first.
    pub(super) fn take_next(&self, txn: &mut RwTxn<'_>, set: &RangeSet) -> Result<IpAddr, Error> {
        let last = self.get(txn, &key::last(set))?.and_then(key::to_address);
        let address = match self.next_free(txn, set, last)? {
            Some(address) => address,
            None => match self.next_rested(txn, set)? {
                Some((until, address)) => {
                    self.reuse_early(txn, until, address)?;
                    address
                }
                None => return Err(Error::Exhausted { set: set.to_string(), size: set.size() }),
            },
        };
        self.put(txn, &key::last(set), &key::address(address))?;
        Ok(address)
    }

    /// Finds the first gap in the order of keys: one step for each address in use that lies in between, and none for
    /// free ones, however large the set.
    fn next_free(
        &self,
        txn: &RoTxn<'_>,
        set: &RangeSet,
        last: Option<IpAddr>,
    ) -> Result<Option<IpAddr>, Error> {
        for part in set.round_robin(last) {
            let Some((first, end)) = key::span(set.family(), &part) else { continue };
            let keys = (Bound::Included(first.as_slice()), Bound::Included(end.as_slice()));
            let mut candidate = Some(*part.start());
            for entry in self.table.range(txn, &keys).map_err(self.failed())? {
                let (key, _) = entry.map_err(self.failed())?;
                let used = key::to_number(key).ok_or_else(|| self.damaged("an address is unreadable"))?;
                if candidate.is_some_and(|candidate| candidate < used) {
                    break;
                }
                candidate = used.checked_add(1);
            }
            let free = candidate.filter(|candidate| part.contains(candidate));
            if let Some(address) = free.and_then(|number| set.family().address(number)) {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }
}
