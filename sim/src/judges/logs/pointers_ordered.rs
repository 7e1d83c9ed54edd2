//! PointersOrdered.

use std::collections::BTreeMap;

use ordergrid_cluster::{GroupStatus, Role};
use ordergrid_domain::GroupId;

use crate::judges::{Evidence, Judge, Moment};
use crate::verdict::{Property, Violation};

/// What a replica says of its log fits together (purged <= checkpoint <= applied <= committed <= last), and within one life
/// of its node nothing but the end of the log goes back.
///
/// What is applied is known at once, what is committed only when consensus next speaks of itself, which a stalled disk may
/// delay for long: these two are compared when the grid has come to rest.
#[derive(Debug, Default)]
pub struct PointersOrdered {
    last: BTreeMap<(u64, GroupId), (u64, GroupStatus)>,
}

impl Judge for PointersOrdered {
    fn property(&self) -> Property {
        Property::PointersOrdered
    }

    fn look(&mut self, moment: &Moment<'_>) -> Result<(), Violation> {
        for (node, groups) in moment.statuses {
            let life = moment.lives.get(node).copied().unwrap_or_default();
            for status in groups {
                if status.role == Role::Stopped {
                    // Another replica takes its place, and says what it knows once it takes part.
                    self.last.remove(&(*node, status.group));
                    continue;
                }
                check(
                    *node,
                    status,
                    &[
                        ("purged", status.purged, "checkpoint", status.checkpoint),
                        ("checkpoint", status.checkpoint, "applied", status.applied),
                        ("committed", status.committed, "last", status.last_log),
                    ],
                )?;
                let before = self.last.insert((*node, status.group), (life, status.clone()));
                if let Some((_, before)) = before.filter(|(before, _)| *before == life) {
                    check(
                        *node,
                        status,
                        &[
                            ("earlier term", before.term, "term", status.term),
                            ("earlier committed", before.committed, "committed", status.committed),
                            ("earlier applied", before.applied, "applied", status.applied),
                            ("earlier checkpoint", before.checkpoint, "checkpoint", status.checkpoint),
                            ("earlier purged", before.purged, "purged", status.purged),
                        ],
                    )?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        for (node, groups) in evidence.statuses {
            for status in groups.iter().filter(|status| status.role != Role::Stopped) {
                check(*node, status, &[("applied", status.applied, "committed", status.committed)])?;
            }
        }
        Ok(())
    }
}

/// Each first is at most the second.
fn check(node: u64, status: &GroupStatus, pairs: &[(&str, u64, &str, u64)]) -> Result<(), Violation> {
    match pairs.iter().find(|(_, low, _, high)| low > high) {
        Some((what, low, than, high)) => {
            let text = format!("group {}, node {node}: {what} {low} is above {than} {high}: {status:?}", status.group);
            Err(Violation::new(Property::PointersOrdered, text))
        }
        None => Ok(()),
    }
}
