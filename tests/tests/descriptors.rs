//! Idle connections take no file from the node: those that have a connection are served, others are refused.

use std::net::TcpStream;

use anyhow::Result;
use ordergrid_tests::{Grid, Http, Process, Shop, until};

/// Files that the node may have open.
const FILES: u32 = 600;
/// Connections that say nothing: more than all files of the node, and fewer than this process may have.
const SILENT: usize = 700;

#[tokio::test(flavor = "multi_thread")]
async fn more_idle_connections_than_files_end_no_node() -> Result<()> {
    // The silent ones stay: on a slow machine the usual wait for a head would end them before all orders are placed.
    let settings = "[checkpoint]\nevery = \"100ms\"\ndirty = \"1MiB\"\n[limits]\nheader_wait = \"10m\"";
    let mut grid = Grid::prepare(1, settings)?.with_open_files(FILES);
    grid.start_all()?;
    let mut shop = Shop::open(&grid.url(1), "regular").await?;
    shop.stock("A", 1_000_000).await?;
    let address = grid.url(1).replace("http://", "");
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(&address)?);
    }
    // New files for checkpoints and for the log, while others ask for descriptors.
    for order in 0..300 {
        shop.place("A", 1, 100).await?;
        if order % 10 == 0 {
            silent.push(TcpStream::connect(&address)?);
        }
    }
    let refused = until("one too many is told so", async || {
        let mut more = Http::connect(&grid.url(1)).await?;
        let told = more.get("/readyz").await.ok();
        Ok(told.filter(|told| told.status == 503))
    })
    .await?;
    assert_eq!((refused.verdict(), refused.header("connection")), ((503, "too_many_connections".to_owned()), Some("close")));
    let (open, most) = (shop.http.metric("process_open_fds").await?, shop.http.metric("process_max_fds").await?);
    assert!(open < most && most <= f64::from(FILES), "{open} of {most}");
    drop(silent);
    until("there is room again", async || {
        let mut more = Http::connect(&grid.url(1)).await?;
        Ok(more.get("/readyz").await.ok().filter(|told| told.status == 200))
    })
    .await?;
    assert_eq!(grid.stop(1)?.code(), Some(0));
    Ok(())
}

#[test]
fn too_few_files_are_refused_in_words() -> Result<()> {
    let mut grid = Grid::prepare(1, "")?.with_open_files(200);
    grid.launch(1)?;
    let node: Process = grid.take(1)?;
    assert_eq!(node.line()?, None, "it should not serve");
    let said = node.log();
    assert!(said.contains("200") && said.contains("ulimit -n"), "{said}");
    assert_eq!(node.wait()?.code(), Some(1));
    assert!(!grid.data(1).exists(), "nothing was begun");
    Ok(())
}
