//! What a bench asks for, written as bytes without detour.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use hyper::header::HeaderValue;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::BenchOptions;

/// Lines of an order of the workload `cart`.
pub(super) const CART_LINES: u32 = 3;
/// Price of every unit, minor units.
pub(super) const PRICE: i64 = 255;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// One unit of one SKU, any of them alike
    #[default]
    Uniform,
    /// One unit of one SKU, always the same
    Hot,
    /// One unit each of three different SKUs
    Cart,
    /// One unit of one SKU; the order is then paid, picked, shipped and delivered
    Lifecycle,
}

impl Workload {
    /// The word on the command line and in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Hot => "hot",
            Self::Cart => "cart",
            Self::Lifecycle => "lifecycle",
        }
    }

    /// SKUs that it touches.
    pub(super) fn skus(self, options: &BenchOptions) -> u32 {
        if self == Self::Hot { 1 } else { options.skus }
    }
}

/// Id of one of a bench's SKUs.
pub(super) fn sku(number: u32) -> String {
    format!("bench-{number}")
}

/// Draws orders and writes them down, always into the same memory.
pub(super) struct Orders {
    workload: Workload,
    skus: u32,
    users: u32,
    batch: u32,
    run: u64,
    worker: u32,
    orders: u64,
    draws: SmallRng,
    buffer: BytesMut,
}

impl Orders {
    pub(super) fn new(options: &BenchOptions, worker: u32) -> Self {
        Self {
            workload: options.workload,
            skus: options.workload.skus(options),
            users: options.users,
            batch: options.batch,
            run: options.run,
            worker,
            orders: 0,
            draws: SmallRng::seed_from_u64(options.run ^ u64::from(worker).rotate_left(32)),
            buffer: BytesMut::with_capacity(64 << 10),
        }
    }

    /// The key of the order drawn last, with a word for the step.
    pub(super) fn key(&mut self, step: &str) -> HeaderValue {
        write!(self.buffer, "{:x}-{}-{}{step}", self.run, self.worker, self.orders).expect(GROWS);
        HeaderValue::from_maybe_shared(self.buffer.split().freeze()).expect("digits and letters")
    }

    /// The body of a request that places one order.
    pub(super) fn one(&mut self) -> Bytes {
        self.orders += 1;
        self.buffer.extend_from_slice(b"{");
        self.order();
        self.buffer.split().freeze()
    }

    /// The body of a request that places a batch.
    pub(super) fn many(&mut self) -> Bytes {
        self.buffer.extend_from_slice(br#"{"orders":["#);
        for at in 0..self.batch {
            self.orders += 1;
            let (run, worker, orders) = (self.run, self.worker, self.orders);
            let comma = if at == 0 { "" } else { "," };
            write!(self.buffer, r#"{comma}{{"idempotency_key":"{run:x}-{worker}-{orders}","#).expect(GROWS);
            self.order();
        }
        self.buffer.extend_from_slice(b"]}");
        self.buffer.split().freeze()
    }

    /// What follows the key, up to the closing brace.
    fn order(&mut self) {
        let user = self.draws.random_range(0..self.users);
        write!(self.buffer, r#""user_id":"u{user}","currency":"GBP","lines":["#).expect(GROWS);
        match self.workload {
            Workload::Uniform | Workload::Hot | Workload::Lifecycle => {
                let number = self.draws.random_range(0..self.skus);
                self.line("", number);
            }
            Workload::Cart => {
                let numbers = three_different(&mut self.draws, self.skus);
                for (comma, number) in ["", ",", ","].into_iter().zip(numbers) {
                    self.line(comma, number);
                }
            }
        }
        self.buffer.extend_from_slice(b"]}");
    }

    fn line(&mut self, comma: &str, number: u32) {
        write!(self.buffer, r#"{comma}{{"sku":"bench-{number}","quantity":1,"unit_price":{PRICE}}}"#).expect(GROWS);
    }
}

const GROWS: &str = "a buffer grows as it is written to";

fn three_different(draws: &mut SmallRng, of: u32) -> [u32; 3] {
    let first = draws.random_range(0..of);
    let second = draws.random_range(0..of - 1);
    let second = if second >= first { second + 1 } else { second };
    let third = draws.random_range(0..of - 2);
    let (low, high) = (first.min(second), first.max(second));
    let third = if third >= low { third + 1 } else { third };
    let third = if third >= high { third + 1 } else { third };
    [first, second, third]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{PlaceBatch, PlaceOrder};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn orders(workload: Workload, skus: u32, batch: u32) -> Orders {
        let second = Duration::from_secs(1);
        let options =
            BenchOptions { workload, skus, users: 10, connections: 1, duration: second, warm_up: second, batch, run: 7 };
        Orders::new(&options, 3)
    }

    #[test]
    fn bodies_are_what_the_server_reads() {
        for (workload, lines) in [(Workload::Uniform, 1), (Workload::Hot, 1), (Workload::Cart, 3), (Workload::Lifecycle, 1)] {
            let order: PlaceOrder = serde_json::from_slice(&orders(workload, 5, 1).one()).expect("an order");
            assert_eq!(order.lines.len(), lines, "{workload:?}");
        }
        let batch: PlaceBatch = serde_json::from_slice(&orders(Workload::Uniform, 5, 3).many()).expect("a batch");
        let keys: Vec<_> = batch.orders.iter().map(|order| order.idempotency_key.as_ref().expect("a key").as_str()).collect();
        assert_eq!(keys, ["7-3-1", "7-3-2", "7-3-3"]);
    }

    #[test]
    fn hot_is_one_sku_and_uniform_all() {
        let drawn = |workload| {
            let mut orders = orders(workload, 4, 1);
            (0..200)
                .map(|_| {
                    let order: PlaceOrder = serde_json::from_slice(&orders.one()).expect("an order");
                    order.lines[0].sku.as_str().to_owned()
                })
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(drawn(Workload::Hot), BTreeSet::from(["bench-0".to_owned()]));
        assert_eq!(drawn(Workload::Uniform), (0..4).map(sku).collect());
    }

    #[test]
    fn a_cart_has_three_different_skus_and_every_three_are_drawn() {
        let mut draws = SmallRng::seed_from_u64(1);
        let mut seen = BTreeSet::new();
        for _ in 0..1_000 {
            let three = three_different(&mut draws, 4);
            assert_eq!(BTreeSet::from(three).len(), 3, "{three:?}");
            assert!(three.iter().all(|number| *number < 4), "{three:?}");
            seen.insert(three);
        }
        assert_eq!(seen.len(), 24, "every ordered choice of 3 of 4");
    }

    #[test]
    fn keys_name_the_order_and_the_step() {
        let mut orders = orders(Workload::Uniform, 4, 1);
        drop(orders.one());
        assert_eq!(orders.key(""), "7-3-1");
        assert_eq!(orders.key("-pay"), "7-3-1-pay");
    }
}
