//! What follows when the disk of this node was found to be an older copy (`recall`): before its replicas take part again, the
//! others say what they may have promised.
//!
//! Nobody knows what was forgotten, but there are bounds. Whoever was elected with a forgotten vote, or committed an entry that was
//! acknowledged here, had others beside this one; so among more than half of the others, one at the least has a vote as late, or a log as far. A
//! replica takes the latest vote and the furthest log of that many for what it had: its vote is raised, and the end of that
//! log is its floor ([`ordergrid_storage::LogStore::hold_to`]). As with any floor it gives no vote, does not stand and shows nothing until a
//! leader has refilled it past there.
//!
//! What was found is written down first, so that a restart at any moment goes on from here.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::join_all;
use ordergrid_cluster::ShardMap;
use ordergrid_domain::GroupId;
use ordergrid_storage::{LogWriter, NodeRecords, RecordError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::NodeConfig;
use crate::context::NodeContext;
use crate::node::StartError;
use crate::platform::Platform;
use crate::recall;
use crate::replicas::Replicas;

/// The record of it.
const RECORD: &str = "older";
/// Version of its bytes.
const VERSION: u8 = 1;
/// Pause before the others are asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The disk is an older copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// How far the log was, as a peer recalls.
    pub(crate) recalled: u64,
    /// The groups whose replicas here have forgotten something.
    pub(crate) groups: Vec<GroupId>,
}

impl Note {
    /// Writes it down.
    pub(crate) async fn put(&self, records: &NodeRecords) -> Result<(), RecordError> {
        records.put(RECORD, &self.encode()).await
    }

    /// What was written down.
    pub(crate) async fn of(records: &NodeRecords) -> Result<Option<Self>, String> {
        let Some(bytes) = records.get(RECORD).await.map_err(|error| error.to_string())? else { return Ok(None) };
        Self::decode(bytes).map(Some).ok_or_else(|| "what was found of it was written by another version".to_owned())
    }

    /// Goes on with a group's replica as it is found on the disk, whatever it has promised: an operator's decision.
    pub(crate) async fn accept(mut self, group: GroupId, records: &NodeRecords) -> Result<(), RecordError> {
        self.groups.retain(|known| *known != group);
        self.put(records).await
    }

    async fn forget(records: &NodeRecords) -> Result<(), RecordError> {
        records.remove(RECORD).await
    }

    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(9 + 4 * self.groups.len());
        bytes.put_u8(VERSION);
        bytes.put_u64_le(self.recalled);
        self.groups.iter().for_each(|group| bytes.put_u32_le(group.0));
        bytes.freeze()
    }

    fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < 9 || bytes.len() % 4 != 1 || bytes.get_u8() != VERSION {
            return None;
        }
        let recalled = bytes.get_u64_le();
        let groups = std::iter::from_fn(|| bytes.has_remaining().then(|| GroupId(bytes.get_u32_le())));
        Some(Self { recalled, groups: groups.collect() })
    }
}

/// The replicas take part once it is known that the disk is not an older copy, or they are held to what others know. Answers who
/// tells if it turns out to be one.
pub(crate) async fn admit(
    config: &NodeConfig,
    platform: &Platform,
    writer: &LogWriter,
    map: &ShardMap,
    replicas: &Replicas,
    work: &mut JoinSet<()>,
) -> Result<watch::Receiver<Option<String>>, StartError> {
    writer.flush().await.map_err(|reason| StartError::Older { reason: reason.to_string() })?;
    settle(replicas, &NodeRecords::new(Arc::clone(&platform.log_engine)), writer).await?;
    let asking = recall::Asking {
        mesh: replicas.mesh().clone(),
        writer: writer.clone(),
        log: Arc::clone(&platform.log_engine),
        peers: map.meta.iter().map(|placement| placement.node).filter(|node| *node != config.id).collect(),
        groups: map.groups_on(config.id).into_iter().map(|(group, _)| group).collect(),
        start: platform.entropy.next_u64(),
        patience: config.group.election_max,
    };
    let asked = asking.begin(|task| drop(work.spawn(task)));
    replicas.await_admission(asked.admission);
    Ok(asked.older)
}

/// The disk has turned out to be an older copy.
pub(crate) async fn give_up(context: Arc<NodeContext>, mut older: watch::Receiver<Option<String>>) {
    let found = older.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
    if let Some(why) = found {
        context.fail_for_now(why);
    }
}

/// Holds the replicas of an older disk to what others know of them, however long that takes. Nothing to do on any other disk.
async fn settle(replicas: &Replicas, records: &NodeRecords, writer: &LogWriter) -> Result<(), StartError> {
    let failed = |reason: String| StartError::Older { reason };
    let Some(note) = Note::of(records).await.map_err(failed)? else { return Ok(()) };
    tracing::error!(
        recalled = note.recalled,
        "the disk is an older copy: the others are asked what this node has promised, and until it has that again it has no say"
    );
    join_all(note.groups.iter().map(|group| held(replicas, *group))).await;
    // From here on the log is further than anybody recalls.
    writer.advance(note.recalled).await.map_err(|error| failed(error.to_string()))?;
    Note::forget(records).await.map_err(|error| failed(error.to_string()))
}

async fn held(replicas: &Replicas, group: GroupId) {
    let mut told = String::new();
    loop {
        let Err(why) = replicas.hold_to_others(group).await else { return };
        if told != why {
            tracing::warn!(%group, why, "it is not known yet what the replica has promised");
            told = why;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it will be found on disks for ever.
    #[test]
    fn golden_bytes() {
        let note = Note { recalled: 258, groups: vec![GroupId(0), GroupId(3)] };
        let golden = b"\x01\x02\x01\0\0\0\0\0\0\0\0\0\0\x03\0\0\0";
        assert_eq!(note.encode()[..], golden[..]);
        assert_eq!(Note::decode(Bytes::from_static(golden)), Some(note));
    }
}
