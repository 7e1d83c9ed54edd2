//! Converts typed requests into commands. Refuses everything that can be checked without state, and names the field's path.
//!
//! The domain checks arithmetic over the whole order (totals, overflowing sums), also before anything is executed.

use std::time::Duration;

use ordergrid_domain::command::{OrderAction, OrderRequest, PaymentTold, Purse, RefundAsked, SkuAction};
use ordergrid_domain::order::{self, CancelReason, LineRequest, Operator, RefundState, limits};
use ordergrid_domain::{FulfilmentId, Key, Money, OrderId, Quantity, RefundId, WarehouseId};

use crate::fault::{Fault, kinds};
use crate::wire::{
    Address, AdjustStock, CancelOrder, CompleteOrder, DeliverFulfilment, LineUnits, PayOrder, PickOrder, PlaceLine, PlaceOrder,
    PutSku, ReceiveStock, RefundOrder, RefundOutcome, ShipFulfilment, UnpickFulfilment,
};

/// Most lines of an address.
const ADDRESS_LIMIT: usize = 10;

/// An order to be placed with `key`. `body_hash` is the hash of the request as received.
pub(crate) fn place(request: PlaceOrder, key: Key, body_hash: u64, most_lines: usize) -> Result<OrderRequest, Fault> {
    if request.lines.is_empty() {
        return Err(Fault::new(&kinds::INVALID_LINES, "an order has at least one line").at("lines"));
    }
    if request.lines.len() > most_lines {
        let detail = format!("{} lines, the limit is {most_lines}", request.lines.len());
        return Err(Fault::new(&kinds::TOO_MANY_LINES, detail).at("lines"));
    }
    for (index, line) in request.lines.iter().enumerate() {
        check_line(line)
            .map_err(|(field, detail)| Fault::new(kinds::invalid(field), detail).at(format!("lines[{index}].{field}")))?;
    }
    not_negative("discount", request.discount)?;
    not_negative("shipping_fee", request.shipping_fee)?;
    let payment_window = payment_window(request.payment_window_seconds)?;
    let ship_to = request.ship_to.map(address).transpose()?;
    let request = OrderRequest {
        user: request.user_id,
        key,
        body_hash,
        reference: request.reference,
        currency: request.currency,
        lines: request.lines.into_iter().map(line).collect(),
        discount: Money(request.discount),
        shipping_fee: Money(request.shipping_fee),
        total: request.total.map(Money),
        terms: request.terms,
        payment_method: request.payment_method,
        payment_window,
        ship_to,
        metadata: request.metadata,
    };
    request.check()?;
    Ok(request)
}

/// The fault of a line, with its field.
fn check_line(line: &PlaceLine) -> Result<(), (&'static str, String)> {
    if line.quantity == 0 || line.quantity > Quantity::LIMIT.0 {
        return Err(("quantity", out_of_range(line.quantity)));
    }
    if line.unit_price < 0 {
        return Err(("unit_price", format!("{} is below zero", line.unit_price)));
    }
    let price = Money(line.unit_price)
        .checked_mul(Quantity(line.quantity))
        .ok_or_else(|| ("unit_price", "quantity times price does not fit".to_owned()))?;
    if line.discount < 0 || line.discount > price.0 {
        return Err(("discount", format!("{} is not between 0 and quantity times price, {price}", line.discount)));
    }
    if line.tax < 0 {
        return Err(("tax", format!("{} is below zero", line.tax)));
    }
    Ok(())
}

fn line(line: PlaceLine) -> LineRequest {
    LineRequest {
        sku: line.sku,
        quantity: Quantity(line.quantity),
        unit_price: Money(line.unit_price),
        discount: Money(line.discount),
        tax: Money(line.tax),
    }
}

fn out_of_range(quantity: u64) -> String {
    format!("{quantity} is not between 1 and {}", Quantity::LIMIT)
}

fn not_negative(field: &'static str, amount: i64) -> Result<(), Fault> {
    if amount < 0 {
        return Err(Fault::new(kinds::invalid(field), format!("{amount} is below zero")).at(field));
    }
    Ok(())
}

fn payment_window(seconds: Option<u64>) -> Result<Duration, Fault> {
    let window = seconds.map_or(limits::PAYMENT_WINDOW, Duration::from_secs);
    if !(limits::PAYMENT_WINDOW_MIN..=limits::PAYMENT_WINDOW_MAX).contains(&window) {
        let (least, most) = (limits::PAYMENT_WINDOW_MIN.as_secs(), limits::PAYMENT_WINDOW_MAX.as_secs());
        let detail = format!("{} is not between {least} and {most}", window.as_secs());
        return Err(Fault::new(&kinds::INVALID_PAYMENT_WINDOW, detail).at("payment_window_seconds"));
    }
    Ok(window)
}

fn address(address: Address) -> Result<order::Address, Fault> {
    if address.lines.len() > ADDRESS_LIMIT {
        let detail = format!("{} lines, the limit is {ADDRESS_LIMIT}", address.lines.len());
        return Err(Fault::new(&kinds::INVALID_SHIP_TO, detail).at("ship_to.lines"));
    }
    Ok(order::Address {
        recipient: address.recipient,
        lines: address.lines,
        city: address.city,
        postal_code: address.postal_code,
        country: address.country,
        phone: address.phone,
    })
}

/// The operator and the action, or the fault of a command on an order.
pub(crate) type CheckedOrderCommand = Result<(Operator, OrderAction), Fault>;

/// A payment, as its provider reports it.
pub(crate) fn pay(_: OrderId, request: PayOrder) -> CheckedOrderCommand {
    let told = PaymentTold {
        provider: request.provider.unwrap_or_default(),
        provider_payment_id: request.provider_payment_id,
        state: request.status,
        amount: above_zero(request.amount)?,
        currency: request.currency,
        part: request.part,
        occurred_at: request.occurred_at,
    };
    Ok((Operator::Provider, OrderAction::Pay(told)))
}

fn above_zero(amount: i64) -> Result<Money, Fault> {
    if amount <= 0 {
        return Err(Fault::new(&kinds::INVALID_AMOUNT, format!("{amount} is not above zero")).at("amount"));
    }
    Ok(Money(amount))
}

/// A cancellation, with its operator.
pub(crate) fn cancel(_: OrderId, request: CancelOrder) -> CheckedOrderCommand {
    if matches!(request.reason, CancelReason::Timeout | CancelReason::Shortfall) {
        return Err(Fault::new(&kinds::INVALID_REASON, "must be one of user merchant risk").at("reason"));
    }
    let operator = request.operator.unwrap_or_else(|| CancelOrder::usual_operator(request.reason));
    if !matches!(operator, Operator::User | Operator::Merchant) {
        return Err(Fault::new(&kinds::INVALID_OPERATOR, "must be one of user merchant").at("operator"));
    }
    Ok((operator, OrderAction::Cancel { reason: request.reason, note: request.note, lines: units(request.lines)? }))
}

/// The completion of an order.
pub(crate) fn complete(_: OrderId, CompleteOrder {}: CompleteOrder) -> CheckedOrderCommand {
    Ok((Operator::Merchant, OrderAction::Complete))
}

/// Units per line, empty for an absent list. An empty list is refused, so that it is not taken for all lines.
fn units(lines: Option<Vec<LineUnits>>) -> Result<Vec<(u32, Quantity)>, Fault> {
    let Some(lines) = lines else {
        return Ok(Vec::new());
    };
    if lines.is_empty() {
        return Err(
            Fault::new(&kinds::INVALID_LINES, "omit the list to mean all lines; an empty list is not allowed").at("lines")
        );
    }
    if lines.len() > limits::LINES {
        let detail = format!("{} lines, the limit is {}", lines.len(), limits::LINES);
        return Err(Fault::new(&kinds::TOO_MANY_LINES, detail).at("lines"));
    }
    let one = |(index, units): (usize, &LineUnits)| {
        if units.line == 0 {
            return Err(Fault::new(&kinds::INVALID_LINE, "lines count from 1").at(format!("lines[{index}].line")));
        }
        if units.quantity == 0 || units.quantity > Quantity::LIMIT.0 {
            let fault = Fault::new(&kinds::INVALID_QUANTITY, out_of_range(units.quantity));
            return Err(fault.at(format!("lines[{index}].quantity")));
        }
        if lines[..index].iter().any(|before| before.line == units.line) {
            let fault = Fault::new(&kinds::INVALID_LINE, format!("line {} is given more than once", units.line));
            return Err(fault.at(format!("lines[{index}].line")));
        }
        Ok((units.line, Quantity(units.quantity)))
    };
    lines.iter().enumerate().map(one).collect()
}

/// A new fulfilment.
pub(crate) fn pick(_: OrderId, request: PickOrder) -> CheckedOrderCommand {
    let action = OrderAction::Pick { lines: units(request.lines)?, warehouse: warehouse(request.warehouse)? };
    Ok((Operator::Merchant, action))
}

/// Only one warehouse is supported so far; the formats allow many.
fn warehouse(warehouse: Option<WarehouseId>) -> Result<WarehouseId, Fault> {
    let warehouse = warehouse.unwrap_or_default();
    if warehouse != WarehouseId::default() {
        return Err(Fault::new(&kinds::UNSUPPORTED, "the only warehouse so far is default").at("warehouse"));
    }
    Ok(warehouse)
}

/// The shipment of a fulfilment.
pub(crate) fn ship(fulfilment: FulfilmentId, request: ShipFulfilment) -> CheckedOrderCommand {
    let action = OrderAction::Ship { fulfilment, carrier: request.carrier, tracking: request.tracking };
    Ok((Operator::Merchant, action))
}

/// The delivery of a fulfilment.
pub(crate) fn deliver(fulfilment: FulfilmentId, DeliverFulfilment {}: DeliverFulfilment) -> CheckedOrderCommand {
    Ok((Operator::Merchant, OrderAction::Deliver { fulfilment }))
}

/// The cancellation of a fulfilment, whose units are put back.
pub(crate) fn unpick(fulfilment: FulfilmentId, UnpickFulfilment {}: UnpickFulfilment) -> CheckedOrderCommand {
    Ok((Operator::Merchant, OrderAction::Unpick { fulfilment }))
}

/// A refund of an amount, of units, of carriage, of tax, or of several of these.
pub(crate) fn refund(_: OrderId, request: RefundOrder) -> CheckedOrderCommand {
    not_negative("carriage", request.carriage)?;
    not_negative("tax", request.tax)?;
    if request.amount.is_none() && request.lines.is_none() && request.carriage == 0 && request.tax == 0 {
        return Err(Fault::new(&kinds::MISSING_FIELD, "give an amount, lines, carriage or tax").at("amount"));
    }
    if request.provider.is_some() && request.provider_payment_id.is_none() {
        let detail = "a provider needs the id of its payment";
        return Err(Fault::new(&kinds::MISSING_FIELD, detail).at("provider_payment_id"));
    }
    let provider = request.provider.unwrap_or_default();
    let asked = RefundAsked {
        amount: request.amount.map(above_zero).transpose()?,
        lines: units(request.lines)?,
        carriage: Money(request.carriage),
        tax: Money(request.tax),
        purse: request.provider_payment_id.map(|provider_payment_id| Purse { provider, provider_payment_id }),
        reason: request.reason,
    };
    Ok((Operator::Merchant, OrderAction::Refund(asked)))
}

/// The outcome of a refund.
pub(crate) fn refund_outcome(refund: RefundId, request: RefundOutcome) -> CheckedOrderCommand {
    if request.status == RefundState::Requested {
        return Err(Fault::new(&kinds::INVALID_STATUS, "must be one of succeeded failed").at("status"));
    }
    Ok((Operator::Provider, OrderAction::RefundOutcome { refund, state: request.status, occurred_at: request.occurred_at }))
}

/// A catalogue row. Unsupported policies are refused by the parser.
pub(crate) fn put(request: PutSku) -> Result<SkuAction, Fault> {
    Ok(SkuAction::Put { name: request.name })
}

/// Received units.
pub(crate) fn receive(request: ReceiveStock) -> Result<SkuAction, Fault> {
    if request.quantity == 0 || request.quantity > Quantity::LIMIT.0 {
        return Err(Fault::new(&kinds::INVALID_QUANTITY, out_of_range(request.quantity)).at("quantity"));
    }
    Ok(SkuAction::Receive { warehouse: warehouse(request.warehouse)?, quantity: Quantity(request.quantity) })
}

/// Units that were found or lost.
pub(crate) fn adjust(request: AdjustStock) -> Result<SkuAction, Fault> {
    if request.delta == 0 || request.delta.unsigned_abs() > Quantity::LIMIT.0 {
        let detail = format!("{} is zero, or its absolute value is above {}", request.delta, Quantity::LIMIT);
        return Err(Fault::new(&kinds::INVALID_DELTA, detail).at("delta"));
    }
    Ok(SkuAction::Adjust { warehouse: warehouse(request.warehouse)?, delta: request.delta, reason: request.reason })
}
