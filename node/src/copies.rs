//! Whether the disk of this node is an older copy of itself: it has forgotten votes and entries then, and others count on them.
//!
//! A disk cannot tell. But every batch of the log has a number that never falls ([`LogWriter::reached`]), and each node tells its
//! peers how far its log is: twice a second, and at each start before its replicas take part. The peers keep the highest number
//! beside their own logs. A start asks them first, and is told how far its log was when they first heard of that start. Is that
//! further than what was found on the disk, then the disk is older: no replica takes part, the process ends, and its next start asks the
//! others what each replica had promised, as after the loss of a log (`recall`).
//!
//! At a start every peer is waited for that may be there, and one answer at the least is needed. So an older copy is noticed if a
//! peer answers that has heard of what is missing, at once or later. The number that a start has shown is durable on those who
//! answered before its replicas take part: a copy that was taken before a start is older from then on.

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

use crate::config::NodeConfig;
use crate::context::NodeContext;
use crate::glue;
use crate::lost_log;
use crate::node::StartError;

/// The mesh service.
const SERVICE: u8 = 8;
/// Version of the bytes, on the wire and on the disk.
const VERSION: u8 = 1;
/// Pause between two messages to a peer.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause before a peer is asked again that has not answered.
const AGAIN: Duration = Duration::from_millis(50);
/// More batches than a node writes while a peer is away: fifty days of a thousand a second.
const LEAP: u64 = 1 << 32;
/// No log is numbered beyond this.
const MOST: u64 = 1 << 60;
/// Numbers a log whose loss an operator has accepted, now, in milliseconds since 1970: beyond what anybody recalls, and beyond what was
/// accepted earlier.
pub(crate) fn number_at(now_ms: u64) -> u64 {
    (now_ms << 16).min(MOST)
}

/// Starts of a node that are remembered.
const STARTS: usize = 8;

/// What a process tells of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// Drawn when it was started.
    start: u64,
    /// How far the log was that it found on its disk.
    found: u64,
    /// How far it is now.
    reached: u64,
    /// It is to be kept durably before it is answered.
    firmly: bool,
}

/// What is recalled of a node's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Recalled {
    /// How far it was.
    reached: u64,
    /// Starts, and how far it was when each was first heard of.
    starts: VecDeque<(u64, u64)>,
}

impl Recalled {
    /// Hears of a log, and answers how far it was before its process was started.
    fn hear(&mut self, told: &Told) -> u64 {
        let known = self.starts.iter().find(|(start, _)| *start == told.start).map(|(_, before)| *before);
        let before = known.unwrap_or_else(|| {
            if self.starts.len() == STARTS {
                self.starts.pop_front();
            }
            self.starts.push_back((told.start, self.reached));
            self.reached
        });
        // What an older copy reaches must not hide what there was.
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

/// What is recalled of all peers, kept in the log database.
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
            // A disk that fails ends the node elsewhere.
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
    /// All replicas know that they have forgotten what they promised, so that nobody needs to tell them: the log was begun anew.
    anew: bool,
    /// Drawn anew by each start.
    start: u64,
    /// Peers that do not answer for so long are not waited for.
    patience: Duration,
}

/// What has come of asking so far.
pub(crate) struct Asked {
    /// Whether the replicas may take part.
    pub(crate) admission: Admission,
    /// Why they may not any more, in words, once there is a reason.
    pub(crate) older: watch::Receiver<Option<String>>,
}

impl Asking {
    /// Of a node that begins.
    ///
    /// # Errors
    /// If it is not among those of the cluster, or its log cannot be read.
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
            let forgotten = glue::is_forgotten::<TokioRuntime>(writer, *replica).await;
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

    /// Asks, and goes on telling for as long as the task lives that `spawn` runs. What the log has reached by now is what was
    /// found: nothing of it may have been written by this start's replicas.
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

    /// Ends only once a peer has recalled more than what was found, of replicas that do not know that they have forgotten.
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

    /// Shows the peers what was found, and has them keep a higher number.
    async fn shown(&self, found: u64) -> Result<(), Older> {
        let heard = self.heard(self.told(found, found, false), self.peers.len()).await?;
        let Ok(reached) = self.writer.advance(found).await else { return std::future::pending().await };
        self.heard(self.told(found, reached, true), heard).await?;
        Ok(())
    }

    /// Numbers the log beyond what anybody can recall who recalls `number` or somewhat more: peers that are away must not take a log that
    /// was begun anew for an older copy when they come back.
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

    /// Tells the peers until so many have answered, or one at the least and the others are not there. Answers how many have.
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

    /// Tells a peer how far the log is, for ever, unless that one recalls more than what was found.
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

    /// Has the replicas forget what they have promised, and answers with what was found in words.
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

/// The disk has turned out to be an older copy.
pub(crate) async fn give_up(context: Arc<NodeContext>, mut older: watch::Receiver<Option<String>>) {
    let found = older.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
    if let Some(why) = found {
        context.fail_for_now(why);
    }
}

/// A peer recalls more of the log than was found.
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

/// `None` for what is no answer: a node that is only starting, or of another version.
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
