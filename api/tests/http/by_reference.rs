//! Orders that are found by their reference, and SKUs that must be new.

use serde_json::json;

use crate::site::{Site, request};

#[tokio::test]
async fn orders_are_found_by_their_reference() {
    let site = Site::new();
    let place = |user: &str| json!({"user_id": user, "currency": "GBP", "reference": "INV/1 a", "lines": [{"sku": "A", "quantity": 1, "unit_price": 1}]});
    let mut ids = Vec::new();
    for user in ["u", "v"] {
        let told = site.post("/v1/orders", &format!("k-{user}"), &place(user).to_string()).await;
        assert_eq!(told.status, 201, "{}", told.json());
        ids.push(told.text("id"));
    }
    let mut newest_first: Vec<_> = ids.iter().collect();
    newest_first.sort_by(|one, other| other.cmp(one));
    #[rustfmt::skip]
    let cases = [
        ("/v1/orders?reference=INV/1%20a",            newest_first),
        ("/v1/orders?reference=INV%2F1+a&user_id=u",  vec![&ids[0]]),
        ("/v1/users/v/orders?reference=INV/1%20a",    vec![&ids[1]]),
        ("/v1/users/w/orders?reference=INV/1%20a",    vec![]),
        ("/v1/orders?reference=other",                vec![]),
    ];
    for (path, expected) in cases {
        let told = site.get(path).await;
        let json = told.json();
        let found: Vec<_> = json["orders"].as_array().expect("a list").iter().map(|order| order["id"].as_str()).collect();
        let expected: Vec<_> = expected.into_iter().map(|id| Some(id.as_str())).collect();
        assert_eq!((told.status, &found), (200, &expected), "{path}: {json}");
        assert_eq!(json["total"], json!(expected.len()), "{path}");
    }
}

#[tokio::test]
async fn a_sku_may_be_told_to_be_new() {
    let site = Site::new();
    let put = |header, value| request("PUT", "/v1/skus/A", &[(header, value)], r#"{"name":"a"}"#);
    assert_eq!(site.send(put("if-none-match", "*")).await.status, 201);
    let told = site.send(put("if-none-match", "*")).await;
    assert_eq!((told.status, told.problem()), (412, ("stale_version".to_owned(), Some("If-None-Match".to_owned()))));
    assert_eq!(
        (told.json()["current_version"].as_u64(), told.text("detail").as_str()),
        (Some(1), "the SKU exists, at version 1")
    );
    let both = [("if-none-match", "*"), ("if-match", "\"1\"")];
    let invalid = [
        put("if-none-match", "\"1\""),
        request("PUT", "/v1/skus/A", &both, r#"{"name":"a"}"#),
        request("POST", "/v1/skus/A/receive", &[("idempotency-key", "k"), ("if-none-match", "*")], r#"{"quantity":1}"#),
        request("POST", "/v1/orders/9/complete", &[("idempotency-key", "k"), ("if-none-match", "*")], "{}"),
    ];
    for refused in invalid {
        let told = site.send(refused).await;
        assert_eq!((told.status, told.problem().0.as_str()), (400, "invalid_if_none_match"), "{}", told.json());
    }
}
