//! Benches of scripted grids, in simulated time.

use serde_json::json;

use super::*;
use crate::client::scripted::{Asked, Scripted, Told};

fn options(workload: Workload, batch: u32) -> BenchOptions {
    let (duration, warm_up) = (Duration::from_secs(10), Duration::from_secs(2));
    BenchOptions { workload, skus: 5, users: 100, connections: 3, duration, warm_up, batch, run: 7 }
}

/// A grid with stock that answers each request that moves something by `script`, and busy for a second before.
fn grid(script: impl Fn(&Asked) -> Told + Send + Sync + 'static) -> Scripted {
    Scripted::new(move |asked| {
        if !asked.path.starts_with("/v1/skus") {
            return script(asked);
        }
        let stock = json!({
            "on_hand": 0, "unavailable": 0, "reserved": 0, "committed": 0, "available": 0, "backordered": 0, "sold": 0,
            "received": 0, "restocked": 0, "adjusted": 0,
        });
        Told::json(200, &json!({"id": "s", "name": "n", "version": 1, "index": 1, "stock": stock, "warehouses": []}))
    })
}

async fn bench(options: &BenchOptions, network: &Scripted) -> BenchReport {
    let nodes = [Endpoint::new("a", 80), Endpoint::new("b", 80)];
    run(options, &nodes, Arc::new(network.clone())).await.expect("the grid can be stocked")
}

/// Refuses for one second, so that simulated time goes on.
fn busy() -> Told {
    let body = json!({"code": "overloaded", "retryable": true, "outcome": "refused"});
    Told::Answer(503, vec![("retry-after", "1".to_owned())], body.to_string())
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_code_and_only_inside_the_window() {
    let report = bench(&options(Workload::Uniform, 1), &grid(|_| busy())).await;
    // Three connections, ten seconds, a tenth of a second per refusal; one more or less at the edges.
    assert!((297..=303).contains(&report.refused), "{report:?}");
    assert_eq!((report.refused_by_code.get("overloaded"), report.placed, report.unknown), (Some(&report.refused), 0, 0));
    let (screen, _, _) = crate::cli::screen::tests::kept();
    let failure = show(&report, Format::Json, &screen).expect_err("nothing was placed");
    assert_eq!(failure.exit(), Exit::Failed);
}

#[tokio::test(start_paused = true)]
async fn skus_are_stocked_first_and_connections_spread_over_the_nodes() {
    let network = grid(|_| busy());
    bench(&options(Workload::Uniform, 1), &network).await;
    let received: Vec<_> = network.asked().into_iter().filter(|asked| asked.path.ends_with("/receive")).collect();
    assert_eq!(received.len(), 5);
    assert!(received.iter().all(|asked| asked.json() == json!({"quantity": 1_000_000_000})), "{received:?}");
    let placed_at = |node: &str| network.asked().iter().any(|asked| asked.path == "/v1/orders" && asked.node == node);
    assert!(placed_at("a") && placed_at("b"));
}

#[tokio::test(start_paused = true)]
async fn a_batch_counts_every_result() {
    let turn = std::sync::atomic::AtomicU64::new(0);
    let network = grid(move |asked| {
        assert_eq!(asked.line(), "POST /v1/orders/batch?return=minimal");
        assert_eq!(asked.key, None, "every order has its own");
        // Every other request is refused whole, so that simulated time goes on.
        if turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2) {
            return busy();
        }
        let error =
            |code: &str, outcome: &str| json!({"status": 409, "error": {"code": code, "retryable": false, "outcome": outcome}});
        Told::json(
            200,
            &json!({"results": [
                {"status": 201, "order": {"id": "1"}}, error("out_of_stock", "refused"), error("outcome_unknown", "unknown"),
            ]}),
        )
    });
    let report = bench(&options(Workload::Hot, 3), &network).await;
    assert!(report.placed > 0, "{report:?}");
    assert_eq!(report.refused_by_code.get("out_of_stock"), Some(&report.placed));
    assert_eq!(report.unknown, report.placed);
    assert!(report.refused_by_code["overloaded"] % 3 == 0, "a batch that is refused counts for all its orders: {report:?}");
    assert_eq!((report.batch, report.skus), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lifecycle_goes_through_every_step() {
    let network = grid(|asked| match asked.path.as_str() {
        "/v1/orders" => Told::json(201, &json!({"id": "17"})),
        "/v1/orders/17/payments" => Told::json(201, &json!({})),
        "/v1/orders/17/fulfilments" => Told::json(201, &json!({"id": "17-f1"})),
        "/v1/fulfilments/17-f1/ship" => Told::json(200, &json!({})),
        "/v1/fulfilments/17-f1/deliver" => busy(),
        path => panic!("{path} is no step"),
    });
    let report = bench(&options(Workload::Lifecycle, 1), &network).await;
    assert!(report.placed > 0 && report.refused >= report.placed - 3, "{report:?}");
    let asked = network.asked();
    let keys: Vec<_> =
        asked.iter().filter_map(|asked| asked.key.as_deref()).filter(|key| key.starts_with("7-0-")).take(5).collect();
    assert_eq!(keys, ["7-0-1", "7-0-1-pay", "7-0-1-pick", "7-0-1-ship", "7-0-1-deliver"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_away_costs_its_connections_nothing_but_the_request() {
    let hung_up = std::sync::atomic::AtomicBool::new(false);
    let network = grid(move |asked| {
        let first = asked.node == "a" && !hung_up.swap(true, std::sync::atomic::Ordering::Relaxed);
        if first { Told::HangUp } else { busy() }
    });
    let no_warm_up = BenchOptions { warm_up: Duration::ZERO, ..options(Workload::Uniform, 1) };
    let report = bench(&no_warm_up, &network).await;
    assert_eq!(report.unknown, 1, "{report:?}");
    assert!(report.refused > 250, "the other node is asked from there on: {report:?}");
}
