//! File descriptors: how many files and sockets the process may open, and how they are divided.
//!
//! A database that cannot open a file stops its node. So the descriptors of the databases and the mesh are reserved first, and
//! client connections get the rest, up to `limits.connections`.

use ordergrid_api::serve::REFUSALS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::NodeConfig;

/// Standard streams, the runtime, signals, listeners, reads of `/proc`, and files that libraries open briefly.
const PROCESS: u64 = 64;
/// Files of a database other than its open tables: logs, manifests, locks, folders, and tables being written or compacted.
const DATABASE: u64 = 48;
/// Least number of open tables of a log database. It has few tables, because entries below checkpoints are purged.
const LOG_FILES: u64 = 32;
/// Least number of open tables of a state database.
const STATE_FILES: u64 = 64;
/// Least number of client connections of a useful node.
const CONNECTIONS: u64 = 16;
/// Lanes to a peer.
const TO_PEER: u64 = 3;
/// A peer's lanes to this node, and twice as many again while broken ones are replaced.
const FROM_PEER: u64 = 9;
/// Connections to the mesh from unknown processes, which are refused.
const STRANGERS: u64 = 8;
/// A limit that no process reaches.
const UNLIMITED: u64 = 1 << 20;

/// The process may open too few files for a node.
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

/// The descriptors of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Open tables of the log database.
    pub log_files: u32,
    /// Open tables of the state database.
    pub state_files: u32,
    /// Client connections.
    pub connections: usize,
}

/// Raises the process's open file limit to its maximum, and returns the limit.
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

/// The process's limit on open files and sockets.
#[must_use]
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

/// Most connections that a node's mesh accepts from `peers` other nodes.
#[must_use]
pub(crate) fn mesh_connections(peers: usize) -> usize {
    usize::try_from(peers as u64 * FROM_PEER + STRANGERS).expect("a cluster has few nodes")
}

/// Divides `limit` between `nodes` nodes of one process. Reduces a node's client connections to what is left for them.
///
/// # Errors
/// [`TooFew`] has the required limit.
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
    // The rest is divided. A database with few open files reopens them again and again; above that, more are of no use.
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
