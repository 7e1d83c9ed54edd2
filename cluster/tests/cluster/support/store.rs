//! Rows in memory with a checkpoint's atomicity, and a machine that keeps keys and values.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use ordergrid_cluster::{DirtyRows, EntryId, Install, Machine, MachineError, Packed, Row, StateStore, StateView, StoreError};
use parking_lot::Mutex;
use tokio::sync::watch;

#[derive(Clone, Default)]
struct Contents {
    meta: Option<Bytes>,
    rows: BTreeMap<Bytes, Bytes>,
}

impl Contents {
    fn after(&self, prefix: &Bytes, after: Option<Bytes>, max_bytes: usize) -> Vec<Row> {
        let mut size = 0;
        self.rows
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.as_ref().is_none_or(|after| *key > after))
            .take_while(|(key, value)| {
                let fits = size < max_bytes;
                size += key.len() + value.len();
                fits
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// Clones share the rows, as a restart would.
#[derive(Clone, Default)]
pub(crate) struct MemStore {
    contents: Arc<Mutex<Contents>>,
    stalled: watch::Sender<bool>,
}

impl MemStore {
    /// Checkpoints are written from now on, or stand still.
    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// All rows are replaced by those of another store, as of its last checkpoint.
    pub(crate) fn fill_from(&self, other: &Self) {
        let contents = other.contents.lock().clone();
        *self.contents.lock() = contents;
    }

    pub(crate) fn rows(&self) -> BTreeMap<Bytes, Bytes> {
        self.contents.lock().rows.clone()
    }
}

impl StateStore for MemStore {
    fn meta(&self) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        ready(Ok(self.contents.lock().meta.clone())).boxed()
    }

    fn get_many(&self, keys: Vec<Bytes>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, StoreError>> {
        let contents = self.contents.lock();
        ready(Ok(keys.iter().map(|key| contents.rows.get(key).cloned()).collect())).boxed()
    }

    fn may_have(&self, key: &[u8]) -> bool {
        self.contents.lock().rows.contains_key(key)
    }

    fn scan(&self, prefix: Bytes, after: Option<Bytes>, max_bytes: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        ready(Ok(self.contents.lock().after(&prefix, after, max_bytes))).boxed()
    }

    fn checkpoint(&self, meta: Bytes, rows: DirtyRows) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.stalled.subscribe().wait_for(|stalled| !stalled).await.expect("this store can tell");
            let mut contents = self.contents.lock();
            contents.meta = Some(meta);
            rows.show(|key, value| {
                match value {
                    Some(value) => contents.rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)),
                    None => contents.rows.remove(key),
                };
            });
            Ok(())
        }
        .boxed()
    }

    fn view(&self) -> BoxFuture<'_, Result<Option<Arc<dyn StateView>>, StoreError>> {
        let contents = self.contents.lock().clone();
        let view = contents.meta.is_some().then(|| Arc::new(MemView(contents)) as Arc<dyn StateView>);
        ready(Ok(view)).boxed()
    }

    fn install(&self) -> BoxFuture<'_, Result<Box<dyn Install>, StoreError>> {
        let install = MemInstall { store: self.clone(), rows: BTreeMap::new() };
        ready(Ok(Box::new(install) as Box<dyn Install>)).boxed()
    }
}

struct MemView(Contents);

impl StateView for MemView {
    fn meta(&self) -> Bytes {
        self.0.meta.clone().expect("a view is of a checkpoint")
    }

    fn next_chunk(&self, after: Option<Bytes>, max_bytes: usize) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        ready(Ok(self.0.after(&Bytes::new(), after, max_bytes))).boxed()
    }
}

struct MemInstall {
    store: MemStore,
    rows: BTreeMap<Bytes, Bytes>,
}

impl Install for MemInstall {
    fn put(&mut self, rows: Vec<Row>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.rows.extend(rows);
        ready(Ok(())).boxed()
    }

    fn commit(self: Box<Self>, meta: Bytes) -> BoxFuture<'static, Result<(), StoreError>> {
        *self.store.contents.lock() = Contents { meta: Some(meta), rows: self.rows };
        ready(Ok(())).boxed()
    }
}

/// A machine of keys and values: the entry `key=value` sets one, any other fails.
pub(crate) struct Tally {
    store: MemStore,
    stalled: watch::Sender<bool>,
    inner: Mutex<TallyInner>,
}

#[derive(Default)]
struct TallyInner {
    values: BTreeMap<Bytes, Bytes>,
    dirty: BTreeMap<Bytes, Option<Bytes>>,
    /// Rows of the checkpoint under way.
    frozen: usize,
    /// More rows that no checkpoint has are too many.
    most: Option<usize>,
    /// What was applied since the last reload, in order.
    applied: Vec<(EntryId, Bytes)>,
}

impl Tally {
    pub(crate) fn new(store: MemStore) -> Arc<Self> {
        Arc::new(Self { store, stalled: watch::Sender::new(false), inner: Mutex::default() })
    }

    /// Entries are applied from now on, or the next one never ends.
    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// It is full with more than so many rows that no checkpoint has.
    pub(crate) fn bound(&self, most: usize) {
        self.inner.lock().most = Some(most);
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let value = self.inner.lock().values.get(key.as_bytes()).cloned();
        value.map(|value| String::from_utf8(value.to_vec()).expect("tests write text"))
    }

    pub(crate) fn values(&self) -> BTreeMap<Bytes, Bytes> {
        self.inner.lock().values.clone()
    }

    /// Bodies applied since the last reload.
    pub(crate) fn applied(&self) -> Vec<String> {
        let applied = self.inner.lock().applied.clone();
        applied.iter().map(|(_, body)| String::from_utf8(body.to_vec()).expect("tests write text")).collect()
    }
}

impl Machine for Tally {
    fn apply<'a>(&'a self, at: EntryId, entry: &'a Arc<Packed>) -> BoxFuture<'a, Result<(), MachineError>> {
        let body = entry.bytes().clone();
        let Some(cut) = body.iter().position(|byte| *byte == b'=') else {
            return ready(Err(MachineError::new("no key"))).boxed();
        };
        let (key, value) = (body.slice(..cut), body.slice(cut + 1..));
        async move {
            self.stalled.subscribe().wait_for(|stalled| !stalled).await.expect("this machine can tell");
            let mut inner = self.inner.lock();
            inner.values.insert(key.clone(), value.clone());
            inner.dirty.insert(key, Some(value));
            inner.applied.push((at, body));
            Ok(())
        }
        .boxed()
    }

    fn freeze(&self) -> DirtyRows {
        let mut rows = DirtyRows::default();
        let mut inner = self.inner.lock();
        inner.frozen = inner.dirty.len();
        for (key, value) in std::mem::take(&mut inner.dirty) {
            rows.add(&key, value.as_deref());
        }
        rows
    }

    fn frozen_durable(&self) {
        self.inner.lock().frozen = 0;
    }

    fn is_full(&self) -> bool {
        let inner = self.inner.lock();
        inner.most.is_some_and(|most| inner.dirty.len() + inner.frozen > most)
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), MachineError>> {
        *self.inner.lock() = TallyInner { values: self.store.rows(), ..TallyInner::default() };
        ready(Ok(())).boxed()
    }

    fn dirty_bytes(&self) -> u64 {
        let inner = self.inner.lock();
        inner.dirty.iter().map(|(key, value)| (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64).sum()
    }
}
