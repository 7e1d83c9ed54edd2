//! Setting log time back where it ran away: what an operator asks of every shard, one after the other.
//!
//! Only a leader whose wall clock lies where those of a majority meet does it, and only by what its shard's log time is ahead.
//! The command names the log time that was seen, so it takes effect once however often it is asked for, and shards that
//! were not reached are repaired by asking again. Between two shards nothing is unsafe: holds are ended by their order's
//! answer, never by time, and a hold's valid-until says by itself whose log time it was counted from
//! (`ordergrid_domain::repair`).

use std::time::Duration;

use ordergrid_api::wire::{AskedRepair, ClockRepair, Deadlines, RepairState, ShardRepair};
use ordergrid_api::{Answer, Failure, Refusal, Reply, Token};
use ordergrid_cluster::Shard;
use ordergrid_domain::placing::NotLanded;
use ordergrid_domain::{Command, Deadline, GroupId, Moved, Outcome, Preview, Repair};

use crate::clocks::Standing;
use crate::context::NodeContext;
use crate::front::grid::NodeGrid;
use crate::front::grid::requests::{PreviewRepair, RepairShard};
use crate::operators::verify::cuts::Cut;
use crate::shard::{Leading, ShardHost};

/// The shards, one after the other.
pub(crate) async fn every_shard(grid: &NodeGrid, asked: AskedRepair) -> Reply<ClockRepair> {
    let mut shards = Vec::new();
    for shard in &grid.reporter.map.shards {
        let found = match grid.route(RepairShard(shard.group, asked)).await {
            Ok(repair) => repair,
            Err(failure) => failed(shard.group, &failure),
        };
        shards.push(if asked.dry_run { with_deadlines(grid, shard, found).await } else { found });
    }
    Ok(Answer::new(ClockRepair { dry_run: asked.dry_run, shards }, Token::default()))
}

/// Adds which deadlines would move: told from the rows of the replica here, or else of another node's.
async fn with_deadlines(grid: &NodeGrid, shard: &Shard, found: ShardRepair) -> ShardRepair {
    let (Some(log), Some(right), Some(since)) = (found.log, found.right, found.since) else { return found };
    let repair = Repair { log, right, since };
    let mut told = match grid.node.host(shard.group) {
        Some(host) => preview(host, repair).await.ok(),
        None => None,
    };
    for replica in shard.replicas.iter().filter(|replica| replica.node != grid.node.id) {
        if told.is_none()
            && let Ok(moved) = grid.call(replica.node, &PreviewRepair(shard.group, repair), grid.limits.verify).await
        {
            told = Some(moved);
        }
    }
    match told {
        Some(told) => ShardRepair { deadlines: told.iter().map(|(of, moved)| Deadlines::new(*of, moved)).collect(), ..found },
        None => ShardRepair { why: Some("its rows were not read, so that its deadlines are not told".to_owned()), ..found },
    }
}

fn failed(shard: GroupId, failure: &Failure) -> ShardRepair {
    match failure {
        Failure::Refused { reason, .. } => shard_at(shard, RepairState::Refused, Some(reason.to_string())),
        Failure::Unknown { cause } => shard_at(shard, RepairState::Unknown, Some(cause.to_string())),
        Failure::Rejected(rejection) => shard_at(shard, RepairState::Refused, Some(rejection.to_string())),
    }
}

fn shard_at(shard: GroupId, state: RepairState, why: Option<String>) -> ShardRepair {
    ShardRepair { shard: shard.0, state, log: None, right: None, since: None, why, deadlines: Vec::new() }
}

/// The shard that is led here.
pub(crate) async fn here(leading: &Leading, asked: AskedRepair) -> Result<ShardRepair, Failure> {
    let lead = &leading.lead;
    let (log, right) = (lead.replica.machine().time(), lead.node.time.now());
    let found = ShardRepair { log: Some(log), right: Some(right), ..shard_at(lead.shard, RepairState::Sound, None) };
    let refused = |why: String| ShardRepair { state: RepairState::Refused, why: Some(why), ..found.clone() };
    if let Some(why) = doubt(&lead.node) {
        return Ok(refused(why));
    }
    if !lead.node.time.is_ahead(log) {
        return Ok(found);
    }
    let since = asked.since.unwrap_or_else(|| right.after(Duration::from_millis(1)));
    if since > log {
        return Ok(refused("nothing was stamped since then".to_owned()));
    }
    let (repair, found) = (Repair { log, right, since }, ShardRepair { since: Some(since), ..found.clone() });
    if asked.dry_run {
        return Ok(ShardRepair { state: RepairState::Ahead, ..found });
    }
    match lead.batcher.ask(Command::Repair(repair)).await {
        Ok(landed) => match landed.outcome {
            Outcome::Rejected(rejection) => Err(Failure::Rejected(rejection)),
            _ => {
                tracing::warn!(shard = lead.shard.0, ?log, ?right, "log time was set back");
                Ok(ShardRepair { state: RepairState::Repaired, ..found })
            }
        },
        Err(NotLanded::NotAppended | NotLanded::TooLate) => Err(Failure::refused(Refusal::NoLeader)),
        Err(NotLanded::Unknown) => Ok(ShardRepair {
            state: RepairState::Unknown,
            why: Some("the shard's leader changed meanwhile".to_owned()),
            ..found
        }),
    }
}

/// Why the clocks here say too little to set anything back to.
fn doubt(node: &NodeContext) -> Option<String> {
    let seen = node.time.seen();
    if seen.question.is_some() {
        return Some("it is not known which clock is right: first say so (`ordergrid cluster clock accept`)".to_owned());
    }
    match seen.standing {
        Standing::Within => None,
        Standing::Outside(_) => Some("the wall clock of the shard's leader is not where those of a majority meet".to_owned()),
        Standing::Apart => Some("the clocks of no majority of the nodes agree".to_owned()),
        Standing::Unheard => Some("fewer than a majority of the nodes have told their clocks".to_owned()),
    }
}

/// Which deadlines a repair would move. Rests as long as it works, so that whoever orders meanwhile feels little of it.
pub(crate) async fn preview(host: &ShardHost, repair: Repair) -> Result<Vec<(Deadline, Moved)>, Failure> {
    let mut preview = Preview::new(repair, host.replica().retention());
    let cut = Cut::take(host).await?;
    let unread = |_| Failure::refused(Refusal::NotReady);
    cut.each(|key, value| preview.add(key, value).map_err(unread)).await?;
    Ok(preview.finish())
}
