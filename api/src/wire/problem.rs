//! An error as clients see it: RFC 9457 with additional members.

use ordergrid_domain::order::Phase;
use ordergrid_domain::{OrderId, Quantity, Rejection, SkuId};
use serde::{Deserialize, Serialize};

use super::text;

/// Body of every error. `outcome` tells whether the request may have taken effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The title of the kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What was wrong with this request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The kind's code, for programs.
    pub code: String,
    /// The faulty part: a JSON path of the body, a query parameter or a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// `refused`: nothing happened. `unknown`: the request may have taken effect; repeat it with the same key.
    pub outcome: String,
    /// The id of the request in logs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// For `out_of_stock`: the lines without enough stock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<ShortLine>,
    /// For `page_too_deep`: the cursor of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What the detail says in words, for programs.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The figures that a refusal speaks of. Those that it does not speak of are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// For `reference_taken`: the order that has the reference.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// For `stale_version`: the version that the request expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u64>,
    /// For `stale_version`: the version now, with which to go on; 0 where there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// For `wrong_phase`: the order's phase.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// For what is about one line of an order: its number from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Units, or minor units of money, that the request asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<i64>,
    /// Units, or minor units of money, that there are for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<i64>,
    /// For `total_mismatch`: what the order adds up to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// The limit that was exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl Figures {
    /// The figures of a rejection.
    pub(crate) fn of(rejection: &Rejection) -> Self {
        let units = |units: Quantity| Some(units.0.cast_signed());
        let limit = |limit: usize| Some(limit as u64);
        match *rejection {
            Rejection::ReferenceTaken(order) => Self { order_id: Some(order), ..Self::default() },
            Rejection::StaleVersion { expected, actual } => {
                Self { expected_version: Some(expected), current_version: Some(actual), ..Self::default() }
            }
            Rejection::WrongPhase { phase } => Self { phase: Some(phase), ..Self::default() },
            Rejection::NoSuchLine(line) | Rejection::LineAmountOutOfRange { line } => {
                Self { line: Some(line), ..Self::default() }
            }
            Rejection::LineQuantityOutOfRange { line, quantity } => {
                Self { line: Some(line), asked: units(quantity), limit: Some(Quantity::LIMIT.0), ..Self::default() }
            }
            Rejection::NotEnoughOnLine { line, asked, available } => {
                Self { line: Some(line), asked: units(asked), available: units(available), ..Self::default() }
            }
            Rejection::OutOfStock { asked, available, .. } | Rejection::WouldOversell { asked, available } => {
                Self { asked: units(asked), available: units(available), ..Self::default() }
            }
            Rejection::RefundTooLarge { asked, available } => {
                Self { asked: Some(asked.0), available: Some(available.0), ..Self::default() }
            }
            Rejection::TotalMismatch { actual, .. } => Self { total: Some(actual.0), ..Self::default() },
            Rejection::QuantityOutOfRange(asked) => {
                Self { asked: units(asked), limit: Some(Quantity::LIMIT.0), ..Self::default() }
            }
            Rejection::TooManyLines { limit: most, .. }
            | Rejection::TooManyMetadata { limit: most, .. }
            | Rejection::HistoryFull { limit: most } => Self { limit: limit(most), ..Self::default() },
            _ => Self::default(),
        }
    }
}

/// A line without enough stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortLine {
    /// Line number from 1.
    pub line: u32,
    /// The SKU.
    #[serde(with = "text")]
    pub sku: SkuId,
    /// Units that the line asks for.
    pub asked: u64,
    /// Units available for the line, after the lines before it.
    pub available: u64,
}

#[cfg(test)]
mod tests {
    use ordergrid_domain::Money;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_refusal_speaks_of_is_a_field_too() {
        let units = Quantity;
        #[rustfmt::skip]
        let cases = [
            (Rejection::ReferenceTaken(OrderId(9)),                       json!({"order_id": "9"})),
            (Rejection::StaleVersion { expected: 1, actual: 2 },          json!({"expected_version": 1, "current_version": 2})),
            (Rejection::WrongPhase { phase: Phase::Cancelled },           json!({"phase": "cancelled"})),
            (Rejection::NotEnoughOnLine { line: 2, asked: units(3), available: units(1) }, json!({"line": 2, "asked": 3, "available": 1})),
            (Rejection::WouldOversell { asked: units(3), available: units(1) },            json!({"asked": 3, "available": 1})),
            (Rejection::RefundTooLarge { asked: Money(300), available: Money(120) },       json!({"asked": 300, "available": 120})),
            (Rejection::TotalMismatch { claimed: Money(1), actual: Money(2) },             json!({"total": 2})),
            (Rejection::TooManyLines { count: 3, limit: 2 },              json!({"limit": 2})),
            (Rejection::NothingLeft,                                      json!({})),
        ];
        for (rejection, fields) in cases {
            let figures = Figures::of(&rejection);
            assert_eq!(serde_json::to_value(&figures).expect("it can be written"), fields, "{rejection:?}");
            let problem = json!({"code": "c", "retryable": false, "outcome": "refused"});
            let mut problem = problem.as_object().cloned().expect("an object");
            problem.extend(fields.as_object().cloned().expect("an object"));
            let read: Problem = serde_json::from_value(problem.into()).expect("it can be read");
            assert_eq!(read.figures, figures, "{rejection:?}");
        }
    }
}
