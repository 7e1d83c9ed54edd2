//! The command line: which verb, with which runtime around it, and how it ends. A client's verbs are [`ordergrid_api`]'s.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ordergrid_api::cli::{self, ClientCommand, Exit, Format, GlobalArgs, Screen, VerbFailure};
use ordergrid_api::client::TcpConnector;
use ordergrid_node::config::TraceConfig;
use ordergrid_node::exporter::{Exporter, FILTER_VARIABLE, init_traces};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::dev::{self, DevArgs, Folder};
use crate::running::run_until_stopped;
use crate::serve::{self, Inherited, ServeArgs};

/// How long what still runs when a verb has ended is waited for.
const RUNTIME_STOP: Duration = Duration::from_secs(5);

/// An in-memory grid of orders and stock, durable and replicated.
#[derive(Debug, Parser)]
#[command(name = "ordergrid", version, arg_required_else_help = true, max_term_width = 120)]
struct CommandLine {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a grid in this process, for a first look
    Dev(DevArgs),
    /// Run one node
    Serve(Box<ServeArgs>),
    #[command(flatten)]
    Client(ClientCommand),
}

/// What a script waits for: one line on stdout as soon as the process serves.
#[derive(Debug, Serialize)]
struct ReadyLine<'a> {
    ready: bool,
    endpoints: &'a [String],
    data: &'a str,
}

/// Runs a command line; what comes back is the exit code.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let screen = Screen::standard();
    let CommandLine { global, verb } = match cli::parse(arguments, &screen) {
        Ok(line) => line,
        Err(code) => return code,
    };
    let ended = match verb {
        Verb::Dev(args) => dev(&args, &global, &screen),
        Verb::Serve(args) => serve(&args, &global, &screen),
        Verb::Client(ClientCommand::Bench(args)) if args.nodes.is_some() => {
            crate::bench::self_started(&args, args.nodes.unwrap_or_default(), &global, &screen)
        }
        Verb::Client(command) => return client(command, &global, &screen),
    };
    cli::finish(ended, global.output, &screen)
}

fn serve(args: &ServeArgs, global: &GlobalArgs, screen: &Screen) -> Result<Exit, VerbFailure> {
    let environment = environment();
    let filter = environment.get(FILTER_VARIABLE).cloned();
    let loaded = args.load(environment).map_err(|wrong| VerbFailure::new(Exit::Usage, "invalid_config", wrong.to_string()))?;
    if args.check {
        screen.data(&match global.output {
            Format::Table => loaded.to_toml(),
            Format::Json => format!("{}\n", loaded.to_json().map_err(|wrong| failed(&wrong.into()))?),
        });
        return Ok(Exit::Done);
    }
    // Before there are threads.
    let inherited = Inherited::take().map_err(|wrong| failed(&wrong))?;
    init_traces(&loaded.config.trace, filter).map_err(|wrong| failed(&wrong.into()))?;
    let data = loaded.config.data.display().to_string();
    let announce = |endpoints: &[String]| {
        screen.data(&match global.output {
            Format::Table => format!("{} serves {}, data in {data}\n", loaded.config.name, endpoints.join(", ")),
            Format::Json => ready_line(endpoints, &data),
        });
    };
    let config = loaded.config.clone();
    run_in(config.workers, |exporter| run_until_stopped(serve::start(config, inherited, exporter), announce))
        .map_err(|wrong| failed(&wrong))?;
    Ok(Exit::Done)
}

fn dev(args: &DevArgs, global: &GlobalArgs, screen: &Screen) -> Result<Exit, VerbFailure> {
    warnings_only()?;
    let folder = Folder::open(args.data.as_deref()).map_err(|wrong| failed(&wrong))?;
    let announce = |endpoints: &[String]| {
        screen.data(&match global.output {
            Format::Table => dev::welcome(args.shards, endpoints, &folder),
            Format::Json => ready_line(endpoints, &folder.path().display().to_string()),
        });
    };
    let ended =
        run_in(0, |exporter| run_until_stopped(args.start(folder.path(), Some(exporter)), announce));
    // After the runtime, so that nothing writes there any more.
    let kept = folder.close(ended.is_err()).map_err(|wrong| failed(&wrong.into()))?;
    ended.map_err(|wrong| match kept {
        Some(kept) => failed(&wrong).with_hint(format!("the data is kept in {}", kept.display())),
        None => failed(&wrong),
    })?;
    Ok(Exit::Done)
}

/// The traces of a process that a person looks at.
pub(crate) fn warnings_only() -> Result<(), VerbFailure> {
    let traces = TraceConfig { filter: "warn".to_owned(), json: false };
    init_traces(&traces, std::env::var(FILTER_VARIABLE).ok()).map_err(|wrong| failed(&wrong.into()))
}

fn client(command: ClientCommand, global: &GlobalArgs, screen: &Screen) -> u8 {
    let ended = runtime(0).map(|runtime| {
        let code = runtime.block_on(cli::run(command, global, Arc::new(TcpConnector), screen));
        runtime.shutdown_background();
        code
    });
    ended.unwrap_or_else(|wrong| cli::finish(Err(failed(&wrong.into())), global.output, screen))
}

/// Runs nodes in a runtime of their own, with the metrics of this process.
pub(crate) fn run_in<T, F: Future<Output = anyhow::Result<T>>>(
    workers: usize,
    run: impl FnOnce(Exporter) -> F,
) -> anyhow::Result<T> {
    let exporter = Exporter::install()?;
    let runtime = runtime(workers)?;
    runtime.spawn(exporter.clone().keep_up());
    let ended = runtime.block_on(run(exporter));
    if ended.is_ok() {
        runtime.shutdown_timeout(RUNTIME_STOP);
    } else {
        runtime.shutdown_background();
    }
    ended
}

fn runtime(workers: usize) -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.thread_name("ordergrid").enable_all().build()
}

fn ready_line(endpoints: &[String], data: &str) -> String {
    let line = ReadyLine { ready: true, endpoints, data };
    serde_json::to_string(&line).expect("texts and lists of them are JSON") + "\n"
}

/// A failure of this process, the causes after what was attempted.
pub(crate) fn failed(wrong: &anyhow::Error) -> VerbFailure {
    VerbFailure::new(Exit::Failed, "failed", format!("{wrong:#}"))
}

/// The variables that are text; ours always are.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// Reads `KEY=VALUE`.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("must be KEY=VALUE, such as limits.memory=2GiB".to_owned()),
    }
}
