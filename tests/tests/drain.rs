//! A node that is to stop goes on serving until its clients had time to go elsewhere, and nothing that was under way fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ordergrid_tests::{Grid, Http, Shop, until};
use serde_json::json;

/// SKUs of many shards, so that most orders need holds elsewhere.
const SKUS: usize = 12;
/// Clients that place orders at the same time.
const CLIENTS: usize = 6;
/// How old a balancer's knowledge may be.
const PROBED: Duration = Duration::from_millis(300);

/// A connection to a node, and when that said that it is ready.
type Lane = Option<(Http, Instant)>;

async fn is_ready(http: &mut Http) -> Result<bool> {
    Ok(http.get("/readyz").await?.status.is_success())
}

/// A client behind a balancer that probes: it asks nodes that said lately that they are ready.
async fn shops(client: usize, urls: Vec<String>, ends: Arc<AtomicBool>) -> Result<usize> {
    let mut lanes: Vec<Lane> = urls.iter().map(|_| None).collect();
    let mut placed = 0;
    while !ends.load(Ordering::Relaxed) {
        let node = (client + placed) % urls.len();
        let Some(lane) = ready_lane(&mut lanes, &urls, node).await else { continue };
        let order = json!({"user_id": format!("u{client}-{}", placed % 50), "currency": "GBP",
            "lines": [{"sku": format!("S{}", placed % SKUS), "quantity": 1, "unit_price": 1}]});
        let key = format!("{client}-{placed}");
        let answer = lane.post("/v1/orders", &key, &order).await.with_context(|| format!("order {key} at a ready node"))?;
        ensure!(answer.status == 201, "order {key} at a ready node: {} {}", answer.status, answer.text());
        placed += 1;
        // An answer that is the last of its connection: the balancer may not know yet, and connects once more.
        if answer.header("connection") == Some("close") {
            reconnect(&mut lanes, &urls).await?;
        }
    }
    Ok(placed)
}

/// New connections to the nodes that are thought to be ready.
async fn reconnect(lanes: &mut [Lane], urls: &[String]) -> Result<()> {
    for (lane, url) in lanes.iter_mut().zip(urls) {
        if let Some((lane, _)) = lane {
            *lane = Http::connect(url).await.context("a node that was ready lately takes connections")?;
        }
    }
    Ok(())
}

/// A connection to the first node from `node` on that says that it is ready.
async fn ready_lane<'a>(lanes: &'a mut [Lane], urls: &[String], node: usize) -> Option<&'a mut Http> {
    for node in (0..urls.len()).map(|step| (node + step) % urls.len()) {
        if lanes[node].as_ref().is_none_or(|(_, probed)| probed.elapsed() > PROBED) {
            lanes[node] = probed(&urls[node]).await.ok().flatten();
        }
        if lanes[node].is_some() {
            return lanes[node].as_mut().map(|(lane, _)| lane);
        }
    }
    None
}

/// A new connection to a node, if that is ready.
async fn probed(url: &str) -> Result<Lane> {
    let mut lane = Http::connect(url).await?;
    let at = Instant::now();
    Ok(is_ready(&mut lane).await?.then_some((lane, at)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_order_that_was_sent_to_a_ready_node() -> Result<()> {
    let mut grid = Grid::prepare(3, "")?.draining("2s");
    grid.start_all()?;
    let mut shop = Shop::open(&grid.url(1), "stock").await?;
    for number in 0..SKUS {
        shop.stock(&format!("S{number}"), 1_000_000).await?;
    }
    let ends = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS).map(|client| tokio::spawn(shops(client, grid.urls(), Arc::clone(&ends)))).collect();
    for node in 1..=grid.nodes() {
        assert_eq!(grid.stop(node)?.code(), Some(0), "node {node}");
        grid.start_all()?;
        let mut http = Http::connect(&grid.url(node)).await?;
        until("the node is ready again", async || Ok(is_ready(&mut http).await?.then_some(()))).await?;
    }
    ends.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await?? > 0, "every client placed orders");
    }
    grid.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_serves_whoever_comes_and_a_second_signal_ends_it() -> Result<()> {
    let mut grid = Grid::prepare(1, "")?.draining("100s");
    grid.start_all()?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    shop.stock("A", 10).await?;
    let mut probe = Http::connect(&grid.url(1)).await?;
    assert!(is_ready(&mut probe).await?);
    grid.terminate(1)?;
    let url = grid.url(1);
    until("it says that it is not ready", async || {
        // Each answer is the last of its connection.
        let mut probe = Http::connect(&url).await?;
        Ok((!is_ready(&mut probe).await?).then_some(()))
    })
    .await?;
    let status = Http::connect(&url).await?.get("/admin/v1/cluster/status").await?.json()?;
    assert_eq!(status["nodes"][0]["state"], "draining", "{status}");
    for body in [shop.order_of("A", 1, 100), shop.order_of("A", 2, 100)] {
        let mut new = Http::connect(&grid.url(1)).await?;
        let answer = new.post("/v1/orders", &Shop::key(), &body).await?;
        assert_eq!((answer.status.as_u16(), answer.header("connection")), (201, Some("close")), "{}", answer.text());
    }
    let since = Instant::now();
    grid.terminate(1)?;
    let status = grid.take(1)?.wait()?;
    assert!(!status.success(), "it did not stop cleanly: {status}");
    assert!(since.elapsed() < Duration::from_secs(60), "it went on draining");
    grid.start_all()?;
    assert_eq!(Shop::open(&grid.url(1), "regular").await?.sku("A").await?["stock"]["reserved"], json!(3));
    Ok(())
}
