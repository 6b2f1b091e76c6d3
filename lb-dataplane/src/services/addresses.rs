//! Frontends' addresses as such: an entry for each that is nothing but a VIP tells programs so.

use std::collections::{HashMap, HashSet};

use beeline_abi::{FrontendKey, Service};

use super::part::Part;
use crate::{diff::Changes, error::Result, family::Family, tables::Frontends};

/// The addresses, with what is in the map for each.
pub(super) struct Addresses<A> {
    uses: HashMap<FrontendKey<A>, Uses>,
    written: HashMap<FrontendKey<A>, Service>,
    /// Those whose uses have changed since the map was last told all.
    touched: HashSet<FrontendKey<A>>,
}

/// How many frontends are at an address.
#[derive(Clone, Copy, Default)]
struct Uses {
    /// In all.
    all: u32,
    /// Those for whom it is nothing but a VIP.
    vip_only: u32,
}

impl Uses {
    /// What the map is to say of the address.
    fn value(self) -> Option<Service> {
        (self.vip_only > 0).then(|| Service { flags: Service::ALL_PORTS, ..Service::default() })
    }
}

impl<A: Family> Addresses<A> {
    /// Nobody uses any; the map has `written`.
    pub(super) fn new(written: HashMap<FrontendKey<A>, Service>) -> Self {
        Self { uses: HashMap::new(), touched: written.keys().copied().collect(), written }
    }

    /// The frontends of `part` are there from now on: adds what is missing in the map.
    pub(super) fn add(
        &mut self,
        part: &Part<A>,
        map: &mut Frontends<A>,
        changes: &mut Changes,
    ) -> Result<()> {
        for (key, is_vip_only) in addresses(part) {
            let uses = self.uses.entry(key).or_default();
            uses.all += 1;
            uses.vip_only += u32::from(is_vip_only);
            self.touched.insert(key);
            if let Some(value) = uses.value()
                && !self.written.contains_key(&key)
            {
                map.insert(key, value)?;
                self.written.insert(key, value);
                changes.added += 1;
            }
        }
        Ok(())
    }

    /// The frontends of `part` are there no more.
    pub(super) fn take_away(&mut self, part: &Part<A>) {
        for (key, is_vip_only) in addresses(part) {
            if let Some(uses) = self.uses.get_mut(&key) {
                uses.all -= 1;
                uses.vip_only -= u32::from(is_vip_only);
                self.touched.insert(key);
            }
        }
    }

    /// Changes in the map, and removes from it, what is otherwise now.
    pub(super) fn settle(&mut self, map: &mut Frontends<A>, changes: &mut Changes) -> Result<()> {
        for key in std::mem::take(&mut self.touched) {
            let wanted = self.uses.get(&key).and_then(|uses| uses.value());
            if self.uses.get(&key).is_some_and(|uses| uses.all == 0) {
                self.uses.remove(&key);
            }
            match (wanted, self.written.get(&key)) {
                (Some(wanted), Some(now)) if wanted != *now => {
                    map.insert(key, wanted)?;
                    self.written.insert(key, wanted);
                    changes.changed += 1;
                }
                (None, Some(_)) => {
                    map.remove(&key)?;
                    self.written.remove(&key);
                    changes.removed += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Addresses of services that are left to the host are the host's affair.
fn addresses<A: Family>(part: &Part<A>) -> impl Iterator<Item = (FrontendKey<A>, bool)> {
    let frontends = part.frontends.iter().filter(|_| part.value.has(Service::DSR));
    frontends.map(|at| (at.key.address(), at.is_vip_only))
}
