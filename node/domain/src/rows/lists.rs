//! Which orders a user has: a row for each, only ever added, so that placing reads none of them. Memory holds those that
//! the store may not have yet; a list is what is here and what the store has.

use std::num::NonZeroU32;

use xxhash_rust::xxh3::xxh3_64;

use super::table::{ByteCounts, Table};
use super::{LIST, RowKey, RowSink, keys, row_hash};
use crate::encoding::BytesError;
use crate::ids::{OrderId, UserId};

/// The value of every row: nothing but its version.
pub(crate) const LISTED: [u8; 1] = [1];
/// What a row costs beside its key.
const OVERHEAD: u64 = size_of::<Listed>() as u64;
/// Chains of rows, by the hash of the user's name: enough that one is short, few enough for many shards.
const CHAINS: usize = 1 << 14;

/// The lists of all users of a shard.
#[derive(Debug, Default)]
pub(crate) struct Lists {
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
    fn add(&mut self, user: &UserId, key: &RowKey) {
        if self.newest.is_empty() {
            self.newest.resize(CHAINS, None);
        }
        self.keys.extend_from_slice(key.as_bytes());
        let link = u32::try_from(self.rows.len() + 1).ok().and_then(NonZeroU32::new);
        let link = link.expect("a checkpoint has far fewer rows");
        let before = self.newest[chain(user)].replace(link);
        self.rows.push(Listed { end: self.keys.len(), before });
    }

    fn key(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.rows[before].end);
        &self.keys[start..self.rows[row].end]
    }

    /// The orders of a user, newest first.
    fn of(&self, user: &UserId) -> impl Iterator<Item = OrderId> {
        let newest = self.newest.get(chain(user)).copied().flatten();
        let rows = std::iter::successors(newest, |link| self.rows[link.get() as usize - 1].before);
        let parts = rows.map(|link| keys::listed(self.key(link.get() as usize - 1)).expect("a key written here reads"));
        parts.filter(|(name, _)| *name == user.as_str()).map(|(_, order)| order)
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

/// Which chain the rows of a user are in.
fn chain(user: &UserId) -> usize {
    xxh3_64(user.as_str().as_bytes()) as usize % CHAINS
}

impl Lists {
    /// A new order of a user.
    pub(crate) fn add(&mut self, user: &UserId, order: OrderId) {
        let key = keys::list(user, order);
        self.sum = self.sum.wrapping_add(row_hash(key.hash(), &LISTED));
        self.fresh.add(user, &key);
    }

    /// The orders of a user that the store may not have yet, newest first.
    pub(crate) fn of(&self, user: &UserId) -> impl Iterator<Item = OrderId> {
        self.fresh.of(user).chain(self.frozen.of(user))
    }

    /// Whether the store has rows that are not here.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial
    }
}

impl Table for Lists {
    fn tags(&self) -> &[u8] {
        &[LIST]
    }

    fn is_resident(&self) -> bool {
        false
    }

    /// What the store has need not be here.
    fn restore(&mut self, key: &[u8], _: &[u8]) -> Result<(), BytesError> {
        keys::listed(key)?;
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
        (self.seen..end).for_each(|row| out(self.frozen.key(row), Some(&LISTED)));
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
            out.extend((0..run.rows.len()).map(|row| (run.key(row).to_vec(), LISTED.to_vec())));
        }
    }

    fn byte_counts(&self) -> ByteCounts {
        let dirty = self.fresh.keys.len() + self.fresh.rows.len() * LISTED.len();
        ByteCounts { resident: self.fresh.bytes() + self.frozen.bytes(), dirty: dirty as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    /// What the checkpoint hands out: the orders.
    fn taken(lists: &mut Lists, limit: usize) -> (Vec<u64>, bool) {
        let mut orders = Vec::new();
        let all = lists.checkpoint_step(limit, &mut |key, value| {
            assert_eq!(value, Some(&LISTED[..]));
            orders.push(keys::listed(key).unwrap().1.0);
        });
        (orders, all)
    }

    #[test]
    fn a_row_is_here_until_the_store_has_it() {
        let (ann, bob) = (user("ann"), user("bob"));
        let mut lists = Lists::default();
        let of = |lists: &Lists, user: &UserId| lists.of(user).map(|order| order.0).collect::<Vec<_>>();
        for order in 1..=4 {
            lists.add(if order == 3 { &bob } else { &ann }, OrderId(order));
        }
        let then = lists.state_sum();
        lists.begin_checkpoint();
        lists.add(&ann, OrderId(5));
        assert_eq!((of(&lists, &ann), of(&lists, &bob)), (vec![5, 4, 2, 1], vec![3]));
        assert_eq!(taken(&mut lists, 3), (vec![1, 2, 3], false));
        lists.add(&bob, OrderId(6));
        assert_eq!(taken(&mut lists, 3), (vec![4], true));
        assert_eq!((of(&lists, &ann), of(&lists, &bob)), (vec![5, 4, 2, 1], vec![6, 3]));
        assert!(!lists.is_partial() && lists.checkpoint_sum() == then);
        lists.checkpoint_durable();
        assert!(lists.is_partial());
        assert_eq!((of(&lists, &ann), of(&lists, &bob)), (vec![5], vec![6]));
        lists.begin_checkpoint();
        assert_eq!(taken(&mut lists, 9), (vec![5, 6], true));
        lists.checkpoint_durable();
        assert_eq!((of(&lists, &ann), of(&lists, &bob), lists.byte_counts().resident), (vec![], vec![], 0));
        assert_eq!(lists.state_sum(), lists.checkpoint_sum(), "what left still counts");
    }
}
