//! An older copy of one node's data folder is put back: it has forgotten votes and orders that others count on. The node says so, asks the
//! others what it had promised, and takes part once it has that again.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ordergrid_tests::{Grid, Shop, supervised, until};

const ORDERS: usize = 40;

/// Copies a folder with everything in it. What stands in its place goes away.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let (from, to) = (file.path(), to.join(file.file_name()));
        if file.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_a_nodes_folder_has_no_say_until_it_is_refilled() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "careful").await?;
    shop.stock("A", 10_000).await?;
    let mut placed = shop.place_all("A", ORDERS).await?;
    grid.stop(2)?;
    let backup = grid.file("backup");
    copy(&grid.data(2), &backup)?;
    for round in 1..=2 {
        grid.launch(2)?;
        drop(supervised(&mut grid, 2).await?);
        // Node 3 never has these.
        grid.kill(3)?;
        placed.extend(shop.place_all("A", ORDERS).await?);
        grid.kill(1)?;
        grid.kill(2)?;
        copy(&backup, &grid.data(2))?;
        // Node 3 recalls that node 2 was started since the copy was taken. Without node 1 they must not go on.
        grid.launch(2)?;
        grid.launch(3)?;
        until("node 2 says what it waits for", async || {
            grid.supervise(2)?;
            let told = fs::read_to_string(grid.file("n2.log"))?;
            Ok((told.matches("takes no part until all other nodes have reported").count() >= round).then_some(()))
        })
        .await?;
        let mut waiting = Shop::open(&grid.url(2), "careful").await?;
        until("its probe names what helps", async || {
            let told = waiting.http.get("/readyz").await?;
            Ok((told.status == 503 && told.text().contains("offline accept-loss --log")).then_some(()))
        })
        .await?;
        let mut behind = Shop::open(&grid.url(3), "careful").await?;
        let answer = behind.http.post("/v1/orders", &Shop::key(), &behind.order_of("A", 1, 100)).await?;
        assert!(matches!(answer.status.as_u16(), 503 | 504), "round {round}: {}: {}", answer.status, answer.text());

        grid.launch(1)?;
        for node in 1..=3 {
            let mut back = supervised(&mut grid, node).await?;
            back.has_all(&placed).await.with_context(|| format!("round {round}, asked at node {node}"))?;
        }
        shop = Shop::open(&grid.url(1), "careful").await?;
        grid.cli()?.verify()?;
        grid.stop(2)?;
    }
    Ok(())
}
