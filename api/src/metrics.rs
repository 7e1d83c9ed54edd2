//! The metrics of connections and of memory.
//!
//! `ordergrid_http_connections`, `ordergrid_http_connections_refused_total`, `ordergrid_memory_account_bytes{use}`,
//! `ordergrid_memory_account_limit_bytes{use}`.

use metrics::{Counter, Gauge, counter, gauge};

use crate::account::{Account, Use};

/// Number of open connections.
pub(crate) fn connections() -> Gauge {
    gauge!("ordergrid_http_connections")
}

/// Number of connections refused at the limit.
pub(crate) fn connections_refused() -> Counter {
    counter!("ordergrid_http_connections_refused_total")
}

/// Sets the gauges of the memory account. Called when metrics are read, since the account changes with every request.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats; bytes of memory are far below 2^53")]
pub(crate) fn account(account: &Account) {
    for what in Use::ALL {
        gauge!("ordergrid_memory_account_bytes", "use" => what.word()).set(account.taken(what) as f64);
        gauge!("ordergrid_memory_account_limit_bytes", "use" => what.word()).set(account.most(what) as f64);
    }
    gauge!("ordergrid_memory_account_limit_bytes", "use" => "requests").set(account.limit() as f64);
}
