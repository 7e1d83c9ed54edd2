//! Clusters of real processes: `serve` once per node, or `dev` for all nodes in one process.
//!
//! A node listens on sockets that the test has bound for it (socket activation), so that no port is guessed, and a node
//! that is started again has the ports it had. Between two lives of a node its ports are bound but nobody listens: clients
//! are turned away at once, as they are by a machine whose process died.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};
use command_fds::{CommandFdExt, FdMapping};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::cli::Cli;
use crate::clock;
use crate::process::{Process, program};

/// The first descriptor that a started process is handed, by convention.
const FIRST_FD: i32 = 3;

/// A port that is ours for as long as this lives.
struct Port {
    address: SocketAddr,
    /// Bound and never listening: it keeps others off the port and does not keep a listener of ours off it.
    _reservation: TcpSocket,
}

impl Port {
    fn reserve() -> Result<Self> {
        let reservation = TcpSocket::new_v4()?;
        reservation.set_reuseaddr(true)?;
        reservation.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Self { address: reservation.local_addr()?, _reservation: reservation })
    }

    fn listen(&self) -> Result<OwnedFd> {
        let listener = TcpListener::bind(self.address).with_context(|| format!("listen on {}", self.address))?;
        listener.set_nonblocking(true)?;
        Ok(listener.into())
    }
}

/// A place for a node: its ports, its folder, and the process that runs it now.
struct Seat {
    id: usize,
    http: Port,
    mesh: Port,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

/// A cluster of `serve` processes. Dropped, everything is killed and removed.
pub struct Grid {
    seats: Vec<Seat>,
    drain: String,
    open_files: Option<u32>,
    /// What answers for the time of day, if it may be off.
    library: Option<PathBuf>,
    dir: TempDir,
}

impl Grid {
    /// Starts a cluster of `nodes` nodes with an empty disk each, and waits until all of them serve.
    ///
    /// # Errors
    /// If a node does not come up.
    pub fn start(nodes: usize) -> Result<Self> {
        Self::start_with(nodes, "")
    }

    /// The same with more lines of configuration on every node.
    ///
    /// # Errors
    /// If a node does not come up.
    pub fn start_with(nodes: usize, more: &str) -> Result<Self> {
        let mut grid = Self::prepare(nodes, more)?;
        grid.start_all()?;
        Ok(grid)
    }

    /// A cluster that is configured and not started.
    ///
    /// # Errors
    /// If there is no port or no folder to be had.
    pub fn prepare(nodes: usize, more: &str) -> Result<Self> {
        let dir = TempDir::with_prefix("ordergrid-")?;
        let seat = |id: usize| -> Result<Seat> {
            let config = dir.path().join(format!("n{id}.toml"));
            let log = dir.path().join(format!("n{id}.log"));
            Ok(Seat { id, http: Port::reserve()?, mesh: Port::reserve()?, config, log, process: None })
        };
        let seats: Vec<Seat> = (1..=nodes).map(seat).collect::<Result<_>>()?;
        let members: String = seats
            .iter()
            .map(|seat| {
                let Seat { id, http, mesh, .. } = seat;
                format!("[[bootstrap.nodes]]\nid = {id}\nmesh = \"{}\"\nhttp = \"http://{}\"\n", mesh.address, http.address)
            })
            .collect();
        for seat in &seats {
            let Seat { id, http, mesh, .. } = seat;
            let data = dir.path().join(format!("n{id}"));
            let text = format!(
                "[node]\nid = {id}\ndata = {data:?}\n[mesh]\nlisten = \"{}\"\n[http]\nlisten = \"{}\"\n{more}\n[bootstrap]\nshards = 4\n{members}",
                mesh.address, http.address
            );
            fs::write(&seat.config, text)?;
        }
        Ok(Self { seats, drain: "0s".to_owned(), open_files: None, library: None, dir })
    }

    /// Nodes that are started from now on serve for so long, such as `5s`, once they are to stop; else they stop at once.
    #[must_use]
    pub fn draining(self, drain: &str) -> Self {
        Self { drain: drain.to_owned(), ..self }
    }

    /// Nodes that are started from now on may have so many files open.
    #[must_use]
    pub fn with_open_files(self, most: u32) -> Self {
        Self { open_files: Some(most), ..self }
    }

    /// The clocks of nodes that are started from now on are right until [`Grid::clocks`] says otherwise.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn with_clocks(self, library: PathBuf) -> Result<Self> {
        let grid = Self { library: Some(library), ..self };
        grid.clocks(0)?;
        Ok(grid)
    }

    /// The clocks of all nodes are off by so many seconds from now on.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn clocks(&self, seconds: i64) -> Result<()> {
        clock::set(&self.file("clock"), seconds)
    }

    /// How many nodes it has, running or not.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.seats.len()
    }

    /// The URL of a node, numbered from 1.
    #[must_use]
    pub fn url(&self, node: usize) -> String {
        format!("http://{}", self.seat(node).http.address)
    }

    /// The URLs of all nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        (1..=self.nodes()).map(|node| self.url(node)).collect()
    }

    /// The command line, pointed at all nodes.
    ///
    /// # Errors
    /// If the program is not there.
    pub fn cli(&self) -> Result<Cli> {
        Cli::new(&self.urls())
    }

    /// The configuration file of a node.
    #[must_use]
    pub fn config(&self, node: usize) -> PathBuf {
        self.seat(node).config.clone()
    }

    /// The folder in which a node keeps its data.
    #[must_use]
    pub fn data(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("n{node}"))
    }

    /// A file beside the nodes' folders, for logs of other processes.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a node and does not wait for it.
    ///
    /// # Errors
    /// If its ports or the program cannot be had.
    pub fn launch(&mut self, node: usize) -> Result<()> {
        let mut command = self.program()?;
        command.args(["serve", "-o", "json", "--config"]).arg(&self.seat(node).config);
        command.env("ORDERGRID_HTTP_DRAIN", &self.drain);
        if let Some(library) = &self.library {
            command.envs(clock::environment(library, &self.file("clock")));
        }
        let seat = self.seat_mut(node);
        ensure!(seat.process.is_none(), "node {node} is running");
        // HTTP first, then the mesh.
        let fds = [seat.http.listen()?, seat.mesh.listen()?];
        let mappings = (FIRST_FD..).zip(fds).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).map_err(|collision| anyhow::anyhow!("{collision:?}"))?;
        command.env("LISTEN_FDS", "2").env_remove("LISTEN_PID");
        seat.process = Some(Process::start(&format!("node {}", seat.id), command, &seat.log)?);
        Ok(())
    }

    /// Waits until a launched node serves.
    ///
    /// # Errors
    /// If it ends instead.
    pub fn ready(&self, node: usize) -> Result<()> {
        self.running(node)?.ready().map(drop)
    }

    /// Starts every node that is not running, and waits until they serve.
    ///
    /// # Errors
    /// If one does not come up.
    pub fn start_all(&mut self) -> Result<()> {
        let missing: Vec<usize> = (1..=self.nodes()).filter(|node| self.seat(*node).process.is_none()).collect();
        // A cluster needs a majority to serve, so none is waited for before all are launched.
        missing.iter().try_for_each(|node| self.launch(*node))?;
        missing.iter().try_for_each(|node| self.ready(*node))
    }

    /// `kill -9` of a node.
    ///
    /// # Errors
    /// If it was not running.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        self.take(node)?.kill()
    }

    /// `kill -9` of all nodes, one right after the other.
    ///
    /// # Errors
    /// If one was not running.
    pub fn kill_all(&mut self) -> Result<()> {
        (1..=self.nodes()).try_for_each(|node| self.kill(node))
    }

    /// Starts a node again if it has ended by itself, as its supervisor would; whether it had.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn supervise(&mut self, node: usize) -> Result<bool> {
        let process = &mut self.seat_mut(node).process;
        let ended = process.as_mut().map_or(Ok(true), |process| Ok::<_, anyhow::Error>(process.ended()?.is_some()))?;
        if ended {
            *process = None;
            self.launch(node)?;
        }
        Ok(ended)
    }

    /// Asks a node to stop and waits for its end.
    ///
    /// # Errors
    /// If it was not running, or does not stop.
    pub fn stop(&mut self, node: usize) -> Result<ExitStatus> {
        self.take(node)?.stop()
    }

    /// Takes the process of a node out of the cluster's care.
    ///
    /// # Errors
    /// If it was not running.
    pub fn take(&mut self, node: usize) -> Result<Process> {
        self.seat_mut(node).process.take().with_context(|| format!("node {node} is not running"))
    }

    /// The node that leads most shards at the moment. Some may have no leader just then, which the exit code says.
    ///
    /// # Errors
    /// If the cluster does not say.
    pub fn leader(&self) -> Result<usize> {
        let status = self.cli()?.run(&["cluster", "status"])?.json()?;
        let leads = |node: &Value| node["leaders"].as_u64().unwrap_or_default();
        let nodes = status["nodes"].as_array().context("cluster status names no nodes")?;
        let first = nodes.iter().max_by_key(|node| leads(node)).context("cluster status names no node")?;
        first["id"].as_str().and_then(|id| id.parse().ok()).with_context(|| format!("no id in {first}"))
    }

    /// The program, with as many open files as it is to have.
    fn program(&self) -> Result<Command> {
        let Some(most) = self.open_files else { return Ok(Command::new(program()?)) };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {most} && exec \"$@\""), "sh"]).arg(program()?);
        Ok(command)
    }

    /// Asks a node to stop and does not wait for its end.
    ///
    /// # Errors
    /// If it is not running.
    pub fn terminate(&self, node: usize) -> Result<()> {
        self.running(node)?.terminate()
    }

    fn running(&self, node: usize) -> Result<&Process> {
        self.seat(node).process.as_ref().with_context(|| format!("node {node} is not running"))
    }

    fn seat(&self, node: usize) -> &Seat {
        &self.seats[node - 1]
    }

    fn seat_mut(&mut self, node: usize) -> &mut Seat {
        &mut self.seats[node - 1]
    }
}

/// A grid in one process, as `ordergrid dev` makes it. Dropped, it is killed and removed.
pub struct Dev {
    // Before the folder it writes to.
    process: Option<Process>,
    urls: Vec<String>,
    dir: TempDir,
}

impl Dev {
    /// Starts `nodes` nodes on an empty folder and waits until they serve.
    ///
    /// # Errors
    /// If they do not come up.
    pub fn start(nodes: usize) -> Result<Self> {
        let mut dev = Self { process: None, urls: Vec::new(), dir: TempDir::with_prefix("ordergrid-")? };
        dev.restart(nodes)?;
        Ok(dev)
    }

    /// Starts it again on the data it had, on new ports.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self, nodes: usize) -> Result<()> {
        ensure!(self.process.is_none(), "it is running");
        let mut command = Command::new(program()?);
        command.args(["dev", "-o", "json", "--port", "0", "--nodes", &nodes.to_string(), "--shards", "4", "--data"]);
        command.arg(self.data());
        let process = Process::start("dev", command, &self.dir.path().join("dev.log"))?;
        self.urls = process.ready()?.endpoints;
        ensure!(self.urls.len() == nodes, "{nodes} nodes were asked for, the endpoints are {:?}", self.urls);
        self.process = Some(process);
        Ok(())
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Errors
    /// If it was not running, or does not stop.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.take()?.stop()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it was not running.
    pub fn kill(&mut self) -> Result<()> {
        self.take()?.kill()
    }

    /// The URLs of its nodes.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The command line, pointed at all nodes.
    ///
    /// # Errors
    /// If the program is not there.
    pub fn cli(&self) -> Result<Cli> {
        Cli::new(&self.urls)
    }

    /// The folder in which it keeps its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn take(&mut self) -> Result<Process> {
        self.process.take().context("it is not running")
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_reserved_port_turns_away_until_somebody_listens() -> Result<()> {
        let port = Port::reserve()?;
        for _ in 0..3 {
            let refused = TcpStream::connect(port.address).expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let listener = port.listen()?;
            // Dropped first, as the client of a node that is killed: its end of the connection is what lingers.
            drop(TcpStream::connect(port.address)?);
            drop(listener);
        }
        Ok(())
    }
}
