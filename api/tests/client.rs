//! The typed client and `replay` against the server they are made for, every route once. No sockets.

#[expect(dead_code, reason = "made for the tests of the server, of which these need a part")]
#[path = "http/scripted.rs"]
mod scripted;

use std::fs;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ordergrid_api::cli::replay::{self, Files, Progress, ReplayOptions};
use ordergrid_api::client::{CallError, Client, ClientOptions, Connector, Endpoint, Stream};
use ordergrid_api::wire::{
    AdjustStock, CancelOrder, LineUnits, PayOrder, PickOrder, PlaceBatch, PlaceLine, PlaceOrder, PutSku, ReceiveStock,
    RefundOrder, RefundOutcome, ShipFulfilment, Unbuilt,
};
use ordergrid_api::{Accept, Course, ServeConfig, serve};
use ordergrid_domain::order::{CancelReason, PaymentState, RefundState, Status};
use ordergrid_domain::{Currency, Key, ProviderPaymentId, SkuId, Text, UserId};
use scripted::Scripted;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};

/// A server on the other end of streams in memory.
struct Wire {
    streams: mpsc::UnboundedSender<DuplexStream>,
}

struct Door {
    streams: mpsc::UnboundedReceiver<DuplexStream>,
}

impl Connector for Wire {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let sent = self.streams.send(theirs).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused));
        async move { sent.map(|()| Box::new(ours) as Box<dyn Stream>) }.boxed()
    }
}

impl Accept for Door {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ordergrid_api::Stream>, String)>> {
        async move {
            match self.streams.recv().await {
                Some(stream) => Ok((Box::new(stream) as Box<dyn ordergrid_api::Stream>, "test".to_owned())),
                None => pending().await,
            }
        }
        .boxed()
    }
}

fn server(grid: &Arc<Scripted>) -> Arc<Wire> {
    let (streams, incoming) = mpsc::unbounded_channel();
    let grid = Arc::clone(grid);
    tokio::spawn(async move {
        let (_serving, course) = watch::channel(Course::Serving);
        serve(Door { streams: incoming }, grid as _, ServeConfig::default(), course).await
    });
    Arc::new(Wire { streams })
}

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

#[tokio::test(start_paused = true)]
async fn sales_are_replayed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (orders, lines) = (folder.path().join("orders.csv"), folder.path().join("lines.csv"));
    fs::write(&orders, "order_id,kind,customer_id\n1,sale,u1\n2,sale,\n").expect("a temporary file");
    let rows = "order_id,sku,quantity,unit_price_minor\n1,a,2,10\n1,a,2,10\n1,BANK CHARGES,1,0\n2,a,74215,104\n";
    fs::write(&lines, rows).expect("a temporary file");
    let sales = Arc::new(Files { orders: vec![orders], lines: vec![lines], products: Vec::new() }.read().expect("well formed"));
    let options = ReplayOptions {
        stock: "full".parse().expect("a stock"),
        concurrency: 2,
        patience: Duration::from_secs(60),
        currency: Currency::new("GBP").expect("a currency"),
        // The grid of these tests keeps no account of stock.
        check: false,
        stop_after: None,
        seed: 1,
    };
    let grid: Arc<Scripted> = Arc::default();
    let wire = server(&grid);
    let summary = replay::run(Arc::clone(&sales), &options, &[Endpoint::new("node", 80)], wire, Progress::silent()).await;
    let summary = summary.expect("it starts");
    assert_eq!((summary.placed, summary.paid, summary.delivered, summary.unexplained_count), (2, 2, 2, 0), "{summary:?}");
    assert_eq!((summary.total_minor, summary.units), (7_718_400, 74_220));
}
