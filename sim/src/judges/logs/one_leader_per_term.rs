//! OneLeaderPerTerm.

use std::collections::BTreeMap;

use ordergrid_cluster::Role;
use ordergrid_domain::GroupId;

use super::on_disks::OnDisks;
use crate::judges::{Evidence, Judge, Moment};
use crate::verdict::{Property, Violation};

/// A term of a group has one leader: by the votes on the disks, and by what nodes say.
#[derive(Debug)]
pub struct OneLeaderPerTerm {
    disks: OnDisks,
    /// Which replica said that it leads.
    leaders: BTreeMap<(GroupId, u64), u64>,
}

impl Default for OneLeaderPerTerm {
    fn default() -> Self {
        Self { disks: OnDisks::of(Property::OneLeaderPerTerm), leaders: BTreeMap::new() }
    }
}

impl Judge for OneLeaderPerTerm {
    fn property(&self) -> Property {
        self.disks.property()
    }

    fn look(&mut self, moment: &Moment<'_>) -> Result<(), Violation> {
        for (node, groups) in moment.statuses {
            for status in groups.iter().filter(|status| status.role == Role::Leader) {
                let first = *self.leaders.entry((status.group, status.term)).or_insert(status.replica);
                if first != status.replica {
                    let (group, term) = (status.group, status.term);
                    let text =
                        format!("group {group}, term {term}: replica {} on node {node} and replica {first}", status.replica);
                    return Err(Violation::new(self.property(), text));
                }
            }
        }
        self.disks.look(moment)
    }

    fn end(&mut self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        self.disks.end(evidence)
    }
}
