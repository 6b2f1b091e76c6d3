//! What is known to be in the maps, and how it differs from what is wanted.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use beeline_abi::{Inet4, Inet6, ServiceName, Vni};

use super::{maglev_tables::TableId, part::Part};
use crate::{desired::Service, room::Need, service_name};

/// What the maps have of a service.
#[derive(Debug)]
pub(super) struct Known {
    /// Its name; `None` for remains without one.
    pub(super) name: Option<ServiceName>,
    /// What was applied; `None` for what was found.
    pub(super) service: Option<Arc<Service>>,
    pub(super) ipv4: Part<Inet4>,
    pub(super) ipv6: Part<Inet6>,
}

impl Known {
    /// Pieces of its Maglev tables.
    pub(super) fn pieces(&self) -> usize {
        self.ipv4.pieces() + self.ipv6.pieces()
    }
}

/// What the maps have of all services.
#[derive(Default)]
pub(super) struct State {
    /// Each in a place of its own: what a hash table keeps free is as large as what it holds.
    known: HashMap<u32, Box<Known>>,
    ids: HashMap<ServiceName, u32>,
    /// Ids of what was applied, by its address: it is held, so no other can be there.
    applied: HashMap<usize, u32>,
    /// The addresses of all of it, in the order of the list: the next list is nearly the same.
    order: Vec<usize>,
    /// What the frontends are in.
    vni: Option<Vni>,
    /// What is wanted needs as much.
    pub(super) need: Need,
    /// Pieces of Maglev tables there are.
    pub(super) pieces: usize,
}

/// What is to be looked at.
pub(super) struct Difference<'a> {
    /// Services that are new, or may be other than they were.
    pub(super) changed: Vec<&'a Arc<Service>>,
    /// Ids of those that nobody wants any more.
    pub(super) gone: Vec<u32>,
}

impl Difference<'_> {
    /// Pieces of Maglev tables that what changes may need.
    pub(super) fn pieces(&self) -> usize {
        self.changed.iter().map(|service| Need::of(service).pieces).sum()
    }
}

/// What is to be done, once it is known that there is room for it.
pub(crate) struct Prepared<'a> {
    pub(super) vni: Vni,
    pub(super) state: State,
    pub(super) difference: Difference<'a>,
    /// True if the maps are what this process made them.
    pub(super) is_trusted: bool,
}

/// What the maps are to be, and what they were where it differs.
pub(crate) struct Plan {
    pub(super) state: State,
    pub(super) before: Vec<(u32, Known)>,
    /// True if the maps were what this process had made them.
    pub(super) is_trusted: bool,
}

impl State {
    /// What was found in the maps.
    pub(super) fn found(known: impl Iterator<Item = (u32, Known)>) -> Self {
        let mut state = Self::default();
        for (id, known) in known {
            state.put(id, known);
        }
        state
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Known> {
        self.known.get(&id).map(|known| &**known)
    }

    pub(super) fn id(&self, name: &ServiceName) -> Option<u32> {
        self.ids.get(name).copied()
    }

    pub(super) fn put(&mut self, id: u32, known: Known) {
        self.ids.extend(known.name.map(|name| (name, id)));
        self.applied.extend(known.service.as_ref().map(|service| (address(service), id)));
        self.pieces += known.pieces();
        self.known.insert(id, Box::new(known));
    }

    /// Forgets it. Its tables are there until they are removed, and counted until then.
    pub(super) fn remove(&mut self, id: u32) -> Option<Known> {
        let known = self.known.remove(&id)?;
        if let Some(name) = &known.name {
            self.ids.remove(name);
        }
        if let Some(service) = &known.service {
            self.applied.remove(&address(service));
        }
        Some(*known)
    }

    /// Maglev tables in use.
    pub(super) fn tables(&self) -> HashSet<TableId> {
        self.known.values().flat_map(|known| [known.ipv4.table().0, known.ipv6.table().0]).collect()
    }

    /// What was compared last is not what will be in the maps.
    pub(super) fn forget_list(&mut self) {
        self.order.clear();
        self.vni = None;
    }

    /// How the maps differ from `services` in `vni`.
    pub(super) fn compare<'a>(&mut self, vni: Vni, services: &'a [Arc<Service>]) -> Difference<'a> {
        if self.vni.replace(vni) != Some(vni) {
            self.applied.clear();
            self.order.clear();
        }
        let changed = self.changed(services);
        let names = changed.iter().map(|service| service_name::encode(&service.name));
        let changed_ids: Vec<u32> = names.filter_map(|name| self.id(&name)).collect();
        let mut gone = vec![];
        if services.len() - changed.len() + changed_ids.len() < self.known.len() {
            let same = services.iter().filter_map(|service| self.applied.get(&address(service)).copied());
            let there: HashSet<u32> = same.chain(changed_ids).collect();
            gone.extend(self.known.keys().filter(|id| !there.contains(id)));
        }
        if !changed.is_empty() || !gone.is_empty() || self.order.len() != services.len() {
            self.order.clear();
            self.order.extend(services.iter().map(address));
        }
        Difference { changed, gone }
    }

    /// Those of `services` that were not applied as they are.
    fn changed<'a>(&self, services: &'a [Arc<Service>]) -> Vec<&'a Arc<Service>> {
        let mut changed = vec![];
        let mut before = self.order.iter().copied().peekable();
        for (n, service) in services.iter().enumerate() {
            let this = address(service);
            if before.next_if_eq(&this).is_some() {
                continue;
            }
            if self.applied.contains_key(&this) {
                // Others went, or the order is another.
                if before.clone().nth(1) == Some(this) {
                    before.nth(1);
                }
                continue;
            }
            changed.push(service);
            // It came in another's place, or between others.
            if services.get(n + 1).map(address) != before.peek().copied() {
                before.next();
            }
        }
        changed
    }

    /// What is needed once `difference` is made good.
    pub(super) fn need_after(&self, difference: &Difference<'_>) -> Need {
        let mut need = self.need;
        let leave = |need: &mut Need, id: u32| {
            if let Some(service) = self.known.get(&id).and_then(|known| known.service.as_ref()) {
                need.take_away(Need::of(service));
            }
        };
        difference.gone.iter().for_each(|&id| leave(&mut need, id));
        for service in &difference.changed {
            if let Some(id) = self.id(&service_name::encode(&service.name)) {
                leave(&mut need, id);
            }
            need.add(Need::of(service));
        }
        need
    }
}

fn address(service: &Arc<Service>) -> usize {
    Arc::as_ptr(service).addr()
}
