//! A bit flips in a file of a node's log database that is not its write-ahead log: where other nodes have what was in it, the node
//! comes back by itself; alone it says what is lost, and by which command it can go on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ordergrid_tests::{Grid, Shop, supervised, until};

const ORDERS: usize = 60;

/// The files of a node's log database whose names begin or end with one of these, the largest last.
fn files(data: &Path, means: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for file in fs::read_dir(data.join("log"))? {
        let file = file?;
        if means(&file.file_name().to_string_lossy()) {
            found.push((file.metadata()?.len(), file.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Flips a bit so far into a file, in thousandths.
fn flip(file: &Path, permille: usize) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let at = bytes.len() * permille / 1_000;
    *bytes.get_mut(at).context("the file is long enough")? ^= 16;
    Ok(fs::write(file, bytes)?)
}

/// What happens to a log database.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// A bit of its tables.
    Table(usize),
    /// A bit of the list of its files.
    Manifest(usize),
    /// A bit of the name of that list.
    Current,
    /// That name is gone.
    NoCurrent,
    /// A table is gone.
    NoTable,
}

impl Harm {
    fn strike(self, data: &Path) -> Result<()> {
        let largest = |ending: &str| files(data, |name| name.ends_with(ending))?.pop().context("there is a table");
        let current = data.join("log/CURRENT");
        match self {
            Self::Table(permille) => flip(&largest(".sst")?, permille),
            Self::Manifest(permille) => {
                let lists = files(data, |name| name.starts_with("MANIFEST-"))?;
                flip(lists.last().context("there is a list of files")?, permille)
            }
            Self::Current => flip(&current, 300),
            Self::NoCurrent => Ok(fs::remove_file(current)?),
            Self::NoTable => Ok(fs::remove_file(largest(".sst")?)?),
        }
    }
}

/// Log databases that were put aside in a node's folder.
fn put_aside(data: &Path) -> Result<usize> {
    let names = fs::read_dir(data)?.map(|file| Ok(file?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<Result<Vec<_>>>()?;
    Ok(names.iter().filter(|name| name.starts_with("log.damaged-")).count())
}

/// What a node said, that is not running.
fn said(grid: &Grid, node: usize) -> Result<String> {
    Ok(fs::read_to_string(grid.file(&format!("n{node}.log")))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_nodes_the_one_with_a_damaged_log_database_comes_back_with_everything() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 10_000).await?;
    let mut placed = shop.place_all("A", ORDERS).await?;
    let harms = [Harm::Table(400), Harm::Table(999), Harm::Manifest(500), Harm::Current, Harm::NoCurrent, Harm::NoTable];
    for (nth, harm) in harms.into_iter().enumerate() {
        // What was in the write-ahead log is in a table after the next start.
        grid.stop(2)?;
        grid.launch(2)?;
        drop(supervised(&mut grid, 2).await?);
        grid.kill(2)?;
        placed.extend(shop.place_all("A", 5).await?);
        harm.strike(&grid.data(2))?;
        grid.launch(2)?;
        let mut hurt =
            supervised(&mut grid, 2).await.with_context(|| format!("{harm:?}: {}", said(&grid, 2).unwrap_or_default()))?;
        assert_eq!(put_aside(&grid.data(2))?, nth + 1, "{harm:?}: what was damaged is kept");
        until("it has caught up", async || {
            for order in &placed {
                let answer = hurt.http.get(&format!("/v1/orders/{order}?consistency=stale")).await?;
                if answer.status != 200 {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
        .with_context(|| format!("{harm:?}"))?;
    }
    // It counts again: without one of the others nothing is lost.
    grid.kill(1)?;
    let mut hurt = supervised(&mut grid, 2).await?;
    hurt.has_all(&placed).await?;
    placed.extend(hurt.place_all("A", 5).await?);
    grid.launch(1)?;
    drop(supervised(&mut grid, 1).await?);
    grid.cli()?.verify()?;
    Ok(())
}

/// Node 3 never had the last orders, and node 2 has lost them, and its votes with them: together they must not go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_lost_its_log_database_helps_nobody_to_lead_before_all_others_have_told_it() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 1_000).await?;
    grid.kill(3)?;
    let placed = shop.place_all("A", ORDERS).await?;
    grid.kill(1)?;
    grid.kill(2)?;
    Harm::Current.strike(&grid.data(2))?;
    grid.launch(2)?;
    grid.launch(3)?;
    let log = grid.file("n2.log");
    until("node 2 says what it waits for", async || {
        Ok(fs::read_to_string(&log)?.contains("takes no part until all other nodes have reported").then_some(()))
    })
    .await?;
    let mut behind = Shop::open(&grid.url(3), "careful").await?;
    let body = behind.order_of("A", 1, 100);
    let answer = behind.http.post("/v1/orders", "while-node-1-is-away", &body).await?;
    assert!(matches!(answer.status.as_u16(), 503 | 504), "{}: {}", answer.status, answer.text());

    grid.launch(1)?;
    for node in 1..=3 {
        let mut shop = supervised(&mut grid, node).await?;
        shop.has_all(&placed).await.with_context(|| format!("asked at node {node}"))?;
    }
    grid.cli()?.verify()?;
    Ok(())
}

/// Before the first checkpoint all there is of a shard is its log, and who its replicas are: nothing could go on without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_of_which_nothing_is_left_is_not_said_to_go_on() -> Result<()> {
    let mut grid = Grid::start(1)?;
    grid.kill(1)?;
    Harm::Current.strike(&grid.data(1))?;
    let config = grid.config(1).display().to_string();
    let refused = grid.cli()?.run(&["offline", "accept-loss", "--log", "--yes", "--config", &config])?;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("nothing is left of shard"), "{}", refused.stderr);
    assert_eq!(put_aside(&grid.data(1))?, 0, "it is where it was");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_names_its_damaged_log_database_and_goes_on_when_told_to() -> Result<()> {
    let mut grid = Grid::start(1)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 1_000).await?;
    let placed = shop.place_all("A", ORDERS).await?;
    // A planned stop ends with a checkpoint: the state has all of these.
    grid.stop(1)?;
    grid.launch(1)?;
    let mut shop = supervised(&mut grid, 1).await?;
    let last = shop.place_all("A", ORDERS).await?;
    grid.kill(1)?;
    Harm::Manifest(500).strike(&grid.data(1))?;

    grid.launch(1)?;
    let (status, lines) = grid.take(1)?.finish()?;
    let said = lines.join("\n") + &said(&grid, 1)?;
    assert!(!status.success(), "{status}: {said}");
    for words in ["cannot open ", "MANIFEST-", "offline accept-loss --log --yes --config FILE"] {
        assert!(said.contains(words), "it says {words:?}: {said}");
    }
    assert_eq!(put_aside(&grid.data(1))?, 0, "it is where it was");

    let config = grid.config(1).display().to_string();
    let cli = grid.cli()?;
    let offline = |verb: &[&str]| cli.run(&[&["offline"], verb, &["--config", &config]].concat());
    let found = offline(&["status"])?.json()?;
    ensure!(found["damage"].as_str().is_some_and(|damage| damage.contains("MANIFEST-")), "{found}");
    let replicas = found["replicas"].as_array().context("replicas")?;
    ensure!(replicas.iter().all(|replica| replica["log_lost"] == true && replica["state"].is_u64()), "{found}");
    ensure!(replicas.iter().any(|replica| replica["vouched"].as_u64() > replica["state"].as_u64()), "{found}");
    assert_eq!(offline(&["accept-loss", "--all", "--yes"])?.code, Some(1), "not shard by shard");
    assert_eq!(offline(&["accept-loss", "--log"])?.code, Some(6), "without --yes");
    let accepted = offline(&["accept-loss", "--log", "--yes"])?;
    assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);
    assert_eq!(offline(&["accept-loss", "--log", "--yes"])?.code, Some(1), "once");

    grid.start_all()?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.has_all(&placed).await?;
    let mut left = 0;
    for order in &last {
        let answer = shop.http.get(&format!("/v1/orders/{order}")).await?;
        ensure!(matches!(answer.status.as_u16(), 200 | 404), "{}: {}", answer.status, answer.text());
        left += usize::from(answer.status == 200);
    }
    assert!(left < ORDERS, "the log has cost orders, as was said");
    shop.place_all("A", 5).await?;
    grid.stop(1)?;
    grid.start_all()?;
    grid.cli()?.ok(&["cluster", "streams", "reconcile", "--yes"])?;
    grid.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_the_file_that_vouches_for_it_says_what_is_no_longer_protected() -> Result<()> {
    let mut grid = Grid::start(1)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 1_000).await?;
    let placed = shop.place_all("A", 5).await?;
    grid.stop(1)?;
    let log = grid.file("n1.log");
    assert!(!fs::read_to_string(&log)?.contains("VOUCHED"), "nothing is missing yet");
    fs::remove_file(grid.data(1).join("log/VOUCHED"))?;
    grid.start_all()?;
    let said = fs::read_to_string(&log)?;
    assert!(said.contains("WARN") && said.contains("file VOUCHED is missing"), "{said}");
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.has_all(&placed).await?;
    Ok(())
}
