//! Checkpoints as files. Rows with ascending keys are written to a table file, which the database ingests as a whole: nothing
//! is copied into a batch or a memtable, which would be sorted, kept and written once more. The guarantee is the same: atomic,
//! and durable on return.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{DB, IngestExternalFileOptions, Options, SstFileWriter};

use crate::engine::{EngineError, ShowRows};

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

    /// Makes the rows part of the database, durably; tells their size in bytes.
    pub(super) fn take(&self, db: &DB, show: ShowRows) -> Result<u64, rocksdb::Error> {
        let path = self.folder.join(format!("{}.sst", self.files.fetch_add(1, Ordering::Relaxed)));
        let mut file = SstFileWriter::create(&self.options);
        file.open(&path)?;
        let (mut bytes, mut written) = (0, Ok(()));
        show(&mut |key, value| {
            bytes += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
            if written.is_ok() {
                // A key that does not come after the last one is refused.
                written = match value {
                    Some(value) => file.put(key, value),
                    None => file.delete(key),
                };
            }
        });
        written?;
        if bytes == 0 {
            // RocksDB takes no file without rows.
            return Ok(bytes);
        }
        file.finish()?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        db.ingest_external_file_opts(&options, vec![path])?;
        Ok(bytes)
    }
}
