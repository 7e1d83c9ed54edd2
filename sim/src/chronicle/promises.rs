//! What no chain may ever show, read off its commands and what they came to: the cause of a broken law, where clients
//! would see at most a rare consequence.
//!
//! Nothing here asks the machine whether it was right: an attempt that was released is remembered here, and so is one that
//! was placed.

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_cluster::EntryId;
use ordergrid_domain::command::{Deliver, Place, Release};
use ordergrid_domain::{AttemptId, Command, Entry, GroupId, Law, Message, Outcome, SkuId, Timestamp};

use super::rare::{Before, fresh};
use crate::verdict::{Property, Violation};

/// The law that rules 14 to 18 of placing serve.
const UNITS: Property = Property::Law(Law::AllOrNothing);

/// What one shard's chain has shown so far.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Attempts that have placed an order.
    placed: BTreeSet<AttemptId>,
    /// Until when nothing may be granted to an attempt that was released.
    released: BTreeMap<(AttemptId, SkuId), Timestamp>,
}

impl Promises {
    /// Looks at an entry that was run at log time `now`.
    pub(super) fn look(
        &mut self,
        (group, at): (GroupId, EntryId),
        now: Timestamp,
        entry: &Entry,
        before: &[Before],
        outcomes: &[Outcome],
    ) -> Result<(), Violation> {
        for ((command, before), outcome) in entry.commands.iter().zip(before).zip(outcomes) {
            let broken = match (command, before) {
                (Command::Place(place) | Command::PlaceLocal(place), _) => self.place(at, place, outcome),
                (Command::Release(release), _) => {
                    self.release(release);
                    None
                }
                (Command::Hold(hold), _) if matches!(outcome, Outcome::Held { .. }) => self.grant(now, hold.attempt, &hold.sku),
                (Command::Holds(holds), _) => {
                    let Outcome::Holds(results) = outcome else { continue };
                    let mut granted = holds.rows.iter().zip(results).filter(|(_, result)| result.is_ok());
                    granted.find_map(|(row, _)| self.grant(now, holds.attempt(row), &row.sku))
                }
                (Command::Deliver(run), Before::Stream(high)) => self.deliver(run, *high),
                _ => None,
            };
            if let Some((property, text)) = broken {
                return Err(Violation::new(property, format!("group {group}, entry {at}: {text}")));
            }
        }
        Ok(())
    }

    fn grant(&self, now: Timestamp, attempt: AttemptId, sku: &SkuId) -> Option<(Property, String)> {
        let until = self.released.get(&(attempt, sku.clone())).filter(|until| now <= **until)?;
        Some((Property::TombstonesHold, format!("{attempt:?} was released, and is granted {sku} before {until:?}")))
    }

    fn place(&mut self, at: EntryId, place: &Place, outcome: &Outcome) -> Option<(Property, String)> {
        let Outcome::Placed { order, .. } = outcome else { return None };
        let first = order.attempt == place.attempt && self.placed.insert(place.attempt);
        (first && place.attempt.term != at.term).then(|| {
            (Property::PlacedInItsTerm, format!("order {} is placed by {:?} in another term", order.id, place.attempt))
        })
    }

    fn release(&mut self, release: &Release) {
        let ended = |sku: &SkuId| ((release.attempt, sku.clone()), release.valid_until);
        self.released.extend(release.skus.iter().map(ended));
    }

    /// A promised unit is there: no verb takes units from a hold, so no *keep* may find fewer than its order counts on.
    fn deliver(&mut self, run: &Deliver, high: u64) -> Option<(Property, String)> {
        fresh(run, high).find_map(|message| match message {
            Message::Shortfall { order, .. } => {
                Some((UNITS, format!("order {order} counts on units that nobody holds: {message:?}")))
            }
            Message::Release(release) => {
                self.release(release);
                None
            }
            Message::Decided(decided) => {
                decided.released.iter().for_each(|release| self.release(release));
                None
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_domain::command::{Hold, HoldAsked, Holds};
    use ordergrid_domain::{Quantity, Rejection, Text, UserId};

    use super::*;

    const AT: EntryId = EntryId { term: 2, index: 9 };

    fn sku() -> SkuId {
        SkuId::new("A").expect("short")
    }

    fn attempt() -> AttemptId {
        let slot = UserId::new("u").expect("short").slot();
        AttemptId { slot, group: GroupId(1), term: 1, counter: 3 }
    }

    fn release() -> Release {
        Release { attempt: attempt(), skus: vec![sku()], valid_until: Timestamp::from_ms(50) }
    }

    fn hold() -> Command {
        let valid_until = Timestamp::from_ms(50);
        Command::Hold(Hold { attempt: attempt(), sku: sku(), quantity: Quantity(1), valid_until })
    }

    /// What is said of these commands and what they came to, at this time.
    fn said(now: u64, chain: Vec<(Command, Before, Outcome)>) -> Option<Property> {
        let mut promises = Promises::default();
        for (command, before, outcome) in chain {
            let entry = Entry { at: Timestamp::from_ms(now), commands: vec![command] };
            let looked = promises.look((GroupId(1), AT), entry.at, &entry, &[before], &[outcome]);
            if let Err(violation) = looked {
                return Some(violation.property);
            }
        }
        None
    }

    #[test]
    fn what_was_released_is_granted_nothing_as_long_as_its_holds_are_valid() {
        let held = || Outcome::Held { name: Text::new("A").expect("short") };
        let ended = || Outcome::Rejected(Rejection::HoldEnded);
        let first = |outcome| (Command::Release(release()), Before::Any, outcome);
        assert_eq!(said(50, vec![first(Outcome::Done), (hold(), Before::Any, ended())]), None);
        assert_eq!(said(50, vec![first(Outcome::Done), (hold(), Before::Any, held())]), Some(Property::TombstonesHold));
        assert_eq!(said(51, vec![first(Outcome::Done), (hold(), Before::Any, held())]), None);
        assert_eq!(said(50, vec![(hold(), Before::Any, held()), first(Outcome::Done)]), None);
        let row = |counter| {
            let AttemptId { slot, .. } = attempt();
            HoldAsked { slot, counter, sku: sku(), quantity: Quantity(1) }
        };
        let together = |results: [Result<Text, Rejection>; 2]| {
            let valid_until = Timestamp::from_ms(50);
            let holds = Holds { group: GroupId(1), term: 1, valid_until, rows: vec![row(4), row(3)] };
            (Command::Holds(holds), Before::Any, Outcome::Holds(results.into()))
        };
        let name = || Ok(Text::new("A").expect("short"));
        let granted = together([name(), name()]);
        assert_eq!(said(50, vec![first(Outcome::Done), granted]), Some(Property::TombstonesHold));
        assert_eq!(said(50, vec![first(Outcome::Done), together([name(), Err(Rejection::HoldEnded)])]), None);
    }

    #[test]
    fn no_order_counts_on_units_that_nobody_holds() {
        let told = |message| Command::Deliver(Deliver { from: GroupId(2), first: 5, messages: vec![message] });
        let shortfall = || {
            let order = ordergrid_domain::OrderId(7);
            told(Message::Shortfall { order, sku: sku(), missing: Quantity(1) })
        };
        assert_eq!(said(1, vec![(shortfall(), Before::Stream(4), Outcome::Done)]), Some(UNITS));
        assert_eq!(said(1, vec![(shortfall(), Before::Stream(5), Outcome::Done)]), None, "it was applied before");
        let released = (told(Message::Release(release())), Before::Stream(4), Outcome::Done);
        let held = Outcome::Held { name: Text::new("A").expect("short") };
        assert_eq!(said(1, vec![released, (hold(), Before::Any, held)]), Some(Property::TombstonesHold));
    }
}
