//! What an order takes in memory. Budgets are kept with it; it decides nothing that replicas must agree on.

use super::{Line, Order};
use crate::ids::Text;

/// An order without parts.
const ORDER: usize = 800;
/// A line, an event, any other part: each with its share of a list that has grown.
const LINE: usize = 200;
const EVENT: usize = 64;
const PART: usize = 160;
const FACT: usize = 72;
/// Longest text that is kept in its place, without an allocation.
const INLINE: usize = 23;

impl Order {
    /// Bytes of it in memory, roughly: texts that were decoded with it are counted, though after placing a name may be
    /// shared with its SKU.
    #[must_use]
    pub fn bytes_in_memory(&self) -> u64 {
        let parts = self.payments.len() + self.fulfilments.len() + self.refunds.len() + self.metadata.len();
        let facts: usize = self.payments.iter().map(|payment| payment.facts.len()).sum();
        let lines: usize = self.lines.iter().map(|Line { sku, name, .. }| heap(sku.as_str()) + heap(name.as_str())).sum();
        let pairs: usize = self.metadata.iter().map(|(name, value)| text(name) + text(value)).sum();
        let fixed = ORDER + LINE * self.lines.len() + EVENT * self.events.len() + PART * parts + FACT * facts;
        (fixed + lines + pairs) as u64
    }
}

fn text(text: &Text) -> usize {
    heap(text.as_str())
}

/// What a text costs beside its place: its allocation.
fn heap(text: &str) -> usize {
    if text.len() <= INLINE { 0 } else { text.len() + 2 * size_of::<usize>() }
}
