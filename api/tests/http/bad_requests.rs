//! What cannot be read, and what can be read and is wrong: refused by code and place, and nothing is asked of the grid.

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use ordergrid_api::account::{Account, Use};
use serde_json::{Value, json};

use crate::site::{CAPTURE, SMALLEST, Site, Told, request};

/// Checks a refusal, and that it changed nothing.
fn refused(site: &Site, told: &Told, status: u16, code: &str, param: Option<&str>, why: &str) {
    assert_eq!((told.status, told.problem()), (status, (code.to_owned(), param.map(str::to_owned))), "{why}: {told:?}");
    assert_eq!(told.text("outcome"), "refused", "{why}");
    assert_eq!(site.grid.asked(), [], "{why}");
}

/// The smallest order with changes: a path of JSON pointer and what to put there.
fn order(changes: &[(&str, Value)]) -> String {
    let mut order: Value = serde_json::from_str(SMALLEST).expect("valid JSON");
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        order.pointer_mut(parent).expect("a parent")[name] = value.clone();
    }
    order.to_string()
}

#[tokio::test]
async fn orders_that_cannot_be_read() {
    let site = Site::new();
    #[rustfmt::skip]
    let rows = [
        ("",                                             400, "malformed_json",  None),
        ("{",                                            400, "malformed_json",  None),
        ("not json",                                     400, "malformed_json",  None),
        ("{\"user_id\":\"u\",}",                         400, "malformed_json",  None),
        ("{} {}",                                        422, "missing_field",   Some("user_id")),
        ("[]",                                           422, "invalid_body",    None),
        ("null",                                         422, "invalid_body",    None),
        ("{\"user_id\":\"\\ud800\"}",                    400, "malformed_json",  None),
        ("{\"nope\":1}",                                 400, "unknown_field",   Some("nope")),
        ("{\"user_id\":\"u\",\"user_id\":\"v\"}",        400, "duplicate_field", Some("user_id")),
        ("{\"user_id\":\"u\",\"currency\":\"GBP\"}",     422, "missing_field",   Some("lines")),
    ];
    for (body, status, code, param) in rows {
        let told = site.post("/v1/orders", "k", body).await;
        refused(&site, &told, status, code, param, body);
    }
    let told = site.post("/v1/orders", "k", &format!("{SMALLEST} x")).await;
    refused(&site, &told, 400, "malformed_json", None, "something follows");
    let mut broken = SMALLEST.as_bytes().to_vec();
    broken[13] = 0xff;
    let request = Request::post("/v1/orders").header("idempotency-key", "k").body(Body::from(broken)).expect("valid");
    let told = site.send(request).await;
    assert_eq!((told.status, told.problem().0.as_str()), (400, "malformed_json"), "not UTF-8");
}

#[tokio::test]
async fn orders_with_a_wrong_value() {
    let site = Site::new();
    let long = "x".repeat(1_100);
    #[rustfmt::skip]
    let rows = [
        ("/user_id",                json!(17_850),                  "invalid_user_id",        "user_id"),
        ("/user_id",                json!(""),                      "invalid_user_id",        "user_id"),
        ("/user_id",                json!(long),                    "invalid_user_id",        "user_id"),
        ("/user_id",                json!("a\nb"),                  "invalid_user_id",        "user_id"),
        ("/user_id",                json!(" 17850"),                "invalid_user_id",        "user_id"),
        ("/reference",              json!("R1\u{200b}"),            "invalid_reference",      "reference"),
        ("/lines/0/sku",            json!("Cafe\u{301}"),           "invalid_sku",            "lines[0].sku"),
        ("/user_id",                json!(null),                    "invalid_user_id",        "user_id"),
        ("/currency",               json!("pounds"),                "invalid_currency",       "currency"),
        ("/currency",               json!("gbp"),                   "invalid_currency",       "currency"),
        ("/reference",              json!(""),                      "invalid_reference",      "reference"),
        ("/terms",                  json!("later"),                 "invalid_terms",          "terms"),
        ("/discount",               json!(-1),                      "invalid_discount",       "discount"),
        ("/discount",               json!(1_531),                   "invalid_amount",         ""),
        ("/discount",               json!(1.5),                     "invalid_discount",       "discount"),
        ("/shipping_fee",           json!(-1),                      "invalid_shipping_fee",   "shipping_fee"),
        ("/total",                  json!(1_531),                   "total_mismatch",         "total"),
        ("/total",                  json!("1530"),                  "invalid_total",          "total"),
        ("/payment_method",         json!(7),                       "invalid_payment_method", "payment_method"),
        ("/payment_window_seconds", json!(0),                       "invalid_payment_window", "payment_window_seconds"),
        ("/payment_window_seconds", json!(2_592_001),               "invalid_payment_window", "payment_window_seconds"),
        ("/payment_window_seconds", json!(-1),                      "invalid_payment_window", "payment_window_seconds"),
        ("/metadata",               json!({"a": 1}),                "invalid_metadata",       "metadata.a"),
        ("/metadata",               json!([]),                      "invalid_metadata",       "metadata"),
        ("/ship_to",                json!({"city": 1}),             "invalid_ship_to",        "ship_to.city"),
        ("/ship_to",                json!({"lines": vec!["x"; 11]}), "invalid_ship_to",       "ship_to.lines"),
        ("/lines",                  json!([]),                      "invalid_lines",          "lines"),
        ("/lines",                  json!({}),                      "invalid_lines",          "lines"),
        ("/lines/0/sku",            json!(""),                      "invalid_sku",            "lines[0].sku"),
        ("/lines/0/quantity",       json!(0),                       "invalid_quantity",       "lines[0].quantity"),
        ("/lines/0/quantity",       json!(-1),                      "invalid_quantity",       "lines[0].quantity"),
        ("/lines/0/quantity",       json!(1_000_000_001_u64),       "invalid_quantity",       "lines[0].quantity"),
        ("/lines/0/quantity",       json!(6.0),                     "invalid_quantity",       "lines[0].quantity"),
        ("/lines/0/quantity",       json!("6"),                     "invalid_quantity",       "lines[0].quantity"),
        ("/lines/0/unit_price",     json!(-1),                      "invalid_unit_price",     "lines[0].unit_price"),
        ("/lines/0/unit_price",     json!(i64::MAX),                "invalid_unit_price",     "lines[0].unit_price"),
        ("/lines/0/discount",       json!(-1),                      "invalid_discount",       "lines[0].discount"),
        ("/lines/0/discount",       json!(1_531),                   "invalid_discount",       "lines[0].discount"),
        ("/lines/0/tax",            json!(-1),                      "invalid_tax",            "lines[0].tax"),
    ];
    for (pointer, value, code, param) in rows {
        let told = site.post("/v1/orders", "k", &order(&[(pointer, value.clone())])).await;
        let param = (!param.is_empty()).then_some(param);
        refused(&site, &told, 422, code, param, &format!("{pointer} = {value}"));
    }
    let many = json!((0..51).map(|count| (format!("name {count}"), json!("x"))).collect::<serde_json::Map<_, _>>());
    let told = site.post("/v1/orders", "k", &order(&[("/metadata", many)])).await;
    refused(&site, &told, 422, "invalid_metadata", Some("metadata"), "51 pairs");
    let line = json!({"sku": "a", "quantity": 1, "unit_price": 1});
    let told = site.post("/v1/orders", "k", &order(&[("/lines", json!(vec![line; 1_001]))])).await;
    refused(&site, &told, 422, "too_many_lines", Some("lines"), "1,001 lines");
}

#[tokio::test]
async fn every_body_is_closed() {
    let order = "/v1/orders/9";
    let parcel = "/v1/fulfilments/9-f1";
    #[rustfmt::skip]
    let rows = [
        ("POST", "/v1/orders".to_owned(),          r#"{"user":"17850"}"#,                              "user"),
        ("POST", "/v1/orders".to_owned(),          r#"{"lines":[{"sku":"a","qty":1}]}"#,               "lines[0].qty"),
        ("POST", "/v1/orders".to_owned(),          r#"{"ship_to":{"town":"York"}}"#,                   "ship_to.town"),
        ("POST", "/v1/orders/batch".to_owned(),    r#"{"orders":[],"dry":1}"#,                         "dry"),
        ("POST", format!("{order}/payments"),      r#"{"id":"pi"}"#,                                   "id"),
        ("POST", format!("{order}/cancel"),        r#"{"reason":"user","why":"x"}"#,                   "why"),
        ("POST", format!("{order}/cancel"),        r#"{"reason":"user","lines":[{"line":1,"n":1}]}"#,  "lines[0].n"),
        ("POST", format!("{order}/complete"),      r#"{"x":1}"#,                                       "x"),
        ("POST", format!("{order}/fulfilments"),   r#"{"x":1}"#,                                       "x"),
        ("POST", format!("{order}/refunds"),       r#"{"x":1}"#,                                       "x"),
        ("POST", format!("{order}/refunds/9-r1"),  r#"{"x":1}"#,                                       "x"),
        ("POST", format!("{parcel}/ship"),         r#"{"trackin":"T"}"#,                               "trackin"),
        ("POST", format!("{parcel}/deliver"),      r#"{"x":1}"#,                                       "x"),
        ("POST", format!("{parcel}/cancel"),       r#"{"x":1}"#,                                       "x"),
        ("PUT",  "/v1/skus/A".to_owned(),          r#"{"name":"a","colour":"red"}"#,                   "colour"),
        ("POST", "/v1/skus/A/receive".to_owned(),  r#"{"quantity":1,"x":1}"#,                          "x"),
        ("POST", "/v1/skus/A/adjust".to_owned(),   r#"{"delta":1,"x":1}"#,                             "x"),
    ];
    for (method, path, body, param) in rows {
        let site = Site::new();
        let told = site.send(request(method, &path, &[("idempotency-key", "k")], body)).await;
        refused(&site, &told, 400, "unknown_field", Some(param), &format!("{path} {body}"));
    }
}

#[tokio::test]
async fn commands_with_a_wrong_value() {
    let order = "/v1/orders/9";
    #[rustfmt::skip]
    let rows = [
        (format!("{order}/payments"),     CAPTURE.replace("1530", "0"),                     "invalid_amount",   "amount"),
        (format!("{order}/payments"),     CAPTURE.replace("captured", "taken"),             "invalid_status",   "status"),
        (format!("{order}/payments"),     CAPTURE.replace("pi_1", ""),                      "invalid_provider_payment_id", "provider_payment_id"),
        (format!("{order}/payments"),     "{}".to_owned(),                                  "missing_field",    "provider_payment_id"),
        (format!("{order}/cancel"),       r#"{"reason":"timeout"}"#.to_owned(),             "invalid_reason",   "reason"),
        (format!("{order}/cancel"),       r#"{"reason":"bored"}"#.to_owned(),               "invalid_reason",   "reason"),
        (format!("{order}/cancel"),       r#"{"reason":"user","operator":"system"}"#.to_owned(), "invalid_operator", "operator"),
        (format!("{order}/cancel"),       r#"{"reason":"user","lines":[]}"#.to_owned(),     "invalid_lines",    "lines"),
        (format!("{order}/cancel"),       r#"{"reason":"user","lines":[{"line":0,"quantity":1}]}"#.to_owned(), "invalid_line", "lines[0].line"),
        (format!("{order}/cancel"),       r#"{"reason":"user","lines":[{"line":1,"quantity":0}]}"#.to_owned(), "invalid_quantity", "lines[0].quantity"),
        (format!("{order}/cancel"),       r#"{"reason":"user","lines":[{"line":1,"quantity":1},{"line":1,"quantity":1}]}"#.to_owned(), "invalid_line", "lines[1].line"),
        (format!("{order}/fulfilments"),  r#"{"lines":[]}"#.to_owned(),                     "invalid_lines",    "lines"),
        (format!("{order}/fulfilments"),  r#"{"warehouse":"north"}"#.to_owned(),            "unsupported",      "warehouse"),
        (format!("{order}/refunds"),      "{}".to_owned(),                                  "missing_field",    "amount"),
        (format!("{order}/payments"),     CAPTURE.replace('{', r#"{"provider":"","#),           "invalid_provider", "provider"),
        (format!("{order}/payments"),     CAPTURE.replace('{', r#"{"part":"","#),               "invalid_part",     "part"),
        (format!("{order}/payments"),     CAPTURE.replace('{', r#"{"occurred_at":"now","#),     "invalid_occurred_at", "occurred_at"),
        (format!("{order}/refunds"),      r#"{"carriage":-1}"#.to_owned(),                      "invalid_carriage", "carriage"),
        (format!("{order}/refunds"),      r#"{"tax":-1}"#.to_owned(),                           "invalid_tax",      "tax"),
        (format!("{order}/refunds"),      r#"{"amount":1,"provider":"cards"}"#.to_owned(),      "missing_field",    "provider_payment_id"),
        (format!("{order}/refunds"),      r#"{"amount":-1}"#.to_owned(),                    "invalid_amount",   "amount"),
        (format!("{order}/refunds/9-r1"), r#"{"status":"requested"}"#.to_owned(),           "invalid_status",   "status"),
        ("/v1/skus/A/receive".to_owned(), r#"{"quantity":0}"#.to_owned(),                   "invalid_quantity", "quantity"),
        ("/v1/skus/A/receive".to_owned(), r#"{"quantity":1,"warehouse":"north"}"#.to_owned(), "unsupported",    "warehouse"),
        ("/v1/skus/A/adjust".to_owned(),  r#"{"delta":0}"#.to_owned(),                      "invalid_delta",    "delta"),
        ("/v1/skus/A/adjust".to_owned(),  r#"{"delta":-9223372036854775808}"#.to_owned(),   "invalid_delta",    "delta"),
    ];
    for (path, body, code, param) in rows {
        let site = Site::new();
        let told = site.post(&path, "k", &body).await;
        refused(&site, &told, 422, code, Some(param), &format!("{path} {body}"));
    }
}

#[tokio::test]
async fn policies_that_are_not_built_yet() {
    let site = Site::new();
    for (body, param) in [
        (r#"{"name":"a","backorder_limit":5}"#, "backorder_limit"),
        (r#"{"name":"a","purchase_limit":{"quantity":2,"window":"day"}}"#, "purchase_limit"),
        (r#"{"name":"a","safety_stock":-1}"#, "safety_stock"),
    ] {
        let told = site.send(request("PUT", "/v1/skus/A", &[], body)).await;
        refused(&site, &told, 422, "unsupported", Some(param), body);
    }
    let told = site.post("/v1/orders?dry_run=true", "k", SMALLEST).await;
    refused(&site, &told, 422, "unsupported", Some("dry_run"), "dry run");
    assert_eq!(site.post("/v1/orders?dry_run=false", "k", SMALLEST).await.status, 201);
}

#[tokio::test]
async fn keys_are_required_and_visible() {
    let long = "k".repeat(256);
    let site = Site::new();
    for path in [
        "/v1/orders",
        "/v1/orders/9/payments",
        "/v1/orders/9/cancel",
        "/v1/orders/9/complete",
        "/v1/orders/9/fulfilments",
        "/v1/orders/9/refunds",
        "/v1/orders/9/refunds/9-r1",
        "/v1/fulfilments/9-f1/ship",
        "/v1/fulfilments/9-f1/deliver",
        "/v1/fulfilments/9-f1/cancel",
        "/v1/skus/A/receive",
        "/v1/skus/A/adjust",
    ] {
        #[rustfmt::skip]
        let rows = [
            (&[][..],                                                        "missing_idempotency_key"),
            (&[("idempotency-key", "")][..],                                 "missing_idempotency_key"),
            (&[("idempotency-key", "two words")][..],                        "invalid_idempotency_key"),
            (&[("idempotency-key", "\u{e9}")][..],                           "invalid_idempotency_key"),
            (&[("idempotency-key", long.as_str())][..],                      "invalid_idempotency_key"),
            (&[("idempotency-key", "a"), ("idempotency-key", "b")][..],      "invalid_idempotency_key"),
        ];
        for (headers, code) in rows {
            let told = site.send(request("POST", path, headers, SMALLEST)).await;
            refused(&site, &told, 400, code, Some("Idempotency-Key"), &format!("{path} {headers:?}"));
        }
    }
    let longest = "k".repeat(255);
    assert_eq!(site.post("/v1/orders", &longest, SMALLEST).await.status, 201);
    let told = site.post("/v1/orders", "k", &order(&[("/idempotency_key", json!("k"))])).await;
    assert_eq!(told.problem(), ("unknown_field".to_owned(), Some("idempotency_key".to_owned())));
}

#[tokio::test]
async fn headers_that_cannot_be_read() {
    let site = Site::new();
    for version in ["7", "\"\"", "\"x\"", "\"07\"", "\"1\", \"2\"", "W/\"1\"", ""] {
        let headers = [("idempotency-key", "k"), ("if-match", version)];
        let told = site.send(request("POST", "/v1/orders/9/complete", &headers, "")).await;
        refused(&site, &told, 400, "invalid_if_match", Some("If-Match"), version);
    }
    for token in ["", "3", "3:", ":1", "a:1", "3:-1", "3:01", "3:1:1", "4294967296:1"] {
        let told = site.send(request("GET", "/v1/orders/9", &[("grid-token", token)], "")).await;
        refused(&site, &told, 400, "invalid_grid_token", Some("Grid-Token"), token);
    }
    let headers = [("idempotency-key", "k"), ("content-encoding", "gzip")];
    let told = site.send(request("POST", "/v1/orders", &headers, SMALLEST)).await;
    refused(&site, &told, 415, "unsupported_encoding", Some("Content-Encoding"), "gzip");
}

#[tokio::test]
async fn urls_that_lead_nowhere() {
    let site = Site::new();
    #[rustfmt::skip]
    let rows = [
        ("GET",    "/",                                   404, "no_such_route"),
        ("GET",    "/v1/orders/1/nothing",                404, "no_such_route"),
        ("GET",    "/v1/orders/1/",                       404, "no_such_route"),
        ("GET",    "/v1/skus/",                           404, "no_such_route"),
        ("DELETE", "/v1/orders/1",                        405, "method_not_allowed"),
        ("PUT",    "/v1/orders",                          405, "method_not_allowed"),
        ("GET",    "/v1/orders",                          422, "invalid_reference"),
        ("GET",    "/v1/orders?reference=",               422, "invalid_reference"),
        ("GET",    "/v1/orders?reference=a%0Ab",          422, "invalid_reference"),
        ("GET",    "/v1/orders?reference=a&user_id=",     422, "invalid_user_id"),
        ("GET",    "/v1/orders?reference=a&page=2",       400, "unknown_parameter"),
        ("GET",    "/v1/users/u/orders?reference=a&size=2", 422, "invalid_reference"),
        ("POST",   "/metrics",                            405, "method_not_allowed"),
        ("GET",    "/v1/orders/abc",                      404, "no_such_order"),
        ("GET",    "/v1/orders/007",                      404, "no_such_order"),
        ("GET",    "/v1/orders/18446744073709551616",     404, "no_such_order"),
        ("GET",    "/v1/orders/7",                        404, "no_such_order"),
        ("GET",    "/v1/orders/x/status-history",         404, "no_such_order"),
        ("GET",    "/v1/skus/nothing",                    404, "no_such_sku"),
        ("POST",   "/v1/orders/x/complete",               404, "no_such_order"),
        ("POST",   "/v1/fulfilments/9/ship",              404, "no_such_fulfilment"),
        ("POST",   "/v1/fulfilments/9-r1/ship",           404, "no_such_fulfilment"),
        ("POST",   "/v1/orders/9/refunds/1",              404, "no_such_refund"),
        ("POST",   "/v1/orders/9/refunds/8-r1",           404, "no_such_refund"),
        ("GET",    "/v1/skus/%ff",                        422, "invalid_sku"),
        ("GET",    "/v1/skus/a%0Ab",                      422, "invalid_sku"),
        ("GET",    "/v1/users/%ff/orders",                422, "invalid_user_id"),
        ("GET",    "/v1/users/%/orders",                  400, "malformed_path"),
        ("GET",    "/v1/skus/100%",                       400, "malformed_path"),
        ("GET",    "/v1/skus/a%2",                        400, "malformed_path"),
        ("GET",    "/v1/skus/a%+1b",                      400, "malformed_path"),
        ("GET",    "/v1/orders/%zz",                      400, "malformed_path"),
        ("POST",   "/v1/orders/9/refunds/%g1",            400, "malformed_path"),
    ];
    for (method, path, status, code) in rows {
        let told = site.send(request(method, path, &[("idempotency-key", "k")], "{}")).await;
        assert_eq!((told.status, told.problem().0.as_str()), (status, code), "{method} {path}");
        assert_eq!(told.header("allow").is_some(), status == 405, "{method} {path}");
    }
    assert_eq!(site.grid.asked(), []);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let site = Site::new();
    for (path, allow) in [
        ("/v1/orders", "POST,GET,HEAD"),
        ("/v1/orders/7", "GET,HEAD"),
        ("/v1/skus/a", "GET,HEAD,PUT"),
        ("/admin/v1/cluster/verify", "GET,HEAD,POST"),
    ] {
        let told = site.send(request("DELETE", path, &[], "")).await;
        assert_eq!((told.status, told.header("allow")), (405, Some(allow)), "{path}");
    }
}

#[tokio::test]
async fn query_parameters_are_closed() {
    let site = Site::new();
    #[rustfmt::skip]
    let rows = [
        ("/v1/orders/9?fields=id",                        400, "unknown_parameter",   "fields"),
        ("/v1/orders/9?consistency=weak",                 422, "invalid_consistency", "consistency"),
        ("/v1/orders/9?consistency=stale&consistency=x",  422, "invalid_parameter",   "consistency"),
        ("/v1/orders/9?consistency=%ff",                  422, "invalid_parameter",   "consistency"),
        ("/v1/users/u/orders?page=0",                     422, "invalid_page",        "page"),
        ("/v1/users/u/orders?page=x",                     422, "invalid_page",        "page"),
        ("/v1/users/u/orders?size=101",                   422, "invalid_size",        "size"),
        ("/v1/users/u/orders?size=0",                     422, "invalid_size",        "size"),
        ("/v1/users/u/orders?status=lost",                422, "invalid_status",      "status"),
        ("/v1/users/u/orders?cursor=x",                   422, "invalid_cursor",      "cursor"),
        ("/v1/users/u/orders?cursor=5&page=2",            422, "invalid_cursor",      "cursor"),
        ("/v1/users/u/orders?limit=5",                    400, "unknown_parameter",   "limit"),
        ("/admin/v1/cluster/status?x",                    400, "unknown_parameter",   "x"),
        ("/readyz?x",                                     400, "unknown_parameter",   "x"),
    ];
    for (path, status, code, param) in rows {
        refused(&site, &site.get(path).await, status, code, Some(param), path);
    }
    for path in ["/v1/orders?x=1", "/v1/orders/9/cancel?x=1", "/v1/skus/A/receive?x=1", "/v1/orders/batch?x=1"] {
        let told = site.post(path, "k", SMALLEST).await;
        refused(&site, &told, 400, "unknown_parameter", Some("x"), path);
    }
}

/// A body whose size is not told before.
fn streamed(chunks: usize, size: usize) -> Body {
    let chunk = move |_| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![b' '; size])));
    Body::new(StreamBody::new(stream::iter((0..chunks).map(chunk))))
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let site = Site::tight();
    let fits = format!("{SMALLEST}{}", " ".repeat(2_000 - SMALLEST.len()));
    assert_eq!(site.post("/v1/orders", "k1", &fits).await.status, 201);
    let site = Site::tight();
    let told = site.post("/v1/orders", "k2", &format!("{fits} ")).await;
    refused(&site, &told, 413, "body_too_large", None, "told before");
    for (path, chunks) in [("/v1/orders", 3), ("/v1/orders/9/cancel", 3), ("/v1/orders/batch", 5), ("/v1/skus/A/receive", 3)] {
        let request = Request::post(path).header("idempotency-key", "k").body(streamed(chunks, 1_000)).expect("valid");
        refused(&site, &site.send(request).await, 413, "body_too_large", None, path);
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_must_arrive_in_time_and_whole() {
    let site = Site::tight();
    let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
    let request = Request::post("/v1/orders").header("idempotency-key", "k").body(Body::new(never)).expect("valid");
    refused(&site, &site.send(request).await, 408, "body_too_slow", None, "never");
    let cut = stream::iter([Ok(Frame::data(Bytes::from("{"))), Err(std::io::Error::other("gone"))]);
    let request = Request::post("/v1/orders").header("idempotency-key", "k").body(Body::new(StreamBody::new(cut)));
    let told = site.send(request.expect("valid")).await;
    refused(&site, &told, 400, "incomplete_body", None, "cut off");
}

#[tokio::test]
async fn bodies_share_what_memory_there_is() {
    let account = Account::new(1 << 20);
    let site = Site::with(ordergrid_api::Limits { account: account.clone(), ..ordergrid_api::Limits::default() });
    let padded = |size: usize| format!("{SMALLEST}{}", " ".repeat(size - SMALLEST.len()));
    let most = usize::try_from(account.largest_body()).expect("small");
    let told = site.post("/v1/orders", "k", &padded(most + 1)).await;
    refused(&site, &told, 503, "overloaded", None, "larger than there can be memory for");
    assert_eq!(told.headers["retry-after"], "1");
    let fits = padded(most / 2);
    for key in ["a", "b", "c"] {
        assert_eq!(site.post("/v1/orders", key, &fits).await.status, 201, "the memory is given back");
    }
    assert_eq!(account.taken(Use::Bodies), 0);
    // A body that does not say how large it is takes its memory as it comes, and one that stops coming no more than that.
    let part = Bytes::from(padded(8 << 10));
    let slow = stream::iter([Ok(Frame::data(part))]).chain(stream::pending::<Result<_, std::io::Error>>());
    let request = Request::post("/v1/orders").header("idempotency-key", "d").body(Body::new(StreamBody::new(slow)));
    {
        let mut slow = std::pin::pin!(site.send(request.expect("valid")));
        assert!(futures::poll!(slow.as_mut()).is_pending() && futures::poll!(slow.as_mut()).is_pending());
        assert_eq!(account.taken(Use::Bodies), Account::cost_of_body(8 << 10));
        assert_eq!(site.post("/v1/orders", "e", &fits).await.status, 201, "there is room beside it");
    }
    assert_eq!(account.taken(Use::Bodies), 0, "given back when nobody waits any more");
}
