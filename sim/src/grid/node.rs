//! One node: the product's assembly, its disk, its clock, its lives.

use std::sync::Arc;

use ordergrid_node::config::NodeConfig;
use ordergrid_node::{Node, Platform, RowRoom};
use parking_lot::Mutex;

use super::HTTP;
use crate::dice::Dice;
use crate::disk::{DiskWatch, SimDisk};
use crate::driver::clock::{HostClock, HostEntropy};
use crate::net::Net;
use crate::trace;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// kill -9: what was written stays, the kernel closes the connections.
    Killed,
    /// kill -9, and what the process had not handed to the operating system is lost with it.
    KilledLosingBuffers,
    /// What was not synced is lost, and nobody is told.
    PowerLost,
}

/// A node and its machine.
pub struct SimNode {
    id: u64,
    config: NodeConfig,
    /// Its clock.
    pub clock: HostClock,
    /// Its disk.
    pub disk: SimDisk,
    chance: Dice,
    life: Arc<Mutex<Life>>,
    /// How often it was started.
    pub starts: u64,
}

/// What a program has come to in its present life.
#[derive(Default)]
struct Life {
    node: Option<Arc<Node>>,
    ready: bool,
    ended: Option<String>,
}

impl SimNode {
    pub(super) fn new(
        config: NodeConfig,
        clock: HostClock,
        rocksdb: bool,
        dice: &mut Dice,
        watch: Arc<dyn DiskWatch>,
    ) -> anyhow::Result<Self> {
        let id = config.id;
        let seed = dice.below(u64::MAX);
        let disk = if rocksdb { SimDisk::on_rocks(id, seed, watch)? } else { SimDisk::new(id, seed, watch) };
        Ok(Self { id, config, clock, disk, chance: dice.fork(), life: Arc::default(), starts: 0 })
    }

    /// The program of a new life.
    pub(super) fn program(&mut self, net: &Net) -> anyhow::Result<impl Future<Output = ()> + use<>> {
        let life = Arc::new(Mutex::new(Life::default()));
        self.life = Arc::clone(&life);
        self.starts += 1;
        let opened = self.disk.open();
        let platform = Platform {
            transport: Arc::new(net.at(self.id)),
            http: Some(Box::new(net.listen(self.id, &format!("n{}:{HTTP}", self.id))?)),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(HostEntropy::new(self.chance.below(u64::MAX))),
            log_engine: opened.log,
            state_engine: opened.state,
            log_lost: opened.log_lost.then(|| "it could not be opened".to_owned()),
            exporter: None,
            room: RowRoom::default(),
        };
        let (id, config) = (self.id, self.config.clone());
        trace::note(format_args!("node {id} starts"));
        Ok(run(id, config, platform, life))
    }

    /// The program's handle is let go; the caller ends its runtime.
    pub(super) fn leave(&mut self, how: Down) {
        trace::note(format_args!("node {} down: {how:?}", self.id));
        self.life = Arc::default();
        match how {
            Down::Killed => self.disk.kill(),
            Down::KilledLosingBuffers => self.disk.kill_losing_buffers(),
            Down::PowerLost => self.disk.lose_power(),
        }
    }

    /// The running node, once it has started.
    #[must_use]
    pub fn running(&self) -> Option<Arc<Node>> {
        self.life.lock().node.clone()
    }

    /// It knew a leader for every shard once in this life.
    #[must_use]
    pub fn was_ready(&self) -> bool {
        self.life.lock().ready
    }

    /// Why the program has ended by itself, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        self.life.lock().ended.clone()
    }
}

async fn run(id: u64, config: NodeConfig, platform: Platform, life: Arc<Mutex<Life>>) {
    let why = match Node::start(config, platform).await {
        Ok(node) => {
            let node = Arc::new(node);
            life.lock().node = Some(Arc::clone(&node));
            let failed = node.failed();
            tokio::pin!(failed);
            let early = tokio::select! {
                biased;
                why = &mut failed => Some(why),
                () = node.ready() => None,
            };
            life.lock().ready = true;
            match early {
                Some(why) => why.to_string(),
                None => failed.await.to_string(),
            }
        }
        Err(error) => error.to_string(),
    };
    trace::note(format_args!("node {id} ended: {why}"));
    let mut life = life.lock();
    life.node = None;
    life.ended = Some(why);
}
