//! Starting streams between shards anew: what an operator asks for after an accepted loss (protocol.md, rule 20).
//!
//! Two shards at a time, both directions together (`ordergrid_domain::reconcile` says why and what each step is): both restart, so
//! that nothing passes any more; both agree to drop what was under way; each claims what its orders count on; both agree to go on.
//! Until the last step the streams are stopped, and told so, whatever happens meanwhile: asked for again, all of it begins anew.
//! Orders are placed all the time.

use bincode::{Decode, Encode};
use ordergrid_api::wire::{Reconciliation, StreamReport, StreamState, UnitsFound};
use ordergrid_api::{Answer, Failure, Refusal, Reply, Token, UnknownCause};
use ordergrid_domain::machine::Stream;
use ordergrid_domain::placing::NotLanded;
use ordergrid_domain::reconcile::{ClaimScan, Claims, HeldUnits, HoldScan, Mismatch, Restart};
use ordergrid_domain::{Command, GroupId, Outcome, Timestamp};

use crate::front::grid::NodeGrid;
use crate::front::grid::requests::StepStream;
use crate::operators::verify::cuts::Cut;
use crate::shard::{Leading, Misfit, ShardHost, compare_ends};

/// Orders whose claims share a command.
const CLAIMS: usize = 256;
/// Most holds of one shard for attempts of another one that are compared at a time: they travel in one frame.
const HOLDS: usize = 250_000;

/// One step, at the leader of a shard.
#[derive(Clone, Encode, Decode)]
pub(crate) enum Step {
    /// Where the streams from and to another shard stand.
    Ends(GroupId),
    /// Drop what is under way to these shards, which have applied so far.
    Restart(Vec<(GroupId, u64)>),
    /// Go on with another shard's stream above a number.
    Agree(GroupId, u64),
    /// What is held here for attempts of another shard.
    Holds(GroupId),
    /// What orders count on at another shard that holds this for them; claimed, if the stream was restarted.
    Claim(GroupId, Vec<HeldUnits>, Option<Restarted>),
    /// See whether the stream to another shard goes on, so that status tells it.
    Compare(GroupId),
}

/// When a stream was restarted: orders with ids of `before` or later came later, and so did changes stamped `at` or later.
#[derive(Clone, Copy, Encode, Decode)]
pub(crate) struct Restarted {
    before: Timestamp,
    at: Timestamp,
}

/// What it came to.
#[derive(Encode, Decode)]
pub(crate) enum Stepped {
    /// Where the streams stand.
    Ends {
        /// The number of the next message to the other shard.
        next: u64,
        /// Highest number that is forgotten of them.
        trimmed: u64,
        /// Highest number applied of the other shard's messages.
        applied: u64,
    },
    /// The numbers above which the streams go on.
    Restarted(Vec<(GroupId, u64)>, Restarted),
    /// It goes on from there.
    Agreed,
    /// What is held.
    Holds(Vec<HeldUnits>),
    /// There is more than can be compared at a time.
    TooMany(u64),
    /// What does not fit together.
    Found(Found),
}

/// What does not fit together, as it is told.
#[derive(Clone, Default, Encode, Decode)]
pub(crate) struct Found {
    missing: UnitsFound,
    surplus: UnitsFound,
    orderless: UnitsFound,
    unkept: u64,
}

impl From<&Mismatch> for Found {
    fn from(mismatch: &Mismatch) -> Self {
        let [missing, surplus, orderless] = [&mismatch.missing, &mismatch.surplus, &mismatch.orderless];
        let [missing, surplus, orderless] = [missing, surplus, orderless].map(|found| UnitsFound::of(found));
        Self { missing, surplus, orderless, unkept: mismatch.unkept }
    }
}

/// Does a step at the shard that is led here.
pub(crate) async fn here(grid: &NodeGrid, leading: &Leading, step: Step) -> Result<Stepped, Failure> {
    let lead = &leading.lead;
    match step {
        Step::Ends(other) => {
            lead.group.barrier().await.map_err(|_| Failure::refused(Refusal::NoLeader))?;
            let machine = lead.replica.machine();
            let Stream { next, trimmed, .. } = machine.stream(other);
            Ok(Stepped::Ends { next, trimmed, applied: machine.high(other) })
        }
        Step::Restart(streams) => match landed(leading, Command::Restart(Restart { streams })).await? {
            Outcome::Restarted { streams, before, at } => Ok(Stepped::Restarted(streams, Restarted { before, at })),
            other => unreachable!("a restart is answered as one or rejected, not {other:?}"),
        },
        Step::Agree(from, high) => landed(leading, Command::Agree { from, high }).await.map(|_| Stepped::Agreed),
        Step::Holds(of) => {
            let mut scan = HoldScan::new(grid.node.owners().clone(), of);
            each_row(host(grid, lead.shard)?, |key, value| scan.add(key, value).map_err(unread)).await?;
            let holds = scan.finish();
            Ok(if holds.len() > HOLDS { Stepped::TooMany(holds.len() as u64) } else { Stepped::Holds(holds) })
        }
        Step::Claim(to, held, restarted) => {
            let fences = restarted.map(|Restarted { before, at }| (before, at));
            let mut scan = ClaimScan::new(grid.node.owners().clone(), to, held, fences);
            each_row(host(grid, lead.shard)?, |key, value| scan.add(key, value).map_err(unread)).await?;
            let (orders, mismatch) = scan.finish();
            if let Some(Restarted { before, .. }) = restarted {
                for orders in orders.chunks(CLAIMS) {
                    landed(leading, Command::Claims(Claims { to, before, orders: orders.to_vec() })).await?;
                }
            }
            Ok(Stepped::Found(Found::from(&mismatch)))
        }
        Step::Compare(to) => {
            compare_ends(lead, to).await;
            Ok(Stepped::Agreed)
        }
    }
}

fn unread(_: ordergrid_domain::encoding::BytesError) -> Failure {
    Failure::refused(Refusal::NotReady)
}

fn host(grid: &NodeGrid, shard: GroupId) -> Result<&ShardHost, Failure> {
    grid.node.host(shard).map(AsRef::as_ref).ok_or_else(|| Failure::refused(Refusal::NoLeader))
}

/// Shows every row of a moment that is not earlier than what is applied.
async fn each_row(host: &ShardHost, see: impl FnMut(&[u8], &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    Cut::take(host).await?.each(see).await
}

async fn landed(leading: &Leading, command: Command) -> Result<Outcome, Failure> {
    match leading.lead.batcher.ask(command).await {
        Ok(landed) => match landed.outcome {
            Outcome::Rejected(rejection) => Err(Failure::Rejected(rejection)),
            outcome => Ok(outcome),
        },
        Err(NotLanded::NotAppended | NotLanded::TooLate) => Err(Failure::refused(Refusal::NoLeader)),
        Err(NotLanded::Unknown) => Err(Failure::unknown(UnknownCause::LeaderChanged)),
    }
}

/// Every two shards whose streams do not fit together.
pub(crate) async fn every_pair(grid: &NodeGrid, dry_run: bool) -> Reply<Reconciliation> {
    let shards: Vec<_> = grid.node.shards().into_iter().collect();
    let mut streams = Vec::new();
    for (nth, one) in shards.iter().enumerate() {
        for other in &shards[nth + 1..] {
            streams.extend(Pair { grid, of: [*one, *other] }.reconciled(dry_run).await);
        }
    }
    streams.sort_by_key(|stream| (stream.from, stream.to));
    Ok(Answer::new(Reconciliation { dry_run, streams }, Token::default()))
}

/// Two shards, and the streams between them: the first is that of the first shard.
struct Pair<'a> {
    grid: &'a NodeGrid,
    of: [GroupId; 2],
}

/// Why a pair is not reconciled.
enum Stuck {
    Failed(Failure),
    TooMany(u64),
}

impl From<Failure> for Stuck {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Where the streams between one shard and another stand.
#[derive(Clone, Copy)]
struct Ends {
    sends: Stream,
    applied: u64,
}

impl Pair<'_> {
    async fn reconciled(&self, dry_run: bool) -> [StreamReport; 2] {
        let misfits = match self.misfits().await {
            Ok(misfits) => misfits,
            Err(stuck) => return [0, 1].map(|at| self.stuck(at, &stuck)),
        };
        if misfits.iter().all(Option::is_none) {
            return [0, 1].map(|at| self.report(at, StreamState::Sound, None, Found::default()));
        }
        let found = if dry_run { self.compared([None, None]).await } else { self.anew().await };
        match found {
            Ok(found) => {
                let mut found = found.into_iter();
                let state = if dry_run { StreamState::Stopped } else { StreamState::Reconciled };
                [0, 1].map(|at| {
                    let why = misfits[at].map(|misfit| misfit.to_string());
                    self.report(at, state, why, found.next().unwrap_or_default())
                })
            }
            Err(stuck) => [0, 1].map(|at| self.stuck(at, &stuck)),
        }
    }

    /// What does not fit of either stream. Each source is looked at before and after its destination.
    async fn misfits(&self) -> Result<[Option<Misfit>; 2], Stuck> {
        let before = self.ends(0).await?;
        let other = self.ends(1).await?;
        let after = self.ends(0).await?;
        let misfits = [
            Misfit::of(&before.sends, other.applied, &after.sends),
            Misfit::of(&other.sends, after.applied, &other.sends).filter(|misfit| match misfit {
                Misfit::Lacks { .. } => true,
                // What was sent since it was looked at may be applied by now.
                Misfit::Ahead { .. } => before.applied >= other.sends.next,
            }),
        ];
        Ok(misfits)
    }

    async fn ends(&self, at: usize) -> Result<Ends, Stuck> {
        let to = self.of[1 - at];
        match self.step(at, Step::Ends(to)).await? {
            Stepped::Ends { next, trimmed, applied } => Ok(Ends { sends: Stream { to, next, trimmed }, applied }),
            _ => Err(wrong_answer()),
        }
    }

    /// The four steps.
    async fn anew(&self) -> Result<Vec<Found>, Stuck> {
        let mut restarted = Vec::new();
        for at in [0, 1] {
            let applied = self.ends(1 - at).await?.applied;
            match self.step(at, Step::Restart(vec![(self.of[1 - at], applied)])).await? {
                Stepped::Restarted(streams, when) if streams.len() == 1 => restarted.push((streams[0].1, when)),
                _ => return Err(wrong_answer()),
            }
        }
        for at in [0, 1] {
            self.step(at, Step::Agree(self.of[1 - at], restarted[1 - at].0 - 1)).await?;
        }
        let found = self.compared([Some(restarted[0].1), Some(restarted[1].1)]).await?;
        for at in [0, 1] {
            self.step(at, Step::Agree(self.of[1 - at], restarted[1 - at].0)).await?;
        }
        for at in [0, 1] {
            // The streams go on, whether or not that is seen before this is answered.
            let _ = self.step(at, Step::Compare(self.of[1 - at])).await;
        }
        tracing::warn!(shard = %self.of[0], other_shard = %self.of[1], "streams between two shards started anew");
        Ok(found)
    }

    /// What the orders of each shard count on, against what the other one holds; claimed where its stream was restarted.
    async fn compared(&self, restarted: [Option<Restarted>; 2]) -> Result<Vec<Found>, Stuck> {
        let mut found = Vec::new();
        for at in [0, 1] {
            let held = match self.step(1 - at, Step::Holds(self.of[at])).await? {
                Stepped::Holds(held) => held,
                Stepped::TooMany(count) => return Err(Stuck::TooMany(count)),
                _ => return Err(wrong_answer()),
            };
            match self.step(at, Step::Claim(self.of[1 - at], held, restarted[at])).await? {
                Stepped::Found(of) => found.push(of),
                _ => return Err(wrong_answer()),
            }
        }
        Ok(found)
    }

    async fn step(&self, at: usize, step: Step) -> Result<Stepped, Stuck> {
        Ok(self.grid.route(StepStream(self.of[at], step)).await?)
    }

    fn report(&self, at: usize, state: StreamState, why: Option<String>, found: Found) -> StreamReport {
        let Found { missing, surplus, orderless, unkept } = found;
        StreamReport { from: self.of[at].0, to: self.of[1 - at].0, state, why, missing, surplus, orderless, unkept }
    }

    fn stuck(&self, at: usize, stuck: &Stuck) -> StreamReport {
        let (state, why) = match stuck {
            Stuck::Failed(Failure::Unknown { cause }) => (StreamState::Unknown, cause.to_string()),
            Stuck::Failed(Failure::Refused { reason, .. }) => (StreamState::Refused, reason.to_string()),
            Stuck::Failed(Failure::Rejected(rejection)) => (StreamState::Refused, rejection.to_string()),
            Stuck::TooMany(count) => {
                (StreamState::Refused, format!("{count} holds are more than the {HOLDS} that are compared at a time"))
            }
        };
        self.report(at, state, Some(why), Found::default())
    }
}

fn wrong_answer() -> Stuck {
    Stuck::Failed(Failure::unknown(UnknownCause::Unreadable))
}
