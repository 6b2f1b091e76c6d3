//! Maglev tables that were left behind. Programs that read the old frontends may still be on their way to them, and
//! waiting for the programs takes as long as 100 changes do: so tables rest until nobody can be.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use beeline_abi::Address;

use super::{
    maglev_tables::{MaglevTables, TableId, pieces},
    part::Part,
};
use crate::{error::Result, tables::wait_for_programs};

/// Far longer than any run of a program takes.
const REST: Duration = Duration::from_secs(1);

/// The tables.
#[derive(Default)]
pub(super) struct Left(VecDeque<(Instant, Table)>);

/// Its name, and its slots.
type Table = (TableId, u32);

impl Left {
    /// One more, or none.
    pub(super) fn extend(&mut self, table: Option<Table>) {
        self.0.extend(table.map(|table| (Instant::now(), table)));
    }

    /// Pieces of them.
    pub(super) fn pieces(&self) -> usize {
        self.0.iter().map(|(_, (_, slots))| pieces(*slots)).sum()
    }

    /// Removes those that have rested.
    pub(super) fn remove_old(&mut self, maglev: &mut MaglevTables) -> Result<()> {
        while let Some(&(since, (table, slots))) = self.0.front()
            && since.elapsed() >= REST
        {
            maglev.remove(table, slots)?;
            self.0.pop_front();
        }
        Ok(())
    }

    /// Removes all, now.
    pub(super) fn remove_all(&mut self, maglev: &mut MaglevTables) -> Result<()> {
        wait_for_programs();
        self.0.drain(..).try_for_each(|(_, (table, slots))| maglev.remove(table, slots))
    }
}

/// The Maglev table that `before` had and `after` has not.
pub(super) fn left<A: Address>(before: &Part<A>, after: Option<&Part<A>>) -> Option<Table> {
    let (table, slots) = before.table();
    let is_kept = table == 0 || after.is_some_and(|after| after.table().0 == table);
    (!is_kept).then_some((table, slots))
}
