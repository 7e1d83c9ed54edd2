//! Proves the laws from the rows of all shards, as `verify` and the simulation do: from what is stored, not from what the
//! running code believes. Needs memory for every SKU and every message in flight, not for orders.
//!
//! Feed one [`Audit`] per shard with every row of one moment of that shard, the row of table 0 first (it is first in key
//! order); merge them; finish. The moments of different shards need not be the same, but a shard seen before another one
//! told it something cannot be judged against it: such pairs are *torn*, look again.

mod moment;
mod references;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bincode::{Decode, Encode};
use ordergrid_rows::TableKey;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::command::{KeptList, Message};
use crate::encoding::{BytesError, read_row};
use crate::ids::{GroupId, OrderId, SkuId};
use crate::law::Law;
use crate::machine::{KEY_RETENTION, STATUSES};
use crate::money::Quantity;
use crate::order::Order;
use crate::repair::Scale;
use crate::rows::keys::{self, KeptKey, MarkKey, OutboxKey, TimerKey};
use crate::rows::kinds::{AttemptRow, Counts, Held, HoldRow, KeptRow, LocalHold, Mark, Meta, OrderRow, PlacedRow, SkuKeyRow};
use crate::rows::{
    ATTEMPT, HOLD, KEPT, LIST, MARK, META, ORDER, OUTBOX, PLACED, REFERENCE, REPAIR, SKU, SKU_KEY, STREAM_IN, STREAM_OUT, TIMER,
};
use crate::sku::Sku;

pub use moment::Moment;
use references::References;
pub use report::{AuditCounts, AuditReport, InFlight};

/// Violations kept per law; more are only counted.
const TEXTS: usize = 100;

/// The laws that rows can prove.
pub const PROVEN: [Law; 10] = [
    Law::NoOversell,
    Law::HoldsAddUp,
    Law::AllOrNothing,
    Law::MoneyConserved,
    Law::MoneyEndsSomewhere,
    Law::OneKeyOneOrder,
    Law::ReadsAreCurrent,
    Law::TimersFire,
    Law::EventsGapless,
    Law::Heals,
];

/// Sums over one SKU.
#[derive(Debug, Default, Encode, Decode)]
struct SkuSums {
    buckets_reserved: i128,
    buckets_committed: i128,
    tentative: i128,
    kept_reserved: i128,
    kept_committed: i128,
    /// Units that orders count on.
    counted: i128,
}

/// What a message not yet applied changes between what orders count on and what is kept.
#[derive(Debug, Encode, Decode)]
struct Flight {
    pair: (GroupId, GroupId),
    number: u64,
    units: Vec<(SkuId, i128)>,
    kind: Kind,
}

/// What a message not yet applied says of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
enum Kind {
    /// So many more or less are kept then.
    Units,
    /// Fewer are counted on then.
    Shortfall,
    /// Whatever is kept, it is what is counted on then.
    Claim,
}

/// Sums of hashes that must agree: each side is a set of pairs seen from one end.
#[derive(Debug, Default, Encode, Decode)]
struct Sides {
    orders: u64,
    rows: u64,
}

/// One shard's own sums.
#[derive(Debug, Default, Encode, Decode)]
struct Shard {
    meta: Meta,
    scale: Scale,
    counts: Counts,
    streams: Moment,
    queued: BTreeMap<GroupId, (u64, u64)>,
    keys: Sides,
    references: References,
    lists: Sides,
    timers: Sides,
    attempts: Sides,
}

/// Takes rows, proves laws.
#[derive(Debug, Encode, Decode)]
pub struct Audit {
    shard: GroupId,
    retention: Duration,
    shards: BTreeMap<GroupId, Shard>,
    skus: BTreeMap<SkuId, SkuSums>,
    flights: Vec<Flight>,
    counts: AuditCounts,
    tentative: u64,
    violations: BTreeMap<Law, (u64, Vec<String>)>,
    /// The rows of the lists of users are among those that it sees.
    lists: bool,
    /// So are all timers.
    timers: bool,
}

impl Audit {
    /// For the rows of one shard whose idempotency records live as long as usual.
    #[must_use]
    pub fn of(shard: GroupId) -> Self {
        Self::new(shard, KEY_RETENTION)
    }

    /// For the rows of one shard.
    #[must_use]
    pub fn new(shard: GroupId, retention: Duration) -> Self {
        Self {
            shard,
            retention,
            shards: BTreeMap::from([(shard, Shard::default())]),
            skus: BTreeMap::new(),
            flights: Vec::new(),
            counts: AuditCounts { shards: 1, ..AuditCounts::default() },
            tentative: 0,
            violations: BTreeMap::new(),
            lists: true,
            timers: true,
        }
    }

    /// For rows that are not all of the shard's: the lists of users are left to another audit.
    pub(crate) fn ignore_lists(&mut self) {
        self.lists = false;
    }

    /// For rows that are not all of the shard's: timers are left to another audit.
    pub(crate) fn ignore_timers(&mut self) {
        self.timers = false;
    }

    /// Takes one row. One that cannot be read is reported under [`Law::ReadsAreCurrent`]: nobody can read it either.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.counts.rows += 1;
        if let Err(error) = self.take(key, value) {
            let key = key.escape_ascii();
            self.violation(Law::ReadsAreCurrent, format!("shard {}: row {key} cannot be read: {error}", self.shard));
        }
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), BytesError> {
        match key.first().copied().ok_or(BytesError::Key)? {
            META => self.here().meta = read_row(value)?,
            TIMER => {
                let timer = TimerKey::parse(key)?;
                self.counts.timers += 1;
                let here = self.here();
                here.counts.timers += 1;
                here.timers.rows = here.timers.rows.wrapping_add(hash(timer.write().as_bytes(), timer.order));
            }
            OUTBOX => self.message(OutboxKey::parse(key)?, &read_row(value)?),
            STREAM_OUT | STREAM_IN => drop(self.here().streams.add(key, value)?),
            ATTEMPT => {
                let row: AttemptRow = read_row(value)?;
                let sum = hash(key, OrderId(0)).wrapping_mul(u64::from(row.outstanding));
                let here = self.here();
                here.attempts.rows = here.attempts.rows.wrapping_add(sum);
            }
            MARK => self.mark(MarkKey::parse(key)?, &read_row(value)?),
            KEPT => drop((KeptKey::parse(key)?, read_row::<KeptRow>(value)?)),
            REPAIR => self.here().scale.add(read_row(value)?),
            ORDER => self.order(keys::order_part(key)?, &read_row(value)?),
            SKU => self.sku(key, &read_row(value)?),
            HOLD => {
                let (_, sku) = keys::hold_parts(key)?;
                let row: HoldRow = read_row(value)?;
                self.hold(sku, row.order, &row.held);
            }
            PLACED => self.placed(key, &read_row(value)?),
            LIST => {
                read_row::<()>(value)?;
                let (_, order) = keys::listed(key)?;
                let here = self.here();
                if key.get(1) == Some(&keys::BY_REFERENCE) {
                    here.references.listed(key, order);
                } else {
                    here.lists.rows = here.lists.rows.wrapping_add(hash(key, order));
                }
            }
            REFERENCE => {
                let row = read_row(value)?;
                self.here().references.row(key, &row)?;
            }
            SKU_KEY => drop(read_row::<SkuKeyRow>(value)?),
            _ => return Err(BytesError::Key),
        }
        Ok(())
    }

    fn here(&mut self) -> &mut Shard {
        self.shards.get_mut(&self.shard).expect("the shard is entered when the audit begins")
    }

    fn violation(&mut self, law: Law, text: String) {
        let (count, texts) = self.violations.entry(law).or_default();
        *count += 1;
        if texts.len() < TEXTS {
            texts.push(text);
        }
    }

    fn order(&mut self, id: OrderId, row: &OrderRow) {
        let order = &row.order;
        if id != order.id {
            self.violation(Law::ReadsAreCurrent, format!("the row of order {id} holds order {}", order.id));
        }
        for (law, text) in order.violations() {
            self.violation(law, format!("order {id}: {text}"));
        }
        self.counts.orders += 1;
        self.counts.money.entry(order.currency).or_default().add(&order.money());
        let status = order.status();
        *self.counts.by_status.entry(status).or_default() += 1;
        let place = STATUSES.iter().position(|known| *known == status).expect("every status is in the list");
        self.here().counts.orders[place] += 1;
        for line in &order.lines {
            let units = i128::from(line.held.0) + i128::from(line.picking.0);
            if units > 0 {
                self.skus.entry(line.sku.clone()).or_default().counted += units;
            }
        }
        if let Some(holds) = &row.local_holds {
            self.local_holds(order, holds);
        }
        let retention = self.retention;
        let here = self.here();
        if here.scale.lasted(order.created_at, retention, here.meta.time) {
            let key = keys::placed(&order.user, &order.key);
            here.keys.orders = here.keys.orders.wrapping_add(hash(key.as_bytes(), id));
        }
        if let Some(reference) = &order.reference {
            let key = keys::reference(&order.user, reference);
            here.references.order(key.as_bytes(), id);
        }
        here.lists.orders = here.lists.orders.wrapping_add(hash(keys::list(&order.user, id).as_bytes(), id));
        for (kind, due) in &row.timers {
            let key = TimerKey { due: *due, order: id, kind: *kind }.write();
            here.timers.orders = here.timers.orders.wrapping_add(hash(key.as_bytes(), id));
        }
    }

    fn placed(&mut self, key: &[u8], row: &PlacedRow) {
        self.counts.keys += 1;
        let retention = self.retention;
        let here = self.here();
        if here.scale.lasted(row.at, retention, here.meta.time) {
            here.keys.rows = here.keys.rows.wrapping_add(hash(key, row.order));
        }
    }

    fn sku(&mut self, key: &[u8], sku: &Sku) {
        if key != keys::sku(&sku.id).as_bytes() {
            self.violation(Law::ReadsAreCurrent, format!("the row {} holds SKU {}", key.escape_ascii(), sku.id));
        }
        for (law, text) in sku.violations() {
            self.violation(law, text);
        }
        self.counts.skus += 1;
        self.here().counts.skus += 1;
        let sums = self.skus.entry(sku.id.clone()).or_default();
        for (_, buckets) in &sku.stock {
            sums.buckets_reserved += i128::from(buckets.reserved.0);
            sums.buckets_committed += i128::from(buckets.committed.0);
            self.counts.on_hand += buckets.on_hand.0;
            self.counts.sold += buckets.sold.0;
        }
    }

    fn hold(&mut self, sku: SkuId, order: OrderId, held: &Held) {
        self.counts.holds += 1;
        self.here().counts.holds += 1;
        if held.quantity == Quantity::ZERO {
            self.violation(Law::HoldsAddUp, format!("order {order} has an empty hold of {sku}"));
        }
        let sums = self.skus.entry(sku).or_default();
        let kept = if held.committed { &mut sums.kept_committed } else { &mut sums.kept_reserved };
        *kept += i128::from(held.quantity.0);
    }

    /// What an order holds in its own row is what it counts on, whatever is under way elsewhere.
    fn local_holds(&mut self, order: &Order, holds: &[LocalHold]) {
        let mut kept = Vec::with_capacity(holds.len());
        for hold in holds {
            let Some(line) = (hold.line as usize).checked_sub(1).and_then(|index| order.lines.get(index)) else {
                self.violation(Law::HoldsAddUp, format!("order {} holds units of line {}", order.id, hold.line));
                continue;
            };
            self.hold(line.sku.clone(), order.id, &hold.held);
            kept.push((line.sku.clone(), hold.held.quantity));
        }
        kept.sort_unstable();
        if kept != order.holding() {
            self.violation(Law::AllOrNothing, format!("order {} counts on {:?} and holds {kept:?}", order.id, order.holding()));
        }
    }

    fn mark(&mut self, MarkKey { sku, .. }: MarkKey, mark: &Mark) {
        if let Mark::Tentative { quantity, .. } = mark {
            self.tentative += 1;
            self.skus.entry(sku).or_default().tentative += i128::from(quantity.0);
        }
    }

    fn message(&mut self, OutboxKey { to, number }: OutboxKey, message: &Message) {
        let signed = |items: &[(SkuId, Quantity)], sign: i128| {
            items.iter().map(|(sku, quantity)| (sku.clone(), sign * i128::from(quantity.0))).collect()
        };
        let units = match message {
            Message::Decided(KeptList { items, .. }) | Message::Keep { items, .. } => signed(items, 1),
            Message::Frees(parts) | Message::Ships(parts) => {
                parts.iter().map(|part| (part.sku.clone(), -i128::from(part.quantity.0))).collect()
            }
            Message::Free { items, .. } | Message::Ship { items, .. } => signed(items, -1),
            Message::Shortfall { sku, missing, .. } => vec![(sku.clone(), i128::from(missing.0))],
            Message::Claim { items, .. } => items.iter().map(|item| (item.sku.clone(), 0)).collect(),
            Message::Commit { .. } | Message::Commits(_) | Message::Release(_) => Vec::new(),
        };
        let kind = match message {
            Message::Shortfall { .. } => Kind::Shortfall,
            Message::Claim { .. } => Kind::Claim,
            _ => Kind::Units,
        };
        self.flights.push(Flight { pair: (self.shard, to), number, units, kind });
        let here = self.here();
        if let Message::Keep { attempt, .. } | Message::Claim { attempt, .. } = message {
            here.attempts.orders = here.attempts.orders.wrapping_add(hash(attempt.write().as_bytes(), OrderId(0)));
        }
        let (count, sum) = here.queued.entry(to).or_default();
        *count += 1;
        *sum = sum.wrapping_add(number);
    }

    /// Takes what another audit has seen.
    pub fn merge(&mut self, other: Self) {
        for (shard, sums) in other.shards {
            assert!(self.shards.insert(shard, sums).is_none(), "shard {shard} is merged twice");
        }
        for (sku, sums) in other.skus {
            let mine = self.skus.entry(sku).or_default();
            mine.buckets_reserved += sums.buckets_reserved;
            mine.buckets_committed += sums.buckets_committed;
            mine.tentative += sums.tentative;
            mine.kept_reserved += sums.kept_reserved;
            mine.kept_committed += sums.kept_committed;
            mine.counted += sums.counted;
        }
        self.flights.extend(other.flights);
        for (law, (count, texts)) in other.violations {
            let mine = self.violations.entry(law).or_default();
            mine.0 += count;
            mine.1.extend(texts);
        }
        self.tentative += other.tentative;
        self.counts.add(other.counts);
    }

    /// Judges.
    #[must_use]
    pub fn finish(mut self) -> AuditReport {
        for (id, shard) in std::mem::take(&mut self.shards) {
            self.judge_shard(id, &shard);
            self.shards.insert(id, shard);
        }
        let skus = std::mem::take(&mut self.skus);
        for (sku, sums) in &skus {
            self.judge_holds(sku, sums);
        }
        for (currency, money) in self.counts.money.clone() {
            if !money.adds_up() {
                self.violation(Law::MoneyEndsSomewhere, format!("{currency:?} of all orders: {money:?}"));
            }
        }
        let torn = Moment::torn(&self.shards.iter().map(|(id, shard)| (*id, &shard.streams)).collect());
        let undelivered = self.judge_units(&skus, torn.is_empty());
        let mut violations = self.violations;
        let laws = PROVEN.into_iter().map(|law| {
            let (count, mut texts) = violations.remove(&law).unwrap_or_default();
            if count > texts.len() as u64 {
                texts.push(format!("and {} more", count - texts.len() as u64));
            }
            (law, texts)
        });
        AuditReport {
            laws: laws.collect(),
            counts: self.counts,
            in_flight: InFlight { tentative: self.tentative, undelivered },
            torn,
        }
    }

    fn judge_shard(&mut self, id: GroupId, shard: &Shard) {
        let lists = if self.lists { &shard.references.lists } else { &Sides::default() };
        let sides = [
            (Law::OneKeyOneOrder, "idempotency records", &shard.keys),
            (Law::OneKeyOneOrder, "references", &shard.references.named),
            (Law::ReadsAreCurrent, "the lists of users", if self.lists { &shard.lists } else { &Sides::default() }),
            (Law::ReadsAreCurrent, "the lists of references", lists),
            (Law::TimersFire, "timers", if self.timers { &shard.timers } else { &Sides::default() }),
            (Law::Heals, "the index of attempts", &shard.attempts),
        ];
        for (law, what, sides) in sides {
            if sides.orders != sides.rows {
                self.violation(law, format!("shard {id}: {what} and orders do not agree"));
            }
        }
        let (known, mut seen) = (shard.meta.counts, shard.counts);
        if !self.timers {
            seen.timers = known.timers;
        }
        if known != seen {
            self.violation(Law::ReadsAreCurrent, format!("shard {id}: counted {seen:?}, its own count is {known:?}"));
        }
        for (to, stream) in &shard.streams.outgoing {
            let waiting = stream.next - 1 - stream.trimmed;
            let sum = (u128::from(stream.trimmed + stream.next) * u128::from(waiting) / 2) as u64;
            if shard.queued.get(to).copied().unwrap_or_default() != (waiting, sum) {
                self.violation(Law::Heals, format!("the stream {id} -> {to} has a hole: {stream:?}"));
            }
        }
        for to in shard.queued.keys().filter(|to| !shard.streams.outgoing.contains_key(to)) {
            self.violation(Law::Heals, format!("messages {id} -> {to} belong to no stream"));
        }
    }

    fn judge_holds(&mut self, sku: &SkuId, sums: &SkuSums) {
        let (reserved, committed) = (sums.tentative + sums.kept_reserved, sums.kept_committed);
        if (sums.buckets_reserved, sums.buckets_committed) != (reserved, committed) {
            let text = format!("{sku}: holds make {reserved} reserved and {committed} committed: {sums:?}");
            self.violation(Law::HoldsAddUp, text);
        }
    }

    /// AllOrNothing: per SKU, what orders count on is what is kept, up to what is under way. Returns how many messages are.
    fn judge_units(&mut self, skus: &BTreeMap<SkuId, SkuSums>, judge: bool) -> u64 {
        let mut flying: BTreeMap<SkuId, (i128, i128)> = BTreeMap::new();
        let mut claimed = BTreeSet::new();
        let mut undelivered = 0;
        for flight in std::mem::take(&mut self.flights) {
            let (from, to) = flight.pair;
            let high = self.shards.get(&to).and_then(|shard| shard.streams.incoming.get(&from)).copied().unwrap_or_default();
            if flight.number <= high {
                continue;
            }
            undelivered += 1;
            for (sku, units) in flight.units {
                let (sum, short) = flying.entry(sku.clone()).or_default();
                match flight.kind {
                    Kind::Units => *sum += units,
                    Kind::Shortfall => *short += units,
                    Kind::Claim => drop(claimed.insert(sku)),
                }
            }
        }
        for (sku, sums) in skus.iter().filter(|(sku, _)| judge && !claimed.contains(sku)) {
            let (sum, short) = flying.get(sku).copied().unwrap_or_default();
            let kept = sums.kept_reserved + sums.kept_committed;
            // An order that was cancelled meanwhile no longer counts on what a shortfall under way will tell it.
            let missing = sums.counted - kept - sum;
            if missing < 0 || missing > short {
                let text = format!("{sku}: orders count on {}, {kept} are kept, {sum} are under way", sums.counted);
                self.violation(Law::AllOrNothing, text);
            }
        }
        undelivered
    }
}

fn hash(key: &[u8], order: OrderId) -> u64 {
    xxh3_64_with_seed(key, order.0)
}
