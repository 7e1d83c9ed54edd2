//! What a round is: everything that is drawn, drawn from its seed before anything begins.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::Site;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kill -9` of one node.
    Kill,
    /// `kill -9` of a majority, one right after the other.
    KillMajority,
    /// `kill -9` of all.
    KillAll,
    /// SIGTERM to one node.
    Stop,
    /// One node stands still and goes on.
    Pause,
    /// A majority stands still and goes on.
    PauseMajority,
    /// One node and the others do not hear each other.
    NetIsolate,
    /// A minority and a majority do not hear each other.
    NetHalves,
    /// What one node sends to the others is lost, or what they send to it; the other direction works.
    NetOneWay,
    /// One node is cut off and joined again, several times a second.
    NetFlap,
    /// One node sends at the rate of an old modem.
    NetSlow,
    /// No room on one node's disk.
    DiskFull,
    /// One node's disk does nothing for a while.
    DiskStalled,
    /// One node's disk does nothing for a tenth of a second, again and again.
    DiskSlow,
    /// Every write to one node's disk fails from some moment on, while it runs.
    DiskFails,
    /// One node is started on a disk that can only be read.
    DiskReadOnly,
    /// A bit of the log of a node that was killed.
    BitLog,
    /// 4 KiB of the log of a node that was killed read as zeros.
    BlockLog,
    /// A bit of a table of the log database of a node that was killed.
    BitLogTable,
    /// A bit of the log of the one node that makes a majority with those that were down before.
    BitLogBehind,
    /// A bit of the state of a node that was killed.
    BitState,
    /// A bit of the state of a node that runs.
    BitStateLive,
    /// A file of the state of a node that was killed is gone.
    FileState,
    /// The clocks of a minority step, by seconds to a year, and back.
    Clock,
}

/// What a kind asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Network,
    Volume,
    Clock,
}

impl Kind {
    /// Every kind, its name and what it needs.
    const ALL: [(Self, &'static str, Need); 24] = [
        (Self::Kill, "kill", Need::Nothing),
        (Self::KillMajority, "kill-majority", Need::Nothing),
        (Self::KillAll, "kill-all", Need::Nothing),
        (Self::Stop, "stop", Need::Nothing),
        (Self::Pause, "pause", Need::Nothing),
        (Self::PauseMajority, "pause-majority", Need::Nothing),
        (Self::NetIsolate, "net-isolate", Need::Network),
        (Self::NetHalves, "net-halves", Need::Network),
        (Self::NetOneWay, "net-one-way", Need::Network),
        (Self::NetFlap, "net-flap", Need::Network),
        (Self::NetSlow, "net-slow", Need::Network),
        (Self::DiskFull, "disk-full", Need::Volume),
        (Self::DiskStalled, "disk-stalled", Need::Volume),
        (Self::DiskSlow, "disk-slow", Need::Volume),
        (Self::DiskFails, "disk-fails", Need::Volume),
        (Self::DiskReadOnly, "disk-read-only", Need::Volume),
        (Self::BitLog, "bit-log", Need::Nothing),
        (Self::BlockLog, "block-log", Need::Nothing),
        (Self::BitLogTable, "bit-log-table", Need::Nothing),
        (Self::BitLogBehind, "bit-log-behind", Need::Nothing),
        (Self::BitState, "bit-state", Need::Nothing),
        (Self::BitStateLive, "bit-state-live", Need::Nothing),
        (Self::FileState, "file-state", Need::Nothing),
        (Self::Clock, "clock", Need::Clock),
    ];

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.iter().map(|(kind, ..)| *kind)
    }

    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    pub(super) fn need(self) -> Need {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, Need) {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).expect("the table has every kind")
    }

    /// A name, or the beginning of several: `bit` is `bit-log`, `bit-state` and so on.
    #[must_use]
    pub fn named(word: &str) -> Vec<Self> {
        let means = |name: &str| name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        Self::ALL.iter().filter(|(_, name, _)| means(name)).map(|(kind, ..)| *kind).collect()
    }

    /// It leaves something on a disk other than what was written. At most one node of a round is hurt like this: what a
    /// majority has lost no grid can give back.
    #[must_use]
    pub fn damages(self) -> bool {
        matches!(
            self,
            Self::BitLog
                | Self::BlockLog
                | Self::BitLogTable
                | Self::BitLogBehind
                | Self::BitState
                | Self::BitStateLive
                | Self::FileState
        )
    }
}

/// One blow, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// What is done.
    pub kind: Kind,
    /// Milliseconds of quiet before it.
    pub wait_ms: u64,
    /// Milliseconds until it is mended.
    pub hold_ms: u64,
    /// Of everything else about it: which nodes, which bit.
    pub seed: u64,
}

/// A round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What everything was drawn from.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// Shards.
    pub shards: u16,
    /// Clients that ask one thing at a time.
    pub clients: usize,
    /// Longest a client rests between two things, in milliseconds.
    pub rest_ms: u64,
    /// Units received of each SKU in the beginning.
    pub stock: Vec<u64>,
    /// Users.
    pub users: usize,
    /// More lines of configuration, the same on every node.
    pub config: String,
    /// The blows, in order.
    pub strikes: Vec<Strike>,
}

impl Plan {
    /// Draws a round with the kinds of `allowed` that this machine can do.
    ///
    /// # Panics
    /// If no kind is left.
    #[must_use]
    pub fn draw(seed: u64, allowed: &[Kind], site: &Site) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let nodes = if dice.random_ratio(1, 3) { 5 } else { 3 };
        let kinds: Vec<Kind> = allowed.iter().copied().filter(|kind| site.can(*kind).is_ok()).collect();
        assert!(!kinds.is_empty(), "there is no kind of trouble left to draw");
        let stock = (0..16).map(|_| if dice.random_ratio(1, 4) { 60 } else { 50_000 }).collect();
        let every = dice.random_range(1..=4);
        let kept = *[50, 500, 50_000].choose(&mut dice).expect("three");
        let config =
            format!("[checkpoint]\nevery = \"{every}s\"\ndirty = \"1MiB\"\n[log]\nkept = {kept}\n[limits]\nverify = \"20s\"\n");
        Self {
            seed,
            nodes,
            shards: *[1, 2, 4].choose(&mut dice).expect("three"),
            clients: dice.random_range(6..=12),
            rest_ms: dice.random_range(4..=16),
            stock,
            users: 40,
            config,
            strikes: strikes(&mut dice, kinds),
        }
    }
}

fn strikes(dice: &mut StdRng, mut kinds: Vec<Kind>) -> Vec<Strike> {
    // Different kinds, so that a round of two is about how they meet.
    kinds.shuffle(dice);
    let mut damaged = false;
    kinds.retain(|kind| !kind.damages() || !std::mem::replace(&mut damaged, true));
    kinds.truncate(dice.random_range(1..=3));
    kinds.shuffle(dice);
    kinds
        .into_iter()
        .map(|kind| Strike {
            kind,
            wait_ms: dice.random_range(300..1_500),
            hold_ms: dice.random_range(300..3_500),
            seed: dice.random(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_plan_and_every_kind_is_drawn() {
        let all: Vec<Kind> = Kind::all().collect();
        let plans: Vec<Plan> = (0..300).map(|seed| Plan::draw(seed, &all, &Site::of_everything())).collect();
        assert_eq!(plans[7], Plan::draw(7, &all, &Site::of_everything()));
        for kind in Kind::all() {
            assert!(plans.iter().any(|plan| plan.strikes.iter().any(|strike| strike.kind == kind)), "{kind:?}");
        }
        assert!(plans.iter().all(|plan| plan.strikes.iter().filter(|strike| strike.kind.damages()).count() <= 1));
        assert!([3, 5].iter().all(|nodes| plans.iter().any(|plan| plan.nodes == *nodes)));
    }

    #[test]
    fn words_name_kinds() {
        assert_eq!(Kind::named("bit-log"), [Kind::BitLog, Kind::BitLogTable, Kind::BitLogBehind]);
        assert_eq!(Kind::named("kill-all"), [Kind::KillAll]);
        assert_eq!(Kind::named("kil"), []);
        assert!(Kind::all().all(|kind| Kind::named(kind.name()).contains(&kind)));
    }
}
