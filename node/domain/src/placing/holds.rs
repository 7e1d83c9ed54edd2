//! What became of holds that a shard was asked for together, and what a leader makes of refusals.

use bincode::{Decode, Encode};

use super::proposed::NotLanded;
use crate::command::Outcome;
use crate::ids::{GroupId, Text};
use crate::rejection::Rejection;
use crate::time::Timestamp;

/// What became of one hold.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum HoldResult {
    /// Held; the SKU's name in the catalogue.
    Granted(Text),
    /// A final no.
    Refused(Rejection),
    /// Nobody who could decide was reached: nothing was held.
    NoLeader,
    /// Too much is under way: nothing was held.
    Overloaded,
    /// It may be held or not; a release makes it certain.
    Unknown,
}

/// What a shard says of holds that it was asked for together, or of some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which shard.
    pub shard: GroupId,
    /// The number of the attempt, and what became of one of its holds. Those of an attempt come in one answer, stand together and
    /// are in the order asked; one that is missing counts as unknown.
    pub results: Vec<(u64, HoldResult)>,
}

impl HoldResult {
    /// The log has decided.
    ///
    /// # Panics
    /// The outcome is not that of a hold.
    #[must_use]
    pub fn landed(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Held { name } => Self::Granted(name),
            Outcome::Rejected(rejection) => Self::Refused(rejection),
            other => unreachable!("a hold is answered as held or rejected, not {other:?}"),
        }
    }

    /// The log has decided holds that were asked for together: one result each, in the order asked.
    ///
    /// # Panics
    /// The outcome is not that of such holds.
    pub fn landed_together(outcome: Outcome) -> impl Iterator<Item = Self> {
        let Outcome::Holds(results) = outcome else { unreachable!("holds are answered one by one, not with {outcome:?}") };
        results.into_iter().map(|result| result.map_or_else(Self::Refused, Self::Granted))
    }

    /// The log has not decided.
    #[must_use]
    pub fn not_landed(why: NotLanded) -> Self {
        match why {
            NotLanded::NotAppended => Self::NoLeader,
            NotLanded::TooLate => Self::Overloaded,
            NotLanded::Unknown => Self::Unknown,
        }
    }

    /// Units may be held (rule 8), where `unheard` says that an earlier answer of the shard was lost: what was asked first may
    /// yet arrive.
    pub(super) fn may_be_held(&self, unheard: bool) -> bool {
        match self {
            Self::Granted(_) | Self::Unknown => true,
            Self::NoLeader | Self::Overloaded | Self::Refused(_) => unheard,
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self, Self::NoLeader | Self::Unknown)
    }
}

/// Whether a shard is worth asking again: nobody there refused, and somebody could not be reached (rule 7).
pub(super) fn is_lost<'a>(results: impl IntoIterator<Item = &'a HoldResult> + Clone) -> bool {
    let reachable = |result: &HoldResult| matches!(result, HoldResult::Granted(_)) || result.is_lost();
    results.clone().into_iter().any(HoldResult::is_lost) && results.into_iter().all(reachable)
}

/// The latest log time of SKUs that refused a hold as expired (rule 11).
pub(super) fn expired(refusals: &[HoldResult]) -> Option<Timestamp> {
    let times = refusals.iter().filter_map(|result| match result {
        HoldResult::Refused(Rejection::HoldExpired { now, .. }) => Some(*now),
        _ => None,
    });
    times.max()
}

/// The one refusal to tell, if the SKUs gave any: unknown SKUs before stock, stock before the rest.
pub(super) fn final_no(refusals: &[HoldResult]) -> Option<Rejection> {
    let mut out_of_stock = Vec::new();
    let mut other = None;
    for result in refusals {
        match result {
            HoldResult::Refused(rejection @ Rejection::NoSuchSku(_)) => return Some(rejection.clone()),
            HoldResult::Refused(Rejection::OutOfStock { sku, asked, available }) => {
                out_of_stock.push((sku.clone(), *asked, *available));
            }
            HoldResult::Refused(Rejection::HoldExpired { .. } | Rejection::HoldEnded) => {}
            HoldResult::Refused(rejection) => other = Some(rejection.clone()),
            _ => {}
        }
    }
    Rejection::short_of(out_of_stock).or(other)
}
