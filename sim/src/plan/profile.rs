//! Profiles: which histories are drawn.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use crate::clients::{Action, Mix};
use crate::dice::Dice;

/// A kind of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Profile {
    /// Everything, for at most 40 simulated seconds: what every change must pass.
    Quick = 1,
    /// Everything, for minutes.
    Nightly,
    /// Many buyers, few units of one SKU.
    Flash,
    /// Short deadlines to pay, leaders that change, clocks that differ.
    Timers,
    /// Leadership moves, nodes come and go.
    Membership,
    /// Disks that are slow, full, broken, or lie about nothing but lose what they may.
    Storage,
    /// Short crashes and nothing else.
    Crashes,
    /// Leader changes and nothing else.
    Leaders,
    /// One slow disk and nothing else.
    SlowDisk,
    /// Partitions of every kind, and nothing else.
    Partitions,
}

impl Profile {
    /// Seconds that clients ask while things go wrong, at least and at most.
    pub(super) fn unrest(self) -> (u64, u64) {
        match self {
            Self::Quick => (6, 14),
            Self::Nightly => (30, 180),
            Self::Flash => (8, 15),
            _ => (10, 30),
        }
    }

    /// Links fail.
    pub(super) fn has_partitions(self) -> bool {
        matches!(self, Self::Quick | Self::Nightly | Self::Flash | Self::Membership | Self::Partitions)
    }

    /// Histories in a hundred in which messages between nodes are lost, repeated and reordered.
    pub(super) fn frame_percent(self) -> u64 {
        match self {
            Self::Quick | Self::Nightly | Self::Flash => 40,
            Self::Timers | Self::Membership => 25,
            _ => 0,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no profile is skipped");
        f.write_str(value.get_name())
    }
}

/// The clients of a history.
pub(super) fn mix(profile: Profile, dice: &mut Dice) -> Mix {
    let ms = Duration::from_millis;
    let general = Mix {
        clients: u32::try_from(dice.between(2, 10)).expect("small"),
        pause: (ms(1), ms(dice.between(5, 200))),
        patience: ms(dice.between(500, 10_000)),
        users: dice.between(2, 12),
        skus: dice.between(1, 8),
        hot_percent: *dice.pick(&[0, 30, 80]),
        lines: dice.between(1, 4),
        units: dice.between(1, 5),
        window: (1, dice.between(2, if profile == Profile::Nightly { 30 } else { 6 })),
        owed_percent: *dice.pick(&[0, 10, 40]),
        attempts: u32::try_from(dice.between(1, 6)).expect("small"),
        retry_percent: *dice.pick(&[50, 80, 100]),
        abandon_percent: *dice.pick(&[0, 5, 20]),
        weights: weights(dice),
    };
    match profile {
        Profile::Flash => Mix {
            clients: u32::try_from(dice.between(8, 24)).expect("small"),
            pause: (ms(0), ms(dice.between(2, 30))),
            users: 1_000,
            skus: 2,
            hot_percent: 90,
            lines: 2,
            units: 2,
            window: (2, 6),
            weights: vec![
                (Action::Place, 70),
                (Action::PlaceBatch, 4),
                (Action::Pay, 8),
                (Action::Cancel, 4),
                (Action::Stock, 1),
                (Action::Read, 10),
                (Action::Repeat, 8),
            ],
            ..general
        },
        Profile::Timers => Mix {
            window: (1, dice.between(1, 4)),
            owed_percent: 0,
            weights: vec![
                (Action::Place, 40),
                (Action::Pay, 40),
                (Action::Cancel, 5),
                (Action::Read, 15),
                (Action::Repeat, 10),
            ],
            ..general
        },
        _ => general,
    }
}

/// Every action may be common, rare or absent; placing never is.
fn weights(dice: &mut Dice) -> Vec<(Action, u64)> {
    let usual = [
        (Action::Place, 30),
        (Action::PlaceBatch, 2),
        (Action::Pay, 20),
        (Action::Cancel, 8),
        (Action::Pick, 10),
        (Action::MoveParcel, 12),
        (Action::Complete, 2),
        (Action::Refund, 5),
        (Action::Stock, 5),
        (Action::Read, 20),
        (Action::Repeat, 6),
        (Action::MisuseKey, 2),
    ];
    let mut drawn: Vec<_> = usual.into_iter().map(|(action, weight)| (action, weight * *dice.pick(&[0, 1, 1, 1, 3]))).collect();
    drawn[0].1 = drawn[0].1.max(20);
    drawn.push((Action::Verify, u64::from(dice.percent(20))));
    drawn
}
