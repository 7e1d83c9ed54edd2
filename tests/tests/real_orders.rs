//! A year of sales of a real shop, through the HTTP API of real processes.

use anyhow::{Context, Result};
use ordergrid_tests::{Cli, Dev, Http, Sales, SalesFiles};
use serde_json::{Value, json};

/// Facts of the data set, as its README has them.
const SALES: u64 = 15_829;
const SKUS: usize = 3_841;
const TOTAL: i64 = 821_969_877;

fn replay(cli: &Cli, files: &SalesFiles, stock: &str) -> Result<Value> {
    cli.ok(&[&files.arguments()[..], &["--stock", stock]].concat())
}

/// Looks at every SKU over HTTP: what was received and sold must be what the file says, and nothing may be held.
async fn check_stock(url: &str, sales: &Sales, left: impl Fn(u64, u64) -> bool) -> Result<()> {
    let mut http = Http::connect(url).await?;
    for (sku, units) in sales.units() {
        let path = format!("/v1/skus/{}", ordergrid_api::client::path_segment(sku));
        let stock = http.get(&path).await?.expect(200)?["stock"].clone();
        let bucket = |name: &str| stock[name].as_u64().with_context(|| format!("{sku} has no {name}: {stock}"));
        let held = bucket("reserved")? + bucket("committed")?;
        assert_eq!(held, 0, "{sku} is still held: {stock}");
        assert_eq!(bucket("on_hand")?, bucket("received")? - bucket("sold")?, "{sku}: {stock}");
        assert!(left(units, bucket("sold")?), "{sku}, {units} units in the file: {stock}");
    }
    Ok(())
}

fn count(summary: &Value, name: &str) -> Result<u64> {
    summary[name].as_u64().with_context(|| format!("no {name} in {summary}"))
}

/// With full stock every sale goes through, and the shelves are empty afterwards.
async fn every_sale_goes_through(dev: &Dev, files: &SalesFiles) -> Result<()> {
    let sales = Sales::read(files)?;
    let placed = sales.0.len() as u64;
    let summary = replay(&dev.cli()?, files, "full")?;
    for (name, expected) in
        [("placed", placed), ("paid", placed), ("shipped", placed), ("delivered", placed), ("unknown", 0), ("replayed", 0)]
    {
        assert_eq!(count(&summary, name)?, expected, "{name} in {summary}");
    }
    assert_eq!((&summary["refused"], &summary["total_minor"]), (&json!({}), &json!(sales.total())), "{summary}");
    check_stock(&dev.urls()[0], &sales, |units, sold| sold == units).await?;
    let counts = dev.cli()?.counts()?;
    assert_eq!(counts["orders"], placed, "{counts:?}");

    // Again: nothing changes, and the replay says so.
    let again = replay(&dev.cli()?, files, "full")?;
    assert_eq!((count(&again, "placed")?, count(&again, "replayed")?), (placed, placed), "{again}");
    check_stock(&dev.urls()[0], &sales, |units, sold| sold == units).await?;
    assert_eq!(dev.cli()?.counts()?, counts);

    // With other stock it is refused before it starts.
    let other = dev.cli()?.run(&[&files.arguments()[..], &["--stock", "0.8"]].concat())?;
    assert_eq!(other.code, Some(6), "{} {}", other.stdout, other.stderr);
    assert_eq!(dev.cli()?.counts()?, counts);
    Ok(())
}

#[test]
fn the_data_is_what_its_readme_says() -> Result<()> {
    let sales = Sales::read(&SalesFiles::all())?;
    let lines: usize = sales.0.iter().map(|sale| sale.lines.len()).sum();
    let found = (sales.0.len() as u64, lines, sales.units().len(), sales.total(), sales.units().values().sum::<u64>());
    assert_eq!(found, (SALES, 405_552, SKUS, TOTAL, 4_367_978));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_place_every_sale_of_the_year() -> Result<()> {
    every_sale_goes_through(&Dev::start(3)?, &SalesFiles::all()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_places_the_first_sales() -> Result<()> {
    let folder = tempfile::tempdir()?;
    every_sale_goes_through(&Dev::start(1)?, &SalesFiles::first(2_000, folder.path())?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_too_little_stock_each_sale_is_placed_or_out_of_stock() -> Result<()> {
    let (dev, files) = (Dev::start(1)?, SalesFiles::all());
    let sales = Sales::read(&files)?;
    let summary = replay(&dev.cli()?, &files, "0.8")?;
    let refused = summary["refused"].as_object().context("refused is an object")?;
    assert_eq!(refused.keys().collect::<Vec<_>>(), ["out_of_stock"], "{summary}");
    let refused = refused["out_of_stock"].as_u64().context("a count")?;
    assert_eq!(count(&summary, "placed")? + refused, SALES, "{summary}");
    assert!(refused > 0 && count(&summary, "unknown")? == 0, "{summary}");
    check_stock(&dev.urls()[0], &sales, |units, sold| sold <= units * 8 / 10).await?;
    assert_eq!(dev.cli()?.counts()?["orders"], count(&summary, "placed")?);
    Ok(())
}
