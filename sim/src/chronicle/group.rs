//! What all disks together say of one group: its entries, its leaders, its committed chain.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ordergrid_cluster::EntryId;

use super::log::{Logged, ReplicaLog, VoteRow};
use crate::history::SimTime;
use crate::trace;
use crate::verdict::Property;

/// Facts that break a law.
pub(super) type Broken = Vec<(Property, String)>;

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Every entry that was ever seen, with the term of the one before it if that is known.
    entries: BTreeMap<(u64, u64), Known>,
    /// What is committed, and when that was first known.
    pub(super) chain: BTreeMap<u64, (Arc<Logged>, SimTime)>,
    /// Terms of entries that are committed, of which the entry was not there to see.
    claims: BTreeMap<u64, u64>,
    /// Who leads each term.
    winners: BTreeMap<u64, u64>,
    /// The highest index that any node said to be committed.
    pub(super) said: u64,
}

#[derive(Debug)]
struct Known {
    entry: Arc<Logged>,
    before: Option<u64>,
}

impl Group {
    /// The entry of these bytes: the one copy of it.
    pub(super) fn known(&mut self, id: EntryId, bytes: Bytes, broken: &mut Broken) -> Arc<Logged> {
        let fresh = || Known { entry: Arc::new(Logged { id, bytes: bytes.clone(), seen: trace::now() }), before: None };
        let known = self.entries.entry((id.index, id.term)).or_insert_with(fresh);
        if known.entry.bytes == bytes {
            return Arc::clone(&known.entry);
        }
        broken.push((Property::LogMatching, format!("entry {id} has other bytes than elsewhere")));
        Arc::new(Logged { id, bytes, seen: trace::now() })
    }

    /// The entry is appended to a log: the one before it must be the same everywhere.
    pub(super) fn follows(&mut self, log: &ReplicaLog, entry: &Logged, broken: &mut Broken) {
        let Some(before) = entry.id.index.checked_sub(1).and_then(|index| log.term_at(index)) else { return };
        let Some(known) = self.entries.get_mut(&(entry.id.index, entry.id.term)) else { return };
        let first = *known.before.get_or_insert(before);
        if first != before {
            let text = format!("entry {} follows an entry of term {first} elsewhere, of term {before} here", entry.id);
            broken.push((Property::LogMatching, text));
        }
    }

    /// A replica votes.
    pub(super) fn vote(&mut self, before: Option<&VoteRow>, vote: &VoteRow, broken: &mut Broken) {
        if let Some(before) = before.filter(|before| !before.may_become(vote)) {
            broken.push((Property::VotesMonotonic, format!("the vote {vote} replaces the vote {before}")));
        }
        if vote.won {
            self.leads(vote.term, vote.voted_for, broken);
        }
    }

    /// A replica leads a term.
    pub(super) fn leads(&mut self, term: u64, replica: u64, broken: &mut Broken) {
        let first = *self.winners.entry(term).or_insert(replica);
        if first != replica {
            let text = format!("term {term} is led by replica {first} and by replica {replica}");
            broken.push((Property::OneLeaderPerTerm, text));
        }
    }

    /// Entries were taken off a log.
    pub(super) fn cut(&self, entries: &[Arc<Logged>], broken: &mut Broken) {
        for entry in entries {
            if self.chain.get(&entry.id.index).is_some_and(|(committed, _)| committed.id == entry.id) {
                broken.push((Property::CommittedNeverChanges, format!("the committed entry {} is cut off", entry.id)));
            }
        }
    }

    /// The log is committed up to `index`: fixes what was not known to be, compares the rest. Returns what is new.
    pub(super) fn fix(&mut self, log: &mut ReplicaLog, index: u64, broken: &mut Broken) -> Vec<EntryId> {
        let mut fixed = Vec::new();
        for (index, entry) in log.entries.range(log.compared..=index.max(log.compared)).filter(|(at, _)| **at <= index) {
            match self.chain.get(index) {
                Some((committed, _)) if committed.id != entry.id => {
                    let text = format!("entry {} is committed here, {} elsewhere", entry.id, committed.id);
                    broken.push((Property::CommittedNeverChanges, text));
                }
                Some(_) => {}
                None => {
                    self.chain.insert(*index, (Arc::clone(entry), trace::now()));
                    fixed.push(entry.id);
                    if let Some(term) = self.claims.remove(index).filter(|term| *term != entry.id.term) {
                        let text = format!("entry {} is committed here, one of term {term} elsewhere", entry.id);
                        broken.push((Property::CommittedNeverChanges, text));
                    }
                }
            }
        }
        log.compared = log.compared.max(index + 1);
        fixed
    }

    /// A replica wrote down that this entry is committed, whether its log still has it or not.
    pub(super) fn claim(&mut self, log: &ReplicaLog, id: EntryId, broken: &mut Broken) {
        self.said = self.said.max(id.index);
        if let Some(term) = log.entries.get(&id.index).map(|entry| entry.id.term).filter(|term| *term != id.term) {
            let text = format!("entry {id} is written down as committed where the log has one of term {term}");
            broken.push((Property::CommittedNeverChanges, text));
        }
        let known = self.chain.get(&id.index).map(|(committed, _)| committed.id.term);
        let first = known.unwrap_or_else(|| *self.claims.entry(id.index).or_insert(id.term));
        if first != id.term {
            let text = format!("entry {id} is written down as committed, one of term {first} elsewhere");
            broken.push((Property::CommittedNeverChanges, text));
        }
    }

    /// Entries that were seen on a disk and are not committed: lost with their leaders, or not yet committed.
    pub(super) fn not_committed(&self) -> impl Iterator<Item = &Arc<Logged>> {
        let committed = |entry: &Logged| self.chain.get(&entry.id.index).is_some_and(|(chain, _)| chain.id == entry.id);
        self.entries.values().map(|known| &known.entry).filter(move |entry| !committed(entry))
    }
}
