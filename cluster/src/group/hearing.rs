//! Whether a follower hears a leader that works, as probes and operators are told. Consensus itself does not rest on it.
//!
//! A leader knows when a quorum last answered it. A follower hears no more than its leader, and a leader that has lost its
//! quorum falls silent and shows itself again by turns (`quorum_loss_probe_interval` in `config`). After a silence a
//! follower therefore believes a leader only once a quorum shows through: another term, a commit, or a voice that lasts longer
//! than such a turn.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{GroupConfig, Leadership};

/// What a follower has heard of its leader.
pub(crate) struct Hearing {
    /// After so long without a word there is no leader.
    silence: Duration,
    /// A leader without a quorum does not show itself for so long.
    proof: Duration,
    /// The highest term known here: what a leader of an earlier one says does not count.
    known: watch::Receiver<Leadership>,
    heard: Mutex<Option<Heard>>,
}

struct Heard {
    term: u64,
    committed: u64,
    /// Since then without a silence.
    since: Instant,
    last: Instant,
    /// A quorum stands behind the leader, as far as can be told.
    believed: bool,
}

impl Hearing {
    pub(crate) fn new(config: &GroupConfig, known: watch::Receiver<Leadership>) -> Self {
        // A turn of showing itself lasts two election timeouts.
        let (silence, proof) = (config.election_max, 3 * config.election_max);
        Self { silence, proof, known, heard: Mutex::new(None) }
    }

    /// The leader of `term`, which has committed up to `committed`, has sent something.
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

    /// A leader that works was heard lately.
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
