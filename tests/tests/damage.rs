//! A bit of a node's log or of its state flips while the node is down: nothing that was acknowledged is gone without a word.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ordergrid_tests::{Grid, Shop, supervised, until};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_refuses_to_start_until_the_loss_is_accepted() -> Result<()> {
    let mut grid = Grid::start(1)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 1_000).await?;
    let placed = shop.place_all("A", ORDERS).await?;
    grid.kill(1)?;
    flip(&grid.data(1))?;

    grid.launch(1)?;
    let process = grid.take(1)?;
    let log = grid.file("n1.log");
    let (status, lines) = process.finish()?;
    assert!(!status.success() && lines.iter().all(|line| !line.contains("\"ready\":true")), "{status}: {lines:?}");
    let said = lines.join("\n") + &fs::read_to_string(log)?;
    assert!(said.contains("the log is damaged") && said.contains("offline status"), "it says why: {said}");

    let config = grid.config(1).display().to_string();
    let cli = grid.cli()?;
    let offline = |verb: &[&str]| cli.run(&[&["offline"], verb, &["--config", &config]].concat());
    let found = offline(&["status"])?.json()?;
    let lost: Vec<_> =
        found["replicas"].as_array().context("replicas")?.iter().filter(|replica| !replica["vouched"].is_null()).collect();
    ensure!(!lost.is_empty(), "a shard has lost something: {found}");
    for replica in lost {
        let group = if replica["shard"] == 0 { "the meta group".to_owned() } else { format!("shard {}", replica["shard"]) };
        let from = replica["log"].as_u64().max(replica["state"].as_u64()).map_or(0, |last| last + 1);
        let names = format!("{group} {from} to {}", replica["vouched"]);
        assert!(said.contains(&names), "the refusal says `{names}`: {said}");
    }
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
    let placed = shop.place_all("A", ORDERS).await?;
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
        shop.has_all(&placed).await.with_context(|| format!("asked at node {node}"))?;
        until("its log is refilled", async || Ok((shop.http.get("/readyz").await?.status == 200).then_some(()))).await?;
    }
    grid.cli()?.verify()?;
    Ok(())
}

/// The files with a node's stored rows, the largest last.
fn tables(data: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(data.join("state"))?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    let mut tables: Vec<_> =
        files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "sst")).collect();
    tables.sort_by_key(|file| fs::metadata(file).map(|found| found.len()).unwrap_or_default());
    ensure!(!tables.is_empty(), "rows are stored");
    Ok(tables)
}

/// Flips a bit in the largest file of a node's stored rows.
fn flip_row(data: &Path) -> Result<()> {
    let tables = tables(data)?;
    let largest = tables.last().context("rows are stored")?;
    flip_at(largest, usize::try_from(fs::metadata(largest)?.len())? / 3)
}

fn flip_at(file: &Path, place: usize) -> Result<()> {
    let mut bytes = fs::read(file)?;
    *bytes.get_mut(place).context("the file is long enough")? ^= 16;
    Ok(fs::write(file, bytes)?)
}

/// Databases that were put aside in a node's folder.
fn put_aside(data: &Path) -> Result<usize> {
    let names = fs::read_dir(data)?.map(|file| Ok(file?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<Result<Vec<_>>>()?;
    Ok(names.iter().filter(|name| name.starts_with("state.damaged-")).count())
}

/// Times that a node has found stored rows damaged since its process began.
async fn times_damaged(shop: &mut Shop) -> Result<f64> {
    let metrics = shop.http.get("/metrics").await?.text();
    let counts = metrics.lines().filter(|line| line.starts_with("ordergrid_state_damaged_total{"));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_rows_of_one_node_are_noticed_and_filled_anew_from_the_others() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 1_000).await?;
    let placed = shop.place_all("A", 4 * ORDERS).await?;
    grid.stop(2)?;
    flip_row(&grid.data(2))?;
    grid.launch(2)?;

    // Nobody asks for these rows: the scrub finds them.
    let data = grid.data(2);
    until("the damage is noticed", async || {
        let again = grid.supervise(2)?;
        let Ok(mut shop) = Shop::open(&grid.url(2), "careful").await else { return Ok(None) };
        let noticed = times_damaged(&mut shop).await.is_ok_and(|times| times > 0.0);
        Ok((again || noticed || put_aside(&data)? > 0).then_some(()))
    })
    .await?;
    drop(supervised(&mut grid, 2).await?);
    for node in 1..=3 {
        let mut shop = Shop::open(&grid.url(node), "careful").await?;
        for order in &placed {
            for consistency in ["strong", "stale"] {
                let answer = shop.http.get(&format!("/v1/orders/{order}?consistency={consistency}")).await?;
                ensure!(answer.status == 200, "node {node}, {consistency}: {}: {}", answer.status, answer.text());
            }
        }
    }
    let report = grid.cli()?.verify()?;
    let laws = report["laws"].as_array().context("laws")?;
    assert!(laws.iter().any(|law| law["law"] == "StateWhole" && law["ok"] == true), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_does_not_open_is_put_aside_and_made_anew() -> Result<()> {
    for nodes in [3, 1] {
        let mut grid = Grid::start(nodes)?;
        let mut shop = Shop::open(&grid.url(1), "careful").await?;
        shop.stock("A", 1_000).await?;
        let placed = shop.place_all("A", ORDERS).await?;
        grid.stop(1)?;
        for table in tables(&grid.data(1))? {
            fs::remove_file(table)?;
        }
        grid.launch(1)?;
        let mut shop = supervised(&mut grid, 1).await?;
        shop.has_all(&placed).await.with_context(|| format!("of {nodes} nodes"))?;
        assert_eq!(put_aside(&grid.data(1))?, 1, "of {nodes} nodes: what was damaged is kept");
        grid.cli()?.verify()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_makes_damaged_rows_anew_from_its_whole_log() -> Result<()> {
    let mut grid = Grid::start(1)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 1_000).await?;
    let placed = shop.place_all("A", 4 * ORDERS).await?;
    grid.stop(1)?;
    flip_row(&grid.data(1))?;
    grid.launch(1)?;

    let data = grid.data(1);
    until("the damage is noticed", async || {
        grid.supervise(1)?;
        Ok((put_aside(&data)? > 0).then_some(()))
    })
    .await?;
    let mut shop = supervised(&mut grid, 1).await?;
    shop.has_all(&placed).await?;
    assert_eq!(put_aside(&data)?, 1, "it is made anew once");
    grid.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_says_what_is_damaged_where_its_log_is_not_enough() -> Result<()> {
    let mut grid = Grid::start_with(1, "[log]\nkept = 1\n[checkpoint]\nevery = \"100ms\"\n")?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 1_000).await?;
    shop.place_all("A", 4 * ORDERS).await?;
    grid.stop(1)?;
    for table in tables(&grid.data(1))? {
        flip_at(&table, 16)?;
    }
    grid.launch(1)?;

    // It does not start, or serves what is left of it.
    let mut process = grid.take(1)?;
    let url = grid.url(1);
    until("the damage is told", async || {
        if process.ended()?.is_some() {
            return Ok(Some(()));
        }
        let Ok(mut shop) = Shop::open(&url, "careful").await else { return Ok(None) };
        let Ok(told) = shop.http.get("/readyz").await else { return Ok(None) };
        Ok((told.status == 503 && told.text().contains("\"state_whole\"")).then_some(()))
    })
    .await?;
    process.end()?;
    for start in ["the next start", "any other"] {
        let log = grid.file("n1.log");
        fs::write(&log, "")?;
        grid.launch(1)?;
        let (status, lines) = grid.take(1)?.finish()?;
        let said = lines.join("\n") + &fs::read_to_string(log)?;
        assert!(!status.success(), "{start}: {status}: {said}");
        assert!(said.contains("restore a copy of the whole folder"), "{start}: it says what would help: {said}");
        assert!(said.contains("no longer begin with their first entry"), "{start}: it says why: {said}");
    }
    assert_eq!(put_aside(&grid.data(1))?, 0, "what is left is where it was");
    Ok(())
}
