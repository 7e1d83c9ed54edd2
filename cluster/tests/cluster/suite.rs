//! openraft's own suite over the applier.

use std::sync::Arc;

use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{StorageError, TokioRuntime};
use ordergrid_cluster::{Applier, RaftTypes};

use crate::support::GROUP;
use crate::support::log::MemLog;
use crate::support::store::{MemStore, Tally};

type Config = RaftTypes<TokioRuntime>;

struct Builder;

impl StoreBuilder<Config, MemLog, Applier<TokioRuntime>, ()> for Builder {
    async fn build(&self) -> Result<((), MemLog, Applier<TokioRuntime>), StorageError<Config>> {
        let store = MemStore::default();
        let machine = Tally::new(store.clone());
        let applier = Applier::open(GROUP, machine, Arc::new(store), u64::MAX).await.expect("an empty store opens");
        Ok(((), MemLog::default(), applier))
    }
}

#[tokio::test(start_paused = true)]
async fn the_applier_keeps_openrafts_contract() {
    Suite::test_all(Builder).await.expect("every case holds");
}
