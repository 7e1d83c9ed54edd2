//! How far the streams of a shard had come at one moment, and whether the moments of several shards fit together. Cheap to
//! ask before all rows are read: a handful of rows say it.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use ordergrid_rows::TableKey;

use crate::encoding::{BytesError, read_row};
use crate::ids::GroupId;
use crate::rows::keys::{From, To};
use crate::rows::kinds::{StreamIn, StreamOut};
use crate::rows::{STREAM_IN, STREAM_OUT};

/// The streams of one shard at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Moment {
    pub(super) outgoing: BTreeMap<GroupId, StreamOut>,
    pub(super) incoming: BTreeMap<GroupId, u64>,
}

impl Moment {
    /// The rows that it is made of have keys from this byte on.
    pub const FIRST: u8 = STREAM_OUT;

    /// Takes a row; `false` when its key, and every one after it, is of another kind.
    ///
    /// # Errors
    /// If the row cannot be read.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<bool, BytesError> {
        match key.first().copied().ok_or(BytesError::Key)? {
            STREAM_OUT => drop(self.outgoing.insert(To::parse(key)?.0, read_row(value)?)),
            STREAM_IN => drop(self.incoming.insert(From::parse(key)?.0, read_row::<StreamIn>(value)?.high)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Pairs (source, destination) that cannot be judged against each other: one was seen before the other told it something
    /// that the other's rows no longer show, or the reverse, or was not seen at all.
    #[must_use]
    pub fn torn(seen: &BTreeMap<GroupId, &Self>) -> Vec<(GroupId, GroupId)> {
        let mut torn = Vec::new();
        for (from, source) in seen {
            for (to, target) in seen {
                let stream = source.outgoing.get(to).copied().unwrap_or_default();
                let high = target.incoming.get(from).copied().unwrap_or_default();
                if high < stream.trimmed || high >= stream.next {
                    torn.push((*from, *to));
                }
            }
            let away = source.outgoing.keys().filter(|to| !seen.contains_key(to));
            torn.extend(away.map(|to| (*from, *to)));
            let strange = source.incoming.keys().filter(|to| !seen.contains_key(to));
            torn.extend(strange.map(|to| (*to, *from)));
        }
        torn
    }
}
