//! temp
use std::sync::Arc;
use ordergrid_storage::{Batch, Engine, MemEngine};
use parking_lot::Mutex;
pub enum Database { Log, State }
pub trait DiskWatch: Send + Sync {
    fn wrote(&self, node: u64, database: Database, batch: &Batch);
}
pub struct SimDisk { d: Mutex<(MemEngine, MemEngine)>, seed: u64 }
pub struct OpenDisk { pub log: Arc<dyn Engine>, pub state: Arc<dyn Engine> }
impl SimDisk {
    pub fn new(_n: u64, seed: u64, _w: Arc<dyn DiskWatch>) -> Self { Self { d: Mutex::new((MemEngine::new(), MemEngine::new())), seed } }
    pub fn on_rocksdb(n: u64, seed: u64, w: Arc<dyn DiskWatch>) -> anyhow::Result<Self> { Ok(Self::new(n, seed, w)) }
    pub fn open(&self) -> anyhow::Result<OpenDisk> { let d = self.d.lock(); Ok(OpenDisk { log: Arc::new(d.0.clone()), state: Arc::new(d.1.clone()) }) }
    pub fn kill(&self) { self.lose_power() }
    pub fn lose_power(&self) { let d = self.d.lock(); d.0.crash_keeping_some(self.seed); d.1.crash_keeping_some(self.seed) }
}
