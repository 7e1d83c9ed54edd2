//! Bounded: no node keeps more rows in memory than its budget.
//!
//! Assumed: the figure is the program's own, from the cluster's status; a node that does not say is not judged. The budget
//! that the harness gives has the slack in it: rows are evicted after they were loaded, so a node may be above its own
//! limit for a moment.

use crate::history::{Ending, Said};
use crate::judges::evidence::book::Book;
use crate::verdict::{Property, Violation};

/// Looks at every status.
#[must_use]
pub fn judge(book: &Book<'_>) -> Vec<Violation> {
    let Some(budget) = book.setting.memory_budget else { return Vec::new() };
    let mut wrong = Vec::new();
    for op in &book.history.operations {
        let Ending::Done { answer, .. } = &op.ending else { continue };
        let Said::Status(status) = &**answer else { continue };
        for node in &status.nodes {
            if let Some(bytes) = node.resident_bytes.filter(|bytes| *bytes > budget) {
                let text = format!("operation {}: node {} keeps {bytes} bytes of {budget}", op.number, node.id);
                wrong.push(Violation::new(Property::Bounded, text));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Ask;
    use crate::judges::evidence::book::Setting;
    use crate::judges::testing::{Shop, setting};

    #[test]
    fn a_node_above_its_budget_is_told() {
        let mut shop = Shop::with(10);
        shop.ask(1, Ask::Status);
        for (budget, wrong) in [(None, 0), (Some(1_000), 0), (Some(999), 1)] {
            let setting = Setting { memory_budget: budget, ..setting() };
            assert_eq!(shop.judged_as(judge, setting).len(), wrong, "{budget:?}");
        }
    }
}
