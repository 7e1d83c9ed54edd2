//! Refills the rows of a damaged replica from another node.
//!
//! The log of the damaged replica is intact, and so are its promises: votes and entries are kept. So it only needs the rows of
//! some committed moment from which its log continues, and every other replica has them. It requests a view, fetches it piece
//! by piece, and installs it like a snapshot. A view costs disk space on the other node, so there are few, and an unused view
//! is soon dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::{Bytes, BytesMut};
use ordergrid_cluster::{GroupRef, Mesh, NodeId, Promised, Recalled, StateStore, StateView, encoding};
use ordergrid_domain::GroupId;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::context::NodeContext;
use crate::peers::{decode, encode};
use crate::telemetry::metrics;

/// Number of the mesh service.
pub(crate) const SERVICE: u8 = 7;
/// Most views open at a time.
const VIEWS: usize = 4;
/// How long an unused view is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of rows in one answer.
const CHUNK: usize = 1 << 20;
/// Longest wait for one answer. The first answer may have to wait for a checkpoint.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request to another node.
#[derive(Debug, Encode, Decode)]
enum Ask {
    /// Opens a view of a group's rows that includes the entry of this index.
    Begin { group: GroupId, at_least: u64 },
    /// Fetches the rows of a view after this key.
    Rows { view: u64, after: Option<Vec<u8>> },
    /// Closes the view.
    End { view: u64 },
    /// Asks for the promises of a group's replica.
    Promised { group: GroupId },
}

/// The answer.
#[derive(Debug, Encode, Decode)]
enum Said {
    /// A view, and its meta.
    Begun { view: u64, meta: Vec<u8> },
    /// Rows in key order; empty at the end.
    Rows(Vec<(Vec<u8>, Vec<u8>)>),
    /// Refused for now, with the reason.
    No(String),
    /// The replica's vote and its last entry.
    Promised { vote: Vec<u8>, last: Option<Vec<u8>> },
    /// The replica has forgotten its promises as well.
    Forgotten,
}

struct Handed {
    view: Arc<dyn StateView>,
    asked: Instant,
}

/// Serves views of this node's rows.
#[derive(Clone, Default)]
pub(crate) struct RefillService(Arc<Inner>);

#[derive(Default)]
struct Inner {
    node: OnceLock<Weak<NodeContext>>,
    meta: OnceLock<(GroupRef, Arc<dyn StateStore>)>,
    views: Mutex<(u64, BTreeMap<u64, Handed>)>,
    /// Groups whose replicas on this node have forgotten their promises.
    forgotten: Mutex<BTreeSet<GroupId>>,
}

impl RefillService {
    /// Serves the mesh from now on. Shards are served after [`Self::open`].
    pub(crate) fn start(mesh: &Mesh) -> Self {
        let service = Self::default();
        let answering = service.clone();
        let answer = move |_, body: Bytes| -> futures::future::BoxFuture<'static, Bytes> {
            let service = answering.clone();
            Box::pin(async move {
                let Some(ask) = decode::<Ask>(&body) else { return Bytes::new() };
                encode(&service.answer(ask).await.unwrap_or_else(Said::No))
            })
        };
        mesh.serve(SERVICE, Arc::new(answer));
        service
    }

    /// Sets the node's shards.
    pub(crate) fn open(&self, node: &Arc<NodeContext>) {
        assert!(self.0.node.set(Arc::downgrade(node)).is_ok(), "a service is opened once");
    }

    /// Sets the node's meta group.
    pub(crate) fn open_meta(&self, group: GroupRef, store: Arc<dyn StateStore>) {
        assert!(self.0.meta.set((group, store)).is_ok(), "a service is opened once");
    }

    /// Sets whether the local replica of a group has forgotten its promises.
    pub(crate) fn forgotten(&self, group: GroupId, has: bool) {
        let mut forgotten = self.0.forgotten.lock();
        if has {
            forgotten.insert(group)
        } else {
            forgotten.remove(&group)
        };
    }

    async fn promised(&self, group: GroupId) -> Result<Said, String> {
        if self.0.forgotten.lock().contains(&group) {
            return Ok(Said::Forgotten);
        }
        let Promised { vote, last } = self.group(group)?.promised().await.ok_or("its replica takes no part yet")?;
        let mut encoded = BytesMut::new();
        encoding::encode_vote(&vote, &mut encoded);
        let last = last.map(|last| {
            let mut encoded = BytesMut::new();
            encoding::encode_log_id(&last, &mut encoded);
            encoded.to_vec()
        });
        Ok(Said::Promised { vote: encoded.to_vec(), last })
    }

    fn group(&self, group: GroupId) -> Result<GroupRef, String> {
        let starting = || "the node is starting".to_owned();
        if group == GroupId::META {
            return Ok(Arc::clone(&self.0.meta.get().ok_or_else(starting)?.0));
        }
        let node = self.0.node.get().and_then(Weak::upgrade).ok_or_else(starting)?;
        Ok(node.host(group).ok_or("there is no replica of it here")?.group())
    }

    fn source(&self, group: GroupId) -> Result<(GroupRef, Arc<dyn StateStore>), String> {
        if group == GroupId::META {
            return self.0.meta.get().cloned().ok_or_else(|| "the node is starting".to_owned());
        }
        let node = self.0.node.get().and_then(Weak::upgrade).ok_or("the node is starting")?;
        let host = node.host(group).ok_or("there is no replica of it here")?;
        if !host.is_whole() {
            return Err("the replica here is damaged, too".to_owned());
        }
        Ok((host.group(), Arc::clone(host.replica().store())))
    }

    async fn answer(&self, ask: Ask) -> Result<Said, String> {
        match ask {
            Ask::Begin { group, at_least } => {
                let (raft, store) = self.source(group)?;
                // The store may not have a checkpoint yet, or one that is too old.
                if raft.status().checkpoint <= at_least {
                    raft.checkpoint().await.map_err(|stopped| stopped.to_string())?;
                }
                let view = store.view().await.map_err(|error| error.to_string())?.ok_or("nothing is stored there")?;
                self.hand_out(view)
            }
            Ask::Rows { view, after } => {
                let rows = {
                    let mut views = self.0.views.lock();
                    let handed = views.1.get_mut(&view).ok_or("the view is gone")?;
                    handed.asked = Instant::now();
                    Arc::clone(&handed.view)
                };
                let rows = rows.next_chunk(after.map(Bytes::from), CHUNK).await.map_err(|error| error.to_string())?;
                Ok(Said::Rows(rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()))
            }
            Ask::Promised { group } => self.promised(group).await,
            Ask::End { view } => {
                self.0.views.lock().1.remove(&view);
                Ok(Said::Rows(Vec::new()))
            }
        }
    }

    fn hand_out(&self, view: Arc<dyn StateView>) -> Result<Said, String> {
        let mut views = self.0.views.lock();
        let now = Instant::now();
        views.1.retain(|_, handed| now - handed.asked < IDLE);
        if views.1.len() >= VIEWS {
            return Err("others are being filled from there".to_owned());
        }
        views.0 += 1;
        let (number, meta) = (views.0, view.meta().to_vec());
        views.1.insert(number, Handed { view, asked: now });
        drop(views);
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move { expire(inner, number).await });
        Ok(Said::Begun { view: number, meta })
    }
}

/// Drops unused views.
async fn expire(service: Weak<Inner>, view: u64) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(service) = service.upgrade() else { return };
        let mut views = service.views.lock();
        match views.1.get(&view) {
            None => return,
            Some(handed) if handed.asked.elapsed() >= IDLE => {
                views.1.remove(&view);
                return;
            }
            Some(_) => {}
        }
    }
}

async fn ask(mesh: &Mesh, node: NodeId, ask: &Ask) -> Result<Said, String> {
    let answered = mesh.call(node, SERVICE, encode(ask), PATIENCE).await;
    let body = answered.map_err(|error| format!("node {node}: {error}"))?;
    match decode::<Said>(&body) {
        Some(Said::No(why)) => Err(format!("node {node}: {why}")),
        Some(said) => Ok(said),
        None => Err(format!("node {node} speaks another version")),
    }
}

/// The promises of a group's replica on another node.
///
/// # Errors
/// The reason why they are not known, in words.
pub(crate) async fn promised(mesh: &Mesh, node: NodeId, group: GroupId) -> Result<Recalled, String> {
    match ask(mesh, node, &Ask::Promised { group }).await? {
        Said::Forgotten => Ok(Recalled::Forgotten),
        Said::Promised { vote, last } => {
            let vote = encoding::decode_vote(vote.into()).map_err(|error| format!("node {node}: {error}"))?;
            let last = last.map(|last| encoding::decode_log_id(last.into())).transpose();
            Ok(Recalled::Knows(Promised { vote, last: last.map_err(|error| format!("node {node}: {error}"))? }))
        }
        _ => Err(format!("node {node} answers something else")),
    }
}

/// Rows that another node offers.
pub(crate) struct Offer {
    node: NodeId,
    view: u64,
    meta: Bytes,
    /// The last entry that they include.
    pub(crate) covers: u64,
}

/// Requests the rows of the replica on `node`, as of a moment that includes the entry `at_least`.
///
/// # Errors
/// The reason for a failure, in words.
pub(crate) async fn offer(mesh: &Mesh, node: NodeId, group: GroupId, at_least: u64) -> Result<Offer, String> {
    let Said::Begun { view, meta } = ask(mesh, node, &Ask::Begin { group, at_least }).await? else {
        return Err(format!("node {node} answers something else"));
    };
    let meta = Bytes::from(meta);
    let covers = encoding::decode_snapshot_meta(meta.clone()).map_err(|error| error.to_string())?.last_log_id;
    let offer = Offer { node, view, meta, covers: covers.map_or(0, |last| last.index) };
    if offer.covers < at_least {
        let why = format!("node {node} has entry {}, entry {at_least} is needed", offer.covers);
        offer.end(mesh).await;
        return Err(why);
    }
    Ok(offer)
}

impl Offer {
    /// Replaces all rows of `store` with the offered ones.
    ///
    /// # Errors
    /// The reason for a failure, in words. The store is unchanged.
    pub(crate) async fn take(self, mesh: &Mesh, store: &dyn StateStore) -> Result<u64, String> {
        let taken = self.copy(mesh, store).await;
        let covers = self.covers;
        self.end(mesh).await;
        taken.map(|()| covers)
    }

    async fn copy(&self, mesh: &Mesh, store: &dyn StateStore) -> Result<(), String> {
        let mut install = store.install().await.map_err(|error| error.to_string())?;
        let mut after = None;
        loop {
            let Said::Rows(rows) = ask(mesh, self.node, &Ask::Rows { view: self.view, after: after.take() }).await? else {
                return Err(format!("node {} answers something else", self.node));
            };
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            let rows: Vec<_> = rows.into_iter().map(|(key, value)| (Bytes::from(key), Bytes::from(value))).collect();
            metrics::refilled(rows.iter().map(|(key, value)| key.len() + value.len()).sum());
            install.put(rows).await.map_err(|error| error.to_string())?;
        }
        install.commit(self.meta.clone()).await.map_err(|error| error.to_string())
    }

    /// If this fails, the view is kept a little longer.
    async fn end(self, mesh: &Mesh) {
        drop(ask(mesh, self.node, &Ask::End { view: self.view }).await);
    }
}
