//! Stopping, starting again, and being started wrongly.

use std::fs;
use std::process::Command;

use anyhow::Result;
use ordergrid_tests::{Dev, Grid, Process, Shop, id};
use serde_json::{Value, json};

/// Places an order of each kind of progress; what a reader sees of them and of the stock.
async fn work(shop: &mut Shop) -> Result<Vec<String>> {
    shop.stock("A", 10).await?;
    let pending = id(&shop.place("A", 1, 100).await?)?;
    let paid = id(&shop.place("A", 2, 100).await?)?;
    shop.pay(&paid, "pi_paid", 200).await?.expect(201)?;
    let shipped = id(&shop.place("A", 3, 100).await?)?;
    shop.pay(&shipped, "pi_shipped", 300).await?.expect(201)?;
    let parcel = shop.pick(&shipped).await?;
    shop.parcel(&parcel, "ship").await?.expect(200)?;
    Ok(vec![pending, paid, shipped])
}

async fn seen(shop: &mut Shop, orders: &[String]) -> Result<Vec<Value>> {
    let mut seen = Vec::new();
    for order in orders {
        seen.push(shop.order(order).await?);
        seen.push(shop.http.get(&format!("/v1/orders/{order}/status-history")).await?.expect(200)?);
    }
    Ok(seen)
}

/// The stock, once the shipment has arrived there.
async fn settled(shop: &mut Shop) -> Result<Value> {
    ordergrid_tests::until("the shipment has reached the SKU", async || {
        let stock = shop.sku("A").await?["stock"].clone();
        let there = (&stock["sold"], &stock["committed"], &stock["reserved"]) == (&json!(3), &json!(2), &json!(1));
        Ok(there.then_some(stock))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_stops_cleanly_and_comes_back_with_everything() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    let orders = work(&mut shop).await?;
    let before = (seen(&mut shop, &orders).await?, settled(&mut shop).await?);
    for node in 1..=grid.nodes() {
        assert_eq!(grid.stop(node)?.code(), Some(0), "node {node}");
    }
    grid.start_all()?;
    let mut shop = Shop::open(&grid.url(3), "regular").await?;
    assert_eq!((seen(&mut shop, &orders).await?, settled(&mut shop).await?), before);
    grid.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_keeps_everything() -> Result<()> {
    let mut grid = Grid::start(1)?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    let orders = work(&mut shop).await?;
    let before = (seen(&mut shop, &orders).await?, settled(&mut shop).await?);
    // Once as it should be, once by force.
    for by_force in [false, true] {
        if by_force {
            grid.kill(1)?
        } else {
            assert_eq!(grid.stop(1)?.code(), Some(0))
        }
        grid.start_all()?;
        let mut shop = Shop::open(&grid.url(1), "regular").await?;
        assert_eq!((seen(&mut shop, &orders).await?, settled(&mut shop).await?), before, "by force: {by_force}");
    }
    grid.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_in_one_process_comes_back_from_its_folder() -> Result<()> {
    let mut dev = Dev::start(3)?;
    let mut shop = Shop::open(&dev.urls()[0], "regular").await?;
    let orders = work(&mut shop).await?;
    let before = (seen(&mut shop, &orders).await?, settled(&mut shop).await?);
    for by_force in [false, true] {
        if by_force {
            dev.kill()?
        } else {
            assert_eq!(dev.stop()?.code(), Some(0))
        }
        dev.restart(3)?;
        let mut shop = Shop::open(&dev.urls()[1], "regular").await?;
        assert_eq!((seen(&mut shop, &orders).await?, settled(&mut shop).await?), before, "by force: {by_force}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_leaves_the_others_serving() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    shop.stock("A", 10).await?;
    let leader = grid.leader()?;
    assert_eq!(grid.stop(leader)?.code(), Some(0));
    let other = leader % grid.nodes() + 1;
    let mut shop = Shop::open(&grid.url(other), "regular").await?;
    let body = shop.order_of("A", 1, 100);
    let placed = ordergrid_tests::until("the other two place an order", async || {
        let answer = shop.http.post("/v1/orders", "k", &body).await?;
        Ok(answer.status.is_success().then_some(answer))
    })
    .await?;
    let order = id(&placed.json()?)?;
    grid.start_all()?;
    let mut shop = Shop::open(&grid.url(leader), "regular").await?;
    assert_eq!(id(&shop.order(&order).await?)?, order);
    grid.cli()?.verify()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_node_at_a_time() -> Result<()> {
    let grid = Grid::start(1)?;
    let config = grid.config(1);
    let mut command = grid.cli()?.command(&["serve", "--config", config.to_str().expect("a plain name")]);
    command.env("ORDERGRID_HTTP_LISTEN", "127.0.0.1:0").env("ORDERGRID_MESH_LISTEN", "127.0.0.1:0");
    let (status, said) = Process::start_talking("a second node", command)?.finish()?;
    let said = said.join("\n");
    assert_eq!(status.code(), Some(1), "{said}");
    let folder = grid.data(1).display().to_string();
    assert!(said.contains(&folder), "the message should name {folder}: {said}");
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    shop.stock("A", 1).await?;
    shop.place("A", 1, 100).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_with_copies_of_one_nodes_data_the_later_one_ends() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    shop.stock("A", 5).await?;
    grid.stop(3)?;
    let copy = grid.file("copy");
    let copied = Command::new("cp").arg("-r").arg(grid.data(3)).arg(&copy).status()?;
    assert!(copied.success());
    grid.start_all()?;
    let config = grid.config(3);
    let mut command = grid.cli()?.command(&["serve", "--config", config.to_str().expect("a plain name")]);
    command.env("ORDERGRID_HTTP_LISTEN", "127.0.0.1:0").env("ORDERGRID_MESH_LISTEN", "127.0.0.1:0");
    command.env("ORDERGRID_NODE_DATA", &copy);
    let (status, said) = Process::start_talking("a copy of node 3", command)?.finish()?;
    let said = said.join("\n");
    assert_eq!(status.code(), Some(1), "{said}");
    for named in ["another process runs as node 3", &grid.url(3), "this one is at 127.0.0.1:"] {
        assert!(said.contains(named), "it should say {named}: {said}");
    }
    grid.cli()?.verify()?;
    shop.place("A", 5, 100).await?;
    assert_eq!(grid.stop(3)?.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_lost_its_disk_does_not_start_as_if_nothing_had_happened() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    shop.stock("A", 5).await?;
    let order = id(&shop.place("A", 5, 100).await?)?;
    grid.kill(3)?;
    fs::remove_dir_all(grid.data(3))?;
    grid.launch(3)?;
    let node = grid.take(3)?;
    let log_of = |node: &Process| node.log();
    let end = node.line()?;
    assert!(end.is_none(), "it should not serve: {end:?}");
    assert!(!log_of(&node).is_empty(), "it should say why");
    assert_eq!(node.wait()?.code(), Some(1));
    assert_eq!(shop.order(&order).await?["id"], order.as_str());
    Ok(())
}

#[test]
fn a_wrong_configuration_is_told_before_anything_starts() -> Result<()> {
    let grid = Grid::prepare(1, "")?;
    let good = fs::read_to_string(grid.config(1))?;
    let cli = grid.cli()?;
    // what, the file, what the message must name
    for (what, text, named) in [
        ("not TOML", "[node".to_owned(), "line 1"),
        ("an unknown key", good.replace("[mesh]", "[mesh]\ncolour = \"red\""), "colour"),
        ("an unknown section", format!("{good}\n[colour]\nred = 1\n"), "colour"),
        ("no id", good.replace("id = 1\ndata", "data"), "node.id"),
        ("a limit out of range", format!("{good}\n[limits]\norder_lines = 1001\n"), "limits.order_lines"),
        ("no such time", format!("{good}\n[raft]\nheartbeat = \"soon\"\n"), "soon"),
    ] {
        let file = grid.file("wrong.toml");
        fs::write(&file, text)?;
        for arguments in [&["serve", "--check"][..], &["serve"]] {
            let ran = cli.run(&[arguments, &["--config", file.to_str().expect("a plain name")]].concat())?;
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert_eq!(ran.code, Some(2), "{what}, {arguments:?}: {said}");
            assert!(said.contains(named), "{what}, {arguments:?}: the message should name {named}: {said}");
        }
    }
    let missing = cli.run(&["serve", "--check", "--config", "/no/such/file.toml"])?;
    assert_eq!(missing.code, Some(2), "{}{}", missing.stdout, missing.stderr);
    let fine = cli.run(&["serve", "--check", "--config", grid.config(1).to_str().expect("a plain name")])?;
    assert_eq!(fine.code, Some(0), "{}{}", fine.stdout, fine.stderr);
    assert!(!grid.data(1).exists(), "a check must not touch the disk");
    Ok(())
}
