//! A payment attempt: what its provider told of it, and the amounts that follow.
//!
//! Facts are only ever added. An amount that money depends on is the highest sum that was told, or the sum of the parts that
//! were told by name, so that neither the order of arrival nor a repetition changes it. Two things do depend on what came
//! last, because both cannot be true: an authorisation and its end, a capture and a failure of the whole attempt. The later
//! of them counts: by the provider's clock where both say it, else by arrival.

use bincode::{Decode, Encode};

use super::limits;
use crate::command::PaymentTold;
use crate::ids::{Provider, ProviderPaymentId};
use crate::money::Money;
use crate::rejection::Rejection;
use crate::time::Timestamp;

/// What a provider can tell of a payment attempt; also the word for where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum PaymentState {
    /// Under way; its outcome is not known.
    Processing,
    /// Reserved at the provider, to be captured.
    Authorized,
    /// The shop has the money.
    Captured,
    /// A try came to nothing. Another try under the same id may succeed, or has.
    Failed,
    /// Given up before capture.
    Voided,
    /// The authorisation has run out.
    Expired,
    /// Money that was told as captured did not come, or was taken back.
    CaptureFailed,
    /// The buyer disputes: the provider holds the money back.
    Disputed,
    /// The shop won the dispute: the money is back.
    DisputeWon,
    /// The buyer won: the money is gone.
    DisputeLost,
}

/// One thing that a provider told.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PaymentFact {
    /// What happened.
    pub state: PaymentState,
    /// The provider's id of the capture or dispute, if the amount is that of one alone.
    pub part: Option<ProviderPaymentId>,
    /// To how much of the attempt by then, or to how much in this part.
    pub amount: Money,
    /// When it happened, by the provider's clock.
    pub occurred_at: Option<Timestamp>,
}

/// A payment attempt, keyed by the provider's id. It is also the purse that money goes back to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Payment {
    /// Whose the id is.
    pub provider: Provider,
    /// The provider's id: counts once.
    pub provider_payment_id: ProviderPaymentId,
    /// When it was first heard of.
    pub at: Timestamp,
    /// A void of it was asked for, because the order ended.
    pub void_requested: bool,
    /// What was told of it, the last at the end.
    pub facts: Vec<PaymentFact>,
}

impl Payment {
    /// An attempt of which nothing was told yet.
    pub(super) fn new(told: &PaymentTold, at: Timestamp) -> Self {
        let (provider, provider_payment_id) = (told.provider.clone(), told.provider_payment_id.clone());
        Self { provider, provider_payment_id, at, void_requested: false, facts: Vec::new() }
    }

    /// Whether it is the attempt of these names.
    #[must_use]
    pub fn is(&self, provider: &Provider, id: &ProviderPaymentId) -> bool {
        (&self.provider_payment_id, &self.provider) == (id, provider)
    }

    /// Money that the shop has or had of it, refunded or disputed or not.
    #[must_use]
    pub fn captured(&self) -> Money {
        Money(self.captures().0 - self.capture_failed().0)
    }

    /// Money that captures told of and that did not come, or was taken back. The failure of one part says nothing of the
    /// others, if captures are told by parts.
    #[must_use]
    pub fn capture_failed(&self) -> Money {
        let failed = self.sum(PaymentState::CaptureFailed);
        let parts = self.facts.iter().filter(|fact| fact.state == PaymentState::Captured && fact.part.is_some());
        let told = |part| self.told(PaymentState::CaptureFailed, part).unwrap_or_default();
        let of_parts: i64 = parts.clone().map(|fact| fact.amount.min(told(fact.part.as_ref())).0).sum();
        let failed = if parts.count() > 0 { Money(of_parts).max(told(None)) } else { failed };
        failed.min(self.captures())
    }

    /// Everything that captures told of.
    pub(super) fn captures(&self) -> Money {
        self.sum(PaymentState::Captured)
    }

    /// Money that is authorised and may still be captured.
    #[must_use]
    pub fn authorized(&self) -> Money {
        if self.facts.is_empty() || self.is_later(PaymentState::Authorized, ends_authorization) {
            return Money::ZERO;
        }
        let tried = self.captures().max(self.sum(PaymentState::CaptureFailed));
        let gone = self.sum(PaymentState::Voided).0 + tried.0;
        Money((self.sum(PaymentState::Authorized).0 - gone).max(0))
    }

    /// What of an authorisation was given up.
    #[must_use]
    pub fn voided(&self) -> Money {
        self.sum(PaymentState::Voided)
    }

    /// Money that the provider holds back for disputes, or took for those that were lost.
    #[must_use]
    pub fn disputed(&self) -> Money {
        let of = |state: PaymentState, part: Option<&ProviderPaymentId>| self.told(state, part).unwrap_or_default().0;
        let open = |part| {
            of(PaymentState::DisputeLost, part).max(of(PaymentState::Disputed, part) - of(PaymentState::DisputeWon, part))
        };
        let disputes = self.facts.iter().enumerate().filter(|(at, fact)| {
            is_of_dispute(fact.state)
                && !self.facts[..*at].iter().any(|before| is_of_dispute(before.state) && before.part == fact.part)
        });
        Money(disputes.map(|(_, fact)| open(fact.part.as_ref()).max(0)).sum())
    }

    /// A failure of the attempt was told after money was told as captured: one of them does not hold.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.captured() > Money::ZERO && self.is_later(PaymentState::Captured, |state| state == PaymentState::Failed)
    }

    /// Whether its outcome is open: nothing but *processing* counts.
    pub(super) fn is_processing(&self) -> bool {
        self.state() == PaymentState::Processing
    }

    /// Where it stands, in one word.
    #[must_use]
    pub fn state(&self) -> PaymentState {
        use PaymentState::{Authorized, CaptureFailed, Captured, DisputeLost, Disputed, Failed, Processing, Voided};
        let lost = self.sum(DisputeLost);
        let words = [
            (Disputed, self.disputed() > lost),
            (DisputeLost, lost > Money::ZERO),
            (Captured, self.captured() > Money::ZERO),
            (CaptureFailed, self.sum(CaptureFailed) > Money::ZERO),
            (Authorized, self.authorized() > Money::ZERO),
            (Voided, self.voided() > Money::ZERO),
        ];
        let ended =
            self.facts.iter().rev().map(|fact| fact.state).find(|state| matches!(state, Failed | PaymentState::Expired));
        words.into_iter().find(|(_, fits)| *fits).map(|(state, _)| state).or(ended).unwrap_or(Processing)
    }

    /// The amount that goes with the word.
    #[must_use]
    pub fn amount(&self) -> Money {
        match self.state() {
            PaymentState::Captured => self.captured(),
            PaymentState::Authorized => self.authorized(),
            PaymentState::Disputed | PaymentState::DisputeLost => self.disputed(),
            state => self.sum(state),
        }
    }

    /// Takes a fact. False when it was known and nothing told since speaks against it.
    ///
    /// # Errors
    /// It contradicts what was told before.
    pub(super) fn tell(&mut self, fact: PaymentFact) -> Result<bool, Rejection> {
        let same = |known: &PaymentFact| (known.state, &known.part, known.amount) == (fact.state, &fact.part, fact.amount);
        let Some(at) = self.facts.iter().position(same) else {
            self.refuse_contradiction(&fact)?;
            self.facts.push(fact);
            return Ok(true);
        };
        let later = fact.occurred_at.is_none_or(|now| self.facts[at].occurred_at.is_none_or(|before| now > before));
        let contested = match fact.state {
            PaymentState::Captured => self.is_in_doubt(),
            PaymentState::Authorized => self.is_later(PaymentState::Authorized, ends_authorization),
            _ => false,
        };
        if contested && later {
            self.facts.remove(at);
            self.facts.push(fact);
        }
        Ok(contested && later)
    }

    /// Refuses a sum that is smaller than one told before, a part with another amount than before, and parts that come to
    /// more than a payment may have.
    fn refuse_contradiction(&self, fact: &PaymentFact) -> Result<(), Rejection> {
        if matches!(fact.state, PaymentState::Processing | PaymentState::Failed | PaymentState::Expired) {
            return Ok(());
        }
        let known = self.told(fact.state, fact.part.as_ref());
        if let Some(known) = known.filter(|known| *known > fact.amount || fact.part.is_some()) {
            return Err(Rejection::WrongPaymentState { told: fact.amount, known });
        }
        let parts = self.facts.iter().filter(|known| known.state == fact.state && known.part.is_some());
        if fact.part.is_some() && parts.map(|known| known.amount.0).sum::<i64>() + fact.amount.0 > limits::AMOUNT.0 {
            return Err(Rejection::AmountOutOfRange);
        }
        Ok(())
    }

    /// The highest amount told of the attempt as a whole, or that of a part.
    fn told(&self, state: PaymentState, part: Option<&ProviderPaymentId>) -> Option<Money> {
        let of = self.facts.iter().filter(|fact| fact.state == state && fact.part.as_ref() == part);
        of.map(|fact| fact.amount).max()
    }

    /// How much it happened to: the highest sum, or the parts, whichever is more.
    fn sum(&self, state: PaymentState) -> Money {
        let of = |fact: &&PaymentFact| fact.state == state;
        let parts = self.facts.iter().filter(of).filter(|fact| fact.part.is_some());
        Money(parts.map(|fact| fact.amount.0).sum()).max(self.told(state, None).unwrap_or_default())
    }

    /// Whether something of a kind was told later than everything of this state, of which there is some.
    fn is_later(&self, than: PaymentState, kind: fn(PaymentState) -> bool) -> bool {
        let known: Vec<usize> = (0..self.facts.len()).filter(|at| self.facts[*at].state == than).collect();
        let after = |later: usize| known.iter().all(|earlier| self.is_after(later, *earlier));
        !known.is_empty() && (0..self.facts.len()).any(|at| kind(self.facts[at].state) && after(at))
    }

    /// Whether one fact is later than another: by the provider's clock if both have its time, else by arrival.
    fn is_after(&self, one: usize, other: usize) -> bool {
        match (self.facts[one].occurred_at, self.facts[other].occurred_at) {
            (Some(one), Some(other)) if one != other => one > other,
            _ => one > other,
        }
    }
}

fn ends_authorization(state: PaymentState) -> bool {
    matches!(state, PaymentState::Failed | PaymentState::Expired)
}

fn is_of_dispute(state: PaymentState) -> bool {
    matches!(state, PaymentState::Disputed | PaymentState::DisputeWon | PaymentState::DisputeLost)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::order::testing::Play;

    #[test]
    #[rustfmt::skip]
    fn amounts_follow_from_sums_and_parts() {
        let rows = [
            // facts                                                                          authorised, captured, failed, disputed
            ("authorized 100",                                                                (100, 0, 0, 0)),
            ("authorized 100; captured 30",                                                   (70, 30, 0, 0)),
            ("authorized 100; captured 30 part=a; captured 70 part=b",                        (0, 100, 0, 0)),
            ("authorized 100; captured 30 part=a; captured 30",                               (70, 30, 0, 0)),
            ("authorized 100; voided 40; captured 30",                                        (30, 30, 0, 0)),
            ("authorized 100; captured 130",                                                  (0, 130, 0, 0)),
            ("authorized 100; capture_failed 100",                                            (0, 0, 0, 0)),
            ("authorized 100; authorized 120",                                                (120, 0, 0, 0)),
            ("authorized 100 told=6; failed 100 told=5",                                      (100, 0, 0, 0)),
            ("authorized 100 told=5; failed 100 told=6",                                      (0, 0, 0, 0)),
            ("failed 100 told=6; authorized 100 told=5",                                      (0, 0, 0, 0)),
            ("captured 100; capture_failed 40",                                               (0, 60, 40, 0)),
            ("captured 100; capture_failed 40 part=a",                                        (0, 60, 40, 0)),
            ("captured 30 part=a; captured 70 part=b; capture_failed 30 part=a",              (0, 70, 30, 0)),
            ("capture_failed 30 part=a; captured 70 part=b",                                  (0, 70, 0, 0)),
            ("captured 30 part=a; captured 70 part=b; capture_failed 100",                    (0, 0, 100, 0)),
            ("captured 100; disputed 30 part=a; disputed 20 part=b; dispute_won 30 part=a",   (0, 100, 0, 20)),
            ("captured 100; disputed 30; dispute_lost 30",                                    (0, 100, 0, 30)),
            ("captured 100; disputed 30; dispute_won 10; dispute_lost 20",                    (0, 100, 0, 20)),
        ];
        for (facts, expected) in rows {
            let given: Vec<String> = facts.split("; ").map(|fact| format!("pay p {fact}")).collect();
            let order = Play::new("A*1@50", &given.join("; ")).order;
            let payment = &order.payments[0];
            let told = [payment.authorized(), payment.captured(), payment.capture_failed(), payment.disputed()].map(|one| one.0);
            assert_eq!(told, <[i64; 4]>::from(expected), "{facts}");
        }
    }

    /// What one provider tells of two payments; sums as they grow, parts by their ids.
    const TOLD: [&str; 14] = [
        "p processing 300",
        "p failed 300",
        "p authorized 300",
        "p captured 100",
        "p captured 250",
        "p capture_failed 50",
        "p voided 50",
        "p disputed 40 part=d1",
        "p dispute_won 40 part=d1",
        "p disputed 30 part=d2",
        "q captured 60 part=c1",
        "q captured 70 part=c2",
        "q capture_failed 60 part=c1",
        "q dispute_lost 10",
    ];

    /// Tells some of these facts. One whose sum is below what was told before is refused; it would say nothing new.
    fn money_of(told: &[usize]) -> Vec<(String, [i64; 3])> {
        let mut play = Play::new("A*2@90", "");
        for fact in told {
            let step = format!("pay {}", TOLD[*fact]);
            match play.step(&step) {
                Err(Rejection::WrongPaymentState { told, known }) => assert!(told < known, "{step}"),
                other => drop(other.expect("no state refuses a fact")),
            }
            assert_eq!(play.order.violations(), [], "{step}");
        }
        let money = |payment: &Payment| {
            let amounts = [payment.captured(), payment.capture_failed(), payment.disputed()].map(|one| one.0);
            (payment.provider_payment_id.to_string(), amounts)
        };
        let mut all: Vec<_> = play.order.payments.iter().map(money).collect();
        all.sort();
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(18), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_order_and_repetition_of_facts_ends_in_the_same_money(
            chosen in prop::collection::btree_set(0..TOLD.len(), 1..TOLD.len()),
            again in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            shuffled in any::<u64>(),
        ) {
            let once: Vec<usize> = chosen.into_iter().collect();
            let mut told = once.clone();
            told.extend(again.iter().map(|index| *index.get(&once)));
            // Each fact at a place that follows from the draw alone.
            told.sort_by_key(|fact| (shuffled.rotate_left(*fact as u32 * 7) ^ *fact as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            prop_assert_eq!(money_of(&told), money_of(&once));
            let half = told.len() / 2;
            told.rotate_left(half);
            prop_assert_eq!(money_of(&told), money_of(&once));
        }
    }
}
