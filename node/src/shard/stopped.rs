//! The streams of a led shard that are stopped, because its two ends do not fit together (protocol.md, rule 20).

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use ordergrid_domain::machine::Stream;
use ordergrid_domain::{GroupId, Timestamp};
use parking_lot::Mutex;

use crate::telemetry::metrics;

/// What does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Misfit {
    /// The destination lacks messages that the source has forgotten, because they were confirmed or given up.
    Lacks {
        /// Highest number that the destination has applied.
        applied: u64,
        /// Highest number that the source has forgotten.
        forgotten: u64,
    },
    /// The destination has applied messages that the source does not know to have sent.
    Ahead {
        /// Highest number that the destination has applied.
        applied: u64,
        /// Highest number that the source has sent.
        sent: u64,
    },
}

impl Misfit {
    /// Whether the ends of a stream fit together: `before` is the source before the destination was asked, `after` afterwards.
    pub(crate) fn of(before: &Stream, applied: u64, after: &Stream) -> Option<Self> {
        if applied < before.trimmed {
            return Some(Self::Lacks { applied, forgotten: before.trimmed });
        }
        (applied >= after.next).then(|| Self::Ahead { applied, sent: after.next - 1 })
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lacks { applied, forgotten } => {
                write!(f, "the destination has applied message {applied}, and the source has forgotten all up to {forgotten}")
            }
            Self::Ahead { applied, sent } => {
                write!(f, "the destination has applied message {applied}, and the source has sent {sent} as its last one")
            }
        }
    }
}

/// A stream that is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct StoppedStream {
    pub(crate) from: GroupId,
    pub(crate) to: GroupId,
    /// When this leader has found that out.
    pub(crate) since: Timestamp,
    pub(crate) why: Misfit,
}

/// Those of one led shard, for a term.
pub(crate) struct StoppedStreams {
    from: GroupId,
    streams: Mutex<BTreeMap<GroupId, (Timestamp, Misfit)>>,
}

impl StoppedStreams {
    /// None so far.
    pub(crate) fn of(from: GroupId) -> Self {
        metrics::streams_stopped(from, 0);
        Self { from, streams: Mutex::default() }
    }

    /// Whether the stream to a shard is stopped.
    pub(crate) fn has(&self, to: GroupId) -> bool {
        self.streams.lock().contains_key(&to)
    }

    /// The ends of a stream do not fit together. Answers whether that is new.
    pub(crate) fn stop(&self, to: GroupId, now: Timestamp, why: Misfit) -> bool {
        let mut streams = self.streams.lock();
        let is_new = streams.get(&to).is_none();
        let since = streams.get(&to).map_or(now, |known| known.0);
        streams.insert(to, (since, why));
        metrics::streams_stopped(self.from, streams.len());
        is_new
    }

    /// They fit. Answers whether the stream was stopped.
    pub(crate) fn go_on(&self, to: GroupId) -> bool {
        let mut streams = self.streams.lock();
        let was_stopped = streams.remove(&to).is_some();
        // Asked after every run that arrives: nothing is counted anew unless something changed.
        if was_stopped {
            metrics::streams_stopped(self.from, streams.len());
        }
        was_stopped
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<StoppedStream> {
        let from = self.from;
        let streams = self.streams.lock();
        streams.iter().map(|(to, (since, why))| StoppedStream { from, to: *to, since: *since, why: *why }).collect()
    }
}

impl Drop for StoppedStreams {
    fn drop(&mut self) {
        // Whoever leads next counts its own.
        metrics::streams_stopped(self.from, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_a_stream_fit_if_the_destination_is_between_what_is_forgotten_and_what_was_sent() {
        let stream = |trimmed, next| Stream { to: GroupId(2), next, trimmed };
        let lacks = |applied, forgotten| Some(Misfit::Lacks { applied, forgotten });
        let ahead = |applied, sent| Some(Misfit::Ahead { applied, sent });
        #[rustfmt::skip]
        let cases = [
            // before        applied  after            misfit
            (stream(0, 1),   0,       stream(0, 1),    None),
            (stream(0, 1),   1,       stream(0, 1),    ahead(1, 0)),
            (stream(3, 6),   2,       stream(3, 6),    lacks(2, 3)),
            (stream(3, 6),   3,       stream(3, 6),    None),
            (stream(3, 6),   5,       stream(3, 6),    None),
            (stream(3, 6),   6,       stream(3, 6),    ahead(6, 5)),
            // What happened while the answer was on its way proves nothing.
            (stream(3, 6),   3,       stream(5, 6),    None),
            (stream(3, 6),   6,       stream(5, 9),    None),
        ];
        for (before, applied, after, misfit) in cases {
            assert_eq!(Misfit::of(&before, applied, &after), misfit, "{before:?} {applied} {after:?}");
        }
    }

    #[test]
    fn a_stream_is_stopped_since_it_was_found_to_be() {
        let (streams, why) = (StoppedStreams::of(GroupId(1)), Misfit::Ahead { applied: 2, sent: 1 });
        let at = Timestamp::from_ms;
        assert!(streams.stop(GroupId(2), at(5), why) && !streams.stop(GroupId(2), at(9), why));
        assert_eq!(streams.all(), [StoppedStream { from: GroupId(1), to: GroupId(2), since: at(5), why }]);
        assert!(streams.has(GroupId(2)) && !streams.has(GroupId(3)));
        assert!(streams.go_on(GroupId(2)) && !streams.go_on(GroupId(2)));
        assert!(streams.all().is_empty());
    }
}
