//! The meta group's machine: nodes, shard map, settings.
//!
//! The state is small and changes rarely. It is kept as one decoded view, which every change replaces as a whole and publishes
//! to its readers. The rows are the cluster's record, the map, one row per node and one per setting.

use std::collections::BTreeMap;
use std::sync::Arc;

use bincode::{Decode, Encode};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::map::ShardMap;
use super::spec::{ClusterSpec, NodeSpec};
use crate::group::GroupRef;
use crate::ids::{ClusterId, EntryId, NodeId};
use crate::machine::{DirtyRows, Machine, MachineError};
use crate::packed::Packed;
use crate::state::StateStore;

/// Bytes of rows read at a time.
const READ: usize = 1 << 20;

/// The cluster as the meta group knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaView {
    /// The cluster's identity.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// The feature level of every node. Commands of a higher level are not used yet.
    pub feature_level: u32,
    /// The next unused replica id.
    pub next_replica: u64,
    /// The nodes by id.
    pub nodes: BTreeMap<NodeId, NodeSpec>,
    /// The shard map.
    pub map: Arc<ShardMap>,
    /// Cluster-wide settings by name.
    pub settings: BTreeMap<String, String>,
}

impl MetaView {
    /// The description that the cluster was founded with.
    #[must_use]
    pub fn founding(&self) -> ClusterSpec {
        let shards = u32::try_from(self.map.shards.len()).expect("at most 4,096 shards");
        ClusterSpec { name: self.name.clone(), nodes: self.nodes.values().cloned().collect(), shards }
    }
}

/// Commands of the meta group. Variants are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
enum MetaCommand {
    /// Founds the cluster. No effect if it is founded already.
    InitV1(InitV1),
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct InitV1 {
    cluster: ClusterId,
    name: String,
    feature_level: u32,
    next_replica: u64,
    nodes: Vec<NodeSpec>,
    map: ShardMap,
}

#[derive(Encode, Decode)]
enum ClusterRow {
    V1 { cluster: ClusterId, name: String, feature_level: u32, next_replica: u64 },
}

const CLUSTER: &[u8] = b"cluster";
const MAP: &[u8] = b"map";
const NODE: &[u8] = b"node/";
const SETTING: &[u8] = b"setting/";

/// The machine of group 0.
pub struct MetaMachine {
    store: Arc<dyn StateStore>,
    view: watch::Sender<Option<Arc<MetaView>>>,
    dirty: Mutex<BTreeMap<Bytes, Option<Bytes>>>,
}

impl MetaMachine {
    /// An empty machine over its rows. Its group reloads it at the start.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>) -> Arc<Self> {
        Arc::new(Self { store, view: watch::Sender::new(None), dirty: Mutex::default() })
    }

    /// The cluster as this node knows it; `None` until it is founded.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Option<Arc<MetaView>>> {
        self.view.subscribe()
    }

    fn found(&self, init: &InitV1) {
        if self.view.borrow().is_some() {
            return;
        }
        let view = MetaView {
            cluster: init.cluster,
            name: init.name.clone(),
            feature_level: init.feature_level,
            next_replica: init.next_replica,
            nodes: init.nodes.iter().map(|node| (node.id, node.clone())).collect(),
            map: Arc::new(init.map.clone()),
            settings: BTreeMap::new(),
        };
        let rows = rows(&view);
        self.dirty.lock().extend(rows.into_iter().map(|(key, value)| (key, Some(value))));
        self.view.send_replace(Some(Arc::new(view)));
    }

    async fn load(&self) -> Result<Option<MetaView>, MachineError> {
        load(&*self.store).await
    }
}

/// What the cluster knows is replaced by something that is not older: the map's epoch never falls, and no replica id is given away
/// twice.
fn goes_on(before: Option<&MetaView>, now: Option<&MetaView>) -> Result<(), String> {
    let Some(before) = before else { return Ok(()) };
    let now = now.ok_or("a cluster that was founded is not any more")?;
    if now.map.epoch < before.map.epoch || now.next_replica < before.next_replica {
        let (epoch, replica) = (before.map.epoch, before.next_replica);
        return Err(format!(
            "the map of epoch {} and replica {} replaces that of epoch {epoch} and replica {replica}",
            now.map.epoch, now.next_replica
        ));
    }
    Ok(())
}

async fn load(store: &dyn StateStore) -> Result<Option<MetaView>, MachineError> {
    let mut rows = BTreeMap::new();
    let mut after = None;
    loop {
        let chunk = store.scan(Bytes::new(), after.take(), READ).await.map_err(MachineError::new)?;
        let Some((last, _)) = chunk.last() else {
            break;
        };
        after = Some(last.clone());
        rows.extend(chunk);
    }
    view_of(&rows).map_err(MachineError::new)
}

/// The identity and the founding description of the cluster, from the last checkpoint in `store`; `None` if the checkpoint is
/// not one of the meta group.
///
/// # Errors
/// If the store, or its record of the cluster, cannot be read.
pub async fn founding_of(store: &dyn StateStore) -> Result<Option<(ClusterId, ClusterSpec)>, MachineError> {
    let row = store.get_many(vec![Bytes::from_static(CLUSTER)]).await.map_err(MachineError::new)?;
    if row.iter().all(Option::is_none) {
        return Ok(None);
    }
    Ok(load(store).await?.map(|view| (view.cluster, view.founding())))
}

fn rows(view: &MetaView) -> BTreeMap<Bytes, Bytes> {
    let cluster = ClusterRow::V1 {
        cluster: view.cluster,
        name: view.name.clone(),
        feature_level: view.feature_level,
        next_replica: view.next_replica,
    };
    let mut rows = BTreeMap::from([
        (Bytes::from_static(CLUSTER), super::encode(cluster)),
        (Bytes::from_static(MAP), super::encode(&*view.map)),
    ]);
    for (id, node) in &view.nodes {
        rows.insert([NODE, &id.to_be_bytes()].concat().into(), super::encode(node));
    }
    for (name, value) in &view.settings {
        rows.insert([SETTING, name.as_bytes()].concat().into(), value.clone().into_bytes().into());
    }
    rows
}

fn view_of(rows: &BTreeMap<Bytes, Bytes>) -> Result<Option<MetaView>, String> {
    let Some(cluster) = rows.get(CLUSTER) else {
        return Ok(None);
    };
    let ClusterRow::V1 { cluster, name, feature_level, next_replica } = super::decode(cluster)?;
    let map: ShardMap = super::decode(rows.get(MAP).ok_or("the shard map is missing")?)?;
    let mut view = MetaView {
        cluster,
        name,
        feature_level,
        next_replica,
        nodes: BTreeMap::new(),
        map: Arc::new(map),
        settings: BTreeMap::new(),
    };
    for (key, value) in rows {
        if key.starts_with(NODE) {
            let node: NodeSpec = super::decode(value)?;
            view.nodes.insert(node.id, node);
        } else if let Some(name) = key.strip_prefix(SETTING) {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "a setting is not text");
            view.settings.insert(text(name)?, text(value)?);
        }
    }
    Ok(Some(view))
}

impl Machine for MetaMachine {
    fn apply<'a>(&'a self, _at: EntryId, entry: &'a Arc<Packed>) -> BoxFuture<'a, Result<(), MachineError>> {
        let applied =
            entry.decoded(|bytes| super::decode::<MetaCommand>(bytes)).map_err(MachineError::new).map(
                |command| match &*command {
                    MetaCommand::InitV1(init) => self.found(init),
                },
            );
        std::future::ready(applied).boxed()
    }

    fn freeze(&self) -> DirtyRows {
        let mut rows = DirtyRows::default();
        for (key, value) in std::mem::take(&mut *self.dirty.lock()) {
            rows.add(&key, value.as_deref());
        }
        rows
    }

    fn frozen_durable(&self) {}

    fn reload(&self) -> BoxFuture<'_, Result<(), MachineError>> {
        async move {
            let view = self.load().await?;
            goes_on(self.view.borrow().as_deref(), view.as_ref()).map_err(MachineError::new)?;
            self.dirty.lock().clear();
            self.view.send_replace(view.map(Arc::new));
            Ok(())
        }
        .boxed()
    }

    fn dirty_bytes(&self) -> u64 {
        let dirty = self.dirty.lock();
        dirty.iter().map(|(key, value)| (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64).sum()
    }
}

/// Has the meta group's leader write the cluster's first record, and returns once this node has applied it. Every node calls
/// this at every start. On a founded cluster it only waits for the local replica.
///
/// Returns `None` if the group stops first.
pub async fn found_meta(
    group: GroupRef,
    machine: Arc<MetaMachine>,
    spec: ClusterSpec,
    cluster: ClusterId,
) -> Option<Arc<MetaView>> {
    let init = MetaCommand::InitV1(InitV1 {
        cluster,
        name: spec.name.clone(),
        feature_level: 1,
        next_replica: spec.next_replica(),
        map: spec.shard_map(),
        nodes: spec.nodes,
    });
    let mut view = machine.view();
    let mut leadership = group.leadership();
    loop {
        if let Some(view) = view.borrow_and_update().clone() {
            return Some(view);
        }
        let now = *leadership.borrow_and_update();
        if now.ready_here {
            // A ready leader has applied everything that earlier leaders wrote, so the cluster is not founded yet. If the
            // proposal fails, there is still no view, and the loop returns here with the next change.
            let entry = Packed::new(super::encode(&init), Arc::new(init.clone()));
            if group.propose(now.term, Arc::new(entry)).await.is_ok() {
                continue;
            }
        }
        tokio::select! {
            biased;
            changed = view.changed() => if changed.is_err() { return None },
            changed = leadership.changed() => if changed.is_err() { return None },
            () = tokio::time::sleep(std::time::Duration::from_millis(200)), if now.ready_here => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::spec::tests::spec;

    fn view() -> MetaView {
        let spec = spec(3, 2);
        MetaView {
            cluster: ClusterId(77),
            name: "shop".into(),
            feature_level: 1,
            next_replica: spec.next_replica(),
            map: Arc::new(spec.shard_map()),
            nodes: spec.nodes.into_iter().map(|node| (node.id, node)).collect(),
            settings: BTreeMap::from([("color".into(), "blue".into())]),
        }
    }

    #[test]
    fn a_view_survives_its_rows() {
        assert_eq!(view_of(&rows(&view())).unwrap(), Some(view()));
        assert_eq!(view_of(&BTreeMap::new()).unwrap(), None);
    }

    #[test]
    fn a_view_is_replaced_by_no_older_one() {
        let known = view();
        let bent = |bend: fn(&mut MetaView)| {
            let mut now = view();
            bend(&mut now);
            goes_on(Some(&known), Some(&now))
        };
        assert_eq!(goes_on(None, Some(&known)), Ok(()));
        assert_eq!(bent(|_| ()), Ok(()));
        assert_eq!(bent(|now| Arc::make_mut(&mut now.map).epoch += 1), Ok(()));
        assert!(bent(|now| Arc::make_mut(&mut now.map).epoch -= 1).is_err());
        assert!(bent(|now| now.next_replica -= 1).is_err());
        assert!(goes_on(Some(&known), None).is_err());
    }

    #[test]
    fn a_view_tells_what_the_cluster_was_founded_with() {
        assert_eq!(view().founding(), spec(3, 2));
    }

    #[test]
    fn the_cluster_row_has_the_bytes_of_version_1() {
        let row = ClusterRow::V1 { cluster: ClusterId(5), name: "shop".into(), feature_level: 1, next_replica: 10 };
        assert_eq!(&*super::super::encode(row), b"\x00\x05\x04shop\x01\x0a");
    }
}
