//! Every bound and every default of an order, in one place.

use std::time::Duration;

use crate::money::Money;

/// Most lines of one order.
pub const LINES: usize = 1_000;
/// Most metadata pairs of one order.
pub const METADATA: usize = 50;
/// Largest amount that a line, an order or a payment may have, in minor units: 10,000 of them still add up in 64 bits.
pub const AMOUNT: Money = Money(100_000_000_000_000);
/// Events after which nothing new is begun on an order; what ends its open business is still done.
pub const EVENTS: usize = 10_000;
/// Facts of one payment attempt. Providers tell some dozens at most; every look at the money goes over all of them.
pub const FACTS: usize = 100;

/// How long a buyer has to pay unless the order says otherwise.
pub const PAYMENT_WINDOW: Duration = Duration::from_secs(15 * 60);
/// Shortest time to pay that an order may ask for.
pub const PAYMENT_WINDOW_MIN: Duration = Duration::from_secs(1);
/// Longest time to pay that an order may ask for.
pub const PAYMENT_WINDOW_MAX: Duration = Duration::from_secs(30 * DAY);
/// How much later an order expires, once, when a payment of it younger than this is in processing.
pub const GRACE: Duration = Duration::from_secs(120);
/// When an order completes by itself, counted from its last shipment.
pub const AUTO_COMPLETE: Duration = Duration::from_secs(7 * DAY);

const DAY: u64 = 24 * 60 * 60;
