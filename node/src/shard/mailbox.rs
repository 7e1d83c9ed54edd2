//! The source's side of the mailboxes: the leader delivers each stream in runs and trims what was applied
//! (protocol.md, rules 17 and 20).

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ordergrid_domain::machine::Stream;
use ordergrid_domain::{Command, GroupId};

use super::lead::Lead;
use crate::metrics;

/// Most messages in one run.
const RUN: usize = 1_024;
/// Most bytes in one run, about.
const RUN_BYTES: usize = 1 << 20;
/// How long a stream rests after a run that did not arrive.
const REST: Duration = Duration::from_millis(100);
/// Shortest time between two looks at the outbox. Nobody waits for what is in it: a hold counts as taken from its grant,
/// and stays tentative this much longer of its 10 seconds.
const GATHER: Duration = Duration::from_millis(20);

/// Why a stream does not go on.
enum Stopped {
    /// Try again later.
    Resting,
    /// Rule 20: the destination has forgotten what it had applied.
    Behind {
        /// What it says it has applied.
        high: u64,
        /// What it had confirmed before.
        trimmed: u64,
    },
}

/// Delivers every stream of a led shard, one run at a time per destination, until dropped.
///
/// Two looks are [`GATHER`] apart: what is sent meanwhile shares a run, so that under load delivering costs two commands
/// per stream and look, not two per order.
pub(crate) async fn pump(lead: Arc<Lead>) {
    let mut applied = lead.replica.applied();
    let mut flights = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    loop {
        applied.borrow_and_update();
        let pending = |stream: &Stream| stream.pending() > 0;
        let streams = lead.replica.has_undelivered().then(|| lead.replica.machine().streams().filter(pending).collect());
        for stream in streams.unwrap_or_else(Vec::new) {
            if busy.insert(stream.to) {
                flights.push(fly(Arc::clone(&lead), stream.to, stream.trimmed));
            }
        }
        let mut rest = pin!(tokio::time::sleep(GATHER));
        let mut rested = false;
        let mut landed = false;
        // A flight that has landed leaves its stream to be looked at again, whatever is applied.
        while !(rested && landed) {
            tokio::select! {
                Some((to, result)) = flights.next(), if !flights.is_empty() => {
                    landed = true;
                    settle(&lead, &mut busy, to, result);
                }
                () = &mut rest, if !rested => rested = true,
                changed = applied.changed(), if rested => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

fn settle(lead: &Lead, busy: &mut BTreeSet<GroupId>, to: GroupId, result: Result<(), Stopped>) {
    match result {
        Ok(()) | Err(Stopped::Resting) => drop(busy.remove(&to)),
        Err(Stopped::Behind { high, trimmed }) => {
            // The stream stays busy for the rest of the term: it never skips.
            metrics::stream_stopped(lead.shard);
            tracing::error!(shard.id = %lead.shard, %to, high, trimmed,
                "a shard has forgotten messages it had confirmed: the stream to it is stopped");
        }
    }
}

/// One run: delivered, applied there, trimmed here.
async fn fly(lead: Arc<Lead>, to: GroupId, trimmed: u64) -> (GroupId, Result<(), Stopped>) {
    let run = lead.replica.machine().outbox(to, trimmed + 1, RUN, RUN_BYTES);
    // Trimmed further meanwhile: the next look sees it.
    let Ok(Some(run)) = run else { return (to, Ok(())) };
    let Some(high) = lead.node.deliver(to, run).await else {
        tokio::time::sleep(REST).await;
        return (to, Err(Stopped::Resting));
    };
    if high < trimmed {
        return (to, Err(Stopped::Behind { high, trimmed }));
    }
    if high > trimmed && lead.batcher.ask(Command::Trim { to, high }).await.is_err() {
        tokio::time::sleep(REST).await;
        return (to, Err(Stopped::Resting));
    }
    (to, Ok(()))
}
