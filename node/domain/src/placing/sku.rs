//! What memory says about a hold that a SKU is asked for (rules 9 and 12).

use super::holds::HoldResult;
use crate::command::Hold;
use crate::machine::{Lookup, ShardMachine};
use crate::rejection::Rejection;

/// What to do with a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldDecision {
    /// Answer without the log.
    Answer(HoldResult),
    /// The log decides.
    ToLog,
    /// Units under way may yet vanish: wait until they have settled.
    Wait,
}

/// Memory first: an attempt that holds already, then sold out. `lease`, looked at after the request arrived, says that memory
/// is not old; without it the log decides. `under_way` units are in holds that were proposed and not heard of.
///
/// A hold that has been applied may still count as under way, because the driver settles it a moment later: that makes a
/// hold wait, never pass.
#[must_use]
pub fn judge(machine: &ShardMachine, lease: bool, under_way: u64, hold: &Hold) -> HoldDecision {
    if machine.may_know(hold.attempt, &hold.sku, hold.valid_until) {
        // Rule 9: the machine tells repeats and tombstones apart.
        return HoldDecision::ToLog;
    }
    let Lookup::Found(available) = machine.available_units(&hold.sku) else { return HoldDecision::ToLog };
    if !lease {
        return HoldDecision::ToLog;
    }
    if hold.quantity > available {
        let (sku, asked) = (hold.sku.clone(), hold.quantity);
        return HoldDecision::Answer(HoldResult::Refused(Rejection::OutOfStock { sku, asked, available }));
    }
    if under_way > 0 && hold.quantity.0.saturating_add(under_way) > available.0 {
        return HoldDecision::Wait;
    }
    HoldDecision::ToLog
}
