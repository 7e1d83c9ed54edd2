//! Publishes who leads the group, and whether this node may serve.
//!
//! Ready means: this replica leads the term, the first entry of the term is applied here, and a quorum has acknowledged
//! it (rule 1 of placing). openraft refuses a new leader's writes before that acknowledgement.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;
use openraft::{AsyncRuntime, ServerState};
use ordergrid_domain::GroupId;
use tokio::sync::watch;

use super::peer::Raft;
use super::{Leadership, closed};
use crate::applier::Shared;
use crate::ids::ReplicaId;
use crate::metrics;

/// Publishes leadership until the replica stops.
pub(super) async fn follow<RT: AsyncRuntime + Send + Sync>(
    group: GroupId,
    replica: ReplicaId,
    raft: Raft<RT>,
    shared: Arc<Shared>,
    publish: watch::Sender<Leadership>,
    mut closing: watch::Receiver<bool>,
) {
    let mut server = raft.server_metrics();
    loop {
        let (seen, leads, alone) = {
            let server = server.borrow_and_update();
            let leads = server.state == ServerState::Leader && server.current_leader == Some(replica);
            let membership = server.membership_config.membership();
            let leader = server.current_leader.and_then(|leader| membership.get_node(&leader)).map(|host| host.0);
            let seen = Leadership { term: server.vote.leader_id.term, leader, ready_here: false };
            (seen, leads, membership.voter_ids().eq([replica]))
        };
        let was = *publish.borrow();
        let ready_here = leads && was.ready_here && was.term == seen.term;
        announce(group, &publish, Leadership { ready_here, ..seen });
        tokio::select! {
            biased;
            () = closed(&mut closing) => break,
            changed = server.changed() => if changed.is_err() { break },
            () = ready(&raft, &shared, seen.term, alone), if leads && !ready_here => {
                announce(group, &publish, Leadership { ready_here: true, ..seen });
            }
        }
    }
    let last = *publish.borrow();
    announce(group, &publish, Leadership { leader: None, ready_here: false, ..last });
}

fn announce(group: GroupId, publish: &watch::Sender<Leadership>, now: Leadership) {
    let was = *publish.borrow();
    if was == now {
        return;
    }
    if (was.term, was.leader) != (now.term, now.leader) {
        metrics::leader_changed(group);
    }
    tracing::info!(shard = %group, term = now.term, leader = now.leader, ready_here = now.ready_here, "leadership changed");
    publish.send_replace(now);
}

/// Resolves once this leader may serve. Cancelled and started again on every change of leadership.
async fn ready<RT: AsyncRuntime + Send + Sync>(raft: &Raft<RT>, shared: &Shared, term: u64, alone: bool) {
    let mut data = raft.data_metrics();
    let mut applied = shared.applied();
    loop {
        let acknowledged = alone || data.borrow_and_update().last_quorum_acked.is_some();
        applied.borrow_and_update();
        if acknowledged && shared.applied_term() == term {
            return;
        }
        tokio::select! {
            biased;
            changed = applied.changed() => if changed.is_err() { return std::future::pending().await },
            changed = data.changed() => if changed.is_err() { return std::future::pending().await },
        }
    }
}
