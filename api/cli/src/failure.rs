//! Why a verb failed, in words and as JSON.

use ordergrid_api::client::CallError;
use serde_json::{Map, Value, json};

use crate::exit::Exit;
use crate::screen::Format;

/// A verb that failed: the exit code, a word for programs, a sentence for people.
#[derive(Clone, Debug, PartialEq)]
pub struct VerbFailure {
    exit: Exit,
    code: String,
    detail: String,
    hint: Option<String>,
    /// The grid's own problem, where it is one.
    problem: Map<String, Value>,
    outcome: &'static str,
    retryable: bool,
}

impl VerbFailure {
    /// A failure that changed nothing, unless the exit code says that this is not known.
    #[must_use]
    pub fn new(exit: Exit, code: impl Into<String>, detail: impl Into<String>) -> Self {
        let (code, detail) = (code.into(), detail.into());
        let outcome = if exit == Exit::Unknown { "unknown" } else { "refused" };
        let retryable = matches!(exit, Exit::Unknown | Exit::Unreachable);
        Self { exit, code, detail, hint: None, problem: Map::new(), outcome, retryable }
    }

    /// The same, and what to do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The sentence for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The text for stderr, its lines ended.
    #[must_use]
    pub fn text(&self, output: Format) -> String {
        match output {
            Format::Table => {
                let hint = self.hint.as_ref().map(|hint| format!("  {hint}\n")).unwrap_or_default();
                format!("error: {}\n{hint}", self.detail)
            }
            Format::Json => {
                let mut error = self.problem.clone();
                error.insert("code".to_owned(), json!(self.code));
                error.insert("detail".to_owned(), json!(self.detail));
                error.insert("outcome".to_owned(), json!(self.outcome));
                error.insert("retryable".to_owned(), json!(self.retryable));
                if let Some(hint) = &self.hint {
                    error.insert("hint".to_owned(), json!(hint));
                }
                format!("{}\n", json!({"error": error, "exit_code": self.exit.code()}))
            }
        }
    }
}

impl From<CallError> for VerbFailure {
    fn from(error: CallError) -> Self {
        let mut failure = Self::new(Exit::from(&error), error.code(), error.to_string());
        failure.outcome = if error.outcome_unknown() { "unknown" } else { "refused" };
        failure.retryable = error.retryable();
        match error {
            CallError::Refused(refusal) => {
                failure.detail = format!("{} ({})", refusal.detail, refusal.code);
                failure.problem = refusal.problem;
            }
            CallError::Unreachable(_) => {
                failure.hint = Some("name the grid's nodes with --endpoint URL[,URL] or ORDERGRID_ENDPOINTS".to_owned());
            }
            CallError::Unknown(_) => {
                failure.hint = Some("it may have been done: try again with the same key, which does nothing twice".to_owned());
            }
            CallError::Unreadable(_) => {
                failure.hint = Some("is this an OrderGrid node, and of this version?".to_owned());
            }
        }
        failure
    }
}
