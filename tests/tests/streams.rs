//! A node alone loses its log, and an operator accepts the loss: the messages between its shards no longer fit together. That is told,
//! and mended when an operator says so.

use std::fs;

use anyhow::{Context, Result, ensure};
use ordergrid_tests::{Grid, Http, Ran, Shop, supervised, until};
use serde_json::Value;

/// SKUs of several shards, and buyers of several: most orders hold units elsewhere.
const SKUS: usize = 12;
const BUYERS: usize = 4;

fn sku(number: usize) -> String {
    format!("S{number}")
}

/// Orders of two units from many shards, without waiting for anything.
async fn buy(grid: &Grid, rounds: usize) -> Result<Vec<String>> {
    let mut placed = Vec::new();
    for buyer in 0..BUYERS {
        let mut shop = Shop::open(&grid.url(1), &format!("buyer-{buyer}")).await?;
        for round in 0..rounds * SKUS {
            let order = shop.place(&sku(round % SKUS), 2, 100).await?;
            placed.push(order["id"].as_str().context("an id")?.to_owned());
        }
    }
    Ok(placed)
}

fn ends(ran: &Ran, code: i32) -> Result<Value> {
    ensure!(ran.code == Some(code), "ended with {:?}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
    ran.json()
}

/// The log is lost, and the node goes on with what its state has: of each shard as it was at a moment of its own.
fn lose_the_log(grid: &mut Grid) -> Result<()> {
    grid.kill(1)?;
    fs::write(grid.data(1).join("log/CURRENT"), "MANIFEST-999999\n")?;
    let config = grid.config(1).display().to_string();
    let accepted = grid.cli()?.run(&["offline", "accept-loss", "--log", "--yes", "--config", &config])?;
    ensure!(accepted.code == Some(0), "{}", accepted.stderr);
    Ok(())
}

/// Stopped streams are told in status, in a probe that goes on saying ready, and in a gauge.
async fn is_told(grid: &Grid) -> Result<()> {
    let status = until("stopped streams are told", async || {
        let ran = grid.cli()?.run(&["cluster", "status"])?;
        Ok((ran.code == Some(10)).then_some(ran))
    })
    .await?;
    let told = ends(&status, 10)?;
    ensure!(told["health"] == "degraded" && told["nodes"][0]["state"] == "ok", "{told}");
    let first = &told["stopped_streams"][0];
    ensure!(first["from"].is_string() && first["to"].is_string() && first["since"].is_string(), "{told}");
    let mut probe = Http::connect(&grid.url(1)).await?;
    let ready = probe.get("/readyz?verbose").await?;
    ensure!(ready.status == 200 && ready.text().contains("cluster streams reconcile"), "{}", ready.text());
    ensure!(probe.metric("ordergrid_streams_stopped").await? > 0.0, "the gauge tells it");
    let unjudged = grid.cli()?.run(&["cluster", "verify"])?;
    ensure!(unjudged.code == Some(11), "{}", unjudged.stdout);
    Ok(())
}

fn units(found: &Value, kind: &str) -> u64 {
    let streams = found["streams"].as_array().into_iter().flatten();
    streams.filter_map(|stream| stream[kind]["units"].as_u64()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_an_accepted_loss_has_stopped_are_told_and_started_anew() -> Result<()> {
    let mut grid = Grid::start_with(1, "[checkpoint]\nevery = \"300ms\"\n")?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    for number in 0..SKUS {
        shop.stock(&sku(number), 100_000).await?;
    }
    // A planned stop has everything in the state.
    let kept = buy(&grid, 1).await?;
    grid.stop(1)?;
    grid.launch(1)?;
    drop(supervised(&mut grid, 1).await?);
    let last = buy(&grid, 10).await?;
    lose_the_log(&mut grid)?;
    grid.start_all()?;
    is_told(&grid).await?;

    // Orders are placed all the same, and read.
    let meanwhile = buy(&grid, 1).await?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    shop.has_all(&kept).await?;
    let mut left = Vec::new();
    for order in last {
        let answer = shop.http.get(&format!("/v1/orders/{order}")).await?;
        ensure!(matches!(answer.status.as_u16(), 200 | 404), "{}: {}", answer.status, answer.text());
        left.extend((answer.status == 200).then_some(order));
    }

    // A look changes nothing.
    let reconcile = ["cluster", "streams", "reconcile"];
    let shown = ends(&grid.cli()?.run(&reconcile)?, 6)?;
    ensure!(shown["dry_run"] == true, "{shown}");
    ends(&grid.cli()?.run(&[&reconcile[..], &["--dry-run"]].concat())?, 0)?;
    ends(&grid.cli()?.run(&["cluster", "status"])?, 10)?;

    let done = ends(&grid.cli()?.run(&[&reconcile[..], &["--yes"]].concat())?, 0)?;
    let states: Vec<_> = done["streams"].as_array().context("streams")?.iter().map(|stream| &stream["state"]).collect();
    ensure!(states.iter().all(|state| **state == "reconciled"), "{done}");
    println!(
        "missing {}, surplus {}, without order {}",
        units(&done, "missing"),
        units(&done, "surplus"),
        units(&done, "orderless")
    );
    // What was started anew is told so at once.
    let status = ends(&grid.cli()?.run(&["cluster", "status"])?, 0)?;
    ensure!(status["health"] == "healthy", "{status}");
    let again = ends(&grid.cli()?.run(&[&reconcile[..], &["--yes"]].concat())?, 0)?;
    ensure!(again["streams"].as_array().context("streams")?.iter().all(|stream| stream["state"] == "sound"), "{again}");

    // Every law holds, every order that was left is, and none was cancelled for want of units.
    grid.cli()?.counts()?;
    for order in kept.iter().chain(&left).chain(&meanwhile) {
        let status = shop.order(order).await?["status"].clone();
        ensure!(status == "pending_payment", "order {order} is {status}");
    }
    let bought = 2 * (kept.len() + left.len() + meanwhile.len()) as u64;
    let mut reserved = 0;
    for number in 0..SKUS {
        reserved += shop.sku(&sku(number)).await?["stock"]["reserved"].as_u64().context("a number")?;
    }
    assert_eq!(reserved, bought, "units are reserved for the orders that there are, and for nothing else");
    Ok(())
}
