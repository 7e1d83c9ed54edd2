//! What the chronicle found broken, handed to the judge of the law.

use super::{Evidence, Moment};
use crate::chronicle::{Chronicle, LogLaw};
use crate::verdict::Violation;

/// Reads findings of one law.
#[derive(Debug)]
pub(super) struct Found {
    law: LogLaw,
    /// Findings read, of any law.
    read: usize,
}

impl Found {
    pub(super) fn of(law: LogLaw) -> Self {
        Self { law, read: 0 }
    }

    pub(super) fn name(&self) -> &'static str {
        self.law.name()
    }

    pub(super) fn look(&mut self, moment: &Moment<'_>) -> Result<(), Violation> {
        self.read_on(moment.chronicle)
    }

    pub(super) fn end(&mut self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        self.read_on(evidence.chronicle)
    }

    fn read_on(&mut self, chronicle: &Chronicle) -> Result<(), Violation> {
        let fresh = chronicle.findings(self.read);
        self.read += fresh.len();
        match fresh.into_iter().find(|finding| finding.law == self.law) {
            Some(finding) => Err(Violation::new(self.law.name(), format!("at {}, {}", finding.at, finding.text))),
            None => Ok(()),
        }
    }
}

/// A judge of what is found on the disks alone.
macro_rules! judge_of_disks {
    ($(#[$doc:meta])* $judge:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $judge(super::found::Found);

        impl Default for $judge {
            fn default() -> Self {
                Self(super::found::Found::of(crate::chronicle::LogLaw::$judge))
            }
        }

        impl super::Judge for $judge {
            fn name(&self) -> &'static str {
                self.0.name()
            }

            fn look(&mut self, moment: &super::Moment<'_>) -> Result<(), crate::verdict::Violation> {
                self.0.look(moment)
            }

            fn end(&mut self, evidence: &super::Evidence<'_>) -> Result<(), crate::verdict::Violation> {
                self.0.end(evidence)
            }
        }
    };
}

pub(super) use judge_of_disks;
