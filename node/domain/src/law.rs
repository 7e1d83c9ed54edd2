//! The laws: what must hold at every index whatever fails. The same names stand in assertions, in what `verify` prints, and in
//! what the simulation's judges say. ARCHITECTURE.md has where each is asserted, proven and measured.

use bincode::{Decode, Encode};
use std::fmt;

/// One law. The statements are those of ARCHITECTURE.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Law {
    /// `available = on_hand - unavailable - reserved - committed >= 0` for every SKU and warehouse, at every index.
    NoOversell,
    /// Reserved and committed equal the sums of their holds; `on_hand = received + restocked + adjusted - sold`.
    HoldsAddUp,
    /// An order holds every unit its lines say is held; one that does not exist ends up holding none.
    AllOrNothing,
    /// Refunds that are asked for are at most what was captured into their purse; a provider payment counts once.
    MoneyConserved,
    /// What was captured is kept for goods, in refunds, disputed, or a surplus whose refund has failed; what is gone beyond it,
    /// a provider took.
    MoneyEndsSomewhere,
    /// An acknowledged write is never lost.
    AcknowledgedIsDurable,
    /// An idempotency key names at most one order, as far as its retention reaches.
    OneKeyOneOrder,
    /// A refused request changed nothing.
    RefusedMeansNothing,
    /// Same shard, same index, same state hash.
    ReplicasAgree,
    /// Reads are linearizable per order and per SKU, and an index finds every order once.
    ReadsAreCurrent,
    /// Timers fire once and never early.
    TimersFire,
    /// Events of an order are numbered without gaps or reordering.
    EventsGapless,
    /// When faults stop, every attempt ends, every hold belongs to an order, every outbox drains.
    Heals,
}

impl Law {
    /// Every law, in the order they are printed.
    pub const ALL: [Self; 13] = [
        Self::NoOversell,
        Self::HoldsAddUp,
        Self::AllOrNothing,
        Self::MoneyConserved,
        Self::MoneyEndsSomewhere,
        Self::AcknowledgedIsDurable,
        Self::OneKeyOneOrder,
        Self::RefusedMeansNothing,
        Self::ReplicasAgree,
        Self::ReadsAreCurrent,
        Self::TimersFire,
        Self::EventsGapless,
        Self::Heals,
    ];

    /// Its name, as it is printed everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoOversell => "NoOversell",
            Self::HoldsAddUp => "HoldsAddUp",
            Self::AllOrNothing => "AllOrNothing",
            Self::MoneyConserved => "MoneyConserved",
            Self::MoneyEndsSomewhere => "MoneyEndsSomewhere",
            Self::AcknowledgedIsDurable => "AcknowledgedIsDurable",
            Self::OneKeyOneOrder => "OneKeyOneOrder",
            Self::RefusedMeansNothing => "RefusedMeansNothing",
            Self::ReplicasAgree => "ReplicasAgree",
            Self::ReadsAreCurrent => "ReadsAreCurrent",
            Self::TimersFire => "TimersFire",
            Self::EventsGapless => "EventsGapless",
            Self::Heals => "Heals",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
