//! Packs commands into entries: what is queued when an entry may start goes into it, so that batches grow with load and
//! nobody waits for a timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ordergrid_cluster::{EntryId, Group, GroupRef, Packed, ProposeError};
use ordergrid_domain::Command;
use ordergrid_domain::command::OrderRequest;
use ordergrid_domain::placing::NotLanded;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::callers::Caller;
use super::landings::Landings;
use super::proposal::{Proposal, Reply};
use crate::clocks::GridTime;
use crate::telemetry::metrics;

/// Pause before an entry that the leader could not take at the moment is tried again.
const PAUSE: Duration = Duration::from_millis(10);
/// Pauses before such an entry is refused: two seconds.
const PAUSES: u32 = 200;

/// Limits of a batcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Commands that may wait.
    pub(crate) queue: usize,
    /// Commands in one entry.
    pub(crate) commands: usize,
    /// Estimated bytes in one entry.
    pub(crate) bytes: usize,
    /// Entries under way; 0: as many as suit the group.
    pub(crate) entries: usize,
    /// Bytes that the log keeps in memory: entries stay there until they are applied, so another one begins only if it fits beside
    /// those that are under way. One alone always may.
    pub(crate) tail: usize,
}

/// Entries of a group that may be under way, and the least number of commands that another one beside them is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flight {
    entries: usize,
    least: usize,
    /// Bytes under way beside which another one may begin.
    bytes: usize,
}

impl Flight {
    /// As set; else a group of one replica syncs an entry while it applies the one before, and any other agrees on one at a
    /// time: those that come meanwhile are the next, which is the larger for it.
    fn of(limits: &BatchLimits, replicas: usize) -> Self {
        let bytes = limits.tail.saturating_sub(limits.bytes);
        match (limits.entries, replicas) {
            (0, 1) => Self { entries: 3, least: 16, bytes },
            (0, _) => Self { entries: 1, least: 0, bytes },
            (entries, _) => Self { entries, least: 0, bytes },
        }
    }
}

/// Lets one entry after the other begin.
struct Gate {
    flight: Flight,
    /// Commands that are in no entry yet, each hold of a command counted.
    waiting: AtomicUsize,
    under_way: AtomicUsize,
    /// Commands of the entries that are under way, and encoded bytes.
    commands: AtomicUsize,
    bytes: AtomicUsize,
    /// Another entry may be able to begin.
    ready: Notify,
}

/// An entry that has begun, until this is dropped.
struct UnderWay {
    gate: Arc<Gate>,
    commands: usize,
    bytes: usize,
}

impl Gate {
    fn new(flight: Flight) -> Self {
        let (waiting, under_way, commands, bytes) = Default::default();
        Self { flight, waiting, under_way, commands, bytes, ready: Notify::new() }
    }

    /// Begins an entry once it may and is worth it. One task alone asks; `queued` tells it how many commands wait.
    async fn open(self: &Arc<Self>, queued: impl Fn() -> usize) -> UnderWay {
        loop {
            let under_way = self.under_way.load(Ordering::Acquire);
            if under_way == 0 {
                // What an entry carries is given back before the entry ends.
                let carried = (self.commands.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire));
                assert!(carried == (0, 0), "no entry is under way, and {carried:?} commands and bytes are counted");
            }
            if under_way == 0 || self.may_begin_beside(queued()) {
                self.under_way.fetch_add(1, Ordering::AcqRel);
                return UnderWay { gate: Arc::clone(self), commands: 0, bytes: 0 };
            }
            self.ready.notified().await;
        }
    }

    /// Whether an entry of so many commands may begin beside those that are under way, and is worth it: each costs a sync, so
    /// it is not to be much smaller than they are.
    fn may_begin_beside(&self, queued: usize) -> bool {
        let Flight { entries, least, bytes } = self.flight;
        let worth_it = || least == 0 || queued >= least.max(self.commands.load(Ordering::Acquire) / 2);
        self.under_way.load(Ordering::Acquire) < entries && self.bytes.load(Ordering::Acquire) <= bytes && worth_it()
    }

    /// So many commands wait now.
    fn queued(&self, commands: usize) {
        if self.flight.least > 0 && self.may_begin_beside(commands) {
            self.ready.notify_one();
        }
    }
}

impl UnderWay {
    /// The entry has so many commands and bytes.
    fn carries(&mut self, commands: usize, bytes: usize) {
        (self.commands, self.bytes) = (commands, bytes);
        self.gate.commands.fetch_add(commands, Ordering::AcqRel);
        self.gate.bytes.fetch_add(bytes, Ordering::AcqRel);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.gate.commands.fetch_sub(self.commands, Ordering::AcqRel);
        self.gate.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.gate.under_way.fetch_sub(1, Ordering::AcqRel);
        self.gate.ready.notify_one();
    }
}

/// Commands that were queued together.
enum QueuedCommands {
    One(Command, Reply),
    Many(Vec<(Command, Reply)>),
}

impl QueuedCommands {
    fn weight(&self) -> usize {
        match self {
            Self::One(command, _) => weight(command),
            Self::Many(commands) => weight_of(commands),
        }
    }

    /// Gives what it weighs.
    fn put_into(self, queued: &mut Vec<(Command, Reply)>) -> usize {
        let weight = self.weight();
        match self {
            Self::One(command, reply) => queued.push((command, reply)),
            Self::Many(commands) => queued.extend(commands),
        }
        weight
    }

    fn fail(self, why: NotLanded) {
        let mut landings = Landings::default();
        match self {
            Self::One(_, reply) => reply.fail(why, &mut landings),
            Self::Many(commands) => commands.into_iter().for_each(|(_, reply)| reply.fail(why, &mut landings)),
        }
    }
}

/// The way into a shard's log for one term. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Batcher {
    queue: mpsc::UnboundedSender<QueuedCommands>,
    /// Most commands that may wait.
    most: usize,
    wait: Arc<metrics::BatchWait>,
    gate: Arc<Gate>,
}

impl Batcher {
    /// A batcher for one term, and its work, which ends when every clone is dropped.
    pub(crate) fn start(
        group: GroupRef,
        term: u64,
        time: Arc<GridTime>,
        limits: BatchLimits,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let wait = Arc::new(metrics::BatchWait::new());
        let gate = Arc::new(Gate::new(Flight::of(&limits, group.status().members.len())));
        let work = pack(waiting, Arc::clone(&wait), Arc::clone(&gate), group, term, time, limits);
        (Self { queue, most: limits.queue, wait, gate }, work)
    }

    /// Queues a command; its reply is told that nothing happened when the queue is full.
    pub(crate) fn propose(&self, command: Command, reply: Reply) {
        self.queue(QueuedCommands::One(command, reply));
    }

    /// Queues commands that come together, in their order: the packer takes them in one piece.
    pub(crate) fn propose_all(&self, commands: Vec<(Command, Reply)>) {
        let fits = self.gate.waiting.load(Ordering::Acquire) + weight_of(&commands) <= self.most;
        if commands.len() > 1 && fits {
            self.queue(QueuedCommands::Many(commands));
        } else {
            // Those that find no room are refused, not all of them.
            commands.into_iter().for_each(|(command, reply)| self.propose(command, reply));
        }
    }

    fn queue(&self, commands: QueuedCommands) {
        self.wait.begins();
        let weight = commands.weight();
        let waiting = self.gate.waiting.fetch_add(weight, Ordering::AcqRel) + weight;
        let sent =
            if waiting > self.most.max(weight) { Err(commands) } else { self.queue.send(commands).map_err(|unsent| unsent.0) };
        if let Err(refused) = sent {
            self.gate.waiting.fetch_sub(weight, Ordering::AcqRel);
            metrics::batcher_refused();
            refused.fail(NotLanded::NotAppended);
        }
        self.gate.queued(waiting);
    }

    /// Queues a command and waits for its outcome. Dropping the future changes nothing: the command stays queued.
    pub(crate) async fn ask(&self, command: Command) -> Result<super::proposal::Landed, NotLanded> {
        let (caller, answer) = Caller::one();
        self.propose(command, Reply::Caller(caller));
        answer.await.unwrap_or(Err(NotLanded::Unknown))
    }
}

async fn pack(
    mut waiting: mpsc::UnboundedReceiver<QueuedCommands>,
    wait: Arc<metrics::BatchWait>,
    gate: Arc<Gate>,
    group: GroupRef,
    term: u64,
    time: Arc<GridTime>,
    limits: BatchLimits,
) {
    let (mut queued, mut room) = (Vec::with_capacity(limits.commands), Vec::new());
    let meters = metrics::EntryMeters::new();
    loop {
        let mut under_way = gate.open(|| gate.waiting.load(Ordering::Acquire)).await;
        let mut taken = weight_of(&queued);
        if queued.is_empty() {
            let Some(first) = waiting.recv().await else { return };
            taken += first.put_into(&mut queued);
            // The first command wakes this task before whatever else is ready to run: let that queue its commands too.
            tokio::task::yield_now().await;
        }
        while taken < limits.commands {
            let Ok(next) = waiting.try_recv() else { break };
            taken += next.put_into(&mut queued);
        }
        wait.ends();
        let late = refuse_late(&mut queued, Instant::now());
        gate.waiting.fetch_sub(late, Ordering::AcqRel);
        if queued.is_empty() {
            continue;
        }
        let fitting = fitting(&queued, &limits);
        let (commands, replies): (Vec<_>, Vec<_>) = queued.drain(..fitting).unzip();
        let carried = commands.iter().map(weight).sum();
        gate.waiting.fetch_sub(carried, Ordering::AcqRel);
        meters.proposed(commands.len());
        let packed = meters.pack.time(|| Proposal::pack(time.now(), commands, replies, &mut room));
        under_way.carries(carried, packed.bytes().len());
        let applied = group.propose(term, Arc::clone(&packed));
        let group = Arc::clone(&group);
        tokio::spawn(async move {
            let result = settle(&*group, term, &packed, applied.await).await;
            drop(under_way);
            match result {
                Ok(_) => {}
                Err(failed) if failed.outcome_unknown() => Proposal::fail(&packed, NotLanded::Unknown),
                Err(_) => Proposal::fail(&packed, NotLanded::NotAppended),
            }
        });
    }
}

/// What waited until it is of no use to anybody is not begun. Gives what it weighs.
fn refuse_late(queued: &mut Vec<(Command, Reply)>, now: Instant) -> usize {
    if queued.iter().all(|(_, reply)| !reply.is_late(now)) {
        return 0;
    }
    let (mut landings, mut late) = (Landings::default(), 0);
    for (command, reply) in queued.extract_if(.., |(_, reply)| reply.is_late(now)) {
        late += weight(&command);
        metrics::batcher_refused();
        reply.fail(NotLanded::TooLate, &mut landings);
    }
    late
}

/// Tries again while this leader only pauses (a stalled fsync, a quorum that is late): nothing was appended.
async fn settle(
    group: &dyn Group,
    term: u64,
    packed: &Arc<Packed>,
    mut result: Result<EntryId, ProposeError>,
) -> Result<EntryId, ProposeError> {
    for _ in 0..PAUSES {
        if !matches!(result, Err(ProposeError::NotReady | ProposeError::Busy)) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        result = group.propose(term, Arc::clone(packed)).await;
    }
    result
}

/// How many of the queued commands fit into one entry: at least one.
fn fitting(queued: &[(Command, Reply)], limits: &BatchLimits) -> usize {
    let (mut commands, mut bytes) = (0, 0);
    let within = queued.iter().take_while(|(command, _)| {
        commands += weight(command);
        bytes += size_of_command(command);
        commands <= limits.commands && bytes <= limits.bytes
    });
    within.count().max(1)
}

/// How many commands a command counts for.
fn weight(command: &Command) -> usize {
    match command {
        Command::Holds(holds) => holds.rows.len(),
        _ => 1,
    }
}

fn weight_of(commands: &[(Command, Reply)]) -> usize {
    commands.iter().map(|(command, _)| weight(command)).sum()
}

/// Most holds that one command may ask for, so that an entry has room for it.
pub(crate) fn holds_in_one_entry(limits: &BatchLimits) -> usize {
    (limits.bytes.saturating_sub(FIXED) / HOLD).min(limits.commands).max(1)
}

/// What a command takes beside its parts.
const FIXED: usize = 96;
/// What a hold takes beside others.
const HOLD: usize = 48;

/// A cheap estimate of the encoded size of a request to place an order. What clients may make large is counted.
pub(crate) fn bytes_of_request(request: &OrderRequest) -> usize {
    let pairs: usize = request.metadata.iter().map(|(name, value)| name.as_str().len() + value.as_str().len()).sum();
    FIXED + 80 * request.lines.len() + pairs
}

/// A cheap estimate of a command's encoded size.
fn size_of_command(command: &Command) -> usize {
    match command {
        Command::Place(place) | Command::PlaceLocal(place) => {
            let names: usize = place.names.iter().map(|name| name.as_str().len()).sum();
            bytes_of_request(&place.request) + names
        }
        Command::Release(release) => FIXED + 24 * release.skus.len(),
        Command::Gone(holds) => FIXED + 48 * holds.len(),
        Command::Deliver(run) => FIXED + 128 * run.messages.len(),
        Command::Claims(claims) => FIXED + 64 * claims.orders.len(),
        Command::Holds(holds) => FIXED + HOLD * holds.rows.len(),
        Command::Order(_) | Command::Sku(_) | Command::Hold(_) | Command::Trim { .. } | Command::Tick | Command::Repair(_) => {
            FIXED
        }
        Command::Restart(_) | Command::Agree { .. } => FIXED,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use ordergrid_domain::command::{HoldAsked, Holds};
    use ordergrid_domain::{GroupId, Quantity, Timestamp};

    use super::*;

    /// Entries of a mebibyte, and so much of a tail.
    fn limits(entries: usize, tail: usize) -> BatchLimits {
        BatchLimits { queue: 1, commands: 1, bytes: 1 << 20, entries, tail }
    }

    #[test]
    fn an_entry_begins_beside_others_if_the_tail_can_take_it_too() {
        // Entries that may be under way, bytes of the tail; bytes of each that begins, and how many do.
        for (entries, tail, bytes, begin) in [
            (9, 0, 100, 1),
            (9, 1 << 20, 100, 1),
            (9, 1 << 20, 32 << 20, 1),
            (9, (1 << 20) + 99, 100, 1),
            (9, (1 << 20) + 100, 100, 2),
            (9, 4 << 20, 1 << 20, 4),
            (3, 8 << 20, 1 << 20, 3),
        ] {
            let gate = Arc::new(Gate::new(Flight::of(&limits(entries, tail), 3)));
            let mut begun = Vec::new();
            while let Some(mut entry) = gate.open(|| 1).now_or_never() {
                entry.carries(1, bytes);
                begun.push(entry);
            }
            assert_eq!(begun.len(), begin, "{entries} entries of {bytes} bytes, a tail of {tail}");
            drop(begun);
            assert_eq!(gate.bytes.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    #[should_panic(expected = "no entry is under way, and (0, 5) commands and bytes are counted")]
    fn what_an_entry_carries_is_given_back_with_it() {
        let gate = Arc::new(Gate::new(Flight::of(&limits(1, 0), 1)));
        gate.bytes.store(5, Ordering::Relaxed);
        drop(gate.open(|| 1).now_or_never());
    }

    #[test]
    fn an_entry_begins_beside_others_if_it_may_and_is_worth_it() {
        // entries set, replicas; what may begin in turn, with so many queued, and then takes them
        for (entries, replicas, turns) in [
            (0, 1, [(0, true), (15, false), (16, true), (9, false), (17, true), (999, false)]),
            (0, 1, [(600, true), (299, false), (300, true), (449, false), (450, true), (999, false)]),
            (0, 3, [(0, true), (1, false), (999, false), (999, false), (999, false), (999, false)]),
            (2, 3, [(0, true), (0, true), (1, false), (999, false), (999, false), (999, false)]),
        ] {
            let gate = Arc::new(Gate::new(Flight::of(&limits(entries, 8 << 20), replicas)));
            let mut begun = Vec::new();
            for (queued, begins) in turns {
                let mut next = gate.open(|| queued).now_or_never();
                assert_eq!(next.is_some(), begins, "{entries} entries, {replicas} replicas, {queued} queued");
                next.iter_mut().for_each(|entry| entry.carries(queued, 0));
                begun.extend(next);
            }
            drop(begun);
            assert_eq!((gate.under_way.load(Ordering::Relaxed), gate.commands.load(Ordering::Relaxed)), (0, 0));
        }
    }

    #[tokio::test]
    async fn an_entry_that_waits_begins_when_another_ends_or_enough_is_queued() {
        let gate = Arc::new(Gate::new(Flight::of(&limits(0, 8 << 20), 1)));
        let queued = AtomicUsize::new(1);
        let first = gate.open(|| 1).await;
        let mut next = Box::pin(gate.open(|| queued.load(Ordering::Relaxed)));
        assert!((&mut next).now_or_never().is_none());
        drop(first);
        let second = next.await;
        let mut next = Box::pin(gate.open(|| queued.load(Ordering::Relaxed)));
        assert!((&mut next).now_or_never().is_none());
        queued.store(16, Ordering::Relaxed);
        gate.queued(15);
        assert!((&mut next).now_or_never().is_none());
        gate.queued(16);
        drop((next.await, second));
    }

    #[test]
    fn an_entry_takes_what_fits_and_at_least_one_command() {
        let ticks = |count: usize| -> Vec<_> { (0..count).map(|_| (Command::Tick, Reply::Nobody)).collect() };
        let one = size_of_command(&Command::Tick);
        #[rustfmt::skip]
        let cases = [
            // queued, bytes,       taken
            (1,        usize::MAX,  1),
            (5,        5 * one,     5),
            (5,        5 * one - 1, 4),
            (5,        one,         1),
            (5,        0,           1),
        ];
        for (queued, bytes, taken) in cases {
            let limits = BatchLimits { bytes, commands: 1_000, ..limits(1, 0) };
            assert_eq!(fitting(&ticks(queued), &limits), taken, "{queued} queued, {bytes} bytes");
        }
    }

    #[test]
    fn each_hold_of_a_command_counts() {
        let holds = |count: usize| {
            let slot = ordergrid_domain::Slot::new(1).unwrap();
            let sku = ordergrid_domain::SkuId::new("A").unwrap();
            let row = HoldAsked { slot, counter: 1, sku, quantity: Quantity(1) };
            let holds = Holds { group: GroupId(1), term: 1, valid_until: Timestamp::from_ms(0), rows: vec![row; count] };
            (Command::Holds(holds), Reply::Nobody)
        };
        let queued = [holds(60), (Command::Tick, Reply::Nobody), holds(39), holds(1)];
        assert_eq!(weight_of(&queued), 101);
        for (commands, taken) in [(101, 4), (100, 3), (99, 2), (60, 1), (1, 1)] {
            let limits = BatchLimits { bytes: usize::MAX, commands, ..limits(1, 0) };
            assert_eq!(fitting(&queued, &limits), taken, "{commands} commands in an entry");
            assert_eq!(holds_in_one_entry(&limits), commands);
        }
        for bytes in [0, FIXED, FIXED + HOLD, FIXED + 100 * HOLD] {
            let limits = BatchLimits { bytes, commands: usize::MAX, ..limits(1, 0) };
            let most = holds_in_one_entry(&limits);
            assert!(most == 1 || size_of_command(&holds(most).0) <= bytes, "{most} holds in {bytes} bytes");
        }
    }
}
