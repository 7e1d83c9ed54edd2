//! `ordergrid dev`: a whole grid in one process for the first minute, real disks and real loopback TCP.
//!
//! A data folder that is kept remembers its shape and its ports in `grid.json`, so that the same grid comes back under the
//! same URLs.

use std::fmt::Write as _;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use ordergrid_node::config::{BootstrapConfig, BootstrapNode};
use ordergrid_node::exporter::Exporter;
use ordergrid_node::tcp::{self, TcpTransport};
use ordergrid_node::{NodeConfig, Platform};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::running::Running;

/// What a kept data folder remembers of its grid.
const SHAPE_FILE: &str = "grid.json";

/// A grid in one process.
#[derive(Args, Clone, Debug)]
pub(crate) struct DevArgs {
    /// Number of nodes: 1 or 3.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3))]
    pub(crate) nodes: u16,
    /// Folder of the data, kept afterwards. Default: a temporary folder, removed on a clean exit.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// HTTP port of the first node, the others follow; 0 takes free ones.
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// Number of shards.
    #[arg(long, default_value_t = 4)]
    pub(crate) shards: u16,
    /// A key of the configuration for every node, such as limits.memory=2GiB; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = crate::cli::assignment)]
    pub(crate) set: Vec<(String, String)>,
}

/// Where the data of a grid is.
pub(crate) enum Folder {
    /// Removed when dropped.
    Temporary(TempDir),
    /// Kept.
    Kept(PathBuf),
}

impl Folder {
    /// The folder to use; made when missing.
    pub(crate) fn open(kept: Option<&Path>) -> anyhow::Result<Self> {
        match kept {
            Some(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
                Ok(Self::Kept(folder.canonicalize()?))
            }
            None => {
                let folder = tempfile::Builder::new().prefix("ordergrid-").tempdir();
                Ok(Self::Temporary(folder.context("cannot make a temporary folder")?))
            }
        }
    }

    /// Ends the use of it. A temporary folder is removed, except after a failure that it may explain.
    pub(crate) fn close(self, failed: bool) -> io::Result<Option<PathBuf>> {
        match self {
            Self::Temporary(folder) if failed && folder.path().join(SHAPE_FILE).exists() => Ok(Some(folder.keep())),
            Self::Temporary(folder) => folder.close().map(|()| None),
            Self::Kept(_) => Ok(None),
        }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

/// A grid's nodes and shards, and the ports that it listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    nodes: u16,
    shards: u16,
    http: Vec<u16>,
    mesh: Vec<u16>,
}

/// A node's two listeners, bound before anything starts, because every node must know every address.
struct Listeners {
    http: TcpListener,
    mesh: TcpListener,
}

impl DevArgs {
    /// Binds the ports, opens the disks and starts every node.
    pub(crate) async fn start(&self, folder: &Path, exporter: Option<Exporter>) -> anyhow::Result<Running> {
        if self.nodes == 2 {
            bail!("--nodes is 1 or 3: two nodes have no majority when one fails");
        }
        let before = remembered(folder)?;
        let listeners = self.bind(before.as_ref())?;
        let shape = self.shape(&listeners)?;
        if let Some(before) = &before
            && (before.nodes, before.shards) != (shape.nodes, shape.shards)
        {
            bail!(
                "{} holds a grid of {} nodes and {} shards: start it with --nodes {} --shards {}, or use another folder",
                folder.display(),
                before.nodes,
                before.shards,
                before.nodes,
                before.shards
            );
        }
        remember(folder, &shape)?;
        let parts = self.parts(folder, &shape, listeners, exporter)?;
        Ok(Running::start(parts).await?)
    }

    /// The ports of the last time where there was one, else the ones asked for.
    fn bind(&self, before: Option<&Shape>) -> anyhow::Result<Vec<Listeners>> {
        let bind = |index: u16| {
            let asked = if self.port == 0 { Some(0) } else { self.port.checked_add(index) };
            let asked = asked.with_context(|| format!("--port {} leaves no port for node {}", self.port, index + 1))?;
            let of = |ports: &Vec<u16>| ports.get(usize::from(index)).copied();
            let http = if self.port == 0 { before.and_then(|shape| of(&shape.http)).unwrap_or(0) } else { asked };
            let mesh = before.and_then(|shape| of(&shape.mesh)).unwrap_or(0);
            Ok(Listeners { http: listen(http, "--port 0 takes free ones")?, mesh: listen(mesh, "it was the grid's")? })
        };
        (0..self.nodes).map(bind).collect()
    }

    fn shape(&self, listeners: &[Listeners]) -> io::Result<Shape> {
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        Ok(Shape {
            nodes: self.nodes,
            shards: self.shards,
            http: listeners.iter().map(|of| port(&of.http)).collect::<io::Result<_>>()?,
            mesh: listeners.iter().map(|of| port(&of.mesh)).collect::<io::Result<_>>()?,
        })
    }

    /// What every node is started with.
    fn parts(
        &self,
        folder: &Path,
        shape: &Shape,
        listeners: Vec<Listeners>,
        exporter: Option<Exporter>,
    ) -> anyhow::Result<Vec<(NodeConfig, Platform)>> {
        let bootstrap = bootstrap(shape);
        let part = |(node, of): (&BootstrapNode, Listeners)| {
            let data = folder.join(&node.name);
            let config = NodeConfig::of(node.id, &data, &bootstrap, &self.set)?;
            let transport = Arc::new(TcpTransport::with_listener(of.mesh));
            let http = Box::new(tcp::adopt(of.http)?);
            Ok((config, Platform::production(&data, transport, http, exporter.clone())?))
        };
        bootstrap.nodes.iter().zip(listeners).map(part).collect()
    }
}

fn bootstrap(shape: &Shape) -> BootstrapConfig {
    let node = |(index, (http, mesh)): (u64, (&u16, &u16))| BootstrapNode {
        id: index,
        name: format!("n{index}"),
        zone: format!("z{index}"),
        mesh: format!("127.0.0.1:{mesh}"),
        http: format!("http://127.0.0.1:{http}"),
    };
    let nodes = (1..).zip(shape.http.iter().zip(&shape.mesh)).map(node).collect();
    BootstrapConfig { shards: shape.shards, nodes }
}

fn listen(port: u16, hint: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("cannot listen on 127.0.0.1:{port} ({hint})"))
}

fn remembered(folder: &Path) -> anyhow::Result<Option<Shape>> {
    let file = folder.join(SHAPE_FILE);
    match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| format!("{} is damaged", file.display())),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(wrong) => Err(wrong).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn remember(folder: &Path, shape: &Shape) -> anyhow::Result<()> {
    let (file, new) = (folder.join(SHAPE_FILE), folder.join("grid.json.new"));
    std::fs::write(&new, serde_json::to_vec(shape)?).with_context(|| format!("cannot write {}", new.display()))?;
    std::fs::rename(&new, &file).with_context(|| format!("cannot write {}", file.display()))
}

/// What a person reads when the grid serves.
pub(crate) fn welcome(shards: u16, endpoints: &[String], data: &Folder) -> String {
    let nodes = if endpoints.len() == 1 { "1 node" } else { "3 nodes" };
    let mut text = format!("OrderGrid is ready: {nodes} and {shards} shards in this process.\n\n");
    for (number, url) in (1..).zip(endpoints) {
        writeln!(text, "  n{number}    {url}").expect("writing to a string cannot fail");
    }
    let kept = if matches!(data, Folder::Kept(_)) { "kept" } else { "removed when it stops" };
    writeln!(text, "  data  {} ({kept})", data.path().display()).expect("writing to a string cannot fail");
    text + &FIRST_STEPS.replace("URL", endpoints.first().map_or("", String::as_str))
}

/// Stock and an order, with nothing but curl.
const FIRST_STEPS: &str = r#"
Some stock, and a first order:

  curl -X PUT URL/v1/skus/LAMP -H 'Content-Type: application/json' \
    -d '{"name":"Lamp"}'
  curl -X POST URL/v1/skus/LAMP/receive -H 'Content-Type: application/json' \
    -H 'Idempotency-Key: first-stock' -d '{"quantity":100}'
  curl -X POST URL/v1/orders -H 'Content-Type: application/json' -H 'Idempotency-Key: first-order' \
    -d '{"user_id":"ann","currency":"GBP","lines":[{"sku":"LAMP","quantity":2,"unit_price":1995}]}'

Ctrl-C stops it.
"#;
