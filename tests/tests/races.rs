//! Two things at once to one order, and one thing twice: whatever comes first, the answers fit together and nothing is lost.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use ordergrid_tests::{Dev, Http, Reply, Shop, captured, id, until};
use serde_json::{Value, json};

/// A grid of three nodes and a shop at each of them.
async fn three_shops(user: &str) -> Result<(Dev, [Shop; 3])> {
    let dev = Dev::start(3)?;
    let [first, second, third] = dev.urls() else { unreachable!("three were asked for") };
    let shops = [Shop::open(first, user).await?, Shop::open(second, user).await?, Shop::open(third, user).await?];
    Ok((dev, shops))
}

fn events(history: &Value, event: &str) -> Vec<Value> {
    let all = history["history"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|happening| happening["event"] == event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_comes_after_the_deadline_is_given_back() -> Result<()> {
    let (dev, [mut shop, ..]) = three_shops("late").await?;
    shop.stock("A", 5).await?;
    let mut body = shop.order_of("A", 2, 150);
    body["payment_window_seconds"] = json!(1);
    let order = id(&shop.http.post("/v1/orders", &Shop::key(), &body).await?.expect(201)?)?;

    let expired = until("the deadline cancels the order", async || {
        let order = shop.order(&order).await?;
        Ok((order["phase"] == "cancelled").then_some(order))
    })
    .await?;
    assert_eq!(expired["cancel_reason"], "timeout");
    until("its units are free", async || Ok((shop.sku("A").await?["stock"]["available"] == 5).then_some(()))).await?;

    let answer = shop.pay(&order, "pi_late", 300).await?;
    assert!(answer.status.is_success(), "{}", answer.text());
    let after = shop.order(&order).await?;
    assert_eq!((&after["phase"], &after["captured"], &after["refunded"]), (&json!("cancelled"), &json!(300), &json!(300)));
    assert_eq!(after["refunds"].as_array().map(Vec::len), Some(1), "{after}");
    assert_eq!(after["refunds"][0]["provider_payment_id"], "pi_late");
    assert_eq!(shop.sku("A").await?["stock"]["available"], 5);
    dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_payments_at_once_one_is_given_back() -> Result<()> {
    let (dev, [mut one, mut other, _]) = three_shops("twice").await?;
    one.stock("A", 100).await?;
    for round in 0..10 {
        let order = id(&one.place("A", 1, 500).await?)?;
        let (left, right) = (format!("pi_left_{round}"), format!("pi_right_{round}"));
        let (left, right) = tokio::try_join!(one.pay(&order, &left, 500), other.pay(&order, &right, 500))?;
        assert!(left.status.is_success() && right.status.is_success(), "{} {}", left.text(), right.text());
        let order = one.order(&order).await?;
        assert_eq!((&order["phase"], &order["captured"], &order["refunded"]), (&json!("confirmed"), &json!(1000), &json!(500)));
        assert_eq!(order["refunds"].as_array().map(Vec::len), Some(1), "{order}");
        assert_eq!(order["refunds"][0]["cause"], "surplus", "{order}");
    }
    dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_payment_told_twice_counts_once() -> Result<()> {
    let (dev, [mut one, mut other, _]) = three_shops("told-twice").await?;
    one.stock("A", 100).await?;
    for round in 0..10 {
        let order = id(&one.place("A", 1, 500).await?)?;
        let payment = format!("pi_{round}");
        let (left, right) = tokio::try_join!(one.pay(&order, &payment, 500), other.pay(&order, &payment, 500))?;
        assert!(left.status.is_success() && right.status.is_success(), "{} {}", left.text(), right.text());
        let order = one.order(&order).await?;
        assert_eq!((&order["phase"], &order["captured"], &order["refunded"]), (&json!("confirmed"), &json!(500), &json!(0)));
    }
    dev.cli()?.verify()?;
    Ok(())
}

/// Places and pays an order of two lines; its id.
async fn paid_pair(shop: &mut Shop) -> Result<String> {
    let mut body = shop.order_of("A", 2, 100);
    body["lines"].as_array_mut().context("lines")?.push(json!({"sku": "B", "quantity": 3, "unit_price": 10}));
    let order = id(&shop.http.post("/v1/orders", &Shop::key(), &body).await?.expect(201)?)?;
    let paid = shop.pay(&order, &format!("pi_{order}"), 230).await?;
    assert!(paid.status.is_success(), "{}", paid.text());
    Ok(order)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_meets_a_shipment_covers_what_is_not_picked() -> Result<()> {
    let (dev, [mut warehouse, mut buyer, _]) = three_shops("shipped").await?;
    warehouse.stock("A", 100).await?;
    warehouse.stock("B", 100).await?;
    for _ in 0..10 {
        let order = paid_pair(&mut warehouse).await?;
        let pick = json!({"lines": [{"line": 1, "quantity": 2}]});
        let parcel = id(&warehouse.command(&order, "fulfilments", &pick).await?.expect(201)?)?;
        let cancel = json!({"reason": "user"});
        let (shipped, cancelled) =
            tokio::try_join!(warehouse.parcel(&parcel, "ship"), buyer.command(&order, "cancel", &cancel))?;
        shipped.expect(200)?;
        cancelled.expect(200)?;
        let order = buyer.order(&order).await?;
        let line = |index: usize| (order["lines"][index]["shipped"].clone(), order["lines"][index]["cancelled"].clone());
        assert_eq!((line(0), line(1)), ((json!(2), json!(0)), (json!(0), json!(3))), "{order}");
        assert_eq!((&order["phase"], &order["refunded"]), (&json!("confirmed"), &json!(30)), "{order}");
    }
    dev.cli()?.verify()?;
    let sku = warehouse.sku("A").await?;
    assert_eq!((&sku["stock"]["sold"], &sku["stock"]["committed"]), (&json!(20), &json!(0)));
    assert_eq!(warehouse.sku("B").await?["stock"]["available"], 100);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_pick_and_cancel_one_wins_whole() -> Result<()> {
    let (dev, [mut warehouse, mut buyer, _]) = three_shops("picked").await?;
    warehouse.stock("A", 100).await?;
    warehouse.stock("B", 100).await?;
    for _ in 0..20 {
        let order = paid_pair(&mut warehouse).await?;
        let (everything, cancel) = (json!({}), json!({"reason": "user"}));
        let (picked, cancelled) =
            tokio::try_join!(warehouse.command(&order, "fulfilments", &everything), buyer.command(&order, "cancel", &cancel))?;
        let verdicts = (picked.verdict(), cancelled.verdict());
        let after = buyer.order(&order).await?;
        match (verdicts.0.0, verdicts.1.0) {
            (201, 409) => assert_eq!((&after["phase"], &after["refunded"]), (&json!("confirmed"), &json!(0)), "{verdicts:?}"),
            (409, 200) => assert_eq!((&after["phase"], &after["refunded"]), (&json!("cancelled"), &json!(230)), "{verdicts:?}"),
            _ => panic!("both, or neither: {verdicts:?} {after}"),
        }
    }
    dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_one_key_make_one_order() -> Result<()> {
    let (dev, [mut shop, ..]) = three_shops("keen").await?;
    shop.stock("A", 100).await?;
    let body = shop.order_of("A", 3, 99);
    let mut connections = Vec::new();
    for buyer in 0..24 {
        connections.push(Http::connect(&dev.urls()[buyer % 3]).await?);
    }
    let at_once: Vec<Reply> =
        try_join_all(connections.iter_mut().map(|connection| connection.post("/v1/orders", "one-key", &body))).await?;
    let later = shop.http.post("/v1/orders", "one-key", &body).await?;
    let first: Vec<&Reply> = at_once.iter().filter(|reply| !reply.replayed()).collect();
    assert_eq!(first.len(), 1, "{} answers claim to be the first", first.len());
    assert!(later.replayed());
    for reply in at_once.iter().chain([&later]) {
        assert_eq!(reply.expect(201)?, first[0].json()?);
    }
    let stock = shop.sku("A").await?;
    assert_eq!((&stock["stock"]["reserved"], &stock["stock"]["available"]), (&json!(3), &json!(97)));
    let orders = shop.http.get("/v1/users/keen/orders").await?.expect(200)?;
    assert_eq!(orders["orders"].as_array().map(Vec::len), Some(1));
    dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_used_again_with_another_body_changes_nothing() -> Result<()> {
    let (dev, [mut shop, mut elsewhere, _]) = three_shops("sly").await?;
    shop.stock("A", 10).await?;
    let (few, many) = (shop.order_of("A", 1, 100), shop.order_of("A", 2, 100));
    let order = shop.http.post("/v1/orders", "k", &few).await?.expect(201)?;
    let path = format!("/v1/orders/{}", id(&order)?);
    let payments = format!("{path}/payments");
    shop.http.post(&payments, "p", &captured("pi_1", 100)).await?.expect(201)?;
    let receive = "/v1/skus/A/receive";
    shop.http.post(receive, "r", &json!({"quantity": 5})).await?.expect(200)?;
    until("the SKU has heard of the payment", async || Ok((shop.sku("A").await?["stock"]["committed"] == 1).then_some(())))
        .await?;
    let before = (shop.order(&id(&order)?).await?, shop.sku("A").await?["stock"].clone());

    // path, key, the body it was used with, another body, its status
    for (path, key, first, another, status) in [
        ("/v1/orders", "k", &few, &many, 201),
        (&payments, "p", &captured("pi_1", 100), &captured("pi_2", 100), 201),
        (receive, "r", &json!({"quantity": 5}), &json!({"quantity": 6}), 200),
    ] {
        let verdict = elsewhere.http.post(path, key, another).await?.verdict();
        assert_eq!(verdict, (422, "idempotency_key_reused".to_owned()), "{path}");
        let again = elsewhere.http.post(path, key, first).await?;
        assert_eq!((again.status.as_u16(), again.replayed()), (status, true), "{path}: {}", again.text());
    }
    assert_eq!((shop.order(&id(&order)?).await?, shop.sku("A").await?["stock"].clone()), before);
    // The scope of a key is the user: somebody else's is another.
    let mut stranger = few.clone();
    stranger["user_id"] = json!("stranger");
    let theirs = shop.http.post("/v1/orders", "k", &stranger).await?;
    assert!(!theirs.replayed() && theirs.expect(201)?["id"] != order["id"]);
    dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_the_key_free() -> Result<()> {
    let (dev, [mut shop, ..]) = three_shops("early").await?;
    shop.stock("A", 1).await?;
    let body = shop.order_of("A", 2, 100);
    let refused = shop.http.post("/v1/orders", "k", &body).await?;
    assert_eq!(refused.verdict(), (409, "out_of_stock".to_owned()));
    let short = &refused.json()?["lines"][0];
    assert_eq!((&short["line"], &short["asked"], &short["available"]), (&json!(1), &json!(2), &json!(1)), "{short}");
    shop.stock("A", 1).await?;
    let placed = shop.http.post("/v1/orders", "k", &body).await?;
    assert!(!placed.replayed());
    placed.expect(201)?;
    dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_tells_everything_once_and_in_order() -> Result<()> {
    let (_dev, [mut shop, mut elsewhere, _]) = three_shops("told").await?;
    shop.stock("A", 3).await?;
    let order = id(&shop.place("A", 3, 100).await?)?;
    shop.pay(&order, "pi_told", 300).await?.expect(201)?;
    let parcel = shop.pick(&order).await?;
    shop.parcel(&parcel, "ship").await?.expect(200)?;
    shop.parcel(&parcel, "deliver").await?.expect(200)?;
    shop.command(&order, "complete", &json!({})).await?.expect(200)?;
    let history = elsewhere.http.get(&format!("/v1/orders/{order}/status-history")).await?.expect(200)?;
    let numbers: Vec<u64> =
        history["history"].as_array().context("a list")?.iter().filter_map(|row| row["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    for event in ["order.created", "order.paid", "fulfilment.created", "order.completed"] {
        assert_eq!(events(&history, event).len(), 1, "{event} in {history}");
    }
    let words: BTreeSet<&str> =
        history["history"].as_array().context("a list")?.iter().filter_map(|row| row["to"].as_str()).collect();
    assert_eq!(words, BTreeSet::from(["pending_payment", "paid", "shipped", "delivered", "completed"]));
    Ok(())
}
