//! The command line: commands, their runtime, and their exit codes. The client's commands are in [`ordergrid_cli`].

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ordergrid_api::client::TcpConnector;
use ordergrid_cli::{ClientCommand, Exit, Format, GlobalArgs, Screen, VerbFailure};
use ordergrid_node::config::TraceConfig;
use ordergrid_node::telemetry::exporter::{Exporter, FILTER_VARIABLE, init_traces};
use ordergrid_node::{FatalError, StartError};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::dev::{self, DevArgs, Folder};
use crate::offline_verbs::OfflineCommand;
use crate::running::run_until_stopped;
use crate::serve::{self, Inherited, ServeArgs};

/// Longest wait for tasks that still run when a command has ended.
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
    /// Run a grid in this process, to try it out
    Dev(DevArgs),
    /// Run one node
    #[command(after_long_help = SERVE_HELP)]
    Serve(Box<ServeArgs>),
    /// Inspect and repair the data of a stopped node
    #[command(subcommand)]
    Offline(OfflineCommand),
    #[command(flatten)]
    Client(ClientCommand),
}

const SERVE_HELP: &str = "\
Flags stand over ORDERGRID_... variables (ORDERGRID_LIMITS_FRAME for limits.frame), and those over the file. Sockets \
inherited from systemd, or from another process that speaks its protocol, are used instead of the configured addresses: \
the first for HTTP, the second for the mesh. With -o json, one line on stdout says when the node serves. SIGTERM stops \
it cleanly, a second one at once.";

/// A line on stdout for scripts, as soon as the process serves.
#[derive(Debug, Serialize)]
struct ReadyLine<'a> {
    ready: bool,
    endpoints: &'a [String],
    data: &'a str,
}

/// Runs a command line and returns the exit code.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let screen = Screen::standard();
    let CommandLine { global, verb } = match ordergrid_cli::parse(arguments, &screen) {
        Ok(line) => line,
        Err(code) => return code,
    };
    let ended = match verb {
        Verb::Dev(_) | Verb::Serve(_) | Verb::Offline(_) if global.curl => Err(no_request()),
        Verb::Dev(args) => dev(&args, &global, &screen),
        Verb::Serve(args) => serve(&args, &global, &screen),
        Verb::Offline(command) => command.run(&global, &screen),
        Verb::Client(ClientCommand::Bench(args)) if args.nodes.is_some() => {
            crate::bench::self_started(&args, args.nodes.unwrap_or_default(), &global, &screen)
        }
        Verb::Client(command) => return client(command, &global, &screen),
    };
    ordergrid_cli::finish(ended, global.output, &screen)
}

/// A verb that sends nothing has no request to show, and was not asked to do its work.
fn no_request() -> VerbFailure {
    let detail = "--curl shows the request of a verb that makes one call to a grid; this verb makes none";
    VerbFailure::new(Exit::Usage, "usage", detail)
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
    // This must happen before threads start.
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
    let sockets = inherited.is_any();
    let ended = run_in(config.workers, |exporter| run_until_stopped(serve::start(config, inherited, exporter), announce));
    let Err(wrong) = ended else { return Ok(Exit::Done) };
    // Inherited sockets are lost with this process. Whoever opened them starts a new process.
    if !sockets && begins_again(&wrong) {
        tracing::error!(error = format!("{wrong:#}"), "node failed and starts again");
        return Err(failed(&begin_again().into()));
    }
    Err(failed(&wrong))
}

/// Whether another start repairs the cause of this failure.
fn begins_again(wrong: &anyhow::Error) -> bool {
    wrong.downcast_ref::<FatalError>().is_some_and(|fatal| fatal.again)
        || wrong.downcast_ref::<StartError>().is_some_and(StartError::begins_again)
}

/// Replaces this process with a new one of the same program. All its files are closed. Returns only on failure.
fn begin_again() -> std::io::Error {
    match std::env::current_exe() {
        Ok(program) => std::process::Command::new(program).args(std::env::args_os().skip(1)).exec(),
        Err(unknown) => unknown,
    }
}

fn dev(args: &DevArgs, global: &GlobalArgs, screen: &Screen) -> Result<Exit, VerbFailure> {
    warnings_only()?;
    // Created after signals are handled, so that a temporary folder is always removed.
    let opened = OnceCell::new();
    let announce = |endpoints: &[String]| {
        let folder: &Folder = opened.get().expect("nodes serve only after their folder was opened");
        screen.data(&match global.output {
            Format::Table => dev::welcome(endpoints, folder),
            Format::Json => ready_line(endpoints, &folder.path().display().to_string()),
        });
    };
    let ended = run_in(0, |exporter| {
        let starting = async {
            let folder = Folder::open(args.data.as_deref())?;
            args.start(opened.get_or_init(|| folder).path(), Some(exporter)).await
        };
        run_until_stopped(starting, announce)
    });
    // After the runtime has ended, so that nothing writes to the folder any more.
    let kept = opened.into_inner().map_or(Ok(None), |folder| folder.close(ended.is_err()));
    let kept = kept.map_err(|wrong| failed(&wrong.into()))?;
    ended.map_err(|wrong| match kept {
        Some(kept) => failed(&wrong).with_hint(format!("the data is kept in {}", kept.display())),
        None => failed(&wrong),
    })?;
    Ok(Exit::Done)
}

/// The log events of a process that runs in the foreground.
fn warnings_only() -> Result<(), VerbFailure> {
    // openraft reports its own clean end as an error; OrderGrid logs the relevant events itself.
    let traces = TraceConfig { filter: "warn,openraft=off".to_owned(), json: false };
    init_traces(&traces, std::env::var(FILTER_VARIABLE).ok()).map_err(|wrong| failed(&wrong.into()))
}

fn client(command: ClientCommand, global: &GlobalArgs, screen: &Screen) -> u8 {
    let ended = runtime(0).map(|runtime| {
        let code = runtime.block_on(ordergrid_cli::run(command, global, Arc::new(TcpConnector), screen));
        runtime.shutdown_background();
        code
    });
    ended.unwrap_or_else(|wrong| ordergrid_cli::finish(Err(failed(&wrong.into())), global.output, screen))
}

/// Runs nodes in a runtime of their own, with the metrics of this process.
fn run_in<T, F: Future<Output = anyhow::Result<T>>>(workers: usize, run: impl FnOnce(Exporter) -> F) -> anyhow::Result<T> {
    let exporter = Exporter::install()?;
    let runtime = runtime(workers)?;
    runtime.spawn(exporter.clone().keep_up());
    let ended = runtime.block_on(run(exporter));
    // Also after a failure: a process that exits with open databases aborts.
    runtime.shutdown_timeout(RUNTIME_STOP);
    ended
}

pub(crate) fn runtime(workers: usize) -> std::io::Result<Runtime> {
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

/// A failure of this process, with its causes.
pub(crate) fn failed(wrong: &anyhow::Error) -> VerbFailure {
    VerbFailure::new(Exit::Failed, "failed", format!("{wrong:#}"))
}

/// The environment variables that are valid UTF-8; ours always are.
pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// Parses `KEY=VALUE`.
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("must be KEY=VALUE, such as limits.memory=2GiB".to_owned()),
    }
}

/// Parses a number of nodes with a clear majority.
pub(crate) fn one_or_three(text: &str) -> Result<u16, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("must be 1 or 3".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_script_finds_what_it_waits_for() {
        let endpoints = ["http://127.0.0.1:1".to_owned()];
        let line = ready_line(&endpoints, "/data");
        assert_eq!(line, "{\"ready\":true,\"endpoints\":[\"http://127.0.0.1:1\"],\"data\":\"/data\"}\n");
    }

    #[test]
    fn verbs_that_send_nothing_refuse_to_show_a_request() {
        for line in ["dev --curl", "serve --config x.toml --curl", "offline status --config x.toml --curl"] {
            let arguments = std::iter::once("ordergrid").chain(line.split(' ')).map(OsString::from);
            assert_eq!(run(arguments), Exit::Usage.code(), "{line}");
        }
    }

    #[test]
    fn flags_are_read() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(assignment("limits.memory=2GiB"), pair("limits.memory", "2GiB"));
        assert_eq!(assignment("trace.filter = info,a=debug"), pair("trace.filter", "info,a=debug"));
        assert_eq!(assignment("node.zone="), pair("node.zone", ""));
        assert!(assignment("limits.memory").is_err() && assignment("=1").is_err());
        assert_eq!((one_or_three("1"), one_or_three("3")), (Ok(1), Ok(3)));
        assert!(["0", "2", "4", "x", ""].iter().all(|text| one_or_three(text).is_err()));
    }
}
