//! What everybody asked and was answered, and what can be known from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ordergrid_api::wire::Order;
use ordergrid_domain::{Key, OrderId};
use parking_lot::{Mutex, MutexGuard};

use crate::history::{Ask, Ending, History, Operation, Said};
use crate::trace;

/// The record of a history. Clones share it.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Known>>);

/// What clients know together.
#[derive(Default)]
pub struct Known {
    /// Everything asked.
    pub history: History,
    /// Orders by id, as last seen.
    pub orders: BTreeMap<OrderId, Order>,
    keys: u64,
}

impl Record {
    /// A look inside.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }

    /// A key that was not used before.
    #[must_use]
    pub fn key(&self) -> Key {
        let mut known = self.known();
        known.keys += 1;
        Key::new(format!("k{}", known.keys)).expect("short and plain")
    }

    pub(super) fn begin(&self, client: u32, node: u64, ask: &Ask) -> u64 {
        let mut known = self.known();
        let number = known.history.operations.len() as u64;
        let began = trace::now();
        trace::note(format_args!("client {client} asks n{node} #{number} {ask:?}"));
        let ask = ask.clone();
        known.history.operations.push(Operation { number, client, node, began, ended: None, ask, ending: Ending::Abandoned });
        number
    }

    pub(super) fn end(&self, number: u64, ending: Ending) {
        let mut known = self.known();
        trace::note(format_args!("client is answered #{number} {ending:?}"));
        if let Ending::Done { answer, .. } = &ending {
            known.learn(answer);
        }
        let at = usize::try_from(number).expect("operations are in memory");
        let operation = &mut known.history.operations[at];
        operation.ended = Some(trace::now());
        operation.ending = ending;
    }
}

impl Known {
    fn learn(&mut self, said: &Said) {
        match said {
            Said::Order(order) => self.learn_order(order),
            Said::Fulfilment(changed) => self.learn_order(&changed.order),
            Said::User(page) => page.orders.iter().for_each(|order| self.learn_order(order)),
            Said::Batch(batch) => {
                for result in &batch.results {
                    if let Some(ordergrid_api::wire::BatchOrder::Whole(order)) = &result.order {
                        self.learn_order(order);
                    }
                }
            }
            Said::Sku(_)
            | Said::History(_)
            | Said::Status(_)
            | Said::Verify(_)
            | Said::Clock(_)
            | Said::Repair(_)
            | Said::Reconciled(_) => {}
        }
    }

    fn learn_order(&mut self, order: &Order) {
        let newest = self.orders.get(&order.id).is_none_or(|known| known.version <= order.version);
        if newest {
            self.orders.insert(order.id, order.clone());
        }
    }
}
