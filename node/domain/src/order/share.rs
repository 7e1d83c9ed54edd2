//! Sharing amounts out so that the parts add up to the whole: by largest remainder, in integers.
//!
//! Two steps. What the goods come to is shared over the lines by what each line comes to, so that the order's own discount is
//! in the lines' shares; the carriage stays beside them. A line's share is then cut by units: the first `k` of `n` units are worth the share
//! rounded to the nearest minor unit, so that every cut adds up, however often a line is cut.

use super::{Line, Order};
use crate::money::{Money, Quantity};

impl Line {
    /// Quantity times price, less discount, plus tax.
    #[must_use]
    pub fn amount(&self) -> Money {
        Money(self.ordered.0 as i64 * self.unit_price.0 - self.discount.0 + self.tax.0)
    }
}

impl Order {
    /// What each line is worth of the total, by position: the order's discount is shared out among them. With the carriage
    /// they add up to the total.
    #[must_use]
    pub fn line_shares(&self) -> Vec<Money> {
        let amounts = self.lines.iter().map(Line::amount);
        if self.discount == Money::ZERO || amounts.clone().all(|amount| amount == Money::ZERO) {
            return amounts.collect();
        }
        largest_remainder(self.goods(), amounts.map(|amount| amount.0 as u64))
    }

    /// What the carriage is worth of the total: the fee, less what of the order's discount the goods are not worth.
    #[must_use]
    pub fn carriage(&self) -> Money {
        Money(self.total.0 - self.goods().0)
    }

    /// What all lines come to, less the order's discount.
    fn goods(&self) -> Money {
        Money((self.lines.iter().map(|line| line.amount().0).sum::<i64>() - self.discount.0).max(0))
    }
}

/// Shares `whole`, not negative, by `weights`, not all zero. The units lost to rounding down go to the largest
/// remainders, the first of equal ones first.
pub(super) fn largest_remainder(whole: Money, weights: impl Iterator<Item = u64> + Clone) -> Vec<Money> {
    let sum: u128 = weights.clone().map(u128::from).sum();
    assert!(whole >= Money::ZERO && sum > 0, "nothing to share {whole} by");
    let products = weights.map(|weight| whole.0 as u128 * u128::from(weight));
    let mut shares: Vec<Money> = products.clone().map(|product| Money((product / sum) as i64)).collect();
    let lost = whole.0 - shares.iter().map(|share| share.0).sum::<i64>();
    if lost > 0 {
        let mut by_remainder: Vec<(u128, usize)> =
            products.enumerate().map(|(at, product)| (sum - product % sum, at)).collect();
        by_remainder.sort_unstable();
        for &(_, at) in by_remainder.iter().take(lost as usize) {
            shares[at].0 += 1;
        }
    }
    shares
}

/// What the first `units` of a line of `ordered` units and this `share` are worth: rounded to the nearest, halves up.
/// Zero for no unit, the whole share for all of them.
pub(super) fn worth(share: Money, ordered: Quantity, units: Quantity) -> Money {
    if units == Quantity::ZERO {
        return Money::ZERO;
    }
    if units >= ordered {
        return share;
    }
    let doubled = 2 * i128::from(share.0) * i128::from(units.0) + i128::from(ordered.0);
    Money((doubled / (2 * i128::from(ordered.0))) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::order::testing::place;

    #[test]
    #[rustfmt::skip]
    fn a_total_is_shared_over_the_lines() {
        let rows: &[(&str, &[i64])] = &[
            // order                                    shares
            ("A*6@255 B*2@100",                         &[1530, 200]),
            ("A*6@255-30+5 B*2@100",                    &[1505, 200]),
            ("A*1@100 B*1@100 C*1@100 discount=100",    &[67, 67, 66]),
            ("A*1@100 B*1@300 shipping=10",             &[100, 300]),
            ("A*1@100 B*1@300 discount=8 shipping=7",   &[98, 294]),
            ("A*1@0 B*1@300 discount=10 shipping=10",   &[0, 290]),
            ("A*1@0 B*3@0 shipping=10",                 &[0, 0]),
            ("A*1@5 B*1@5 discount=15 shipping=30",     &[0, 0]),
            ("A*1@5 B*1@5 discount=10",                 &[0, 0]),
            ("A*1@1 B*1@1 C*1@1 discount=2",            &[1, 0, 0]),
            ("A*74215@104 B*1@1 discount=1000",         &[7_717_360, 1]),
        ];
        for (spec, expected) in rows {
            let shares: Vec<i64> = place(spec).0.line_shares().iter().map(|share| share.0).collect();
            assert_eq!(&shares, expected, "{spec}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn a_share_is_cut_to_the_nearest() {
        let rows = [
            // share  ordered  units  worth
            (300,     3,       1,     100),
            (299,     3,       1,     100),
            (299,     3,       2,     199),
            (299,     3,       3,     299),
            (1,       2,       1,     1),
            (1,       3,       1,     0),
            (1,       3,       2,     1),
            (0,       9,       4,     0),
            (5,       9,       0,     0),
            (5,       9,       10,    5),
            (7_718_360, 74_215, 74_214, 7_718_256),
            (100_000_000_000_000, 1_000_000_000, 999_999_999, 99_999_999_900_000),
        ];
        for (share, ordered, units, expected) in rows {
            let told = worth(Money(share), Quantity(ordered), Quantity(units));
            assert_eq!(told, Money(expected), "{units} of {ordered} units, {share}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn shares_add_up_and_are_off_by_less_than_one(
            whole in 0..100_000_000_000_000i64,
            mut weights in prop::collection::vec(0..100_000_000_000_000u64, 1..40),
            least in 1..1_000u64,
        ) {
            weights[0] = weights[0].max(least);
            let shares = largest_remainder(Money(whole), weights.iter().copied());
            prop_assert_eq!(shares.iter().map(|share| share.0).sum::<i64>(), whole);
            let sum: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let off = i128::from(share.0) * sum - i128::from(whole) * i128::from(*weight);
                prop_assert!(off.abs() < sum, "{share} for {weight} of {sum} in {whole}");
            }
        }

        #[test]
        fn larger_remainders_come_first(whole in 0..10_000i64, weights in prop::collection::vec(1..50u64, 1..8)) {
            let shares = largest_remainder(Money(whole), weights.iter().copied());
            let sum: u64 = weights.iter().sum();
            let exact: Vec<(u64, u64)> = weights.iter().map(|weight| (whole as u64 * weight / sum, whole as u64 * weight % sum)).collect();
            let given: Vec<u64> = exact.iter().zip(&shares).filter(|((floor, _), share)| share.0 as u64 > *floor).map(|((_, rest), _)| *rest).collect();
            let kept: Vec<u64> = exact.iter().zip(&shares).filter(|((floor, _), share)| share.0 as u64 == *floor).map(|((_, rest), _)| *rest).collect();
            prop_assert!(given.iter().min() >= kept.iter().max() || given.is_empty() || kept.is_empty(), "{given:?} {kept:?}");
        }

        #[test]
        fn cuts_are_nearest_and_never_fall(share in 0..100_000_000_000_000i64, ordered in 1..=1_000_000_000u64, cut in 0..=1_000_000_000u64) {
            let cut = cut.min(ordered);
            let told = worth(Money(share), Quantity(ordered), Quantity(cut)).0;
            let off = i128::from(told) * i128::from(ordered) - i128::from(share) * i128::from(cut);
            prop_assert!(2 * off.abs() <= i128::from(ordered), "{told} for {cut} of {ordered} units, {share}");
            prop_assert!(worth(Money(share), Quantity(ordered), Quantity(cut + 1)).0 >= told);
        }
    }
}
