//! Converts the domain's order into the one that clients see.

use ordergrid_domain::OrderId;
use ordergrid_domain::command::Created;
use ordergrid_domain::order::{self as domain, EventKind, RefundCause};

use super::order::{
    Address, FactTold, Fulfilment, Happening, Line, Order, OrderWords, Part, Payment, Refund, RefundPart, StatusHistory,
};
use super::text::WireText;

impl From<&domain::Order> for Order {
    fn from(order: &domain::Order) -> Self {
        Self {
            id: order.id,
            user_id: order.user.clone(),
            reference: order.reference.clone(),
            created: None,
            phase: order.phase,
            status: order.status(),
            payment_status: order.payment_status(),
            cancel_reason: order.cancel_reason,
            version: order.version,
            currency: order.currency,
            total: order.total.0,
            discount: order.discount.0,
            shipping_fee: order.shipping_fee.0,
            due: order.due().0,
            captured: order.captured().0,
            refunded: order.refunded().0,
            disputed: order.disputed().0,
            surplus: order.surplus().0,
            owed: owed(order),
            capture_due: order.capture_due().0,
            on_hold: order.hold(),
            terms: order.terms,
            payment_method: order.payment_method.clone(),
            created_at: order.created_at,
            updated_at: order.updated_at,
            payment_due_at: order.payment_due_at,
            completes_at: order.completes_at,
            ship_to: order.ship_to.as_ref().map(Into::into),
            lines: (1..).zip(&order.lines).map(line).collect(),
            payments: (1..).zip(&order.payments).map(|(number, one)| Payment::of(order, number, one)).collect(),
            refunds: order.refunds.iter().map(|one| Refund::of(order, one)).collect(),
            fulfilments: order.fulfilments.iter().map(|one| Fulfilment::of(order, one)).collect(),
            metadata: order.metadata.clone(),
        }
    }
}

impl Order {
    /// The order after a command, with what the command created.
    #[must_use]
    pub fn changed(order: &domain::Order, created: Option<Created>) -> Self {
        Self { created: created.and_then(created_id), ..order.into() }
    }
}

/// What the buyer owes, once the order is confirmed.
pub(crate) fn owed(order: &domain::Order) -> i64 {
    if order.phase == domain::Phase::PendingPayment { 0 } else { order.owed().0 }
}

/// The id of the fulfilment or refund that a command created.
pub(crate) fn created_id(created: Created) -> Option<String> {
    match created {
        Created::Fulfilment(id) => Some(id.write(str::to_owned)),
        Created::Refund(id) => Some(id.write(str::to_owned)),
        Created::Payment => None,
    }
}

impl From<&domain::Address> for Address {
    fn from(address: &domain::Address) -> Self {
        Self {
            recipient: address.recipient.clone(),
            lines: address.lines.clone(),
            city: address.city.clone(),
            postal_code: address.postal_code.clone(),
            country: address.country.clone(),
            phone: address.phone.clone(),
        }
    }
}

fn line((number, line): (u32, &domain::Line)) -> Line {
    Line {
        line: number,
        sku: line.sku.clone(),
        name: line.name.clone(),
        unit_price: line.unit_price.0,
        discount: line.discount.0,
        tax: line.tax.0,
        ordered: line.ordered.0,
        cancelled: line.cancelled.0,
        backordered: line.backordered.0,
        held: line.held.0,
        picking: line.picking.0,
        shipped: line.shipped.0,
        delivered: line.delivered.0,
        returned: line.returned.0,
    }
}

impl Payment {
    /// A payment of `order`, by its place in the ledger from 1.
    #[must_use]
    pub fn of(order: &domain::Order, number: u32, payment: &domain::Payment) -> Self {
        let live = order.refunds.iter().filter(|one| one.payment == number && one.state != domain::RefundState::Failed);
        let fact = |fact: &domain::PaymentFact| FactTold {
            status: fact.state,
            amount: fact.amount.0,
            part: fact.part.clone(),
            occurred_at: fact.occurred_at,
        };
        Self {
            provider: payment.provider.clone(),
            provider_payment_id: payment.provider_payment_id.clone(),
            status: payment.state(),
            amount: payment.amount().0,
            authorized: payment.authorized().0,
            captured: payment.captured().0,
            voided: payment.voided().0,
            capture_failed: payment.capture_failed().0,
            refunded: live.map(|refund| refund.amount.0).sum(),
            disputed: payment.disputed().0,
            facts: payment.facts.iter().map(fact).collect(),
            at: payment.at,
            void_requested: payment.void_requested,
        }
    }
}

impl Refund {
    /// A refund of `order`.
    #[must_use]
    pub fn of(order: &domain::Order, refund: &domain::Refund) -> Self {
        let (cause, reason) = match &refund.cause {
            RefundCause::Asked(reason) => ("asked", reason.clone()),
            RefundCause::Cancelled => ("cancelled", None),
            RefundCause::Surplus(_) => ("surplus", None),
        };
        let payment = (refund.payment as usize).checked_sub(1).and_then(|at| order.payments.get(at));
        let carriage = refund.lines.iter().filter(|(number, _)| *number == 0).map(|(_, amount)| amount.0).sum();
        let units = |line| refund.units.iter().find(|(number, _)| *number == line).map(|(_, units)| units.0);
        Self {
            id: order.refund_id(refund.number),
            status: refund.state,
            amount: refund.amount.0,
            cause: cause.to_owned(),
            reason,
            provider: payment.map(|payment| payment.provider.clone()),
            provider_payment_id: payment.map(|payment| payment.provider_payment_id.clone()),
            lines: refund
                .lines
                .iter()
                .filter(|(line, _)| *line > 0)
                .map(|&(line, amount)| RefundPart { line, amount: amount.0, quantity: units(line) })
                .collect(),
            carriage,
            tax: refund.tax.0,
            occurred_at: refund.occurred_at,
            at: refund.at,
        }
    }
}

impl Fulfilment {
    /// A fulfilment of `order`.
    #[must_use]
    pub fn of(order: &domain::Order, fulfilment: &domain::Fulfilment) -> Self {
        Self {
            id: order.fulfilment_id(fulfilment.number),
            status: fulfilment.state,
            warehouse: fulfilment.warehouse.clone(),
            lines: fulfilment.lines.iter().map(|&(line, units)| Part { line, quantity: units.0 }).collect(),
            carrier: fulfilment.carrier.clone(),
            tracking: fulfilment.tracking.clone(),
            at: fulfilment.at,
        }
    }
}

impl From<&domain::Order> for OrderWords {
    fn from(order: &domain::Order) -> Self {
        Self { id: order.id, phase: order.phase, status: order.status(), payment_status: order.payment_status() }
    }
}

impl From<&domain::Order> for StatusHistory {
    fn from(order: &domain::Order) -> Self {
        Self {
            order_id: order.id,
            version: order.version,
            status: order.status(),
            history: order.events.iter().map(|event| happening(order.id, event)).collect(),
        }
    }
}

fn happening(order: OrderId, event: &domain::Event) -> Happening {
    Happening {
        number: event.number,
        at: event.at,
        event: event.kind.name().to_owned(),
        part: part(order, &event.kind),
        from: event.from,
        to: event.to,
        operator: event.operator,
        reason: event.reason.clone(),
    }
}

/// The id of the fulfilment or refund that an event is about.
fn part(order: OrderId, kind: &EventKind) -> Option<String> {
    match *kind {
        EventKind::FulfilmentCreated(number)
        | EventKind::FulfilmentCancelled(number)
        | EventKind::FulfilmentShipped(number)
        | EventKind::FulfilmentDelivered(number) => Some(ordergrid_domain::FulfilmentId { order, number }.to_string()),
        EventKind::RefundRequested(number) | EventKind::RefundSucceeded(number) | EventKind::RefundFailed(number) => {
            Some(ordergrid_domain::RefundId { order, number }.to_string())
        }
        _ => None,
    }
}
