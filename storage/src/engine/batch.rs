//! Changes that an engine applies atomically: one buffer for all keys and values, without an allocation per change.

use bytes::{BufMut, BytesMut};

use super::ShowRows;

/// Changes that are applied atomically, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Keys and values, one after the other.
    data: BytesMut,
    changes: Vec<Change>,
}

/// One change; its bytes follow those of the change before it.
#[derive(Clone, Copy, Debug)]
struct Change {
    verb: Verb,
    /// Length of the key, or of the first key of a range.
    first: u32,
    /// Length of the value, or of the end key of a range.
    second: u32,
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    Put,
    Delete,
    DeleteRange,
}

/// One change of a [`Batch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Sets the value of a key.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Removes every key from `from`, inclusive, to `to`, exclusive.
    DeleteRange {
        /// The first key.
        from: &'a [u8],
        /// The key after the last.
        to: &'a [u8],
    },
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch of the rows that `show` passes. Panics if their keys do not ascend.
    #[must_use]
    pub fn of_rows(show: ShowRows) -> Self {
        let mut batch = Self::new();
        let mut last: Option<Vec<u8>> = None;
        show(&mut |key, value| {
            assert!(last.as_ref().is_none_or(|last| last[..] < *key), "rows are shown in the order of their keys, none twice");
            last = Some(key.to_vec());
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        });
        batch
    }

    /// Sets the value of `key`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.data.reserve(key.len() + value.len());
        self.put_with(key, |out| out.put_slice(value));
    }

    /// Sets the value of `key` to the bytes that `write` appends, and returns their length.
    pub fn put_with(&mut self, key: &[u8], write: impl FnOnce(&mut BytesMut)) -> usize {
        self.data.put_slice(key);
        let start = self.data.len();
        write(&mut self.data);
        let len = self.data.len() - start;
        self.changes.push(Change { verb: Verb::Put, first: len_of(key.len()), second: len_of(len) });
        len
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &[u8]) {
        self.data.put_slice(key);
        self.changes.push(Change { verb: Verb::Delete, first: len_of(key.len()), second: 0 });
    }

    /// Removes every key from `from`, inclusive, to `to`, exclusive. No effect on an empty range.
    pub fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        if from >= to {
            return;
        }
        self.data.put_slice(from);
        self.data.put_slice(to);
        self.changes.push(Change { verb: Verb::DeleteRange, first: len_of(from.len()), second: len_of(to.len()) });
    }

    /// Appends the changes of `later`.
    pub fn append(&mut self, mut later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.data.extend_from_slice(&later.data);
        self.changes.append(&mut later.changes);
    }

    /// The changes in order.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let mut rest = &self.data[..];
        self.changes.iter().map(move |change| {
            let (first, tail) = rest.split_at(change.first as usize);
            let (second, tail) = tail.split_at(change.second as usize);
            rest = tail;
            match change.verb {
                Verb::Put => Operation::Put { key: first, value: second },
                Verb::Delete => Operation::Delete { key: first },
                Verb::DeleteRange => Operation::DeleteRange { from: first, to: second },
            }
        })
    }

    /// Number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of keys and values together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }
}

fn len_of(len: usize) -> u32 {
    u32::try_from(len).expect("keys and values are far below 4 GiB: a frame is at most 1 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_in_order() {
        let mut batch = Batch::new();
        batch.put(b"a", b"1");
        batch.delete(b"bb");
        let mut later = Batch::new();
        later.delete_range(b"c", b"e");
        later.delete_range(b"e", b"e");
        assert_eq!(later.put_with(b"f", |out| out.put_u16(9)), 2);
        batch.append(later);
        assert_eq!(
            batch.operations().collect::<Vec<_>>(),
            [
                Operation::Put { key: b"a", value: b"1" },
                Operation::Delete { key: b"bb" },
                Operation::DeleteRange { from: b"c", to: b"e" },
                Operation::Put { key: b"f", value: &[0, 9] },
            ]
        );
        assert_eq!((batch.len(), batch.bytes(), batch.is_empty()), (4, 9, false));
    }

    #[test]
    fn an_empty_batch_takes_the_other_over() {
        let mut batch = Batch::new();
        let mut later = Batch::new();
        later.put(b"k", b"");
        batch.append(later);
        assert_eq!(batch.operations().collect::<Vec<_>>(), [Operation::Put { key: b"k", value: b"" }]);
    }
}
