//! `ordergrid serve`: one node of a grid.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use listenfd::ListenFd;
use ordergrid_node::config::{ConfigError, Loaded, Sources};
use ordergrid_node::exporter::Exporter;
use ordergrid_node::tcp::{self, TcpTransport};
use ordergrid_node::{NodeConfig, Platform};

use crate::running::Running;

/// One node of a grid.
///
/// Flags stand over ORDERGRID_... variables (ORDERGRID_LIMITS_FRAME for limits.frame), and those over the file. Sockets
/// inherited from systemd or another process that speaks its protocol are used instead of the configured addresses: the
/// first for HTTP, the second for the mesh.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE", env = "ORDERGRID_CONFIG")]
    config: PathBuf,
    /// Check the configuration, print what is in effect with the meaning of every key, and do nothing else.
    #[arg(long)]
    pub(crate) check: bool,
    /// Folder of the node's data: node.data.
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Address and port for clients: http.listen.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Address and port for the other nodes: mesh.listen.
    #[arg(long, value_name = "ADDRESS")]
    mesh: Option<String>,
    /// Any key of the configuration, such as limits.memory=2GiB; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = crate::cli::assignment)]
    set: Vec<(String, String)>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {reason}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// It can be read and is wrong.
    #[error("{0}")]
    Wrong(#[from] ConfigError),
}

impl ServeArgs {
    /// Reads and checks file, environment and flags.
    pub(crate) fn load(&self, environment: BTreeMap<String, String>) -> Result<Loaded, LoadError> {
        let name = self.config.display().to_string();
        let text = std::fs::read_to_string(&self.config)
            .map_err(|reason| LoadError::Unreadable { file: self.config.clone(), reason })?;
        let named = [("node.data", &self.data), ("http.listen", &self.http), ("mesh.listen", &self.mesh)];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        let flags = self.set.iter().cloned().chain(named).collect();
        Ok(Sources { file: Some((name, text)), environment, flags }.load()?)
    }
}

/// Sockets that the process was started with.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    http: Option<TcpListener>,
    mesh: Option<TcpListener>,
}

impl Inherited {
    /// Takes them over. Only before there are threads, because it clears their variables from the environment.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let mut sockets = ListenFd::from_env();
        let mut take = |index, what| {
            sockets.take_tcp_listener(index).with_context(|| format!("the inherited socket for {what} cannot be used"))
        };
        Ok(Self { http: take(0, "HTTP")?, mesh: take(1, "the mesh")? })
    }
}

/// Opens the sockets and the disks and starts the node.
pub(crate) async fn start(config: NodeConfig, inherited: Inherited, exporter: Exporter) -> anyhow::Result<Running> {
    let http = match inherited.http {
        Some(given) => tcp::adopt(given)?,
        None => tcp::bind(&config.http.listen).await?,
    };
    let transport = Arc::new(inherited.mesh.map_or_else(TcpTransport::new, TcpTransport::with_listener));
    let platform = Platform::production(&config.data, transport, Box::new(http), Some(exporter))?;
    Ok(Running::start(vec![(config, platform)]).await?)
}
