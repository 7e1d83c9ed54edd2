//! What the log vouches for, in a file of its own beside RocksDB's: overwritten after each sync and never synced itself.
//!
//! Two places are written in turn, each a frame with a number of its own, so that one that a crash of the machine has torn
//! leaves the other. RocksDB leaves files alone whose names it does not know.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::{HEADER_LEN, Kind, body_len, open_bytes, seal_with};
use crate::engine::EngineError;

/// The file, inside the folder of the database.
pub(super) const FILE: &str = "VOUCHED";
/// Bytes between the beginnings of the two places, and the longest that a vouch with its frame may be. The file has holes.
const PLACE: usize = 1 << 20;

/// The file of a database that is open, or about to be.
pub(super) struct VouchFile {
    file: File,
    /// The number of the newest.
    number: u64,
    /// What it says.
    newest: Option<Bytes>,
    /// There was none.
    new: bool,
}

impl VouchFile {
    /// Opens the file in the folder `path`, which exists, and reads the newest place. Blocks.
    ///
    /// # Errors
    /// If the file cannot be made or read.
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        let path = path.join(FILE);
        let disk = |error: io::Error| EngineError::Disk(format!("{}: {error}", path.display()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(disk)?;
        let newest = newest(&file).map_err(disk)?;
        let empty = file.metadata().map_err(disk)?.len() == 0;
        if newest.is_none() && !empty {
            tracing::warn!(path = %path.display(), effect = "the end of the log is accepted as found", "file VOUCHED is unreadable");
        }
        let (number, newest) = newest.map_or((0, None), |(number, vouch)| (number, Some(vouch)));
        Ok(Self { file, number, newest, new: empty })
    }

    /// What was written last into the file in the folder `path`, which nobody has open. Blocks.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub(super) fn read(path: &Path) -> Result<Option<Bytes>, EngineError> {
        let path = path.join(FILE);
        let found = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.and_then(|file| newest(&file)),
        };
        let found = found.map_err(|error| EngineError::Disk(format!("{}: {error}", path.display())))?;
        Ok(found.map(|(_, vouch)| vouch))
    }

    /// Whether there was none when it was opened.
    pub(super) fn is_new(&self) -> bool {
        self.new
    }

    /// What was written last.
    pub(super) fn newest(&self) -> Option<Bytes> {
        self.newest.clone()
    }

    /// Writes a new one over the older of the two places. Waits for no disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn write(&mut self, vouch: Bytes) -> Result<(), EngineError> {
        self.number += 1;
        let mut frame = BytesMut::with_capacity(HEADER_LEN + 8 + vouch.len());
        seal_with(Kind::VOUCH, &mut frame, |out| {
            out.put_u64_le(self.number);
            out.put_slice(&vouch);
        });
        assert!(frame.len() <= PLACE, "a vouch of {} bytes is larger than its place of {PLACE}", frame.len());
        let at = if self.number.is_multiple_of(2) { 0 } else { PLACE as u64 };
        let written = self.file.write_all_at(&frame, at);
        self.newest = Some(vouch);
        written.map_err(|error| EngineError::Disk(format!("{FILE}: {error}")))
    }

    /// Makes what was written durable. Blocks.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn sync(&self) -> Result<(), EngineError> {
        self.file.sync_all().map_err(|error| EngineError::Disk(format!("{FILE}: {error}")))
    }
}

/// The newest of both places.
fn newest(file: &File) -> io::Result<Option<(u64, Bytes)>> {
    let places = [place(file, 0)?, place(file, PLACE)?];
    Ok(places.into_iter().flatten().max_by_key(|(number, _)| *number))
}

/// The number and the vouch in the place that begins at `at`; `None` if there is none that is whole.
fn place(file: &File, at: usize) -> io::Result<Option<(u64, Bytes)>> {
    let mut header = [0; HEADER_LEN];
    if read_at(file, &mut header, at)? < HEADER_LEN {
        return Ok(None);
    }
    let Ok(length) = body_len(&header, PLACE - HEADER_LEN) else { return Ok(None) };
    let mut frame = vec![0; HEADER_LEN + length];
    if read_at(file, &mut frame, at)? < frame.len() {
        return Ok(None);
    }
    let Ok(mut body) = open_bytes(Kind::VOUCH, frame.into()) else { return Ok(None) };
    Ok((body.len() >= 8).then(|| (body.get_u64_le(), body)))
}

/// As much as there is, up to the length of `out`.
fn read_at(file: &File, out: &mut [u8], at: usize) -> io::Result<usize> {
    let mut read = 0;
    while read < out.len() {
        match file.read_at(&mut out[read..], (at + read) as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reopened(folder: &Path) -> Option<Bytes> {
        VouchFile::open(folder).expect("the folder is ours").newest()
    }

    #[test]
    fn the_newest_that_is_whole_is_found() {
        let folder = tempfile::tempdir().expect("there is a place for temporary folders");
        assert_eq!(reopened(folder.path()), None);
        let mut file = VouchFile::open(folder.path()).expect("the folder is ours");
        for vouch in ["one", "two", "three"] {
            file.write(Bytes::from_static(vouch.as_bytes())).expect("the disk works");
        }
        file.sync().expect("the disk works");
        assert_eq!(reopened(folder.path()), Some(Bytes::from_static(b"three")));
        // Odd numbers lie in the second place.
        file.file.write_all_at(&[0xff], (PLACE + HEADER_LEN + 9) as u64).expect("the disk works");
        assert_eq!(reopened(folder.path()), Some(Bytes::from_static(b"two")), "the newest is damaged");
        file.file.write_all_at(&[0xff], (HEADER_LEN + 9) as u64).expect("the disk works");
        assert_eq!(reopened(folder.path()), None, "both are");
    }

    /// As it will be found on disks for ever.
    #[test]
    fn golden_bytes() {
        let folder = tempfile::tempdir().expect("there is a place for temporary folders");
        VouchFile::open(folder.path()).expect("the folder is ours").write(Bytes::from_static(b"v")).expect("the disk works");
        let bytes = std::fs::read(folder.path().join(FILE)).expect("it was written");
        let hex: String = bytes[PLACE..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "4f4752440100060009000000bb13e557010000000000000076");
    }
}
