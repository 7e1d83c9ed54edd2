//! Nodes that run as processes of their own for the time of a benchmark.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::FutureExt;
use futures::future::{join_all, select_all, try_join_all};
use ordergrid_api::client::Endpoint;
use ordergrid_node::telemetry::exporter::FILTER_VARIABLE;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Longest time until the nodes serve.
const START: Duration = Duration::from_secs(60);
/// Longest time for a clean stop.
const STOP: Duration = Duration::from_secs(60);
/// Number of attempts: another process may take a free port before the node listens on it.
const ATTEMPTS: u8 = 3;
/// Lines of a node's log that are quoted when it fails.
const LAST_LINES: usize = 5;

/// The nodes of one cluster. They are killed when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    name: String,
    child: Child,
    /// Kept, so that a process does not find its stdout closed.
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

/// The configuration file of a node.
#[derive(Debug, Serialize)]
struct NodeFile<'a> {
    node: NodePart<'a>,
    mesh: ListenPart<'a>,
    http: ListenPart<'a>,
    trace: TracePart,
    bootstrap: BootstrapPart<'a>,
}

#[derive(Debug, Serialize)]
struct NodePart<'a> {
    id: u64,
    name: &'a str,
    zone: &'a str,
    data: &'a Path,
}

#[derive(Debug, Serialize)]
struct ListenPart<'a> {
    listen: &'a str,
}

#[derive(Debug, Serialize)]
struct TracePart {
    filter: &'static str,
}

#[derive(Debug, Serialize)]
struct BootstrapPart<'a> {
    shards: u16,
    nodes: &'a [Ports],
}

/// A node's description in the cluster.
#[derive(Clone, Debug, Serialize)]
struct Ports {
    id: u64,
    name: String,
    zone: String,
    mesh: String,
    http: String,
}

impl Nodes {
    /// Starts `count` nodes with their data in `folder`, and waits until every node serves every shard. If it is dropped before
    /// its end, [`Nodes::stop`] stops the nodes that were started.
    pub(super) async fn start(
        &mut self,
        count: u8,
        shards: u16,
        set: &[String],
        folder: &Path,
    ) -> anyhow::Result<Vec<Endpoint>> {
        for attempt in 1.. {
            let data = folder.join(attempt.to_string());
            let places = places(count)?;
            for place in &places {
                let running = spawn(place, &places, shards, set, &data)?;
                self.running.push(running);
            }
            match self.serve().await {
                Ok(()) => return places.iter().map(|place| Ok(place.http.parse()?)).collect(),
                Err(_) if attempt < ATTEMPTS && self.a_port_was_taken() => {
                    self.kill().await;
                    std::fs::remove_dir_all(&data)?;
                }
                Err(wrong) => return Err(wrong),
            }
        }
        unreachable!("the last attempt ends")
    }

    async fn serve(&mut self) -> anyhow::Result<()> {
        let serving = try_join_all(self.running.iter_mut().map(Running::serves));
        timeout(START, serving).await.context("the nodes did not serve in time")??;
        Ok(())
    }

    fn a_port_was_taken(&self) -> bool {
        self.running.iter().any(|node| node.last_lines().contains("in use"))
    }

    /// Resolves when a node has ended unexpectedly.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        let ends = self.running.iter_mut().map(|node| async {
            let status = node.child.wait().await;
            let status = status.map_or_else(|wrong| wrong.to_string(), |status| status.to_string());
            anyhow::anyhow!("node {} has ended ({status}){}", node.name, node.last_lines())
        });
        select_all(ends.map(FutureExt::boxed)).await.0
    }

    /// Stops all nodes cleanly.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        for node in &self.running {
            node.terminate();
        }
        let stopping = try_join_all(self.running.iter_mut().map(Running::stops));
        timeout(STOP, stopping).await.context("the nodes did not stop in time")??;
        self.running.clear();
        Ok(())
    }

    /// Kills the remaining processes, and waits until they have ended.
    pub(super) async fn kill(&mut self) {
        // A process that cannot be killed has ended.
        drop(join_all(self.running.iter_mut().map(|node| node.child.kill())).await);
        self.running.clear();
    }
}

impl Running {
    /// Reads the line with which a node reports that it serves.
    async fn serves(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).await?;
        let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if said["ready"] != true {
            bail!("node {} did not start{}", self.name, self.last_lines());
        }
        Ok(())
    }

    fn terminate(&self) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // A process that cannot be signalled has ended.
            let _signalled = kill_process(pid, Signal::TERM);
        }
    }

    async fn stops(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("node {} did not stop cleanly ({status}){}", self.name, self.last_lines());
        }
        Ok(())
    }

    /// The last lines of its log, as the end of a sentence.
    fn last_lines(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        if last.is_empty() { String::new() } else { format!(": {}", last.join(" | ")) }
    }
}

/// Free ports for every node. They are released for the nodes to bind.
fn places(count: u8) -> anyhow::Result<Vec<Ports>> {
    let listen = || TcpListener::bind(("127.0.0.1", 0)).context("no port is free");
    let listeners: Vec<_> = (0..count).map(|_| Ok((listen()?, listen()?))).collect::<anyhow::Result<_>>()?;
    let place = |(id, (mesh, http)): (u64, &(TcpListener, TcpListener))| {
        let (name, zone) = (format!("n{id}"), format!("z{id}"));
        Ok(Ports { id, name, zone, mesh: mesh.local_addr()?.to_string(), http: format!("http://{}", http.local_addr()?) })
    };
    (1..).zip(&listeners).map(place).collect()
}

/// The configuration of one node, as text.
fn file(own: &Ports, all: &[Ports], shards: u16, data: &Path) -> anyhow::Result<String> {
    let file = NodeFile {
        node: NodePart { id: own.id, name: &own.name, zone: &own.zone, data: &data.join(&own.name) },
        mesh: ListenPart { listen: &own.mesh },
        http: ListenPart { listen: own.http.trim_start_matches("http://") },
        trace: TracePart { filter: "warn,openraft=off" },
        bootstrap: BootstrapPart { shards, nodes: all },
    };
    Ok(toml::to_string(&file)?)
}

fn spawn(own: &Ports, all: &[Ports], shards: u16, set: &[String], data: &Path) -> anyhow::Result<Running> {
    std::fs::create_dir_all(data)?;
    let (config, log) = (data.join(format!("{}.toml", own.name)), data.join(format!("{}.log", own.name)));
    std::fs::write(&config, file(own, all, shards, data)?)?;
    let mut command = Command::new(std::env::current_exe().context("where this program is")?);
    command.arg("serve").arg("--config").arg(&config).args(["-o", "json"]);
    for pair in set {
        command.args(["--set", pair]);
    }
    // The nodes do not inherit the environment of this process, except the log level.
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("ORDERGRID_") && name != FILTER_VARIABLE);
        if ours || name.to_str().is_some_and(|name| name.starts_with("LISTEN_")) {
            command.env_remove(&name);
        }
    }
    // No load balancer is in front of them.
    command.env("ORDERGRID_HTTP_DRAIN", "0s");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
    // Ctrl-C is for this process, which then stops the nodes.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().context("cannot start a node")?;
    let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
    Ok(Running { name: own.name.clone(), child, stdout, log })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use ordergrid_node::config::Sources;

    use super::*;

    #[test]
    fn every_node_has_places_of_its_own_and_a_valid_configuration() {
        let places = places(3).expect("ports are free");
        let addresses: BTreeSet<_> = places.iter().flat_map(|place| [&place.mesh, &place.http]).collect();
        assert_eq!(addresses.len(), 6);
        for place in &places {
            let text = file(place, &places, 7, Path::new("/a \"b\"")).expect("it can be written");
            let sources = Sources { file: Some(("n.toml".to_owned(), text)), environment: BTreeMap::new(), flags: Vec::new() };
            let config = sources.load().expect("it is valid").config;
            assert_eq!(config.data, Path::new("/a \"b\"").join(&place.name));
            let bootstrap = config.bootstrap.expect("there is one");
            assert_eq!((bootstrap.shards, bootstrap.nodes.len()), (7, 3));
        }
    }

    #[tokio::test]
    async fn a_node_that_ends_is_told_with_its_last_words_and_one_that_runs_is_stopped() {
        let folder = tempfile::tempdir().expect("there is a place for temporary folders");
        let log = folder.path().join("log");
        std::fs::write(&log, "first\n\nlast words\n").expect("it is ours");
        let running = |script: &str| {
            let mut command = Command::new("sh");
            let mut child = command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
            let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
            Running { name: "n1".to_owned(), child, stdout, log: log.clone() }
        };
        let mut nodes = Nodes { running: vec![running("exit 3")] };
        let wrong = nodes.ended().await.to_string();
        assert!(wrong.contains("n1 has ended (exit status: 3): first | last words"), "{wrong}");
        assert!(nodes.serve().await.is_err(), "it said nothing");

        // It stops when it is told to, which is not before it has said that it serves.
        let script = "trap 'exit 0' TERM; echo '{\"ready\":true}'; cat <&0 & wait $!";
        let mut nodes = Nodes { running: vec![running(script)] };
        nodes.serve().await.expect("it says so");
        nodes.stop().await.expect("it stops cleanly");
        assert!(nodes.running.is_empty());

        let mut nodes = Nodes { running: vec![running("echo '{\"ready\":true}'; exec cat")] };
        nodes.serve().await.expect("it says so");
        nodes.kill().await;
        assert!(nodes.running.is_empty());
    }
}
