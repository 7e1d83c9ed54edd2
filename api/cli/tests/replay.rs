//! `replay` against the server that it is made for. No sockets.

#[expect(dead_code, reason = "made for the tests of the server, of which this needs a part")]
#[path = "../../tests/http/scripted.rs"]
mod scripted;
#[path = "../../tests/http/served.rs"]
mod served;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ordergrid_api::client::Endpoint;
use ordergrid_cli::replay::{self, Files, Progress, ReplayOptions};
use ordergrid_domain::Currency;
use scripted::Scripted;
use served::server;

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
