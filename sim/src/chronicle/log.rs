//! The log of one replica as its disk has it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ordergrid_cluster::{EntryBody, EntryId, Membership, encoding};
use ordergrid_domain::{Entry, GroupId};

use crate::history::SimTime;

/// A vote as a disk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRow {
    /// The term.
    pub term: u64,
    /// The replica that is voted for.
    pub voted_for: u64,
    /// A quorum did so: it leads the term.
    pub won: bool,
}

impl VoteRow {
    /// Whether a replica that has this vote may have that one next: a later term, the same again, or the news of who won.
    #[must_use]
    pub fn may_become(&self, next: &Self) -> bool {
        if self.term != next.term {
            return self.term < next.term;
        }
        if self.voted_for == next.voted_for { self.won <= next.won } else { next.won && !self.won }
    }
}

impl fmt::Display for VoteRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.won { "won by" } else { "for" };
        write!(f, "term {} {verb} replica {}", self.term, self.voted_for)
    }
}

/// An entry, kept once however many disks have it.
#[derive(Debug)]
pub struct Logged {
    /// Its place.
    pub id: EntryId,
    /// The whole entry, encoded.
    pub bytes: Bytes,
    /// When it was first seen on a disk.
    pub seen: SimTime,
}

/// What an entry carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing: a leader's first.
    Blank,
    /// Who belongs to the group.
    Membership(Membership),
    /// Commands of a shard; none at all in a mark.
    Commands(Entry),
    /// A command of the meta group.
    Meta(Bytes),
}

impl Logged {
    /// What it carries, if it is an entry of `group`.
    ///
    /// # Errors
    /// The bytes are no such entry.
    pub fn body(&self, group: GroupId) -> Result<Body, String> {
        let entry = encoding::decode_entry(self.bytes.clone()).map_err(|error| error.to_string())?;
        Ok(match entry.payload {
            EntryBody::Blank => Body::Blank,
            EntryBody::Membership(membership) => Body::Membership(membership),
            EntryBody::Normal(payload) if group == GroupId::META => Body::Meta(payload.0.bytes().clone()),
            EntryBody::Normal(payload) => {
                Body::Commands(Entry::from_bytes(payload.0.bytes()).map_err(|error| error.to_string())?)
            }
        })
    }
}

/// A change of one replica's log.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// It voted, or learnt who won.
    Vote(VoteRow),
    /// It knew so much to be committed.
    Committed(EntryId),
    /// It removes what is committed and not needed any more.
    Purged(EntryId),
    /// It appended an entry.
    Entry(Arc<Logged>),
    /// Entries are gone: purged, or cut off to make room for others.
    Cut(Range<u64>),
    /// Everything is gone for good.
    Gone,
}

/// One replica's log.
#[derive(Clone, Debug, Default)]
pub struct ReplicaLog {
    /// Its vote.
    pub vote: Option<VoteRow>,
    /// The last entry that it wrote down as committed.
    pub committed: Option<EntryId>,
    /// The last entry that it purged.
    pub purged: Option<EntryId>,
    /// Its entries.
    pub entries: BTreeMap<u64, Arc<Logged>>,
    /// Entries below were compared with the committed chain.
    pub(super) compared: u64,
}

impl ReplicaLog {
    /// The term of the entry at `index`, also if that was the last one purged.
    #[must_use]
    pub fn term_at(&self, index: u64) -> Option<u64> {
        let purged = self.purged.filter(|purged| purged.index == index).map(|purged| purged.term);
        self.entries.get(&index).map(|entry| entry.id.term).or(purged)
    }

    /// The last entry's place, also if it was purged.
    #[must_use]
    pub fn last(&self) -> Option<EntryId> {
        self.entries.last_key_value().map(|(_, entry)| entry.id).or(self.purged)
    }

    /// Whether it has this very entry, or has purged that index.
    #[must_use]
    pub fn holds(&self, id: EntryId) -> bool {
        self.is_purged(id.index) || self.term_at(id.index) == Some(id.term)
    }

    /// Whether the index was purged.
    #[must_use]
    pub fn is_purged(&self, index: u64) -> bool {
        self.purged.is_some_and(|purged| purged.index >= index)
    }

    /// Whether it is the log of the leader of its term, as far as it knows itself: then nothing of it will be cut off before
    /// a later vote stands in it.
    pub(super) fn leads(&self, replica: u64) -> bool {
        self.vote.is_some_and(|vote| vote.won && vote.voted_for == replica)
    }

    /// Changes it; returns entries that were taken away without having been purged.
    pub(super) fn change(&mut self, change: &Change) -> Vec<Arc<Logged>> {
        match change {
            Change::Vote(vote) => self.vote = Some(*vote),
            Change::Committed(id) => self.committed = Some(*id),
            Change::Purged(id) => self.purged = Some(*id),
            Change::Entry(entry) => {
                let index = entry.id.index;
                let before = self.entries.insert(index, Arc::clone(entry));
                self.compared = self.compared.min(index);
                return before.into_iter().filter(|before| before.id != entry.id).collect();
            }
            Change::Cut(indexes) => return self.cut(indexes.clone()),
            Change::Gone => *self = Self::default(),
        }
        Vec::new()
    }

    fn cut(&mut self, indexes: Range<u64>) -> Vec<Arc<Logged>> {
        if indexes.is_empty() {
            return Vec::new();
        }
        let mut from = self.entries.split_off(&indexes.start);
        let mut after = from.split_off(&indexes.end);
        self.entries.append(&mut after);
        self.compared = self.compared.min(indexes.start);
        from.into_values().filter(|entry| !self.is_purged(entry.id.index)).collect()
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vote(vote) => write!(f, "votes {vote:?}"),
            Self::Entry(entry) => write!(f, "appends {}", entry.id),
            Self::Committed(id) => write!(f, "marks {id} as committed"),
            Self::Purged(id) => write!(f, "purges up to {id}"),
            Self::Cut(indexes) => write!(f, "cuts {indexes:?}"),
            Self::Gone => f.write_str("is gone"),
        }
    }
}
