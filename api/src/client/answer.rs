//! The three possible ends of a call.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Broken, RawAnswer};

/// A call that was done.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The node's answer.
    pub value: T,
    /// 200, or 201 if something was created.
    pub status: StatusCode,
    /// Whether an earlier request with the same key did this; this call changed nothing.
    pub replayed: bool,
    /// The token of the write. A later read that sends it sees at least this write.
    pub token: Option<HeaderValue>,
}

/// A node's refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The problem's code, for example `out_of_stock`; `http_` and the status if the answer has no code.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
    /// Whether a retry may help.
    pub retryable: bool,
    /// When to retry.
    pub retry_after: Option<Duration>,
    /// The whole problem as received (RFC 9457).
    pub problem: Map<String, Value>,
}

/// A call that failed, or may have failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CallError {
    /// The node refused: nothing has changed.
    #[error("{} ({})", .0.detail, .0.code)]
    Refused(Box<Refusal>),
    /// No node could be reached: nothing was sent, nothing has changed.
    #[error("{0}")]
    Unreachable(String),
    /// The call may have taken effect. Repeat it with the same key.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The call succeeded, or was a read, and its answer cannot be parsed.
    #[error("cannot read the answer: {0}")]
    Unreadable(String),
}

/// The members of a problem that a client acts on.
#[derive(Deserialize)]
struct Said {
    code: Option<String>,
    title: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    retryable: bool,
    outcome: Option<String>,
}

impl CallError {
    /// The code of the error: the node's code, or `unreachable`, `outcome_unknown`, `unreadable_answer`.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            Self::Unreachable(_) => "unreachable",
            Self::Unknown(_) => "outcome_unknown",
            Self::Unreadable(_) => "unreadable_answer",
        }
    }

    /// Whether the call may have taken effect.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// Whether a retry may help.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.retryable,
            Self::Unreachable(_) | Self::Unknown(_) => true,
            Self::Unreadable(_) => false,
        }
    }

    /// When to retry, if the node said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// Adjusts this error to an earlier attempt whose outcome is unknown. A final refusal is kept, since a node looks the key
    /// up before anything else. A temporary refusal or an unreachable node says nothing about the earlier attempt.
    #[must_use]
    pub(super) fn after_doubt(self) -> Self {
        if self.retryable() && !self.outcome_unknown() {
            Self::Unknown(format!("an earlier attempt had no answer; the last one: {self}"))
        } else {
            self
        }
    }

    /// The error of a call without an answer. `only_reads` means that the call changes nothing.
    #[must_use]
    pub fn of_broken(broken: Broken, only_reads: bool) -> Self {
        match broken {
            Broken::NotSent { .. } => Self::Unreachable(broken.to_string()),
            Broken::Lost { .. } if only_reads => Self::Unreachable(broken.to_string()),
            Broken::Lost { .. } => Self::Unknown(broken.to_string()),
        }
    }
}

impl RawAnswer {
    /// Returns the answer if the request succeeded, else the node's refusal.
    ///
    /// # Errors
    /// [`CallError::Refused`] or [`CallError::Unknown`].
    pub fn done(self, only_reads: bool) -> Result<Self, CallError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let said: Option<Said> = serde_json::from_slice(&self.body).ok();
        let outcome = said.as_ref().and_then(|said| said.outcome.as_deref());
        // A proxy may answer for a node that has executed the request. Only the node's own problem, or a 4xx, proves that
        // nothing happened.
        let unknown = match outcome {
            Some(word) => word != "refused",
            None => !self.status.is_client_error(),
        };
        let refusal = self.refusal(said);
        if unknown && !only_reads {
            return Err(CallError::Unknown(format!("{} ({})", refusal.detail, refusal.code)));
        }
        Err(CallError::Refused(Box::new(refusal)))
    }

    fn refusal(&self, said: Option<Said>) -> Refusal {
        let problem = serde_json::from_slice(&self.body).unwrap_or_default();
        let code = said.as_ref().and_then(|said| said.code.clone());
        let text = said.as_ref().and_then(|said| said.detail.clone().or_else(|| said.title.clone()));
        let temporary = matches!(self.status.as_u16(), 429 | 502 | 503 | 504);
        Refusal {
            status: self.status.as_u16(),
            detail: text.unwrap_or_else(|| format!("the node answered {}", self.status)),
            retryable: if code.is_some() { said.is_some_and(|said| said.retryable) } else { temporary },
            code: code.unwrap_or_else(|| format!("http_{}", self.status.as_u16())),
            retry_after: self.retry_after,
            problem,
        }
    }

    /// Parses the body.
    ///
    /// # Errors
    /// [`CallError::Unreadable`]: this version does not understand the body.
    pub fn read<T: DeserializeOwned>(self) -> Result<Answer<T>, CallError> {
        let value = parse(&self.body)?;
        Ok(Answer { value, status: self.status, replayed: self.replayed, token: self.token })
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, CallError> {
    sonic_rs::from_slice(body).map_err(|error| {
        // Further lines of the message quote the body.
        CallError::Unreadable(error.to_string().lines().next().unwrap_or_default().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> RawAnswer {
        RawAnswer {
            status: StatusCode::from_u16(status).expect("a status of the table"),
            replayed: false,
            retry_after: None,
            token: None,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn every_answer_is_done_refused_or_unknown() {
        let no_leader = r#"{"code":"no_leader","detail":"d","retryable":true,"outcome":"refused"}"#;
        let lost = r#"{"code":"outcome_unknown","detail":"d","retryable":true,"outcome":"unknown"}"#;
        let sold_out = r#"{"code":"out_of_stock","detail":"d","retryable":false,"outcome":"refused"}"#;
        // status, body, end, code, retryable
        for (status, body, end, code, retryable) in [
            (201, "{}", "done", "", false),
            (409, sold_out, "refused", "out_of_stock", false),
            (503, no_leader, "refused", "no_leader", true),
            (503, lost, "unknown", "outcome_unknown", true),
            (504, "", "unknown", "outcome_unknown", true),
            (502, "<html>", "unknown", "outcome_unknown", true),
            (500, "", "unknown", "outcome_unknown", true),
            (404, "<html>", "refused", "http_404", false),
            (429, "", "refused", "http_429", true),
        ] {
            let got = match answered(status, body).done(false) {
                Ok(_) => ("done", String::new(), false),
                Err(error) => {
                    let end = if error.outcome_unknown() { "unknown" } else { "refused" };
                    (end, error.code().to_owned(), error.retryable())
                }
            };
            assert_eq!(got, (end, code.to_owned(), retryable), "{status} {body}");
        }
    }

    #[test]
    fn a_read_is_never_unknown() {
        let error = answered(504, "").done(true).expect_err("504 is not done");
        assert_eq!((error.code(), error.retryable()), ("http_504", true));
    }

    #[test]
    fn doubt_outlives_everything_but_a_final_no() {
        let refused = |retryable| {
            let (status, code) = if retryable { (503, "overloaded") } else { (409, "out_of_stock") };
            let body = format!(r#"{{"code":"{code}","retryable":{retryable},"outcome":"refused"}}"#);
            answered(status, &body).done(false).expect_err("refused")
        };
        assert!(refused(true).after_doubt().outcome_unknown());
        assert!(CallError::Unreachable("x".to_owned()).after_doubt().outcome_unknown());
        assert_eq!(refused(false).after_doubt().code(), "out_of_stock");
    }
}
