//! Services in the maps: their ids and names here, and what each address family has of them in [`family_tables`],
//! kept in step.
//!
//! There may be 10,000s of them, and hardly one changes at a time. What was applied is known by its pointer: whoever
//! passes the same `Arc` again says that nothing has changed, and costs one look.

mod addresses;
mod family_tables;
mod left;
pub(crate) mod maglev_tables;
mod part;
mod plan;

use std::{collections::HashSet, sync::Arc};

use beeline_abi::{Inet4, Inet6, ServiceStats, Vni, capacity};

use self::{
    family_tables::{FamilyTables, Round},
    left::{Left, left},
    maglev_tables::MaglevTables,
    part::Part,
    plan::{Known, State},
};
use crate::{
    desired,
    diff::Changes,
    error::{Error, Result},
    pins::Pins,
    room, service_name,
    tables::{ServiceNames, Stats, next_free, wait_for_programs},
};

pub(crate) use plan::{Plan, Prepared};

/// The tables that make up services.
pub(crate) struct ServiceTables {
    ipv4: FamilyTables<Inet4>,
    ipv6: FamilyTables<Inet6>,
    maglev: MaglevTables,
    names: ServiceNames,
    stats: Stats,
    /// Where to look for the next free id: one is not given again while its flows may linger.
    next_service: u32,
    /// Maglev tables that no frontend leads to any more.
    left: Left,
    /// What is in the maps, once all of it has been compared with what it should be: a predecessor may have died
    /// half-way, and what fails half-way leaves them in a state that has to be read.
    state: Option<State>,
}

impl ServiceTables {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            ipv4: FamilyTables::open(pins)?,
            ipv6: FamilyTables::open(pins)?,
            maglev: MaglevTables::open(pins)?,
            names: ServiceNames::open(pins, "SERVICE_NAMES")?,
            stats: Stats::open(pins, "SERVICE_STATS")?,
            next_service: 1,
            left: Left::default(),
            state: None,
        })
    }

    /// Finds out what is to be done for `services`, and whether there is room for it. Nothing is written yet.
    pub(crate) fn prepare<'a>(
        &mut self,
        vni: Vni,
        services: &'a [Arc<desired::Service>],
    ) -> Result<Prepared<'a>> {
        let (mut state, is_trusted) = match self.state.take() {
            Some(state) => (state, true),
            None => (self.read()?, false),
        };
        let difference = state.compare(vni, services);
        let need = state.need_after(&difference);
        let mut room = need.check();
        if room.is_ok() {
            // The tables there are, and new ones for what changes at the worst.
            let more = difference.pieces();
            if state.pieces + self.left.pieces() + more > capacity::MAGLEV {
                self.left.remove_all(&mut self.maglev)?;
            }
            room = room::room("MAGLEV", capacity::MAGLEV, state.pieces + more);
        }
        if let Err(error) = room {
            // Nothing was written: what is known stays true.
            state.forget_list();
            self.state = is_trusted.then_some(state);
            return Err(error);
        }
        state.need = need;
        Ok(Prepared { vni, state, difference, is_trusted })
    }

    /// Writes what is missing or different; what is no longer wanted stays until [`Self::prune`].
    pub(crate) fn apply(&mut self, prepared: Prepared<'_>, changes: &mut Changes) -> Result<Plan> {
        let Prepared { vni, mut state, difference, is_trusted } = prepared;
        let mut before = Vec::with_capacity(difference.changed.len() + difference.gone.len());
        for service in difference.changed {
            let (id, known) = self.id(&mut state, service, changes)?;
            let round = &mut Round { vni, maglev: &mut self.maglev, changes };
            let ipv4 = self.ipv4.write(id, service, &known.ipv4, round)?;
            let ipv6 = self.ipv6.write(id, service, &known.ipv6, round)?;
            state.put(id, Known { name: known.name, service: Some(Arc::clone(service)), ipv4, ipv6 });
            before.push((id, known));
        }
        before.extend(difference.gone.into_iter().filter_map(|id| Some((id, state.remove(id)?))));
        Ok(Plan { state, before, is_trusted })
    }

    /// Removes what `plan` no longer wants: frontends first, since they lead to the rest.
    ///
    /// Backends go at once, so that flows to them find out with their next packet. A program that has read an old
    /// frontend on another CPU just now may find its backend gone, and drops that packet: it was for a backend that is
    /// gone. Only Maglev tables stay for a while: where they were, it might find somebody else's.
    pub(crate) fn prune(&mut self, plan: Plan, changes: &mut Changes) -> Result<()> {
        let Plan { mut state, before, is_trusted } = plan;
        for (id, known) in &before {
            let now = state.get(*id);
            self.ipv4.prune_frontends(&known.ipv4, now.map(|now| &now.ipv4), changes)?;
            self.ipv6.prune_frontends(&known.ipv6, now.map(|now| &now.ipv6), changes)?;
        }
        self.ipv4.settle(changes)?;
        self.ipv6.settle(changes)?;
        for (id, known) in before {
            let now = state.get(id);
            self.ipv4.prune_backends(&known.ipv4, now.map(|now| &now.ipv4), changes)?;
            self.ipv6.prune_backends(&known.ipv6, now.map(|now| &now.ipv6), changes)?;
            self.left.extend(left(&known.ipv4, now.map(|now| &now.ipv4)));
            self.left.extend(left(&known.ipv6, now.map(|now| &now.ipv6)));
            if now.is_none() {
                self.names.remove(&id)?;
                changes.removed += 1;
            }
            state.pieces -= known.pieces();
        }
        if !is_trusted {
            wait_for_programs();
            self.left = Left::default();
            self.maglev.remove_strays(&state.tables())?;
        }
        self.state = Some(state);
        self.tidy()
    }

    /// Removes tables that nobody reads any more.
    pub(crate) fn tidy(&mut self) -> Result<()> {
        self.left.remove_old(&mut self.maglev)
    }

    /// What the maps say. Nobody knows what of it is whole.
    fn read(&mut self) -> Result<State> {
        let (mut ipv4, mut ipv6) = (self.ipv4.read()?, self.ipv6.read()?);
        let names = self.names.read()?;
        self.next_service = names.keys().max().map_or(1, |last| last + 1);
        let ids: HashSet<u32> = names.keys().chain(ipv4.keys()).chain(ipv6.keys()).copied().collect();
        let known = ids.into_iter().map(|id| {
            let name = names.get(&id).copied();
            let (ipv4, ipv6) = (ipv4.remove(&id).unwrap_or_default(), ipv6.remove(&id).unwrap_or_default());
            (id, Known { name, service: None, ipv4, ipv6 })
        });
        Ok(State::found(known))
    }

    /// The id of `service`, and what the maps have of it; a new one gets a new id.
    fn id(
        &mut self,
        state: &mut State,
        service: &desired::Service,
        changes: &mut Changes,
    ) -> Result<(u32, Known)> {
        let name = service_name::encode(&service.name);
        if let Some(id) = state.id(&name)
            && let Some(known) = state.remove(id)
        {
            return Ok((id, known));
        }
        let id = self.new_id(state)?;
        self.stats.reset(id, ServiceStats::default())?;
        self.names.insert(id, name)?;
        changes.added += 1;
        let (ipv4, ipv6) = (Part::default(), Part::default());
        Ok((id, Known { name: Some(name), service: None, ipv4, ipv6 }))
    }

    fn new_id(&mut self, state: &State) -> Result<u32> {
        let limit = u32::try_from(capacity::SERVICES).unwrap_or(u32::MAX) - 1;
        next_free(&mut self.next_service, limit, |id| state.get(id).is_some()).ok_or(Error::Full {
            map: "SERVICE_NAMES",
            capacity: capacity::SERVICES - 1,
            wanted: state.len() + 1,
        })
    }
}
