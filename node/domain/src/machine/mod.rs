//! The state of one shard: orders, SKUs, holds, idempotency records, timers, streams. Decides what an entry does to it.
//!
//! [`ShardMachine::apply`] is pure: no clock, no chance, no I/O. The shell around it (node) keeps three promises:
//! 1. before `apply(entry)` it loads what `missing_timers(entry)` and then, after `warm(entry)`, `missing(entry)` name, again
//!    until nothing is missing (rule 28);
//! 2. what `begin_checkpoint` and `checkpoint_step` hand out is written in one durable batch, then `checkpoint_durable` is called
//!    (rule 26);
//! 3. at start it gives back every row of the tables in `resident_tables`, then calls `set_cold`.
//!
//! Read next: `place` (the commit point), `orders`, `stock` (holds), `mailbox`, then `store` and `prefetch`.

mod gathered;
mod kept;
mod local_holds;
mod mailbox;
mod marks;
mod orders;
mod place;
mod prefetch;
mod reads;
mod reconcile;
mod repair;
mod stock;
mod store;
mod tables;
mod warm_cache;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ordergrid_rows::{Lists, Resident, Timers, Traffic};

use crate::command::{Command, Entry, Message, Outcome, Position};
use crate::ids::{AttemptId, GroupId, Slot};
use crate::order::Status;
use crate::rejection::Rejection;
use crate::repair::{Repaired, Scale};
use crate::rows::KEYED;
use crate::rows::keys::{From, KeptKey, ListedOrder, MarkKey, OutboxKey, RepairNumber, TimerKey, To};
use crate::rows::kinds::{At, AttemptRow, KeptRow, Mark, Meta, StreamIn, StreamOut};
use crate::rows::work::Rows;
use crate::time::Timestamp;

use gathered::EntryTells;
use kept::KeptTimes;
use marks::MarkTimes;

pub(crate) use orders::STATUSES;

pub use crate::rows::RowSink;
pub use mailbox::{BelowTrim, Stream};
pub use prefetch::{MissingRows, TimerScan};
pub use reads::{Available, HoldView, Lookup, PlacedKey, Run};

/// Most items that one tick expires (rule 22).
pub const TICK_LIMIT: usize = 1_000;
/// How long after its grant a hold may be used: the order leader's clock plus this.
pub const HOLD_VALIDITY: Duration = Duration::from_secs(10);
/// How far two clocks may be apart before a node counts as not ready (rule 21).
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);
/// How long idempotency records are kept.
pub const KEY_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Tombstones that are past their time by this much are worth a tick of their own.
const MARK_SLACK: Duration = Duration::from_secs(1);
/// Timers that are due so soon stay in memory: they would only have to be read again.
const NEAR: Duration = Duration::from_secs(1);

/// Which shard owns which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotOwners(Arc<[Option<GroupId>]>);

impl SlotOwners {
    /// From ranges of slots, first and last included. Slots that no range names belong to nobody.
    #[must_use]
    pub fn from_ranges(ranges: &[(GroupId, Slot, Slot)]) -> Self {
        let mut owners = vec![None; Slot::COUNT];
        for (group, first, last) in ranges {
            owners[first.index()..=last.index()].fill(Some(*group));
        }
        Self(owners.into())
    }

    /// All slots, spread over `groups` in ranges that differ by at most one slot.
    #[must_use]
    pub fn even(groups: &[GroupId]) -> Self {
        let owners = (0..Slot::COUNT).map(|slot| groups.get(slot * groups.len() / Slot::COUNT).copied());
        Self(owners.collect())
    }

    /// Every shard that owns a slot.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<GroupId> {
        self.0.iter().flatten().copied().collect()
    }

    /// The owner of a slot.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<GroupId> {
        self.0[slot.index()]
    }
}

/// What a shard is told before it starts. Must be the same on every replica.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Which shard this is.
    pub shard: GroupId,
    /// Who owns which slot.
    pub owners: SlotOwners,
    /// How long idempotency records are kept.
    pub key_retention: Duration,
}

impl ShardConfig {
    /// The usual settings.
    #[must_use]
    pub fn new(shard: GroupId, owners: SlotOwners) -> Self {
        Self { shard, owners, key_retention: KEY_RETENTION }
    }
}

/// How many there are of what, cold rows included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Orders by status; statuses without orders are left out.
    pub orders: Vec<(Status, u64)>,
    /// SKUs.
    pub skus: u64,
    /// Holds that belong to an order.
    pub holds: u64,
    /// Holds whose *keep* has not arrived.
    pub tentative: u64,
    /// Tombstones, and blocks of attempts whose holds were kept lately.
    pub marks: u64,
    /// Timers that run.
    pub timers: u64,
    /// Messages not confirmed by their destination.
    pub undelivered: u64,
    /// Rows evicted since the start of this process.
    pub evicted: u64,
    /// Rows loaded from the store since the start of this process.
    pub admitted: u64,
}

/// The deterministic machine of one shard.
#[derive(Debug)]
pub struct ShardMachine {
    config: ShardConfig,
    rows: Rows,
    lists: Lists<ListedOrder>,
    timers: Timers<TimerKey>,
    outbox: Resident<OutboxKey, Message>,
    streams_out: Resident<To, StreamOut>,
    streams_in: Resident<From, StreamIn>,
    attempts: Resident<AttemptId, AttemptRow>,
    marks: Resident<MarkKey, Mark, MarkTimes>,
    kept: Resident<KeptKey, KeptRow, KeptTimes>,
    /// The index is what the repairs come to.
    repairs: Resident<RepairNumber, Repaired, Scale>,
    meta: Meta,
    /// What it was when the checkpoint began whose rows are being handed out.
    checkpoint: Option<Meta>,
    /// Messages to this very shard: applied before the command that sent them is over.
    local: VecDeque<Message>,
    /// What the entry has told other shards so far: a message when it is over.
    gathered: BTreeMap<GroupId, EntryTells>,
    /// Consents to go on with another shard's stream, since the start of this process.
    agreed: u64,
    scratch: Vec<u8>,
    /// Room for hashes of keys.
    hashes: Vec<u64>,
}

impl ShardMachine {
    /// An empty shard.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        Self {
            config,
            rows: Rows::new(&KEYED),
            lists: Lists::default(),
            timers: Timers::default(),
            outbox: Resident::new(160),
            streams_out: Resident::new(24),
            streams_in: Resident::new(16),
            attempts: Resident::new(40),
            marks: Resident::new(200),
            kept: Resident::new(40),
            repairs: Resident::new(16),
            meta: Meta::default(),
            checkpoint: None,
            local: VecDeque::new(),
            gathered: BTreeMap::new(),
            agreed: 0,
            scratch: Vec::new(),
            hashes: Vec::new(),
        }
    }

    /// Applies one entry: one outcome per command, in order. Panics when a row that it needs could be cold and was not
    /// loaded, when `at` is not above the last position, or when a law is broken.
    pub fn apply(&mut self, at: Position, entry: &Entry) -> Vec<Outcome> {
        let last = self.meta.position;
        assert!(at.index > last.index && at.term >= last.term, "ReplicasAgree: entry {at:?} comes after {last:?}");
        self.meta.position = At { term: at.term, index: at.index };
        let (before, now) = (self.meta.time, self.time_at(entry));
        assert!(now >= before, "rule 21: log time goes back from {before:?} to {now:?}");
        self.meta.time = now;
        let outcomes = entry.commands.iter().map(|command| self.command(at, command)).collect();
        self.tell_gathered();
        outcomes
    }

    fn command(&mut self, at: Position, command: &Command) -> Outcome {
        let outcome = match command {
            Command::Place(place) => self.place(at, place),
            Command::PlaceLocal(place) => self.place_local(at, place),
            Command::Order(command) => self.order_command(command),
            Command::Sku(command) => self.sku_command(command),
            Command::Hold(hold) => self.hold(hold),
            Command::Release(release) => self.release(release),
            Command::Gone(holds) => self.gone(holds),
            Command::Deliver(run) => self.deliver(run),
            Command::Trim { to, high } => self.trim(*to, *high),
            Command::Tick => Ok(self.tick()),
            Command::Repair(repair) => self.repair(repair),
            Command::Restart(restart) => self.restart(restart),
            Command::Claims(claims) => self.claims(claims),
            Command::Agree { from, high } => self.agree(*from, *high),
            Command::Holds(holds) => Ok(self.holds(holds)),
        };
        self.receive_local();
        self.told(outcome.unwrap_or_else(Outcome::Rejected))
    }

    /// Rule 29: a shard refuses what it does not own.
    fn own(&self, slot: Slot) -> Result<(), Rejection> {
        if self.owner(slot) == Some(self.config.shard) { Ok(()) } else { Err(Rejection::WrongShard) }
    }

    fn owner(&self, slot: Slot) -> Option<GroupId> {
        self.config.owners.owner(slot)
    }

    /// Whether an idempotency record of that time still counts. It ends by log time, lazily: the next use overwrites it.
    fn remembered(&self, at: Timestamp) -> bool {
        self.scale().lasts(at, self.config.key_retention, self.meta.time)
    }

    /// How log time stands to the times of rows.
    fn scale(&self) -> &Scale {
        self.repairs.index()
    }

    /// The shard's id.
    #[must_use]
    pub fn shard(&self) -> GroupId {
        self.config.shard
    }

    /// The entry that was applied last; zero before the first.
    #[must_use]
    pub fn position(&self) -> Position {
        self.meta.position.into()
    }

    /// Log time: the latest stamp applied (rule 21), or what it was set back to since.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.scale().log_from_now(self.meta.time)
    }

    /// How many there are of what.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let counts = &self.meta.counts;
        let Traffic { evicted, admitted } = self.rows.traffic();
        let orders = STATUSES.iter().zip(counts.orders).filter(|(_, count)| *count > 0);
        Counters {
            orders: orders.map(|(status, count)| (*status, count)).collect(),
            skus: counts.skus,
            holds: counts.holds,
            tentative: self.marks.index().tentative(),
            marks: (self.marks.index().ending.len() + self.kept.len()) as u64,
            timers: counts.timers,
            undelivered: self.outbox.len() as u64,
            evicted,
            admitted,
        }
    }

    /// When a tick is worth proposing: the next timer, or the next of which only the store can tell (replicas that have
    /// others in memory may say something else), or tombstones that have piled up. `None` when nothing waits.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let due = self.timers.next(self.meta.counts.timers).into_iter().chain(self.due_mark()).min();
        due.map(|due| self.scale().log_from_now(due))
    }

    /// Takes what has ended off a count of rows.
    fn uncount(count: &mut u64, by: u64, of: &str) {
        assert!(*count >= by, "HoldsAddUp: {by} of {count} {of} end");
        *count -= by;
    }

    fn due_mark(&self) -> Option<Timestamp> {
        let mark = self.marks.index().ending.first().map(|key| key.0);
        mark.into_iter().chain(self.kept.index().first()).min().map(|until| until.after(MARK_SLACK))
    }
}
