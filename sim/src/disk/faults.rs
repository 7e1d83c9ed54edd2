//! What can go wrong with one database, and when it strikes.

use std::time::Duration;

use bytes::Bytes;
use ordergrid_storage::{EngineError, Fault};

use super::Database;
use crate::dice::Dice;
use crate::history::SimTime;
use crate::trace;

/// How long a sync takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncTime {
    /// Always so long.
    Fixed(Duration),
    /// Drawn for each sync, both ends included.
    Between(Duration, Duration),
}

impl SyncTime {
    pub(super) fn draw(self, dice: &mut Dice) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Between(shortest, longest) => {
                let spread = u64::try_from(longest.saturating_sub(shortest).as_micros()).unwrap_or(u64::MAX - 1);
                shortest + Duration::from_micros(dice.below(spread + 1))
            }
        }
    }
}

/// How long a look at rows takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadTime {
    /// No time.
    AtOnce,
    /// For one in five a time below this; none for the others.
    Below(Duration),
    /// Always so long.
    Fixed(Duration),
}

impl ReadTime {
    pub(super) fn draw(self, dice: &mut Dice) -> Option<Duration> {
        match self {
            Self::AtOnce => None,
            Self::Below(slowest) => {
                let slowest = u64::try_from(slowest.as_micros()).unwrap_or(u64::MAX);
                dice.percent(20).then(|| Duration::from_micros(dice.below(slowest)))
            }
            Self::Fixed(time) => Some(time),
        }
    }
}

/// A value that was handed out with a flipped bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitFlip {
    /// When.
    pub at: SimTime,
    /// The node that read it.
    pub node: u64,
    /// From which database.
    pub database: Database,
    /// Under which key.
    pub key: Bytes,
}

/// The faults of one database.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) sync_time: SyncTime,
    pub(super) reads: ReadTime,
    /// No sync ends before.
    pub(super) stalled_until: SimTime,
    pub(super) full: bool,
    pub(super) reads_fail: bool,
    pub(super) flipped: Vec<BitFlip>,
    /// How many writes still succeed, and how the next one fails.
    write: Option<(u64, Fault)>,
    /// How many values are read before the one with the flipped bit, and the bit.
    flip: Option<(u64, u64)>,
    /// How many reads succeed before one finds damage.
    damage: Option<u64>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            sync_time: SyncTime::Fixed(Duration::from_millis(1)),
            reads: ReadTime::AtOnce,
            stalled_until: SimTime(0),
            full: false,
            reads_fail: false,
            flipped: Vec::new(),
            write: None,
            flip: None,
            damage: None,
        }
    }

    pub(super) fn lift(&mut self) {
        *self = Self { flipped: std::mem::take(&mut self.flipped), ..Self::new() };
    }

    pub(super) fn fail_write(&mut self, after: u64, fault: Fault) {
        self.write = Some((after, fault));
    }

    pub(super) fn flip(&mut self, after: u64, bit: u64) {
        self.flip = Some((after, bit));
    }

    pub(super) fn damage(&mut self, after: u64) {
        self.damage = Some(after);
    }

    /// How the write that begins goes wrong, and in which words.
    pub(super) fn strike_write(&mut self) -> Option<(Fault, &'static str)> {
        if self.full {
            return Some((Fault::NotWritten, "no space is left"));
        }
        let (left, fault) = self.write.as_mut()?;
        let fault = *fault;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        self.write = None;
        match fault {
            Fault::NotWritten => Some((fault, "a write failed")),
            Fault::NotSynced => Some((fault, "a sync failed")),
        }
    }

    /// Whether the read that begins can be answered.
    pub(super) fn strike_read(&mut self) -> Result<(), EngineError> {
        if self.reads_fail {
            return Err(EngineError::Disk("a read failed".to_owned()));
        }
        match &mut self.damage {
            None => Ok(()),
            Some(0) => {
                self.damage = None;
                Err(EngineError::Damaged("a block's checksum is wrong".to_owned()))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    /// Flips the bit of the value whose turn it is, if it is among these.
    pub(super) fn strike_values<'a>(
        &mut self,
        (node, database): (u64, Database),
        values: impl Iterator<Item = (&'a Bytes, &'a mut Bytes)>,
    ) {
        for (key, value) in values.filter(|(_, value)| !value.is_empty()) {
            let Some((left, bit)) = &mut self.flip else { return };
            if *left > 0 {
                *left -= 1;
                continue;
            }
            let bit = *bit % (value.len() as u64 * 8);
            *value = flipped(value, bit);
            self.flip = None;
            trace::note(format_args!("disk {node} {database}: bit {bit} flipped under {key:02x}"));
            self.flipped.push(BitFlip { at: trace::now(), node, database, key: key.clone() });
        }
    }
}

fn flipped(value: &[u8], bit: u64) -> Bytes {
    let mut damaged = value.to_vec();
    let at = usize::try_from(bit / 8).expect("below the length of the value");
    damaged[at] ^= 1 << (bit % 8);
    damaged.into()
}
