//! NoOversell and HoldsAddUp: the stock is what was received, and what is held is held by orders that exist.

use std::collections::BTreeMap;

use super::{Evidence, Violation};
use crate::torture::history::{Ask, Operation};

/// The laws.
pub(super) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let received = received(evidence);
    let mut held: BTreeMap<&str, u64> = BTreeMap::new();
    for (line, units) in evidence.grid.orders.values().flat_map(|order| &order.lines) {
        *held.entry(&line.sku).or_default() += units;
    }
    for (name, sku) in &evidence.grid.skus {
        let held = held.get(name.as_str()).copied().unwrap_or_default();
        if held > sku.on_hand {
            wrong.push(Violation::new("NoOversell", format!("{name}: orders hold {held} units of {}", sku.on_hand)));
        }
        if sku.held != held || sku.available + sku.held != sku.on_hand {
            wrong.push(Violation::new("HoldsAddUp", format!("{name}: orders hold {held} units, it says {sku:?}")));
        }
        let (least, most) = received.get(name.as_str()).copied().unwrap_or_default();
        if !(least..=most).contains(&sku.received) || sku.on_hand != sku.received {
            let text = format!("{name}: {least} to {most} units were received, it says {sku:?}");
            wrong.push(Violation::new("HoldsAddUp", text));
        }
    }
    for name in evidence.stock.keys().filter(|name| !evidence.grid.skus.contains_key(*name)) {
        wrong.push(Violation::new("AcknowledgedIsDurable", format!("{name} is gone")));
    }
    wrong
}

/// The least and the most that may have been received of each SKU.
fn received(evidence: &Evidence) -> BTreeMap<&str, (u64, u64)> {
    let mut received: BTreeMap<&str, (u64, u64)> =
        evidence.stock.iter().map(|(sku, units)| (sku.as_str(), (*units, *units))).collect();
    let mut of_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in evidence.operations.iter().filter(|op| matches!(op.ask, Ask::Receive { .. })) {
        of_key.entry(operation.key.as_deref().unwrap_or_default()).or_default().push(operation);
    }
    for operations in of_key.values() {
        let Some(Ask::Receive { sku, quantity }) = operations.first().map(|op| &op.ask) else { continue };
        let (least, most) = received.entry(sku.as_str()).or_default();
        let done = operations.iter().any(|op| op.done().is_some());
        let refused = operations.iter().any(|op| op.late && op.refused());
        let open = operations.iter().any(|op| op.may_have_happened()) && !refused;
        *least += if done { *quantity } else { 0 };
        *most += if done || open { *quantity } else { 0 };
    }
    received
}
