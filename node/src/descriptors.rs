//! File descriptors: how many files and sockets the process may open, and how they are divided.
//!
//! A database that cannot open a file stops its node. So the descriptors of the databases and the mesh are reserved first, and
//! client connections get the rest, up to `limits.connections`.

use ordergrid_api::serve::REFUSALS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::NodeConfig;

/// Standard streams, the runtime, signals, listeners, looks at `/proc`, and what libraries open for a moment.
const PROCESS: u64 = 64;
/// Of a database beside its tables: logs, manifests, locks, folders, and tables being written or merged.
const DATABASE: u64 = 48;
/// Tables that a log database needs open at least: it keeps few, because what is in checkpoints leaves it.
const LOG_FILES: u64 = 32;
/// Tables that a state database needs open at least.
const STATE_FILES: u64 = 64;
/// Connections of clients without which a node is of no use.
const CONNECTIONS: u64 = 16;
/// The lanes to a peer.
const TO_PEER: u64 = 3;
/// Its lanes to this node, and as many again twice while they break and are made anew.
const FROM_PEER: u64 = 9;
/// Others that come to the mesh and are turned away.
const STRANGERS: u64 = 8;
/// More than any process gets.
const UNLIMITED: u64 = 1 << 20;

/// The process may not open enough files for a node.
#[derive(Debug, thiserror::Error)]
#[error(
    "the process may have {limit} files and sockets open, and needs {least} at least (ulimit -n, LimitNOFILE=): \
     {databases} for databases, {mesh} for the other nodes, {rest} for itself and the first clients"
)]
pub struct TooFew {
    limit: u64,
    least: u64,
    databases: u64,
    mesh: u64,
    rest: u64,
}

/// What a node may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Tables of the log database.
    pub log_files: u32,
    /// Tables of the state database.
    pub state_files: u32,
    /// Connections of clients.
    pub connections: usize,
}

/// Raises the process's limit of open files to the most that it is allowed, and tells what it is now.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some() && current != maximum {
        let most = Rlimit { current: maximum, maximum };
        if let Err(error) = setrlimit(Resource::Nofile, most) {
            tracing::warn!(%error, "raising the open file limit failed");
        }
    }
    limit()
}

/// How many files and sockets the process may have open.
#[must_use]
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

/// Most connections that a node's mesh takes from `peers` other nodes.
#[must_use]
pub(crate) fn mesh_connections(peers: usize) -> usize {
    usize::try_from(peers as u64 * FROM_PEER + STRANGERS).expect("a cluster has few nodes")
}

/// Shares `limit` between `nodes` nodes of one process, and bounds a node's connections by what is left for them.
///
/// # Errors
/// [`TooFew`] says what the limit has to be.
pub fn share_out(limit: u64, nodes: usize, config: &mut NodeConfig) -> Result<Share, TooFew> {
    let share = share(limit, nodes, config.peers(), config.limits.connections)?;
    if share.connections < config.limits.connections {
        tracing::warn!(
            limit,
            connections = share.connections,
            configured = config.limits.connections,
            advice = "raise the open file limit (ulimit -n), or lower limits.connections",
            "open file limit too low for limits.connections"
        );
        config.limits.connections = share.connections;
    }
    Ok(share)
}

fn share(limit: u64, nodes: usize, peers: usize, connections: usize) -> Result<Share, TooFew> {
    let (nodes, peers) = (nodes.max(1) as u64, peers as u64);
    let mesh = peers * (TO_PEER + FROM_PEER) + STRANGERS;
    let databases = 2 * DATABASE + LOG_FILES + STATE_FILES;
    let clients = REFUSALS as u64 + CONNECTIONS;
    let each = databases + mesh + clients;
    let least = PROCESS + nodes * each;
    let Some(more) = limit.checked_sub(least) else {
        let rest = PROCESS + nodes * clients;
        return Err(TooFew { limit, least, databases: nodes * databases, mesh: nodes * mesh, rest });
    };
    // What is left, to each. A database with few open files opens them again and again; one with more needs no more.
    let more = more / nodes;
    let log_files = (LOG_FILES + more / 16).min(1_024);
    let state_files = (STATE_FILES + more / 4).min(16_384);
    let left = CONNECTIONS + more - (log_files - LOG_FILES) - (state_files - STATE_FILES);
    let files = |files: u64| u32::try_from(files).expect("it has a bound");
    let connections = usize::try_from(left).unwrap_or(usize::MAX).min(connections);
    Ok(Share { log_files: files(log_files), state_files: files(state_files), connections })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_and_peers_come_before_clients() {
        #[rustfmt::skip]
        let cases = [
            // limit,    nodes, peers,  log,   state,  clients
            (1_048_576,  1,     0,      1_024, 16_384, 10_000),
            (1_048_576,  1,     2,      1_024, 16_384, 10_000),
            (65_536,     3,     2,      1_024, 5_444,  10_000),
            (4_096,      1,     2,      265,   996,    2_579),
            (1_024,      1,     2,      73,    228,    467),
            (1_024,      1,     0,      74,    234,    484),
            (368,        1,     2,      32,    64,     16),
        ];
        for (limit, nodes, peers, log_files, state_files, connections) in cases {
            let expected = Share { log_files, state_files, connections };
            let told = share(limit, nodes, peers, 10_000).ok();
            assert_eq!(told, Some(expected), "{limit} for {nodes} nodes with {peers} peers");
            let all = u64::from(log_files + state_files) + connections as u64 + 2 * DATABASE + REFUSALS as u64;
            let mesh = peers as u64 * TO_PEER + mesh_connections(peers) as u64;
            assert!(nodes as u64 * (all + mesh) + PROCESS <= limit, "more than there is: {limit}");
        }
    }

    #[test]
    fn too_few_are_refused_in_words() {
        for (limit, nodes, peers, least) in [(256, 1, 0, 344), (256, 1, 2, 368), (1_024, 3, 2, 976), (900, 3, 2, 976)] {
            let told = share(limit, nodes, peers, 10_000).err().map(|few| few.to_string());
            match told {
                Some(told) => assert!(limit < least && told.contains(&least.to_string()), "{told}"),
                None => assert!(limit >= least, "{limit} for {nodes} nodes with {peers} peers"),
            }
        }
    }
}
