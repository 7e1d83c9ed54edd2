//! Each route's happy answer, whole, and what the grid was asked for it.

use ordergrid_api::ReadOptions;
use ordergrid_domain::Quantity;
use ordergrid_domain::command::{OrderAction, OrderCommand, SkuAction};
use ordergrid_domain::order::{CancelReason, Operator, Terms};
use serde_json::{Value, json};

use crate::scripted::{Asked, TOKEN};
use crate::site::{CAPTURE, SMALLEST, Site, Told, request};

/// The id of the first order of user 17850 here.
const ORDER: &str = "911618158393206784";
const AT: &str = "2026-11-20T14:05:06.007Z";

/// The smallest order as it was placed, with some fields set (or left out: `null`).
fn order_with(changes: Value) -> Value {
    let mut order = json!({
        "id": ORDER, "user_id": "17850", "phase": "pending_payment", "status": "pending_payment", "payment_status": "unpaid",
        "version": 1, "currency": "GBP", "total": 1530, "discount": 0, "shipping_fee": 0, "due": 1530, "captured": 0,
        "refunded": 0, "terms": "prepaid", "created_at": AT, "updated_at": AT, "payment_due_at": "2026-11-20T14:20:06.007Z",
        "lines": [line(json!({"held": 6}))], "payments": [], "refunds": [], "fulfilments": [], "metadata": {},
    });
    merge(&mut order, changes);
    order
}

/// The order's line, with all of its units where `changes` says.
fn line(changes: Value) -> Value {
    let mut line = json!({
        "line": 1, "sku": "85123A", "name": "name of 85123A", "unit_price": 255, "discount": 0, "tax": 0, "ordered": 6,
        "cancelled": 0, "backordered": 0, "held": 0, "picking": 0, "shipped": 0, "delivered": 0, "returned": 0,
    });
    merge(&mut line, changes);
    line
}

fn paid_with(changes: Value) -> Value {
    let payment = json!({"provider": "default", "provider_payment_id": "pi_1", "status": "captured", "amount": 1530, "captured": 1530,
            "facts": [{"status": "captured", "amount": 1530}], "at": AT, "void_requested": false});
    let mut order = order_with(json!({
        "phase": "confirmed", "status": "paid", "payment_status": "paid", "version": 2, "captured": 1530,
        "payment_due_at": null, "payments": [payment],
    }));
    merge(&mut order, changes);
    order
}

fn fulfilment(status: &str) -> Value {
    let lines = json!([{"line": 1, "quantity": 6}]);
    json!({"id": format!("{ORDER}-f1"), "status": status, "warehouse": "default", "lines": lines, "at": AT})
}

fn merge(object: &mut Value, changes: Value) {
    let (object, Value::Object(changes)) = (object.as_object_mut().expect("an object"), changes) else {
        panic!("changes are an object");
    };
    for (name, value) in changes {
        if value.is_null() {
            object.remove(&name);
        } else {
            object.insert(name, value);
        }
    }
}

/// Checks status, body, and the headers that every answer about one thing has.
fn check(told: &Told, status: u16, expected: &Value) {
    assert_eq!(told.status, status, "{told:?}");
    assert_eq!(told.json(), *expected);
    assert_eq!(told.header("content-type"), Some("application/json"));
    assert_eq!(told.header("grid-token"), Some("3:1234"));
    let version = expected.get("order").unwrap_or(expected)["version"].as_u64().expect("a version");
    assert_eq!(told.header("etag"), Some(format!("\"{version}\"").as_str()));
    assert!(told.header("x-request-id").is_some());
}

#[tokio::test]
async fn place() {
    let site = Site::new();
    let told = site.post("/v1/orders", "k1", SMALLEST).await;
    check(&told, 201, &order_with(json!({})));
    assert_eq!(told.header("idempotent-replayed"), None);

    let again = site.post("/v1/orders", "k1", &SMALLEST.replace(',', " ,\n ")).await;
    check(&again, 201, &order_with(json!({})));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    let other = site.post("/v1/orders", "k1", &SMALLEST.replace('6', "7")).await;
    assert_eq!((other.status, other.problem().0.as_str()), (422, "idempotency_key_reused"));
}

#[tokio::test]
async fn place_with_everything() {
    let body = json!({
        "user_id": "17850", "reference": "web-1", "currency": "GBP", "discount": 30, "shipping_fee": 500, "total": 1995,
        "terms": "invoice", "payment_method": "card", "payment_window_seconds": 60,
        "lines": [{"sku": "85123A", "quantity": 6, "unit_price": 255, "discount": 10, "tax": 5}],
        "ship_to": {"recipient": "Jo", "lines": ["1 High St"], "city": "York", "postal_code": "YO1", "country": "UK", "phone": "1"},
        "metadata": {"b": "2", "a": "1"},
    });
    let site = Site::new();
    let told = site.post("/v1/orders", "k1", &body.to_string()).await;
    let expected = order_with(json!({
        "reference": "web-1", "discount": 30, "shipping_fee": 500, "total": 1995, "due": 1995, "owed": 1995, "terms": "invoice",
        "payment_method": "card", "phase": "confirmed", "status": "confirmed", "payment_due_at": null,
        "lines": [line(json!({"held": 6, "discount": 10, "tax": 5}))],
        "ship_to": body["ship_to"], "metadata": body["metadata"],
    }));
    check(&told, 201, &expected);
    let [Asked::Place(asked)] = &site.grid.asked()[..] else {
        panic!("one order was asked for");
    };
    assert_eq!((asked.key.as_str(), asked.terms, asked.payment_window.as_secs()), ("k1", Terms::Invoice, 60));
    assert_eq!(asked.metadata[0].0.as_str(), "a");
}

#[tokio::test]
async fn read_order_and_history() {
    let site = Site::new();
    let id = site.paid("k1").await;
    check(&site.get(&format!("/v1/orders/{id}")).await, 200, &paid_with(json!({})));
    let history = json!({
        "order_id": ORDER, "version": 2, "status": "paid", "history": [
            {"number": 1, "at": AT, "event": "order.created", "to": "pending_payment", "operator": "user"},
            {"number": 2, "at": AT, "event": "order.paid", "from": "pending_payment", "to": "pending_payment", "operator": "provider"},
            {"number": 3, "at": AT, "event": "order.status_changed", "from": "pending_payment", "to": "paid", "operator": "provider"},
        ],
    });
    check(&site.get(&format!("/v1/orders/{id}/status-history")).await, 200, &history);
}

#[tokio::test]
async fn reads_say_how_current_they_must_be() {
    let site = Site::new();
    let id = site.placed("k1").await;
    let path = format!("/v1/orders/{id}?consistency=stale");
    let told = site.send(request("GET", &path, &[("grid-token", "3:77")], "")).await;
    assert_eq!((told.status, told.header("grid-age-ms")), (200, Some("250")));
    site.get("/v1/users/17850/orders?consistency=strong").await;
    site.send(request("GET", "/v1/skus/X", &[("grid-token", "3:1234")], "")).await;
    let token = |index| Some(ordergrid_api::Token { index, ..TOKEN });
    let expected = [(token(77), true), (None, false), (token(1_234), false)];
    assert_eq!(site.grid.reads(), expected.map(|(token, stale)| ReadOptions { token, stale }));
}

#[tokio::test]
async fn orders_of_a_user() {
    let site = Site::new();
    for key in ["k1", "k2", "k3"] {
        site.placed(key).await;
    }
    let first = site.get("/v1/users/17850/orders?size=2&status=pending_payment").await;
    let ids: Vec<_> = (0..3).map(|sequence| (ORDER.parse::<u64>().expect("a number") + sequence).to_string()).collect();
    let expected = json!({
        "orders": [order_with(json!({"id": ids[2]})), order_with(json!({"id": ids[1]}))], "total": 3, "next_cursor": ids[1],
    });
    assert_eq!((first.status, first.json()), (200, expected));
    assert_eq!(first.header("grid-token"), Some("3:1234"));

    let last = json!({"orders": [order_with(json!({}))], "total": 3});
    for next in [format!("cursor={}", ids[1]), "page=2".to_owned()] {
        assert_eq!(site.get(&format!("/v1/users/17850/orders?size=2&{next}")).await.json(), last);
    }
    assert_eq!(site.get("/v1/users/nobody/orders").await.json(), json!({"orders": [], "total": 0}));
}

#[tokio::test]
async fn pages_end_where_the_error_names_the_cursor() {
    let site = Site::tight();
    let mut ids = Vec::new();
    for count in 0..5 {
        ids.push(site.placed(&format!("k{count}")).await);
    }
    // Twenty orders deep: with ten a page that is page 2, with twenty it is page 1.
    let empty = site.get("/v1/users/17850/orders?size=10&page=9").await;
    assert_eq!((empty.status, empty.json()), (200, json!({"orders": [], "total": 5})));
    for (size, deepest) in [(100, 1), (1, 20)] {
        site.get(&format!("/v1/users/17850/orders?size={size}&page=21")).await;
        assert_eq!(site.grid.queries().last().map(|query| query.page), Some(deepest));
    }
    for count in 5..25 {
        ids.push(site.placed(&format!("k{count}")).await);
    }
    let told = site.get("/v1/users/17850/orders?size=10&page=3").await;
    assert_eq!((told.status, told.problem()), (422, ("page_too_deep".to_owned(), Some("page".to_owned()))));
    assert_eq!(told.json()["cursor"], json!(ids[5]), "the twentieth newest of 25 is the sixth oldest");
}

#[tokio::test]
async fn pay_pick_ship_deliver_complete() {
    let site = Site::new();
    let id = site.placed("k1").await;
    let told = site.post(&format!("/v1/orders/{id}/payments"), "pay", CAPTURE).await;
    check(&told, 201, &paid_with(json!({})));

    let told = site.post(&format!("/v1/orders/{id}/fulfilments"), "pick", r#"{"lines":[{"line":1,"quantity":6}]}"#).await;
    let mut picked = fulfilment("picking");
    let order = json!({"version": 3, "lines": [line(json!({"picking": 6}))], "fulfilments": [fulfilment("picking")]});
    merge(&mut picked, json!({"order": paid_with(order)}));
    check(&told, 201, &picked);

    let parcel = format!("/v1/fulfilments/{}", told.text("id"));
    let told = site.post(&format!("{parcel}/ship"), "ship", r#"{"carrier":"RM","tracking":"T1"}"#).await;
    let mut shipped = fulfilment("shipped");
    merge(&mut shipped, json!({"carrier": "RM", "tracking": "T1"}));
    let order = json!({
        "version": 4, "status": "shipped", "lines": [line(json!({"shipped": 6}))], "fulfilments": [shipped],
        "completes_at": "2026-11-27T14:05:06.007Z",
    });
    check(&told, 200, &paid_with(order));

    let told = site.post(&format!("{parcel}/deliver"), "deliver", "").await;
    assert_eq!((told.status, told.text("status").as_str()), (200, "delivered"));
    let told = site.post(&format!("/v1/orders/{id}/complete"), "complete", "{}").await;
    assert_eq!((told.status, told.text("status").as_str()), (200, "completed"));

    let operators = commands(&site).into_iter().map(|command| (command.key.as_str().to_owned(), command.operator));
    let merchant = ["pick", "ship", "deliver", "complete"].map(|key| (key.to_owned(), Operator::Merchant));
    assert_eq!(operators.collect::<Vec<_>>(), [&[("pay".to_owned(), Operator::Provider)], &merchant[..]].concat());
}

fn commands(site: &Site) -> Vec<OrderCommand> {
    let commands = site.grid.asked().into_iter().filter_map(|asked| match asked {
        Asked::Order(command) => Some(command),
        _ => None,
    });
    commands.collect()
}

#[tokio::test]
async fn cancel_a_fulfilment() {
    let site = Site::new();
    let parcel = site.picked("k1").await;
    let told = site.post(&format!("/v1/fulfilments/{parcel}/cancel"), "back", "{}").await;
    let order = json!({"version": 4, "lines": [line(json!({"held": 6}))], "fulfilments": [fulfilment("cancelled")]});
    check(&told, 200, &paid_with(order));
}

#[tokio::test]
async fn cancel() {
    let site = Site::new();
    let id = site.placed("k1").await;
    let part = r#"{"reason":"merchant","note":"one is broken","lines":[{"line":1,"quantity":1}]}"#;
    let told = site.post(&format!("/v1/orders/{id}/cancel"), "part", part).await;
    let held = line(json!({"held": 5, "cancelled": 1}));
    check(&told, 200, &order_with(json!({"version": 2, "due": 1275, "lines": [held]})));

    let told = site.post(&format!("/v1/orders/{id}/cancel"), "rest", r#"{"reason":"user"}"#).await;
    let expected = order_with(json!({
        "version": 3, "phase": "cancelled", "status": "cancelled", "cancel_reason": "user", "payment_due_at": null, "due": 0,
        "lines": [line(json!({"cancelled": 6}))],
    }));
    check(&told, 200, &expected);

    let [part, rest] = &commands(&site)[..] else {
        panic!("two commands were given");
    };
    assert_eq!((part.operator, rest.operator), (Operator::Merchant, Operator::User));
    let OrderAction::Cancel { reason, note, lines } = &part.action else {
        panic!("not a cancel: {part:?}");
    };
    assert_eq!((*reason, lines.as_slice()), (CancelReason::Merchant, &[(1, Quantity(1))][..]));
    assert_eq!(note.as_ref().map(|note| note.as_str()), Some("one is broken"));
}

#[tokio::test]
async fn refund_and_its_outcome() {
    let site = Site::new();
    let id = site.paid("k1").await;
    let told = site.post(&format!("/v1/orders/{id}/refunds"), "r", r#"{"amount":255,"reason":"late"}"#).await;
    let refund = |status| {
        let id = format!("{ORDER}-r1");
        json!({"id": id, "status": status, "amount": 255, "cause": "asked", "reason": "late", "provider": "default",
            "provider_payment_id": "pi_1", "at": AT})
    };
    let payments = json!([{"provider": "default", "provider_payment_id": "pi_1", "status": "captured", "amount": 1530,
        "captured": 1530, "refunded": 255, "facts": [{"status": "captured", "amount": 1530}], "at": AT, "void_requested": false}]);
    let asked = json!({
        "version": 3, "created": format!("{ORDER}-r1"), "due": 1275, "refunded": 255, "refunds": [refund("requested")],
        "payments": payments.clone(),
    });
    check(&told, 201, &paid_with(asked));

    let path = format!("/v1/orders/{id}/refunds/{}", told.text("created"));
    let told = site.post(&path, "r", r#"{"status":"succeeded"}"#).await;
    let ended = json!({
        "version": 4, "due": 1275, "refunded": 255, "payment_status": "partially_refunded",
        "refunds": [refund("succeeded")], "payments": payments,
    });
    check(&told, 200, &paid_with(ended));

    let told = site.post(&format!("/v1/orders/{id}/refunds"), "by line", "{}").await;
    assert_eq!(told.problem().0, "invalid_idempotency_key", "keys have no spaces");
    let told = site.post(&format!("/v1/orders/{id}/refunds"), "by-line", r#"{"lines":[{"line":1,"quantity":2}]}"#).await;
    let parts = &told.json()["refunds"][1]["lines"];
    assert_eq!(*parts, json!([{"line": 1, "amount": 510, "quantity": 2}]));
}

#[tokio::test]
async fn skus() {
    let site = Site::new();
    let buckets = |on_hand: u64, adjusted: i64| {
        json!({
            "on_hand": on_hand, "unavailable": 0, "reserved": 0, "committed": 0, "available": on_hand, "backordered": 0,
            "sold": 0, "received": 100, "restocked": 0, "adjusted": adjusted,
        })
    };
    let sku = |name: &str, version: u64, stock: Value, warehouses: Value| {
        let id = "BANK CHARGES";
        json!({"id": id, "name": name, "version": version, "index": 1_234, "stock": stock, "warehouses": warehouses})
    };
    let path = "/v1/skus/BANK%20CHARGES";
    let told = site.send(request("PUT", path, &[], r#"{"name":"Charges","backorder_limit":0,"safety_stock":null}"#)).await;
    let in_default = |buckets: &Value| {
        let mut one = buckets.clone();
        merge(&mut one, json!({"warehouse": "default"}));
        json!([one])
    };
    let mut none = buckets(0, 0);
    merge(&mut none, json!({"received": 0}));
    check(&told, 201, &sku("Charges", 1, none.clone(), in_default(&none)));

    let told = site.post(&format!("{path}/receive"), "r", r#"{"quantity":100}"#).await;
    let stock = buckets(100, 0);
    check(&told, 200, &sku("Charges", 2, stock.clone(), in_default(&stock)));

    let told = site.post(&format!("{path}/adjust"), "a", r#"{"delta":-3,"reason":"damaged","warehouse":"default"}"#).await;
    let stock = buckets(97, -3);
    check(&told, 200, &sku("Charges", 3, stock.clone(), in_default(&stock)));
    check(&site.get(path).await, 200, &sku("Charges", 3, stock.clone(), in_default(&stock)));

    let told = site.send(request("PUT", "/v1/skus/a%2Fb", &[("idempotency-key", "any")], r#"{"name":"slash"}"#)).await;
    assert_eq!((told.status, told.text("id").as_str()), (201, "a/b"));
    let Some(Asked::Sku(put)) = site.grid.asked().pop() else {
        panic!("the last thing asked was the slash");
    };
    assert_eq!(put.key, None, "put is idempotent by itself");
    assert!(matches!(put.action, SkuAction::Put { .. }));
}

#[tokio::test]
async fn a_version_may_be_expected() {
    let site = Site::new();
    let id = site.placed("k1").await;
    let cancel = |version: &'static str| {
        let headers = [("idempotency-key", "c"), ("if-match", version)];
        request("POST", &format!("/v1/orders/{id}/cancel"), &headers, r#"{"reason":"user"}"#)
    };
    let told = site.send(cancel("\"7\"")).await;
    assert_eq!((told.status, told.problem().0.as_str()), (412, "stale_version"));
    assert_eq!(site.send(cancel("\"1\"")).await.status, 200);
    let expected: Vec<_> = commands(&site).iter().map(|command| command.expect_version).collect();
    assert_eq!(expected, [Some(7), Some(1)]);
    site.send(cancel("*")).await;
    assert_eq!(commands(&site)[2].expect_version, None);
}

#[tokio::test]
async fn operators_and_probes() {
    let site = Site::new();
    let told = site.get("/livez").await;
    assert_eq!((told.status, told.json()), (200, json!({"live": true})));
    assert_eq!(site.get("/readyz").await.json(), json!({"ready": true}));
    let (log, leaders) = (json!({"name": "log", "ok": true}), "3 of 4 shards have a leader");
    let verbose = |ok: bool| json!({"ready": ok, "checks": [log, {"name": "leaders", "ok": ok, "detail": leaders}]});
    assert_eq!(site.get("/readyz?verbose").await.json(), verbose(true));
    site.grid.is_not_ready();
    let told = site.get("/readyz").await;
    assert_eq!((told.status, told.json()["checks"][0]["name"].as_str()), (503, Some("leaders")));
    assert_eq!(site.get("/readyz?verbose=true").await.json(), verbose(false));

    let told = site.get("/metrics").await;
    assert_eq!((told.status, &told.bytes[..]), (200, &b"ordergrid_up 1\n"[..]));
    assert_eq!(told.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));

    let told = site.get("/admin/v1/cluster/status").await;
    let status = json!({
        "cluster": "shop", "cluster_id": "c1", "version": "0.1.0", "health": "healthy", "nodes": [], "shards": [],
    });
    assert_eq!((told.status, told.json()), (200, status));
    let report = json!({
        "ok": false, "shards": [], "counts": {"orders": 7},
        "laws": [{"law": "NoOversell", "ok": false, "violations": ["SKU A: 3 promised, 2 on hand"]}],
        "in_flight": {"tentative_holds": 0, "undelivered_messages": 0, "running_attempts": 0},
    });
    for method in ["GET", "POST"] {
        let told = site.send(request(method, "/admin/v1/cluster/verify", &[], "")).await;
        assert_eq!((told.status, told.json()), (200, report.clone()), "a violation is an answer");
    }
}

#[tokio::test]
async fn clocks_are_shown_and_one_is_accepted() {
    let site = Site::new();
    let clock = |expires, wrong: Option<&str>| {
        let mut node = json!({
            "id": "1", "name": "n1", "reachable": true, "wall": "2026-11-20T14:05:06.007Z", "expires": expires,
        });
        wrong.into_iter().for_each(|wrong| node["wrong"] = wrong.into());
        json!({"nodes": [node]})
    };
    let told = site.get("/admin/v1/cluster/clock").await;
    assert_eq!((told.status, told.json()), (200, clock(false, Some("clock_skew: nothing expires"))));
    for right in ["wall", "log"] {
        let path = format!("/admin/v1/cluster/clock/accept?right={right}");
        let told = site.send(request("POST", &path, &[], "")).await;
        assert_eq!((told.status, told.json()), (200, clock(true, None)));
    }
    let told = site.send(request("POST", "/admin/v1/cluster/clock/accept?right=wall&dry_run=true", &[], "")).await;
    let mut tried = clock(false, Some("clock_skew: nothing expires"));
    tried["nodes"][0]["becomes"] = "2026-11-20T14:05:06.007Z".into();
    assert_eq!((told.status, told.json()), (200, tried));
    for (query, dry_run, state, since) in [
        ("", false, "repaired", None),
        ("?dry_run=true", true, "ahead", None),
        ("?dry_run=false&since=2026-11-20T14:05:06.007Z", false, "repaired", Some("2026-11-20T14:05:06.007Z")),
    ] {
        let told = site.send(request("POST", &format!("/admin/v1/cluster/clock/repair{query}"), &[], "")).await;
        let mut shard = json!({"shard": "1", "state": state, "log": "2026-11-20T14:05:06.007Z"});
        since.into_iter().for_each(|since| shard["since"] = since.into());
        assert_eq!((told.status, told.json()), (200, json!({"dry_run": dry_run, "shards": [shard]})), "{query}");
    }
    for (path, status, code) in [
        ("/admin/v1/cluster/clock/repair?since=yesterday", 422, "invalid_parameter"),
        ("/admin/v1/cluster/clock/repair?dry_run=perhaps", 422, "invalid_parameter"),
        ("/admin/v1/cluster/clock/repair?yes=true", 400, "unknown_parameter"),
        ("/admin/v1/cluster/clock/accept", 422, "invalid_parameter"),
        ("/admin/v1/cluster/clock/accept?right=both", 422, "invalid_parameter"),
        ("/admin/v1/cluster/verify?within_ms=soon", 422, "invalid_parameter"),
        ("/admin/v1/cluster/clock/accept?left=wall", 400, "unknown_parameter"),
    ] {
        let told = site.send(request("POST", path, &[], "")).await;
        assert_eq!((told.status, &told.json()["code"]), (status, &json!(code)), "{path}");
    }
}

#[tokio::test]
async fn streams_are_started_anew_or_only_looked_at() {
    let site = Site::new();
    for (query, dry_run, state) in [("", false, "reconciled"), ("?dry_run=true", true, "stopped")] {
        let told = site.send(request("POST", &format!("/admin/v1/cluster/streams/reconcile{query}"), &[], "")).await;
        let stream = json!({"from": "1", "to": "2", "state": state, "unkept": 3});
        assert_eq!((told.status, told.json()), (200, json!({"dry_run": dry_run, "streams": [stream]})), "{query}");
    }
    for (query, status, code) in [("?dry_run=perhaps", 422, "invalid_parameter"), ("?yes=true", 400, "unknown_parameter")] {
        let told = site.send(request("POST", &format!("/admin/v1/cluster/streams/reconcile{query}"), &[], "")).await;
        assert_eq!((told.status, &told.json()["code"]), (status, &json!(code)), "{query}");
    }
}

#[tokio::test]
async fn requests_have_names() {
    let site = Site::new();
    let first = site.get("/livez").await;
    let second = site.get("/livez").await;
    assert_eq!(first.header("x-request-id"), Some("0000000000000abc-0000000000000001"));
    assert_eq!(second.header("x-request-id"), Some("0000000000000abc-0000000000000002"));
    let named = site.send(request("GET", "/v1/orders/1", &[("x-request-id", "mine/1")], "")).await;
    assert_eq!((named.header("x-request-id"), named.text("request_id").as_str()), (Some("mine/1"), "mine/1"));
    let long = "x".repeat(129);
    for given in ["", "two words", long.as_str()] {
        let told = site.send(request("GET", "/livez", &[("x-request-id", given)], "")).await;
        assert!(told.header("x-request-id").is_some_and(|id| id.starts_with("0000000000000abc-")), "{given:?}");
    }
}
