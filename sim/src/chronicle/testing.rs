//! Hand-made disks for tests: rows as nodes write them.

use bytes::BytesMut;
use ordergrid_cluster::{ClusterSpec, EntryBody, LogId, NodeSpec, Packed, Payload, RaftEntry, ShardMap, Vote, encoding};
use ordergrid_domain::{Command, Entry, GroupId, Timestamp};
use ordergrid_storage::Batch;
use ordergrid_storage::codec::{Kind, seal_with};

use super::Chronicle;
use crate::disk::{Database, DiskWatch};

/// The group that tests write to: a single shard with replicas 4, 5 and 6 on nodes 1, 2 and 3.
pub(crate) const SHARD: GroupId = GroupId(1);

/// Three nodes.
pub(crate) fn map() -> ShardMap {
    let node = |id: u64| NodeSpec {
        id,
        name: format!("n{id}"),
        zone: String::new(),
        mesh_addr: format!("m{id}"),
        http_addr: format!("h{id}"),
    };
    ClusterSpec { name: "test".into(), nodes: (1..=3).map(node).collect(), shards: 1 }.shard_map()
}

/// The replica of the shard on a node.
pub(crate) fn replica(node: u64) -> u64 {
    map().shards[0].replica_on(node).unwrap()
}

/// One change of a node's log of the shard.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    /// Term, replica's node, won.
    Vote(u64, u64, bool),
    /// Term and index of an entry without anything.
    Blank(u64, u64),
    /// Term and index of an entry with these commands.
    Commands(u64, u64, Entry),
    /// Term and index.
    Committed(u64, u64),
    /// Term and index; and what that removes.
    Purged(u64, u64),
    /// Everything from here on.
    CutFrom(u64),
}

/// A mark with a clock: distinct bytes for distinct clocks.
pub(crate) fn entry(at: u64, commands: Vec<Command>) -> Entry {
    Entry { at: Timestamp::from_ms(at), commands }
}

/// One batch of a node.
pub(crate) fn write(chronicle: &Chronicle, node: u64, rows: &[Row]) {
    let mut batch = Batch::new();
    rows.iter().for_each(|row| put(&mut batch, replica(node), row));
    chronicle.wrote(node, Database::Log, &batch);
}

/// The same on every node, and durable: so many batches are on each then.
pub(crate) fn write_everywhere(chronicle: &Chronicle, batches: u64, rows: &[Row]) {
    for node in 1..=3 {
        write(chronicle, node, rows);
        chronicle.durable(node, Database::Log, batches);
    }
}

fn key(replica: u64, kind: u8, index: u64) -> Vec<u8> {
    [&replica.to_be_bytes()[..], &[kind], &index.to_be_bytes()].concat()
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: term.into(), index }
}

fn put(batch: &mut Batch, own: u64, row: &Row) {
    let seal = |kind, write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        seal_with(kind, &mut out, |out| write(out));
        out
    };
    let id = |term, index| seal(Kind::LOG_ID, &|out| encoding::encode_log_id(&log_id(term, index), out));
    let logged = |term, index, payload: &EntryBody| {
        let entry = RaftEntry { log_id: log_id(term, index), payload: payload.clone() };
        seal(Kind::LOG_ENTRY, &|out| encoding::encode_entry(&entry, out))
    };
    match row {
        Row::Vote(term, node, won) => {
            let leader_id = ordergrid_cluster::LeaderId { term: *term, voted_for: replica(*node) };
            let vote = Vote { leader_id, committed: *won };
            batch.put(&key(own, 1, 0), &seal(Kind::VOTE, &|out| encoding::encode_vote(&vote, out)));
        }
        Row::Blank(term, index) => batch.put(&key(own, 4, *index), &logged(*term, *index, &EntryBody::Blank)),
        Row::Commands(term, index, entry) => {
            let packed = std::sync::Arc::new(Packed::from_bytes(entry.to_bytes().into()));
            batch.put(&key(own, 4, *index), &logged(*term, *index, &EntryBody::Normal(Payload(packed))));
        }
        Row::Committed(term, index) => batch.put(&key(own, 2, 0), &id(*term, *index)),
        Row::Purged(term, index) => {
            batch.put(&key(own, 3, 0), &id(*term, *index));
            batch.delete_range(&key(own, 4, 0), &key(own, 4, index + 1));
        }
        Row::CutFrom(index) => batch.delete_range(&key(own, 4, *index), &key(own, 5, 0)),
    }
}
