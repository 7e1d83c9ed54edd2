//! What clients asked and were answered, sorted by what it is about: made once from a history, read by every judge.
//!
//! Assumed of the harness: times are of one clock, `ended` is set exactly for what was answered, and the calls of
//! [`FINAL_CLIENT`] began after every other call has had its effect, on a healed grid, in this order: a proof of the laws,
//! the reads, a status, a proof of the laws.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ordergrid_api::wire::{BatchOrder, Order, PlaceOrder, Sku, StatusHistory, UserOrders};
use ordergrid_domain::{FulfilmentId, Key, OrderId, SkuId, Timestamp, UserId};

use crate::history::{Ask, Ending, History, Operation, Said, Seen, SimTime};

/// Who reads everything once the faults have ended and the grid has healed.
pub const FINAL_CLIENT: u32 = u32::MAX;

/// What a judge must know of how the history was made. The default promises nothing, so that less is judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// Every operation is one attempt. Else a refusal may hide an earlier attempt that is still under way.
    pub one_attempt: bool,
    /// What a perfect clock said when the history began; without it, times of the grid are not compared with its own.
    pub epoch: Option<Timestamp>,
    /// The furthest that any node's clock was from the perfect one, at any moment.
    pub skew: Duration,
    /// The furthest that grid time may have been behind the perfect clock while things went wrong, if that is more: a start
    /// that cannot tell which clock is right goes on from the log, and the time that nodes were off is missing in it.
    pub behind: Duration,
    /// How late a timer may fire, on top of the skew, in a healed grid.
    pub timer_slack: Duration,
    /// Bytes of rows that a node may keep in memory, slack included.
    pub memory_budget: Option<u64>,
}

impl Setting {
    /// Nothing can have been stamped with less than this then.
    #[must_use]
    pub fn earliest(&self, at: SimTime) -> Option<Timestamp> {
        self.before(at, self.skew.max(self.behind))
    }

    /// The same, once the grid has healed.
    #[must_use]
    pub fn earliest_healed(&self, at: SimTime) -> Option<Timestamp> {
        self.before(at, self.skew)
    }

    fn before(&self, at: SimTime, by: Duration) -> Option<Timestamp> {
        let perfect = self.epoch?.after(at.since_start()).as_ms();
        Some(Timestamp::from_ms(perfect.saturating_sub(millis(by))))
    }

    /// Nobody's clock can have shown more than this then.
    #[must_use]
    pub fn latest(&self, at: SimTime) -> Option<Timestamp> {
        // One more, since the perfect clock is cut to whole milliseconds.
        Some(self.epoch?.after(at.since_start()).after(self.skew).after(Duration::from_millis(1)))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// How something came to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As the answer of placing: always as it was placed, however late.
    Placed,
    /// As the answer of a command: as it stands after it.
    Changed,
    /// As read.
    Read,
}

/// Something that a client has seen.
#[derive(Debug)]
pub struct Sighting<'a, T> {
    /// The call whose answer showed it.
    pub op: &'a Operation,
    /// What was seen.
    pub what: &'a T,
    /// Where the answer stands in the log.
    pub token: Option<Seen>,
    /// Why it was answered.
    pub how: How,
    /// An earlier call with the same key had done it.
    pub replayed: bool,
}

// By hand, since deriving them would ask for `T: Copy`.
impl<T> Clone for Sighting<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Sighting<'_, T> {}

impl<T> Sighting<'_, T> {
    /// When the answer was there.
    #[must_use]
    pub fn ended(&self) -> SimTime {
        ended(self.op)
    }

    /// Seen by the last reads of all.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.op.client == FINAL_CLIENT
    }
}

/// When a call ended; one that did not, never.
#[must_use]
pub fn ended(op: &Operation) -> SimTime {
    op.ended.unwrap_or(SimTime(u64::MAX))
}

/// One order that was asked for, alone or in a batch.
#[derive(Clone, Debug)]
pub struct PlaceCall<'a> {
    /// The call.
    pub op: &'a Operation,
    /// The order asked for.
    pub body: &'a PlaceOrder,
    /// What came of it.
    pub end: PlaceEnd<'a>,
}

/// What came of asking for an order.
#[derive(Clone, Debug)]
pub enum PlaceEnd<'a> {
    /// There is an order.
    Done {
        /// Its id.
        id: OrderId,
        /// The order, where it was answered whole.
        order: Option<&'a Order>,
        /// An earlier call with the same key placed it.
        replayed: bool,
    },
    /// Refused.
    Refused {
        /// HTTP status.
        status: u16,
        /// The word for the cause.
        code: &'a str,
    },
    /// It may have been placed, or may be later.
    Open,
}

impl PlaceCall<'_> {
    /// The id of the order, if there is one.
    #[must_use]
    pub fn id(&self) -> Option<OrderId> {
        match self.end {
            PlaceEnd::Done { id, .. } => Some(id),
            PlaceEnd::Refused { .. } | PlaceEnd::Open => None,
        }
    }

    /// This call has certainly placed nothing, and none of its attempts ever will.
    #[must_use]
    pub fn surely_nothing(&self, setting: &Setting) -> bool {
        match self.end {
            // What is wrong with a body is wrong for every attempt.
            PlaceEnd::Refused { status, .. } => setting.one_attempt || matches!(status, 400 | 413 | 415 | 422),
            PlaceEnd::Done { .. } | PlaceEnd::Open => false,
        }
    }
}

/// A history, sorted by what its answers are about.
#[derive(Clone, Debug)]
pub struct Book<'a> {
    /// Everything that clients did.
    pub history: &'a History,
    /// How it was made.
    pub setting: Setting,
    /// Every order in every answer, in the order in which the calls began.
    pub orders: BTreeMap<OrderId, Vec<Sighting<'a, Order>>>,
    /// Every SKU in every answer.
    pub skus: BTreeMap<SkuId, Vec<Sighting<'a, Sku>>>,
    /// Every timeline read.
    pub timelines: BTreeMap<OrderId, Vec<Sighting<'a, StatusHistory>>>,
    /// Every page of a user's orders.
    pub pages: BTreeMap<UserId, Vec<Sighting<'a, UserOrders>>>,
    /// Every order that was asked for, by the scope of its key.
    pub places: BTreeMap<(UserId, Key), Vec<PlaceCall<'a>>>,
    /// Every command on an order, by the scope of its key.
    pub commands: BTreeMap<(OrderId, Key), Vec<&'a Operation>>,
    /// Every command on a SKU that has a key, by the scope of it.
    pub stock_commands: BTreeMap<(SkuId, Key), Vec<&'a Operation>>,
}

impl<'a> Book<'a> {
    /// Sorts a history.
    #[must_use]
    pub fn new(history: &'a History, setting: Setting) -> Self {
        let mut book = Self {
            history,
            setting,
            orders: BTreeMap::new(),
            skus: BTreeMap::new(),
            timelines: BTreeMap::new(),
            pages: BTreeMap::new(),
            places: BTreeMap::new(),
            commands: BTreeMap::new(),
            stock_commands: BTreeMap::new(),
        };
        for op in &history.operations {
            book.file_ask(op);
            book.file_answer(op);
        }
        book
    }

    fn file_ask(&mut self, op: &'a Operation) {
        match &op.ask {
            Ask::Place(key, body) => {
                let call = PlaceCall { op, body, end: place_end(op) };
                self.places.entry((body.user_id.clone(), key.clone())).or_default().push(call);
            }
            Ask::PlaceBatch(orders) => {
                for (at, body) in orders.iter().enumerate() {
                    // Without a key it is refused: nothing to remember it by.
                    let Some(key) = body.idempotency_key.clone() else { continue };
                    let call = PlaceCall { op, body, end: batch_end(op, at) };
                    self.places.entry((body.user_id.clone(), key)).or_default().push(call);
                }
            }
            Ask::Receive(key, sku, _) | Ask::Adjust(key, sku, _) => {
                self.stock_commands.entry((sku.clone(), key.clone())).or_default().push(op);
            }
            ask => {
                if let Some((order, key)) = command_on(ask) {
                    self.commands.entry((order, key.clone())).or_default().push(op);
                }
            }
        }
    }

    fn file_answer(&mut self, op: &'a Operation) {
        let Ending::Done { answer, token, replayed } = &op.ending else { return };
        let (token, replayed) = (*token, *replayed);
        let how = how(&op.ask);
        match &**answer {
            Said::Order(order) => self.file_order(Sighting { op, what: order, token, how, replayed }),
            Said::Fulfilment(changed) => self.file_order(Sighting { op, what: &changed.order, token, how, replayed }),
            Said::Batch(batch) => {
                for result in &batch.results {
                    let Some(BatchOrder::Whole(order)) = &result.order else { continue };
                    let token = result.token.as_deref().and_then(read_token);
                    let replayed = result.replayed;
                    self.file_order(Sighting { op, what: order, token, how: How::Placed, replayed });
                }
            }
            Said::Sku(sku) => {
                self.skus.entry(sku.id.clone()).or_default().push(Sighting { op, what: sku, token, how, replayed });
            }
            Said::History(what) => {
                self.timelines.entry(what.order_id).or_default().push(Sighting { op, what, token, how, replayed });
            }
            Said::User(what) => {
                for order in &what.orders {
                    self.file_order(Sighting { op, what: order, token, how, replayed });
                }
                if let Ask::ReadUser(user) = &op.ask {
                    self.pages.entry(user.clone()).or_default().push(Sighting { op, what, token, how, replayed });
                }
            }
            Said::Status(_) | Said::Verify(_) | Said::Clock(_) | Said::Repair(_) | Said::Reconciled(_) => {}
        }
    }

    fn file_order(&mut self, sighting: Sighting<'a, Order>) {
        self.orders.entry(sighting.what.id).or_default().push(sighting);
    }

    /// Every order whose existence anybody was told of, with the first moment at which that was so.
    #[must_use]
    pub fn known(&self) -> BTreeMap<OrderId, SimTime> {
        let mut known: BTreeMap<OrderId, SimTime> = BTreeMap::new();
        let mut tell = |id, at: SimTime| {
            let first = known.entry(id).or_insert(at);
            *first = at.min(*first);
        };
        for sighting in self.orders.values().flatten() {
            tell(sighting.what.id, sighting.ended());
        }
        for sighting in self.timelines.values().flatten() {
            tell(sighting.what.order_id, sighting.ended());
        }
        for call in self.places.values().flatten() {
            if let Some(id) = call.id() {
                tell(id, ended(call.op));
            }
        }
        known
    }

    /// Every order in its newest form.
    #[must_use]
    pub fn newest(&self) -> BTreeMap<OrderId, &'a Order> {
        let newest = |sightings: &Vec<Sighting<'a, Order>>| {
            sightings.iter().max_by_key(|sighting| sighting.what.version).map(|sighting| sighting.what)
        };
        self.orders.iter().filter_map(|(id, sightings)| Some((*id, newest(sightings)?))).collect()
    }

    /// The orders as the last reads saw them, newest form of each.
    #[must_use]
    pub fn last(&self) -> BTreeMap<OrderId, Sighting<'a, Order>> {
        let mut last: BTreeMap<OrderId, Sighting<'a, Order>> = BTreeMap::new();
        for sighting in self.orders.values().flatten().filter(|sighting| sighting.is_final()) {
            let newest = last.entry(sighting.what.id).or_insert(*sighting);
            // Of two equal ones the later, which is better evidence that nothing changed.
            if newest.what.version <= sighting.what.version {
                *newest = *sighting;
            }
        }
        last
    }

    /// The calls after everything has healed.
    pub fn final_calls(&self) -> impl Iterator<Item = &'a Operation> {
        self.history.operations.iter().filter(|op| op.client == FINAL_CLIENT)
    }

    /// SKUs of which an order missed units that it had counted on: their sums are moved without a client having asked.
    #[must_use]
    pub fn short_skus(&self) -> BTreeSet<SkuId> {
        let told =
            |sighting: &Sighting<'_, StatusHistory>| sighting.what.history.iter().any(|event| event.event == "stock.shortfall");
        let short: BTreeSet<OrderId> =
            self.timelines.iter().filter(|(_, sightings)| sightings.iter().any(told)).map(|(id, _)| *id).collect();
        let mut skus = BTreeSet::new();
        for (id, sightings) in &self.orders {
            for line in sightings.iter().flat_map(|sighting| &sighting.what.lines) {
                if short.contains(id) || line.backordered > 0 {
                    skus.insert(line.sku.clone());
                }
            }
        }
        skus
    }
}

/// The order that a command is on, and its key; none for what is no command on an order.
#[must_use]
pub fn command_on(ask: &Ask) -> Option<(OrderId, &Key)> {
    match ask {
        Ask::Pay(key, order, _)
        | Ask::Cancel(key, order, _)
        | Ask::Complete(key, order)
        | Ask::Refund(key, order, _)
        | Ask::Pick(key, order, _) => Some((*order, key)),
        Ask::RefundOutcome(key, refund, _) => Some((refund.order, key)),
        Ask::Ship(key, FulfilmentId { order, .. }, _)
        | Ask::Deliver(key, FulfilmentId { order, .. })
        | Ask::Unpick(key, FulfilmentId { order, .. }) => Some((*order, key)),
        _ => None,
    }
}

/// The call has certainly done nothing, and none of its attempts ever will.
#[must_use]
pub fn surely_nothing(op: &Operation, setting: &Setting) -> bool {
    matches!(op.ending, Ending::Refused { .. }) && setting.one_attempt
}

/// The order in an answer, whole or with a parcel.
#[must_use]
pub fn answered_order(op: &Operation) -> Option<&Order> {
    let Ending::Done { answer, .. } = &op.ending else { return None };
    match &**answer {
        Said::Order(order) => Some(order),
        Said::Fulfilment(changed) => Some(&changed.order),
        _ => None,
    }
}

/// The parcel or refund that a done call says it has created.
#[must_use]
pub fn created_part(op: &Operation) -> Option<String> {
    let Ending::Done { answer, .. } = &op.ending else { return None };
    match &**answer {
        Said::Order(order) => order.created.clone(),
        Said::Fulfilment(changed) => Some(changed.fulfilment.id.to_string()),
        _ => None,
    }
}

fn how(ask: &Ask) -> How {
    match ask {
        Ask::Place(..) | Ask::PlaceBatch(_) => How::Placed,
        Ask::ReadOrder(_) | Ask::ReadSku(_) | Ask::ReadHistory(_) | Ask::ReadUser(_) | Ask::Status | Ask::Verify => How::Read,
        _ => How::Changed,
    }
}

fn place_end(op: &Operation) -> PlaceEnd<'_> {
    match &op.ending {
        Ending::Done { answer, replayed, .. } => match &**answer {
            Said::Order(order) => PlaceEnd::Done { id: order.id, order: Some(order), replayed: *replayed },
            _ => PlaceEnd::Open,
        },
        Ending::Refused { status, code, .. } => PlaceEnd::Refused { status: *status, code },
        Ending::Unknown(_) | Ending::Abandoned => PlaceEnd::Open,
    }
}

fn batch_end(op: &Operation, at: usize) -> PlaceEnd<'_> {
    let Ending::Done { answer, .. } = &op.ending else { return place_end(op) };
    let Said::Batch(batch) = &**answer else { return PlaceEnd::Open };
    let Some(result) = batch.results.get(at) else { return PlaceEnd::Open };
    match (&result.order, &result.error) {
        (Some(order), _) => {
            let whole = if let BatchOrder::Whole(order) = order { Some(&**order) } else { None };
            PlaceEnd::Done { id: order.id(), order: whole, replayed: result.replayed }
        }
        (None, Some(error)) if error.outcome == "refused" => PlaceEnd::Refused { status: result.status, code: &error.code },
        (None, _) => PlaceEnd::Open,
    }
}

/// A token as a batch spells it.
fn read_token(text: &str) -> Option<Seen> {
    let (group, index) = text.split_once(':')?;
    Some(Seen { group: group.parse().ok()?, index: index.parse().ok()? })
}
