//! An error as clients see it: RFC 9457 with additional members.

use ordergrid_domain::SkuId;
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
