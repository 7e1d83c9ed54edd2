//! What RocksDB's write-ahead logs hold behind damage.
//!
//! RocksDB ends a log at the first record that is not whole, and drops what follows: the end of a log that a loss of power has
//! torn looks the same as a changed bit in its middle. What follows can tell the two apart, because each batch says which others
//! were durable when it was written ([`crate::log::vouch`]). So the logs are read once more before RocksDB opens them.
//!
//! A log is blocks of 32 KiB of records: a masked CRC-32C of all that follows it, length u16, type u8, and in logs that may be
//! recycled the number of the log u32, by which a record of an earlier life of the file is told from one of this. A record that
//! crosses blocks is in pieces: first, middle, last. Inside is a write batch: sequence u64, count u32, then tagged changes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::engine::EngineError;
use crate::log::vouch::{WRITTEN_KEY, Written};

const BLOCK: usize = 32 << 10;
/// Checksum, length, type, number of the log.
const HEADER: usize = 11;
const FULL: u8 = 5;
const FIRST: u8 = 6;
const MIDDLE: u8 = 7;
const LAST: u8 = 8;
/// Of the changes in a write batch; others are never written here.
const DELETION: u8 = 0;
const VALUE: u8 = 1;
const RANGE_DELETION: u8 = 15;
/// Sequence number and count of a write batch.
const BATCH_HEADER: usize = 12;

/// The rows in the batches that lie behind the first damage, or behind the end, of the logs in the folder `path`, in their
/// order. Blocks.
///
/// # Errors
/// If the disk fails.
pub(super) fn behind_damage(path: &Path) -> Result<Vec<Written>, EngineError> {
    let read = || {
        let (mut rows, mut damaged) = (Vec::new(), false);
        for (number, file) in logs(path)? {
            scan(&fs::read(file)?, number, &mut damaged, &mut rows);
        }
        Ok::<_, io::Error>(rows)
    };
    read().map_err(|error| EngineError::Disk(format!("{}: {error}", path.display())))
}

/// The write-ahead logs in a folder, by their numbers. A folder that is not there has none.
fn logs(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let files = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut logs = Vec::new();
    for file in files {
        let path = file?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = name.filter(|_| path.extension().is_some_and(|extension| extension == "log")) {
            logs.push((number, path));
        }
    }
    logs.sort_unstable();
    Ok(logs)
}

/// Reads the log `number`. What lies behind its end counts as damaged, should any record follow.
fn scan(log: &[u8], number: u64, damaged: &mut bool, rows: &mut Vec<Written>) {
    // The header has its lower half.
    let number = (number as u32).to_le_bytes();
    let mut pieces: Vec<u8> = Vec::new();
    for block in log.chunks(BLOCK) {
        let mut at = 0;
        while block.len().saturating_sub(at) >= HEADER {
            let Some((kind, body)) = record(&block[at..], number) else {
                // Where a record begins behind damage, nobody knows.
                *damaged = true;
                pieces.clear();
                at += 1;
                continue;
            };
            at += HEADER + body.len();
            match kind {
                FULL => found(body, *damaged, rows),
                FIRST => pieces = body.to_vec(),
                _ if pieces.is_empty() => {}
                MIDDLE => pieces.extend_from_slice(body),
                _ => {
                    pieces.extend_from_slice(body);
                    found(&std::mem::take(&mut pieces), *damaged, rows);
                }
            }
        }
    }
}

/// The type and the body of the record that `bytes` begin with, if it is whole and of this log.
fn record(bytes: &[u8], number: [u8; 4]) -> Option<(u8, &[u8])> {
    let header = bytes.first_chunk::<HEADER>()?;
    if header[7..] != number || !(FULL..=LAST).contains(&header[6]) {
        return None;
    }
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let checked = bytes.get(6..HEADER + length)?;
    let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    (masked(crc32c::crc32c(checked)) == stored).then(|| (header[6], &bytes[HEADER..HEADER + length]))
}

/// As RocksDB stores checksums, so that a checksum of bytes with checksums inside is none of them.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn found(batch: &[u8], damaged: bool, rows: &mut Vec<Written>) {
    if damaged && let Some(frame) = row_of(batch) {
        rows.extend(Written::open(frame).ok());
    }
}

/// The frame under [`WRITTEN_KEY`] in a write batch.
fn row_of(batch: &[u8]) -> Option<Bytes> {
    let (mut rest, mut found) = (batch.get(BATCH_HEADER..)?, None);
    while let Some((tag, after)) = rest.split_first() {
        rest = after;
        let key = slice(&mut rest)?;
        match *tag {
            DELETION => {}
            VALUE | RANGE_DELETION => {
                let value = slice(&mut rest)?;
                if key == WRITTEN_KEY {
                    found = Some(Bytes::copy_from_slice(value));
                }
            }
            _ => return None,
        }
    }
    found
}

/// Bytes with their length before them, in groups of seven bits, the lowest first.
fn slice<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
        if shift > 28 {
            return None;
        }
    }
    let (slice, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(slice)
}
