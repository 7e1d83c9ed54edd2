//! `ordergrid serve`: one node of a grid.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use listenfd::ListenFd;
use ordergrid_node::config::{ConfigError, Loaded, Sources};
use ordergrid_node::platform::descriptors;
use ordergrid_node::platform::tcp::{self, TcpTransport};
use ordergrid_node::telemetry::exporter::Exporter;
use ordergrid_node::{NodeConfig, Platform};

use crate::running::Running;

/// One node of a grid.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE", env = "ORDERGRID_CONFIG")]
    config: PathBuf,
    /// Check the configuration, print the effective one with a description of every key, and exit.
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
    /// Set a configuration key, such as limits.memory=2GiB; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = crate::cli::assignment)]
    set: Vec<(String, String)>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {reason}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The error.
        reason: std::io::Error,
    },
    /// The file is read, but not valid.
    #[error("{0}")]
    Wrong(#[from] ConfigError),
}

impl ServeArgs {
    /// The arguments for a file, optionally with another data folder.
    pub(crate) fn of(config: PathBuf, data: Option<String>) -> Self {
        Self { config, check: false, data, http: None, mesh: None, set: Vec::new() }
    }

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

/// Sockets inherited from the parent process.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    http: Option<TcpListener>,
    mesh: Option<TcpListener>,
}

impl Inherited {
    /// Whether there is any.
    pub(crate) fn is_any(&self) -> bool {
        self.http.is_some() || self.mesh.is_some()
    }

    /// Takes the sockets. Call it before threads start, because it removes their variables from the environment.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let mut sockets = ListenFd::from_env();
        let mut take = |index, what| {
            sockets.take_tcp_listener(index).with_context(|| format!("the inherited socket for {what} cannot be used"))
        };
        Ok(Self { http: take(0, "HTTP")?, mesh: take(1, "the mesh")? })
    }
}

/// Opens the sockets and the disks and starts the node.
pub(crate) async fn start(mut config: NodeConfig, inherited: Inherited, exporter: Exporter) -> anyhow::Result<Running> {
    let share = descriptors::share_out(descriptors::raise(), 1, &mut config)?;
    let http = match inherited.http {
        Some(given) => tcp::adopt(given)?,
        None => tcp::bind(&config.http.listen).await?,
    };
    let transport = Arc::new(inherited.mesh.map_or_else(TcpTransport::new, TcpTransport::with_listener));
    let platform = Platform::production(&config, transport, Box::new(http), Some(exporter), &share).await?;
    Ok(Running::start(vec![(config, platform)]).await?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn args(file: &std::path::Path, more: &[&str]) -> ServeArgs {
        let file = file.to_str().expect("temporary folders have plain names");
        Line::try_parse_from([&["serve", "--config", file], more].concat()).expect("the flags exist").serve
    }

    #[test]
    fn a_named_flag_stands_over_set_and_that_over_variables_and_file() {
        let folder = tempfile::tempdir().expect("there is a place for temporary folders");
        let file = folder.path().join("grid.toml");
        std::fs::write(&file, "[node]\nid = 1\ndata = \"/file\"\nzone = \"file\"\n[bootstrap]\n").expect("it is ours");
        let flags = ["--data", "/flag", "--http", "127.0.0.1:1", "--set", "node.data=/set", "--set", "node.name=set"];
        let environment = [("ORDERGRID_NODE_NAME", "variable"), ("ORDERGRID_CLUSTER_NAME", "variable")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = args(&file, &flags).load(environment).expect("all is valid").config;
        assert_eq!(config.data, PathBuf::from("/flag"));
        assert_eq!(config.http.listen, "127.0.0.1:1");
        assert_eq!((config.name.as_str(), config.cluster.as_str(), config.zone.as_str()), ("set", "variable", "file"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let wrong = args("/no/such/grid.toml".as_ref(), &[]).load(BTreeMap::new()).expect_err("it is not there");
        assert!(wrong.to_string().starts_with("cannot read /no/such/grid.toml: "), "{wrong}");
    }
}
