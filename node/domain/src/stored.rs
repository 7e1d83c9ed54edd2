//! Whether the rows that a replica has on its disk are those that it wrote: each can be read, and their hashes add up to the
//! sum that the last checkpoint stored beside them. The sum is the part of the state hash that rows which may be cold, and
//! timers, make up; the other tables are read whole at every start.

use ordergrid_rows::TableKey;

use crate::command::Message;
use crate::encoding::{BytesError, read_row};
use crate::repair::Repaired;
use crate::rows::keys::{self, From, KeptKey, MarkKey, OutboxKey, RepairNumber, TimerKey, To};
use crate::rows::kinds::{
    AttemptRow, HoldRow, KeptRow, Mark, Meta, OrderRow, PlacedRow, ReferenceRow, SkuKeyRow, StreamIn, StreamOut,
};
use crate::rows::{
    ATTEMPT, FIRST_COLD, HOLD, KEPT, LIST, MARK, META, ORDER, OUTBOX, PLACED, REFERENCE, REPAIR, RowKey, SKU, SKU_KEY,
    STREAM_IN, STREAM_OUT, TIMER, row_hash,
};
use crate::sku::Sku;

/// Reads a row as whoever needs it would.
///
/// # Errors
/// Nobody can: it is damaged, or of a newer version.
pub fn readable(key: &[u8], value: &[u8]) -> Result<(), BytesError> {
    match key.first().copied().ok_or(BytesError::Key)? {
        META => drop(read_row::<Meta>(value)?),
        TIMER => drop((TimerKey::parse(key)?, read_row::<()>(value)?)),
        OUTBOX => drop((OutboxKey::parse(key)?, read_row::<Message>(value)?)),
        STREAM_OUT => drop((To::parse(key)?, read_row::<StreamOut>(value)?)),
        STREAM_IN => drop((From::parse(key)?, read_row::<StreamIn>(value)?)),
        ATTEMPT => drop(read_row::<AttemptRow>(value)?),
        MARK => drop((MarkKey::parse(key)?, read_row::<Mark>(value)?)),
        KEPT => drop((KeptKey::parse(key)?, read_row::<KeptRow>(value)?)),
        REPAIR => drop((RepairNumber::parse(key)?, read_row::<Repaired>(value)?)),
        ORDER => drop((keys::order_part(key)?, read_row::<OrderRow>(value)?)),
        SKU => drop(read_row::<Sku>(value)?),
        HOLD => drop((keys::hold_parts(key)?, read_row::<HoldRow>(value)?)),
        PLACED => drop(read_row::<PlacedRow>(value)?),
        LIST => drop((keys::listed(key)?, read_row::<()>(value)?)),
        REFERENCE => drop(read_row::<ReferenceRow>(value)?),
        SKU_KEY => drop(read_row::<SkuKeyRow>(value)?),
        _ => return Err(BytesError::Key),
    }
    Ok(())
}

/// Takes every row of one checkpoint, in any order.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    rows: u64,
    sum: u64,
    said: Option<u64>,
    unreadable: Option<String>,
}

impl Stored {
    /// Takes a row.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        if let Err(error) = readable(key, value) {
            self.unreadable.get_or_insert_with(|| format!("row {} cannot be read: {error}", key.escape_ascii()));
            return;
        }
        match key[0] {
            META => self.said = read_row::<Meta>(value).ok().map(|meta| meta.sum),
            table if table == TIMER || table >= FIRST_COLD => {
                self.sum = self.sum.wrapping_add(row_hash(RowKey::new(key).hash(), value));
            }
            _ => {}
        }
    }

    /// Rows seen.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Judges, once every row was given.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn judge(&self) -> Result<(), String> {
        if let Some(unreadable) = &self.unreadable {
            return Err(unreadable.clone());
        }
        match self.said {
            None if self.rows == 0 => Ok(()),
            None => Err("the row with the sum of all others is missing".to_owned()),
            Some(said) if said == self.sum => Ok(()),
            Some(said) => Err(format!("the stored rows come to {:016x}, the checkpoint says {said:016x}", self.sum)),
        }
    }
}
