//! Checkpoints as files. A batch whose keys ascend becomes a table file of its own, which the database takes in whole: no
//! copy in a memtable, which would be sorted, kept and written once more, and the same promise, all of it or nothing, durable
//! on return.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{DB, IngestExternalFileOptions, Options, SstFileWriter};

use crate::engine::EngineError;
use crate::engine::batch::{Batch, Operation};

/// The folder, inside that of the database, in which files are made; RocksDB looks at none but its own.
const FOLDER: &str = "incoming";

/// Makes files and hands them over.
pub(super) struct Ingest {
    folder: PathBuf,
    options: Options,
    files: AtomicU64,
}

impl Ingest {
    /// For the database in the folder `path`, which is open; `options` are those of its files. Blocks.
    ///
    /// # Errors
    /// If what a crash has left cannot be removed, or the folder cannot be made.
    pub(super) fn open(path: &Path, options: Options) -> Result<Self, EngineError> {
        let folder = path.join(FOLDER);
        let made = match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => std::fs::create_dir(&folder),
        };
        made.map_err(|error| EngineError::Disk(format!("{}: {error}", folder.display())))?;
        Ok(Self { folder, options, files: AtomicU64::new(0) })
    }

    /// Whether a batch can become a file: its keys ascend, and no range of them goes.
    pub(super) fn can_take(batch: &Batch) -> bool {
        let mut last: Option<&[u8]> = None;
        batch.operations().all(|operation| match operation {
            Operation::Put { key, .. } | Operation::Delete { key } => last.replace(key).is_none_or(|last| last < key),
            Operation::DeleteRange { .. } => false,
        })
    }

    /// Makes the batch part of the database, durably.
    pub(super) fn take(&self, db: &DB, batch: &Batch) -> Result<(), rocksdb::Error> {
        let path = self.folder.join(format!("{}.sst", self.files.fetch_add(1, Ordering::Relaxed)));
        let mut file = SstFileWriter::create(&self.options);
        file.open(&path)?;
        for operation in batch.operations() {
            match operation {
                Operation::Put { key, value } => file.put(key, value)?,
                Operation::Delete { key } => file.delete(key)?,
                Operation::DeleteRange { .. } => unreachable!("a batch with a range becomes no file"),
            }
        }
        file.finish()?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        db.ingest_external_file_opts(&options, vec![path])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_becomes_a_file_if_its_keys_ascend() {
        let batch = |change: fn(&mut Batch)| {
            let mut batch = Batch::new();
            batch.put(b"b", b"1");
            change(&mut batch);
            Ingest::can_take(&batch)
        };
        assert!(batch(|_| {}));
        assert!(batch(|batch| batch.delete(b"ba")));
        assert!(!batch(|batch| batch.put(b"b", b"2")), "one key twice");
        assert!(!batch(|batch| batch.put(b"a", b"2")), "not in order");
        assert!(!batch(|batch| batch.delete_range(b"c", b"d")));
    }
}
