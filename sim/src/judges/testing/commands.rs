//! Calls as the commands that a node would make of them.

use super::*;

pub(super) fn hash(ask: &Ask) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{ask:?}").as_bytes())
}

pub(super) fn command(ask: &Ask, index: u64) -> Command {
    let body_hash = hash(ask);
    let order = |order: OrderId, key: &Key, operator, action| {
        let key = key.clone();
        Command::Order(Box::new(OrderCommand { order, key, body_hash, expect_version: None, operator, action }))
    };
    let stock = |sku: &SkuId, key: Option<&Key>, action| {
        let (sku, key) = (sku.clone(), key.cloned());
        Command::Sku(Box::new(SkuCommand { sku, key, body_hash, expect_version: None, action }))
    };
    let warehouse = WarehouseId::default();
    match ask {
        Ask::Place(key, body) => place(key, body, index),
        Ask::Cancel(key, id, cancel) => {
            let action = OrderAction::Cancel { reason: cancel.reason, note: None, lines: Vec::new() };
            order(*id, key, CancelOrder::usual_operator(cancel.reason), action)
        }
        Ask::Receive(key, id, ReceiveStock { quantity, .. }) => {
            stock(id, Some(key), SkuAction::Receive { warehouse, quantity: Quantity(*quantity) })
        }
        Ask::Adjust(key, id, AdjustStock { delta, .. }) => {
            stock(id, Some(key), SkuAction::Adjust { warehouse, delta: *delta, reason: None })
        }
        Ask::PutSku(id, PutSku { name, .. }) => stock(id, None, SkuAction::Put { name: name.clone() }),
        other => {
            let (id, key) = crate::judges::evidence::book::command_on(other).expect("a command on an order");
            let operator = ordergrid_domain::order::Operator::Merchant;
            order(id, key, operator, action(other))
        }
    }
}

fn action(ask: &Ask) -> OrderAction {
    match ask {
        Ask::Pay(_, _, pay) => {
            OrderAction::Pay(PaymentTold::new(pay.provider_payment_id.clone(), pay.status, Money(pay.amount), pay.currency))
        }
        Ask::Complete(..) => OrderAction::Complete,
        Ask::Refund(_, _, refund) => {
            OrderAction::Refund(RefundAsked { amount: refund.amount.map(Money), ..RefundAsked::default() })
        }
        Ask::RefundOutcome(_, refund, outcome) => {
            OrderAction::RefundOutcome { refund: *refund, state: outcome.status, occurred_at: None }
        }
        Ask::Pick(..) => OrderAction::Pick { lines: Vec::new(), warehouse: WarehouseId::default() },
        Ask::Ship(_, fulfilment, _) => OrderAction::Ship { fulfilment: *fulfilment, carrier: None, tracking: None },
        Ask::Deliver(_, fulfilment) => OrderAction::Deliver { fulfilment: *fulfilment },
        Ask::Unpick(_, fulfilment) => OrderAction::Unpick { fulfilment: *fulfilment },
        other => panic!("no command on an order: {other:?}"),
    }
}

fn place(key: &Key, body: &PlaceOrder, counter: u64) -> Command {
    let line = |line: &PlaceLine| LineRequest {
        sku: line.sku.clone(),
        quantity: Quantity(line.quantity),
        unit_price: Money(line.unit_price),
        discount: Money(line.discount),
        tax: Money(line.tax),
    };
    let request = OrderRequest {
        user: body.user_id.clone(),
        key: key.clone(),
        body_hash: ordergrid_api::wire::canonical::Canon::new().hash(body),
        reference: body.reference.clone(),
        currency: body.currency,
        lines: body.lines.iter().map(line).collect(),
        discount: Money(body.discount),
        shipping_fee: Money(body.shipping_fee),
        total: body.total.map(Money),
        terms: body.terms,
        payment_method: None,
        payment_window: Duration::from_secs(body.payment_window_seconds.unwrap_or(900)),
        ship_to: None,
        metadata: body.metadata.clone(),
    };
    let attempt = AttemptId { slot: body.user_id.slot(), group: GROUP, term: 1, counter };
    Command::PlaceLocal(Box::new(Place { attempt, request: request.into(), names: Vec::new() }))
}
