//! The source's side of the mailboxes: the leader delivers each stream in runs and trims what was applied
//! (protocol.md, rules 17 and 20).

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ordergrid_domain::machine::Stream;
use ordergrid_domain::{Command, GroupId};
use tokio::time::Instant;

use super::lead::Lead;
use super::stopped::Misfit;
use crate::telemetry::metrics;

/// Most messages in one run.
const RUN: usize = 1_024;
/// Most bytes in one run, about: some thousands of holds, which hold their shard for a few milliseconds when they are applied.
const RUN_BYTES: usize = 128 << 10;
/// How long a stream rests after a run that did not arrive.
const REST: Duration = Duration::from_millis(100);
/// How often the destination of a stopped stream, or one that did not answer, is asked again.
const STOPPED: Duration = Duration::from_secs(1);
/// How often the two ends of a stream that has nothing to deliver are compared. Only so is it told that they do not fit before
/// anybody needs the stream.
const COMPARE: Duration = Duration::from_secs(10);
/// Shortest time between two looks at the outbox. Nobody waits for what is in it: a hold counts as taken from its grant,
/// and stays tentative this much longer of its 10 seconds.
const GATHER: Duration = Duration::from_millis(20);

/// When the ends of each stream are to be compared, although there may be nothing to deliver; at once for a new leader.
struct Due(BTreeMap<GroupId, Instant>);

impl Due {
    fn of(lead: &Lead) -> Self {
        let now = Instant::now();
        Self(lead.node.shards().into_iter().filter(|shard| *shard != lead.shard).map(|shard| (shard, now)).collect())
    }

    fn now(&self) -> Vec<GroupId> {
        let now = Instant::now();
        self.0.iter().filter(|(_, due)| **due <= now).map(|(shard, _)| *shard).collect()
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    /// The ends are being compared.
    fn begun(&mut self, shard: GroupId) {
        self.0.insert(shard, Instant::now() + COMPARE);
    }

    /// A comparison that proved nothing, or found that the ends do not fit, is due again soon.
    fn ended(&mut self, shard: GroupId, ended: Ended) {
        match ended {
            Ended::Fits => {}
            Ended::Stopped => drop(self.0.insert(shard, Instant::now())),
            Ended::Unheard => drop(self.0.insert(shard, Instant::now() + STOPPED)),
        }
    }
}

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The two ends fit together.
    Fits,
    /// They do not; the stream has rested for [`STOPPED`].
    Stopped,
    /// The destination did not answer.
    Unheard,
}

/// Delivers every stream of a led shard, one run at a time per destination, until dropped.
///
/// Two looks are [`GATHER`] apart: what is sent meanwhile shares a run, so that under load delivering costs two commands
/// per stream and look, not two per order.
pub(crate) async fn pump(lead: Arc<Lead>) {
    let mut applied = lead.replica.applied();
    let mut flights = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    let mut due = Due::of(&lead);
    loop {
        applied.borrow_and_update();
        let pending = |stream: &Stream| stream.pending() > 0;
        let streams = lead.replica.has_undelivered().then(|| lead.replica.machine().streams().filter(pending).collect());
        for stream in streams.unwrap_or_else(Vec::new) {
            if busy.insert(stream.to) {
                flights.push(fly(Arc::clone(&lead), stream.to));
            }
        }
        for to in due.now() {
            due.begun(to);
            if busy.insert(to) {
                flights.push(fly(Arc::clone(&lead), to));
            }
        }
        let mut rest = pin!(tokio::time::sleep(GATHER));
        let mut comparing = pin!(tokio::time::sleep_until(due.next().unwrap_or_else(|| Instant::now() + COMPARE)));
        let mut rested = false;
        let mut landed = false;
        // A flight that has landed leaves its stream to be looked at again, whatever is applied.
        while !(rested && landed) {
            tokio::select! {
                Some((to, ended)) = flights.next(), if !flights.is_empty() => {
                    landed = true;
                    busy.remove(&to);
                    due.ended(to, ended);
                }
                () = &mut rest, if !rested => rested = true,
                () = &mut comparing, if rested => break,
                changed = applied.changed(), if rested => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

/// One run: delivered, applied there, trimmed here. Of a stopped stream, and where nothing is to be delivered, the two ends are
/// compared instead.
async fn fly(lead: Arc<Lead>, to: GroupId) -> (GroupId, Ended) {
    let before = lead.replica.machine().stream(to);
    let run =
        if lead.stopped.has(to) { Ok(None) } else { lead.replica.machine().outbox(to, before.trimmed + 1, RUN, RUN_BYTES) };
    // Trimmed further meanwhile: the next look sees it.
    let Ok(run) = run else { return (to, Ended::Fits) };
    let high = match run {
        Some(run) => lead.node.deliver(to, run).await,
        None => lead.node.applied(to, lead.shard).await,
    };
    let Some(high) = high else {
        tokio::time::sleep(REST).await;
        return (to, Ended::Unheard);
    };
    if !fits(&lead, &before, high) {
        tokio::time::sleep(STOPPED).await;
        return (to, Ended::Stopped);
    }
    if high > before.trimmed && lead.batcher.ask(Command::Trim { to, high }).await.is_err() {
        tokio::time::sleep(REST).await;
    }
    (to, Ended::Fits)
}

/// Compares the ends of a stream at once: what an operator has just started anew is not told as stopped any more.
pub(crate) async fn compare_ends(lead: &Lead, to: GroupId) {
    let before = lead.replica.machine().stream(to);
    if let Some(high) = lead.node.applied(to, lead.shard).await {
        fits(lead, &before, high);
    }
}

/// Whether the destination, which has applied all up to `high`, fits to the stream. The stream is stopped, or goes on.
fn fits(lead: &Lead, before: &Stream, high: u64) -> bool {
    let to = before.to;
    let after = lead.replica.machine().stream(to);
    if let Some(why) = Misfit::of(before, high, &after) {
        stopped(lead, to, why);
        return false;
    }
    if lead.stopped.go_on(to) {
        tracing::info!(shard = %lead.shard, other_shard = %to, "stream between shards goes on");
    }
    true
}

/// Rule 20: the stream is stopped until it is started anew. It never skips.
fn stopped(lead: &Lead, to: GroupId, why: Misfit) {
    if lead.stopped.stop(to, lead.node.time.now(), why) {
        metrics::stream_stopped(lead.shard);
        let advice = "`ordergrid cluster streams reconcile` starts it anew";
        tracing::error!(shard = %lead.shard, other_shard = %to, error = %why, advice, "stream between shards is stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_that_do_not_fit_or_were_not_heard_are_compared_again_soon() {
        let (one, now) = (GroupId(2), Instant::now());
        for (ended, again) in [(Ended::Fits, COMPARE), (Ended::Unheard, STOPPED), (Ended::Stopped, Duration::ZERO)] {
            let mut due = Due(BTreeMap::from([(one, now)]));
            assert_eq!(due.now(), [one]);
            due.begun(one);
            assert_eq!((due.now(), due.next()), (Vec::new(), Some(now + COMPARE)), "it is under way");
            due.ended(one, ended);
            assert_eq!(due.next(), Some(now + again), "{ended:?}");
        }
    }
}
