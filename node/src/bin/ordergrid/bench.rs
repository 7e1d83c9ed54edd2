//! `ordergrid bench --nodes`: benchmarks a temporary cluster. Each node is a process of its own with its data in a temporary
//! folder, so that the resources of the cluster and of the load are measured separately. Everything is removed at the end.

mod nodes;

use std::sync::Arc;

use anyhow::Context;
use ordergrid_api::client::TcpConnector;
use ordergrid_cli::bench::{self, BenchArgs, BenchOptions, BenchReport, Progress, Subject};
use ordergrid_cli::{Exit, GlobalArgs, Screen, VerbFailure};
use tempfile::TempDir;

use self::nodes::Nodes;
use crate::cli::{failed, runtime};
use crate::running::StopSignals;

/// The inner result is that of the measurement.
type Measured = anyhow::Result<Result<BenchReport, VerbFailure>>;

/// Starts a cluster, measures it, stops it, and removes its data.
pub(crate) fn self_started(args: &BenchArgs, nodes: u8, global: &GlobalArgs, screen: &Screen) -> Result<Exit, VerbFailure> {
    let options = args.options()?;
    let usage = |detail: &str| VerbFailure::new(Exit::Usage, "usage", detail);
    if global.curl {
        return Err(usage("bench makes many calls; --curl works only with verbs that make one"));
    }
    if !global.endpoints().is_empty() {
        return Err(usage("--nodes measures a grid of its own, --endpoint one that runs: give one of them"));
    }
    let runtime = runtime(0).map_err(|wrong| failed(&wrong.into()))?;
    let measured = runtime.block_on(measure(args, nodes, &options, &Progress::new(screen)));
    // Requests of an interrupted benchmark may still be in flight.
    runtime.shutdown_background();
    let report = measured.map_err(|wrong| failed(&wrong))??;
    bench::end(&report, args, global.output, screen)
}

async fn measure(args: &BenchArgs, count: u8, options: &BenchOptions, progress: &Progress) -> Measured {
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    // Created after signals are handled, so that it is always removed.
    let folder = folder(args)?;
    let mut nodes = Nodes::default();
    let measured = tokio::select! {
        measured = start_and_load(&mut nodes, args, count, options, progress, &folder) => measured,
        () = signals.next() => Err(anyhow::anyhow!("interrupted before there was a measurement")),
    };
    progress.ends();
    let stopped = tokio::select! {
        stopped = nodes.stop() => stopped,
        () = signals.next() => Err(anyhow::anyhow!("stopped at once by a second signal")),
    };
    nodes.kill().await;
    let removed = folder.close().context("cannot remove the grid's data");
    let report = measured?;
    stopped.and(removed)?;
    Ok(report)
}

async fn start_and_load(
    nodes: &mut Nodes,
    args: &BenchArgs,
    count: u8,
    options: &BenchOptions,
    progress: &Progress,
    folder: &TempDir,
) -> Measured {
    progress.says("starting nodes");
    let endpoints = nodes.start(count, args.shards, &args.set, folder.path()).await?;
    let connector = Arc::new(TcpConnector);
    let subject = Subject { endpoints, connector, started: Some((count, args.shards)) };
    tokio::select! {
        measured = bench::run(options, &subject, progress) => Ok(measured),
        wrong = nodes.ended() => Err(wrong),
    }
}

/// The folder of the cluster's data.
fn folder(args: &BenchArgs) -> anyhow::Result<TempDir> {
    let mut name = tempfile::Builder::new();
    name.prefix("ordergrid-bench-");
    match &args.data {
        None => name.tempdir().context("cannot make a temporary folder"),
        Some(below) => {
            std::fs::create_dir_all(below).with_context(|| format!("cannot make {}", below.display()))?;
            name.tempdir_in(below).with_context(|| format!("cannot make a folder in {}", below.display()))
        }
    }
}
