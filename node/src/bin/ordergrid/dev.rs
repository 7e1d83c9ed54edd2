//! `ordergrid dev`: a whole grid in one process, with real disks and real loopback TCP, to try it out.
//!
//! A data folder that is kept stores the grid's shape and ports in `grid.json`, so that the next start has the same URLs.

use std::fmt::Write as _;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use ordergrid_node::config::{BootstrapConfig, BootstrapNode};
use ordergrid_node::platform::descriptors;
use ordergrid_node::platform::tcp::{self, TcpTransport};
use ordergrid_node::telemetry::exporter::Exporter;
use ordergrid_node::{NodeConfig, Platform};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::running::Running;

/// Stores the shape of the grid in a kept data folder.
const SHAPE_FILE: &str = "grid.json";

/// A grid in one process.
#[derive(Args, Clone, Debug)]
pub(crate) struct DevArgs {
    /// Number of nodes: 1 or 3. Default: 1, or as many as the data folder has.
    #[arg(long, value_name = "1|3", value_parser = crate::cli::one_or_three)]
    pub(crate) nodes: Option<u16>,
    /// Folder of the data, kept afterwards. Default: a temporary folder, removed on a clean exit.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// HTTP port of the first node, the others follow; 0 takes free ones.
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// Number of shards. Default: 1, which is the fastest on a machine of a few processors, or as many as the data folder has.
    #[arg(long)]
    pub(crate) shards: Option<u16>,
    /// Set a configuration key on every node, such as limits.memory=2GiB; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = crate::cli::assignment)]
    pub(crate) set: Vec<(String, String)>,
}

/// The data folder of a grid.
pub(crate) enum Folder {
    /// Removed when dropped.
    Temporary(TempDir),
    /// Kept.
    Kept(PathBuf),
}

impl Folder {
    /// Opens the folder, and creates it if it does not exist.
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

    /// Ends the use of the folder. A temporary folder is removed, unless it may explain a failure.
    pub(crate) fn close(self, failed: bool) -> io::Result<Option<PathBuf>> {
        match self {
            Self::Temporary(folder) if failed && folder.path().join(SHAPE_FILE).exists() => Ok(Some(folder.keep())),
            Self::Temporary(folder) => folder.close().map(|()| None),
            Self::Kept(_) => Ok(None),
        }
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

/// Number of nodes and shards of a grid, and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    nodes: u16,
    shards: u16,
    http: Vec<u16>,
    mesh: Vec<u16>,
}

/// A node's two listeners. They are bound before any node starts, because every node must know every address.
struct Listeners {
    http: TcpListener,
    mesh: TcpListener,
}

impl DevArgs {
    /// Binds the ports, opens the disks and starts every node.
    pub(crate) async fn start(&self, folder: &Path, exporter: Option<Exporter>) -> anyhow::Result<Running> {
        let before = remembered(folder)?;
        if let Some(before) = &before {
            self.agree(before, folder)?;
        }
        let (nodes, shards) = self.size(before.as_ref());
        let listeners = self.bind(nodes, before.as_ref())?;
        let shape = shape(shards, &listeners)?;
        let configs = self.configs(folder, &shape)?;
        // From here on the folder holds a grid.
        remember(folder, &shape)?;
        let parts = parts(configs, listeners, exporter).await?;
        Ok(Running::start(parts).await?)
    }

    /// Number of nodes and of shards: as asked, else as before, else one.
    fn size(&self, before: Option<&Shape>) -> (u16, u16) {
        let (nodes, shards) = before.map_or((1, 1), |shape| (shape.nodes, shape.shards));
        (self.nodes.unwrap_or(nodes), self.shards.unwrap_or(shards))
    }

    /// Checks that the shape has not changed: a grid keeps its number of nodes and shards.
    fn agree(&self, before: &Shape, folder: &Path) -> anyhow::Result<()> {
        let (nodes, shards) = (before.nodes, before.shards);
        if self.size(Some(before)) != (nodes, shards) {
            bail!(
                "{} holds a grid with --nodes {nodes} --shards {shards}: start it with these, or use another folder",
                folder.display()
            );
        }
        Ok(())
    }

    /// Binds the requested ports, else the previous ones if they are free, else any.
    fn bind(&self, nodes: u16, before: Option<&Shape>) -> anyhow::Result<Vec<Listeners>> {
        let bind = |index: u16| {
            let of = |ports: &Vec<u16>| ports.get(usize::from(index)).copied();
            let http = match self.port {
                0 => again(before.and_then(|shape| of(&shape.http)))?,
                first => first
                    .checked_add(index)
                    .with_context(|| format!("--port {first} leaves no port for node {}", index + 1))
                    .and_then(listen)?,
            };
            Ok(Listeners { http, mesh: again(before.and_then(|shape| of(&shape.mesh)))? })
        };
        (0..nodes).map(bind).collect()
    }

    /// The configuration of every node.
    fn configs(&self, folder: &Path, shape: &Shape) -> anyhow::Result<Vec<NodeConfig>> {
        let bootstrap = bootstrap(shape);
        let config = |node: &BootstrapNode| NodeConfig::of(node.id, folder.join(&node.name), &bootstrap, &self.set);
        Ok(bootstrap.nodes.iter().map(config).collect::<Result<_, _>>()?)
    }
}

/// The shape of a grid whose nodes listen here.
fn shape(shards: u16, listeners: &[Listeners]) -> io::Result<Shape> {
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let http = listeners.iter().map(|of| port(&of.http)).collect::<io::Result<Vec<_>>>()?;
    let mesh = listeners.iter().map(|of| port(&of.mesh)).collect::<io::Result<_>>()?;
    let nodes = u16::try_from(http.len()).expect("three at most");
    Ok(Shape { nodes, shards, http, mesh })
}

/// The configuration and platform of every node.
async fn parts(
    configs: Vec<NodeConfig>,
    listeners: Vec<Listeners>,
    exporter: Option<Exporter>,
) -> anyhow::Result<Vec<(NodeConfig, Platform)>> {
    let (nodes, limit) = (configs.len(), descriptors::raise());
    let mut parts = Vec::new();
    for (mut config, of) in configs.into_iter().zip(listeners) {
        let share = descriptors::share_out(limit, nodes, &mut config)?;
        let transport = Arc::new(TcpTransport::with_listener(of.mesh));
        let http = Box::new(tcp::adopt(of.http)?);
        let platform = Platform::production(&config, transport, http, exporter.clone(), &share).await?;
        parts.push((config, platform));
    }
    Ok(parts)
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
    // Ports that are in use are replaced at a start, so addresses may differ from those at the founding.
    BootstrapConfig { shards: shape.shards, nodes, moved: true }
}

fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(("127.0.0.1", port));
    bound.with_context(|| format!("cannot listen on 127.0.0.1:{port} (--port 0 takes a free port)"))
}

/// Binds the previous port if it is free, else any.
fn again(port: Option<u16>) -> anyhow::Result<TcpListener> {
    port.map_or_else(|| listen(0), |port| listen(port).or_else(|_| listen(0)))
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

/// The message for the user when the grid is ready.
pub(crate) fn welcome(endpoints: &[String], data: &Folder) -> String {
    let counted = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let nodes = counted(endpoints.len(), "node");
    let shape = remembered(data.path()).ok().flatten();
    let shards = shape.map_or_else(String::new, |shape| format!(" and {}", counted(usize::from(shape.shards), "shard")));
    let mut text = format!("OrderGrid is ready: {nodes}{shards} in this process.\n\n");
    for (number, url) in (1..).zip(endpoints) {
        writeln!(text, "  n{number}    {url}").expect("writing to a string cannot fail");
    }
    let kept = if matches!(data, Folder::Kept(_)) { "kept" } else { "removed when it stops" };
    writeln!(text, "  data  {} ({kept})", data.path().display()).expect("writing to a string cannot fail");
    text + &FIRST_STEPS.replace("URL", endpoints.first().map_or("", String::as_str))
}

/// Creates stock and an order with curl.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn args(nodes: u16, port: u16) -> DevArgs {
        DevArgs { nodes: Some(nodes), data: None, port, shards: None, set: Vec::new() }
    }

    #[test]
    fn every_node_listens_somewhere_else_and_knows_where_the_others_do() {
        let args = args(3, 0);
        let listeners = args.bind(3, None).expect("ports are free");
        let shape = shape(4, &listeners).expect("they listen");
        let bootstrap = bootstrap(&shape);
        for node in &bootstrap.nodes {
            NodeConfig::of(node.id, "/data", &bootstrap, &[]).expect("addresses, names and ids are distinct");
        }
        assert_eq!(bootstrap.nodes.len(), 3);
    }

    #[test]
    fn a_folder_remembers_its_grid() {
        let folder = Folder::open(None).expect("there is a place for temporary folders");
        assert_eq!(remembered(folder.path()).expect("an empty folder is fine"), None);
        let shape = Shape { nodes: 1, shards: 4, http: vec![1], mesh: vec![2] };
        remember(folder.path(), &shape).expect("the folder can be written");
        assert_eq!(remembered(folder.path()).expect("it was written"), Some(shape.clone()));
        args(1, 0).agree(&shape, folder.path()).expect("the same grid");
        assert_eq!((args(1, 0).size(Some(&shape)), args(3, 0).size(None)), ((1, 4), (3, 1)));
        let nothing_said = DevArgs { nodes: None, ..args(1, 0) };
        assert_eq!((nothing_said.size(Some(&shape)), nothing_said.size(None)), ((1, 4), (1, 1)));
        let wrong = args(3, 0).agree(&shape, folder.path()).expect_err("another grid").to_string();
        assert!(wrong.contains("--nodes 1 --shards 4"), "{wrong}");
        std::fs::write(folder.path().join(SHAPE_FILE), "{}").expect("the folder can be written");
        assert!(remembered(folder.path()).is_err(), "damaged");
    }

    #[tokio::test]
    async fn a_grid_that_is_refused_leaves_no_folder() {
        let folder = Folder::open(None).expect("there is a place for temporary folders");
        let mut args = args(1, 0);
        args.set.push(("limits.memory".to_owned(), "1MiB".to_owned()));
        let refused = args.start(folder.path(), None).await.err().expect("that is too little").to_string();
        assert!(refused.starts_with("limits.memory: "), "{refused}");
        assert_eq!(folder.close(true).expect("it can be removed"), None);
    }

    #[test]
    fn a_port_of_the_last_time_that_is_taken_is_replaced() {
        let taken = listen(0).expect("a port is free");
        let port = taken.local_addr().expect("it listens").port();
        let other = again(Some(port)).expect("another port is free");
        assert_ne!(other.local_addr().expect("it listens").port(), port);
        let wrong = listen(port).expect_err("it is taken").to_string();
        assert!(wrong.contains(&port.to_string()) && wrong.contains("--port 0"), "{wrong}");
        assert!(args(3, u16::MAX).bind(3, None).is_err(), "there is no port after the last");
    }

    #[test]
    fn a_temporary_folder_stays_only_to_explain_a_failure() {
        // failed, a grid had begun, the folder stays
        for (failed, begun, stays) in [(false, false, false), (false, true, false), (true, false, false), (true, true, true)] {
            let folder = Folder::open(None).expect("there is a place for temporary folders");
            let path = folder.path().to_owned();
            if begun {
                std::fs::write(path.join(SHAPE_FILE), "").expect("the folder can be written");
            }
            let kept = folder.close(failed).expect("it can be removed");
            assert_eq!((kept.is_some(), path.exists()), (stays, stays), "{failed} {begun}");
            if let Some(kept) = kept {
                std::fs::remove_dir_all(kept).expect("it can be removed");
            }
        }
    }

    #[test]
    fn the_first_steps_name_the_first_url() {
        let endpoints = ["http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned()];
        let text = welcome(&endpoints, &Folder::Kept("/data".into()));
        assert_eq!(text.matches("curl -X PUT http://127.0.0.1:1/v1/skus/LAMP").count(), 1, "{text}");
        assert!(text.contains("n2    http://127.0.0.1:2\n") && text.contains("/data (kept)"), "{text}");
        assert!(!text.contains("URL"), "{text}");
    }
}
