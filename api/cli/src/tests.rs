//! Command lines from their text to exit code, data and talk.

use ordergrid_api::client::scripted::{Scripted, Told};
use serde_json::{Value, json};

use super::screen::tests::kept;
use super::*;

/// A command line as a binary would have it.
#[derive(Debug, Parser)]
#[command(name = "ordergrid", version)]
struct Line {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: ClientCommand,
}

/// What a process leaves behind.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    code: u8,
    data: String,
    talk: String,
}

async fn run_line(line: &str, network: &Scripted) -> Left {
    let (screen, data, talk) = kept();
    let arguments = ["ordergrid"].into_iter().chain(line.split_whitespace()).map(OsString::from);
    let code = match parse::<Line>(arguments, &screen) {
        Ok(line) => run(line.command, &line.global, Arc::new(network.clone()), &screen).await,
        Err(code) => code,
    };
    Left { code, data: data.text(), talk: talk.text() }
}

fn nobody() -> Scripted {
    Scripted::new(|asked| panic!("nothing should be asked: {asked:?}"))
}

fn error_of(left: &Left) -> Value {
    assert_eq!(left.data, "", "an error is not data");
    let value: Value = serde_json::from_str(&left.talk).unwrap_or_else(|error| panic!("{error}: {left:?}"));
    assert_eq!(value["exit_code"], left.code, "{left:?}");
    value["error"].clone()
}

fn sku() -> Value {
    let stock = json!({
        "on_hand": 10, "unavailable": 0, "reserved": 1, "committed": 2, "available": 7, "backordered": 0, "sold": 31_413,
        "received": 31_423, "restocked": 0, "adjusted": 0,
    });
    let mut warehouse = stock.clone();
    warehouse["warehouse"] = json!("default");
    json!({"id": "BANK CHARGES", "name": "Bank charges", "version": 4, "index": 17, "stock": stock, "warehouses": [warehouse]})
}

#[test]
fn the_command_line_is_sound() {
    <Line as clap::CommandFactory>::command().debug_assert();
}

#[tokio::test]
async fn a_wrong_command_line_is_exit_2_and_asks_nothing() {
    for line in [
        "",
        "fly",
        "replay --stock much",
        "replay --concurrency 0",
        "replay --patience soon",
        "replay",
        "replay /nowhere/orders.csv",
        "replay --curl --orders x --lines y",
        "bench --workload heavy",
        "bench --connections 0",
        "bench --batch 1001",
        "bench --batch 10 --workload read-mix",
        "bench --workload cart --skus 2",
        "bench --duration 0",
        "bench --nodes 3",
        "order get",
        "order get x",
        "order get 017",
        "cluster status -o xml",
        "cluster status --endpoint https://x",
        "cluster status --endpoint http://x/y",
        "sku get a b",
        "cluster clock accept",
        "cluster clock accept wall --dry-run --yes",
        "cluster clock repair --dry-run --yes",
        "cluster clock repair --since yesterday",
    ] {
        let left = run_line(line, &nobody()).await;
        assert_eq!((left.code, left.data.as_str()), (2, ""), "{line}: {left:?}");
        assert!(left.talk.contains("rror: ") || left.talk.contains("Usage"), "{line}: {left:?}");
        if !line.is_empty() && !line.contains("xml") {
            let left = run_line(&format!("{line} -o json"), &nobody()).await;
            assert_eq!(left.code, 2, "{line}");
            assert!(error_of(&left)["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{line}: {left:?}");
        }
    }
}

#[tokio::test]
async fn help_and_version_are_data() {
    for (line, part) in [("--help", "replay"), ("bench --help", "--workload"), ("--version", "ordergrid ")] {
        let left = run_line(line, &nobody()).await;
        assert_eq!((left.code, left.talk.as_str()), (0, ""), "{line}");
        assert!(left.data.contains(part), "{line}: {left:?}");
    }
}

#[tokio::test]
async fn json_is_the_answer_as_it_came() {
    let network = Scripted::new(|asked| {
        assert_eq!(asked.line(), "GET /v1/skus/BANK-CHARGES");
        Told::json(200, &sku())
    });
    let left = run_line("sku get BANK-CHARGES -o json", &network).await;
    assert_eq!(left, Left { code: 0, data: format!("{}\n", sku()), talk: String::new() });
}

#[tokio::test]
async fn ids_are_encoded() {
    let network = Scripted::in_turn(vec![Told::json(200, &sku())]);
    let command =
        ClientCommand::Sku(lookup::SkuCommand::Get { sku: ordergrid_domain::SkuId::new("BANK CHARGES").expect("an id") });
    let (screen, data, _) = kept();
    let code = run(command, &GlobalArgs::default(), Arc::new(network.clone()), &screen).await;
    assert_eq!((code, network.asked()[0].line().as_str()), (0, "GET /v1/skus/BANK%20CHARGES"));
    let expected = "\
SKU BANK CHARGES  Bank charges  version 4  index 17
WAREHOUSE  AVAILABLE  ON HAND  RESERVED  COMMITTED  UNAVAILABLE  RECEIVED    SOLD
default            7       10         1          2            0    31,423  31,413
";
    assert_eq!(data.text(), expected);
}

#[tokio::test]
async fn an_order_as_people_see_it() {
    let at = "2026-11-20T14:05:06.007Z";
    let order = json!({
        "id": "17", "user_id": "17850", "phase": "confirmed", "status": "paid", "payment_status": "paid", "version": 2,
        "currency": "GBP", "total": 1_530, "discount": 0, "shipping_fee": 0, "captured": 1_530, "due": 0, "refunded": 0,
        "terms": "prepaid", "created_at": at, "updated_at": at,
        "lines": [{"line": 1, "sku": "85123A", "name": "WHITE HEART", "unit_price": 255, "discount": 0, "tax": 0, "ordered": 6,
                   "cancelled": 0, "backordered": 0, "held": 4, "picking": 2, "shipped": 0, "delivered": 0, "returned": 0}],
        "fulfilments": [{"id": "17-f1", "status": "picking", "warehouse": "default", "lines": [{"line": 1, "quantity": 2}], "at": at}],
    });
    let network = Scripted::in_turn(vec![Told::json(200, &order)]);
    let left = run_line("order get 17", &network).await;
    let expected = "\
ORDER 17  paid  paid  user 17850  15.30 GBP  captured 15.30  refunded 0.00  placed 2026-11-20T14:05:06.007Z
LINE  SKU     PRICE  ORDERED  HELD  PICKING  SHIPPED  DELIVERED  CANCELLED  NAME
   1  85123A   2.55        6     4        2        0          0          0  WHITE HEART
FULFILMENT  STATUS   UNITS
17-f1       picking      2
";
    assert_eq!((left.data.as_str(), left.code), (expected, 0), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn refusals_come_with_their_exit_code_and_the_whole_problem() {
    for (status, code, retryable, exit) in [
        (404, "no_such_order", false, 3),
        (403, "forbidden", false, 5),
        (503, "no_leader", true, 7),
        (400, "malformed_id", false, 2),
    ] {
        let network = Scripted::new(move |_| Told::problem(status, code, retryable));
        let left = run_line("order get 17 -o json", &network).await;
        assert_eq!(left.code, exit, "{code}: {left:?}");
        let error = error_of(&left);
        assert_eq!(error["code"], code);
        assert_eq!((&error["outcome"], &error["retryable"]), (&json!("refused"), &json!(retryable)));
        assert_eq!((&error["request_id"], &error["status"]), (&json!("r1"), &json!(status)));
        let left = run_line("order get 17", &network).await;
        assert_eq!((left.code, left.talk), (exit, format!("error: it is {code} ({code})\n")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_grid_that_is_not_there_is_exit_7() {
    let network = nobody();
    network.stop("127.0.0.1");
    let left = run_line("cluster status --timeout 3s", &network).await;
    assert_eq!((left.code, left.data.as_str()), (7, ""), "{left:?}");
    assert!(left.talk.contains("cannot reach http://127.0.0.1:8080: connection refused"), "{left:?}");
    assert!(left.talk.contains("ORDERGRID_ENDPOINTS"), "{left:?}");
    let left = run_line("cluster status --timeout 3s -o json", &network).await;
    assert_eq!(error_of(&left)["code"], "unreachable");
}

#[tokio::test(start_paused = true)]
async fn every_endpoint_is_tried() {
    let network = Scripted::new(|_| Told::json(200, &sku()));
    network.stop("a");
    for line in ["sku get x --endpoint http://a:1,http://b:2", "sku get x --endpoint http://a:1 --endpoint http://b:2"] {
        let left = run_line(line, &network).await;
        assert_eq!(left.code, 0, "{left:?}");
    }
    assert!(network.asked().iter().all(|asked| asked.node == "b"));
}

#[tokio::test]
async fn verify_answers_with_its_exit_code() {
    for (ok, exit) in [(true, 0), (false, 10)] {
        let violations = if ok { json!([]) } else { json!(["sku x: available -1"]) };
        let report = json!({
            "ok": ok, "shards": [], "counts": {"orders": 2}, "laws": [{"law": "NoOversell", "ok": ok, "violations": violations}],
            "in_flight": {"tentative_holds": 0, "undelivered_messages": 0, "running_attempts": 0},
        });
        let answer = report.clone();
        let network = Scripted::new(move |asked| {
            assert_eq!(asked.line(), "GET /admin/v1/cluster/verify");
            Told::json(200, &answer)
        });
        let left = run_line("cluster verify -o json", &network).await;
        assert_eq!(left, Left { code: exit, data: format!("{report}\n"), talk: String::new() });
        let left = run_line("cluster verify", &network).await;
        assert_eq!((left.code, left.data.contains("VIOLATION NoOversell: sku x: available -1")), (exit, !ok), "{left:?}");
    }
}

/// A verb, what it must ask, what it is answered, and its exit code with the word for it.
type Asked = (&'static str, &'static str, Value, u8, &'static str);

#[tokio::test]
async fn what_changes_the_time_of_a_grid_needs_yes() {
    let clock = |expires: bool| {
        let node =
            json!({"id": "1", "name": "n1", "reachable": true, "expires": expires, "wrong": "clock_skew: log time is ahead"});
        json!({"nodes": [node, {"id": "2", "name": "n2", "reachable": false, "expires": false}]})
    };
    let repair = |states: &[&str]| {
        let shards: Vec<_> = (1..).zip(states).map(|(n, state)| json!({"shard": format!("{n}"), "state": state})).collect();
        json!({"dry_run": true, "shards": shards})
    };
    #[rustfmt::skip]
    let cases: [Asked; 12] = [
        ("accept wall",           "accept?right=wall&dry_run=true",  clock(false),                   6, "not_confirmed"),
        ("accept wall --dry-run", "accept?right=wall&dry_run=true",  clock(false),                   0, ""),
        ("accept wall",           "accept?right=wall&dry_run=true",  clock(true),                    0, ""),
        ("accept wall --yes",     "accept?right=wall&dry_run=false", clock(true),                    0, ""),
        ("accept log --yes",      "accept?right=log&dry_run=false",  clock(false),                  10, ""),
        ("repair",                "repair?dry_run=true",             repair(&["ahead", "sound"]),    6, "not_confirmed"),
        ("repair",                "repair?dry_run=true",             repair(&["sound", "sound"]),    0, ""),
        ("repair --dry-run",      "repair?dry_run=true",             repair(&["ahead", "sound"]),    0, ""),
        ("repair --dry-run",      "repair?dry_run=true",             repair(&["ahead", "refused"]), 11, ""),
        ("repair --yes",          "repair?dry_run=false",            repair(&["repaired", "sound"]), 0, ""),
        ("repair --yes",          "repair?dry_run=false",            repair(&["refused", "sound"]),  6, "not_safe"),
        ("repair --yes",          "repair?dry_run=false",            repair(&["refused", "unknown"]), 8, "not_answered"),
    ];
    for (verb, asks, answer, code, word) in cases {
        let told = answer.clone();
        let network = Scripted::new(move |asked| {
            assert_eq!(asked.line(), format!("POST /admin/v1/cluster/clock/{asks}"));
            Told::json(200, &answer)
        });
        let left = run_line(&format!("cluster clock {verb} -o json"), &network).await;
        assert_eq!((left.code, left.data.as_str()), (code, format!("{told}\n").as_str()), "{verb}: {left:?}");
        let error = left.talk.contains(&format!("\"code\":\"{word}\""));
        assert_eq!(error, !word.is_empty(), "{verb}: {left:?}");
    }
    let line = "cluster clock repair --since 2026-11-20T14:05:06Z --curl --endpoint http://n1:80";
    let url = "http://n1:80/admin/v1/cluster/clock/repair?dry_run=true&since=2026-11-20T14:05:06.000Z";
    assert!(run_line(line, &nobody()).await.data.contains(url));
}

#[tokio::test]
async fn curl_shows_the_call_and_sends_nothing() {
    for (line, url) in [
        ("order get 17", "/v1/orders/17"),
        ("order get 17 --history", "/v1/orders/17/status-history"),
        ("sku get 85123A", "/v1/skus/85123A"),
        ("cluster status", "/admin/v1/cluster/status"),
        ("cluster clock status", "/admin/v1/cluster/clock"),
        ("cluster verify", "/admin/v1/cluster/verify"),
        ("cluster verify --timeout 3s", "/admin/v1/cluster/verify?within_ms=3000"),
    ] {
        let left = run_line(&format!("{line} --curl --endpoint http://n1:80"), &nobody()).await;
        assert_eq!(left, Left { code: 0, data: format!("curl -sS 'http://n1:80{url}'\n"), talk: String::new() });
    }
}

#[tokio::test]
async fn an_answer_that_is_no_order_is_a_failure() {
    let network = Scripted::new(|_| Told::Answer(200, Vec::new(), "<html>".to_owned()));
    let left = run_line("order get 17 -o json", &network).await;
    assert_eq!((left.code, &error_of(&left)["code"]), (1, &json!("unreadable_answer")));
}
