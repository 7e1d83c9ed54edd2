//! Reading, from the database or from a snapshot of it.

use bytes::Bytes;
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions};

use super::failure;
use crate::engine::{EngineError, Gather, KeyRange, Row, ScanLimit};

type RawIterator<'a> = DBRawIteratorWithThreadMode<'a, DB>;

pub(super) fn get_many(found: Vec<Result<Option<Vec<u8>>, rocksdb::Error>>) -> Result<Vec<Option<Bytes>>, EngineError> {
    found.into_iter().map(|value| Ok(value.map_err(failure)?.map(Bytes::from))).collect()
}

pub(super) fn scan<'a>(
    range: &KeyRange,
    limit: ScanLimit,
    open: impl FnOnce(ReadOptions) -> RawIterator<'a>,
) -> Result<Vec<Row>, EngineError> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = open(read_options(range));
    rows.seek_to_first();
    gather(rows, limit, RawIterator::next)
}

pub(super) fn scan_back<'a>(
    range: &KeyRange,
    limit: ScanLimit,
    open: impl FnOnce(ReadOptions) -> RawIterator<'a>,
) -> Result<Vec<Row>, EngineError> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = open(read_options(range));
    rows.seek_to_last();
    gather(rows, limit, RawIterator::prev)
}

fn gather<'a>(
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
    rows.status().map_err(failure)?;
    Ok(gathered.rows)
}

/// Scans pass by the cache: they read each block once.
fn read_options(range: &KeyRange) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_iterate_lower_bound(&range.from[..]);
    if let Some(to) = &range.to {
        options.set_iterate_upper_bound(&to[..]);
    }
    options
}
