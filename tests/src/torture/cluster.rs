//! The nodes of a round: real `serve` processes that may end, be ended, stand still, and be started again.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ordergrid_api::client::Endpoint;
use rustix::process::Signal;
use tokio::net::TcpSocket;

use super::network::Network;
use super::plan::Plan;
use crate::process::{Process, program};

/// A node's place.
struct Seat {
    http: SocketAddr,
    /// What the program is run by, so that it is in the node's namespace.
    entry: Vec<String>,
    data: PathBuf,
    config: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
    paused: bool,
    /// Keeps the ports ours where there are no namespaces.
    _ports: Vec<TcpSocket>,
}

/// A node that ended without being asked to.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) node: usize,
    /// How, and its last words.
    pub(super) words: String,
}

/// All nodes of a round. Dropped, they are killed.
pub(super) struct Cluster {
    seats: BTreeMap<usize, Seat>,
}

/// Where a node's data goes, and what else its process needs.
pub(super) struct Place {
    pub(super) data: PathBuf,
    pub(super) environment: Vec<(String, String)>,
}

impl Cluster {
    /// Writes the configuration of every node; starts none.
    pub(super) fn prepare(plan: &Plan, folder: &Path, places: Vec<Place>, network: Option<&Network>) -> Result<Self> {
        let mut seats = BTreeMap::new();
        let mut addresses = Vec::new();
        for (node, place) in (1..).zip(places) {
            let (http, mesh, entry, ports) = match network {
                Some(network) => (network.socket(node, 8080), network.socket(node, 7411), network.entry(node), Vec::new()),
                None => {
                    let (http, first) = reserve()?;
                    let (mesh, second) = reserve()?;
                    (http, mesh, Vec::new(), vec![first, second])
                }
            };
            addresses.push((node, http, mesh));
            let config = folder.join(format!("n{node}.toml"));
            let log = folder.join(format!("n{node}.log"));
            let Place { data, environment } = place;
            let (process, paused) = (None, false);
            seats.insert(node, Seat { http, entry, data, config, log, environment, process, paused, _ports: ports });
        }
        let members: String = addresses
            .iter()
            .map(|(id, http, mesh)| format!("[[bootstrap.nodes]]\nid = {id}\nmesh = \"{mesh}\"\nhttp = \"http://{http}\"\n"))
            .collect();
        for (node, http, mesh) in addresses {
            let Seat { config, data, .. } = &seats[&node];
            let text = format!(
                "[node]\nid = {node}\ndata = {data:?}\n[mesh]\nlisten = \"{mesh}\"\n[http]\nlisten = \"{http}\"\n{}[bootstrap]\nshards = {}\n{members}",
                plan.config, plan.shards
            );
            fs::write(config, text)?;
        }
        Ok(Self { seats })
    }

    /// The nodes.
    pub(super) fn nodes(&self) -> Vec<usize> {
        self.seats.keys().copied().collect()
    }

    /// Where each node's HTTP API is, in the order of the nodes.
    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        self.seats.values().map(|seat| Endpoint::new(seat.http.ip().to_string(), seat.http.port())).collect()
    }

    /// The folder with a node's data.
    pub(super) fn data(&self, node: usize) -> &Path {
        &self.seats[&node].data
    }

    /// Starts a node and does not wait for it.
    pub(super) fn start(&mut self, node: usize) -> Result<()> {
        let seat = self.seat(node);
        ensure!(seat.process.is_none(), "node {node} is running");
        let program = program()?;
        let mut command = match seat.entry.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["serve", "-o", "json", "--config"]).arg(&seat.config).envs(seat.environment.iter().cloned());
        seat.process = Some(Process::start(&format!("node {node}"), command, &seat.log)?);
        seat.paused = false;
        Ok(())
    }

    /// It runs, as far as anybody knows.
    pub(super) fn running(&self, node: usize) -> bool {
        self.seats[&node].process.is_some()
    }

    /// `kill -9`, if it runs.
    pub(super) fn kill(&mut self, node: usize) -> Result<()> {
        let seat = self.seat(node);
        seat.paused = false;
        match seat.process.take() {
            Some(process) => process.end(),
            None => Ok(()),
        }
    }

    /// SIGTERM, and no waiting; its end is found later.
    pub(super) fn stop(&mut self, node: usize) -> Result<()> {
        match &self.seat(node).process {
            Some(process) => process.terminate(),
            None => Ok(()),
        }
    }

    /// It stands still until it is told to go on.
    pub(super) fn pause(&mut self, node: usize) -> Result<()> {
        let seat = self.seat(node);
        if let Some(process) = &seat.process {
            process.signal(Signal::STOP)?;
            seat.paused = true;
        }
        Ok(())
    }

    /// It goes on, if it stood.
    pub(super) fn go_on(&mut self, node: usize) -> Result<()> {
        let seat = self.seat(node);
        if !std::mem::take(&mut seat.paused) {
            return Ok(());
        }
        seat.process.as_ref().map_or(Ok(()), |process| process.signal(Signal::CONT))
    }

    /// Nodes that have ended since somebody last looked.
    pub(super) fn ended(&mut self) -> Result<Vec<Ended>> {
        let mut ended = Vec::new();
        for (node, seat) in &mut self.seats {
            let Some(process) = &mut seat.process else { continue };
            if let Some(status) = process.ended()? {
                let words = format!("{status}: {}", last_words(&seat.log));
                seat.process = None;
                ended.push(Ended { node: *node, words });
            }
        }
        Ok(ended)
    }

    fn seat(&mut self, node: usize) -> &mut Seat {
        self.seats.get_mut(&node).expect("nodes are numbered from 1")
    }
}

/// A port that is ours: bound and not listened on, which keeps strangers off it and not a node of ours.
fn reserve() -> Result<(SocketAddr, TcpSocket)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = socket.local_addr()?;
    // Seen once, so that a failure says that it is the machine's.
    TcpListener::bind(address).map(drop).with_context(|| format!("listen on {address}"))?;
    Ok((address, socket))
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(2)..].join(" | ");
    last.chars().take(400).collect()
}
