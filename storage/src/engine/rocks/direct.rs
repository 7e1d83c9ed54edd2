//! Merging past the page cache. A merge reads and writes gigabytes once. Through the page cache it would push out what is read
//! again, and its write-back would make the log's sync wait.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rocksdb::Options;
use rustix::fs::OFlags;

use super::{MEBI, RocksBounds};

/// Open for direct I/O.
const DIRECT: i32 = OFlags::DIRECT.bits().cast_signed();
/// Bytes that a merge reads at once from each of its files: without the page cache nobody else reads ahead for it.
const READ_AHEAD: usize = 2 * MEBI;
/// Files that a merge reads at the same time, mostly. Their buffers together stay below one write buffer.
const FILES: usize = 16;

/// Lets merges and flushes of the database in `folder` go past the page cache, if the file system can.
pub(super) fn merge(options: &mut Options, folder: &Path, bounds: RocksBounds) {
    if can(folder) {
        options.set_use_direct_io_for_flush_and_compaction(true);
        options.set_compaction_readahead_size(READ_AHEAD.min(bounds.write_buffer / FILES));
    }
}

/// Whether files in `folder` can be opened for direct I/O: some file systems in memory or over a network cannot.
fn can(folder: &Path) -> bool {
    let probe = folder.join("direct.probe");
    let open = || {
        fs::create_dir_all(folder)?;
        OpenOptions::new().write(true).create(true).truncate(true).custom_flags(DIRECT).open(&probe)
    };
    let opened = open();
    if let Err(reason) = &opened {
        tracing::debug!(path = %probe.display(), error = %reason, "merges go through the page cache");
    }
    // Linux makes the file even if it then refuses the flag. If it cannot be removed, the next start tries again.
    fs::remove_file(&probe).ok();
    opened.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Batch, Durability, Engine, KeyRange, RocksEngine, ScanLimit};

    #[test]
    fn a_folder_that_can_do_direct_io_is_told_from_one_that_cannot() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let asked = can(folder.path());
        let direct =
            OpenOptions::new().write(true).create(true).truncate(true).custom_flags(DIRECT).open(folder.path().join("another"));
        assert_eq!(asked, direct.is_ok());
        assert!(!folder.path().join("direct.probe").exists());
        assert!(!can(Path::new("/proc/self")), "nobody makes files there");
    }

    #[tokio::test]
    async fn what_was_merged_directly_is_read_as_before() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let engine = RocksEngine::open_state(folder.path()).expect("an empty folder becomes a database");
        for round in 0..20u8 {
            let mut batch = Batch::new();
            (0..100u8).for_each(|key| batch.put(&[key], &[round; 1_000]));
            engine.write(batch, Durability::Synced).await.expect("the disk works");
        }
        // Everything is merged.
        engine.erase(&[99], &[100]).await.expect("the disk works");
        let rows = engine.scan(KeyRange::all(), ScanLimit::rows(1_000)).await.expect("the disk works");
        assert_eq!(rows.len(), 99);
        assert!(rows.iter().all(|(_, value)| value[..] == [19; 1_000]));
    }
}
