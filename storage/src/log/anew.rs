//! Creates a new log database after the previous one became unreadable.
//!
//! Its replicas have made promises in the old database: votes, and entries that they have. What was vouched for is stored next
//! to the database, but a power loss may have left an older vouch, and a forgotten vote could be given twice. So the old
//! promises are not trusted: each replica is *forgotten*, and its log does not open ([`LogStore::open`] fails) until
//! [`LogStore::remember`] is called with an upper bound of its promises. The crates above decide where this bound comes from,
//! and why it is sufficient. It is stored here once, durably, and is then an ordinary floor (see `floor`).

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::RaftTypeConfig;
use openraft::alias::{LogIdOf, VoteOf};

use super::store::Nobody;
use super::vouch::Vouch;
use super::writer::{LogFailure, LogWriter, Request};
use super::{BoxError, EntryCodec, LogStore, floor, keys};
use crate::engine::{Batch, Durability, Engine, EngineError};
use crate::records::{NodeRecords, RecordError, put_record};

/// The record of a new database, with the reason for it.
const RECORD: &str = "begun-anew";

/// Initializes an empty log database: every one of `replicas` existed before, and is forgotten. `why` is stored. Has no effect
/// on a database with content, so it can be repeated after a crash.
///
/// # Errors
/// If the disk fails.
pub async fn begin_anew(engine: &Arc<dyn Engine>, replicas: &[u64], why: &str) -> Result<(), RecordError> {
    if !NodeRecords::new(Arc::clone(engine)).disk_is_empty().await? {
        return Ok(());
    }
    let mut batch = Batch::new();
    put_record(&mut batch, RECORD, why.as_bytes());
    // All or none: a replica without this row would be taken for one that has promised nothing.
    replicas.iter().for_each(|replica| floor::put_forgotten(&mut batch, *replica));
    engine.write(batch, Durability::Synced).await?;
    // A flipped bit in the new log must not take it away.
    Ok(engine.keep().await?)
}

/// Makes `replicas` forget their promises, durably, because the disk is an older copy of itself. Their entries stay. The log's
/// number is above `number` from then on.
///
/// # Errors
/// If the log has failed.
pub async fn forget_promises(writer: &LogWriter, replicas: &[u64], number: u64) -> Result<(), LogFailure> {
    let mut batch = Batch::new();
    replicas.iter().for_each(|replica| floor::put_forgotten(&mut batch, *replica));
    writer.written(batch, number).await?;
    // A flipped bit in the log must not undo this.
    writer.engine().keep().await.map_err(LogFailure)
}

/// Why the database was created anew, if it was.
///
/// # Errors
/// If the disk fails.
pub async fn begun_anew(engine: &Arc<dyn Engine>) -> Result<Option<String>, RecordError> {
    let why = NodeRecords::new(Arc::clone(engine)).get(RECORD).await?;
    Ok(why.map(|why| String::from_utf8_lossy(&why).into_owned()))
}

/// What a replica has vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VouchedFor<C: RaftTypeConfig> {
    /// Its vote.
    pub vote: Option<VoteOf<C>>,
    /// Its last entry.
    pub last: Option<LogIdOf<C>>,
}

/// What a replica had according to a vouch; nothing if the vouch does not name the replica.
///
/// # Errors
/// If the vouch cannot be decoded.
pub fn vouched_for<C, K>(vouch: Option<Bytes>, replica: u64, codec: &K) -> Result<VouchedFor<C>, BoxError>
where
    C: RaftTypeConfig,
    K: EntryCodec<C>,
{
    let mark = vouch.and_then(Vouch::decode).and_then(|mut vouch| vouch.marks.remove(&replica)).unwrap_or_default();
    let vote = (!mark.vote.is_empty()).then(|| codec.decode_vote(mark.vote)).transpose()?;
    let last = (!mark.last.is_empty()).then(|| codec.decode_log_id(mark.last)).transpose()?;
    Ok(VouchedFor { vote, last })
}

impl<C, K> LogStore<C, K>
where
    C: RaftTypeConfig,
    C::Entry: Clone,
    K: EntryCodec<C>,
{
    /// Whether the replica's promises are unknown on this node, so that its log does not open.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub async fn is_forgotten(writer: &LogWriter, replica_id: u64, codec: &K) -> io::Result<bool> {
        let key = Bytes::copy_from_slice(&keys::floor(replica_id));
        let row = writer.engine().get_many(vec![key]).await.map_err(super::error::disk)?.pop().flatten();
        let row = row.map(|frame| floor::open::<C, K>(replica_id, codec, frame)).transpose()?;
        Ok(matches!(row, Some(floor::Row::Forgotten)))
    }

    /// Stores an upper bound of a forgotten replica's promises, durably: its vote, which is restored when its log opens, and
    /// the last entry that other replicas may rely on, which is its floor.
    ///
    /// # Errors
    /// If the log has failed.
    pub async fn remember(
        writer: &LogWriter,
        replica_id: u64,
        codec: &K,
        vote: Option<&VoteOf<C>>,
        last: Option<&LogIdOf<C>>,
    ) -> io::Result<()> {
        let mark = floor::mark::<C, K>(codec, vote, last);
        let mut batch = Batch::new();
        floor::put(&mut batch, replica_id, &mark);
        if let Ok(slot) = writer.slot(0).await {
            let mark = Some((replica_id, Some(mark)));
            slot.queue(Request { number: 0, batch, entries: 0, sync: true, group: Arc::new(Nobody), mark, above: 0 });
        }
        writer.flush().await.map_err(io::Error::other)
    }
}

/// The database's error for a failed read: damage, or a disk failure.
impl From<RecordError> for EngineError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Engine(error) => error,
            damaged @ RecordError::Damaged { .. } => Self::Damaged(damaged.to_string()),
        }
    }
}
