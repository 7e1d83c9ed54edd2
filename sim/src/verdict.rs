//! What a history came to.

use std::fmt;

/// A property did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The judge, named as the law it watches.
    pub judge: &'static str,
    /// What was seen, and where.
    pub text: String,
}

impl Violation {
    /// Of `judge`, in these words.
    #[must_use]
    pub fn new(judge: &'static str, text: impl Into<String>) -> Self {
        Self { judge, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.judge, self.text)
    }
}
