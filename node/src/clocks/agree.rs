//! The interval in which the clocks of a majority agree: Marzullo's algorithm, as in NTP. Pure.
//!
//! Each clock is an interval that contains the true time, as far as that clock is right. Fewer than half of the clocks, however
//! wrong, cannot move the ends of the agreed interval beyond those of the right clocks. The tests check this property.

/// A time interval including both ends, in milliseconds ahead of the clock that measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Interval {
    /// An interval of a single moment.
    pub(crate) fn at(moment: i64) -> Self {
        Self { from: moment, to: moment }
    }

    /// The interval, extended by `by` at both ends.
    pub(crate) fn widened(self, by: i64) -> Self {
        Self { from: self.from.saturating_sub(by), to: self.to.saturating_add(by) }
    }

    /// Whether the moment lies in the interval.
    pub(crate) fn holds(self, moment: i64) -> bool {
        self.from <= moment && moment <= self.to
    }

    /// Whether both intervals have a moment in common.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }

    /// The middle of the interval.
    pub(crate) fn middle(self) -> i64 {
        self.from + (self.to - self.from) / 2
    }
}

/// From the first moment that lies in `majority` of the intervals to the last; `None` if there is no such moment.
pub(crate) fn agreed(intervals: &[Interval], majority: usize) -> Option<Interval> {
    let begins = intervals.iter().map(|interval| (interval.from, false));
    let ends = intervals.iter().map(|interval| (interval.to, true));
    let mut edges: Vec<_> = begins.chain(ends).collect();
    // At equal moments, starts sort before ends: intervals that touch have that moment in common.
    edges.sort_unstable();
    let (mut open, mut from, mut to) = (0, None, None);
    for (at, is_end) in edges {
        if is_end {
            if open >= majority {
                to = Some(at);
            }
            open -= 1;
        } else {
            open += 1;
            if open >= majority {
                from = from.or(Some(at));
            }
        }
    }
    Some(Interval { from: from?, to: to? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The earliest start and the latest end.
    type Ends = (i64, i64);

    #[test]
    fn what_a_majority_says_is_agreed() {
        const DAY: i64 = 86_400_000;
        #[rustfmt::skip]
        let cases: &[(&[Ends], Option<Ends>)] = &[
            // clocks                                            agreed by more than half of them
            (&[(-5, 5)],                                         Some((-5, 5))),
            (&[(0, 10), (5, 15)],                                Some((5, 10))),
            (&[(0, 10), (11, 15)],                               None),
            (&[(0, 10), (10, 15)],                               Some((10, 10))),
            (&[(0, 10), (5, 15), (8 * DAY, 8 * DAY + 10)],       Some((5, 10))),
            (&[(0, 10), (5, 15), (-8 * DAY, 10 - 8 * DAY)],      Some((5, 10))),
            (&[(0, 10), (5, 15), (12, 20)],                      Some((5, 15))),
            (&[(0, 10), (20, 30), (40, 50)],                     None),
            (&[(0, 9), (1, 8), (2, 7), (70, 80), (75, 85)],      Some((2, 7))),
            (&[],                                                None),
        ];
        for (clocks, expected) in cases {
            let clocks: Vec<_> = clocks.iter().map(|(from, to)| Interval { from: *from, to: *to }).collect();
            let said = agreed(&clocks, clocks.len() / 2 + 1).map(|agreed| (agreed.from, agreed.to));
            assert_eq!(said, *expected, "{clocks:?}");
        }
    }

    proptest! {
        /// True clocks put the true time, 0, into their interval; the others say what they like.
        #[test]
        fn a_minority_moves_nothing(
            true_clocks in prop::collection::vec((0_i64..1_000, 0_i64..1_000), 1..5),
            false_clocks in prop::collection::vec((-1_000_000_i64..1_000_000, 0_i64..3_000), 0..4),
        ) {
            let fewer: Vec<_> = false_clocks.into_iter().take(true_clocks.len() - 1).collect();
            let honest = true_clocks.iter().map(|(before, after)| Interval { from: -before, to: *after });
            let wrong = fewer.iter().map(|(from, length)| Interval { from: *from, to: from + length });
            let all: Vec<_> = honest.chain(wrong).collect();
            let said = agreed(&all, all.len() / 2 + 1).expect("the true time lies in a majority's");
            prop_assert!(said.holds(0));
            let earliest = true_clocks.iter().map(|(before, _)| -before).min();
            let latest = true_clocks.iter().map(|(_, after)| *after).max();
            prop_assert!(Some(said.from) >= earliest && Some(said.to) <= latest, "{said:?} of {all:?}");
        }
    }
}
