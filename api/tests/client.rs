//! The typed client against the server it is made for, every route once. No sockets.

#[expect(dead_code, reason = "made for the tests of the server, of which these need a part")]
#[path = "http/scripted.rs"]
mod scripted;
#[path = "http/served.rs"]
mod served;

use std::sync::Arc;

use ordergrid_api::client::{CallError, Client, ClientOptions, Endpoint};
use ordergrid_api::wire::{
    AdjustStock, CancelOrder, LineUnits, PayOrder, PickOrder, PlaceBatch, PlaceLine, PlaceOrder, PutSku, ReceiveStock,
    RefundOrder, RefundOutcome, ShipFulfilment, Unbuilt,
};
use ordergrid_domain::order::{CancelReason, PaymentState, RefundState, Status};
use ordergrid_domain::{Currency, Key, ProviderPaymentId, Reference, SkuId, Text, UserId};
use scripted::Scripted;
use served::server;

fn client(grid: &Arc<Scripted>) -> Client {
    Client::new(&[Endpoint::new("node", 80)], server(grid), ClientOptions::default())
}

fn key(text: &str) -> Key {
    Key::new(text).expect("a short key")
}

fn order() -> PlaceOrder {
    let line =
        |sku, quantity| PlaceLine { sku: SkuId::new(sku).expect("an id"), quantity, unit_price: 255, discount: 0, tax: 0 };
    let lines = vec![line("BANK CHARGES", 2), line("85123A", 4)];
    PlaceOrder::new(UserId::new("u1").expect("an id"), Currency::new("GBP").expect("a currency"), lines)
}

#[tokio::test(start_paused = true)]
async fn an_order_lives_through_the_typed_client() {
    let client = client(&Arc::default());
    let placed = client.place(&order(), &key("k1")).await.expect("placed");
    assert_eq!((placed.status.as_u16(), placed.replayed, placed.value.total), (201, false, 1_530));
    assert!(placed.token.is_some());
    let id = placed.value.id;
    let again = client.place(&order(), &key("k1")).await.expect("placed before");
    assert_eq!((again.replayed, again.value.id), (true, id));
    let payment = PayOrder {
        provider_payment_id: ProviderPaymentId::new("pi_1").expect("an id"),
        status: PaymentState::Captured,
        amount: 1_530,
        currency: Currency::new("GBP").expect("a currency"),
    };
    assert_eq!(client.pay(id, &payment, &key("k2")).await.expect("paid").value.status, Status::Paid);
    let part = PickOrder { lines: Some(vec![LineUnits { line: 1, quantity: 2 }]), ..PickOrder::default() };
    let parcel = client.pick(id, &part, &key("k3")).await.expect("picked").value.fulfilment.id;
    client.ship(parcel, &ShipFulfilment::default(), &key("k4")).await.expect("shipped");
    client.deliver(parcel, &key("k5")).await.expect("delivered");
    let rest = client.pick(id, &PickOrder::default(), &key("k9")).await.expect("picked").value.fulfilment.id;
    client.unpick(rest, &key("k10")).await.expect("not shipped yet");
    let cancel = CancelOrder { reason: CancelReason::User, operator: None, note: None, lines: None };
    assert_eq!(client.cancel(id, &cancel, &key("k6")).await.expect("the rest is cancelled").value.status, Status::Delivered);
    let refund = RefundOrder { amount: Some(1), lines: None, reason: None };
    let refunds = client.refund(id, &refund, &key("k7")).await.expect("a refund is asked for").value.refunds;
    let outcome = RefundOutcome { status: RefundState::Succeeded };
    client.refund_outcome(refunds[0].id, outcome, &key("k11")).await.expect("it was open");
    assert_eq!(client.complete(id, &key("k8")).await.expect("completed").value.status, Status::Completed);
    let read = client.order(id).await.expect("it is there").value;
    assert_eq!((read.id, read.status), (id, Status::Completed));
    let page = client.user_orders(&order().user_id, 10, None).await.expect("there is one").value;
    assert_eq!((page.orders.len(), page.next_cursor), (1, None));
    let named = Reference::new("not/its & name").expect("a reference");
    for user in [None, Some(&order().user_id)] {
        assert_eq!(client.orders_by_reference(&named, user).await.expect("it answers").value.total, Some(0));
    }
    let history = client.status_history(id).await.expect("it is there").value;
    assert_eq!((history.order_id, history.status), (id, Status::Completed));
}

#[tokio::test(start_paused = true)]
async fn stock_and_the_cluster_are_read_and_changed() {
    let client = client(&Arc::default());
    let sku = SkuId::new("BANK CHARGES").expect("an id");
    let missing = client.sku(&sku).await.expect_err("not there yet");
    assert!(matches!(&missing, CallError::Refused(refusal) if refusal.code == "no_such_sku"), "{missing:?}");
    let (backorder_limit, purchase_limit, safety_stock) = (Unbuilt::Unset, Unbuilt::Unset, Unbuilt::Unset);
    let row = PutSku { name: Text::new("Bank charges").expect("a name"), backorder_limit, purchase_limit, safety_stock };
    client.put_sku(&sku, &row).await.expect("put");
    client.receive(&sku, &ReceiveStock { quantity: 100, warehouse: None }, &key("k1")).await.expect("received");
    let adjust = AdjustStock { delta: -3, reason: None, warehouse: None };
    client.adjust(&sku, &adjust, &key("k2")).await.expect("adjusted");
    let stock = client.sku(&sku).await.expect("it is there").value.stock;
    assert_eq!((stock.on_hand, stock.received, stock.adjusted), (97, 100, -3));
    assert_eq!(client.cluster_status().await.expect("it answers").value.cluster, "shop");
    let report = client.cluster_verify().await.expect("it answers").value;
    assert_eq!((report.ok, report.laws.len()), (false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_a_result_for_each() {
    let client = client(&Arc::default());
    let with_key = |text| PlaceOrder { idempotency_key: Some(key(text)), ..order() };
    let batch = PlaceBatch { orders: vec![with_key("k1"), with_key("k2")] };
    let results = client.place_batch(&batch).await.expect("a batch is answered").value.results;
    assert_eq!(results.iter().map(|result| result.status).collect::<Vec<_>>(), [201, 201]);
}
