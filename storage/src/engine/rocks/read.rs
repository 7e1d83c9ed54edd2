//! Reading, from the database or from a snapshot of it.

use std::path::Path;

use bytes::Bytes;
use rocksdb::{DB, DBRawIteratorWithThreadMode, ErrorKind, ReadOptions};

use crate::engine::{EngineError, Gather, KeyRange, Row, ScanLimit};

type RawIterator<'a> = DBRawIteratorWithThreadMode<'a, DB>;

pub(super) fn get_many(
    db: &DB,
    found: Vec<Result<Option<Vec<u8>>, rocksdb::Error>>,
) -> Result<Vec<Option<Bytes>>, EngineError> {
    found.into_iter().map(|value| Ok(value.map_err(|error| failure(db, error))?.map(Bytes::from))).collect()
}

/// Why a read failed. Every block that is read is held against its checksum; a file of the database that is gone is damage
/// too, where a disk that refuses to read says nothing about what is on it.
fn failure(db: &DB, error: rocksdb::Error) -> EngineError {
    match error.kind() {
        ErrorKind::IOError => match missing_file(db) {
            Some(file) => EngineError::Damaged(format!("the file {file} is missing: {error}")),
            None => super::failure(error),
        },
        _ => super::failure(error),
    }
}

/// Why the database in `path` did not open. One whose list of files is gone is damaged.
pub(super) fn unopened(path: &Path, error: rocksdb::Error) -> EngineError {
    let list = std::fs::read_to_string(path.join("CURRENT")).unwrap_or_default();
    let gone = !list.is_empty() && !path.join(list.trim_end()).exists();
    match error.kind() {
        ErrorKind::IOError if gone => {
            EngineError::Damaged(format!("the file {} is missing: {error}", list.trim_end().escape_debug()))
        }
        _ => super::failure(error),
    }
}

/// What is wrong with a folder that has a database but not the file that says which of its files count: RocksDB would begin anew in
/// it, and remove what is there.
pub(super) fn without_list(path: &Path) -> Option<String> {
    let ours =
        |entry: std::fs::DirEntry| entry.file_name() == super::vouch::FILE || entry.path().extension() == Some("sst".as_ref());
    let used = std::fs::read_dir(path).ok()?.flatten().any(ours);
    (used && !path.join("CURRENT").exists()).then(|| format!("{}: the file CURRENT is missing", path.display()))
}

/// The first file that the database counts on and the folder does not have.
fn missing_file(db: &DB) -> Option<String> {
    let files = db.live_files().inspect_err(|error| tracing::warn!(%error, "live files of a database not listed")).ok()?;
    // Their names begin with a slash.
    files.into_iter().map(|file| file.name).find(|name| !db.path().join(name.trim_start_matches('/')).exists())
}

pub(super) fn scan<'a>(
    db: &DB,
    range: &KeyRange,
    limit: ScanLimit,
    open: impl FnOnce(ReadOptions) -> RawIterator<'a>,
) -> Result<Vec<Row>, EngineError> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = open(read_options(range));
    rows.seek_to_first();
    gather(db, rows, limit, RawIterator::next)
}

pub(super) fn scan_back<'a>(
    db: &DB,
    range: &KeyRange,
    limit: ScanLimit,
    open: impl FnOnce(ReadOptions) -> RawIterator<'a>,
) -> Result<Vec<Row>, EngineError> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = open(read_options(range));
    rows.seek_to_last();
    gather(db, rows, limit, RawIterator::prev)
}

fn gather<'a>(
    db: &DB,
    mut rows: RawIterator<'a>,
    limit: ScanLimit,
    advance: impl Fn(&mut RawIterator<'a>),
) -> Result<Vec<Row>, EngineError> {
    let mut gathered = Gather::new(limit);
    while let Some((key, value)) = rows.item() {
        let row = || (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        if gathered.offer(key.len() + value.len(), row).is_break() {
            break;
        }
        advance(&mut rows);
    }
    rows.status().map_err(|error| failure(db, error))?;
    Ok(gathered.rows)
}

/// Scans pass by the cache: they read each block once.
fn read_options(range: &KeyRange) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_verify_checksums(true);
    options.set_iterate_lower_bound(&range.from[..]);
    if let Some(to) = &range.to {
        options.set_iterate_upper_bound(&to[..]);
    }
    options
}
