//! References and their lists. A row of a reference knows only the sums of the ids of its orders, so ids are weighed by the
//! reference and added up on each side.

use bincode::{Decode, Encode};

use super::{Sides, hash};
use crate::encoding::BytesError;
use crate::ids::OrderId;
use crate::rows::keys;
use crate::rows::kinds::ReferenceRow;

/// Sums over the references of a shard.
#[derive(Debug, Default, Encode, Decode)]
pub(super) struct References {
    /// The orders that name a reference against the rows of references.
    pub(super) named: Sides,
    /// What the rows of references say of their lists against the rows of the lists.
    pub(super) lists: Sides,
}

impl References {
    /// An order that names the reference with this key.
    pub(super) fn order(&mut self, key: &[u8], order: OrderId) {
        add(&mut self.named.orders, key, order.0);
    }

    /// The row of a reference.
    pub(super) fn row(&mut self, key: &[u8], row: &ReferenceRow) -> Result<(), BytesError> {
        add(&mut self.named.rows, key, row.order.0.wrapping_add(row.before));
        let list = keys::list_by_reference(keys::reference_part(key)?);
        add(&mut self.lists.orders, list.as_bytes(), row.listed);
        Ok(())
    }

    /// A row of the list of a reference.
    pub(super) fn listed(&mut self, key: &[u8], order: OrderId) {
        let list = &key[..key.len() - size_of::<OrderId>()];
        add(&mut self.lists.rows, list, order.0);
    }
}

fn add(sum: &mut u64, key: &[u8], ids: u64) {
    let weight = hash(key, OrderId(0)) | 1;
    *sum = sum.wrapping_add(weight.wrapping_mul(ids));
}
