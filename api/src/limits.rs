//! The limits of HTTP, with their defaults. A request above a limit gets a refusal that names it.

use std::time::Duration;

use crate::account::Account;

/// Bytes of a piece of an answer. A client must read one piece within the idle timeout.
pub(crate) const PIECE: usize = 64 << 10;

/// Limits of requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes of a body other than a batch; default 1 MiB.
    pub body_bytes: usize,
    /// Most bytes of a batch; default 32 MiB.
    pub batch_bytes: usize,
    /// Most orders of a batch; default 1,000.
    pub batch_orders: usize,
    /// Most lines of an order; default 1,000.
    pub order_lines: usize,
    /// The memory account of all requests; default 256 MiB.
    pub account: Account,
    /// How long a body may take to arrive; default 30 s.
    pub body_patience: Duration,
    /// How long the grid may take to answer; after that the outcome is unknown. Default 30 s.
    pub grid_patience: Duration,
    /// How long a verification of the laws may take; default 30 min.
    pub verify_patience: Duration,
    /// Most orders that page numbers may skip; default 10,000.
    pub page_depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            batch_bytes: 32 << 20,
            batch_orders: 1_000,
            order_lines: 1_000,
            account: Account::new(256 << 20),
            body_patience: Duration::from_secs(30),
            grid_patience: Duration::from_secs(30),
            verify_patience: Duration::from_secs(30 * 60),
            page_depth: 10_000,
        }
    }
}
