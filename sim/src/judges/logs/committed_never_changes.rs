//! CommittedNeverChanges.

use super::on_disks::OnDisks;
use crate::judges::{Evidence, Judge, Moment};
use crate::verdict::{Property, Violation};

/// A group has one committed chain: no replica ever holds another entry for committed, cuts a committed one off, or, when
/// the grid has come to rest, lacks what any of them said to be committed.
#[derive(Debug)]
pub struct CommittedNeverChanges(OnDisks);

impl Default for CommittedNeverChanges {
    fn default() -> Self {
        Self(OnDisks::of(Property::CommittedNeverChanges))
    }
}

impl Judge for CommittedNeverChanges {
    fn property(&self) -> Property {
        self.0.property()
    }

    fn look(&mut self, moment: &Moment<'_>) -> Result<(), Violation> {
        self.0.look(moment)
    }

    fn end(&mut self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        self.0.end(evidence)?;
        for group in evidence.chronicle.groups() {
            if let Some(hole) = evidence.chronicle.hole(group) {
                let text = format!("group {group}: entry {hole} was said to be committed, and no disk knows it for committed");
                return Err(Violation::new(self.property(), text));
            }
        }
        Ok(())
    }
}
