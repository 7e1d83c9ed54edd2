//! Adapters: storage's types behind cluster's traits. Nothing here decides anything.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use openraft::AsyncRuntime;
use ordergrid_cluster::{
    Clocks, ClusterId, ClusterSpec, DirtyRows, EntryBody, IdentityStore, Install, Listener, LogId, NodeId, Promised, RaftEntry,
    RaftTypes, Row, StateStore, StateView, StoreError, Vote, WireCodec, encoding, founding_of,
};
use ordergrid_domain::GroupId;
use ordergrid_storage::{
    BoxError, ChangedRows, Engine, EntryCodec, Kind, LogLimits, LogStore, LogWriter, NodeRecords, RowSink, StateError,
    StateRows, WriterLimits, codec, log,
};

use crate::config::{MOST_NODES, NodeConfig};
use crate::context::NodeContext;
use crate::platform::{Clock, Platform};
use crate::recovery::wholeness::Wholeness;

/// The frame kind of messages between nodes.
const MESSAGE: Kind = Kind(64);
/// The record with the node's identity.
pub(crate) const IDENTITY: &str = "identity";

/// Storage's frames for the mesh.
pub(crate) struct WireFrames {
    /// Largest message in bytes.
    pub(crate) limit: usize,
}

impl WireCodec for WireFrames {
    fn seal(&self, body: &[u8], out: &mut BytesMut) {
        codec::seal_into(MESSAGE, body, out);
    }

    fn header_len(&self) -> usize {
        codec::HEADER_LEN
    }

    fn body_len(&self, header: &[u8]) -> io::Result<usize> {
        codec::body_len(header, self.limit).map_err(io::Error::other)
    }

    fn open(&self, frame: Bytes) -> io::Result<Bytes> {
        codec::open_bytes(MESSAGE, frame).map_err(io::Error::other)
    }
}

/// Cluster's encoding of entries, votes and log ids for storage's log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GridCodec;

impl<RT: AsyncRuntime> EntryCodec<RaftTypes<RT>> for GridCodec {
    fn encode_entry(&self, entry: &RaftEntry, out: &mut BytesMut) {
        encoding::encode_entry(entry, out);
    }

    fn decode_entry(&self, body: Bytes) -> Result<RaftEntry, BoxError> {
        Ok(encoding::decode_entry(body)?)
    }

    fn is_awaited(&self, entry: &RaftEntry) -> bool {
        matches!(&entry.payload, EntryBody::Normal(payload) if payload.0.is_awaited())
    }

    fn encode_vote(&self, vote: &Vote, out: &mut BytesMut) {
        encoding::encode_vote(vote, out);
    }

    fn decode_vote(&self, body: Bytes) -> Result<Vote, BoxError> {
        Ok(encoding::decode_vote(body)?)
    }

    fn encode_log_id(&self, id: &LogId, out: &mut BytesMut) {
        encoding::encode_log_id(id, out);
    }

    fn decode_log_id(&self, body: Bytes) -> Result<LogId, BoxError> {
        Ok(encoding::decode_log_id(body)?)
    }
}

/// The platform's clocks for leases: they show whether the machine was paused.
pub(crate) struct LeaseClocks(pub(crate) Arc<dyn Clock>);

impl Clocks for LeaseClocks {
    fn elapsed_ms(&self) -> u64 {
        self.0.monotonic_ms()
    }

    fn wall_ms(&self) -> u64 {
        self.0.wall_ms()
    }
}

/// Starts the node's one log writer.
pub(crate) fn log_writer(platform: &Platform, config: &NodeConfig) -> LogWriter {
    let limits = WriterLimits { queued_requests: config.limits.log_queue, ..WriterLimits::default() };
    LogWriter::start(Arc::clone(&platform.log_engine), limits, |task| drop(tokio::spawn(task)))
}

/// Opens the log of one replica.
pub(crate) async fn log_store<RT: AsyncRuntime>(
    writer: &LogWriter,
    replica: u64,
    config: &NodeConfig,
) -> io::Result<LogStore<RaftTypes<RT>, GridCodec>> {
    let limits = LogLimits { tail_bytes: config.log_tail, ..LogLimits::default() };
    LogStore::open(writer.clone(), replica, GridCodec, limits).await
}

/// Whether a replica has forgotten its promises because its log was lost.
pub(crate) async fn is_forgotten<RT: AsyncRuntime>(writer: &LogWriter, replica: u64) -> io::Result<bool> {
    LogStore::<RaftTypes<RT>, GridCodec>::is_forgotten(writer, replica, &GridCodec).await
}

/// Records an upper bound of its promises.
pub(crate) async fn remember<RT: AsyncRuntime>(writer: &LogWriter, replica: u64, promised: &Promised) -> io::Result<()> {
    let Promised { vote, last } = promised;
    LogStore::<RaftTypes<RT>, GridCodec>::remember(writer, replica, &GridCodec, Some(vote), last.as_ref()).await
}

/// Stops the node if the log fails: a log that has failed once cannot be trusted again.
pub(crate) async fn watch_log(context: Arc<NodeContext>, writer: LogWriter) {
    let failure = writer.failed().await;
    if !context.stopping() {
        context.fail(failure.to_string());
    }
}

/// Opens the rows of one replica. Damage found in them, now or later, is reported to `whole`.
pub(crate) async fn state_store(
    engine: Arc<dyn Engine>,
    replica: u64,
    whole: &Arc<Wholeness>,
) -> Result<Arc<dyn StateStore>, StoreError> {
    let rows = StateRows::open(engine, replica).await.map_err(|error| failed(whole, error))?;
    Ok(Arc::new(Rows(rows, Arc::clone(whole))))
}

fn failed(whole: &Wholeness, error: StateError) -> StoreError {
    if !error.is_damage() {
        return StoreError::new(error);
    }
    whole.damaged(&error.to_string());
    StoreError::damaged(error)
}

/// The rows of a replica, and where damage is reported.
struct Rows(StateRows, Arc<Wholeness>);

/// The rows of a replica that does not run: there are none, and none can be written.
pub(crate) struct NoRows;

fn vacant<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(std::future::ready(Err(StoreError::damaged("the replica's stored rows are damaged"))))
}

impl StateStore for NoRows {
    fn meta(&self) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        vacant()
    }

    fn get_many(&self, _keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, StoreError>> {
        vacant()
    }

    fn may_have(&self, _key: &[u8]) -> bool {
        true
    }

    fn scan(&self, _prefix: Bytes, _after: Option<Bytes>, _max_bytes: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        vacant()
    }

    fn checkpoint(&self, _meta: Bytes, _rows: DirtyRows) -> BoxFuture<'_, Result<(), StoreError>> {
        vacant()
    }

    fn view(&self) -> BoxFuture<'_, Result<Option<Arc<dyn StateView>>, StoreError>> {
        vacant()
    }

    fn install(&self) -> BoxFuture<'_, Result<Box<dyn Install>, StoreError>> {
        vacant()
    }
}

impl StateStore for Rows {
    fn meta(&self) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        Box::pin(std::future::ready(Ok(self.0.meta())))
    }

    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, StoreError>> {
        Box::pin(async { self.0.get_many(keys).await.map_err(|error| failed(&self.1, error)) })
    }

    fn may_have(&self, key: &[u8]) -> bool {
        self.0.may_have(key)
    }

    fn scan(&self, prefix: Bytes, after: Option<Bytes>, max_bytes: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move { self.0.scan(prefix, after, max_bytes).await.map_err(|error| failed(&self.1, error)) })
    }

    fn checkpoint(&self, meta: Bytes, rows: DirtyRows) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.0.checkpoint(meta, Changed(rows)).await.map_err(|error| failed(&self.1, error)) })
    }

    fn view(&self) -> BoxFuture<'_, Result<Option<Arc<dyn StateView>>, StoreError>> {
        Box::pin(async {
            let view = self.0.view().await.map_err(|error| failed(&self.1, error))?;
            Ok(view.map(|view| Arc::new(View(view, Arc::clone(&self.1))) as Arc<dyn StateView>))
        })
    }

    fn install(&self) -> BoxFuture<'_, Result<Box<dyn Install>, StoreError>> {
        Box::pin(async { Ok(Box::new(Installing(self.0.install().await, Arc::clone(&self.1))) as Box<dyn Install>) })
    }
}

/// The rows of a checkpoint.
struct Changed(DirtyRows);

impl ChangedRows for Changed {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.size()
    }

    fn show(self, to: RowSink<'_>) {
        self.0.show(to);
    }
}

struct View(ordergrid_storage::StateView, Arc<Wholeness>);

impl StateView for View {
    fn meta(&self) -> Bytes {
        self.0.meta()
    }

    fn next_chunk(&self, after: Option<Bytes>, max_bytes: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move { self.0.next_chunk(after, max_bytes).await.map_err(|error| failed(&self.1, error)) })
    }
}

struct Installing(ordergrid_storage::Install, Arc<Wholeness>);

impl Install for Installing {
    fn put(&mut self, rows: Vec<Row>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { self.0.put(rows).await.map_err(|error| failed(&self.1, error)) })
    }

    fn commit(self: Box<Self>, meta: Bytes) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { self.0.commit(meta).await.map_err(|error| failed(&self.1, error)) })
    }
}

/// The node's identity, stored in the log database, whose writes are synced.
pub(crate) struct Identity {
    node: NodeId,
    records: NodeRecords,
    log: Arc<dyn Engine>,
    state: Arc<dyn Engine>,
}

impl Identity {
    pub(crate) fn new(node: NodeId, log: Arc<dyn Engine>, state: Arc<dyn Engine>) -> Self {
        Self { node, records: NodeRecords::new(Arc::clone(&log)), log, state }
    }

    /// Whether there must be a record. A new log need not have one.
    async fn must_be_there(&self) -> io::Result<bool> {
        if self.forgotten().await? {
            return Ok(false);
        }
        // A log existed before.
        Ok(self.log.vouched().is_some() || !self.records.disk_is_empty().await.map_err(io::Error::other)?)
    }
}

impl IdentityStore for Identity {
    fn load(&self) -> BoxFuture<'_, io::Result<Option<Bytes>>> {
        Box::pin(async {
            let record = self.records.get(IDENTITY).await.map_err(io::Error::other)?;
            if record.is_none() && self.must_be_there().await? {
                return Err(io::Error::other("the disk holds data but does not say whose"));
            }
            Ok(record)
        })
    }

    fn save(&self, record: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move { self.records.put(IDENTITY, &record).await.map_err(io::Error::other) })
    }

    fn forgotten(&self) -> BoxFuture<'_, io::Result<bool>> {
        Box::pin(async { Ok(log::begun_anew(&self.log).await.map_err(io::Error::other)?.is_some()) })
    }

    fn founding(&self) -> BoxFuture<'_, io::Result<Option<(ClusterId, ClusterSpec)>>> {
        Box::pin(async {
            // Replica ids were first assigned to the meta group, one for each node. Which of them is this node's depends on the
            // identity that is being looked up.
            for replica in 1..=MOST_NODES as u64 {
                // Damage is returned as an error: nothing runs yet that could repair it.
                let whole = Arc::new(Wholeness::new(GroupId::META));
                let store = state_store(Arc::clone(&self.state), replica, &whole).await.map_err(io::Error::other)?;
                let Some((cluster, founding)) = founding_of(&*store).await.map_err(io::Error::other)? else { continue };
                let of = founding.shard_map().meta.iter().find(|placement| placement.replica == replica).map(|of| of.node);
                if let Some(of) = of.filter(|of| *of != self.node) {
                    return Err(io::Error::other(format!("the rows on this disk are of node {of}, not of node {}", self.node)));
                }
                return Ok(Some((cluster, founding)));
            }
            Ok(None)
        })
    }
}

/// The node's listener as a source of HTTP connections.
pub(crate) struct HttpAccept(pub(crate) Box<dyn Listener>);

impl ordergrid_api::Accept for HttpAccept {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ordergrid_api::Stream>, String)>> {
        Box::pin(async {
            let (stream, peer) = self.0.accept().await?;
            Ok((Box::new(stream) as Box<dyn ordergrid_api::Stream>, peer))
        })
    }
}

#[cfg(test)]
mod tests {
    use openraft::TokioRuntime;
    use openraft::testing::log::{StoreBuilder, Suite};
    use ordergrid_cluster::{Applier, MetaMachine};
    use ordergrid_domain::GroupId;
    use ordergrid_storage::MemEngine;

    use super::*;

    struct Pair;

    impl StoreBuilder<RaftTypes<TokioRuntime>, LogStore<RaftTypes<TokioRuntime>, GridCodec>, Applier<TokioRuntime>, ()> for Pair {
        async fn build(
            &self,
        ) -> Result<
            ((), LogStore<RaftTypes<TokioRuntime>, GridCodec>, Applier<TokioRuntime>),
            openraft::StorageError<RaftTypes<TokioRuntime>>,
        > {
            let writer = LogWriter::start(Arc::new(MemEngine::new()), WriterLimits::default(), |task| {
                drop(tokio::spawn(task));
            });
            let log = LogStore::open(writer, 1, GridCodec, LogLimits::default()).await.expect("an empty log opens");
            let store = state_store(Arc::new(MemEngine::new()), 1, &Arc::new(Wholeness::new(GroupId::META))).await;
            let store = store.expect("an empty state opens");
            let machine = MetaMachine::new(Arc::clone(&store));
            let applier = Applier::open(GroupId::META, machine, store, u64::MAX).await.expect("an empty store opens");
            Ok(((), log, applier))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn log_and_state_machine_together_keep_openrafts_contract() {
        Suite::test_all(Pair).await.expect("every case holds");
    }
}
