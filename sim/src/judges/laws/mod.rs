//! Judges of what clients were told: the laws, and what else a client can hold a grid to.
//!
//! Each is a function that reads a history, some of them beside the log. [`JUDGES`] is the table of them; a law that is
//! watched in two ways has two rows.

pub mod acknowledged_is_durable;
pub mod all_or_nothing;
pub mod bounded;
pub mod events_gapless;
pub mod heals;
pub mod holds_add_up;
pub mod money_conserved;
pub mod money_ends_somewhere;
pub mod no_oversell;
pub mod one_key_one_order;
pub mod reads_are_current;
pub mod refused_means_nothing;
pub mod replicas_agree;
pub mod sold_out_is_true;
pub mod timers_fire;

use ordergrid_domain::Law;

use super::evidence::book::{Book, Setting};
use super::evidence::standard::Standard;
use super::evidence::undated;
use super::{Evidence, Judge};
use crate::verdict::{Property, Violation};
use acknowledged_is_durable::in_the_log;
use reads_are_current::as_of_index;

/// What a judge reads, and how it judges.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// The history alone.
    History(fn(&Book<'_>) -> Vec<Violation>),
    /// The history, against what the committed logs come to.
    Reference(fn(&Book<'_>, &dyn Standard) -> Vec<Violation>),
    /// All that is known.
    Evidence(fn(&Evidence<'_>) -> Vec<Violation>),
}

/// Every judge, by its property.
pub const JUDGES: [(Property, By); 17] = [
    (Property::Law(Law::AcknowledgedIsDurable), By::Evidence(in_the_log::judge)),
    (Property::Law(Law::ReplicasAgree), By::Evidence(replicas_agree::judge)),
    (Property::Law(Law::NoOversell), By::History(no_oversell::judge)),
    (Property::Law(Law::HoldsAddUp), By::History(holds_add_up::judge)),
    (Property::Law(Law::AllOrNothing), By::History(all_or_nothing::judge)),
    (Property::Law(Law::MoneyConserved), By::History(money_conserved::judge)),
    (Property::Law(Law::MoneyEndsSomewhere), By::History(money_ends_somewhere::judge)),
    (Property::Law(Law::AcknowledgedIsDurable), By::History(acknowledged_is_durable::judge)),
    (Property::Law(Law::OneKeyOneOrder), By::History(one_key_one_order::judge)),
    (Property::Law(Law::RefusedMeansNothing), By::History(refused_means_nothing::judge)),
    (Property::Law(Law::ReadsAreCurrent), By::History(reads_are_current::judge)),
    (Property::Law(Law::TimersFire), By::History(timers_fire::judge)),
    (Property::Law(Law::EventsGapless), By::History(events_gapless::judge)),
    (Property::Law(Law::Heals), By::History(heals::judge)),
    (Property::Bounded, By::History(bounded::judge)),
    (Property::Law(Law::ReadsAreCurrent), By::Reference(as_of_index::judge)),
    (Property::SoldOutIsTrue, By::Reference(sold_out_is_true::judge)),
];

/// All of them, for a history made like this.
#[must_use]
pub fn judges(setting: Setting) -> Vec<Box<dyn Judge>> {
    let judge = |&(property, by): &(Property, By)| Box::new(InTheEnd { property, by, setting }) as Box<dyn Judge>;
    JUDGES.iter().map(judge).collect()
}

/// A row of the table as a judge.
struct InTheEnd {
    property: Property,
    by: By,
    setting: Setting,
}

impl Judge for InTheEnd {
    fn property(&self) -> Property {
        self.property
    }

    fn end(&mut self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        let undated = undated::history(evidence.history);
        // Times are all that this law is about.
        let dated = self.property == Property::Law(Law::TimersFire);
        let history = if dated { evidence.history } else { &*undated };
        first(match self.by {
            By::History(judge) => judge(&Book::new(history, self.setting)),
            By::Reference(judge) => judge(&Book::new(history, self.setting), evidence.reference),
            By::Evidence(judge) => judge(evidence),
        })
    }
}

/// The first of what is wrong, and how much more there is.
fn first(wrong: Vec<Violation>) -> Result<(), Violation> {
    let more = wrong.len().saturating_sub(1);
    match wrong.into_iter().next() {
        None => Ok(()),
        Some(first) if more == 0 => Err(first),
        Some(first) => Err(Violation::new(first.property, format!("{} (and {more} more)", first.text))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ordergrid_api::wire::ReceiveStock;

    use super::*;
    use crate::dice::Dice;
    use crate::history::{Ask, Operation, SimTime};
    use crate::judges::evidence::rare::rare_from_history;
    use crate::judges::testing::{Shop, body, key, setting, sku, step, user};

    const STEPS: [&str; 12] = [
        "pay p processing 510",
        "pay p captured 510",
        "pay q authorized 510",
        "pay q captured 500",
        "cancel",
        "pick",
        "ship 1",
        "unpick 1",
        "deliver 1",
        "complete",
        "refund 5",
        "refund-succeeded 1",
    ];

    fn one(dice: &mut Dice, of: &[&'static str]) -> &'static str {
        of[dice.index(of.len())]
    }

    /// A day of a shop whose answers are right, as some get lost and some calls are made again.
    fn a_day(seed: u64) -> Shop {
        let mut dice = Dice::new(seed);
        let mut shop = Shop::with(5);
        let mut orders = Vec::new();
        for number in 0..150 {
            let again = dice.below(20);
            let at = match dice.below(10) {
                0..3 => {
                    let of = one(&mut dice, &["u", "v"]);
                    shop.place(
                        of,
                        &format!("key {again}"),
                        one(&mut dice, &["A*2@255", "A*1@10 B*2@250 window=5", "B*2@255 window=60"]),
                    )
                }
                3 => shop.ask(2, Ask::ReadSku(sku(one(&mut dice, &["A", "B"])))),
                4 => shop.ask(2, Ask::ReadUser(user(one(&mut dice, &["u", "v"])))),
                5 => shop.receive(one(&mut dice, &["A", "B"]), 1 + again % 3),
                6 => {
                    shop.wait(dice.below(20));
                    continue;
                }
                7 if number > 0 => {
                    let again = shop.history.operations[dice.index(shop.history.operations.len())].ask.clone();
                    shop.ask(1, again)
                }
                _ if orders.is_empty() => continue,
                _ => {
                    let id = *dice.pick(&orders);
                    let ask = match dice.below(8) {
                        0 => Ask::ReadOrder(id),
                        1 => Ask::ReadHistory(id),
                        _ => step(key(&format!("key {}", number - number % 4)), id, one(&mut dice, &STEPS)),
                    };
                    shop.ask(1, ask)
                }
            };
            let op: &Operation = &shop.history.operations[at];
            if let Some(order) = crate::judges::evidence::book::answered_order(op) {
                orders.push(order.id);
            }
            // An answer that took its time: the calls after it overlap with it.
            let longer = if dice.percent(30) { dice.below(20_000) } else { 0 };
            let ended = &mut shop.history.operations[at].ended;
            *ended = ended.map(|ended| SimTime(ended.0 + longer));
            if dice.percent(15) {
                shop.lose(at);
            }
            if dice.percent(5) {
                shop.vanish(Ask::Receive(key("vanished"), sku("A"), ReceiveStock { quantity: 3, warehouse: None }));
                shop.vanish(Ask::Place(key("key 3"), Box::new(body("u", "A*2@255"))));
            }
        }
        shop.finish();
        shop
    }

    #[test]
    fn no_judge_cries_wolf() {
        let mut met = BTreeMap::new();
        for seed in 0..40 {
            let shop = a_day(seed);
            for (name, times) in rare_from_history(&shop.history) {
                *met.entry(name).or_insert(0) += times;
            }
            for setting in [setting(), Setting::default()] {
                let book = Book::new(&shop.history, setting);
                for (property, by) in JUDGES {
                    let wrong = match by {
                        By::History(judge) => judge(&book),
                        By::Reference(judge) => judge(&book, &shop),
                        By::Evidence(_) => continue,
                    };
                    assert_eq!(wrong, Vec::new(), "{property}, seed {seed}");
                }
            }
        }
        // Else there was nothing to cry at.
        for name in [
            "place replayed",
            "place refused sold out",
            "place refused, key used with another body",
            "unknown place resolved by a retry",
            "place never resolved",
            "command replayed",
            "stock command replayed",
            "order expired",
            "order cancelled by its user",
            "money of a cancelled order",
        ] {
            assert!(met[name] > 0, "{name}: {met:?}");
        }
        assert_eq!(met["order of calls undecided"], 0);
    }
}
