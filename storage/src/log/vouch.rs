//! Vouching: detects that the log has lost durable batches, even if the medium changes a bit of it later.
//!
//! RocksDB takes a damaged record for the end of the log, because a power loss leaves a torn end that looks the same. So each
//! batch of the log has a number, in a row of its own ([`Written`]). After each sync the latest number is stored next to the
//! log, with the last entry and the vote of each replica ([`Vouch`]). A log that ends before that number has lost batches. Each
//! replica then gets a *floor* ([`super::floor`]), durably and before anything else is written.
//!
//! The row also says which batches were durable when it was written, and what the replicas had then. So a batch found behind
//! damage shows whether that damage is a loss or the torn end of the last sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::{FrameError, Kind, open_bytes, seal_with};
use crate::engine::{Batch, Engine, EngineError};

/// The key of the row in each batch. It sorts among the records of the node.
pub(crate) const WRITTEN_KEY: &[u8] = b"\xff\xff\xff\xff\xff\xff\xff\xffwritten";

/// What a replica has: its vote and its last log id, encoded by an [`EntryCodec`](super::EntryCodec); empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReplicaMark {
    pub(super) vote: Bytes,
    pub(super) last: Bytes,
}

/// Marks by replica; `None` for a replica that was removed for good.
pub(super) type Marks = BTreeMap<u64, Option<ReplicaMark>>;

/// A vouch: the number of the last durable batch, and what the replicas had with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vouch {
    pub(crate) number: u64,
    pub(super) marks: BTreeMap<u64, ReplicaMark>,
}

/// The row in a batch: its number, the last batch that was durable when it was written, and the marks that have become durable
/// since the last such row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) number: u64,
    pub(crate) durable: u64,
    marks: Marks,
}

impl Vouch {
    /// The bytes stored next to the log.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(12 + 64 * self.marks.len());
        out.put_u64_le(self.number);
        out.put_u32_le(u32::try_from(self.marks.len()).expect("a node has few replicas"));
        self.marks.iter().for_each(|(replica, mark)| put_mark(*replica, Some(mark), &mut out));
        out.freeze()
    }

    /// Decodes bytes with a valid checksum; `None` if they have another version's format.
    pub(crate) fn decode(mut body: Bytes) -> Option<Self> {
        let number = take_u64(&mut body)?;
        let marks = take_marks(&mut body)?;
        let marks = marks.into_iter().filter_map(|(replica, mark)| Some((replica, mark?)));
        Some(Self { number, marks: marks.collect() })
    }

    /// A row was found in a batch behind damage: everything that was durable when it was written is vouched for.
    pub(crate) fn learn(&mut self, row: &Written) {
        if row.durable < self.number {
            return;
        }
        self.number = row.durable;
        for (replica, mark) in &row.marks {
            match mark {
                Some(mark) => self.marks.insert(*replica, mark.clone()),
                None => self.marks.remove(replica),
            };
        }
    }
}

impl Written {
    fn put(&self, batch: &mut Batch) {
        batch.put_with(WRITTEN_KEY, |out| {
            seal_with(Kind::WRITTEN, out, |out| {
                out.put_u64_le(self.number);
                out.put_u64_le(self.durable);
                out.put_u32_le(u32::try_from(self.marks.len()).expect("a node has few replicas"));
                self.marks.iter().for_each(|(replica, mark)| put_mark(*replica, mark.as_ref(), out));
            });
        });
    }

    /// Decodes the row in a frame.
    ///
    /// # Errors
    /// If it is damaged.
    pub(crate) fn open(frame: Bytes) -> Result<Self, FrameError> {
        let mut body = open_bytes(Kind::WRITTEN, frame)?;
        let found = body.len();
        let read = |body: &mut Bytes| {
            let (number, durable) = (take_u64(body)?, take_u64(body)?);
            Some(Self { number, durable, marks: take_marks(body)? })
        };
        read(&mut body).ok_or(FrameError::Length { needed: found + 1, found })
    }
}

fn put_mark(replica: u64, mark: Option<&ReplicaMark>, out: &mut BytesMut) {
    out.put_u64_le(replica);
    out.put_u8(u8::from(mark.is_some()));
    for field in mark.iter().flat_map(|mark| [&mark.vote, &mark.last]) {
        out.put_u16_le(u16::try_from(field.len()).expect("a vote and a log id are a few dozen bytes"));
        out.put_slice(field);
    }
}

fn take_marks(body: &mut Bytes) -> Option<Marks> {
    let count = body.try_get_u32_le().ok()?;
    (0..count).map(|_| take_mark(body)).collect()
}

fn take_mark(body: &mut Bytes) -> Option<(u64, Option<ReplicaMark>)> {
    let replica = take_u64(body)?;
    let there = body.try_get_u8().ok()? == 1;
    let mut field = || {
        let length = usize::from(body.try_get_u16_le().ok()?);
        (body.len() >= length).then(|| body.split_to(length))
    };
    let mark = if there { Some(ReplicaMark { vote: field()?, last: field()? }) } else { None };
    Some((replica, mark))
}

fn take_u64(body: &mut Bytes) -> Option<u64> {
    body.try_get_u64_le().ok()
}

/// The state that the log writer vouches for.
pub(super) struct Account {
    /// The last written batch, and the last durable one.
    number: u64,
    durable: u64,
    /// What the replicas have with the last batch.
    marks: BTreeMap<u64, ReplicaMark>,
    /// Changes since the last sync, and since the last row that reported them.
    written: Marks,
    untold: Marks,
}

impl Account {
    /// Compares the disk with the vouch. If something is missing, the replicas' floors are written first.
    pub(super) async fn open(engine: &Arc<dyn Engine>) -> Result<Self, EngineError> {
        let vouch = engine.vouched().and_then(Vouch::decode).unwrap_or_default();
        let key = Bytes::from_static(WRITTEN_KEY);
        let row = engine.get_many(vec![key]).await?.pop().flatten().map(Written::open).transpose();
        let found = row.map_err(|reason| EngineError::Damaged(format!("the number of the last batch: {reason}")))?;
        let found = found.unwrap_or_default().number;
        let mut account = Self {
            number: found.max(vouch.number),
            durable: found.max(vouch.number),
            marks: vouch.marks,
            written: Marks::new(),
            untold: Marks::new(),
        };
        if found < vouch.number {
            account.lay_floors(engine, found).await?;
        }
        Ok(account)
    }

    /// The content of the missing batches is unknown, so each replica's floor is what it had with the last one.
    async fn lay_floors(&mut self, engine: &Arc<dyn Engine>, found: u64) -> Result<(), EngineError> {
        tracing::error!(
            vouched = self.number,
            found,
            effect = "replicas whose log is too short take no part until a leader has refilled it",
            "log database shorter than vouched for"
        );
        let mut batch = Batch::new();
        for (replica, mark) in &self.marks {
            super::floor::put(&mut batch, *replica, mark);
        }
        let vouch = self.add_to(&mut batch);
        engine.write_vouched(batch, vouch).await?;
        self.synced();
        // Another flipped bit must not take the floors away.
        engine.keep().await
    }

    /// Numbers a batch that is about to be written, and returns the vouch for the time when it is durable.
    fn add_to(&mut self, batch: &mut Batch) -> Bytes {
        self.number += 1;
        assert!(self.durable < self.number, "AcknowledgedIsDurable: batch {} is durable before {}", self.durable, self.number);
        let row = Written { number: self.number, durable: self.durable, marks: std::mem::take(&mut self.untold) };
        row.put(batch);
        self.vouch()
    }

    /// Like [`add_to`](Self::add_to), with the replicas' new marks. An empty batch stays empty.
    pub(super) fn number(&mut self, batch: &mut Batch, marks: Marks) -> Bytes {
        for (replica, mark) in &marks {
            match mark {
                Some(mark) => self.marks.insert(*replica, mark.clone()),
                None => self.marks.remove(replica),
            };
        }
        self.written.extend(marks);
        if batch.is_empty() { self.vouch() } else { self.add_to(batch) }
    }

    fn vouch(&self) -> Bytes {
        Vouch { number: self.number, marks: self.marks.clone() }.encode()
    }

    /// Gives the next batch a number above this one.
    pub(super) fn raise(&mut self, number: u64) {
        self.number = self.number.max(number);
    }

    /// The number of the last durable batch.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether something was written that may not be durable.
    pub(super) fn is_ahead(&self) -> bool {
        self.durable < self.number
    }

    /// Everything written is durable.
    pub(super) fn synced(&mut self) {
        self.durable = self.number;
        self.untold.append(&mut self.written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(vote: &'static [u8], last: &'static [u8]) -> ReplicaMark {
        ReplicaMark { vote: Bytes::from_static(vote), last: Bytes::from_static(last) }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// These bytes are on disks; they never change.
    #[test]
    fn golden_bytes() {
        let vouch = Vouch { number: 258, marks: [(7, mark(b"v", b"ab"))].into() };
        assert_eq!(hex(&vouch.encode()), "020100000000000001000000070000000000000001010076020061 62".replace(' ', ""));
        assert_eq!(Vouch::decode(vouch.encode()), Some(vouch));
        let row = Written { number: 3, durable: 2, marks: [(7, None), (8, Some(mark(b"", b"l")))].into() };
        let mut batch = Batch::new();
        row.put(&mut batch);
        let Some(crate::engine::Operation::Put { key, value }) = batch.operations().next() else {
            unreachable!("one row was put")
        };
        assert_eq!(hex(key), "ffffffffffffffff7772697474656e");
        assert_eq!(hex(&value[16..]), "0300000000000000020000000000000002000000070000000000000000080000000000000001000001006c");
        assert_eq!(Written::open(Bytes::copy_from_slice(value)), Ok(row));
    }

    #[test]
    fn bytes_of_another_layout_are_no_vouch() {
        assert_eq!(Vouch::decode(Bytes::from_static(b"short")), None);
        let vouch = Vouch { number: 1, marks: [(7, mark(b"vote", b"last"))].into() }.encode();
        assert_eq!(Vouch::decode(vouch.slice(..vouch.len() - 1)), None);
    }

    #[test]
    fn a_row_behind_damage_says_what_was_durable() {
        let mut vouch = Vouch { number: 5, marks: [(7, mark(b"", b"a")), (8, mark(b"", b"a"))].into() };
        vouch.learn(&Written { number: 5, durable: 4, marks: [(7, None)].into() });
        assert_eq!(vouch.number, 5, "that was known");
        vouch.learn(&Written { number: 9, durable: 8, marks: [(7, Some(mark(b"", b"b"))), (8, None)].into() });
        assert_eq!(vouch, Vouch { number: 8, marks: [(7, mark(b"", b"b"))].into() });
    }
}
