//! Batches of commands: each is what it would be as a request of its own.

use ordergrid_api::wire::{self, Command, CommandBatch};
use serde_json::{Value, json};

use crate::site::{Site, Told, expected, request, results};

const PATH: &str = "/v1/commands/batch";

async fn batch(site: &Site, query: &str, commands: &[Value]) -> Told {
    site.send(request("POST", &format!("{PATH}{query}"), &[], &json!({"commands": commands}).to_string())).await
}

/// An order that waits for 100.
async fn placed(site: &Site, key: &str) -> String {
    let line = json!({"sku": "A", "quantity": 1, "unit_price": 100});
    let order = json!({"user_id": "u", "currency": "GBP", "lines": [line]}).to_string();
    let told = site.send(request("POST", "/v1/orders", &[("Idempotency-Key", key)], &order)).await;
    told.json()["id"].as_str().expect("an id").to_owned()
}

fn payment(id: &str) -> Value {
    json!({"provider_payment_id": id, "status": "captured", "amount": 100, "currency": "GBP"})
}

fn command(path: &str, key: &str, body: &Value) -> Value {
    json!({"path": path, "idempotency_key": key, "body": body})
}

#[tokio::test]
async fn each_command_has_its_own_result_and_an_order_goes_through_its_life() {
    let site = Site::new();
    let (first, second) = (placed(&site, "k1").await, placed(&site, "k2").await);
    let pay = |order: &str, key: &str| command(&format!("/v1/orders/{order}/payments"), key, &payment(order));
    let mut stale = pay(&second, "p2");
    stale["if_version"] = json!(7);
    let told = batch(&site, "", &[pay(&first, "p1"), stale, pay("9", "p3")]).await;
    assert_eq!(results(&told), expected(&[(201, "paid"), (412, "stale_version"), (404, "no_such_order")]));
    assert_eq!(told.json()["results"][0]["token"], json!("3:1234"));

    let pick = json!({"path": format!("/v1/orders/{first}/fulfilments"), "idempotency_key": "f1"});
    let told = batch(&site, "?return=minimal", &[pick, pay(&second, "p2")]).await;
    let parcel = told.json()["results"][0]["created"].as_str().expect("a fulfilment").to_owned();
    let words = json!({"id": first, "phase": "confirmed", "status": "paid", "payment_status": "paid"});
    assert_eq!(told.json()["results"][0], json!({"status": 201, "token": "3:1234", "created": parcel, "order": words}));
    assert_eq!(results(&told), expected(&[(201, "paid"), (201, "paid")]));

    let ship = command(&format!("/v1/fulfilments/{parcel}/ship"), "s1", &json!({"carrier": "Royal Mail"}));
    let deliver = command(&format!("/v1/fulfilments/{parcel}/deliver"), "d1", &json!({}));
    let told = batch(&site, "", &[ship, deliver]).await;
    assert_eq!(results(&told), expected(&[(200, "shipped"), (200, "delivered")]), "in the order in which they stand");
    let whole: wire::Batch = serde_json::from_slice(&told.bytes).expect("a batch");
    let single: wire::Order = serde_json::from_slice(&site.get(&format!("/v1/orders/{first}")).await.bytes).expect("an order");
    assert_eq!(whole.results[1].order, Some(wire::BatchOrder::Whole(Box::new(single))));
}

#[tokio::test]
async fn a_command_of_a_batch_is_the_same_as_one_by_itself() {
    let site = Site::new();
    let order = placed(&site, "k1").await;
    let path = format!("/v1/orders/{order}/payments");
    let single = site.send(request("POST", &path, &[("Idempotency-Key", "p1")], &payment("p").to_string())).await;
    assert_eq!(single.status, 201);
    batch(&site, "", &[command(&path, "p1", &payment("p"))]).await;
    let asked = site.grid.asked();
    assert!(asked.len() == 3 && asked[1] == asked[2], "down to the hash of the body: {asked:?}");
}

#[tokio::test]
async fn a_command_that_cannot_be_read_does_not_spoil_the_others() {
    let site = Site::new();
    let order = placed(&site, "k1").await;
    let path = format!("/v1/orders/{order}/payments");
    let mut misspelt = command(&path, "p1", &payment("p"));
    misspelt["versoin"] = json!(1);
    let mut wrong = payment("p");
    wrong["amount"] = json!("100");
    let mut unknown = payment("p");
    unknown["note"] = json!("x");
    #[rustfmt::skip]
    let commands = [
        (misspelt,                                                        400, "unknown_field",           "versoin"),
        (json!(7),                                                        422, "invalid_body",            ""),
        (json!({"idempotency_key": "p1"}),                                422, "missing_field",           "path"),
        (json!({"path": path}),                                           400, "missing_idempotency_key", "idempotency_key"),
        (json!({"path": path, "idempotency_key": "p1"}),                  400, "malformed_json",          ""),
        (command(&path, "two words", &payment("p")),                      400, "invalid_idempotency_key", "idempotency_key"),
        (command("/v1/orders/17/paymens", "p1", &payment("p")),           404, "no_such_route",           "path"),
        (command("/v1/orders", "p1", &json!({})),                         404, "no_such_route",           "path"),
        (command("/v1/orders/x/payments", "p1", &payment("p")),           404, "no_such_order",           "path"),
        (command("/v1/fulfilments/x/ship", "p1", &json!({})),             404, "no_such_fulfilment",      "path"),
        (command(&format!("/v1/orders/{order}/refunds/1-r1"), "p1", &json!({"status": "failed"})), 404, "no_such_refund", "path"),
        (command(&path, "p1", &wrong),                                    422, "invalid_amount",          "amount"),
        (command(&path, "p1", &unknown),                                  400, "unknown_field",           "note"),
        (json!({"path": path, "idempotency_key": "p1", "if_version": "1"}), 422, "invalid_if_version",    "if_version"),
        (json!({"path": 7, "idempotency_key": "p1"}),                     422, "invalid_path",            "path"),
    ];
    let before = site.grid.asked().len();
    for (command, status, code, param) in &commands {
        let good = json!({"path": format!("/v1/orders/{order}/complete"), "idempotency_key": "c"});
        let told = batch(&site, "", &[command.clone(), good]).await;
        assert_eq!(results(&told)[0], (*status, (*code).to_owned()), "{command}");
        let param = if param.is_empty() { Value::Null } else { json!(param) };
        assert_eq!(told.json()["results"][0]["error"]["param"], param, "{command}");
    }
    assert_eq!(site.grid.asked().len(), before + commands.len(), "the other command is asked each time, and nothing else");
}

#[tokio::test]
async fn a_batch_as_a_whole_can_be_refused() {
    let site = Site::tight();
    let good = command("/v1/orders/17/payments", "p", &payment("p"));
    #[rustfmt::skip]
    let rows = [
        ("", "{\"commands\":[".to_owned(),                            400, "malformed_json",    None),
        ("", "{}".to_owned(),                                         422, "missing_field",     Some("commands")),
        ("", json!({"commands": []}).to_string(),                     422, "invalid_commands",  Some("commands")),
        ("", json!({"commands": 7}).to_string(),                      422, "invalid_commands",  Some("commands")),
        ("", json!({"commands": vec![good.clone(); 4]}).to_string(),  422, "too_many_commands", Some("commands")),
        ("?return=all", json!({"commands": [good]}).to_string(),      422, "invalid_parameter", Some("return")),
    ];
    for (query, body, status, code, param) in rows {
        let told = site.send(request("POST", &format!("{PATH}{query}"), &[], &body)).await;
        assert_eq!((told.status, told.problem()), (status, (code.to_owned(), param.map(str::to_owned))), "{body}");
        assert_eq!(site.grid.asked(), [], "{body}");
    }
}

#[tokio::test]
async fn depth_overflows_no_stack() {
    let site = Site::new();
    for nested in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "[".repeat(50_000) + &"]".repeat(50_000)] {
        let body = format!(r#"{{"commands":[{{"path":"/v1/orders/17/payments","idempotency_key":"p","body":{nested}}}]}}"#);
        let told = site.send(request("POST", PATH, &[], &body)).await;
        assert!(told.status == 400 || results(&told)[0].0 >= 400, "{told:?}");
    }
    assert_eq!(site.grid.asked(), []);
}

#[tokio::test]
async fn the_typed_client_writes_what_the_server_reads() {
    let site = Site::new();
    let order = placed(&site, "k1").await;
    let command = Command {
        path: format!("/v1/orders/{order}/payments"),
        idempotency_key: ordergrid_domain::Key::new("p1").expect("a key"),
        if_version: None,
        body: Some(payment("p")),
    };
    let batch = serde_json::to_string(&CommandBatch { commands: vec![command] }).expect("it can be written");
    assert_eq!(results(&site.send(request("POST", PATH, &[], &batch)).await), expected(&[(201, "paid")]));
}
