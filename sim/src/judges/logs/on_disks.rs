//! What the chronicle found broken, handed to the judge of that property.

use crate::chronicle::Chronicle;
use crate::judges::{Evidence, Judge, Moment};
use crate::verdict::{Property, Violation};

/// Judges a property that the disks alone show.
#[derive(Debug)]
pub struct OnDisks {
    property: Property,
    /// Findings read, of any property.
    read: usize,
}

impl OnDisks {
    /// Of this property.
    #[must_use]
    pub fn of(property: Property) -> Self {
        Self { property, read: 0 }
    }

    fn read_on(&mut self, chronicle: &Chronicle) -> Result<(), Violation> {
        let fresh = chronicle.findings(self.read);
        self.read += fresh.len();
        match fresh.into_iter().find(|finding| finding.property == self.property) {
            Some(finding) => Err(Violation::new(self.property, format!("at {}, {}", finding.at, finding.text))),
            None => Ok(()),
        }
    }
}

impl Judge for OnDisks {
    fn property(&self) -> Property {
        self.property
    }

    fn look(&mut self, moment: &Moment<'_>) -> Result<(), Violation> {
        self.read_on(moment.chronicle)
    }

    fn end(&mut self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        self.read_on(evidence.chronicle)
    }
}
