//! Replaces a state database that is damaged at a start: it is put aside as a whole and created anew, if its rows can be
//! restored.
//!
//! The rows come from other nodes, or from the logs, if every log still has its first entry. A node without peers and without
//! complete logs has the only copy: it does not start, and reports what is damaged and what helps. Damage of a replica is
//! recorded next to the log ([`Notes`]), so that no restart takes its rows for intact. `mend` handles damage that is found
//! while the node runs.

use std::fs::{File, rename};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ordergrid_domain::GroupId;
use ordergrid_storage::{Engine, EngineError, NodeRecords, RecordError, log};

use crate::adapters;
use crate::config::NodeConfig;
use crate::node::spec;
use crate::operators::verify::stored;
use crate::platform::DataError;
use crate::recovery::wholeness::Wholeness;

/// Most damaged databases that are kept. A disk that damages more of them is failing.
const KEPT: u32 = 10;

/// Records of damaged rows.
pub(crate) struct Notes(NodeRecords);

impl Notes {
    /// The records in the log database.
    pub(crate) fn new(log: &Arc<dyn Engine>) -> Self {
        Self(NodeRecords::new(Arc::clone(log)))
    }

    /// Records that the rows of a group's replica are damaged, so that they are not used again, whatever happens meanwhile.
    pub(crate) async fn put(&self, group: GroupId, what: &str) -> Result<(), RecordError> {
        self.0.put(&damaged(group), what.as_bytes()).await
    }

    /// The recorded damage.
    pub(crate) async fn of(&self, group: GroupId) -> Result<Option<String>, RecordError> {
        Ok(self.0.get(&damaged(group)).await?.map(|what| String::from_utf8_lossy(&what).into_owned()))
    }

    /// Removes the record after the rows were rebuilt.
    pub(crate) async fn forget(&self, group: GroupId) -> Result<(), RecordError> {
        self.0.remove(&damaged(group)).await?;
        self.0.remove(&doubted(group)).await
    }

    /// Records that damaged rows were intact when they were read again.
    async fn doubt(&self, group: GroupId, what: &str) -> Result<(), RecordError> {
        self.0.put(&doubted(group), what.as_bytes()).await?;
        self.0.remove(&damaged(group)).await
    }

    /// Whether rows were damaged once and intact when they were read again: another start would not settle it.
    pub(crate) async fn is_doubted(&self, group: GroupId) -> Result<bool, RecordError> {
        Ok(self.0.get(&doubted(group)).await?.is_some())
    }
}

fn damaged(group: GroupId) -> String {
    format!("damaged/{group}")
}

fn doubted(group: GroupId) -> String {
    format!("doubted/{group}")
}

/// A group and its replica's id on this node.
type Own = (GroupId, u64);

/// The replicas of a node without peers; `None` if there are peers.
pub(crate) fn alone(config: &NodeConfig) -> Option<Vec<Own>> {
    let Ok(map) = spec(config).map(|spec| spec.shard_map()) else { return Some(Vec::new()) };
    let groups = map.groups_on(config.id);
    let own = |(group, replicas): &(GroupId, &[ordergrid_cluster::Placement])| match replicas {
        [only] => Some((*group, only.replica)),
        _ => None,
    };
    groups.iter().map(own).collect()
}

/// Opens the state database, or creates it anew if it is damaged.
pub(crate) async fn state(
    config: &NodeConfig,
    log: &Arc<dyn Engine>,
    open: impl Fn() -> Result<Arc<dyn Engine>, DataError>,
) -> Result<Arc<dyn Engine>, DataError> {
    let (alone, notes) = (alone(config), Notes::new(log));
    let what = match open() {
        Err(failed @ DataError::Open { .. }) if failed.is_damage() => failed.to_string(),
        Ok(engine) => match still_damaged(engine.clone(), &notes, alone.as_deref().unwrap_or_default()).await? {
            Some(what) => what,
            None => return Ok(engine),
        },
        failed => return failed,
    };
    if let Some(own) = &alone {
        let lacking = lacking(log.as_ref(), own).await.map_err(DataError::Log)?;
        if let Some(lacking) = lacking {
            return Err(DataError::Lost { data: config.data.clone(), what, lacking });
        }
    }
    let folder = config.data.join("state");
    let source = if alone.is_some() { "its log" } else { "the other nodes" };
    put_aside(&folder, &what, "the state database", source).map_err(|reason| {
        let reason = EngineError::Damaged(format!("{what}; and it cannot be put aside: {reason}"));
        DataError::Open { folder: folder.clone(), reason }
    })?;
    let engine = open()?;
    for (group, _) in alone.iter().flatten() {
        notes.forget(*group).await?;
    }
    Ok(engine)
}

/// The damage, if rows that were recorded as damaged still are. The database is closed afterwards.
async fn still_damaged(engine: Arc<dyn Engine>, notes: &Notes, own: &[Own]) -> Result<Option<String>, DataError> {
    for (group, replica) in own {
        let Some(noted) = notes.of(*group).await? else { continue };
        let whole = Arc::new(Wholeness::new(*group));
        let read = match adapters::state_store(Arc::clone(&engine), *replica, &whole).await {
            Ok(store) => stored::judged(*group, store.as_ref()).await,
            Err(reason) => Err(reason),
        };
        match read {
            Ok(()) => {
                tracing::warn!(shard = %group, damage = noted, "rows recorded as damaged are whole");
                notes.doubt(*group, &noted).await?;
            }
            Err(reason) if reason.is_damage() => return Ok(Some(format!("{}: {reason}", named(*group)))),
            Err(reason) => return Err(DataError::Rows { group: *group, reason }),
        }
    }
    Ok(None)
}

/// The replicas whose logs lack their first entry, in words; `None` if all are complete.
pub(crate) async fn lacking(log: &dyn Engine, own: &[Own]) -> Result<Option<String>, EngineError> {
    let lacking = log::without_beginning(log).await?;
    let name = |replica: &u64| match own.iter().find(|(_, own)| own == replica) {
        Some((group, _)) => named(*group),
        None => format!("replica {replica}"),
    };
    Ok((!lacking.is_empty()).then(|| lacking.iter().map(name).collect::<Vec<_>>().join(", ")))
}

/// The operator's name of a group.
pub(crate) fn named(group: GroupId) -> String {
    if group == GroupId::META { "the meta group".to_owned() } else { format!("shard {group}") }
}

/// The folders for damaged databases of `folder`, in order.
fn places(folder: &Path) -> impl DoubleEndedIterator<Item = PathBuf> + '_ {
    (1..=KEPT).map(|number| folder.with_extension(format!("damaged-{number}")))
}

/// The damaged database of `folder` that was put aside last.
pub(crate) fn newest(folder: &Path) -> Option<PathBuf> {
    places(folder).rfind(|place| place.exists())
}

/// Moves a database out of the way. It is kept for analysis.
pub(crate) fn put_aside(folder: &Path, what: &str, named: &str, source: &str) -> io::Result<()> {
    let Some(aside) = places(folder).find(|place| !place.exists()) else {
        return Err(io::Error::other(format!("{KEPT} of them were put aside already: check the disk, then remove them")));
    };
    rename(folder, &aside)?;
    if let Some(parent) = folder.parent() {
        // Otherwise a power loss could bring the old database back after new rows were written.
        File::open(parent)?.sync_all()?;
    }
    tracing::error!(path = %aside.display(), damage = what, database = named, rebuilt_from = source, "damaged database put aside");
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use ordergrid_storage::{Batch, Durability, RocksEngine};

    use super::*;
    use crate::config::{BootstrapConfig, BootstrapNode};

    /// Node 1 of so many, with its data in `folder`.
    pub(crate) fn config(folder: &Path, nodes: u64) -> NodeConfig {
        let node = |id| BootstrapNode {
            id,
            name: format!("n{id}"),
            zone: format!("z{id}"),
            mesh: format!("127.0.0.1:{}", 7_000 + id),
            http: format!("http://127.0.0.1:{}", 8_000 + id),
        };
        let bootstrap = BootstrapConfig { shards: 1, nodes: (1..=nodes).map(node).collect(), moved: false };
        NodeConfig::of(1, folder, &bootstrap, &[]).expect("the defaults are sound")
    }

    /// A node's folder, and how its databases are opened.
    struct Data(tempfile::TempDir, NodeConfig);

    impl Data {
        fn of(nodes: u64) -> Self {
            let folder = tempfile::tempdir().expect("there is a place for temporary folders");
            let config = config(folder.path(), nodes);
            Self(folder, config)
        }

        fn log(&self) -> Arc<dyn Engine> {
            let folder = self.0.path().join("log");
            std::fs::create_dir_all(&folder).expect("the folder is ours");
            Arc::new(RocksEngine::open_log(&folder).expect("the log opens"))
        }

        fn state(&self) -> Result<Arc<dyn Engine>, DataError> {
            let folder = self.0.path().join("state");
            std::fs::create_dir_all(&folder).expect("the folder is ours");
            match RocksEngine::open_state(&folder) {
                Ok(engine) => Ok(Arc::new(engine)),
                Err(reason) => Err(DataError::Open { folder, reason }),
            }
        }

        /// The state does not open any more.
        fn damage(&self) {
            drop(self.state().expect("it is whole yet"));
            std::fs::write(self.0.path().join("state/CURRENT"), "MANIFEST-999999\n").expect("the folder is ours");
        }

        fn aside(&self) -> usize {
            let files = std::fs::read_dir(self.0.path()).expect("the folder is ours");
            files.filter(|file| file.as_ref().expect("a file").file_name().to_string_lossy().contains("damaged")).count()
        }
    }

    /// The key of a replica's entry, as it lies on disks.
    fn entry(replica: u64, index: u64) -> Vec<u8> {
        [&replica.to_be_bytes()[..], &[4], &index.to_be_bytes()[..]].concat()
    }

    async fn write(engine: &dyn Engine, key: &[u8]) {
        let mut batch = Batch::new();
        batch.put(key, b"x");
        engine.write(batch, Durability::Synced).await.expect("the disk works");
    }

    #[tokio::test]
    async fn a_damaged_state_is_put_aside_where_what_it_had_is_elsewhere() {
        struct Row(u64, u64, Result<usize, &'static str>);
        let rows = [
            Row(1, 0, Ok(1)),
            Row(1, 7, Err("shard 1 no longer begin with their first entry")),
            Row(3, 0, Ok(1)),
            Row(3, 7, Ok(1)),
        ];
        for Row(nodes, first, expected) in rows {
            let data = Data::of(nodes);
            let replica = spec(&data.1).expect("a cluster").shard_map().shards[0].replicas[0].replica;
            let log = data.log();
            write(log.as_ref(), &entry(replica, first)).await;
            data.damage();
            let opened = state(&data.1, &log, || data.state()).await.map_err(|refused| refused.to_string());
            match (opened, expected) {
                (Ok(_), Ok(aside)) => assert_eq!(data.aside(), aside, "of {nodes} nodes, from entry {first} on"),
                (Err(refused), Err(text)) => assert!(refused.contains(text) && data.aside() == 0, "{refused}"),
                (opened, _) => panic!("of {nodes} nodes, from entry {first} on: {:?}", opened.map(drop)),
            }
        }
    }

    #[tokio::test]
    async fn rows_that_are_whole_when_they_are_read_again_are_used_and_not_trusted_twice() {
        let data = Data::of(1);
        let (log, shard) = (data.log(), GroupId(1));
        let notes = Notes::new(&log);
        notes.put(shard, "a bad block").await.expect("the disk works");
        drop(state(&data.1, &log, || data.state()).await.expect("nothing is damaged"));
        assert_eq!((notes.of(shard).await, notes.is_doubted(shard).await), (Ok(None), Ok(true)));
        data.damage();
        drop(state(&data.1, &log, || data.state()).await.expect("there is nothing in any log"));
        assert_eq!((data.aside(), notes.is_doubted(shard).await), (1, Ok(false)));
    }

    #[tokio::test]
    async fn a_disk_that_damages_everything_is_not_given_more() {
        let data = Data::of(3);
        let log = data.log();
        for number in 1..=KEPT {
            std::fs::create_dir(data.0.path().join(format!("state.damaged-{number}"))).expect("the folder is ours");
        }
        data.damage();
        let refused = state(&data.1, &log, || data.state()).await.err().expect("it stays as it is").to_string();
        assert!(refused.contains("cannot be put aside: 10 of them"), "{refused}");
    }
}
