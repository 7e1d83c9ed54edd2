//! All judges of what clients saw, behind the one trait that the harness asks.

use super::as_of_index::Standard;
use super::book::{Book, Setting};
use super::{Evidence, Judge, acknowledged_is_durable, all_or_nothing, as_of_index, bounded, events_gapless, heals};
use super::{holds_add_up, money_conserved, no_oversell, one_key_one_order, reads_are_current, refused_means_nothing};
use super::{sold_out_is_true, timers_fire, undated};
use crate::verdict::Violation;

/// A judge of a history alone.
type OfBook = fn(&Book<'_>) -> Vec<Violation>;

/// Every judge that needs no more than the history, by its law.
pub const ALL: [(&str, OfBook); 12] = [
    (no_oversell::LAW, no_oversell::judge),
    (holds_add_up::LAW, holds_add_up::judge),
    (all_or_nothing::LAW, all_or_nothing::judge),
    (money_conserved::LAW, money_conserved::judge),
    (acknowledged_is_durable::LAW, acknowledged_is_durable::judge),
    (one_key_one_order::LAW, one_key_one_order::judge),
    (refused_means_nothing::LAW, refused_means_nothing::judge),
    (reads_are_current::LAW, reads_are_current::judge),
    (timers_fire::LAW, timers_fire::judge),
    (events_gapless::LAW, events_gapless::judge),
    (heals::LAW, heals::judge),
    (bounded::LAW, bounded::judge),
];

/// What all of them find wrong with a history.
#[must_use]
pub fn violations(book: &Book<'_>) -> Vec<Violation> {
    ALL.iter().flat_map(|(_, judge)| judge(book)).collect()
}

/// All of them, for a history made like this.
#[must_use]
pub fn judges(setting: Setting) -> Vec<Box<dyn Judge>> {
    let of_books = ALL.iter().map(|&(law, judge)| Box::new(OfClients { law, judge, setting }) as Box<dyn Judge>);
    let of_logs = OF_LOGS.iter().map(|&(law, judge)| Box::new(AgainstLog { law, judge, setting }) as Box<dyn Judge>);
    of_books.chain(of_logs).collect()
}

/// A judge of a history that holds it against the log.
type OfLog = fn(&Book<'_>, &dyn Standard) -> Vec<Violation>;

/// Every judge that holds a history against the log, by its law.
pub const OF_LOGS: [(&str, OfLog); 2] =
    [(reads_are_current::LAW, as_of_index::judge), (sold_out_is_true::LAW, sold_out_is_true::judge)];

struct OfClients {
    law: &'static str,
    judge: OfBook,
    setting: Setting,
}

impl Judge for OfClients {
    fn name(&self) -> &'static str {
        self.law
    }

    fn end(&mut self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        let undated = undated::history(evidence.history);
        let history = if self.law == timers_fire::LAW { evidence.history } else { &*undated };
        first((self.judge)(&Book::new(history, self.setting)))
    }
}

struct AgainstLog {
    law: &'static str,
    judge: OfLog,
    setting: Setting,
}

impl Judge for AgainstLog {
    fn name(&self) -> &'static str {
        self.law
    }

    fn end(&mut self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        let history = undated::history(evidence.history);
        first((self.judge)(&Book::new(&history, self.setting), evidence.reference))
    }
}

/// The first of what is wrong, and how much more there is.
fn first(wrong: Vec<Violation>) -> Result<(), Violation> {
    let more = wrong.len().saturating_sub(1);
    match wrong.into_iter().next() {
        None => Ok(()),
        Some(first) if more == 0 => Err(first),
        Some(first) => Err(Violation::new(first.judge, format!("{} (and {more} more)", first.text))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ordergrid_api::wire::ReceiveStock;

    use super::*;
    use crate::dice::Dice;
    use crate::history::{Ask, Operation, SimTime};
    use crate::judges::rare::rare_from_history;
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
            if let Some(order) = super::super::book::answered_order(op) {
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
                assert_eq!(violations(&book), Vec::new(), "seed {seed}");
                for (law, judge) in OF_LOGS {
                    assert_eq!(judge(&book, &shop), Vec::new(), "{law}, seed {seed}");
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
