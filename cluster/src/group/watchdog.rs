//! The watchdog of a replica that does not follow its leader. Every message of the leader says how far the leader has
//! committed.
//!
//! A replica is stalled if it applies nothing for a while although its leader has committed more. The watchdog then closes the
//! connections that the leader has made, so that the leader opens new streams. If this does not help, the watchdog abandons the
//! replica, and the process ends with it: nothing but a restart brings such a replica back from its disk. A replica that is
//! receiving a snapshot is not stalled.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::AsyncRuntime;
use tokio::time::Instant;

use super::handle::Handle;
use super::{Group, closed};
use crate::metrics;

/// A replica is abandoned once it has been stalled for this many times the bound.
const GIVEN_UP: u32 = 4;
/// Number of looks within the bound.
const LOOKS: u32 = 4;

/// How far the leader has committed, and how many parts of snapshots have arrived.
pub(crate) struct Heard {
    epoch: Instant,
    /// One past the leader's last committed index, as reported.
    committed_next: AtomicU64,
    /// Milliseconds since the epoch at which the leader last reported, plus 1; 0 means never.
    at: AtomicU64,
    /// Parts of snapshots received.
    chunks: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        let (committed_next, at, chunks) = Default::default();
        Self { epoch: Instant::now(), committed_next, at, chunks }
    }
}

impl Heard {
    /// Records how far the leader has committed.
    pub(super) fn committed(&self, index: Option<u64>) {
        self.committed_next.fetch_max(index.map_or(0, |index| index + 1), Ordering::AcqRel);
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.at.store(now + 1, Ordering::Release);
    }

    /// Records a part of a snapshot.
    pub(super) fn chunk(&self) {
        self.chunks.fetch_add(1, Ordering::AcqRel);
    }

    /// One past the leader's last committed index, as reported so far.
    pub(super) fn committed_next(&self) -> u64 {
        self.committed_next.load(Ordering::Acquire)
    }

    fn within(&self, time: Duration) -> bool {
        let at = self.at.load(Ordering::Acquire);
        at > 0 && (self.epoch + Duration::from_millis(at - 1)).elapsed() <= time
    }
}

/// What to do about a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The replica makes progress, or there is nothing to apply.
    Nothing,
    /// The leader must open new streams.
    Restart,
    /// The replica does not recover.
    GiveUp,
}

/// How long a replica has been stalled.
#[derive(Default)]
struct Watch {
    /// Progress as of the last look: entries applied, and parts of snapshots.
    moved: Option<(u64, u64)>,
    since: Option<Instant>,
    restarted: bool,
}

impl Watch {
    /// `behind`: the leader is there, and has committed more than is applied here.
    fn look(&mut self, now: Instant, moved: (u64, u64), behind: bool, bound: Duration) -> (Step, Duration) {
        if !behind || self.moved.replace(moved) != Some(moved) {
            (self.since, self.restarted) = (behind.then_some(now), false);
        }
        let stood = self.since.map_or(Duration::ZERO, |since| now - since);
        let step = if stood >= GIVEN_UP * bound {
            Step::GiveUp
        } else if stood >= bound && !std::mem::replace(&mut self.restarted, true) {
            Step::Restart
        } else {
            self.restarted &= stood >= bound;
            Step::Nothing
        };
        (step, stood)
    }
}

/// Watches a replica until it stops.
pub(super) async fn watch<RT: AsyncRuntime + Send + Sync>(handle: std::sync::Weak<Handle<RT>>) {
    let Some(started) = handle.upgrade() else { return };
    let (bound, lately) = (started.config.stall, 2 * started.config.election_max);
    let mut closing = started.closing.subscribe();
    drop(started);
    let mut watch = Watch::default();
    loop {
        tokio::select! {
            biased;
            () = closed(&mut closing) => return,
            () = tokio::time::sleep(bound / LOOKS) => {}
        }
        let Some(handle) = handle.upgrade() else { return };
        let (heard, lag) = (&handle.heard, handle.lag());
        metrics::replica_lag(handle.group, lag);
        let moved = (handle.shared.applied_next(), heard.chunks.load(Ordering::Acquire));
        let behind = lag > 0 && heard.within(lately);
        let (step, stood) = watch.look(Instant::now(), moved, behind, bound);
        handle.stood.send_replace((stood >= bound).then_some(stood));
        match step {
            Step::Nothing => {}
            Step::Restart => restart(&handle, lag, stood),
            Step::GiveUp => return give_up(&handle, lag, stood),
        }
    }
}

fn restart<RT: AsyncRuntime + Send + Sync>(handle: &Handle<RT>, lag: u64, stood: Duration) {
    let leader = handle.leadership.borrow().leader;
    metrics::replica_stalled(handle.group, "streams");
    tracing::warn!(shard = %handle.group, lag, stalled = ?stood, leader, effect = "its streams are closed", "replica stalled");
    if let Some(leader) = leader {
        handle.mesh.hang_up(leader);
    }
}

fn give_up<RT: AsyncRuntime + Send + Sync>(handle: &Handle<RT>, lag: u64, stood: Duration) {
    metrics::replica_stalled(handle.group, "replica");
    let why =
        format!("the replica has not followed its leader for {stood:?} and is {lag} entries behind: it must be restarted");
    tracing::error!(shard = %handle.group, lag, stalled = ?stood, effect = "this node stops", "replica stalled and abandoned");
    handle.given_up.send_replace(Some(why));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_stands_is_given_new_streams_and_then_given_up() {
        use Step::{GiveUp, Nothing, Restart};
        #[rustfmt::skip]
        let looks = [
            // seconds, moved,   behind, what is done
            (0,         (5, 0),  false,  Nothing),
            (100,       (5, 0),  true,   Nothing),
            (109,       (5, 0),  true,   Nothing),
            (110,       (6, 0),  true,   Nothing),
            (119,       (6, 0),  true,   Nothing),
            (120,       (6, 0),  true,   Restart),
            (125,       (6, 0),  true,   Nothing),
            (126,       (6, 1),  true,   Nothing),
            (136,       (6, 1),  true,   Restart),
            (165,       (6, 1),  true,   Nothing),
            (166,       (6, 1),  true,   GiveUp),
            (167,       (6, 1),  false,  Nothing),
            (200,       (6, 1),  true,   Nothing),
        ];
        let (began, mut watch) = (Instant::now(), Watch::default());
        for (seconds, moved, behind, expected) in looks {
            let now = began + Duration::from_secs(seconds);
            let (step, _) = watch.look(now, moved, behind, Duration::from_secs(10));
            assert_eq!(step, expected, "after {seconds} s");
        }
    }
}
