//! The mark on a database that must not be opened again, because damage was found in it.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Name of the file in the database's folder. RocksDB ignores files with unknown names.
const FILE: &str = "DAMAGED";

/// The mark of a database that is open, or about to be opened.
pub(super) struct Marker {
    file: PathBuf,
    /// The first damage found since the database was opened.
    met: Mutex<Option<String>>,
}

impl Marker {
    /// The mark of the database in the folder `path`.
    pub(super) fn of(path: &Path) -> Self {
        Self { file: path.join(FILE), met: Mutex::default() }
    }

    /// The damage that forbids opening the database.
    pub(super) fn found(&self) -> Option<String> {
        std::fs::read_to_string(&self.file).ok()
    }

    /// Records damage: the database must not be opened again.
    pub(super) fn set(&self, damage: &str) {
        if self.met.lock().get_or_insert_with(|| damage.to_owned()) == damage {
            // Without the mark the database opens again, and the same damage is found once more.
            if let Err(error) = std::fs::write(&self.file, damage) {
                tracing::warn!(path = %self.file.display(), %error, "damaged database not marked");
            }
        }
    }

    /// The damage that was met since it was opened.
    pub(super) fn met(&self) -> Option<String> {
        self.met.lock().clone()
    }

    /// Allows the database to be opened again. No effect without a mark.
    pub(super) fn clear(&self) {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.file.display(), %error, "mark of a damaged database not removed");
            }
            _ => {}
        }
    }
}
