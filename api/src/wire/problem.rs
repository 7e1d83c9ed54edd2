//! An error as clients read it: RFC 9457, with our members.

use ordergrid_domain::SkuId;
use serde::{Deserialize, Serialize};

use super::text;

/// Body of every error. `outcome` answers the one question that matters: may it have happened?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The kind in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What was wrong this time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The kind as a word for programs.
    pub code: String,
    /// What was wrong with it: a JSON path of the body, a query parameter or a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// The same request may succeed later.
    pub retryable: bool,
    /// `refused`: nothing happened; `unknown`: it may have, ask again with the same key.
    pub outcome: String,
    /// The request in logs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// `out_of_stock`: the lines that are short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<ShortLine>,
    /// `page_too_deep`: the cursor to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A line that could not be held whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortLine {
    /// Line number from 1.
    pub line: u32,
    /// Of which SKU.
    #[serde(with = "text")]
    pub sku: SkuId,
    /// Units the line asks for.
    pub asked: u64,
    /// Units there are for it, after the lines before it.
    pub available: u64,
}
