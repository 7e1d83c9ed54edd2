//! A bit of a node's log flips while the node is down: nothing that was acknowledged is gone without a word.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ordergrid_tests::{Grid, Shop, until};

const ORDERS: usize = 60;

/// Flips a bit half-way through the write-ahead log in a node's folder, inside what is written of it.
fn flip(data: &Path) -> Result<()> {
    let mut logs = Vec::new();
    for file in fs::read_dir(data.join("log"))? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            logs.push((fs::read(&path)?, path));
        }
    }
    let (mut bytes, log) = logs.into_iter().max_by_key(|(bytes, _)| bytes.len()).context("there is a write-ahead log")?;
    let written = bytes.iter().rposition(|byte| *byte != 0).context("something was written")?;
    bytes[written / 2] ^= 1;
    Ok(fs::write(log, bytes)?)
}

async fn place(shop: &mut Shop, orders: usize) -> Result<Vec<String>> {
    let mut placed = Vec::new();
    for _ in 0..orders {
        let order = shop.place("A", 1, 100).await?;
        placed.push(order["id"].as_str().context("an order has an id")?.to_owned());
    }
    Ok(placed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_refuses_to_start_until_the_loss_is_accepted() -> Result<()> {
    let mut grid = Grid::start(1)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 1_000).await?;
    let placed = place(&mut shop, ORDERS).await?;
    grid.kill(1)?;
    flip(&grid.data(1))?;

    grid.launch(1)?;
    let process = grid.take(1)?;
    let log = grid.file("n1.log");
    let (status, lines) = process.finish()?;
    assert!(!status.success() && lines.iter().all(|line| !line.contains("\"ready\":true")), "{status}: {lines:?}");
    let said = lines.join("\n") + &fs::read_to_string(log)?;
    assert!(said.contains("its log is damaged"), "it says why: {said}");

    let config = grid.config(1).display().to_string();
    let cli = grid.cli()?;
    let offline = |verb: &[&str]| cli.run(&[&["offline"], verb, &["--config", &config]].concat());
    let found = offline(&["status"])?.json()?;
    let lost = found["replicas"].as_array().context("replicas")?.iter().filter(|replica| !replica["vouched"].is_null());
    ensure!(lost.count() > 0, "a shard has lost something: {found}");
    let asked = offline(&["accept-loss", "--all"])?;
    assert_eq!(asked.code, Some(6), "without --yes: {}", asked.stdout);
    let accepted = offline(&["accept-loss", "--all", "--yes"])?;
    assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);

    grid.start_all()?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    let mut left = 0;
    for order in &placed {
        let answer = shop.http.get(&format!("/v1/orders/{order}")).await?;
        ensure!(matches!(answer.status.as_u16(), 200 | 404), "{}: {}", answer.status, answer.text());
        left += usize::from(answer.status == 200);
    }
    assert!(left < ORDERS, "the flipped bit has cost orders, as was said");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_nodes_the_damaged_one_waits_for_what_it_vouched_for() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 1_000).await?;
    grid.kill(3)?;
    let placed = place(&mut shop, ORDERS).await?;
    grid.kill(1)?;
    grid.kill(2)?;
    flip(&grid.data(2))?;

    // Node 3 never had these orders, and node 2 has lost them: together they must not go on.
    grid.launch(2)?;
    grid.launch(3)?;
    let mut alone = Shop::open(&grid.url(2), "careful").await?;
    until("node 2 says what it lacks", async || {
        let told = alone.http.get("/readyz").await?;
        Ok((told.status == 503 && told.text().contains("\"logs_whole\"")).then_some(()))
    })
    .await?;
    let body = alone.order_of("A", 1, 100);
    let answer = alone.http.post("/v1/orders", "while-node-1-is-away", &body).await?;
    assert!(matches!(answer.status.as_u16(), 503 | 504), "{}: {}", answer.status, answer.text());
    // It has shown the last of them, and does not say that there are none.
    let last = placed.last().context("orders were placed")?;
    let answer = alone.http.get(&format!("/v1/orders/{last}?consistency=stale")).await?;
    assert!(matches!(answer.status.as_u16(), 503 | 504), "{}: {}", answer.status, answer.text());

    grid.launch(1)?;
    (1..=3).try_for_each(|node| grid.ready(node))?;
    for node in 1..=3 {
        let mut shop = Shop::open(&grid.url(node), "careful").await?;
        for order in &placed {
            shop.order(order).await.with_context(|| format!("an acknowledged order, asked at node {node}"))?;
        }
        until("its log is refilled", async || Ok((shop.http.get("/readyz").await?.status == 200).then_some(()))).await?;
    }
    grid.cli()?.verify()?;
    Ok(())
}
