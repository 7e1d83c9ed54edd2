//! The smallest Raft that a log can be tested with: a type config, a codec, and a state machine that remembers nothing
//! but where it is.

use std::collections::BTreeSet;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::{Stream, StreamExt};
use openraft::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::vote::leader_id_std;
use openraft::{EntryPayload, Membership, OptionalSend, RaftSnapshotBuilder, RaftTypeConfig};
use ordergrid_storage::{BoxError, EntryCodec, LogLimits, LogStore, LogWriter, WriterLimits};

use crate::disks::Disk;

openraft::declare_raft_types!(
    pub(crate) TestConfig:
        Node = openraft::EmptyNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type Entry = <TestConfig as RaftTypeConfig>::Entry;
pub(crate) type LogId = LogIdOf<TestConfig>;
pub(crate) type Vote = VoteOf<TestConfig>;
pub(crate) type Store = LogStore<TestConfig, TestCodec>;

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(leader_id_std::CommittedLeaderId::new(term), index)
}

pub(crate) fn entry(term: u64, index: u64, text: &str) -> Entry {
    Entry::new_normal(log_id(term, index), text.to_owned())
}

/// A writer on a task of the current runtime.
pub(crate) fn writer(disk: &dyn Disk) -> LogWriter {
    writer_on(disk.open())
}

pub(crate) fn writer_on(engine: std::sync::Arc<dyn ordergrid_storage::Engine>) -> LogWriter {
    LogWriter::start(engine, WriterLimits::default(), |task| drop(tokio::spawn(task)))
}

pub(crate) async fn store(writer: &LogWriter, replica: u64) -> Store {
    store_within(writer, replica, LogLimits::default()).await
}

pub(crate) async fn store_within(writer: &LogWriter, replica: u64, limits: LogLimits) -> Store {
    Store::open(writer.clone(), replica, TestCodec, limits).await.expect("the disk works and is not damaged")
}

/// The text of an entry that somebody waits for.
pub(crate) const AWAITED: &str = "awaited";

/// Log id, then a tag, then what the tag says.
#[derive(Clone, Copy)]
pub(crate) struct TestCodec;

impl EntryCodec<TestConfig> for TestCodec {
    fn encode_entry(&self, entry: &Entry, out: &mut BytesMut) {
        self.encode_log_id(&entry.log_id(), out);
        match &entry.payload {
            EntryPayload::Blank => out.put_u8(0),
            EntryPayload::Normal(text) => {
                out.put_u8(1);
                out.put_slice(text.as_bytes());
            }
            EntryPayload::Membership(membership) => {
                out.put_u8(2);
                out.put_u8(membership.get_joint_config().len() as u8);
                for voters in membership.get_joint_config() {
                    put_ids(voters.iter().copied(), out);
                }
                put_ids(membership.nodes().map(|(id, _)| *id), out);
            }
        }
    }

    fn decode_entry(&self, mut body: Bytes) -> Result<Entry, BoxError> {
        let id = take_log_id(&mut body)?;
        let payload = match body.try_get_u8()? {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Normal(String::from_utf8(body.to_vec())?),
            2 => {
                let configs = body.try_get_u8()?;
                let configs = (0..configs).map(|_| take_ids(&mut body)).collect::<Result<Vec<_>, _>>()?;
                EntryPayload::Membership(Membership::new_with_defaults(configs, take_ids(&mut body)?))
            }
            tag => return Err(format!("no payload has the tag {tag}").into()),
        };
        Ok(Entry::new(id, payload))
    }

    /// Those whose text says so.
    fn is_awaited(&self, entry: &Entry) -> bool {
        matches!(&entry.payload, EntryPayload::Normal(text) if text == AWAITED)
    }

    fn encode_vote(&self, vote: &Vote, out: &mut BytesMut) {
        out.put_u64_le(vote.leader_id().term);
        out.put_u64_le(vote.leader_id().voted_for);
        out.put_u8(vote.is_committed().into());
    }

    fn decode_vote(&self, mut body: Bytes) -> Result<Vote, BoxError> {
        let (term, voted_for) = (body.try_get_u64_le()?, body.try_get_u64_le()?);
        Ok(if body.try_get_u8()? == 1 { Vote::new_committed(term, voted_for) } else { Vote::new(term, voted_for) })
    }

    fn encode_log_id(&self, id: &LogId, out: &mut BytesMut) {
        out.put_u64_le(id.leader_id.term);
        out.put_u64_le(id.index);
    }

    fn decode_log_id(&self, mut body: Bytes) -> Result<LogId, BoxError> {
        take_log_id(&mut body)
    }
}

fn take_log_id(body: &mut Bytes) -> Result<LogId, BoxError> {
    Ok(log_id(body.try_get_u64_le()?, body.try_get_u64_le()?))
}

fn put_ids(ids: impl Iterator<Item = u64>, out: &mut BytesMut) {
    let ids: Vec<u64> = ids.collect();
    out.put_u8(ids.len() as u8);
    ids.into_iter().for_each(|id| out.put_u64_le(id));
}

fn take_ids(body: &mut Bytes) -> Result<BTreeSet<u64>, BoxError> {
    let ids = body.try_get_u8()?;
    (0..ids).map(|_| Ok(body.try_get_u64_le()?)).collect()
}

/// Knows what was applied last, and under which membership.
#[derive(Clone, Default)]
pub(crate) struct Machine {
    applied: Option<LogId>,
    membership: StoredMembershipOf<TestConfig>,
    snapshot: Option<SnapshotMetaOf<TestConfig>>,
}

impl RaftSnapshotBuilder<TestConfig> for std::sync::Arc<parking_lot::Mutex<Machine>> {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TestConfig, ()>> {
        let mut machine = self.lock();
        let meta = SnapshotMetaOf::<TestConfig> { last_log_id: machine.applied, last_membership: machine.membership.clone() };
        machine.snapshot = Some(meta.clone());
        Ok(SnapshotOf::<TestConfig, ()> { meta, snapshot: () })
    }
}

impl RaftStateMachine<TestConfig> for std::sync::Arc<parking_lot::Mutex<Machine>> {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembershipOf<TestConfig>)> {
        let machine = self.lock();
        Ok((machine.applied, machine.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TestConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let mut machine = self.lock();
            machine.applied = Some(entry.log_id());
            if let EntryPayload::Membership(membership) = &entry.payload {
                machine.membership = StoredMembershipOf::<TestConfig>::new(Some(entry.log_id()), membership.clone());
            }
            if let Some(responder) = responder {
                responder.send(String::new());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<TestConfig>, _snapshot: ()) -> io::Result<()> {
        let mut machine = self.lock();
        machine.applied = meta.last_log_id;
        machine.membership = meta.last_membership.clone();
        machine.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TestConfig, ()>>> {
        let meta = self.lock().snapshot.clone();
        Ok(meta.map(|meta| SnapshotOf::<TestConfig, ()> { meta, snapshot: () }))
    }
}
