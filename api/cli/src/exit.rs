//! Exit codes: the answer to a script that reads nothing else.

use ordergrid_api::client::CallError;

/// How a verb ended, as a process tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The arguments are wrong.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// It conflicts with what is there.
    Conflict = 4,
    /// Not allowed.
    NotAllowed = 5,
    /// Refused by a safety check: nothing has changed.
    Unsafe = 6,
    /// No node could be reached, or there is no quorum: nothing has changed.
    Unreachable = 7,
    /// Timed out: the outcome is unknown.
    Unknown = 8,
    /// Asked, and the answer is no.
    AnswerIsNo = 10,
    /// Asked, and it could not be judged.
    Unjudged = 11,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<&CallError> for Exit {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::Unreachable(_) => Self::Unreachable,
            CallError::Unknown(_) => Self::Unknown,
            CallError::Unreadable(_) => Self::Failed,
            CallError::Refused(refusal) => match refusal.status {
                400 | 413 | 422 if refusal.code != "idempotency_key_reused" => Self::Usage,
                401 | 403 => Self::NotAllowed,
                404 => Self::NotFound,
                409 | 412 | 422 => Self::Conflict,
                502..=504 => Self::Unreachable,
                _ => Self::Failed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ordergrid_api::client::Refusal;

    fn refused(status: u16, code: &str) -> CallError {
        CallError::Refused(Box::new(Refusal {
            status,
            code: code.to_owned(),
            detail: String::new(),
            retryable: false,
            retry_after: None,
            problem: serde_json::Map::new(),
        }))
    }

    #[test]
    fn every_end_has_its_code() {
        for (error, code) in [
            (refused(400, "malformed_json"), 2),
            (refused(422, "invalid_quantity"), 2),
            (refused(413, "body_too_large"), 2),
            (refused(404, "no_such_order"), 3),
            (refused(409, "out_of_stock"), 4),
            (refused(412, "stale_version"), 4),
            (refused(422, "idempotency_key_reused"), 4),
            (refused(401, "unauthenticated"), 5),
            (refused(403, "forbidden"), 5),
            (refused(503, "no_leader"), 7),
            (refused(429, "rate_limited"), 1),
            (CallError::Unreachable(String::new()), 7),
            (CallError::Unknown(String::new()), 8),
            (CallError::Unreadable(String::new()), 1),
        ] {
            assert_eq!(Exit::from(&error).code(), code, "{error:?}");
        }
        assert_eq!((Exit::Done.code(), Exit::Unsafe.code(), Exit::AnswerIsNo.code()), (0, 6, 10));
    }
}
