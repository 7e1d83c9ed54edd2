//! Whether a follower has a working leader, for probes and operators. Consensus does not depend on this.
//!
//! A leader knows when a quorum last answered it. A follower only hears its leader. A leader that has lost its quorum falls
//! silent, then sends heartbeats again for a while, and so on (`quorum_loss_probe_interval` in `config`). So after a silence a
//! follower trusts a leader only once there is evidence of a quorum: a new term, a commit, or heartbeats that last longer than
//! such a period.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{GroupConfig, Leadership};

/// What a follower knows of its leader.
pub(crate) struct Hearing {
    /// A leader that is silent for this long does not work.
    silence: Duration,
    /// A leader without a quorum does not send heartbeats for this long without a pause.
    proof: Duration,
    /// The highest term known here. A leader of an earlier term does not count.
    known: watch::Receiver<Leadership>,
    heard: Mutex<Option<Heard>>,
}

struct Heard {
    term: u64,
    committed: u64,
    /// Start of the current period without a silence.
    since: Instant,
    last: Instant,
    /// Whether a quorum supports the leader, as far as can be inferred.
    believed: bool,
}

impl Hearing {
    pub(crate) fn new(config: &GroupConfig, known: watch::Receiver<Leadership>) -> Self {
        // A leader without a quorum sends heartbeats for two election timeouts at a time.
        let (silence, proof) = (config.election_max, 3 * config.election_max);
        Self { silence, proof, known, heard: Mutex::new(None) }
    }

    /// Records a message from the leader of `term`, which has committed up to `committed`.
    pub(crate) fn hear(&self, term: u64, committed: u64, now: Instant) {
        let mut heard = self.heard.lock();
        let last_term = heard.as_ref().map_or(0, |heard| heard.term);
        if term < last_term.max(self.known.borrow().term) {
            return;
        }
        let Some(before) = heard.as_mut() else {
            *heard = Some(Heard { term, committed, since: now, last: now, believed: true });
            return;
        };
        if now.saturating_duration_since(before.last) > self.silence {
            (before.since, before.believed) = (now, false);
        }
        before.believed |=
            term > before.term || committed > before.committed || now.saturating_duration_since(before.since) > self.proof;
        (before.term, before.committed, before.last) = (term, committed.max(before.committed), now);
    }

    /// Whether a working leader was heard lately.
    pub(crate) fn leader_works(&self, now: Instant) -> bool {
        let heard = self.heard.lock();
        heard.as_ref().is_some_and(|heard| heard.believed && now.saturating_duration_since(heard.last) <= self.silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When, in ms, a leader of which term is heard, and what it has committed.
    type Voice = (u32, u64, u64);

    /// What is said to a follower of term 4, and whether it believes in a leader at the end.
    fn believes(said: &[Voice], at: u32) -> bool {
        let (_known, known) = watch::channel(Leadership { term: 4, ..Leadership::default() });
        let hearing = Hearing::new(&GroupConfig::default(), known);
        let start = Instant::now();
        for (ms, term, committed) in said {
            hearing.hear(*term, *committed, start + *ms * MS);
        }
        hearing.leader_works(start + at * MS)
    }

    #[test]
    fn a_leader_is_believed_as_long_as_a_quorum_shows_through() {
        let shown: Vec<_> = (15..=46).map(|tick| (tick * 100, 4, 7)).collect();
        let first = (0, 4, 7);
        #[rustfmt::skip]
        let cases: [(&str, Vec<Voice>, u32, bool); 9] = [
            ("nobody was heard",                          vec![],                              0,     false),
            ("the first voice",                           vec![first],                         1_000, true),
            ("silence",                                   vec![first],                         1_001, false),
            ("a leader that was deposed",                 vec![(0, 3, 7)],                     0,     false),
            ("one that shows itself again",               vec![first, (3_000, 4, 7)],          3_000, false),
            ("one that has committed",                    vec![first, (3_000, 4, 8)],          3_000, true),
            ("another one",                               vec![first, (3_000, 5, 7)],          3_000, true),
            ("a turn of one without a quorum",            [vec![first], shown[..21].to_vec()].concat(), 3_500, false),
            ("one that lasts",                            [vec![first], shown].concat(),       4_600, true),
        ];
        for (what, said, at, expected) in cases {
            assert_eq!(believes(&said, at), expected, "{what}");
        }
    }
}
