//! One replica's state: the machine in memory, its cold rows in the store, and the shell that brings them together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use ordergrid_api::Answer;
use ordergrid_cluster::{DirtyRows, EntryId, Machine, MachineError, Packed, StateStore, StoreError};
use ordergrid_domain::command::{OrderRequest, Position};
use ordergrid_domain::encoding::BytesError;
use ordergrid_domain::machine::{Lookup, PlacedKey, ShardConfig, ShardMachine, TimerScan};
use ordergrid_domain::rows::TIMER;
use ordergrid_domain::{Command, Entry, Key, Order, Outcome, Rejection, RowKey, Timestamp, UserId, stored};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use ractor::ActorRef;
use tokio::sync::{oneshot, watch};

use super::landings::Landings;
use super::proposal::{Proposal, Reply};
use super::{ShardMessage, answer};
use crate::recovery::wholeness::Wholeness;
use crate::room::RowBudget;
use crate::rules::kept;
use crate::telemetry::metrics;

/// Entries between two looks at the memory budget.
const EVICT_EVERY: u64 = 64;
/// Steps of evicting while apply waits: about a millisecond's worth.
const EVICT_AT_ONCE: usize = 8;
/// Rows that are read make room once they take this part of the budget, and look through this part of the rows then.
const ROOM_AT_ONCE: u64 = 8;
/// Rows that a checkpoint takes while apply waits: half a millisecond's worth.
const FREEZE_AT_ONCE: usize = 512;
/// Bytes that changed while a checkpoint is under way, for each of which as much again is done at once.
const LAG_BYTES: u64 = 8 << 20;
/// Most times as much: ten milliseconds' worth.
const HASTE: u64 = 16;
/// Timers that are looked at after a checkpoint while apply waits: half a millisecond's worth.
const TIMERS_AT_ONCE: usize = 1_024;
/// Bytes of timers that are read together: some thousands, which take apply a millisecond to take in.
const TIMER_BYTES: usize = 128 << 10;
/// Rows that change faster than checkpoints are written may take so many halves of the budget. Then entries wait: a second for a
/// checkpoint, so it must be rare where memory is plenty.
const FULL: u64 = 5;
/// State hashes remembered, one per audit.
const AUDITS: usize = 16;

/// A shard's state on this node.
pub(crate) struct ShardReplica {
    config: ShardConfig,
    machine: RwLock<ShardMachine>,
    store: Arc<dyn StateStore>,
    /// Who is told of rows that cannot be read.
    whole: Arc<Wholeness>,
    /// Bytes of rows that may stay in memory.
    budget: RowBudget,
    applied: watch::Sender<u64>,
    /// (index, state hash) of the last audit entries.
    audits: Mutex<VecDeque<(u64, u64)>>,
    stages: metrics::ApplyStages,
    shown: PublishedState,
    /// The stamp of the last entry that was in the log at the start, in milliseconds.
    logged: AtomicU64,
    /// Steps of evicting that are left after a checkpoint.
    tidying: AtomicUsize,
    /// The front door of the term in which this node leads.
    front: Mutex<Option<ActorRef<ShardMessage>>>,
    /// Bytes in memory when room was made last for rows that are read.
    settled: AtomicU64,
}

/// What is asked so often that nobody should wait for the machine to hear it: as of the last change.
struct PublishedState {
    dirty_bytes: AtomicU64,
    resident_bytes: AtomicU64,
    has_undelivered: AtomicBool,
    /// Milliseconds; [`NEVER`] when nothing waits.
    due: AtomicU64,
    /// Log time in milliseconds.
    time: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl PublishedState {
    fn new() -> Self {
        Self {
            dirty_bytes: AtomicU64::new(0),
            resident_bytes: AtomicU64::new(0),
            has_undelivered: AtomicBool::new(false),
            due: AtomicU64::new(NEVER),
            time: AtomicU64::new(0),
        }
    }

    fn update(&self, machine: &ShardMachine) {
        self.dirty_bytes.store(machine.dirty_bytes(), Ordering::Release);
        self.resident_bytes.store(machine.resident_bytes(), Ordering::Release);
        self.has_undelivered.store(machine.has_undelivered(), Ordering::Release);
        self.time.store(machine.time().as_ms(), Ordering::Release);
        self.due.store(machine.due().map_or(NEVER, Timestamp::as_ms), Ordering::Release);
    }
}

impl ShardReplica {
    /// An empty replica over its store; the group calls [`Machine::reload`] before anything else.
    pub(crate) fn new(config: ShardConfig, store: Arc<dyn StateStore>, budget: RowBudget) -> Self {
        let machine = RwLock::new(ShardMachine::new(config.clone()));
        let (applied, _) = watch::channel(0);
        let (audits, stages, tidying) = (Mutex::default(), metrics::ApplyStages::new(), AtomicUsize::new(0));
        let whole = Wholeness::new(config.shard);
        Self {
            config,
            machine,
            store,
            whole: Arc::new(whole),
            budget,
            applied,
            audits,
            stages,
            shown: PublishedState::new(),
            logged: AtomicU64::new(0),
            tidying,
            settled: AtomicU64::new(0),
            front: Mutex::default(),
        }
    }

    /// The front door of a term opens, or closes.
    pub(crate) fn has_front(&self, front: Option<ActorRef<ShardMessage>>) {
        *self.front.lock() = front;
    }

    /// Tells `whole` of rows that cannot be read, as the store tells it of those that it cannot hand out.
    pub(crate) fn telling(mut self, whole: &Arc<Wholeness>) -> Self {
        self.whole = Arc::clone(whole);
        self
    }

    /// A stored row cannot be read. One of another version is not damaged: nothing is put aside, the node ends.
    pub(crate) fn unreadable(&self, key: &[u8], error: BytesError) -> StoreError {
        let what = format!("row {} cannot be read: {error}", key.escape_ascii());
        if matches!(error, BytesError::Version(_)) {
            return StoreError::new(what);
        }
        self.whole.damaged(&what);
        StoreError::damaged(what)
    }

    /// The state, for reading. Held for a moment only: apply waits for it.
    pub(crate) fn machine(&self) -> RwLockReadGuard<'_, ShardMachine> {
        self.machine.read()
    }

    /// The state, unless it is being changed just now, so that [`Self::machine`] would wait.
    pub(crate) fn machine_at_rest(&self) -> Option<RwLockReadGuard<'_, ShardMachine>> {
        self.machine.try_read()
    }

    /// Whether any message waits for its destination.
    pub(crate) fn has_undelivered(&self) -> bool {
        self.shown.has_undelivered.load(Ordering::Acquire)
    }

    /// When a tick is worth proposing, if ever: see [`ShardMachine::due`].
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let due = self.shown.due.load(Ordering::Acquire);
        (due != NEVER).then(|| Timestamp::from_ms(due))
    }

    /// Log time: the latest stamp applied, or found in the log at the start.
    pub(crate) fn log_time(&self) -> Timestamp {
        let logged = self.logged.load(Ordering::Acquire);
        Timestamp::from_ms(self.shown.time.load(Ordering::Acquire).max(logged))
    }

    /// How long idempotency records live.
    pub(crate) fn retention(&self) -> Duration {
        self.config.key_retention
    }

    /// Follows the applied index.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Where its rows are stored.
    pub(crate) fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    /// Reads from memory, loading cold rows until the answer is known.
    ///
    /// # Errors
    /// The store failed: the node stops.
    pub(crate) async fn look<T>(&self, read: impl Fn(&ShardMachine) -> Lookup<T>) -> Result<Option<T>, StoreError> {
        loop {
            let (cold, epoch) = {
                let machine = self.machine.read();
                match read(&machine) {
                    Lookup::Found(found) => return Ok(Some(found)),
                    Lookup::Absent => return Ok(None),
                    Lookup::Cold(rows) => (rows, machine.load_epoch()),
                }
            };
            self.load(cold, epoch).await?;
        }
    }

    /// What the user's key names: the first answer, a refusal for another body, or nothing.
    ///
    /// # Errors
    /// The store failed: the node stops.
    pub(crate) async fn placed_under(
        &self,
        request: &OrderRequest,
    ) -> Result<Option<Result<Answer<Arc<Order>>, Rejection>>, StoreError> {
        let used = self.look(|machine| machine.key_record(&request.user, &request.key)).await?;
        let Some(PlacedKey { order, body_hash, .. }) = used else { return Ok(None) };
        if body_hash != request.body_hash {
            return Ok(Some(Err(Rejection::KeyReused)));
        }
        let order = self.look(|machine| machine.order(order)).await?;
        let token = answer::token(self.config.shard, *self.applied.borrow());
        Ok(order.map(|order| Ok(Answer { replayed: true, ..Answer::new(Arc::new(order.as_placed()), token) })))
    }

    /// What is known of a key at once: cold only if the store may have its record.
    pub(crate) fn key_record(&self, machine: &ShardMachine, user: &UserId, key: &Key) -> Lookup<PlacedKey> {
        match machine.key_record(user, key) {
            Lookup::Cold(rows) if !rows.iter().any(|row| self.store.may_have(row.as_bytes())) => Lookup::Absent,
            known => known,
        }
    }

    /// Brings a key's record into memory, or the knowledge that there is none.
    ///
    /// # Errors
    /// The store failed: the node stops.
    pub(crate) async fn load_key(&self, user: &UserId, key: &Key) -> Result<(), StoreError> {
        self.look(|machine| machine.key_record(user, key)).await.map(drop)
    }

    /// The state hash at an audit entry, once that is applied.
    pub(crate) async fn hash_at(&self, index: u64) -> Option<u64> {
        let mut applied = self.applied();
        applied.wait_for(|applied| *applied >= index).await.ok()?;
        self.audits.lock().iter().find(|(at, _)| *at == index).map(|(_, hash)| *hash)
    }

    /// Changes the state, and shows what is new of it.
    fn change<T>(&self, change: impl FnOnce(&mut ShardMachine) -> T) -> T {
        let mut machine = self.machine.write();
        let done = change(&mut machine);
        self.shown.update(&machine);
        done
    }

    async fn load(&self, rows: Vec<RowKey>, epoch: u64) -> Result<(), StoreError> {
        let (there, absent): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| self.store.may_have(row.as_bytes()));
        let values = if there.is_empty() {
            Vec::new()
        } else {
            metrics::cold_rows_loaded(there.len());
            let keys = there.iter().map(|row| Bytes::copy_from_slice(row.as_bytes())).collect();
            self.store.get_many(keys).await?
        };
        for (row, value) in there.iter().zip(&values) {
            let Some(value) = value else { continue };
            // Apply takes a row for readable.
            stored::readable(row.as_bytes(), value).map_err(|error| self.unreadable(row.as_bytes(), error))?;
        }
        self.change(|machine| {
            for (row, value) in there.into_iter().zip(values) {
                // A row that changed hands meanwhile is looked for again (rule 28).
                machine.admit(row, value.as_deref(), epoch);
            }
            for row in absent {
                machine.admit(row, None, epoch);
            }
            self.make_room(machine);
        });
        Ok(())
    }

    /// Lets rows go that others were read into memory for; apply may not come by for long. Not with every read: rows that
    /// are being read meanwhile have to be read again (rule 28).
    fn make_room(&self, machine: &mut ShardMachine) {
        let (now, settled) = (machine.resident_bytes(), self.settled.load(Ordering::Relaxed));
        let budget = self.budget.now();
        if now <= budget || now.saturating_sub(settled) <= budget / ROOM_AT_ONCE {
            self.settled.fetch_min(now, Ordering::Relaxed);
            return;
        }
        machine.evict_step(budget, machine.eviction_steps() / ROOM_AT_ONCE as usize);
        self.settled.store(machine.resident_bytes(), Ordering::Relaxed);
    }

    /// Brings the next timers into memory, or the knowledge that there are none.
    async fn load_timers(&self, scan: &TimerScan) -> Result<(), StoreError> {
        let rows = self.store.scan(Bytes::from_static(&[TIMER]), Some(scan.after().into()), TIMER_BYTES).await?;
        metrics::cold_rows_loaded(rows.len());
        let rows = rows.iter().map(|(key, value)| (&key[..], &value[..]));
        // If a checkpoint became durable meanwhile, they are read again (rule 28).
        self.change(|machine| machine.admit_timers(scan, rows)).map(drop).map_err(|error| self.unreadable(&[TIMER], error))
    }

    async fn apply_entry(&self, at: EntryId, packed: &Packed) -> Result<(), MachineError> {
        let (entry, replies) = self.stages.unpack.time(|| Proposal::unpack(packed)).map_err(MachineError::new)?;
        let outcomes = loop {
            match self.stages.apply.time(|| self.apply_loaded(at, &entry)) {
                Ok(outcomes) => break outcomes,
                Err(Missing::Timers(scan)) => self.load_timers(&scan).await.map_err(MachineError::new)?,
                Err(Missing::Rows { rows, epoch }) => self.load(rows, epoch).await.map_err(MachineError::new)?,
            }
        };
        self.applied.send_replace(at.index);
        let (asked, came) = (entry.commands.len(), outcomes.len());
        assert!(came == asked, "three ends: {asked} commands came to {came} outcomes");
        if !replies.is_empty() {
            self.stages.reply.time(|| tell(replies, outcomes, at));
        }
        Ok(())
    }

    /// Applies the entry unless something it touches is cold, so that apply never waits inside. Looking and applying are one
    /// step under the lock: a checkpoint that ends in between could evict what was just loaded (rule 28).
    fn apply_loaded(&self, at: EntryId, entry: &Entry) -> Result<Vec<Outcome>, Missing> {
        self.change(|machine| {
            if let Some(scan) = machine.missing_timers(entry) {
                return Err(Missing::Timers(scan));
            }
            machine.warm(entry);
            let rows = machine.missing(entry, &|key| self.store.may_have(key));
            machine.admit_absent(rows.absent);
            if !rows.cold.is_empty() {
                return Err(Missing::Rows { rows: rows.cold, epoch: machine.load_epoch() });
            }
            let outcomes = machine.apply(Position { term: at.term, index: at.index }, entry);
            if entry.commands.iter().any(|command| matches!(command, Command::Repair(_))) {
                // What was found in the log at the start may be of the time that is over.
                self.logged.store(0, Ordering::Release);
            }
            if entry.commands.is_empty() {
                self.remember_hash(at.index, machine.state_hash());
            }
            // What cannot go, because it is dirty, is not looked at with every entry.
            if at.index.is_multiple_of(EVICT_EVERY) {
                machine.evict_step(self.budget.now(), EVICT_AT_ONCE);
            }
            Ok(outcomes)
        })
    }

    fn remember_hash(&self, index: u64, hash: u64) {
        let mut audits = self.audits.lock();
        if audits.len() == AUDITS {
            audits.pop_front();
        }
        audits.push_back((index, hash));
    }
}

/// How much more than usual is done at once beside apply. Each turn waits for an entry to be applied: if the entries of a
/// busy shard change more rows than a turn takes, a checkpoint never catches up, and memory and log grow.
fn haste(dirty_bytes: u64) -> usize {
    (1 + dirty_bytes / LAG_BYTES).min(HASTE) as usize
}

fn tell(replies: Vec<Reply>, outcomes: Vec<Outcome>, at: EntryId) {
    let (waiting, came) = (replies.len(), outcomes.len());
    assert!(waiting == came, "three ends: {waiting} wait for {came} outcomes");
    let mut landings = Landings::default();
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        reply.land(outcome, at, &mut landings);
    }
}

/// What an entry touches and may be in the store alone.
enum Missing {
    /// Timers that its ticks may reach.
    Timers(TimerScan),
    /// Rows, and since when they are looked for.
    Rows { rows: Vec<RowKey>, epoch: u64 },
}

impl Machine for ShardReplica {
    fn apply<'a>(&'a self, at: EntryId, entry: &'a Arc<Packed>) -> BoxFuture<'a, Result<(), MachineError>> {
        // A law that does not hold ends the group in its words, and the group the node.
        Box::pin(async move {
            let applied = kept(self.apply_entry(at, entry)).await;
            applied.unwrap_or_else(|rule| Err(MachineError::new(format!("applying {at:?} broke a rule: {rule}"))))
        })
    }

    fn freeze(&self) -> DirtyRows {
        self.change(ShardMachine::begin_checkpoint);
        DirtyRows::default()
    }

    fn freeze_more(&self, rows: &mut DirtyRows) -> bool {
        let limit = FREEZE_AT_ONCE * haste(self.dirty_bytes());
        self.change(|machine| machine.checkpoint_step(limit, &mut |key, value| rows.add(key, value)))
    }

    fn frozen_durable(&self) {
        self.change(|machine| {
            machine.checkpoint_durable();
            metrics::replica_memory(self.config.shard, machine.resident_bytes());
            self.tidying.store(machine.eviction_steps(), Ordering::Relaxed);
        });
    }

    fn tidy(&self) -> bool {
        let haste = haste(self.dirty_bytes());
        let left = self.tidying.load(Ordering::Relaxed).saturating_sub(EVICT_AT_ONCE * haste);
        self.tidying.store(left, Ordering::Relaxed);
        self.change(|machine| {
            let timers_left = machine.evict_timers(TIMERS_AT_ONCE * haste);
            machine.evict_step(self.budget.now(), EVICT_AT_ONCE * haste);
            timers_left && (left == 0 || machine.resident_bytes() <= self.budget.now())
        })
    }

    fn in_haste(&self) -> bool {
        haste(self.dirty_bytes()) > 1 || self.is_full()
    }

    fn is_full(&self) -> bool {
        self.shown.resident_bytes.load(Ordering::Acquire) > self.budget.now() / 2 * FULL
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), MachineError>> {
        Box::pin(async {
            const CHUNK_BYTES: usize = 1 << 20;
            let mut machine = ShardMachine::new(self.config.clone());
            for table in machine.resident_tables() {
                let prefix = Bytes::copy_from_slice(&[table]);
                let mut after = None;
                loop {
                    let rows = self.store.scan(prefix.clone(), after, CHUNK_BYTES).await.map_err(MachineError::new)?;
                    let Some((last, _)) = rows.last() else { break };
                    after = Some(last.clone());
                    for (key, value) in &rows {
                        machine.restore(key, value).map_err(|error| MachineError::new(self.unreadable(key, error)))?;
                    }
                }
            }
            if self.store.meta().await.map_err(MachineError::new)?.is_some() {
                machine.set_cold();
            }
            // Whoever waits for an audit entry here finds its hash, though the entry came inside the snapshot.
            let index = machine.position().index;
            self.remember_hash(index, machine.state_hash());
            self.change(|known| *known = machine);
            self.applied.send_replace(index);
            Ok(())
        })
    }

    fn logged(&self, entry: &Packed) {
        // Bytes that are no entry end the group when they are to be applied.
        if let Ok(entry) = Entry::from_bytes(entry.bytes()) {
            self.logged.store(entry.at.as_ms(), Ordering::Release);
        }
    }

    fn dirty_bytes(&self) -> u64 {
        self.shown.dirty_bytes.load(Ordering::Acquire)
    }

    fn quiesce(&self) -> BoxFuture<'_, ()> {
        let front = self.front.lock().clone();
        Box::pin(async move {
            let Some(front) = front else { return };
            let (waits, quiet) = oneshot::channel();
            if front.send_message(ShardMessage::Leave(waits)).is_ok() {
                // A front door that closes meanwhile has nothing under way either.
                quiet.await.ok();
            }
        })
    }

    fn resume(&self) {
        if let Some(front) = &*self.front.lock() {
            // One that is closing begins nothing.
            front.send_message(ShardMessage::Stay).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_domain::command::{SkuAction, SkuCommand};
    use ordergrid_domain::{Command, GroupId, SkuId, Slot, SlotOwners, Text, Timestamp};
    use ordergrid_storage::MemEngine;

    use super::*;
    use crate::adapters::state_store;
    use crate::room::RowRoom;

    /// As after a snapshot that ends at an audit entry: nobody applies that entry here any more.
    #[tokio::test]
    async fn a_reloaded_replica_knows_its_hash_where_its_rows_end() {
        let whole = Arc::new(Wholeness::new(GroupId(1)));
        let store = state_store(Arc::new(MemEngine::new()), 1, &whole).await.expect("an empty store opens");
        let slot = |number| Slot::new(number).expect("below 4,096");
        let owners = SlotOwners::from_ranges(&[(GroupId(1), slot(0), slot(4_095))]);
        let replica = || {
            ShardReplica::new(
                ShardConfig::new(GroupId(1), owners.clone()),
                Arc::clone(&store),
                RowBudget::new(u64::MAX, &RowRoom::default()),
            )
        };
        let before = replica();
        before.reload().await.expect("nothing is there");
        let audit = Entry { at: Timestamp::from_ms(5), commands: Vec::new() };
        let packed = Arc::new(Packed::from_bytes(audit.to_bytes().into()));
        before.apply(EntryId { term: 1, index: 7 }, &packed).await.expect("an audit entry is applied");
        let mut rows = before.freeze();
        while !before.freeze_more(&mut rows) {}
        store.checkpoint(Bytes::from_static(b"meta"), rows).await.expect("the store works");

        let after = replica();
        after.reload().await.expect("the rows are readable");
        let hash = before.hash_at(7).await;
        assert!(hash.is_some() && after.hash_at(7).await == hash);
    }

    /// The group ends with an error that says so, and the node with the group: nothing panics unheard.
    #[tokio::test]
    async fn a_law_that_does_not_hold_is_an_error_of_apply_in_its_words() {
        let whole = Arc::new(Wholeness::new(GroupId(1)));
        let store = state_store(Arc::new(MemEngine::new()), 1, &whole).await.expect("an empty store opens");
        let replica = ShardReplica::new(
            ShardConfig::new(GroupId(1), SlotOwners::even(&[GroupId(1)])),
            store,
            RowBudget::new(u64::MAX, &RowRoom::default()),
        );
        let audit = Entry { at: Timestamp::from_ms(5), commands: Vec::new() };
        let packed = Arc::new(Packed::from_bytes(audit.to_bytes().into()));
        replica.apply(EntryId { term: 2, index: 7 }, &packed).await.expect("an audit entry is applied");
        for (term, index) in [(2, 7), (1, 8)] {
            let broken = replica.apply(EntryId { term, index }, &packed).await.expect_err("it is not the next one");
            assert!(broken.to_string().contains("ReplicasAgree"), "{broken}");
        }
    }

    #[tokio::test]
    async fn a_checkpoint_takes_more_at_once_the_more_changes_meanwhile() {
        let whole = Arc::new(Wholeness::new(GroupId(1)));
        let store = state_store(Arc::new(MemEngine::new()), 1, &whole).await.expect("an empty store opens");
        let slot = |number| Slot::new(number).expect("below 4,096");
        let owners = SlotOwners::from_ranges(&[(GroupId(1), slot(0), slot(4_095))]);
        let replica =
            ShardReplica::new(ShardConfig::new(GroupId(1), owners), store, RowBudget::new(u64::MAX, &RowRoom::default()));
        let put = |number: usize| {
            let sku = SkuId::new(format!("sku-{number}")).expect("short");
            let action = SkuAction::Put { name: Text::new("name").expect("short") };
            Command::Sku(Box::new(SkuCommand { sku, key: None, body_hash: 0, expect_version: None, action }))
        };
        let skus = 3 * LAG_BYTES as usize / 320;
        let change = async |index, first: usize| {
            let commands = (first..first + skus).map(put).collect();
            let packed = Packed::from_bytes(Entry { at: Timestamp::from_ms(5), commands }.to_bytes().into());
            replica.apply(EntryId { term: 1, index }, &Arc::new(packed)).await.expect("an entry is applied");
        };
        change(1, 0).await;
        let mut rows = replica.freeze();
        assert!(!replica.freeze_more(&mut rows));
        assert_eq!(rows.len(), FREEZE_AT_ONCE);
        change(2, skus).await;
        assert!(!replica.freeze_more(&mut rows));
        assert!(rows.len() >= 4 * FREEZE_AT_ONCE, "{} rows", rows.len());
    }
}
