//! Finds logs that still have their first entry: everything that was ever applied can be rebuilt from them.

use bytes::Bytes;

use super::keys;
use crate::engine::{Engine, EngineError, KeyRange, ScanLimit};

/// The replicas whose logs lack their first entry: the purged entries are only in their state.
///
/// # Errors
/// If the disk fails.
pub async fn without_beginning(engine: &dyn Engine) -> Result<Vec<u64>, EngineError> {
    let (mut without, mut from) = (Vec::new(), Bytes::new());
    loop {
        let next = engine.scan(KeyRange { from, to: None }, ScanLimit::rows(1)).await?;
        // The node's records sort after all replicas.
        let Some(place) = next.first().and_then(|(key, _)| keys::place(key)) else { return Ok(without) };
        let first = engine.get_many(vec![Bytes::copy_from_slice(&keys::entry(place.replica, 0))]).await?;
        if first.iter().all(Option::is_none) {
            without.push(place.replica);
        }
        let (_, end) = keys::all(place.replica);
        from = Bytes::copy_from_slice(&end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeRecords;
    use crate::engine::{Batch, Durability, MemEngine};

    #[tokio::test]
    async fn a_log_without_its_first_entry_is_named() {
        let disk = MemEngine::new();
        assert_eq!(without_beginning(&disk).await, Ok(vec![]));
        let mut batch = Batch::new();
        for key in [keys::vote(1), keys::entry(1, 0), keys::entry(1, 1), keys::vote(2), keys::entry(2, 7), keys::vote(9)] {
            batch.put(&key, b"x");
        }
        disk.write(batch, Durability::Synced).await.expect("the disk works");
        NodeRecords::new(std::sync::Arc::new(disk.clone())).put("who", b"n1").await.expect("the disk works");
        assert_eq!(without_beginning(&disk).await, Ok(vec![2, 9]));
    }
}
