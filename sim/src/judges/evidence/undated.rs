//! Histories in which log time was set back: what is told afterwards has other times than what was told of the same before.
//!
//! Times are then left out of what is compared. [`timers_fire`](crate::judges::laws::timers_fire) looks at what was told afterwards alone.

use std::borrow::Cow;

use ordergrid_api::wire::{BatchOrder, Order, RepairState, StatusHistory};
use ordergrid_domain::Timestamp;

use crate::history::{Ending, History, Operation, Said, SimTime};

/// When log time was last set back, if it was.
#[must_use]
pub fn set_back(history: &History) -> Option<SimTime> {
    let repaired = |op: &Operation| match &op.ending {
        Ending::Done { answer, .. } => match &**answer {
            Said::Repair(repair) => repair.any(RepairState::Repaired).then_some(op.ended?),
            _ => None,
        },
        _ => None,
    };
    history.operations.iter().filter_map(repaired).max()
}

/// The same history; without times, if log time was set back.
#[must_use]
pub fn history(history: &History) -> Cow<'_, History> {
    if set_back(history).is_none() {
        return Cow::Borrowed(history);
    }
    let mut undated = history.clone();
    for op in &mut undated.operations {
        if let Ending::Done { answer, .. } = &mut op.ending {
            said(answer);
        }
    }
    Cow::Owned(undated)
}

fn said(said: &mut Said) {
    match said {
        Said::Order(known) => order(known),
        Said::Fulfilment(changed) => {
            changed.fulfilment.at = Timestamp::default();
            order(&mut changed.order);
        }
        Said::Batch(batch) => {
            for result in &mut batch.results {
                if let Some(BatchOrder::Whole(known)) = &mut result.order {
                    order(known);
                }
            }
        }
        Said::User(page) => page.orders.iter_mut().for_each(order),
        Said::History(told) => timeline(told),
        Said::Sku(_) | Said::Status(_) | Said::Verify(_) | Said::Clock(_) | Said::Repair(_) | Said::Reconciled(_) => {}
    }
}

/// Takes the times out of an order.
pub fn order(order: &mut Order) {
    let none = Timestamp::default();
    (order.created_at, order.updated_at) = (none, none);
    order.payment_due_at = order.payment_due_at.map(|_| none);
    order.completes_at = order.completes_at.map(|_| none);
    order.payments.iter_mut().for_each(|payment| payment.at = none);
    order.refunds.iter_mut().for_each(|refund| refund.at = none);
    order.fulfilments.iter_mut().for_each(|fulfilment| fulfilment.at = none);
}

/// Takes the times out of a timeline.
pub fn timeline(timeline: &mut StatusHistory) {
    timeline.history.iter_mut().for_each(|event| event.at = Timestamp::default());
}
