//! The words a person reads: derived, never stored. And how events and reasons are spelt.

use super::{CancelReason, EventKind, Line, Order, OrderHold, PaymentStatus, Phase, Status};
use crate::ids::Text;
use crate::money::{Money, Quantity};

impl Order {
    /// The status word: the first of lifecycle.md's list that fits.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Cancelled => Status::Cancelled,
            Phase::Completed => Status::Completed,
            Phase::PendingPayment => Status::PendingPayment,
            Phase::Confirmed if self.hold() == Some(OrderHold::NoCover) => Status::OnHold,
            Phase::Confirmed if self.is_open() && self.shipped_units() > Quantity::ZERO => Status::PartiallyShipped,
            Phase::Confirmed if self.is_open() && self.covered() => Status::Paid,
            Phase::Confirmed if self.is_open() => Status::Confirmed,
            Phase::Confirmed if self.all_delivered() => Status::Delivered,
            Phase::Confirmed => Status::Shipped,
        }
    }

    /// Whether it has ended without a parcel, so that its reference may name another order of its user.
    #[must_use]
    pub fn frees_reference(&self) -> bool {
        self.phase == Phase::Cancelled && self.shipped_units() == Quantity::ZERO
    }

    /// The payment word.
    #[must_use]
    pub fn payment_status(&self) -> PaymentStatus {
        let (captured, paid_back) = (self.captured(), self.paid_back());
        if captured == Money::ZERO {
            return match (self.total, self.authorized()) {
                (Money::ZERO, _) => PaymentStatus::Paid,
                (_, authorized) if authorized > Money::ZERO && authorized >= self.agreed() => PaymentStatus::Authorized,
                _ => PaymentStatus::Unpaid,
            };
        }
        if self.disputed() > Money::ZERO {
            return PaymentStatus::Disputed;
        }
        match paid_back {
            Money::ZERO if captured >= self.agreed() && self.kept() >= self.due() => PaymentStatus::Paid,
            Money::ZERO => PaymentStatus::PartiallyPaid,
            _ if paid_back >= captured => PaymentStatus::Refunded,
            _ => PaymentStatus::PartiallyRefunded,
        }
    }

    /// Some unit is backordered, held or being picked.
    pub(super) fn is_open(&self) -> bool {
        self.lines.iter().any(|line| line.open() > Quantity::ZERO)
    }

    /// Every unit that was shipped has arrived.
    pub(super) fn all_delivered(&self) -> bool {
        self.lines.iter().all(|line: &Line| line.delivered == line.shipped)
    }
}

impl EventKind {
    /// Its name to the outside, as `order.paid`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created => "order.created",
            Self::Paid => "order.paid",
            Self::StatusChanged => "order.status_changed",
            Self::CancelRequested => "order.cancel_requested",
            Self::Cancelled => "order.cancelled",
            Self::LineChanged => "order.line_changed",
            Self::PaymentRecorded => "payment.recorded",
            Self::VoidRequested => "payment.void_requested",
            Self::FulfilmentCreated(_) => "fulfilment.created",
            Self::FulfilmentCancelled(_) => "fulfilment.cancelled",
            Self::FulfilmentShipped(_) => "fulfilment.shipped",
            Self::FulfilmentDelivered(_) => "fulfilment.delivered",
            Self::Completed => "order.completed",
            Self::RefundRequested(_) => "refund.requested",
            Self::RefundSucceeded(_) => "refund.succeeded",
            Self::RefundFailed(_) => "refund.failed",
            Self::Shortfall => "stock.shortfall",
            Self::DeadlineExtended => "order.deadline_extended",
            Self::CaptureDue => "payment.capture_due",
            Self::OnHold => "order.on_hold",
            Self::Released => "order.released",
        }
    }
}

impl OrderHold {
    /// What is wrong, in words.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::NoCover => "its payments do not cover what is due",
            Self::PaymentInDoubt => "its provider told of a failure after a capture",
        }
    }
}

impl CancelReason {
    /// Its word, as in `cancelled(timeout)`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Timeout => "timeout",
            Self::Merchant => "merchant",
            Self::Risk => "risk",
            Self::Shortfall => "shortfall",
        }
    }

    /// The reason that events give when nobody has said more.
    pub(super) fn text(self) -> Text {
        Text::new(self.word()).expect("a word is a valid text")
    }
}

#[cfg(test)]
mod tests {
    use crate::order::testing::{Play, at, words};
    use crate::order::{EventKind, Operator, Status};

    #[test]
    #[rustfmt::skip]
    fn words_follow_from_units_and_money() {
        const ORDER: &str = "A*6@255 B*2@100";
        let rows = [
            // order                    given                                                                    status payment
            (ORDER,                     "",                                                                      "PendingPayment Unpaid"),
            (ORDER,                     "pay p authorized 1000",                                                 "PendingPayment Unpaid"),
            (ORDER,                     "pay p captured 1000",                                                   "PendingPayment PartiallyPaid"),
            (ORDER,                     "pay p authorized 1730",                                                 "Paid Authorized"),
            (ORDER,                     "pay p captured 1730",                                                   "Paid Paid"),
            (ORDER,                     "pay p captured 1730; pick",                                             "Paid Paid"),
            (ORDER,                     "pay p captured 1730; pick 1:1; ship 1",                                 "PartiallyShipped Paid"),
            (ORDER,                     "pay p captured 1730; pick 1:1; ship 1; deliver 1",                      "PartiallyShipped Paid"),
            (ORDER,                     "pay p captured 1730; pick; ship 1",                                     "Shipped Paid"),
            (ORDER,                     "pay p captured 1730; pick; ship 1; deliver 1",                          "Delivered Paid"),
            (ORDER,                     "pay p captured 1730; pick; ship 1; deliver 1; complete",                "Completed Paid"),
            (ORDER,                     "cancel user",                                                           "Cancelled Unpaid"),
            (ORDER,                     "pay p captured 1730; cancel user; refund-succeeded 1",                  "Cancelled Refunded"),
            (ORDER,                     "pay p captured 1730; cancel user 2:2; refund-succeeded 1",              "Paid PartiallyRefunded"),
            (ORDER,                     "pay p captured 1730; cancel user 2:2",                                  "Paid Paid"),
            (ORDER,                     "pay p captured 1730; short A 6",                                        "Paid Paid"),
            ("A*6@255 terms=invoice",   "",                                                                      "Confirmed Unpaid"),
            ("A*6@255 terms=on_delivery", "",                                                                    "Confirmed Unpaid"),
            ("A*6@255 terms=invoice",   "pay p captured 5",                                                      "Confirmed PartiallyPaid"),
            ("A*6@255 terms=invoice",   "pay p captured 1530",                                                   "Paid Paid"),
            ("A*6@255 terms=invoice",   "pick; ship 1; deliver 1",                                               "Delivered Unpaid"),
            ("A*6@0",                   "",                                                                      "Paid Paid"),
            ("A*6@0",                   "cancel user",                                                           "Cancelled Paid"),
        ];
        for (order, given, expected) in rows {
            assert_eq!(words(&Play::new(order, given).order), expected, "{order} | {given}");
        }
    }

    #[test]
    fn the_timeline_is_the_status_history() {
        let order = Play::new("A*1@5", "@3 pay p captured 5; @4 pick; @5 ship 1; @6 deliver 1; @7 complete").order;
        let history: Vec<(u32, u64, Option<Status>, Status, Operator)> = order
            .events
            .iter()
            .filter(|event| matches!(event.kind, EventKind::Created | EventKind::StatusChanged))
            .map(|event| (event.number, event.at.since(at(0)).as_secs(), event.from, event.to, event.operator))
            .collect();
        assert_eq!(
            history,
            [
                (1, 0, None, Status::PendingPayment, Operator::User),
                (3, 3, Some(Status::PendingPayment), Status::Paid, Operator::Provider),
                (6, 5, Some(Status::Paid), Status::Shipped, Operator::Merchant),
                (8, 6, Some(Status::Shipped), Status::Delivered, Operator::Merchant),
                (10, 7, Some(Status::Delivered), Status::Completed, Operator::Merchant),
            ]
        );
        assert_eq!((order.version, order.updated_at), (6, at(7)));
    }
}
