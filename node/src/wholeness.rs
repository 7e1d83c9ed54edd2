//! Whether what a replica has stored is whole. Whoever finds damage says so here, wherever that is: a read for a client, apply,
//! a checkpoint, the scrub. Whoever serves looks here first. `mend` does what follows.

use std::sync::atomic::{AtomicBool, Ordering};

use ordergrid_domain::GroupId;
use tokio::sync::watch;

use crate::metrics;

/// The rows of one opening of a replica's store.
pub(crate) struct Wholeness {
    group: GroupId,
    /// Asked with every request, hence without a lock.
    damaged: AtomicBool,
    damage: watch::Sender<Option<String>>,
}

impl Wholeness {
    /// Nothing was found.
    pub(crate) fn new(group: GroupId) -> Self {
        Self { group, damaged: AtomicBool::new(false), damage: watch::Sender::new(None) }
    }

    /// Damage was found. What was said first counts.
    pub(crate) fn damaged(&self, what: &str) {
        self.damaged.store(true, Ordering::Release);
        let first = self.damage.send_if_modified(|damage| {
            let first = damage.is_none();
            damage.get_or_insert_with(|| what.to_owned());
            first
        });
        if first {
            metrics::damage_found(self.group);
            tracing::error!(shard = %self.group, damage = what, effect = "the replica serves nothing", "stored rows are damaged");
        }
    }

    /// Nothing was found so far.
    pub(crate) fn is_whole(&self) -> bool {
        !self.damaged.load(Ordering::Acquire)
    }

    /// What was found.
    pub(crate) fn damage(&self) -> Option<String> {
        self.damage.borrow().clone()
    }

    /// Resolves with what is found, once something is.
    pub(crate) async fn found(&self) -> String {
        let mut damage = self.damage.subscribe();
        let found = damage.wait_for(Option::is_some).await.expect("the sender is a field of this value");
        found.clone().expect("waited for")
    }
}
