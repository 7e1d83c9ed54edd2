//! The three ends of a call.

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
    /// What the node answered.
    pub value: T,
    /// 200, or 201 where something was created.
    pub status: StatusCode,
    /// It was done by an earlier request with the same key; this one changed nothing.
    pub replayed: bool,
    /// Sent back with a later read, that read sees at least this write.
    pub token: Option<HeaderValue>,
}

/// What a node said when it did not do something.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The stable word for the cause, such as `out_of_stock`; `http_` and the status where the answer names none.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
    /// Asking again may help.
    pub retryable: bool,
    /// When.
    pub retry_after: Option<Duration>,
    /// The whole problem as it came (RFC 9457), for those who look deeper.
    pub problem: Map<String, Value>,
}

/// A call that was not done, or may not have been.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CallError {
    /// The grid refused: nothing has changed.
    #[error("{} ({})", .0.detail, .0.code)]
    Refused(Box<Refusal>),
    /// No node could be reached: nothing was sent, nothing has changed.
    #[error("{0}")]
    Unreachable(String),
    /// It may or may not have been done. Ask again with the same key.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// It was done, or it was a read, and the answer cannot be understood.
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
    /// The word for the cause: the grid's, or `unreachable`, `outcome_unknown`, `unreadable_answer`.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            Self::Unreachable(_) => "unreachable",
            Self::Unknown(_) => "outcome_unknown",
            Self::Unreadable(_) => "unreadable_answer",
        }
    }

    /// It may have been done.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// Asking again may help.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.retryable,
            Self::Unreachable(_) | Self::Unknown(_) => true,
            Self::Unreadable(_) => false,
        }
    }

    /// When to ask again, if the grid said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// The same error after an earlier attempt whose outcome is unknown: a final "no" stands, since a key is looked up
    /// before anything else, but "not now" and "not there" say nothing about that attempt.
    #[must_use]
    pub(super) fn after_doubt(self) -> Self {
        if self.retryable() && !self.outcome_unknown() {
            Self::Unknown(format!("an earlier attempt had no answer; the last one: {self}"))
        } else {
            self
        }
    }

    /// What a call without an answer ends with; `only_reads` says that it changes nothing wherever it ends.
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
    /// Whether the request was done; if not, what the node said.
    ///
    /// # Errors
    /// [`CallError::Refused`] or [`CallError::Unknown`].
    pub fn done(self, only_reads: bool) -> Result<Self, CallError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let said: Option<Said> = serde_json::from_slice(&self.body).ok();
        let outcome = said.as_ref().and_then(|said| said.outcome.as_deref());
        // A proxy in between may answer for a node that has done it; only our own word, or a 4xx, says that nothing happened.
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

    /// Reads the body.
    ///
    /// # Errors
    /// [`CallError::Unreadable`]: it is not what this version understands.
    pub fn read<T: DeserializeOwned>(self) -> Result<Answer<T>, CallError> {
        let value = parse(&self.body)?;
        Ok(Answer { value, status: self.status, replayed: self.replayed, token: self.token })
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, CallError> {
    sonic_rs::from_slice(body).map_err(|error| {
        // The lines after the first quote the body.
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
