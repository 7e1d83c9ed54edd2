//! Many orders through their whole lives, each step for all of them at once, over all shards and any node.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use hyper::Method;
use ordergrid_tests::{Dev, Shop, captured, until};
use serde_json::{Value, json};

const USERS: usize = 40;

/// The results of a batch at a path.
async fn ask(shop: &mut Shop, path: &str, name: &str, items: Vec<Value>) -> Result<Vec<Value>> {
    let body = json!({ name: items }).to_string();
    let answer = shop.http.send(Method::POST, path, &[], body).await?.expect(200)?;
    Ok(answer["results"].as_array().context("a list")?.clone())
}

async fn commands(shop: &mut Shop, commands: Vec<Value>) -> Result<Vec<Value>> {
    ask(shop, "/v1/commands/batch", "commands", commands).await
}

fn texts(results: &[Value], what: impl Fn(&Value) -> &Value) -> Result<Vec<String>> {
    results.iter().map(|result| Ok(what(result).as_str().with_context(|| format!("no text in {result}"))?.to_owned())).collect()
}

fn command(path: String, key: String) -> Value {
    json!({"path": path, "idempotency_key": key})
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_many_users_live_in_batches() -> Result<()> {
    let dev = Dev::start(3)?;
    let mut shop = Shop::open(&dev.urls()[0], "user").await?;
    shop.stock("A", 100).await?;
    let order = |user: usize| {
        let mut order = shop.order_of("A", 1, 100);
        order["user_id"] = json!(format!("user-{user}"));
        order["idempotency_key"] = json!("k");
        order
    };
    let orders: Vec<_> = (0..USERS).map(order).collect();
    let placed = ask(&mut shop, "/v1/orders/batch", "orders", orders).await?;
    let orders = texts(&placed, |result| &result["order"]["id"])?;
    let tokens = texts(&placed, |result| &result["token"])?;
    let shards: BTreeSet<_> = tokens.iter().filter_map(|token| token.split(':').next()).collect();
    assert!(shards.len() > 1, "users are spread over shards: {shards:?}");

    // Money comes twice under one key, and once more under another for what is paid.
    let pay = |order: &String, key: &str| {
        let mut pay = command(format!("/v1/orders/{order}/payments"), key.to_owned());
        pay["body"] = captured(&format!("pi-{order}"), 100);
        pay
    };
    let twice = orders.iter().flat_map(|order| [pay(order, "p"), pay(order, "p")]).collect();
    let paid = commands(&mut shop, twice).await?;
    for pair in paid.chunks(2) {
        assert_eq!((&pair[0]["status"], &pair[1]["status"]), (&json!(201), &json!(201)), "{pair:?}");
        assert_eq!((&pair[0]["replayed"], &pair[1]["replayed"]), (&json!(null), &json!(true)), "{pair:?}");
        assert_eq!((&pair[0]["replayed_version"], &pair[1]["replayed_version"]), (&json!(null), &json!(2)), "{pair:?}");
        assert_eq!(pair[0]["order"], pair[1]["order"]);
    }

    let picks = orders.iter().map(|order| command(format!("/v1/orders/{order}/fulfilments"), "f".into())).collect();
    let parcels = texts(&commands(&mut shop, picks).await?, |result| &result["created"])?;
    // One after the other in one batch, and the last one too early.
    let steps = parcels.iter().flat_map(|parcel| {
        let step = |verb: &str, key: &str| command(format!("/v1/fulfilments/{parcel}/{verb}"), key.to_owned());
        [step("ship", "s"), step("deliver", "d"), step("cancel", "c")]
    });
    let went = commands(&mut shop, steps.collect()).await?;
    for steps in went.chunks(3) {
        let ends = (&steps[0]["order"]["status"], &steps[1]["order"]["status"], &steps[2]["error"]["code"]);
        assert_eq!(ends, (&json!("shipped"), &json!("delivered"), &json!("wrong_fulfilment_state")), "{steps:?}");
    }
    // Asked again, a command says which version it made; the order is as it stands now.
    let first = &orders[0];
    let paid = shop.http.post(&format!("/v1/orders/{first}/payments"), "p", &captured(&format!("pi-{first}"), 100)).await?;
    let (replayed, paid) = (paid.replayed(), paid.expect(201)?);
    assert_eq!((replayed, &paid["replayed_version"], &paid["status"]), (true, &json!(2), &json!("delivered")), "{paid}");
    assert!(paid["version"].as_u64() > Some(2), "{paid}");
    let picked = shop.http.post(&format!("/v1/orders/{first}/fulfilments"), "f", &json!({})).await?.expect(201)?;
    assert_eq!((&picked["id"], &picked["order"]["replayed_version"]), (&json!(parcels[0]), &json!(3)), "{picked}");
    // The shards of other SKUs are told a little later than the answer is given.
    until("all that was shipped is sold", async || {
        let stock = shop.sku("A").await?["stock"].clone();
        Ok((stock["sold"] == USERS && stock["on_hand"] == 100 - USERS && stock["committed"] == 0).then_some(()))
    })
    .await?;
    dev.cli()?.verify()?;
    Ok(())
}
