//! What is wrong with settings.

/// Two settings contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the settings are not valid: {0}")]
pub struct ConfigError(pub(crate) String);
