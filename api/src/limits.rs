//! Everything that HTTP bounds, with its default. Past a limit the answer is a clear refusal.

use std::time::Duration;

use crate::account::Account;

/// Bounds of requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of every body but a batch; default 1 MiB.
    pub body_bytes: usize,
    /// Bytes of a batch; default 32 MiB.
    pub batch_bytes: usize,
    /// Orders of a batch; default 1,000.
    pub batch_orders: usize,
    /// Lines of an order; default 1,000.
    pub order_lines: usize,
    /// The memory that all requests share; default 256 MiB.
    pub account: Account,
    /// How long a body may take to arrive; default 30 s.
    pub body_patience: Duration,
    /// How long the grid may take for an answer, after which it is unknown; default 30 s.
    pub grid_patience: Duration,
    /// The same for proving the laws; default 30 min.
    pub verify_patience: Duration,
    /// Orders that may be skipped by page numbers; default 10,000.
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
