//! Streams of messages between shards (rules 16 to 20): numbered by the source, applied in order and once by the
//! destination, kept by the source until the destination has told that it applied them.

use std::collections::{BTreeMap, BTreeSet};

use super::ShardMachine;
use super::kept::KeptNow;
use crate::command::{Deliver, HeldPart, KeptList, Message, Outcome};
use crate::ids::{AttemptId, GroupId, OrderId, SkuId};
use crate::money::Quantity;
use crate::rejection::Rejection;
use crate::rows::keys::{From, OutboxKey, To};
use crate::rows::kinds::{AttemptRow, StreamIn, StreamOut};
use crate::sku::stock::BucketSums;

/// Where an outgoing stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The destination.
    pub to: GroupId,
    /// The number that the next message will have; numbers start at 1.
    pub next: u64,
    /// Highest number that the destination has told to be applied.
    pub trimmed: u64,
}

impl Stream {
    /// Messages that the destination has not told to be applied.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.next - 1 - self.trimmed
    }
}

/// Rule 20: the destination asks for messages that it had told to be applied: it was restored from something older.
/// Raise an alarm and stop the stream; never skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group {to} wants message {wanted} again, which was trimmed up to {trimmed}: it was restored from something older")]
pub struct BelowTrim {
    /// The destination.
    pub to: GroupId,
    /// The number that it wants.
    pub wanted: u64,
    /// Highest number trimmed.
    pub trimmed: u64,
}

impl ShardMachine {
    /// Rule 17: a run that starts above the next number is refused whole; numbers applied before are skipped one by one.
    pub(super) fn deliver(&mut self, run: &Deliver) -> Result<Outcome, Rejection> {
        if run.from == self.config.shard {
            return Err(Rejection::WrongShard);
        }
        let before = self.high(run.from);
        let mut high = before;
        if run.first > high + 1 {
            return Err(Rejection::StreamGap { first: run.first, next: high + 1 });
        }
        for (number, message) in (run.first..).zip(&run.messages) {
            if number == high + 1 {
                high = number;
                self.receive(message);
                self.receive_local();
            }
        }
        let sent = run.messages.len() as u64;
        assert!(
            high >= before && high - before <= sent,
            "rule 17: of {sent} messages after {before}, {high} is the last applied"
        );
        self.streams_in.put(From(run.from), StreamIn { high });
        Ok(Outcome::Delivered { high })
    }

    /// Rule 17: trim takes the maximum. A destination that is ahead of us means that we were restored from something
    /// older: refused, like a gap.
    pub(super) fn trim(&mut self, to: GroupId, high: u64) -> Result<Outcome, Rejection> {
        let mut stream = self.stream_out(to);
        if high >= stream.next {
            return Err(Rejection::StreamGap { first: high, next: stream.next });
        }
        while stream.trimmed < high {
            stream.trimmed += 1;
            let message =
                self.outbox.remove(&OutboxKey { to, number: stream.trimmed }).expect("what is not trimmed is in the outbox");
            self.forget_sent(&message);
        }
        self.streams_out.put(To(to), stream);
        Ok(Outcome::Done)
    }

    /// Rule 16: who is placed is known until every message that keeps its holds has been trimmed. A list of kept attempts says so
    /// itself while it is here; claims have an index.
    pub(super) fn forget_sent(&mut self, message: &Message) {
        let (Message::Keep { attempt, .. } | Message::Claim { attempt, .. }) = message else { return };
        let attempt = *attempt;
        let mut row = *self.attempts.get(&attempt).expect("an untrimmed keep has its attempt indexed");
        assert!(row.outstanding > 0, "rule 16: a keep of {attempt:?} is trimmed twice");
        row.outstanding -= 1;
        if row.outstanding == 0 {
            self.attempts.remove(&attempt);
        } else {
            self.attempts.put(attempt, row);
        }
    }

    /// Sends a message: to another shard through its stream, to this one at the end of the command.
    pub(super) fn post(&mut self, to: GroupId, message: Message) {
        if to == self.config.shard {
            self.local.push_back(message);
            return;
        }
        if let Message::Keep { attempt, order, .. } | Message::Claim { attempt, order, .. } = &message {
            let outstanding = self.attempts.get(attempt).map_or(0, |row| row.outstanding) + 1;
            self.attempts.put(*attempt, AttemptRow { order: *order, outstanding });
        }
        let mut stream = self.stream_out(to);
        assert!(stream.trimmed < stream.next, "rule 17: a stream is trimmed beyond its end: {stream:?}");
        self.outbox.put(OutboxKey { to, number: stream.next }, message);
        stream.next += 1;
        self.streams_out.put(To(to), stream);
    }

    /// Applies what this shard has told itself, in the order of telling.
    pub(super) fn receive_local(&mut self) {
        while let Some(message) = self.local.pop_front() {
            self.receive(&message);
        }
    }

    /// Rule 18: every message is total.
    fn receive(&mut self, message: &Message) {
        match message {
            Message::Decided(decided) => self.decided(decided),
            Message::Keep { attempt, order, committed, items } => {
                let mut now = KeptNow::default();
                for (sku, quantity) in items {
                    let missing = self.keep(&mut now, *attempt, *order, *committed, sku, *quantity);
                    self.fall_short(*order, sku, missing);
                }
                self.remember_kept(now);
            }
            Message::Commit { attempt, skus } => {
                self.change_holds(skus, |sku| sku, |m, sums, sku| m.commit(sums, *attempt, sku))
            }
            Message::Commits(holds) => {
                self.change_holds(holds, |(sku, _)| sku, |m, sums, (sku, attempt)| m.commit(sums, *attempt, sku));
            }
            Message::Free { attempt, items } => {
                self.change_holds(items, |(sku, _)| sku, |m, sums, (sku, quantity)| m.free(sums, *attempt, sku, *quantity));
            }
            Message::Frees(parts) => {
                let free = |m: &mut Self, sums: &mut _, part: &HeldPart| m.free(sums, part.attempt, &part.sku, part.quantity);
                self.change_holds(parts, |part| &part.sku, free);
            }
            Message::Release(release) => self.released(release),
            Message::Ship { attempt, items } => {
                self.change_holds(items, |(sku, _)| sku, |m, sums, (sku, quantity)| m.ship(sums, *attempt, sku, *quantity));
            }
            Message::Ships(parts) => {
                let ship = |m: &mut Self, sums: &mut _, part: &HeldPart| m.ship(sums, part.attempt, &part.sku, part.quantity);
                self.change_holds(parts, |part| &part.sku, ship);
            }
            Message::Shortfall { order, sku, missing } => self.shortfall(*order, sku, *missing),
            Message::Claim { attempt, order, committed, items } => {
                for claimed in items {
                    let missing = self.claim(*attempt, *order, *committed, claimed);
                    self.fall_short(*order, &claimed.sku, missing);
                }
            }
        }
    }

    /// Changes holds one by one, and the buckets of each SKU once for all of its holds that stand together.
    fn change_holds<T>(&mut self, parts: &[T], sku: impl Fn(&T) -> &SkuId, change: impl Fn(&mut Self, &mut BucketSums, &T)) {
        let mut sums = BucketSums::default();
        for of_one in parts.chunk_by(|one, other| sku(one) == sku(other)) {
            of_one.iter().for_each(|part| change(self, &mut sums, part));
            self.settle(sku(&of_one[0]), &mut sums);
        }
    }

    /// Attempts are orders now, or have lost.
    fn decided(&mut self, decided: &KeptList) {
        let (mut now, mut items) = (KeptNow::default(), decided.items.iter());
        for kept in &decided.kept {
            for (sku, quantity) in items.by_ref().take(kept.items as usize) {
                let missing = self.keep(&mut now, kept.attempt, kept.order, kept.committed, sku, *quantity);
                self.fall_short(kept.order, sku, missing);
            }
        }
        self.remember_kept(now);
        decided.released.iter().for_each(|release| self.released(release));
    }

    fn fall_short(&mut self, order: OrderId, sku: &SkuId, missing: Quantity) {
        if missing > Quantity::ZERO
            && let Some(to) = self.owner(order.slot())
        {
            self.post(to, Message::Shortfall { order, sku: sku.clone(), missing });
        }
    }

    /// Highest number applied of the stream from another shard. Told only from applied state (rule 17).
    #[must_use]
    pub fn high(&self, from: GroupId) -> u64 {
        self.streams_in.get(&From(from)).map_or(0, |stream| stream.high)
    }

    /// Whether any message waits for its destination to confirm it.
    #[must_use]
    pub fn has_undelivered(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Every outgoing stream, ordered by destination.
    pub fn streams(&self) -> impl Iterator<Item = Stream> + '_ {
        self.streams_out.iter().map(|(to, stream)| Stream { to: to.0, next: stream.next, trimmed: stream.trimmed })
    }

    /// A run to deliver: messages from `first` on, at least one, until `messages` or about `bytes` are reached. `None`
    /// when there is nothing from that number on.
    ///
    /// # Errors
    /// Rule 20: the destination wants what it had told to be applied. Raise an alarm and stop the stream.
    pub fn outbox(&self, to: GroupId, first: u64, messages: usize, bytes: usize) -> Result<Option<Deliver>, BelowTrim> {
        let stream = self.stream_out(to);
        if first <= stream.trimmed {
            return Err(BelowTrim { to, wanted: first, trimmed: stream.trimmed });
        }
        let (mut run, mut size) = (Vec::new(), 0);
        let key = |number| OutboxKey { to, number };
        for ((found, message), expected) in self.outbox.range(key(first)..key(stream.next.max(first))).zip(first..) {
            assert!(found.number == expected, "rule 17: message {expected} to group {to} is missing, {} follows", found.number);
            size += weight(message);
            if !run.is_empty() && (run.len() >= messages || size > bytes) {
                break;
            }
            run.push(message.clone());
        }
        let deliver = Deliver { from: self.config.shard, first, messages: run };
        Ok((!deliver.messages.is_empty()).then_some(deliver))
    }

    pub(super) fn stream_out(&self, to: GroupId) -> StreamOut {
        self.streams_out.get(&To(to)).copied().unwrap_or_default()
    }

    /// The order that an attempt became, while anybody may ask (rules 14 and 16). Known of orders with SKUs in other
    /// shards only: those in this one were kept in the same entry.
    #[must_use]
    pub fn placed(&self, attempt: AttemptId) -> Option<OrderId> {
        self.placed_among([attempt].into()).pop_first().map(|(_, order)| order)
    }

    /// Those of many attempts that became orders. All of what was told and is not trimmed is looked through: ask about many at once.
    #[must_use]
    pub fn placed_among(&self, attempts: BTreeSet<AttemptId>) -> BTreeMap<AttemptId, OrderId> {
        let mut placed = BTreeMap::new();
        if attempts.is_empty() {
            return placed;
        }
        for (_, message) in self.outbox.iter() {
            if let Message::Decided(decided) = message {
                let kept = decided.kept.iter().filter(|kept| attempts.contains(&kept.attempt));
                placed.extend(kept.map(|kept| (kept.attempt, kept.order)));
            }
        }
        placed.extend(attempts.iter().filter_map(|attempt| Some((*attempt, self.attempts.get(attempt)?.order))));
        placed
    }
}

/// Rough size of a message on the wire.
fn weight(message: &Message) -> usize {
    48 * match message {
        Message::Decided(KeptList { kept, items, released }) => {
            1 + kept.len() + items.len() + released.iter().map(|release| 1 + release.skus.len()).sum::<usize>()
        }
        Message::Commits(holds) => 1 + holds.len(),
        Message::Frees(parts) | Message::Ships(parts) => 1 + parts.len(),
        Message::Keep { items, .. } | Message::Free { items, .. } | Message::Ship { items, .. } => 1 + items.len(),
        Message::Commit { skus, .. } => 1 + skus.len(),
        Message::Release(release) => 1 + release.skus.len(),
        Message::Claim { items, .. } => 1 + items.len(),
        Message::Shortfall { .. } => 2,
    }
}
