//! Replays against a grid of a few lines that keeps the promises of the API: keys, stock, phases.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ordergrid_api::client::scripted::{Asked, Scripted, Told};
use ordergrid_domain::Currency;
use serde_json::{Value, json};

use super::*;
use crate::screen::tests::kept;
use crate::{ClientCommand, GlobalArgs};

/// What the small grid knows.
#[derive(Default)]
struct Books {
    /// SKU to (received, sold, held).
    stock: BTreeMap<String, (u64, u64, u64)>,
    /// Path and key to body and answer.
    answers: BTreeMap<(String, String), (Value, Value)>,
    /// Order number to its place body.
    orders: Vec<Value>,
}

#[derive(Clone, Default)]
struct SmallGrid {
    books: Arc<Mutex<Books>>,
    requests: Arc<AtomicU64>,
}

impl SmallGrid {
    /// Answers a request, and only once per key.
    fn answer(&self, asked: &Asked) -> Told {
        let mut books = self.books.lock().unwrap();
        let Some(key) = asked.key.clone() else { return books.act(asked) };
        let scope = match asked.path.as_str() {
            "/v1/orders" => asked.json()["user_id"].to_string(),
            path => path.to_owned(),
        };
        if let Some((body, first)) = books.answers.get(&(scope.clone(), key.clone())) {
            if *body != asked.json() {
                return Told::problem(422, "idempotency_key_reused", false);
            }
            return Told::Answer(201, vec![("idempotent-replayed", "true".to_owned())], first.to_string());
        }
        let told = books.act(asked);
        if let Told::Answer(200..300, _, text) = &told {
            let first = serde_json::from_str(text).expect("the grid answers JSON");
            books.answers.insert((scope, key), (asked.json(), first));
        }
        told
    }

    fn network(&self) -> Scripted {
        let grid = self.clone();
        Scripted::new(move |asked| grid.answer(asked))
    }

    /// Every so many requests, the connection breaks: before the grid has seen the request, or after it has done it.
    fn shaky_network(&self, every: u64) -> Scripted {
        let grid = self.clone();
        Scripted::new(move |asked| {
            let number = grid.requests.fetch_add(1, Ordering::Relaxed);
            if number.is_multiple_of(every) {
                if number.is_multiple_of(2 * every) {
                    drop(grid.answer(asked));
                }
                return Told::HangUp;
            }
            grid.answer(asked)
        })
    }
}

impl Books {
    fn act(&mut self, asked: &Asked) -> Told {
        let parts: Vec<_> = asked.path.split('/').skip(2).collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["skus", sku]) => match self.stock.get(*sku) {
                Some(stock) => Told::json(200, &sku_answer(sku, *stock)),
                None => Told::problem(404, "no_such_sku", false),
            },
            ("PUT", ["skus", sku]) => {
                let stock = *self.stock.entry((*sku).to_owned()).or_default();
                Told::json(200, &sku_answer(sku, stock))
            }
            ("POST", ["skus", sku, "receive"]) => {
                let stock = self.stock.get_mut(*sku).expect("put first");
                stock.0 += asked.json()["quantity"].as_u64().expect("a quantity");
                Told::json(200, &sku_answer(sku, *stock))
            }
            ("POST", ["orders"]) => self.place(&asked.json()),
            ("POST", ["orders", order, "payments"]) => {
                let due = total(&self.orders[order.parse::<usize>().expect("a number")]);
                assert_eq!(asked.json()["amount"].as_i64(), Some(due), "what is due is paid");
                Told::json(201, &json!({}))
            }
            ("POST", ["orders", order, "fulfilments"]) => Told::json(201, &json!({"id": format!("{order}-f1")})),
            ("POST", ["fulfilments", parcel, "ship"]) => {
                let order: usize = parcel.trim_end_matches("-f1").parse().expect("a number");
                for (sku, quantity) in wanted(&self.orders[order]) {
                    let stock = self.stock.get_mut(&sku).expect("it was held");
                    stock.1 += quantity;
                    stock.2 -= quantity;
                }
                Told::json(200, &json!({}))
            }
            ("POST", ["fulfilments", _, "deliver"]) => Told::json(200, &json!({})),
            _ => Told::problem(404, "no_such_route", false),
        }
    }

    fn place(&mut self, order: &Value) -> Told {
        assert_eq!(order["total"].as_i64(), Some(total(order)), "the total is sent along");
        let wanted = wanted(order);
        let short = |(sku, quantity): (&String, &u64)| {
            let (received, sold, held) = self.stock[sku];
            received - sold - held < *quantity
        };
        if wanted.iter().any(short) {
            return Told::problem(409, "out_of_stock", false);
        }
        for (sku, quantity) in wanted {
            self.stock.get_mut(&sku).expect("looked at before").2 += quantity;
        }
        self.orders.push(order.clone());
        Told::json(201, &json!({"id": (self.orders.len() - 1).to_string(), "total": total(order), "phase": "pending_payment"}))
    }
}

fn sku_answer(sku: &str, (received, sold, held): (u64, u64, u64)) -> Value {
    let stock = json!({
        "on_hand": received - sold, "unavailable": 0, "reserved": 0, "committed": held, "available": received - sold - held,
        "backordered": 0, "sold": sold, "received": received, "restocked": 0, "adjusted": 0,
    });
    json!({"id": sku.replace("%20", " "), "name": "n", "version": 1, "index": 1, "stock": stock, "warehouses": []})
}

fn wanted(order: &Value) -> BTreeMap<String, u64> {
    let mut wanted = BTreeMap::new();
    for line in order["lines"].as_array().expect("lines") {
        let sku = line["sku"].as_str().expect("a sku").replace(' ', "%20");
        *wanted.entry(sku).or_default() += line["quantity"].as_u64().expect("a quantity");
    }
    wanted
}

fn total(order: &Value) -> i64 {
    let line = |line: &Value| line["quantity"].as_i64().expect("a quantity") * line["unit_price"].as_i64().expect("a price");
    order["lines"].as_array().expect("lines").iter().map(line).sum()
}

/// Forty sales: repeats of a SKU, prices of zero, an order that is free, a code with a space, customers and guests.
fn sales() -> Sales {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (orders, lines) = (folder.path().join("orders.csv"), folder.path().join("lines.csv"));
    let mut order_rows = "order_id,kind,customer_id\nfree,sale,u1\n".to_owned();
    let mut line_rows = "order_id,sku,quantity,unit_price_minor\nfree,a,1,0\n".to_owned();
    for order in 0..39 {
        let customer = if order % 3 == 0 { String::new() } else { format!("u{}", order % 5) };
        order_rows += &format!("{order},sale,{customer}\n");
        line_rows += &format!("{order},a,2,10\n{order},a,2,10\n{order},BANK CHARGES,{},0\n", order + 1);
    }
    fs::write(&orders, order_rows).expect("a temporary file");
    fs::write(&lines, line_rows).expect("a temporary file");
    Files { orders: vec![orders], lines: vec![lines], products: Vec::new() }.read().expect("well formed")
}

fn options(stock: &str) -> ReplayOptions {
    ReplayOptions {
        stock: stock.parse().expect("a stock"),
        concurrency: 4,
        patience: Duration::from_secs(60),
        currency: Currency::new("GBP").expect("a currency"),
        check: true,
        stop_after: None,
        seed: 1,
    }
}

async fn replay(network: &Scripted, options: &ReplayOptions) -> Result<Summary, VerbFailure> {
    let nodes = [Endpoint::new("a", 80), Endpoint::new("b", 80)];
    run(Arc::new(sales()), options, &nodes, Arc::new(network.clone()), Progress::silent()).await
}

/// Placed, replayed, paid, shipped, delivered, unknown, unexplained.
fn counts(summary: &Summary) -> [u64; 7] {
    let Summary { placed, replayed, paid, shipped, delivered, unknown, unexplained_count, .. } = *summary;
    [placed, replayed, paid, shipped, delivered, unknown, unexplained_count]
}

#[tokio::test(start_paused = true)]
async fn with_full_stock_everything_is_sold_and_a_second_replay_changes_nothing() {
    let grid = SmallGrid::default();
    let first = replay(&grid.network(), &options("full")).await.expect("it starts");
    assert_eq!(counts(&first), [40, 0, 39, 40, 40, 0, 0]);
    assert_eq!((first.refused.len(), first.units, first.total_minor, first.received_units), (0, 937, 1_560, 937));
    assert_eq!(first.check.as_ref().map(|check| (check.ok, check.skus)), Some((true, 2)));
    assert_eq!(first.end(), Ok(Exit::Done));
    let books_before = format!("{:?}", grid.books.lock().unwrap().stock);
    let second = replay(&grid.network(), &options("full")).await.expect("it starts");
    assert_eq!(counts(&second), [40, 40, 39, 40, 40, 0, 0]);
    assert_eq!(format!("{:?}", grid.books.lock().unwrap().stock), books_before);
    assert!(second.table(crate::Paint::plain()).contains("nothing has changed"));
}

#[tokio::test(start_paused = true)]
async fn scarcity_is_refused_as_out_of_stock_and_explained() {
    let grid = SmallGrid::default();
    let summary = replay(&grid.network(), &options("0.8")).await.expect("it starts");
    let refused = summary.refused.get("out_of_stock").copied().unwrap_or_default();
    assert!(refused > 0 && summary.refused.len() == 1, "{summary:?}");
    assert_eq!(summary.placed + refused, 40);
    assert_eq!((summary.received_units, summary.end()), (125 + 624, Ok(Exit::Done)), "floor of 0.8 x 157 and of 0.8 x 780");
    assert!(summary.check.expect("it was checked").ok);
}

#[tokio::test(start_paused = true)]
async fn stock_that_was_received_differently_is_refused_before_anything_changes() {
    let grid = SmallGrid::default();
    replay(&grid.network(), &options("0.8")).await.expect("it starts");
    let network = grid.network();
    let failure = replay(&network, &options("full")).await.expect_err("another stock");
    assert_eq!((failure.exit(), failure.exit().code()), (Exit::Unsafe, 6));
    assert!(
        failure.detail().contains("a has received 125") || failure.detail().contains("CHARGES has received 624"),
        "{failure:?}"
    );
    assert!(network.asked().iter().all(|asked| asked.method == "GET"), "nothing but reads");
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_died_while_receiving_goes_on() {
    let grid = SmallGrid::default();
    grid.books.lock().unwrap().stock.insert("a".to_owned(), (157, 0, 0));
    grid.books.lock().unwrap().stock.insert("BANK%20CHARGES".to_owned(), (0, 0, 0));
    let summary = replay(&grid.network(), &options("full")).await.expect("it starts");
    assert_eq!(counts(&summary), [40, 0, 39, 40, 40, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_cost_nothing_but_time() {
    let grid = SmallGrid::default();
    let summary = replay(&grid.shaky_network(7), &options("full")).await.expect("it starts");
    assert_eq!((counts(&summary)[0], counts(&summary)[2..].to_vec()), (40, vec![39, 40, 40, 0, 0]));
    assert_eq!(grid.books.lock().unwrap().orders.len(), 40, "no order was placed twice");
    assert_eq!(summary.end(), Ok(Exit::Done));
}

#[tokio::test(start_paused = true)]
async fn it_stops_where_it_is_told_to_and_goes_on_from_there() {
    let grid = SmallGrid::default();
    let first = replay(&grid.network(), &ReplayOptions { stop_after: Some(10), ..options("full") }).await.expect("it starts");
    assert!((10..14).contains(&first.placed), "10 and at most those under way: {first:?}");
    assert_eq!((first.stopped, first.not_tried, first.check.is_none()), (true, 40 - first.placed, true));
    assert_eq!(first.end(), Ok(Exit::Done));
    let second = replay(&grid.network(), &options("full")).await.expect("it starts");
    assert_eq!(counts(&second), [40, first.placed, 39, 40, 40, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_grid_that_stays_away_ends_it() {
    let grid = SmallGrid::default();
    let script = grid.clone();
    let network =
        Scripted::new(
            move |asked| {
                if script.books.lock().unwrap().orders.len() >= 20 { Told::HangUp } else { script.answer(asked) }
            },
        );
    let summary = replay(&network, &options("full")).await.expect("it starts");
    let failure = summary.end().expect_err("the grid is gone");
    assert_eq!((failure.exit(), summary.check.is_none()), (Exit::Unknown, true), "{summary:?}");
    assert!(summary.unknown > 0 && summary.unknown <= 4, "{summary:?}");
    let told: Value = serde_json::from_str(&failure.text(crate::Format::Json)).expect("JSON");
    assert_eq!((&told["error"]["outcome"], &told["exit_code"]), (&json!("unknown"), &json!(8)), "{told}");
    assert!(failure.detail().contains("no answer from"), "it says why: {failure:?}");
    let resumed = replay(&grid.network(), &options("full")).await.expect("it starts");
    assert_eq!((resumed.placed, resumed.end()), (40, Ok(Exit::Done)));
}

#[tokio::test(start_paused = true)]
async fn too_little_for_a_while_is_waited_for_where_there_is_enough() {
    let grid = SmallGrid::default();
    let (script, left) = (grid.clone(), AtomicU64::new(3));
    let network = Scripted::new(move |asked| {
        let is_place = asked.line() == "POST /v1/orders" && asked.json()["reference"] == "7";
        if is_place && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Told::problem(409, "out_of_stock", false);
        }
        script.answer(asked)
    });
    let summary = replay(&network, &options("full")).await.expect("it starts");
    assert_eq!((summary.placed, summary.refused.len(), summary.end()), (40, 0, Ok(Exit::Done)));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_nothing_explains_is_a_failure() {
    let grid = SmallGrid::default();
    let script = grid.clone();
    let network = Scripted::new(move |asked| {
        if asked.path == "/v1/orders/3/payments" { Told::problem(409, "wrong_phase", false) } else { script.answer(asked) }
    });
    let summary = replay(&network, &options("full")).await.expect("it starts");
    assert_eq!(counts(&summary), [40, 0, 38, 39, 39, 0, 1]);
    assert!(summary.unexplained[0].ends_with("pay: it is wrong_phase (wrong_phase)"), "{summary:?}");
    assert_eq!(summary.end().expect_err("unexplained").exit(), Exit::Failed);
}

#[tokio::test(start_paused = true)]
async fn stock_that_does_not_add_up_is_exit_10() {
    let grid = SmallGrid::default();
    let script = grid.clone();
    let network = Scripted::new(move |asked| match script.answer(asked) {
        Told::Answer(200, headers, body) if asked.line() == "GET /v1/skus/a" => {
            Told::Answer(200, headers, body.replace("\"sold\":157", "\"sold\":156"))
        }
        told => told,
    });
    let summary = replay(&network, &options("full")).await.expect("it starts");
    assert_eq!(
        summary.check.as_ref().map(|check| check.violations.clone()),
        Some(vec!["sku a: sold 156, the delivered orders have 157".to_owned()])
    );
    assert_eq!(summary.end().expect_err("a violation").exit(), Exit::AnswerIsNo);
}

#[tokio::test(start_paused = true)]
async fn the_verb_prints_one_json_document_and_lines_of_progress() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (orders, lines) = (folder.path().join("o.csv"), folder.path().join("l.csv"));
    let numbers = || (0..10).map(|number| number.to_string());
    fs::write(&orders, numbers().fold("order_id\n".to_owned(), |rows, id| rows + &id + "\n")).expect("a temporary file");
    let rows = numbers().fold("order_id,sku,quantity,unit_price_minor\n".to_owned(), |rows, id| rows + &id + ",a,1,5\n");
    fs::write(&lines, rows).expect("a temporary file");
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        global: GlobalArgs,
        #[command(subcommand)]
        command: ClientCommand,
    }
    let (screen, data, talk) = kept();
    let text = format!("x replay {} {} --progress json --progress-every 4 -o json", orders.display(), lines.display());
    let line: Line =
        crate::parse(text.split(' ').map(Into::into), &screen).unwrap_or_else(|code| panic!("{code}: {}", talk.text()));
    let code = crate::run(line.command, &line.global, Arc::new(SmallGrid::default().network()), &screen).await;
    let told: Vec<Value> = talk.text().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let acknowledged: Vec<_> = told.iter().map(|line| (line["acknowledged"].as_u64(), line["of"].as_u64())).collect();
    assert_eq!((code, acknowledged), (0, vec![(Some(4), Some(10)), (Some(8), Some(10))]));
    let mut summary: Value = serde_json::from_str(&data.text()).expect("one document");
    for varying in ["orders_per_s", "p50_ms", "p99_ms", "elapsed_s"] {
        assert!(summary[varying].is_number(), "{varying}");
        summary.as_object_mut().expect("an object").remove(varying);
    }
    let expected = json!({
        "placed": 10, "refused": {}, "unknown": 0, "paid": 10, "shipped": 10, "delivered": 10, "orders": 10, "replayed": 0,
        "not_tried": 0, "skus": 1, "units": 10, "total_minor": 50, "currency": "GBP", "stock": "full", "received_units": 10,
        "stopped": false, "unexplained": [], "unexplained_count": 0,
        "check": {"ok": true, "skus": 1, "wrong": 0, "violations": []},
    });
    assert_eq!(summary, expected);
}
