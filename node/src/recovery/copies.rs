//! Detects that this node's disk is an older copy of itself. Such a disk has forgotten votes and entries on which other nodes
//! rely.
//!
//! The disk itself does not show it. But every batch of the log has a number that never decreases ([`LogWriter::reached`]).
//! Each node reports this number to its peers, twice a second, and at each start before its replicas take part. The peers store
//! the highest number next to their own logs. A start asks them first: they answer with the number that they knew when they
//! first heard of this start. If that is higher than the number found on the disk, the disk is older: no replica takes part,
//! the process ends, and its next start asks the other nodes for the promises of each replica, as after the loss of a log
//! (`recall`).
//!
//! A start waits for every peer that may be there, and needs at least one answer. So an older copy is detected if a peer
//! answers that knows of the missing batches, now or later. The number that a start reports is durable on the peers that
//! answered before its replicas take part, so a copy taken before that start is older from then on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::impls::TokioRuntime;
use ordergrid_cluster::{Admission, Mesh, NodeId, ReplicaId, ShardMap};
use ordergrid_domain::GroupId;
use ordergrid_storage::{Engine, LogFailure, LogWriter, NodeRecords, RecordError, log};
use tokio::sync::{Mutex, watch};

use crate::adapters;
use crate::config::NodeConfig;
use crate::context::NodeContext;
use crate::node::StartError;
use crate::recovery::lost_log;

/// Number of the mesh service.
const SERVICE: u8 = 8;
/// Version of the messages and of the stored record.
const VERSION: u8 = 1;
/// Pause between two messages to a peer.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause after a message without an answer.
const AGAIN: Duration = Duration::from_millis(50);
/// More batches than a node writes while a peer is away: fifty days at a thousand per second.
const LEAP: u64 = 1 << 32;
/// Highest number of a batch.
const MOST: u64 = 1 << 60;
/// The number for a log whose loss an operator accepts now, in milliseconds since 1970: higher than any number that a peer
/// knows, and than that of an earlier accepted loss.
/// accepted earlier.
pub(crate) fn number_at(now_ms: u64) -> u64 {
    (now_ms << 16).min(MOST)
}

/// Most starts of a node that are remembered.
const STARTS: usize = 8;

/// A process's report about its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// Random number of the start.
    start: u64,
    /// The number that was found on the disk.
    found: u64,
    /// The current number.
    reached: u64,
    /// Whether the peer must store the report durably before it answers.
    firmly: bool,
}

/// A peer's knowledge of a node's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Recalled {
    /// The highest reported number.
    reached: u64,
    /// Starts, and the number that was known when each was first heard of.
    starts: VecDeque<(u64, u64)>,
}

impl Recalled {
    /// Records a report. Returns the number that was known before its process was started.
    fn hear(&mut self, told: &Told) -> u64 {
        let known = self.starts.iter().find(|(start, _)| *start == told.start).map(|(_, before)| *before);
        let before = known.unwrap_or_else(|| {
            if self.starts.len() == STARTS {
                self.starts.pop_front();
            }
            self.starts.push_back((told.start, self.reached));
            self.reached
        });
        // The number of an older copy must not replace a higher one.
        if before <= told.found {
            self.reached = self.reached.max(told.reached);
        }
        before
    }

    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(10 + 16 * self.starts.len());
        bytes.put_u8(VERSION);
        bytes.put_u64_le(self.reached);
        for (start, before) in &self.starts {
            bytes.put_u64_le(*start);
            bytes.put_u64_le(*before);
        }
        bytes.freeze()
    }

    fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < 9 || bytes.len() % 16 != 9 || bytes.get_u8() != VERSION {
            return None;
        }
        let reached = bytes.get_u64_le();
        let starts = std::iter::from_fn(|| bytes.has_remaining().then(|| (bytes.get_u64_le(), bytes.get_u64_le())));
        Some(Self { reached, starts: starts.collect() })
    }
}

/// The knowledge of all peers' logs, stored in the log database.
struct Register {
    records: NodeRecords,
    nodes: Mutex<BTreeMap<NodeId, Recalled>>,
}

fn record(node: NodeId) -> String {
    format!("recalled/{node}")
}

impl Register {
    async fn hear(&self, from: NodeId, told: &Told) -> Result<u64, RecordError> {
        let mut nodes = self.nodes.lock().await;
        let mut recalled = match nodes.get(&from) {
            Some(recalled) => recalled.clone(),
            None => self.records.get(&record(from)).await?.and_then(Recalled::decode).unwrap_or_default(),
        };
        let heard = recalled.clone();
        let before = recalled.hear(told);
        if told.firmly {
            self.records.put(&record(from), &recalled.encode()).await?;
        } else if recalled != heard {
            self.records.put_soon(&record(from), &recalled.encode()).await?;
        }
        nodes.insert(from, recalled);
        Ok(before)
    }
}

/// Answers peers from now on.
pub(crate) fn serve(mesh: &Mesh, log: &Arc<dyn Engine>) {
    let register = Arc::new(Register { records: NodeRecords::new(Arc::clone(log)), nodes: Mutex::default() });
    let answer = move |from, body: Bytes| -> futures::future::BoxFuture<'static, Bytes> {
        let register = Arc::clone(&register);
        Box::pin(async move {
            let Some(told) = told_from(body) else { return Bytes::new() };
            // The log writer's own failure ends the node.
            register.hear(from, &told).await.map_or_else(|_| Bytes::new(), answer_bytes)
        })
    };
    mesh.serve(SERVICE, Arc::new(answer));
}

/// A start that asks its peers whether its disk is an older copy.
pub(crate) struct Asking {
    mesh: Mesh,
    writer: LogWriter,
    peers: Vec<NodeId>,
    /// The replicas on this node.
    replicas: Vec<ReplicaId>,
    /// Whether all replicas know that they have forgotten their promises, because the log was created anew.
    anew: bool,
    /// Random number of the start.
    start: u64,
    /// Peers that do not answer within this time are not waited for.
    patience: Duration,
}

/// The result so far.
pub(crate) struct Asked {
    /// Whether the replicas may take part.
    pub(crate) admission: Admission,
    /// Why the replicas must not take part, once there is a reason.
    pub(crate) older: watch::Receiver<Option<String>>,
}

impl Asking {
    /// The state at a start.
    ///
    /// # Errors
    /// If this node is not in the cluster, or its log cannot be read.
    pub(crate) async fn of(
        config: &NodeConfig,
        mesh: &Mesh,
        writer: &LogWriter,
        map: &ShardMap,
        start: u64,
    ) -> Result<Self, StartError> {
        let replicas: Vec<_> = lost_log::own(config)?.into_iter().map(|(_, replica)| replica).collect();
        let mut anew = true;
        for replica in &replicas {
            let forgotten = adapters::is_forgotten::<TokioRuntime>(writer, *replica).await;
            let failed = |reason: std::io::Error| StartError::Group { group: GroupId::META, reason: reason.to_string() };
            anew &= forgotten.map_err(failed)?;
        }
        Ok(Self {
            mesh: mesh.clone(),
            writer: writer.clone(),
            peers: map.meta.iter().map(|placement| placement.node).filter(|node| *node != config.id).collect(),
            replicas,
            start,
            patience: config.group.election_max,
            anew,
        })
    }

    /// Asks the peers, and keeps reporting for as long as the task runs that `spawn` starts. The current number of the log
    /// counts as found on the disk, so this start's replicas must not have written yet.
    ///
    /// # Errors
    /// If the log has failed.
    pub(crate) async fn begin(self, spawn: impl FnOnce(futures::future::BoxFuture<'static, ()>)) -> Result<Asked, StartError> {
        let failed = |reason: LogFailure| StartError::Group { group: GroupId::META, reason: reason.to_string() };
        self.writer.flush().await.map_err(failed)?;
        let (admit, admission) = watch::channel(self.peers.is_empty());
        let (found_older, older) = watch::channel(None);
        if !self.peers.is_empty() {
            let found = self.writer.reached();
            spawn(Box::pin(async move {
                let Err(older) = self.ask(found, &admit).await;
                // No replica takes part from here on.
                drop(admit);
                found_older.send_replace(Some(self.note(&older).await));
            }));
        }
        Ok(Asked { admission, older })
    }

    /// Ends only if a peer knows a higher number than the one that was found, and the replicas do not know that they have
    /// forgotten.
    async fn ask(&self, mut found: u64, admit: &watch::Sender<bool>) -> Result<std::convert::Infallible, Older> {
        if self.anew {
            found = self.beyond(found).await;
        }
        loop {
            let older = match self.shown(found).await {
                Ok(()) => {
                    admit.send_replace(true);
                    let telling = self.peers.iter().map(|peer| Box::pin(self.tell(*peer, found)));
                    futures::future::select_all(telling).await.0
                }
                Err(older) => older,
            };
            if !self.anew {
                return Err(older);
            }
            found = self.beyond(older.recalled).await;
        }
    }

    /// Reports the number found, and makes the peers store a higher one.
    async fn shown(&self, found: u64) -> Result<(), Older> {
        let heard = self.heard(self.told(found, found, false), self.peers.len()).await?;
        let Ok(reached) = self.writer.advance(found).await else { return std::future::pending().await };
        self.heard(self.told(found, reached, true), heard).await?;
        Ok(())
    }

    /// Raises the log's number above any number that a peer can know if it knows about `number`. Absent peers must not take a
    /// log that was created anew for an older copy when they come back.
    async fn beyond(&self, number: u64) -> u64 {
        match self.writer.advance(number + LEAP).await {
            Ok(reached) => reached,
            // The log writer's own failure ends the node.
            Err(error) => {
                tracing::debug!(%error, "log number not advanced");
                std::future::pending().await
            }
        }
    }

    fn told(&self, found: u64, reached: u64, firmly: bool) -> Told {
        Told { start: self.start, found, reached, firmly }
    }

    /// Reports to the peers until `enough` of them have answered, or at least one if the others are not there. Returns how many
    /// have.
    async fn heard(&self, told: Told, enough: usize) -> Result<usize, Older> {
        let asked = self.peers.iter().map(|peer| async move { (*peer, self.answered(*peer, &told).await) });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (mut heard, mut patient) = (0, true);
        let patience = tokio::time::sleep(self.patience);
        tokio::pin!(patience);
        while heard < enough && (patient || heard == 0) {
            tokio::select! {
                biased;
                Some((peer, before)) = asked.next() => {
                    Older::unless(peer, before, told.found)?;
                    heard += 1;
                }
                () = &mut patience, if patient => patient = false,
            }
        }
        Ok(heard)
    }

    async fn answered(&self, peer: NodeId, told: &Told) -> u64 {
        loop {
            if let Some(before) = self.once(peer, told).await {
                return before;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn once(&self, peer: NodeId, told: &Told) -> Option<u64> {
        let answer = self.mesh.call(peer, SERVICE, told_bytes(told), self.patience / 2).await;
        answer_from(answer.ok()?)
    }

    /// Reports the log's number to a peer forever, unless the peer knows a higher number than the one found.
    async fn tell(&self, peer: NodeId, found: u64) -> Older {
        loop {
            tokio::time::sleep(PAUSE).await;
            if let Some(before) = self.once(peer, &self.told(found, self.writer.reached(), false)).await
                && let Err(older) = Older::unless(peer, before, found)
            {
                return older;
            }
        }
    }

    /// Makes the replicas forget their promises, and returns the finding in words.
    async fn note(&self, found: &Older) -> String {
        let next = match log::forget_promises(&self.writer, &self.replicas, found.recalled + LEAP).await {
            Ok(()) => {
                "the next start asks the others what this node has promised, and takes part once it has that again".to_owned()
            }
            Err(failed) => format!("that cannot be written down: {failed}"),
        };
        format!(
            "its disk is an older copy: node {} recalls batch {} of its log, and it ends at batch {}; {next}",
            found.peer, found.recalled, found.found
        )
    }
}

/// The disk is an older copy.
pub(crate) async fn give_up(context: Arc<NodeContext>, mut older: watch::Receiver<Option<String>>) {
    let found = older.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
    if let Some(why) = found {
        context.fail_for_now(why);
    }
}

/// A peer knows a higher number than the one found.
#[derive(Debug, PartialEq, Eq)]
struct Older {
    peer: NodeId,
    recalled: u64,
    found: u64,
}

impl Older {
    fn unless(peer: NodeId, recalled: u64, found: u64) -> Result<(), Self> {
        if recalled <= found { Ok(()) } else { Err(Self { peer, recalled, found }) }
    }
}

fn told_bytes(told: &Told) -> Bytes {
    let mut bytes = BytesMut::with_capacity(26);
    bytes.put_u8(VERSION);
    bytes.put_u64_le(told.start);
    bytes.put_u64_le(told.found);
    bytes.put_u64_le(told.reached);
    bytes.put_u8(u8::from(told.firmly));
    bytes.freeze()
}

fn told_from(mut bytes: Bytes) -> Option<Told> {
    if bytes.len() != 26 || bytes.get_u8() != VERSION {
        return None;
    }
    let (start, found, reached) = (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u64_le());
    let told = Told { start, found, reached, firmly: bytes.get_u8() != 0 };
    (found.max(reached) <= MOST).then_some(told)
}

fn answer_bytes(before: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(9);
    bytes.put_u8(VERSION);
    bytes.put_u64_le(before);
    bytes.freeze()
}

/// `None` if the bytes are not an answer: the peer is only starting, or runs another version.
fn answer_from(mut bytes: Bytes) -> Option<u64> {
    (bytes.len() == 9 && bytes.get_u8() == VERSION).then(|| bytes.get_u64_le()).filter(|before| *before <= MOST)
}

#[cfg(test)]
mod tests {
    use ordergrid_storage::MemEngine;

    use super::*;

    /// Start, what was found and what is reached.
    type Heard = (u64, u64, u64);

    #[test]
    fn who_comes_back_with_less_than_was_heard_is_told_so() {
        #[rustfmt::skip]
        let cases: [(&str, &[Heard], &[u64]); 6] = [
            // what                           start, found, reached                              what is recalled
            ("one start",                     &[(1, 0, 0), (1, 0, 1), (1, 0, 9)],                &[0, 0, 0]),
            ("started again",                 &[(1, 0, 9), (2, 9, 9), (2, 9, 10), (3, 12, 12)],  &[0, 9, 9, 10]),
            ("a copy from before the end",    &[(1, 0, 9), (2, 8, 8)],                           &[0, 9]),
            ("one from before the start",     &[(1, 0, 9), (2, 9, 10), (3, 9, 9)],               &[0, 9, 10]),
            ("it stays one, however far",     &[(1, 0, 9), (2, 8, 8), (2, 8, 30), (3, 9, 9)],    &[0, 9, 9, 9]),
            ("what the first said comes late", &[(1, 0, 9), (2, 9, 12), (1, 0, 8), (2, 9, 13)],  &[0, 9, 0, 9]),
        ];
        for (what, told, expected) in cases {
            let mut recalled = Recalled::default();
            let hear = |told: &Heard| recalled.hear(&Told { start: told.0, found: told.1, reached: told.2, firmly: false });
            assert_eq!(told.iter().map(hear).collect::<Vec<_>>(), expected, "{what}");
        }
    }

    #[tokio::test]
    async fn what_is_told_firmly_survives_the_one_who_was_told() {
        let disk = MemEngine::new();
        let register = |disk: &MemEngine| {
            let log: Arc<dyn Engine> = Arc::new(disk.clone());
            Register { records: NodeRecords::new(log), nodes: Mutex::default() }
        };
        let one = register(&disk);
        let told = |start, found, reached, firmly| Told { start, found, reached, firmly };
        assert_eq!(one.hear(2, &told(1, 0, 0, false)).await, Ok(0));
        assert_eq!(one.hear(2, &told(1, 0, 5, true)).await, Ok(0));
        assert_eq!(one.hear(2, &told(1, 0, 6, false)).await, Ok(0));
        disk.crash();
        let other = register(&disk);
        assert_eq!(other.hear(2, &told(1, 0, 7, false)).await, Ok(0), "the same start is known");
        assert_eq!(other.hear(2, &told(2, 4, 4, false)).await, Ok(7));
        assert_eq!(other.hear(3, &told(2, 4, 4, false)).await, Ok(0), "another node");
    }

    #[test]
    fn bytes_are_fixed_and_nothing_else_is_understood() {
        let told = Told { start: 1, found: 2, reached: 3, firmly: true };
        let golden = b"\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x01";
        assert_eq!(told_bytes(&told)[..], golden[..]);
        assert_eq!(told_from(Bytes::from_static(golden)), Some(told));
        assert_eq!(told_from(Bytes::from_static(&golden[..25])), None);
        assert_eq!(answer_bytes(258)[..], b"\x01\x02\x01\0\0\0\0\0\0"[..]);
        assert_eq!(answer_from(answer_bytes(258)), Some(258));
        assert_eq!(answer_from(Bytes::new()), None);
        assert_eq!(answer_from(answer_bytes(u64::MAX)), None, "no log gets there");
        assert_eq!(told_from(told_bytes(&Told { reached: MOST + 1, ..told })), None);
        let recalled = Recalled { reached: 9, starts: [(1, 2)].into() };
        let golden = b"\x01\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0";
        assert_eq!(recalled.encode()[..], golden[..]);
        assert_eq!(Recalled::decode(Bytes::from_static(golden)), Some(recalled));
        assert_eq!(Recalled::decode(Bytes::from_static(&golden[..20])), None);
    }
}
