//! What a payment provider tells, from outside: facts in any order, money in parts, no goods without cover, refunds that turn
//! back. Each order that money came for ends as goods or as a refund.

use anyhow::Result;
use ordergrid_tests::{Dev, Shop, id, until};
use serde_json::{Value, json};

/// A fact of a payment.
fn told(payment: &str, status: &str, amount: i64) -> Value {
    json!({"provider_payment_id": payment, "status": status, "amount": amount, "currency": "GBP"})
}

struct Till {
    dev: Dev,
    shop: Shop,
}

impl Till {
    async fn open() -> Result<Self> {
        let dev = Dev::start(1)?;
        let mut shop = Shop::open(&dev.urls()[0], "user").await?;
        shop.stock("A", 100).await?;
        Ok(Self { dev, shop })
    }

    /// An order of six units and 1,530 pence.
    async fn order(&mut self) -> Result<String> {
        id(&self.shop.place("A", 6, 255).await?)
    }

    /// Tells facts of one payment; the order then.
    async fn tell(&mut self, order: &str, facts: &[(&str, i64)]) -> Result<Value> {
        for (status, amount) in facts {
            let answer = self.shop.command(order, "payments", &told("pi_1", status, *amount)).await?;
            anyhow::ensure!(answer.status.is_success(), "{status}: {}", answer.text());
        }
        self.shop.order(order).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_pays_at_last_and_captures_come_in_parts() -> Result<()> {
    let mut till = Till::open().await?;
    type Row = (&'static [(&'static str, i64)], i64, i64, &'static str);
    let rows: [Row; 7] = [
        // facts                                                                captured, refunded, status
        (&[("failed", 1530), ("captured", 1530)], 1530, 0, "paid"),
        (&[("processing", 1530), ("failed", 1530), ("captured", 1530)], 1530, 0, "paid"),
        (&[("authorized", 1530), ("voided", 1530), ("captured", 1530)], 1530, 0, "paid"),
        (&[("captured", 1530), ("failed", 1530)], 1530, 0, "paid"),
        (&[("authorized", 1530), ("captured", 1000), ("captured", 1530)], 1530, 0, "paid"),
        (&[("authorized", 1530), ("captured", 1790)], 1790, 260, "paid"),
        (&[("processing", 1530), ("captured", 1500)], 1500, 0, "pending_payment"),
    ];
    for (facts, captured, refunded, status) in rows {
        let order = till.order().await?;
        let now = till.tell(&order, facts).await?;
        let seen = (now["captured"].as_i64(), now["refunded"].as_i64(), now["status"].as_str());
        assert_eq!(seen, (Some(captured), Some(refunded), Some(status)), "{facts:?}");
    }
    let order = till.order().await?;
    for (part, amount) in [("c1", 1000), ("c2", 530), ("c1", 1000)] {
        let mut fact = told("pi_1", "captured", amount);
        fact["part"] = json!(part);
        assert!(till.shop.command(&order, "payments", &fact).await?.status.is_success());
    }
    assert_eq!(till.shop.order(&order).await?["captured"], 1530);
    let smaller = till.shop.command(&order, "payments", &told("pi_1", "captured", 1500)).await?;
    assert!(smaller.status.is_success(), "a sum below the parts is one that was reached on the way: {}", smaller.text());
    till.dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_without_cover() -> Result<()> {
    let mut till = Till::open().await?;
    for gone in ["voided", "failed", "expired"] {
        let order = till.order().await?;
        let held = till.tell(&order, &[("authorized", 1530), (gone, 1530)]).await?;
        assert_eq!((&held["status"], &held["on_hold"]), (&json!("on_hold"), &json!("no_cover")), "{gone}");
        assert!(held["payment_due_at"].is_string(), "{held}");
        let pick = till.shop.command(&order, "fulfilments", &json!({})).await?;
        assert_eq!(pick.verdict(), (409, "on_hold".to_owned()), "{gone}");
        let paid = till.shop.pay(&order, "pi_2", 1530).await?.expect(201)?;
        assert_eq!((&paid["status"], &paid["on_hold"]), (&json!("paid"), &Value::Null), "{gone}");
        till.shop.pick(&order).await?;
    }
    // A failure after a capture: nobody knows, so that nothing leaves and nothing goes back until the provider says more.
    let order = till.order().await?;
    let doubted = till.tell(&order, &[("captured", 1530), ("failed", 1530)]).await?;
    assert_eq!((&doubted["on_hold"], &doubted["captured"]), (&json!("payment_in_doubt"), &json!(1530)));
    let clear = till.tell(&order, &[("captured", 1530)]).await?;
    assert_eq!(clear["on_hold"], Value::Null);
    let parcel = till.shop.pick(&order).await?;
    let held = till.tell(&order, &[("disputed", 1530)]).await?;
    assert_eq!((&held["disputed"], &held["owed"], &held["payment_status"]), (&json!(1530), &json!(1530), &json!("disputed")));
    assert_eq!(till.shop.parcel(&parcel, "ship").await?.verdict(), (409, "on_hold".to_owned()));
    till.tell(&order, &[("dispute_won", 1530)]).await?;
    assert!(till.shop.parcel(&parcel, "ship").await?.status.is_success());
    till.dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_on_hold_expires_and_frees_its_units() -> Result<()> {
    let mut till = Till::open().await?;
    let mut body = till.shop.order_of("A", 6, 255);
    body["payment_window_seconds"] = json!(1);
    let order = id(&till.shop.http.post("/v1/orders", &Shop::key(), &body).await?.expect(201)?)?;
    till.tell(&order, &[("authorized", 1530), ("voided", 1530)]).await?;
    until("the second deadline cancels the order", async || {
        let order = till.shop.order(&order).await?;
        Ok((order["cancel_reason"] == "timeout").then_some(()))
    })
    .await?;
    until("its units are free", async || Ok((till.shop.sku("A").await?["stock"]["available"] == 100).then_some(()))).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn carriage_lines_and_purses_are_refunded_apart() -> Result<()> {
    let mut till = Till::open().await?;
    till.shop.stock("B", 100).await?;
    let mut body = till.shop.order_of("A", 1, 1000);
    body["lines"] = json!([body["lines"][0], {"sku": "B", "quantity": 1, "unit_price": 2000}]);
    body["shipping_fee"] = json!(500);
    let order = id(&till.shop.http.post("/v1/orders", &Shop::key(), &body).await?.expect(201)?)?;
    let mut gift = told("gift", "captured", 700);
    gift["provider"] = json!("gift_cards");
    till.shop.command(&order, "payments", &gift).await?.expect(201)?;
    till.shop.pay(&order, "card", 2800).await?.expect(201)?;
    let line = |line: u32| json!([{"line": line, "quantity": 1}]);
    let asked =
        [json!({"carriage": 500}), json!({"lines": line(1), "amount": 900}), json!({"lines": line(2)}), json!({"amount": 100})];
    for (body, refunds) in asked.iter().zip([1, 2, 4, 5]) {
        let now = till.shop.command(&order, "refunds", body).await?.expect(201)?;
        assert_eq!(now["refunds"].as_array().map(Vec::len), Some(refunds), "{body}: {now}");
    }
    let now = till.shop.order(&order).await?;
    assert_eq!((&now["refunded"], &now["due"]), (&json!(3500), &json!(0)));
    let purses: Vec<_> = now["payments"].as_array().into_iter().flatten().map(|one| one["refunded"].as_i64()).collect();
    assert_eq!(purses, [Some(700), Some(2800)]);
    till.dev.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_turns_back_both_ways() -> Result<()> {
    let mut till = Till::open().await?;
    let order = till.order().await?;
    till.tell(&order, &[("captured", 1530)]).await?;
    let refund = till.shop.command(&order, "refunds", &json!({"amount": 1530})).await?.expect(201)?["created"].clone();
    let outcome = format!("refunds/{}", refund.as_str().unwrap_or_default());
    for (status, refunded, word) in [("succeeded", 1530, "refunded"), ("failed", 0, "paid"), ("succeeded", 1530, "refunded")] {
        let now = till.shop.command(&order, &outcome, &json!({"status": status})).await?.expect(200)?;
        assert_eq!((&now["refunded"], &now["payment_status"]), (&json!(refunded), &json!(word)), "{status}");
    }
    Ok(())
}
