//! The floor: what a replica must not do while its log is shorter than what it has vouched for.
//!
//! A leader may have acknowledged an entry because this replica stored it, and may lead because this replica voted for it. Both
//! were lost here, but the others count on them. So until a leader has refilled the log up to that point, the replica grants no
//! vote and no pre-vote, does not campaign, accepts no leadership transfer and does not found its group. Every leader elected
//! meanwhile was elected by replicas that have everything they vouched for. The replica does not expose its applied state
//! either ([`Group::below_floor`](super::Group)): its readers may have seen more before, and would go back in time. The log
//! reports the end of this state ([`GroupParts::vouched`](super::GroupParts::vouched)).

use std::sync::Arc;

use openraft::AsyncRuntime;
use tokio::sync::watch;

use super::handle::Handle;
use super::{Group, closed};
use crate::mesh::Operation;
use crate::raft_types::LogId;

/// The last entry that a replica vouched for, while its log does not reach it; `None` otherwise.
pub type Vouched = watch::Receiver<Option<LogId>>;

/// For a log that has everything it vouched for.
#[must_use]
pub fn whole() -> Vouched {
    watch::channel(None).1
}

/// Whether a replica below its floor ignores this message.
pub(super) fn abstains(operation: Operation) -> bool {
    matches!(operation, Operation::Vote | Operation::PreVote | Operation::Transfer)
}

/// Lets the replica vote and campaign again once its log is refilled.
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
