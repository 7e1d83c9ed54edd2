//! The commit point of an order (rules 2, 5 and 13).

use std::sync::Arc;

use ordergrid_rows::RowAt;

use super::{CLOCK_TOLERANCE, HOLD_VALIDITY, ShardMachine};
use crate::command::{Outcome, Place, Position, Release};
use crate::encoding::{read_row, row_bytes};
use crate::ids::{GroupId, SkuId, Text, WarehouseId};
use crate::money::Quantity;
use crate::order::Effects;
use crate::order::Order;
use crate::rejection::Rejection;
use crate::rows::RowKey;
use crate::rows::keys;
use crate::rows::kinds::{OrderRow, PlacedRow, ReferenceRow};
use crate::sku::Sku;

/// Units of one local SKU, found before anything is changed.
pub(super) struct UnitsFound {
    pub(super) sku: SkuId,
    /// Where its row is, until a row is added or removed.
    pub(super) at: RowAt,
    pub(super) quantity: Quantity,
    pub(super) warehouse: WarehouseId,
    name: Text,
}

impl ShardMachine {
    /// The holds are granted; this makes the order.
    pub(super) fn place(&mut self, at: Position, place: &Place) -> Result<Outcome, Rejection> {
        let rows = match self.refuse_place(at, place)? {
            Checked::Replay(outcome) => return Ok(outcome),
            Checked::New(rows) => rows,
        };
        let names: Vec<Text> = if place.names.len() == place.request.lines.len() { Vec::new() } else { ids_as_names(place) };
        let names = if names.is_empty() { &place.names } else { &names };
        let (order, effects) = self.make_order(place, names);
        Ok(self.insert_order(rows, place, order, effects, None))
    }

    /// Hold and place in one step, when every SKU lives in this shard too (rule 13).
    pub(super) fn place_local(&mut self, at: Position, place: &Place) -> Result<Outcome, Rejection> {
        let rows = match self.refuse_place(at, place)? {
            Checked::Replay(outcome) => return Ok(outcome),
            Checked::New(rows) => rows,
        };
        let found = self.find_units(&place.request.wanted())?;
        let name = |sku: &SkuId| {
            let index = found.binary_search_by(|found| found.sku.cmp(sku)).expect("every SKU of a line was found");
            found[index].name.clone()
        };
        let names: Vec<Text> = place.request.lines.iter().map(|line| name(&line.sku)).collect();
        let (order, effects) = self.make_order(place, &names);
        Ok(self.insert_order(rows, place, order, effects, Some(&found)))
    }

    /// Everything that may be wrong, in a fixed order: the wrong shard, a stale attempt, the key, the body, the reference.
    fn refuse_place(&mut self, at: Position, place: &Place) -> Result<Checked, Rejection> {
        let request = &place.request;
        self.own(request.user.slot())?;
        if place.attempt.group != self.config.shard || place.attempt.slot != request.user.slot() {
            return Err(Rejection::WrongShard);
        }
        if place.attempt.term != at.term {
            return Err(Rejection::StaleAttempt { attempt: place.attempt.term, entry: at.term }); // rule 2
        }
        let placed = keys::placed(&request.user, &request.key);
        if let Some(first) = self.placed_row(&placed) {
            return self.place_again(place, first).map(Checked::Replay); // rule 5
        }
        request.check()?;
        let reference = request.reference.as_ref().map(|reference| keys::reference(&request.user, reference));
        let reference = reference.map(|key| self.free_reference(key)).transpose()?;
        Ok(Checked::New(NewRows { placed, reference }))
    }

    /// The key of a reference that no order has, or none that may still come to something, with what its row says of earlier orders.
    fn free_reference(&mut self, key: RowKey) -> Result<(RowKey, Earlier), Rejection> {
        let Some(bytes) = self.rows.bytes(&key) else { return Ok((key, Earlier::default())) };
        let row: ReferenceRow = read_row(bytes).expect("a stored reference decodes");
        let has = self.rows.get::<OrderRow>(&keys::order(row.order)).expect("a reference names an order that exists");
        if has.order.frees_reference() {
            Ok((key, Earlier { before: row.before.wrapping_add(row.order.0), listed: row.listed }))
        } else {
            Err(Rejection::ReferenceTaken(row.order))
        }
    }

    fn placed_row(&mut self, key: &RowKey) -> Option<PlacedRow> {
        let bytes = self.rows.bytes(key)?;
        let row: PlacedRow = read_row(bytes).expect("a stored idempotency record decodes");
        self.remembered(row.at).then_some(row)
    }

    /// Rule 5: the same body gets the first order, and the second attempt's holds are released; another body is refused.
    fn place_again(&mut self, place: &Place, first: PlacedRow) -> Result<Outcome, Rejection> {
        if first.body_hash != place.request.body_hash {
            return Err(Rejection::KeyReused);
        }
        let key = keys::order(first.order);
        let row = self.rows.get::<OrderRow>(&key).expect("an idempotency record names an order that exists");
        let (attempt, order) = (row.order.attempt, row.order.as_placed());
        if attempt != place.attempt {
            // Longer than any hold of it can be valid, whichever clock its valid-until was counted from.
            let valid_until = self.time().after(HOLD_VALIDITY).after(CLOCK_TOLERANCE).after(CLOCK_TOLERANCE);
            let skus = place.request.wanted().into_iter().map(|(sku, _)| sku).collect();
            self.post_release(&Release { attempt: place.attempt, skus, valid_until });
        }
        Ok(Outcome::Placed { order: Arc::new(order), replayed: true })
    }

    /// Finds all units or says which SKUs fall short.
    fn find_units(&mut self, wanted: &[(SkuId, Quantity)]) -> Result<Vec<UnitsFound>, Rejection> {
        for (sku, _) in wanted {
            self.own(sku.slot())?;
        }
        let mut found = Vec::with_capacity(wanted.len());
        let mut short = Vec::new();
        for (id, quantity) in wanted {
            let (at, sku) = self.rows.get_at::<Sku>(&keys::sku(id)).ok_or_else(|| Rejection::NoSuchSku(id.clone()))?;
            match sku.source(*quantity) {
                Ok(warehouse) => {
                    found.push(UnitsFound { sku: id.clone(), at, quantity: *quantity, warehouse, name: sku.name.clone() });
                }
                Err(Rejection::OutOfStock { sku, asked, available }) => short.push((sku, asked, available)),
                Err(other) => return Err(other),
            }
        }
        Rejection::short_of(short).map_or(Ok(found), Err)
    }

    fn make_order(&mut self, place: &Place, names: &[Text]) -> (Order, Effects) {
        let id = self.meta.next_order(place.request.user.slot(), self.scale().log_from_now(self.meta.time));
        Order::place(id, place.attempt, &place.request, names, self.meta.time)
    }

    /// From here on nothing can fail: the order, its idempotency record, its indexes, its timers, its holds.
    fn insert_order(
        &mut self,
        rows: NewRows,
        place: &Place,
        order: Order,
        effects: Effects,
        local: Option<&[UnitsFound]>,
    ) -> Outcome {
        let id = order.id;
        let local_holds = local.map(|found| self.take_local_holds(&order, found, &effects.stock));
        let record = PlacedRow { order: id, body_hash: place.request.body_hash, at: self.meta.time };
        self.rows.put_bytes(rows.placed, row_bytes(&mut self.scratch, &record));
        if let (Some((key, Earlier { before, listed })), Some(reference)) = (rows.reference, &place.request.reference) {
            let row = ReferenceRow { order: id, before, listed: listed.wrapping_add(id.0) };
            self.lists.add(&keys::by_reference(reference.as_str().as_bytes(), id));
            self.rows.put_bytes(key, row_bytes(&mut self.scratch, &row));
        }
        self.lists.add(&keys::list(&place.request.user, id));
        if local_holds.is_none() {
            self.post_stock(place.attempt, id, effects.stock);
        }
        let mut row = OrderRow { order: Arc::new(order), timers: Vec::new(), keys: Vec::new(), local_holds };
        self.set_timers(&mut row, &effects.timers);
        self.put_new(&row);
        Outcome::Placed { order: row.order, replayed: false }
    }

    /// Groups what concerns SKUs by the shard that owns them, in the order of shards.
    pub(super) fn split<T>(&self, items: Vec<T>, sku: impl Fn(&T) -> &SkuId) -> Vec<(GroupId, Vec<T>)> {
        let mut split: Vec<(GroupId, Vec<T>)> = Vec::new();
        for item in items {
            // A slot that nobody owns has no shard to tell; the order shard's map names an owner for every slot.
            let Some(to) = self.owner(sku(&item).slot()) else { continue };
            match split.binary_search_by_key(&to, |(group, _)| *group) {
                Ok(index) => split[index].1.push(item),
                Err(index) => split.insert(index, (to, vec![item])),
            }
        }
        split
    }
}

/// What is left to do for a place that nothing speaks against.
enum Checked {
    /// The key has been used: this is the answer.
    Replay(Outcome),
    /// A new order, under these keys.
    New(NewRows),
}

struct NewRows {
    placed: RowKey,
    /// And what its row says of earlier orders.
    reference: Option<(RowKey, Earlier)>,
}

/// The sums of a [`ReferenceRow`] over the orders that had the reference before.
#[derive(Default)]
struct Earlier {
    before: u64,
    listed: u64,
}

/// SKU ids in place of names that the proposer did not send.
fn ids_as_names(place: &Place) -> Vec<Text> {
    let name = |sku: &SkuId| Text::new(sku.as_str()).expect("a SKU id is a valid text");
    place.request.lines.iter().map(|line| name(&line.sku)).collect()
}
