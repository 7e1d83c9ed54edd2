//! Rows as no owner has them, for tests.

use bincode::{Decode, Encode};

use crate::decoded::{Decoded, Kind};
use crate::encoding::encode;

/// Rows that are never decoded.
pub(crate) const NAMED: u8 = 16;
/// Rows that stay decoded.
pub(crate) const COUNTED: u8 = 17;
/// Rows that rest after a checkpoint.
pub(crate) const NOTED: u8 = 18;
/// All of them.
pub(crate) const TABLES: [u8; 3] = [NAMED, COUNTED, NOTED];

/// A row that stays decoded.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Count(pub(crate) u64);

/// A row that rests after a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Note(pub(crate) String);

/// What is worked on.
#[derive(Debug)]
pub(crate) enum Sample {
    Count(Box<Count>),
    Note(Box<Note>),
}

impl Decoded for Sample {
    fn encode<'a>(&self, room: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            Self::Count(count) => encode(room, count.as_ref()),
            Self::Note(note) => encode(room, note.as_ref()),
        }
    }

    fn bytes_in_memory(&self) -> u64 {
        if let Self::Note(note) = self { 30 + note.0.len() as u64 } else { 100 }
    }

    fn stored_bytes(&self, in_memory: u64) -> u64 {
        if let Self::Note(_) = self { in_memory / 3 } else { in_memory }
    }

    fn rests(&self) -> bool {
        matches!(self, Self::Note(_))
    }

    fn glance(&self) -> u64 {
        if let Self::Count(count) = self { count.0 } else { 0 }
    }
}

impl Kind<Sample> for Count {
    fn wrap(kind: Box<Self>) -> Sample {
        Sample::Count(kind)
    }

    fn unwrap(decoded: Sample) -> Option<Box<Self>> {
        if let Sample::Count(count) = decoded { Some(count) } else { None }
    }

    fn of(decoded: &Sample) -> Option<&Self> {
        if let Sample::Count(count) = decoded { Some(count) } else { None }
    }

    fn of_mut(decoded: &mut Sample) -> Option<&mut Self> {
        if let Sample::Count(count) = decoded { Some(count) } else { None }
    }
}

impl Kind<Sample> for Note {
    fn wrap(kind: Box<Self>) -> Sample {
        Sample::Note(kind)
    }

    fn unwrap(decoded: Sample) -> Option<Box<Self>> {
        if let Sample::Note(note) = decoded { Some(note) } else { None }
    }

    fn of(decoded: &Sample) -> Option<&Self> {
        if let Sample::Note(note) = decoded { Some(note) } else { None }
    }

    fn of_mut(decoded: &mut Sample) -> Option<&mut Self> {
        if let Sample::Note(note) = decoded { Some(note) } else { None }
    }
}
