//! Rows that are worked on decoded, from the first look at them on.

use std::fmt::Debug;

use bincode::BorrowDecode;

use crate::RowKey;
use crate::encoding::read_row;
use crate::maps::RowAt;
use crate::row_table::{Row, RowTable, Value, size};

/// What the rows of a [`RowTable`] are while they are worked on: one of a few kinds, each in a box.
pub trait Decoded: Debug {
    /// Writes the row's bytes into `room`, which grows as needed.
    fn encode<'a>(&self, room: &'a mut Vec<u8>) -> &'a [u8];

    /// Rough size in memory.
    fn bytes_in_memory(&self) -> u64;

    /// Rough size of the row's bytes, given its size in memory.
    fn stored_bytes(&self, in_memory: u64) -> u64;

    /// Whether it is at rest once a checkpoint has taken it: its work is over, most likely.
    fn rests(&self) -> bool;

    /// Some part of it, so that the processor has it at hand.
    fn glance(&self) -> u64;
}

/// One kind of what `D` may be.
pub trait Kind<D>: Sized + for<'a> BorrowDecode<'a, ()> {
    /// As one of the kinds.
    fn wrap(kind: Box<Self>) -> D;

    /// If it is of this kind.
    fn unwrap(decoded: D) -> Option<Box<Self>>;

    /// If it is of this kind.
    fn of(decoded: &D) -> Option<&Self>;

    /// If it is of this kind, to be changed.
    fn of_mut(decoded: &mut D) -> Option<&mut Self>;
}

impl<D: Decoded> RowTable<D> {
    /// A row, for apply: decoded and kept decoded, since it is likely to be needed again. Panics when the row could be cold.
    pub fn get<K: Kind<D>>(&mut self, key: &RowKey) -> Option<&K> {
        self.get_at(key).map(|(_, kind)| kind)
    }

    /// A row, and where it is.
    pub fn get_at<K: Kind<D>>(&mut self, key: &RowKey) -> Option<(RowAt, &K)> {
        let at = self.locate(key)?;
        let row = self.maps.at_mut(at);
        decode::<D, K>(row, &mut self.resident_bytes);
        as_kind(&row.value).map(|kind| (at, kind))
    }

    /// A row that may be cold, before apply; kept decoded for it.
    pub fn get_if_here<K: Kind<D>>(&mut self, key: &RowKey) -> Option<&K> {
        let at = self.maps.find(key).ok()?;
        let row = self.maps.at_mut(at);
        decode::<D, K>(row, &mut self.resident_bytes);
        as_kind(&row.value)
    }

    /// A row, to be changed.
    pub fn get_mut<K: Kind<D>>(&mut self, key: &RowKey) -> Option<&mut K> {
        let at = self.locate(key)?;
        self.change(at)
    }

    /// A row that was found, to be changed.
    pub fn at_mut<K: Kind<D>>(&mut self, at: RowAt) -> &mut K {
        self.change(at).expect("a row of this kind was found here")
    }

    fn change<K: Kind<D>>(&mut self, at: RowAt) -> Option<&mut K> {
        let row = self.maps.at_mut(at);
        self.checkpoint.before_change(row, &mut self.sum, &mut self.scratch);
        decode::<D, K>(row, &mut self.resident_bytes);
        let next = self.checkpoint.next();
        let Value::Decoded(decoded) = &mut row.value else { return None };
        if std::mem::replace(&mut row.changed, next) != next {
            self.dirty_bytes += row.key.as_bytes().len() as u64 + decoded.stored_bytes(decoded.bytes_in_memory());
            self.dirty.push(row.key.hash());
        }
        K::of_mut(decoded)
    }

    /// Writes a row that is being worked on.
    pub fn put_decoded<K: Kind<D>>(&mut self, key: RowKey, kind: Box<K>) {
        self.put(key, Value::Decoded(K::wrap(kind)));
    }

    /// Takes a row out, for apply. It must be put back before anything else looks at it: by [`RowTable::put_decoded`] when it has
    /// changed, else by [`RowTable::give_back`].
    pub fn take<K: Kind<D>>(&mut self, key: &RowKey) -> Option<Box<K>> {
        let at = self.locate(key)?;
        let row = self.maps.at_mut(at);
        self.checkpoint.before_change(row, &mut self.sum, &mut self.scratch);
        let value = std::mem::replace(&mut row.value, Value::Gone);
        self.resident_bytes -= size(&value);
        let kind = match value {
            Value::Gone => return None,
            Value::Bytes(bytes) => Box::new(read_row(&bytes).expect("a stored row decodes")),
            Value::Decoded(decoded) => K::unwrap(decoded).expect("a table has rows of one kind"),
        };
        self.rows[usize::from(key.tag())] -= 1;
        Some(kind)
    }

    /// Puts back a row that was taken and has not changed.
    pub fn give_back<K: Kind<D>>(&mut self, key: &RowKey, kind: Box<K>) {
        let at = self.maps.find(key).expect("what was taken has its cell");
        let value = Value::Decoded(K::wrap(kind));
        self.resident_bytes += size(&value);
        self.rows[usize::from(key.tag())] += 1;
        self.maps.at_mut(at).value = value;
    }
}

fn as_kind<D, K: Kind<D>>(value: &Value<D>) -> Option<&K> {
    if let Value::Decoded(decoded) = value { K::of(decoded) } else { None }
}

/// Decodes a row if it is at rest; mostly it is not.
#[inline]
fn decode<D: Decoded, K: Kind<D>>(row: &mut Row<D>, resident_bytes: &mut u64) {
    if let Value::Bytes(bytes) = &row.value {
        row.value = decoded::<D, K>(bytes, resident_bytes);
    }
}

#[cold]
fn decoded<D: Decoded, K: Kind<D>>(bytes: &[u8], resident_bytes: &mut u64) -> Value<D> {
    let value = Value::Decoded(K::wrap(Box::new(read_row(bytes).expect("a stored row decodes"))));
    *resident_bytes = *resident_bytes + size(&value) - bytes.len() as u64;
    value
}
