//! Clocks of days ahead that an operator believed, and a log time that is set back. Needs a library that answers for the time
//! of day; where there is none, the test says so and does nothing.

use anyhow::{Context, Result, ensure};
use ordergrid_tests::{Grid, Shop, faketime, id, until};
use serde_json::{Value, json};

const EIGHT_DAYS: i64 = 8 * 86_400;
/// The longest that an order may wait for its money.
const LONGEST: u64 = 30 * 86_400;

/// All nodes die, and come back with clocks that are off by so much.
fn off_by(grid: &mut Grid, seconds: i64) -> Result<()> {
    grid.kill_all()?;
    grid.clocks(seconds)?;
    grid.start_all()
}

/// Runs a verb that must end with this code, and reads what it printed.
fn ends(grid: &Grid, arguments: &[&str], code: i32) -> Result<Value> {
    let ran = grid.cli()?.run(arguments)?;
    ensure!(ran.code == Some(code), "{arguments:?} ended with {:?}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
    ran.json()
}

/// Waits until the clocks are told to be right, or not to be.
async fn clock_status(grid: &Grid, code: i32) -> Result<()> {
    let status = async || Ok((grid.cli()?.run(&["cluster", "clock", "status"])?.code == Some(code)).then_some(()));
    until("the clocks are told so", status).await
}

/// Waits until every node knows that the clocks are right and its log is ahead.
async fn log_is_ahead(grid: &Grid) -> Result<()> {
    let told = async || {
        let clocks = grid.cli()?.run(&["cluster", "clock", "status"])?.json()?;
        let nodes = clocks["nodes"].as_array().context("no nodes")?;
        let ahead = |node: &Value| node["wrong"].as_str().is_some_and(|wrong| wrong.starts_with("clock_skew: log time is"));
        Ok(nodes.iter().all(ahead).then_some(()))
    };
    until("the log is told to be ahead", told).await
}

/// Places an order that waits so long for its money.
async fn order(grid: &Grid, key: &str, seconds: u64) -> Result<Value> {
    let mut shop = Shop::open(&grid.url(1), "u").await?;
    let mut body = shop.order_of("A", 1, 100);
    body["payment_window_seconds"] = json!(seconds);
    let answer = shop.http.post("/v1/orders", key, &body).await?;
    ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.text());
    answer.json()
}

fn states<'a>(repair: &'a Value, what: &str) -> Result<Vec<&'a Value>> {
    Ok(repair["shards"].as_array().context("no shards")?.iter().map(|shard| &shard[what]).collect())
}

/// How many deadlines of a kind move, over all shards, and how many stay.
fn moved(repair: &Value, of: &str) -> Result<(u64, u64)> {
    let deadlines = states(repair, "deadlines")?.into_iter().filter_map(Value::as_array).flatten();
    let of_kind: Vec<&Value> = deadlines.filter(|deadlines| deadlines["of"] == of).collect();
    let sum = |name: &str| of_kind.iter().filter_map(|found| found[name].as_u64()).sum();
    Ok((sum("moved"), sum("stay")))
}

/// Clocks that are days ahead are believed, and then right again: the log is ahead. What was ordered meanwhile.
async fn runs_away(grid: &mut Grid) -> Result<Value> {
    // A clock is accepted only with --yes, and then that is done, whatever else is wrong.
    off_by(grid, EIGHT_DAYS)?;
    clock_status(grid, 10).await?;
    let accept = ["cluster", "clock", "accept", "wall"];
    let shown = ends(grid, &accept, 6)?;
    assert!(shown["nodes"][0]["becomes"].is_string() && shown["nodes"][0]["expires"] == false, "{shown}");
    ends(grid, &[&accept[..], &["--dry-run"]].concat(), 0)?;
    clock_status(grid, 10).await?;
    let accepted = ends(grid, &[&accept[..], &["--yes"]].concat(), 0)?;
    let nodes = accepted["nodes"].as_array().context("no nodes")?;
    assert!(nodes.len() == 3 && nodes.iter().all(|node| node["wrong"].is_null()), "nothing is wrong any more: {accepted}");
    clock_status(grid, 0).await?;
    let wrong = order(grid, "wrong", 900).await?;

    off_by(grid, 0)?;
    clock_status(grid, 10).await?;
    let refused = grid.cli()?.run(&["cluster", "clock", "repair", "--yes"])?;
    let told = refused.json()?;
    assert!(states(&told, "state")?.iter().all(|state| **state == "refused"), "which clock is right is not known: {told}");
    assert_eq!(refused.code, Some(6), "{told}");
    let accepted = ends(grid, &[&accept[..], &["--yes"]].concat(), 0)?;
    assert!(accepted["nodes"][0]["expires"] == true, "{accepted}");
    log_is_ahead(grid).await?;
    Ok(wrong)
}

/// Nothing is set back without --yes, and what would move is told.
fn is_set_back(grid: &Grid) -> Result<()> {
    let repair = ["cluster", "clock", "repair"];
    let shown = ends(grid, &repair, 6)?;
    assert!(states(&shown, "state")?.iter().any(|state| **state == "ahead"), "{shown}");
    assert_eq!((moved(&shown, "payment")?, moved(&shown, "order_key")?), ((1, 1), (1, 1)), "{shown}");
    assert_eq!(ends(grid, &[&repair[..], &["--dry-run"]].concat(), 0)?["dry_run"], true);
    let done = ends(grid, &[&repair[..], &["--yes"]].concat(), 0)?;
    assert!(states(&done, "state")?.iter().any(|state| **state == "repaired"), "{done}");
    let again = ends(grid, &[&repair[..], &["--yes"]].concat(), 0)?;
    assert!(states(&again, "state")?.iter().all(|state| **state == "sound"), "{again}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_time_that_ran_away_is_set_back() -> Result<()> {
    let library = match faketime() {
        Ok(library) => library,
        Err(why) => {
            println!("left out: {why}");
            return Ok(());
        }
    };
    let mut grid = Grid::prepare(3, "")?.with_clocks(library)?;
    grid.start_all()?;
    Shop::open(&grid.url(1), "u").await?.stock("A", 100).await?;
    let before = order(&grid, "before", LONGEST).await?;
    let wrong = runs_away(&mut grid).await?;
    is_set_back(&grid)?;
    clock_status(&grid, 0).await?;

    // Times are right again, keys are known, ids go on, and what was set before stays.
    let after = order(&grid, "after", 1).await?;
    let mut shop = Shop::open(&grid.url(2), "u").await?;
    for (key, window, first) in [("before", LONGEST, &before), ("wrong", 900, &wrong)] {
        assert_eq!(id(&order(&grid, key, window).await?)?, id(first)?, "{key}");
    }
    assert_eq!(shop.order(&id(&before)?).await?["payment_due_at"], before["payment_due_at"]);
    let now = shop.order(&id(&wrong)?).await?;
    assert!(now["payment_due_at"].as_str() < wrong["payment_due_at"].as_str() && now["status"] == "pending_payment", "{now}");
    assert!(after["created_at"].as_str() < wrong["created_at"].as_str(), "{after} {wrong}");
    let number = |order: &Value| Ok::<u64, anyhow::Error>(id(order)?.parse()?);
    assert!(number(&before)? < number(&wrong)? && number(&wrong)? < number(&after)?);
    let expired = async || Ok((shop.order(&id(&after)?).await?["status"] == "cancelled").then_some(()));
    until("timers run again", expired).await?;

    // So it is after a start, which finds nothing to ask.
    off_by(&mut grid, 0)?;
    clock_status(&grid, 0).await?;
    assert_eq!(id(&order(&grid, "wrong", 900).await?)?, id(&wrong)?);
    grid.cli()?.verify()?;
    Ok(())
}
