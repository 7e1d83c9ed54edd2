//! `ordergrid bench --nodes`: load on a grid that is started for it, in this process and a temporary folder.

use std::cell::OnceCell;
use std::sync::Arc;

use anyhow::Context;
use ordergrid_api::cli::bench::{self, BenchArgs, BenchOptions};
use ordergrid_api::cli::{Exit, GlobalArgs, Screen, VerbFailure};
use ordergrid_api::client::{Endpoint, TcpConnector};
use ordergrid_node::exporter::Exporter;

use crate::cli::{failed, run_in, warnings_only};
use crate::dev::{DevArgs, Folder};
use crate::running::{Running, StopSignals};

/// Shards of the grid: the default of a new cluster.
const SHARDS: u16 = 4;

/// Starts a grid, measures it, stops it, and removes its data.
pub(crate) fn self_started(args: &BenchArgs, nodes: u8, global: &GlobalArgs, screen: &Screen) -> Result<Exit, VerbFailure> {
    let options = args.options()?;
    let usage = |detail: &str| VerbFailure::new(Exit::Usage, "usage", detail);
    let nodes = crate::cli::one_or_three(&nodes.to_string()).map_err(|wrong| usage(&format!("--nodes {wrong}")))?;
    if !global.endpoints.is_empty() {
        return Err(usage("--nodes measures a grid of its own, --endpoint one that runs: give one of them"));
    }
    warnings_only()?;
    let grid = DevArgs { nodes, data: None, port: 0, shards: SHARDS, set: Vec::new() };
    let opened = OnceCell::new();
    let measured = run_in(0, |exporter| measure(&grid, &opened, &options, exporter));
    if let Some(folder) = opened.into_inner() {
        folder.close(false).map_err(|wrong| failed(&wrong.into()))?;
    }
    let report = measured.map_err(|wrong| failed(&wrong))??;
    bench::show(&report, global.output, screen)
}

/// The inner result is the measurement's own.
type Measured = Result<bench::BenchReport, VerbFailure>;

async fn measure(
    grid: &DevArgs,
    opened: &OnceCell<Folder>,
    options: &BenchOptions,
    exporter: Exporter,
) -> anyhow::Result<Measured> {
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    // Opened once signals are caught, so that it cannot be left behind.
    let folder = Folder::open(None)?;
    let running = grid.start(opened.get_or_init(|| folder).path(), Some(exporter)).await?;
    let measured = tokio::select! {
        measured = load(&running, options) => Ok(measured?),
        failure = running.failed() => return Err(failure.into()),
        () = signals.next() => Err(anyhow::anyhow!("interrupted before there was a measurement")),
    };
    running.stop().await?;
    measured
}

async fn load(running: &Running, options: &BenchOptions) -> anyhow::Result<Measured> {
    running.ready().await;
    let endpoints = running.endpoints();
    let endpoints: Vec<Endpoint> = endpoints.iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
    Ok(bench::run(options, &endpoints, Arc::new(TcpConnector)).await)
}
