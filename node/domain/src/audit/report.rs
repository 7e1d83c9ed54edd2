//! What an audit found: counts, laws with their violations, what is under way.

use bincode::{Decode, Encode};
use std::collections::BTreeMap;

use crate::ids::GroupId;
use crate::law::Law;
use crate::money::Currency;
use crate::order::{MoneyEnds, Status};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// How many there are of what.
    pub counts: AuditCounts,
    /// Every law that rows can prove, with its violations: none, if it holds.
    pub laws: Vec<(Law, Vec<String>)>,
    /// What is under way between shards. Nothing, once faults and traffic have stopped (Heals).
    pub in_flight: InFlight,
    /// Pairs (source, destination) whose moments do not fit together: AllOrNothing was not judged. Look again; if it
    /// stays, one of them was restored from something older (rule 20).
    pub torn: Vec<(GroupId, GroupId)>,
}

impl AuditReport {
    /// No law is broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.laws.iter().all(|(_, violations)| violations.is_empty())
    }

    /// Every violation with its law.
    pub fn violations(&self) -> impl Iterator<Item = (Law, &str)> {
        self.laws.iter().flat_map(|(law, violations)| violations.iter().map(|text| (*law, text.as_str())))
    }
}

/// How many there are of what, over all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct AuditCounts {
    /// Shards looked at.
    pub shards: u64,
    /// Orders.
    pub orders: u64,
    /// Orders by status; statuses without orders are left out.
    pub by_status: BTreeMap<Status, u64>,
    /// Idempotency records of placing.
    pub keys: u64,
    /// SKUs.
    pub skus: u64,
    /// Holds that belong to an order.
    pub holds: u64,
    /// Timers that run.
    pub timers: u64,
    /// Units on hand.
    pub on_hand: u64,
    /// Units ever shipped.
    pub sold: u64,
    /// Where the captured money of all orders is, in each currency.
    pub money: BTreeMap<Currency, MoneyEnds>,
    /// Rows of every kind.
    pub rows: u64,
}

impl AuditCounts {
    /// Adds what another audit has counted.
    pub(super) fn add(&mut self, other: Self) {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        for (currency, money) in &other.money {
            self.money.entry(*currency).or_default().add(money);
        }
        self.shards += other.shards;
        self.orders += other.orders;
        self.keys += other.keys;
        self.skus += other.skus;
        self.holds += other.holds;
        self.timers += other.timers;
        self.on_hand += other.on_hand;
        self.sold += other.sold;
        self.rows += other.rows;
    }
}

/// What is under way between shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Holds whose *keep* has not arrived.
    pub tentative: u64,
    /// Messages that their destination has not applied.
    pub undelivered: u64,
}
