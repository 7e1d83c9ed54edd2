//! Whether the stored rows of a replica are intact. Every reader that finds damage reports it here: reads for clients, apply,
//! checkpoints, the scrub. Whoever serves rows checks here first. `mend` repairs the replica.

use std::sync::atomic::{AtomicBool, Ordering};

use ordergrid_domain::GroupId;
use tokio::sync::watch;

use crate::telemetry::metrics;

/// The state of one opened store of a replica.
pub(crate) struct Wholeness {
    group: GroupId,
    /// Checked with every request, so it needs no lock.
    damaged: AtomicBool,
    damage: watch::Sender<Option<String>>,
}

impl Wholeness {
    /// No damage is known.
    pub(crate) fn new(group: GroupId) -> Self {
        Self { group, damaged: AtomicBool::new(false), damage: watch::Sender::new(None) }
    }

    /// Reports damage. The first report counts.
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

    /// Whether no damage is known.
    pub(crate) fn is_whole(&self) -> bool {
        !self.damaged.load(Ordering::Acquire)
    }

    /// The damage, if any was found.
    pub(crate) fn damage(&self) -> Option<String> {
        self.damage.borrow().clone()
    }

    /// Resolves with the damage once any is found.
    pub(crate) async fn found(&self) -> String {
        let mut damage = self.damage.subscribe();
        let found = damage.wait_for(Option::is_some).await.expect("the sender is a field of this value");
        found.clone().expect("waited for")
    }
}
