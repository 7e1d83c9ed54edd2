//! Batches: every order has its own result, in its own place, and none can spoil another.

use ordergrid_api::wire::{self, BatchOrder};
use ordergrid_api::{Failure, UnknownCause};
use serde_json::{Value, json};

use crate::scripted::{Asked, Script};
use crate::site::{Site, Told, expected, request, results};

const PATH: &str = "/v1/orders/batch";

fn order(key: &str, sku: &str) -> Value {
    let line = json!({"sku": sku, "quantity": 1, "unit_price": 100});
    json!({"idempotency_key": key, "user_id": "u", "currency": "GBP", "lines": [line]})
}

async fn batch(site: &Site, query: &str, orders: &[Value]) -> Told {
    site.send(request("POST", &format!("{PATH}{query}"), &[], &json!({"orders": orders}).to_string())).await
}

#[tokio::test]
async fn each_order_has_its_own_result() {
    let site = Site::new();
    site.grid.runs_out_of("gone", 0);
    let mut wrong = order("k3", "A");
    wrong["lines"][0]["quantity"] = json!(0);
    let mut keyless = order("", "A");
    keyless.as_object_mut().expect("an object").remove("idempotency_key");
    let mut other = order("k1", "B");
    other["total"] = json!(100);
    let orders = [order("k1", "A"), order("k2", "gone"), wrong, keyless, order("k1", "A"), other, order("k4", "A")];
    let told = batch(&site, "", &orders).await;
    let rows = expected(&[
        (201, "pending_payment"),
        (409, "out_of_stock"),
        (422, "invalid_quantity"),
        (400, "missing_idempotency_key"),
        (201, "pending_payment"),
        (422, "idempotency_key_reused"),
        (201, "pending_payment"),
    ]);
    assert_eq!(results(&told), rows);

    let json = told.json();
    assert_eq!(json["results"][1]["error"]["lines"], json!([{"line": 1, "sku": "gone", "asked": 1, "available": 0}]));
    assert_eq!(json["results"][1]["error"]["param"], json!("lines[0].quantity"));
    assert_eq!(json["results"][1]["error"]["request_id"].as_str(), told.header("x-request-id"));
    assert_eq!((&json["results"][0]["replayed"], &json["results"][4]["replayed"]), (&Value::Null, &json!(true)));
    assert_eq!(json["results"][0]["order"]["id"], json["results"][4]["order"]["id"]);
    assert_eq!(json["results"][0]["token"], json!("3:1234"));
    let asked = site.grid.asked();
    let keys = asked.iter().map(|asked| match asked {
        Asked::Place(request) => request.key.as_str(),
        _ => panic!("only orders are placed"),
    });
    assert_eq!(keys.collect::<Vec<_>>(), ["k1", "k2", "k1", "k1", "k4"]);
}

#[tokio::test]
async fn an_order_that_cannot_be_read_does_not_spoil_the_others() {
    let site = Site::new();
    let mut unknown = order("k1", "A");
    unknown["qty"] = json!(1);
    let mut mistyped = order("k2", "A");
    mistyped["lines"][0]["quantity"] = json!("1");
    let mut spaced = order("k3", "A");
    spaced["idempotency_key"] = json!("two words");
    let orders = [unknown, order("k4", "A"), mistyped, json!(7), spaced, order("k5", "A")];
    let told = batch(&site, "", &orders).await;
    let rows = expected(&[
        (400, "unknown_field"),
        (201, "pending_payment"),
        (422, "invalid_quantity"),
        (422, "invalid_body"),
        (400, "invalid_idempotency_key"),
        (201, "pending_payment"),
    ]);
    assert_eq!(results(&told), rows);
    assert_eq!(told.json()["results"][2]["error"]["param"], json!("lines[0].quantity"));
    assert_eq!(site.grid.asked().len(), 2);
}

#[tokio::test]
async fn whole_and_minimal_results_are_what_the_client_reads() {
    let site = Site::new();
    site.grid.runs_out_of("gone", 0);
    let orders = [order("k1", "A"), order("k2", "gone")];
    let whole: wire::Batch = serde_json::from_slice(&batch(&site, "", &orders).await.bytes).expect("a batch");
    let Some(BatchOrder::Whole(placed)) = &whole.results[0].order else {
        panic!("not whole: {whole:?}");
    };
    let single: wire::Order =
        serde_json::from_slice(&site.get(&format!("/v1/orders/{}", placed.id)).await.bytes).expect("an order");
    assert_eq!(**placed, single);

    let told = batch(&site, "?return=minimal", &orders).await;
    let expected = json!({"results": [
        {"status": 201, "replayed": true, "token": "3:1234", "order":
            {"id": placed.id.to_string(), "phase": "pending_payment", "status": "pending_payment", "payment_status": "unpaid"}},
        {"status": 409, "error": {"code": "out_of_stock", "retryable": false, "outcome": "refused"}},
    ]});
    assert_eq!(told.json(), expected);
    let minimal: wire::Batch = serde_json::from_slice(&told.bytes).expect("a batch");
    assert_eq!(minimal.results[0].order.as_ref().map(BatchOrder::id), Some(placed.id));
    assert_eq!(minimal.results[1].error.as_ref().map(|error| error.code.as_str()), Some("out_of_stock"));
}

#[tokio::test]
async fn a_batch_as_a_whole_can_be_refused() {
    let site = Site::tight();
    let good = order("k", "A");
    #[rustfmt::skip]
    let rows = [
        ("", "{\"orders\":[".to_owned(),                          400, "malformed_json",    None),
        ("", "{}".to_owned(),                                     422, "missing_field",     Some("orders")),
        ("", "[]".to_owned(),                                     422, "invalid_body",      None),
        ("", json!({"orders": []}).to_string(),                   422, "invalid_orders",    Some("orders")),
        ("", json!({"orders": 7}).to_string(),                    422, "invalid_orders",    Some("orders")),
        ("", json!({"orders": vec![good.clone(); 4]}).to_string(), 422, "too_many_orders",  Some("orders")),
        ("?return=all", json!({"orders": [good]}).to_string(),    422, "invalid_parameter", Some("return")),
    ];
    for (query, body, status, code, param) in rows {
        let told = site.send(request("POST", &format!("{PATH}{query}"), &[], &body)).await;
        assert_eq!((told.status, told.problem()), (status, (code.to_owned(), param.map(str::to_owned))), "{body}");
        assert_eq!(site.grid.asked(), [], "{body}");
    }
}

#[tokio::test]
async fn one_unknown_outcome_is_of_one_order() {
    let site = Site::new();
    site.grid.script(Script::Fails(Failure::unknown(UnknownCause::LeaderChanged)));
    let told = batch(&site, "", &[order("k1", "A")]).await;
    assert_eq!(results(&told), expected(&[(503, "outcome_unknown")]));
    assert_eq!(told.json()["results"][0]["error"]["outcome"], json!("unknown"));
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_an_answer_in_time_is_unknown_order_by_order() {
    let site = Site::tight();
    site.grid.script(Script::Hangs);
    let mut wrong = order("k2", "A");
    wrong["currency"] = json!("?");
    let told = batch(&site, "", &[order("k1", "A"), wrong, order("k3", "A")]).await;
    assert_eq!(results(&told), expected(&[(504, "timed_out"), (422, "invalid_currency"), (504, "timed_out")]));
}
