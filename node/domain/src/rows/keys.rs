//! How keys are written. Numbers are big-endian, so that the store orders them; texts hold no control characters, so
//! a zero byte ends one.

use ordergrid_rows::{ListKey, TableKey};

use super::{
    ATTEMPT, HOLD, KEPT, LIST, MARK, ORDER, OUTBOX, PLACED, REFERENCE, REPAIR, RowKey, SKU, SKU_KEY, STREAM_IN, STREAM_OUT,
    TIMER,
};
use crate::encoding::BytesError;
use crate::ids::{AttemptId, GroupId, Key, OrderId, Reference, SkuId, Slot, UserId};
use crate::order::TimerKind;
use crate::time::Timestamp;

pub(crate) fn order(id: OrderId) -> RowKey {
    RowKey::of(ORDER, &[&id.0.to_be_bytes()])
}

pub(crate) fn sku(id: &SkuId) -> RowKey {
    RowKey::of(SKU, &[id.as_str().as_bytes()])
}

pub(crate) fn hold(attempt: AttemptId, sku: &SkuId) -> RowKey {
    RowKey::of(HOLD, &[&attempt_bytes(attempt), sku.as_str().as_bytes()])
}

pub(crate) fn placed(user: &UserId, key: &Key) -> RowKey {
    pair(PLACED, user.as_str(), key.as_str())
}

/// An order in the list of its user. Ids count down, so that the newest comes first.
pub(crate) fn list(user: &UserId, order: OrderId) -> RowKey {
    RowKey::of(LIST, &[user.as_str().as_bytes(), &[0], &(!order.0).to_be_bytes()])
}

/// Begins the name of a list that is of a reference: no id of a user begins with a control character.
pub(crate) const BY_REFERENCE: u8 = 1;

/// How the list of a reference begins, in which the orders of all users are.
pub(crate) fn list_by_reference(reference: &[u8]) -> RowKey {
    RowKey::of(LIST, &[&[BY_REFERENCE], reference, &[0]])
}

/// An order in the list of its reference.
pub(crate) fn by_reference(reference: &[u8], order: OrderId) -> RowKey {
    RowKey::of(LIST, &[&[BY_REFERENCE], reference, &[0], &(!order.0).to_be_bytes()])
}

/// The reference in the key of a row of [`REFERENCE`].
pub(crate) fn reference_part(key: &[u8]) -> Result<&[u8], BytesError> {
    key.iter().position(|byte| *byte == 0).map(|end| &key[end + 1..]).ok_or(BytesError::Key)
}

/// User and order of a row in a list.
pub(crate) fn listed(key: &[u8]) -> Result<(&str, OrderId), BytesError> {
    let (name, order) = key.split_last_chunk::<8>().ok_or(BytesError::Key)?;
    let [LIST, user @ .., 0] = name else { return Err(BytesError::Key) };
    let user = std::str::from_utf8(user).map_err(|_| BytesError::Key)?;
    Ok((user, OrderId(!u64::from_be_bytes(*order))))
}

pub(crate) fn reference(user: &UserId, reference: &Reference) -> RowKey {
    pair(REFERENCE, user.as_str(), reference.as_str())
}

pub(crate) fn sku_key(sku: &SkuId, key: &Key) -> RowKey {
    pair(SKU_KEY, sku.as_str(), key.as_str())
}

fn pair(tag: u8, first: &str, second: &str) -> RowKey {
    RowKey::of(tag, &[first.as_bytes(), &[0], second.as_bytes()])
}

/// Term and counter first: the attempts of a term follow each other in time.
fn attempt_bytes(attempt: AttemptId) -> [u8; 22] {
    let mut bytes = [0; 22];
    bytes[..8].copy_from_slice(&attempt.term.to_be_bytes());
    bytes[8..16].copy_from_slice(&attempt.counter.to_be_bytes());
    bytes[16..20].copy_from_slice(&attempt.group.0.to_be_bytes());
    bytes[20..].copy_from_slice(&(attempt.slot.index() as u16).to_be_bytes());
    bytes
}

/// A timer: when it is due, of which order it is, and which of its timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    pub(crate) due: Timestamp,
    pub(crate) order: OrderId,
    pub(crate) kind: TimerKind,
}

impl TableKey for TimerKey {
    const TAG: u8 = TIMER;

    fn write(&self) -> RowKey {
        let parts = (self.due.as_ms().to_be_bytes(), self.order.0.to_be_bytes(), [timer_byte(self.kind)]);
        RowKey::of(Self::TAG, &[&parts.0, &parts.1, &parts.2])
    }

    fn parse(key: &[u8]) -> Result<Self, BytesError> {
        let mut parts = Parts(&key[1..]);
        let (due, order, kind) = (Timestamp::from_ms(parts.u64()?), OrderId(parts.u64()?), timer_kind(parts.u8()?)?);
        parts.end()?;
        Ok(Self { due, order, kind })
    }
}

impl ordergrid_rows::TimerKey for TimerKey {
    type Time = Timestamp;
    const FIRST: Self = Self { due: Timestamp::from_ms(0), order: OrderId(0), kind: TimerKind::PaymentDeadline };
    const BYTES: u64 = 20;

    fn due(&self) -> Timestamp {
        self.due
    }

    fn following(&self) -> Self {
        match self.kind {
            TimerKind::PaymentDeadline => Self { kind: TimerKind::AutoComplete, ..*self },
            TimerKind::AutoComplete => {
                let order = OrderId(self.order.0.saturating_add(1));
                Self { due: self.due, order, kind: TimerKind::PaymentDeadline }
            }
        }
    }
}

/// The list of a user: an order is an entry.
#[derive(Debug)]
pub(crate) struct ListedOrder;

impl ListKey for ListedOrder {
    const TAG: u8 = LIST;
    const ENTRY_BYTES: usize = 8;

    fn check(key: &[u8]) -> Result<(), BytesError> {
        listed(key).map(drop)
    }
}

fn timer_byte(kind: TimerKind) -> u8 {
    match kind {
        TimerKind::PaymentDeadline => 0,
        TimerKind::AutoComplete => 1,
    }
}

fn timer_kind(byte: u8) -> Result<TimerKind, BytesError> {
    match byte {
        0 => Ok(TimerKind::PaymentDeadline),
        1 => Ok(TimerKind::AutoComplete),
        _ => Err(BytesError::Key),
    }
}

/// A message: to whom, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OutboxKey {
    pub(crate) to: GroupId,
    pub(crate) number: u64,
}

impl TableKey for OutboxKey {
    const TAG: u8 = OUTBOX;

    fn write(&self) -> RowKey {
        RowKey::of(Self::TAG, &[&self.to.0.to_be_bytes(), &self.number.to_be_bytes()])
    }

    fn parse(key: &[u8]) -> Result<Self, BytesError> {
        let mut parts = Parts(&key[1..]);
        let (to, number) = (GroupId(parts.u32()?), parts.u64()?);
        parts.end()?;
        Ok(Self { to, number })
    }
}

/// The other end of an outgoing stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct To(pub(crate) GroupId);

/// The other end of an incoming stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct From(pub(crate) GroupId);

macro_rules! group_key {
    ($name:ident, $tag:expr) => {
        impl TableKey for $name {
            const TAG: u8 = $tag;

            fn write(&self) -> RowKey {
                RowKey::of(Self::TAG, &[&self.0.0.to_be_bytes()])
            }

            fn parse(key: &[u8]) -> Result<Self, BytesError> {
                let mut parts = Parts(&key[1..]);
                let key = Self(GroupId(parts.u32()?));
                parts.end()?;
                Ok(key)
            }
        }
    };
}

group_key!(To, STREAM_OUT);
group_key!(From, STREAM_IN);

impl TableKey for AttemptId {
    const TAG: u8 = ATTEMPT;

    fn write(&self) -> RowKey {
        RowKey::of(Self::TAG, &[&attempt_bytes(*self)])
    }

    fn parse(key: &[u8]) -> Result<Self, BytesError> {
        let mut parts = Parts(&key[1..]);
        let key = parts.attempt()?;
        parts.end()?;
        Ok(key)
    }
}

/// What an attempt did to which SKU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MarkKey {
    pub(crate) attempt: AttemptId,
    pub(crate) sku: SkuId,
}

impl MarkKey {
    pub(crate) fn new(attempt: AttemptId, sku: &SkuId) -> Self {
        Self { attempt, sku: sku.clone() }
    }
}

impl TableKey for MarkKey {
    const TAG: u8 = MARK;

    fn write(&self) -> RowKey {
        RowKey::of(Self::TAG, &[&attempt_bytes(self.attempt), self.sku.as_str().as_bytes()])
    }

    fn parse(key: &[u8]) -> Result<Self, BytesError> {
        let (attempt, sku) = hold_parts(key)?;
        Ok(Self { attempt, sku })
    }
}

/// A block of attempts of one term: those whose counters differ in their last six bits alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeptKey {
    pub(crate) group: GroupId,
    pub(crate) term: u64,
    pub(crate) block: u64,
}

impl KeptKey {
    /// The block of an attempt, and the attempt's bit in it.
    pub(crate) fn of(attempt: AttemptId) -> (Self, u64) {
        let AttemptId { group, term, counter, .. } = attempt;
        (Self { group, term, block: counter / 64 }, 1 << (counter % 64))
    }
}

impl TableKey for KeptKey {
    const TAG: u8 = KEPT;

    fn write(&self) -> RowKey {
        RowKey::of(Self::TAG, &[&self.group.0.to_be_bytes(), &self.term.to_be_bytes(), &self.block.to_be_bytes()])
    }

    fn parse(key: &[u8]) -> Result<Self, BytesError> {
        let mut parts = Parts(&key[1..]);
        let (group, term, block) = (GroupId(parts.u32()?), parts.u64()?, parts.u64()?);
        parts.end()?;
        Ok(Self { group, term, block })
    }
}

/// A repair of log time, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RepairNumber(pub(crate) u32);

impl TableKey for RepairNumber {
    const TAG: u8 = REPAIR;

    fn write(&self) -> RowKey {
        RowKey::of(Self::TAG, &[&self.0.to_be_bytes()])
    }

    fn parse(key: &[u8]) -> Result<Self, BytesError> {
        let mut parts = Parts(&key[1..]);
        let key = Self(parts.u32()?);
        parts.end()?;
        Ok(key)
    }
}

/// Attempt and SKU of a mark's or a hold's key.
pub(crate) fn hold_parts(key: &[u8]) -> Result<(AttemptId, SkuId), BytesError> {
    let mut parts = Parts(&key[1..]);
    let attempt = parts.attempt()?;
    Ok((attempt, parts.rest()?))
}

/// Order id of an order's key.
pub(crate) fn order_part(key: &[u8]) -> Result<OrderId, BytesError> {
    let mut parts = Parts(&key[1..]);
    let id = OrderId(parts.u64()?);
    parts.end()?;
    Ok(id)
}

/// Takes a key apart.
struct Parts<'a>(&'a [u8]);

impl Parts<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BytesError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(BytesError::Key)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, BytesError> {
        Ok(self.take::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, BytesError> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, BytesError> {
        self.take().map(u64::from_be_bytes)
    }

    fn attempt(&mut self) -> Result<AttemptId, BytesError> {
        let (term, counter, group) = (self.u64()?, self.u64()?, self.u32()?);
        let slot = Slot::new(u16::from_be_bytes(self.take()?)).ok_or(BytesError::Key)?;
        Ok(AttemptId { slot, group: GroupId(group), term, counter })
    }

    fn rest(&mut self) -> Result<SkuId, BytesError> {
        let text = std::str::from_utf8(self.0).map_err(|_| BytesError::Key)?;
        SkuId::new(text).map_err(|_| BytesError::Key)
    }

    fn end(&self) -> Result<(), BytesError> {
        if self.0.is_empty() { Ok(()) } else { Err(BytesError::Key) }
    }
}
