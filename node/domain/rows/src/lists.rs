//! Lists: rows that are only ever added, so that adding reads none of them. Memory holds those that the store may not have yet; a
//! list is what is here and what the store has.

use std::marker::PhantomData;
use std::num::NonZeroU32;

use xxhash_rust::xxh3::xxh3_64;

use crate::encoding::EMPTY;
use crate::table::{ByteCounts, RowSink, Table};
use crate::{BytesError, RowKey, row_hash};

/// The keys of a table of lists: what is the same for all entries of a list, then what tells them apart.
pub trait ListKey {
    /// The tag of the table.
    const TAG: u8;
    /// Bytes at the end of a key that tell the entries of a list apart.
    const ENTRY_BYTES: usize;

    /// Whether bytes are a key of the table.
    ///
    /// # Errors
    /// They are not.
    fn check(key: &[u8]) -> Result<(), BytesError>;
}

/// What a row costs beside its key.
const OVERHEAD: u64 = size_of::<Listed>() as u64;
/// Chains of rows, by the hash of what the keys of a list begin with: enough that one is short, few enough for many shards.
const CHAINS: usize = 1 << 14;

/// A table of lists.
#[derive(Debug)]
pub struct Lists<K> {
    keys: PhantomData<K>,
    /// Rows since the last checkpoint began.
    fresh: Run,
    /// Rows of the last checkpoint, until it is durable, and how many of them it has handed out.
    frozen: Run,
    seen: usize,
    /// The store has rows that are not here.
    partial: bool,
    /// Wrapping sum of the hashes of all rows that were ever added here; and what it was when the last checkpoint began.
    sum: u64,
    frozen_sum: u64,
}

/// Rows in the order of their adding.
#[derive(Debug, Default)]
struct Run {
    /// Their keys, one after the other.
    keys: Vec<u8>,
    rows: Vec<Listed>,
    /// The newest row of each chain; none at all without rows.
    newest: Vec<Link>,
}

#[derive(Debug)]
struct Listed {
    /// Where its key ends.
    end: usize,
    /// The row before it in its chain.
    before: Link,
}

/// One more than the number of a row.
type Link = Option<NonZeroU32>;

impl Run {
    #[inline]
    fn add(&mut self, key: &[u8], chain: usize) {
        if self.newest.is_empty() {
            self.newest.resize(CHAINS, None);
        }
        self.keys.extend_from_slice(key);
        let link = u32::try_from(self.rows.len() + 1).ok().and_then(NonZeroU32::new);
        let link = link.expect("a checkpoint has far fewer rows");
        let before = self.newest[chain].replace(link);
        self.rows.push(Listed { end: self.keys.len(), before });
    }

    fn key(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.rows[before].end);
        &self.keys[start..self.rows[row].end]
    }

    /// The keys of a chain, newest first.
    fn of(&self, chain: usize) -> impl Iterator<Item = &[u8]> {
        let newest = self.newest.get(chain).copied().flatten();
        let rows = std::iter::successors(newest, |link| self.rows[link.get() as usize - 1].before);
        rows.map(|link| self.key(link.get() as usize - 1))
    }

    /// Forgets its rows and keeps their room.
    fn clear(&mut self) {
        self.keys.clear();
        self.rows.clear();
        self.newest.clear();
    }

    fn bytes(&self) -> u64 {
        self.keys.len() as u64 + OVERHEAD * self.rows.len() as u64
    }
}

/// Which chain the rows of a list are in, by the hash of what their keys begin with.
fn chain(hash: u64) -> usize {
    hash as usize % CHAINS
}

impl<K> Default for Lists<K> {
    fn default() -> Self {
        let (fresh, frozen) = (Run::default(), Run::default());
        Self { keys: PhantomData, fresh, frozen, seen: 0, partial: false, sum: 0, frozen_sum: 0 }
    }
}

impl<K: ListKey> Lists<K> {
    /// A new entry of a list.
    pub fn add(&mut self, key: &RowKey) {
        self.sum = self.sum.wrapping_add(row_hash(key.hash(), &EMPTY));
        let bytes = key.as_bytes();
        let list = &bytes[..bytes.len() - K::ENTRY_BYTES];
        self.fresh.add(bytes, chain(xxh3_64(list)));
    }

    /// The keys of a list that the store may not have yet, newest first. The list is what they begin with.
    pub fn of(&self, list: RowKey) -> impl Iterator<Item = &[u8]> {
        let chain = chain(list.hash());
        let keys = self.fresh.of(chain).chain(self.frozen.of(chain));
        keys.filter(move |key| key[..key.len() - K::ENTRY_BYTES] == *list.as_bytes())
    }

    /// Whether the store has rows that are not here.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial
    }
}

impl<K: ListKey> Table for Lists<K> {
    fn tags(&self) -> &[u8] {
        &[K::TAG]
    }

    fn is_resident(&self) -> bool {
        false
    }

    /// What the store has need not be here.
    fn restore(&mut self, key: &[u8], _: &[u8]) -> Result<(), BytesError> {
        K::check(key)?;
        self.partial = true;
        Ok(())
    }

    fn set_cold(&mut self) {
        self.partial = true;
    }

    /// Rows that were restored are not here either.
    fn set_warm(&mut self) {}

    fn begin_checkpoint(&mut self) {
        assert!(self.frozen.rows.is_empty(), "a checkpoint is still running");
        std::mem::swap(&mut self.fresh, &mut self.frozen);
        (self.seen, self.frozen_sum) = (0, self.sum);
    }

    fn checkpoint_step(&mut self, limit: usize, out: RowSink<'_>) -> bool {
        let end = self.frozen.rows.len().min(self.seen.saturating_add(limit));
        (self.seen..end).for_each(|row| out(self.frozen.key(row), Some(&EMPTY)));
        self.seen = end;
        end == self.frozen.rows.len()
    }

    /// The rows of the checkpoint need not be here any more.
    fn checkpoint_durable(&mut self) {
        self.partial |= !self.frozen.rows.is_empty();
        self.frozen.clear();
        self.seen = 0;
    }

    fn state_sum(&mut self) -> u64 {
        self.sum
    }

    fn checkpoint_sum(&self) -> u64 {
        self.frozen_sum
    }

    fn export(&self, out: &mut Vec<(Vec<u8>, Vec<u8>)>) {
        for run in [&self.frozen, &self.fresh] {
            out.extend((0..run.rows.len()).map(|row| (run.key(row).to_vec(), EMPTY.to_vec())));
        }
    }

    fn byte_counts(&self) -> ByteCounts {
        let dirty = self.fresh.keys.len() + self.fresh.rows.len() * EMPTY.len();
        ByteCounts { resident: self.fresh.bytes() + self.frozen.bytes(), dirty: dirty as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Numbered;

    impl ListKey for Numbered {
        const TAG: u8 = 20;
        const ENTRY_BYTES: usize = 1;

        fn check(key: &[u8]) -> Result<(), BytesError> {
            if key.first() == Some(&Self::TAG) { Ok(()) } else { Err(BytesError::Key) }
        }
    }

    type Trial = Lists<Numbered>;

    fn list(name: &str) -> RowKey {
        RowKey::of(Numbered::TAG, &[name.as_bytes()])
    }

    fn add(lists: &mut Trial, name: &str, number: u8) {
        lists.add(&RowKey::of(Numbered::TAG, &[name.as_bytes(), &[number]]));
    }

    fn of(lists: &Trial, name: &str) -> Vec<u8> {
        lists.of(list(name)).map(|key| *key.last().unwrap()).collect()
    }

    /// What the checkpoint hands out: the numbers.
    fn taken(lists: &mut Trial, limit: usize) -> (Vec<u8>, bool) {
        let mut numbers = Vec::new();
        let all = lists.checkpoint_step(limit, &mut |key, value| {
            assert_eq!(value, Some(&EMPTY[..]));
            numbers.push(*key.last().unwrap());
        });
        (numbers, all)
    }

    #[test]
    fn a_row_is_here_until_the_store_has_it() {
        let mut lists = Trial::default();
        for number in 1..=4 {
            add(&mut lists, if number == 3 { "bob" } else { "ann" }, number);
        }
        let then = lists.state_sum();
        lists.begin_checkpoint();
        add(&mut lists, "ann", 5);
        assert_eq!((of(&lists, "ann"), of(&lists, "bob")), (vec![5, 4, 2, 1], vec![3]));
        assert_eq!(taken(&mut lists, 3), (vec![1, 2, 3], false));
        add(&mut lists, "bob", 6);
        assert_eq!(taken(&mut lists, 3), (vec![4], true));
        assert_eq!((of(&lists, "ann"), of(&lists, "bob")), (vec![5, 4, 2, 1], vec![6, 3]));
        assert!(!lists.is_partial() && lists.checkpoint_sum() == then);
        lists.checkpoint_durable();
        assert!(lists.is_partial());
        assert_eq!((of(&lists, "ann"), of(&lists, "bob")), (vec![5], vec![6]));
        lists.begin_checkpoint();
        assert_eq!(taken(&mut lists, 9), (vec![5, 6], true));
        lists.checkpoint_durable();
        assert_eq!((of(&lists, "ann"), of(&lists, "bob"), lists.byte_counts().resident), (vec![], vec![], 0));
        assert_eq!(lists.state_sum(), lists.checkpoint_sum(), "what left still counts");
    }

    #[test]
    fn lists_of_one_chain_are_told_apart() {
        let mut lists = Trial::default();
        (0..40_000_u32).for_each(|n| add(&mut lists, &n.to_string(), 1));
        assert!((0..40_000_u32).all(|n| of(&lists, &n.to_string()) == [1]), "there are fewer chains than lists");
    }
}
