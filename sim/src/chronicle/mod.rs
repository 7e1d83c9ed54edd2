//! What the logs on the disks say, followed batch by batch, and the one chain of entries that each group has committed.
//!
//! An entry counts as committed once a replica has written so into its log database (that mark takes the same ordered path
//! as the entries, so the log below it is the one that was committed), once the leader of a term says so, or once any node
//! says so when the grid is at rest. What a follower says in between is only remembered as how far the chain must come: its
//! disk may still lack a cut that its memory has made.

mod disk;
mod finding;
mod group;
mod log;
mod promises;
mod rare;
pub mod reference;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ordergrid_cluster::{EntryId, GroupStatus, Role, ShardMap, encoding};
use ordergrid_domain::{GroupId, Outcome, Rejection, Text};
use ordergrid_storage::log::{LogCut, LogRow};
use ordergrid_storage::{Batch, Operation, log as rows};
use parking_lot::Mutex;

use crate::disk::{Database, DiskWatch};
use crate::history::SimTime;
use crate::trace;
use crate::verdict::Property;

use disk::Disk;
pub use finding::Finding;
use group::{Broken, Group};
use log::Change;
pub use log::{Body, Logged, ReplicaLog, VoteRow};
pub use rare::RARE;
pub use reference::{Reference, Version, Watched};

/// What a hold that was asked for with others would have come to alone.
pub(crate) fn alone(result: &Result<Text, Rejection>) -> Outcome {
    match result {
        Ok(name) => Outcome::Held { name: name.clone() },
        Err(rejection) => Outcome::Rejected(rejection.clone()),
    }
}

/// Where a replica lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Home {
    group: GroupId,
    node: u64,
}

/// A committed entry.
#[derive(Clone, Debug)]
pub struct ChainEntry {
    /// Its group.
    pub group: GroupId,
    /// Its place.
    pub id: EntryId,
    /// When it was first seen on any disk.
    pub seen: SimTime,
    /// When it was first known to be committed.
    pub committed: SimTime,
    logged: Arc<Logged>,
}

impl ChainEntry {
    /// What it carries.
    ///
    /// # Errors
    /// The bytes are no entry.
    pub fn body(&self) -> Result<Body, String> {
        self.logged.body(self.group)
    }

    /// Its encoded bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.logged.bytes
    }
}

/// Follows the log databases of all nodes.
#[derive(Debug)]
pub struct Chronicle {
    homes: BTreeMap<u64, Home>,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    disks: BTreeMap<u64, Disk>,
    groups: BTreeMap<GroupId, Group>,
    findings: Vec<Finding>,
    /// Logs that a snapshot replaced.
    snapshots: u64,
}

impl Chronicle {
    /// Of a grid with this map.
    #[must_use]
    pub fn new(map: &ShardMap) -> Self {
        let meta = (GroupId::META, map.meta.as_slice());
        let shards = map.shards.iter().map(|shard| (shard.group, shard.replicas.as_slice()));
        let homes = std::iter::once(meta).chain(shards).flat_map(|(group, replicas)| {
            replicas.iter().map(move |placement| (placement.replica, Home { group, node: placement.node }))
        });
        Self { homes: homes.collect(), book: Mutex::default() }
    }

    /// A node says that its group is committed up to here. To be called with every status that is looked at.
    pub fn committed(&self, node: u64, group: GroupId, index: u64) {
        let mut book = self.book.lock();
        let known = book.groups.entry(group).or_default();
        known.said = known.said.max(index);
        let Some(replica) = self.replica(node, group) else { return };
        if book.live(node, replica).is_some_and(|log| log.leads(replica)) {
            self.fix(&mut book, node, replica, index);
        }
    }

    /// The same of every status of every node at once.
    pub fn told(&self, statuses: &BTreeMap<u64, Vec<GroupStatus>>) {
        for (node, groups) in statuses {
            groups.iter().for_each(|status| self.committed(*node, status.group, status.committed));
        }
    }

    /// The grid is at rest: nothing is under way between what nodes say and what their disks have.
    pub fn settle(&self, statuses: &BTreeMap<u64, Vec<GroupStatus>>) {
        self.told(statuses);
        let mut book = self.book.lock();
        for (node, groups) in statuses {
            for status in groups.iter().filter(|status| status.role != Role::Stopped) {
                if let Some(replica) = self.replica(*node, status.group) {
                    self.fix(&mut book, *node, replica, status.committed);
                }
            }
        }
    }

    /// Every group.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<_> = self.homes.values().map(|home| home.group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The committed entries of a group, in order. Without holes once the grid has come to rest.
    #[must_use]
    pub fn chain(&self, group: GroupId) -> Vec<ChainEntry> {
        let book = self.book.lock();
        let chain = book.groups.get(&group).map(|known| &known.chain);
        chain.into_iter().flatten().map(|(_, committed)| chain_entry(group, committed)).collect()
    }

    /// The committed entry of a group at this index.
    #[must_use]
    pub fn entry(&self, group: GroupId, index: u64) -> Option<ChainEntry> {
        let book = self.book.lock();
        book.groups.get(&group)?.chain.get(&index).map(|committed| chain_entry(group, committed))
    }

    /// The last index of a group's chain.
    #[must_use]
    pub fn last(&self, group: GroupId) -> Option<u64> {
        self.book.lock().groups.get(&group)?.chain.last_key_value().map(|(index, _)| *index)
    }

    /// The first index that is missing below what any node said to be committed.
    #[must_use]
    pub fn hole(&self, group: GroupId) -> Option<u64> {
        let book = self.book.lock();
        let known = book.groups.get(&group)?;
        let end = known.said.max(known.chain.last_key_value().map_or(0, |(index, _)| *index));
        (0..=end).find(|index| !known.chain.contains_key(index))
    }

    /// Entries that were on a disk and did not come to be committed: their bodies were lost with their leaders.
    #[must_use]
    pub fn not_committed(&self, group: GroupId) -> Vec<Arc<Logged>> {
        let book = self.book.lock();
        book.groups.get(&group).into_iter().flat_map(Group::not_committed).cloned().collect()
    }

    /// The log of a group's replica on a node, as a process there would read it.
    #[must_use]
    pub fn log(&self, node: u64, group: GroupId) -> Option<ReplicaLog> {
        let replica = self.replica(node, group)?;
        self.book.lock().disks.get(&node)?.live.get(&replica).cloned()
    }

    /// The same, as it would be after the worst power loss.
    #[must_use]
    pub fn durable_log(&self, node: u64, group: GroupId) -> Option<ReplicaLog> {
        let replica = self.replica(node, group)?;
        self.book.lock().disks.get(&node)?.safe.get(&replica).cloned()
    }

    /// What was found broken, from the finding of this number on.
    #[must_use]
    pub fn findings(&self, from: usize) -> Vec<Finding> {
        self.book.lock().findings.get(from..).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// How often a snapshot replaced what a log had not.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.book.lock().snapshots
    }

    fn replica(&self, node: u64, group: GroupId) -> Option<u64> {
        let home = Home { group, node };
        self.homes.iter().find(|(_, at)| **at == home).map(|(replica, _)| *replica)
    }

    /// Reads the changes of a batch, and makes each as it comes.
    fn take(&self, book: &mut Book, node: u64, batch: &Batch) -> Result<Vec<(u64, Change)>, String> {
        let mut changes = Vec::new();
        for operation in batch.operations() {
            let mut broken = Broken::new();
            let read = match operation {
                Operation::Put { key, value } => match rows::row(key, value).map_err(|error| error.to_string())? {
                    Some(row) => self.change_of(book, row, &mut broken)?,
                    None => continue,
                },
                Operation::DeleteRange { from, to } => change_of_cut(from, to)?,
                // Records of the node; no log removes a single row.
                Operation::Delete { .. } => continue,
            };
            let (replica, change) = read;
            let home = self.homes.get(&replica).filter(|home| home.node == node);
            let home = home.ok_or_else(|| format!("node {node} has a log of replica {replica}, which is not its own"))?;
            trace::aside(format_args!("n{node} g{}: {change}", home.group));
            self.apply(book, *home, replica, &change, &mut broken);
            book.found(*home, broken);
            changes.push((replica, change));
        }
        Ok(changes)
    }

    fn change_of(&self, book: &mut Book, row: LogRow, broken: &mut Broken) -> Result<(u64, Change), String> {
        let bad = |error: ordergrid_cluster::DecodeError| error.to_string();
        let id_of = |body| encoding::decode_log_id(body).map(|id| EntryId::from(&id)).map_err(bad);
        Ok(match row {
            LogRow::Vote { replica, body } => {
                let vote = encoding::decode_vote(body).map_err(bad)?;
                let (term, voted_for) = (vote.leader_id.term, vote.leader_id.voted_for);
                (replica, Change::Vote(VoteRow { term, voted_for, won: vote.committed }))
            }
            LogRow::Committed { replica, body } => (replica, Change::Committed(id_of(body)?)),
            LogRow::Purged { replica, body } => (replica, Change::Purged(id_of(body)?)),
            LogRow::Entry { replica, index, body } => {
                let entry = encoding::decode_entry(body.clone()).map_err(bad)?;
                let id = EntryId::from(&entry.log_id);
                if id.index != index {
                    return Err(format!("the entry {id} stands at index {index} of replica {replica}"));
                }
                let home = self.homes.get(&replica).ok_or_else(|| format!("nobody knows replica {replica}"))?;
                let group = book.groups.entry(home.group).or_default();
                (replica, Change::Entry(group.known(id, body, broken)))
            }
        })
    }

    fn apply(&self, book: &mut Book, home: Home, replica: u64, change: &Change, broken: &mut Broken) {
        let group = book.groups.entry(home.group).or_default();
        let disk = book.disks.entry(home.node).or_default();
        let log = disk.live.entry(replica).or_default();
        let vote_before = log.vote.or(disk.forgotten.get(&replica).copied());
        // What a snapshot replaces need not be what was committed.
        let snapshot = matches!(change, Change::Purged(id) if log.term_at(id.index) != Some(id.term));
        book.snapshots += u64::from(snapshot);
        match change {
            Change::Purged(id) if snapshot => group.claim(&ReplicaLog::default(), *id, broken),
            Change::Vote(vote) => group.vote(vote_before.as_ref(), vote, broken),
            Change::Entry(entry) => group.follows(log, entry, broken),
            Change::Committed(id) | Change::Purged(id) => group.claim(log, *id, broken),
            Change::Cut(_) | Change::Gone => {}
        }
        let cut = log.change(change);
        group.cut(&cut, broken);
        if let (Change::Committed(id) | Change::Purged(id), false) = (change, snapshot) {
            self.fix(book, home.node, replica, id.index);
        }
    }

    /// A replica's log is committed up to here.
    fn fix(&self, book: &mut Book, node: u64, replica: u64, index: u64) {
        let Some(home) = self.homes.get(&replica) else { return };
        let Some(log) = book.disks.get_mut(&node).and_then(|disk| disk.live.get_mut(&replica)) else { return };
        let group = book.groups.entry(home.group).or_default();
        let index = index.min(log.last().map_or(0, |last| last.index));
        let mut broken = Broken::new();
        let fixed = group.fix(log, index, &mut broken);
        broken.extend(fixed.into_iter().filter_map(|id| self.not_on_majority(book, home.group, id)));
        book.found(*home, broken);
    }

    /// Nothing may be committed before a majority of the replicas could no longer lose it. A replica that has it no more
    /// because it has purged it has it in its checkpoint.
    fn not_on_majority(&self, book: &Book, group: GroupId, id: EntryId) -> Option<(Property, String)> {
        // The first entry names the members: each founder writes it by itself, and needs nobody's leave.
        if id.index == 0 {
            return None;
        }
        let members: Vec<_> = self.homes.iter().filter(|(_, home)| home.group == group).collect();
        let disks = || members.iter().map(|(replica, home)| (*replica, book.disks.get(&home.node)));
        if disks().any(|(_, disk)| disk.is_some_and(|disk| disk.wiped)) {
            return None;
        }
        let holds = disks().filter(|(replica, disk)| disk.is_some_and(|disk| disk.holds(**replica, id))).count();
        let text = || format!("entry {id} is committed and durable on {holds} of {} replicas", members.len());
        (2 * holds <= members.len()).then(|| (Property::CommittedIsDurable, text()))
    }
}

fn change_of_cut(from: &[u8], to: &[u8]) -> Result<(u64, Change), String> {
    match rows::cut(from, to) {
        Some(LogCut::Entries { replica, indexes }) => Ok((replica, Change::Cut(indexes))),
        Some(LogCut::Replica { replica }) => Ok((replica, Change::Gone)),
        None => Err(format!("no log removes the keys from {from:02x?} to {to:02x?}")),
    }
}

fn chain_entry(group: GroupId, (logged, committed): &(Arc<Logged>, SimTime)) -> ChainEntry {
    ChainEntry { group, id: logged.id, seen: logged.seen, committed: *committed, logged: Arc::clone(logged) }
}

impl Book {
    fn live(&self, node: u64, replica: u64) -> Option<&ReplicaLog> {
        self.disks.get(&node)?.live.get(&replica)
    }

    fn found(&mut self, home: Home, broken: Broken) {
        for (property, what) in broken {
            let text = format!("group {}, node {}: {what}", home.group, home.node);
            self.findings.push(Finding { property, at: trace::now(), text });
        }
    }
}

impl DiskWatch for Chronicle {
    fn wrote(&self, node: u64, database: Database, batch: &Batch) {
        if database != Database::Log {
            return;
        }
        let mut book = self.book.lock();
        let changes = self.take(&mut book, node, batch).unwrap_or_else(|text| {
            let text = format!("node {node}: {text}");
            book.findings.push(Finding { property: Property::LogsReadable, at: trace::now(), text });
            Vec::new()
        });
        book.disks.entry(node).or_default().wrote(changes);
    }

    fn durable(&self, node: u64, database: Database, batches: u64) {
        if database == Database::Log {
            self.book.lock().disks.entry(node).or_default().durable(batches);
        }
    }

    fn lost(&self, node: u64, database: Database, kept: u64) {
        if database == Database::Log {
            self.book.lock().disks.entry(node).or_default().lost(kept);
        }
    }

    fn vanished(&self, node: u64, database: Database) {
        if database == Database::Log {
            self.book.lock().disks.entry(node).or_default().vanished();
        }
    }

    fn opened(&self, node: u64, database: Database) {
        if database == Database::Log {
            self.book.lock().disks.entry(node).or_default().opened();
        }
    }

    fn copied(&self, node: u64, database: Database) {
        if database == Database::Log {
            self.book.lock().disks.entry(node).or_default().copied();
        }
    }

    fn put_back(&self, node: u64, database: Database) {
        if database == Database::Log {
            self.book.lock().disks.entry(node).or_default().put_back();
        }
    }

    fn rotted(&self, node: u64, database: Database, kept: u64) {
        if database == Database::Log {
            self.book.lock().disks.entry(node).or_default().rotted(kept);
        }
    }
}
