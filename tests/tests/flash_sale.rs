//! Ten thousand buyers and a hundred units: exactly a hundred are sold, and saying "sold out" costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use ordergrid_api::client::{Call, CallError, Client, ClientOptions, RetryPolicy, TcpConnector};
use ordergrid_tests::{Grid, Http, Shop};
use serde_json::json;

const UNITS: u64 = 100;
const CONNECTIONS: usize = 64;

/// Every buyer asks, again and again with the same key, until the order is placed or refused for good; counts by answer.
async fn buyers(grid: &Grid, first: u64, count: u64) -> Result<BTreeMap<String, u64>> {
    let next = AtomicU64::new(first);
    let queue = |connection: usize| {
        let next = &next;
        async move {
            let endpoint = grid.url(connection % grid.nodes() + 1).parse()?;
            let client = Client::new(&[endpoint], Arc::new(TcpConnector), ClientOptions::default());
            let policy = RetryPolicy::patient(Duration::from_secs(60));
            let mut answers: BTreeMap<String, u64> = BTreeMap::new();
            loop {
                let buyer = next.fetch_add(1, Ordering::Relaxed);
                if buyer >= first + count {
                    return anyhow::Ok(answers);
                }
                let body = json!({
                    "user_id": format!("buyer-{buyer}"), "currency": "GBP",
                    "lines": [{"sku": "HOT", "quantity": 1, "unit_price": 1}],
                });
                let key = format!("key-{buyer}").parse()?;
                let call = Call::post("/v1/orders", key).with_body(body.to_string().into());
                let answer = match client.send(&call, &policy).await {
                    Ok(answer) => answer.status.as_u16().to_string(),
                    Err(CallError::Refused(refusal)) => refusal.code,
                    Err(error) => error.to_string(),
                };
                *answers.entry(answer).or_default() += 1;
            }
        }
    };
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (answer, count) in try_join_all((0..CONNECTIONS).map(queue)).await?.into_iter().flatten() {
        *sums.entry(answer).or_default() += count;
    }
    Ok(sums)
}

/// A metric, summed over the nodes.
async fn total(grid: &Grid, name: &str) -> Result<f64> {
    let mut sum = 0.0;
    for url in grid.urls() {
        sum += Http::connect(&url).await?.metric(name).await?;
    }
    Ok(sum)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_units_go_to_a_hundred_of_ten_thousand_buyers() -> Result<()> {
    let grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "shop").await?;
    shop.stock("HOT", UNITS).await?;

    let answers = buyers(&grid, 0, 10_000).await?;
    let expected = BTreeMap::from([("201".to_owned(), UNITS), ("out_of_stock".to_owned(), 10_000 - UNITS)]);
    assert_eq!(answers, expected);
    let stock = shop.sku("HOT").await?["stock"].clone();
    assert_eq!((&stock["available"], &stock["reserved"]), (&json!(0), &json!(UNITS)), "{stock}");
    assert_eq!(grid.cli()?.counts()?["orders"], UNITS);

    // Sold out: from now on a refusal costs no entry of any log. Timers and deliveries of what went before may still write
    // a few, so the bound is far below one entry for each refused buyer, and not zero.
    let before = (total(&grid, "ordergrid_log_entries_total").await?, total(&grid, "ordergrid_log_commands_total").await?);
    assert!(before.0 > 0.0, "the metric is not there");
    let answers = buyers(&grid, 10_000, 2_000).await?;
    assert_eq!(answers, BTreeMap::from([("out_of_stock".to_owned(), 2_000)]));
    let entries = total(&grid, "ordergrid_log_entries_total").await? - before.0;
    let commands = total(&grid, "ordergrid_log_commands_total").await? - before.1;
    assert!(entries <= 50.0 && commands <= 50.0, "2,000 refusals cost {entries} entries with {commands} commands");
    Ok(())
}
