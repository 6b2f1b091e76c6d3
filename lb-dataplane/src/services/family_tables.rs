//! What one address family has of the services: backends, frontends, and the Maglev tables between them.
//!
//! Service by service: what a service has is written before anything points to it, and goes after everything that did.

use std::collections::{HashMap, HashSet};

use beeline_abi::{Backend, Be16, FrontendKey, Service, SourceRange, SourceRangeKey, Vni, maglev_size};

use super::{
    addresses::Addresses,
    maglev_tables::{MaglevTables, TableId},
    part::{At, Part, frontends, source_ranges},
};
use crate::{
    desired::{self, Affinity, BackendState, WithoutBackends},
    diff::Changes,
    error::Result,
    family::{self, Family},
    maglev,
    pins::Pins,
    tables::{Backends, Frontends, SourceRanges},
};

/// The tables of family `A`.
pub(super) struct FamilyTables<A: Family> {
    frontends: Frontends<A>,
    source_ranges: SourceRanges<A>,
    backends: Backends<A>,
    addresses: Addresses<A>,
    ids: BackendIds,
    /// What the map of frontends has, for as long as it is not known to be what this process made of it.
    found: Option<HashMap<FrontendKey<A>, Service>>,
    /// Frontends that were given to somebody in this round: whoever had them before must leave them alone.
    given: HashSet<FrontendKey<A>>,
}

/// What is done to all services of one round.
pub(super) struct Round<'a> {
    pub(super) vni: Vni,
    pub(super) maglev: &'a mut MaglevTables,
    pub(super) changes: &'a mut Changes,
}

/// What the maps have of a service, while they are read.
struct Found<A> {
    backends: Vec<(u32, Backend<A>)>,
    frontends: Vec<At<A>>,
    source_ranges: Vec<(u32, SourceRangeKey<A>)>,
    value: Service,
}

impl<A> Default for Found<A> {
    fn default() -> Self {
        Self { backends: vec![], frontends: vec![], source_ranges: vec![], value: Service::default() }
    }
}

impl<A> From<Found<A>> for Part<A> {
    fn from(found: Found<A>) -> Self {
        Self {
            backends: found.backends.into(),
            frontends: found.frontends.into(),
            source_ranges: found.source_ranges.into(),
            value: found.value,
        }
    }
}

/// The ids of backends. One is not given again while its flows may linger, so they go up.
struct BackendIds {
    next: u32,
    /// Whether they went round: only then one may be taken.
    wrapped: bool,
}

impl<A: Family> FamilyTables<A> {
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            frontends: Frontends::open(pins, A::FRONTENDS)?,
            source_ranges: SourceRanges::open(pins, A::SOURCE_RANGES)?,
            backends: Backends::open(pins, A::BACKENDS)?,
            addresses: Addresses::new(HashMap::new()),
            ids: BackendIds { next: 1, wrapped: false },
            found: None,
            given: HashSet::new(),
        })
    }

    /// Reads what is in the maps: of each service, by its id. Until [`Self::settle`], nothing is believed beyond it.
    pub(super) fn read(&mut self) -> Result<HashMap<u32, Part<A>>> {
        let found = self.frontends.read()?;
        let backends = self.backends.read()?;
        self.given.clear();
        self.ids.next = backends.keys().max().map_or(1, |last| last.wrapping_add(1).max(1));
        let (addresses, frontends): (Vec<_>, Vec<_>) =
            found.iter().map(|(&key, &value)| (key, value)).partition(|(key, _)| key.is_address());
        self.addresses = Addresses::new(addresses.into_iter().collect());
        let mut parts: HashMap<u32, Found<A>> = HashMap::new();
        for (key, value) in frontends {
            let part = parts.entry(value.id).or_default();
            // Nobody counted on what is found here.
            let has_ranges = value.has(Service::SOURCE_RANGES);
            part.frontends.push(At { key, is_vip_only: false, has_ranges });
            part.value = Service { flags: value.flags & !Service::SOURCE_RANGES, ..value };
        }
        for (id, backend) in backends {
            parts.entry(backend.service).or_default().backends.push((id, backend));
        }
        for (bits, key) in self.source_ranges.read()?.into_keys() {
            parts.entry(key.service).or_default().source_ranges.push((bits, key));
        }
        self.found = Some(found);
        Ok(parts.into_iter().map(|(id, found)| (id, found.into())).collect())
    }

    /// Writes what `service` needs under `id`, where it had `before`; what it needs no more stays until it is pruned.
    pub(super) fn write(
        &mut self,
        id: u32,
        service: &desired::Service,
        before: &Part<A>,
        round: &mut Round<'_>,
    ) -> Result<Part<A>> {
        let frontends = frontends::<A>(round.vni, service);
        let backends = self.write_backends(id, service, before, round.changes)?;
        // Without a frontend, nobody comes for a table.
        let members = if frontends.is_empty() { vec![] } else { ready(&backends) };
        let table = self.write_table(service, &members, before, round.maglev)?;
        let value = service_value(id, table, service, members.len());
        let source_ranges = source_ranges::<A>(id, service);
        for range in source_ranges.iter().filter(|range| !before.source_ranges.contains(range)) {
            self.source_ranges.insert(*range, SourceRange::default())?;
            round.changes.added += 1;
        }
        for at in &frontends {
            let now = match &self.found {
                Some(found) => found.get(&at.key).copied(),
                None => before.said_at(&at.key),
            };
            let value = at.value(value);
            // Somebody else may have had it since.
            self.given.insert(at.key);
            if now != Some(value) {
                self.frontends.insert(at.key, value)?;
                *(if now.is_some() { &mut round.changes.changed } else { &mut round.changes.added }) += 1;
            }
        }
        let part = Part { backends: backends.into(), frontends, source_ranges, value };
        self.addresses.add(&part, &mut self.frontends, round.changes)?;
        Ok(part)
    }

    /// The service's backends with their ids, in their order; new ones get new ids.
    fn write_backends(
        &mut self,
        service_id: u32,
        service: &desired::Service,
        before: &Part<A>,
        changes: &mut Changes,
    ) -> Result<Vec<(u32, Backend<A>)>> {
        let had = before.ids();
        let mut backends = Vec::with_capacity(service.backends.len());
        for (addr, backend) in family::backends::<A>(service) {
            let port = Be16::new(backend.port.get());
            let flags = match backend.state {
                BackendState::Ready => 0,
                BackendState::Draining => Backend::<A>::DRAINING,
            };
            let entry = Backend { addr, service: service_id, port, flags };
            let (id, now) = match had.get(&(addr, port)) {
                Some(&(id, now)) => (id, Some(now)),
                None => (self.ids.next(&self.backends)?, None),
            };
            if now != Some(entry) {
                self.backends.insert(id, entry)?;
                *(if now.is_some() { &mut changes.changed } else { &mut changes.added }) += 1;
            }
            backends.push((id, entry));
        }
        Ok(backends)
    }

    /// The Maglev table over `members`: the one that was there `before`, if they are the same, else a new one.
    fn write_table(
        &self,
        service: &desired::Service,
        members: &[u32],
        before: &Part<A>,
        maglev: &mut MaglevTables,
    ) -> Result<TableId> {
        let had = before.table();
        let (now, then): (HashSet<u32>, HashSet<u32>) =
            (members.iter().copied().collect(), ready(&before.backends).into_iter().collect());
        let same_members = now == then && had.1 == maglev_size(now.len());
        if same_members && self.found.is_none() {
            return Ok(had.0);
        }
        let backends: Vec<_> = family::ready::<A>(service).copied().collect();
        let slots: Vec<u32> = match members {
            [] => vec![],
            _ => maglev::table(&backends).into_iter().map(|member| members[member as usize]).collect(),
        };
        if same_members && maglev.read(had.0, had.1)? == slots {
            return Ok(had.0);
        }
        maglev.write(&slots)
    }

    /// Removes the frontends that a service had `before` and has no more: they lead to the rest.
    pub(super) fn prune_frontends(
        &mut self,
        before: &Part<A>,
        after: Option<&Part<A>>,
        changes: &mut Changes,
    ) -> Result<()> {
        // What was found is not what was counted.
        if self.found.is_none() {
            self.addresses.take_away(before);
        }
        for at in &before.frontends {
            if !after.is_some_and(|after| after.has(&at.key)) && !self.given.contains(&at.key) {
                self.frontends.remove(&at.key)?;
                changes.removed += 1;
            }
        }
        Ok(())
    }

    /// Removes the backends and source ranges that a service had `before` and has no more.
    pub(super) fn prune_backends(
        &mut self,
        before: &Part<A>,
        after: Option<&Part<A>>,
        changes: &mut Changes,
    ) -> Result<()> {
        let kept: HashSet<u32> =
            after.into_iter().flat_map(|after| after.backends.iter().map(|(id, _)| *id)).collect();
        for (id, _) in before.backends.iter().filter(|(id, _)| !kept.contains(id)) {
            self.backends.remove(id)?;
            changes.removed += 1;
        }
        let is_kept = |range| after.is_some_and(|after| after.source_ranges.contains(range));
        for range in before.source_ranges.iter().filter(|range| !is_kept(range)) {
            self.source_ranges.remove(range)?;
            changes.removed += 1;
        }
        Ok(())
    }

    /// Ends a round: from here on, the maps are what this process knows of them.
    pub(super) fn settle(&mut self, changes: &mut Changes) -> Result<()> {
        self.addresses.settle(&mut self.frontends, changes)?;
        self.given.clear();
        self.found = None;
        Ok(())
    }
}

impl BackendIds {
    fn next<A: Family>(&mut self, backends: &Backends<A>) -> Result<u32> {
        loop {
            let id = self.next;
            self.next = id.checked_add(1).unwrap_or_else(|| {
                self.wrapped = true;
                1
            });
            if !self.wrapped || backends.get(&id)?.is_none() {
                return Ok(id);
            }
        }
    }
}

/// Ids of those of `backends` that take new flows.
fn ready<A>(backends: &[(u32, Backend<A>)]) -> Vec<u32> {
    backends.iter().filter(|(_, backend)| backend.takes_new_flows()).map(|(id, _)| *id).collect()
}

fn service_value(id: u32, table: TableId, service: &desired::Service, backends: usize) -> Service {
    let dsr = if service.dsr { Service::DSR } else { 0 };
    let silent = match service.without_backends {
        WithoutBackends::Reject => 0,
        WithoutBackends::Drop => Service::SILENT,
    };
    let (affinity, affinity_timeout_s) = match service.affinity {
        Affinity::None => (0, 0),
        Affinity::ClientIp { timeout } => {
            (Service::CLIENT_IP_AFFINITY, u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX))
        }
    };
    Service {
        flow_ttl_ms: u32::try_from(service.flow_ttl.as_millis()).unwrap_or(u32::MAX),
        id,
        table,
        slots: maglev_size(backends),
        backends: u32::try_from(backends).unwrap_or(u32::MAX),
        affinity_timeout_s,
        flags: dsr | affinity | silent,
    }
}
