//! Replaces a damaged log database: it is put aside as a whole and created anew, if other nodes have its entries.
//!
//! The log database also has the votes. So with a new log, this node takes no part until it knows what it may have promised
//! (`recall`) and until leaders have sent its entries again. A node without peers does not start: its state database is all
//! that is left of its orders, and an operator has to decide whether to continue with that (`offline`). Damage that is found
//! while the node runs stops the node. The damage is recorded in the folder of the database, so that the next start comes here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ordergrid_domain::GroupId;
use ordergrid_storage::{Engine, EngineError, NodeRecords, RocksEngine, log};

use crate::adapters::IDENTITY;
use crate::config::NodeConfig;
use crate::node::{StartError, spec};
use crate::platform::DataError;
use crate::recovery::aside;

/// The advice for a node without peers.
pub(crate) const ALONE: &str = "no other node has its entries: restore a copy of the whole data folder, or continue with the state \
                                database: `ordergrid offline status --config FILE`, with this node's configuration as FILE, shows \
                                what it has, and `ordergrid offline accept-loss --log --yes --config FILE` continues with it";

/// The folder of the log database, for a node with its data in `data`.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("log")
}

/// Whether no other node has a replica of any group of this node.
pub(crate) fn is_alone(config: &NodeConfig) -> bool {
    aside::alone(config).is_some()
}

/// The node's replica ids, with their groups.
pub(crate) fn own(config: &NodeConfig) -> Result<Vec<(GroupId, u64)>, StartError> {
    let map = spec(config)?.shard_map();
    let groups = map.groups_on(config.id).into_iter();
    let own = groups.filter_map(|(group, replicas)| {
        let own = replicas.iter().find(|placement| placement.node == config.id)?;
        Some((group, own.replica))
    });
    Ok(own.collect())
}

/// Opens the log database, or creates it anew if it is damaged and other nodes have its entries. Also returns why the log is
/// empty, if there was one before.
pub(crate) async fn open(
    config: &NodeConfig,
    open: impl Fn() -> Result<Arc<dyn Engine>, DataError>,
) -> Result<(Arc<dyn Engine>, Option<String>), DataError> {
    let (folder, alone) = (folder(&config.data), is_alone(config));
    if alone {
        // The recorded damage may lie in rows that this node does not need.
        RocksEngine::try_again(&folder);
    }
    let what = match open() {
        Err(DataError::Open { reason, .. }) if reason.is_damage() => reason,
        Ok(engine) => match legible(&engine).await {
            Ok(()) => return Ok((engine, before(&folder))),
            Err(reason) if reason.is_damage() => reason,
            Err(reason) => return Err(DataError::Log(reason)),
        },
        Err(failed) => return Err(failed),
    };
    if alone {
        return Err(DataError::LogLost { folder, what });
    }
    let what = what.to_string();
    aside::put_aside(&folder, &what, "the log database", "the other nodes").map_err(|reason| {
        let reason = EngineError::Damaged(format!("{what}; and it cannot be put aside: {reason}"));
        DataError::Open { folder: folder.clone(), reason }
    })?;
    Ok((open()?, Some(what)))
}

/// Checks that the node's identity record is there. A log without it has lost more than its end.
async fn legible(engine: &Arc<dyn Engine>) -> Result<(), EngineError> {
    let records = NodeRecords::new(Arc::clone(engine));
    records.look().await?;
    let known = records.get(IDENTITY).await?.is_some() || log::begun_anew(engine).await?.is_some();
    let used = engine.vouched().is_some() || !records.disk_is_empty().await?;
    if used && !known {
        return Err(EngineError::Damaged("the node's identity record is missing".to_owned()));
    }
    Ok(())
}

/// Why an empty log was created anew. A start may have crashed after putting the old log aside, before recording the reason in
/// the new one.
fn before(folder: &Path) -> Option<String> {
    let aside = aside::newest(folder)?;
    Some(format!("the one before lies in {}", aside.display()))
}

/// Records in an empty log that there was one before.
pub(crate) async fn begin(config: &NodeConfig, engine: &Arc<dyn Engine>, why: &str) -> Result<(), StartError> {
    let own: Vec<_> = own(config)?.into_iter().map(|(_, replica)| replica).collect();
    let begun = log::begin_anew(engine, &own, why).await;
    begun.map_err(|reason| StartError::Group {
        group: GroupId::META,
        reason: format!("the log cannot be created anew: {reason}"),
    })
}

/// Reports the damage to the log that stops the node, and what happens next.
#[derive(Clone)]
pub(crate) struct Damage {
    engine: Arc<dyn Engine>,
    alone: bool,
}

impl Damage {
    pub(crate) fn of(config: &NodeConfig, engine: &Arc<dyn Engine>) -> Self {
        Self { engine: Arc::clone(engine), alone: is_alone(config) }
    }

    /// The damage, if any was found, and what happens next.
    pub(crate) fn found(&self) -> Option<String> {
        let what = self.engine.damaged()?;
        let then = if self.alone { ALONE } else { "the next start puts it aside, and the other nodes refill this one" };
        Some(format!("the log database is damaged ({what}); {then}"))
    }

    /// Whether the next start repairs it.
    pub(crate) fn begins_again(&self) -> bool {
        !self.alone && self.engine.damaged().is_some()
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_storage::{Batch, Durability};

    use super::*;

    const CONFIGURED: [u64; 2] = [1, 3];

    fn log(data: &Path) -> Result<Arc<dyn Engine>, DataError> {
        let folder = folder(data);
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        match RocksEngine::open_log(&folder) {
            Ok(engine) => Ok(Arc::new(engine)),
            Err(reason) => Err(DataError::Open { folder, reason }),
        }
    }

    async fn written(data: &Path) {
        let engine = log(data).expect("it is whole yet");
        NodeRecords::new(Arc::clone(&engine)).put(IDENTITY, b"n1").await.expect("the disk works");
        let mut batch = Batch::new();
        batch.put(b"a row", b"of a log");
        engine.write(batch, Durability::Synced).await.expect("the disk works");
    }

    type Harm = fn(&Path);

    #[tokio::test]
    async fn a_damaged_log_is_put_aside_where_others_have_what_was_in_it() {
        let current: Harm = |log| std::fs::write(log.join("CURRENT"), "MANIFEST-999999\n").expect("the folder is ours");
        let no_current: Harm = |log| std::fs::remove_file(log.join("CURRENT")).expect("there is one");
        let marked: Harm = |log| std::fs::write(log.join("DAMAGED"), "a bad block").expect("the folder is ours");
        for (harm, what, whole_alone) in
            [(current, "CURRENT", false), (no_current, "no CURRENT", false), (marked, "marked", true)]
        {
            for nodes in CONFIGURED {
                let data = tempfile::tempdir().expect("there is a place for temporary folders");
                let (data, config) = (data.path(), aside::tests::config(data.path(), nodes));
                written(data).await;
                harm(&folder(data));
                let opened = open(&config, || log(data)).await;
                let aside = aside::newest(&folder(data)).is_some();
                match opened {
                    Ok((engine, why)) if nodes > 1 => {
                        assert!(aside && why.is_some(), "{what}");
                        begin(&config, &engine, "test").await.expect("the disk works");
                        assert_eq!(log::begun_anew(&engine).await.expect("the disk works").as_deref(), Some("test"));
                    }
                    Ok((_, why)) => assert!(whole_alone && !aside && why.is_none(), "{what}"),
                    Err(refused) => {
                        let told = refused.to_string();
                        assert!(nodes == 1 && !whole_alone && !aside, "{what}: {told}");
                        assert!(told.contains("offline accept-loss --log --yes"), "{what}: {told}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_log_that_was_put_aside_by_a_start_that_ended_then_is_still_known_to_be_lost() {
        let data = tempfile::tempdir().expect("there is a place for temporary folders");
        let (data, config) = (data.path(), aside::tests::config(data.path(), 3));
        std::fs::create_dir(data.join("log.damaged-1")).expect("the folder is ours");
        let (engine, why) = open(&config, || log(data)).await.expect("it is empty");
        assert!(why.as_ref().is_some_and(|why| why.contains("log.damaged-1")), "{why:?}");
        begin(&config, &engine, &why.unwrap_or_default()).await.expect("the disk works");
        drop(engine);
        // Not again: by now it may have promised something.
        let (engine, why) = open(&config, || log(data)).await.expect("it was begun anew");
        begin(&config, &engine, "another reason").await.expect("the disk works");
        assert_eq!(log::begun_anew(&engine).await.expect("the disk works"), why);
    }
}
