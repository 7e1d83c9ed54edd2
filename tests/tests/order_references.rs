//! The shop's own number of an order: whose it is, when it is free again, and that the order is found by it.

use anyhow::{Context, Result};
use hyper::Method;
use ordergrid_tests::{Dev, Grid, Http, Shop, id};
use serde_json::{Value, json};

const ORDERS: &str = "/v1/orders";

/// One unit of A under a reference.
fn order(user: &str, reference: &str) -> Value {
    let line = json!({"sku": "A", "quantity": 1, "unit_price": 100});
    json!({"user_id": user, "currency": "GBP", "reference": reference, "lines": [line]})
}

/// Whether the orders that a path finds are these, newest first.
async fn finds(http: &mut Http, path: &str, ids: &[&String]) -> Result<()> {
    let page = http.get(path).await?.expect(200)?;
    let found = page["orders"].as_array().context("a list")?.iter().map(id).collect::<Result<Vec<_>>>()?;
    assert_eq!(found.iter().collect::<Vec<_>>(), ids, "{path}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_is_free_again_after_the_end_and_finds_its_order() -> Result<()> {
    let dev = Dev::start(3)?;
    let urls = dev.urls();
    let mut shop = Shop::open(&urls[0], "user").await?;
    shop.stock("A", 20).await?;
    let mut http = Http::connect(&urls[1]).await?;
    let first = id(&http.post(ORDERS, &Shop::key(), &order("user", "2024-42")).await?.expect(201)?)?;
    let other = id(&http.post(ORDERS, &Shop::key(), &order("other", "2024-42")).await?.expect(201)?)?;
    let taken = http.post(ORDERS, &Shop::key(), &order("user", "2024-42")).await?;
    assert_eq!(taken.verdict(), (409, "reference_taken".to_owned()), "{}", taken.text());
    assert_eq!(taken.json()?["order_id"], json!(first));
    shop.command(&first, "cancel", &json!({"reason": "user"})).await?.expect(200)?;
    let second = id(&http.post(ORDERS, &Shop::key(), &order("user", "2024-42")).await?.expect(201)?)?;
    // Every node finds the orders that have it now.
    for url in urls {
        let mut http = Http::connect(url).await?;
        finds(&mut http, "/v1/orders?reference=2024-42&user_id=user", &[&second]).await?;
        finds(&mut http, "/v1/users/other/orders?reference=2024-42", &[&other]).await?;
        finds(&mut http, "/v1/orders?reference=2024-42", &[&second, &other]).await?;
        finds(&mut http, "/v1/orders?reference=2024", &[]).await?;
    }
    dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_may_be_good_for_one_order_only() -> Result<()> {
    let grid = Grid::start_with(1, "[orders]\nreference_reuse = \"never\"\n")?;
    let mut shop = Shop::open(&grid.url(1), "user").await?;
    shop.stock("A", 5).await?;
    let key = Shop::key();
    let placed = id(&shop.http.post(ORDERS, &key, &order("user", "once")).await?.expect(201)?)?;
    shop.command(&placed, "cancel", &json!({"reason": "user"})).await?.expect(200)?;
    let refused = shop.http.post(ORDERS, &Shop::key(), &order("user", "once")).await?;
    assert_eq!(refused.verdict(), (409, "reference_taken".to_owned()), "{}", refused.text());
    let again = shop.http.post(ORDERS, &key, &order("user", "once")).await?;
    assert!(again.replayed() && again.status == 201, "{}", again.text());
    let keyed = |reference: &str| {
        let mut order = order("user", reference);
        order["idempotency_key"] = json!(Shop::key());
        order
    };
    let batch = json!({"orders": [keyed("once"), keyed("other"), keyed("once")]}).to_string();
    let answer = shop.http.send(Method::POST, "/v1/orders/batch", &[], batch).await?.expect(200)?;
    let statuses: Vec<_> = answer["results"].as_array().context("results")?.iter().map(|one| one["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(409), Some(201), Some(409)], "{answer}");
    Ok(())
}
