//! Maglev tables in their map: written in pieces under a new name, read back, removed when nobody reads them.

use std::collections::HashSet;

use beeline_abi::{MaglevKey, MaglevPiece};

use crate::{error::Result, pins::Pins, tables::MaglevPieces};

/// Name of a table in the map; never 0.
pub(crate) type TableId = u32;

/// The tables of all services.
pub(crate) struct MaglevTables {
    pieces: MaglevPieces,
    next: TableId,
}

impl MaglevTables {
    pub(crate) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self { pieces: MaglevPieces::open(pins, "MAGLEV")?, next: 1 })
    }

    /// Writes a table under a name that none has, and returns the name; 0 for an empty table.
    pub(crate) fn write(&mut self, slots: &[u32]) -> Result<TableId> {
        if slots.is_empty() {
            return Ok(0);
        }
        let table = self.next_name()?;
        for (piece, slots) in (0..).zip(slots.chunks(MaglevPiece::SLOTS)) {
            let mut value = MaglevPiece([0; MaglevPiece::SLOTS]);
            value.0[..slots.len()].copy_from_slice(slots);
            self.pieces.insert(MaglevKey { table, piece }, value)?;
        }
        Ok(table)
    }

    /// Names go up, so that one is not given again soon; there are far more of them than the map has room for tables.
    fn next_name(&mut self) -> Result<TableId> {
        loop {
            let table = self.next;
            self.next = table.checked_add(1).unwrap_or(1);
            if self.pieces.get(&MaglevKey { table, piece: 0 })?.is_none() {
                return Ok(table);
            }
        }
    }

    /// The first `slots` slots of `table`; fewer, if it has fewer.
    pub(crate) fn read(&self, table: TableId, slots: u32) -> Result<Vec<u32>> {
        let mut read = Vec::with_capacity(slots as usize);
        for piece in (0..).take(pieces(slots)) {
            match self.pieces.get(&MaglevKey { table, piece })? {
                Some(piece) => read.extend_from_slice(&piece.0),
                None => break,
            }
        }
        read.truncate(slots as usize);
        Ok(read)
    }

    /// What is in one slot of `table`.
    pub(crate) fn slot(&self, table: TableId, slot: u32) -> Result<Option<u32>> {
        let slots = u32::try_from(MaglevPiece::SLOTS).unwrap_or(u32::MAX);
        let piece = self.pieces.get(&MaglevKey { table, piece: slot / slots })?;
        Ok(piece.and_then(|piece| piece.0.get((slot % slots) as usize).copied()))
    }

    /// Removes `table`, of `slots` slots.
    pub(crate) fn remove(&mut self, table: TableId, slots: u32) -> Result<()> {
        let pieces = (slots as usize).div_ceil(MaglevPiece::SLOTS);
        (0..).take(pieces).try_for_each(|piece| self.pieces.remove(&MaglevKey { table, piece }))
    }

    /// Removes every table that is not in `wanted`: what a process that died half-way left behind.
    pub(crate) fn remove_strays(&mut self, wanted: &HashSet<TableId>) -> Result<()> {
        let strays = self.pieces.keys()?.into_iter().filter(|key| !wanted.contains(&key.table));
        strays.collect::<Vec<_>>().iter().try_for_each(|key| self.pieces.remove(key))
    }
}

/// Pieces of a table of `slots` slots.
pub(crate) const fn pieces(slots: u32) -> usize {
    (slots as usize).div_ceil(MaglevPiece::SLOTS)
}
