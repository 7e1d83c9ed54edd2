//! What a replica may not do whose log is shorter than what it vouched for.
//!
//! A leader may have acknowledged an entry because this replica had it, and may lead because of its vote. Both were lost here, and
//! the others count on them. So until a leader has refilled its log past that point the replica gives no vote and no promise of
//! one, does not stand, takes over from no leader and does not found its group: whoever leads meanwhile was elected by replicas
//! that have everything they vouched for. It shows nobody what it has applied either ([`Group::below_floor`](super::Group)): a node
//! that has shown more before would go back, and without a leader stay there. The log says when that is over ([`GroupParts::vouched`](super::GroupParts::vouched)).

use std::sync::Arc;

use openraft::AsyncRuntime;
use tokio::sync::watch;

use super::handle::Handle;
use super::{Group, closed};
use crate::grid::LogId;
use crate::mesh::Operation;

/// The last entry that a replica vouched for, as long as its log does not reach it.
pub type Vouched = watch::Receiver<Option<LogId>>;

/// Of a log that has everything it vouched for.
#[must_use]
pub fn whole() -> Vouched {
    watch::channel(None).1
}

/// Whether a replica below its floor leaves this message without an answer.
pub(super) fn abstains(operation: Operation) -> bool {
    matches!(operation, Operation::Vote | Operation::PreVote | Operation::Transfer)
}

/// Lets the replica take part again as soon as its log is refilled.
pub(super) async fn refilled<RT: AsyncRuntime + Send + Sync>(handle: Arc<Handle<RT>>) {
    let (mut vouched, mut closing) = (handle.vouched.clone(), handle.closing.subscribe());
    let weak = Arc::downgrade(&handle);
    drop(handle);
    tokio::select! {
        biased;
        () = closed(&mut closing) => return,
        reached = vouched.wait_for(Option::is_none) => if reached.is_err() { return },
    }
    if let Some(handle) = weak.upgrade() {
        tracing::info!(shard = %handle.group, "replica votes and campaigns again");
        handle.stand(true);
    }
}
