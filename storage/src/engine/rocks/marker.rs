//! The file that says of a database that it must not be opened again: what was met in it stays where it is.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Inside the folder of the database. RocksDB leaves files alone whose names it does not know.
const FILE: &str = "DAMAGED";

/// The mark of a database that is open, or about to be.
pub(super) struct Marker {
    file: PathBuf,
    /// The first damage that was met since it was opened.
    met: Mutex<Option<String>>,
}

impl Marker {
    /// Of the database in the folder `path`.
    pub(super) fn of(path: &Path) -> Self {
        Self { file: path.join(FILE), met: Mutex::default() }
    }

    /// The damage for which the database must not be opened.
    pub(super) fn found(&self) -> Option<String> {
        std::fs::read_to_string(&self.file).ok()
    }

    /// Damage was met: the database must not be opened again.
    pub(super) fn set(&self, damage: &str) {
        if self.met.lock().get_or_insert_with(|| damage.to_owned()) == damage {
            // Unmarked, it opens again, and the same is found once more.
            if let Err(error) = std::fs::write(&self.file, damage) {
                tracing::warn!(path = %self.file.display(), %error, "damaged database not marked");
            }
        }
    }

    /// The damage that was met since it was opened.
    pub(super) fn met(&self) -> Option<String> {
        self.met.lock().clone()
    }

    /// It may be opened again. Without effect if it may anyway.
    pub(super) fn clear(&self) {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.file.display(), %error, "mark of a damaged database not removed");
            }
            _ => {}
        }
    }
}
