//! What a bench asks for, written as bytes without detour.

use std::collections::VecDeque;
use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use hyper::header::HeaderValue;
use ordergrid_domain::OrderId;
use rand::rngs::SmallRng;
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};

use super::options::{BenchOptions, Lines, Workload};
use super::tally::Step;

/// Price of every unit, minor units.
pub(super) const PRICE: i64 = 255;

/// Id of one of a bench's SKUs. What a flash sale sells is gone afterwards: every run has its own.
pub(super) fn sku(options: &BenchOptions, number: u32) -> String {
    match options.workload {
        Workload::Flash => format!("bench-flash-{:x}-{number}", options.run),
        _ => format!("bench-{number}"),
    }
}

/// What a connection asks for next.
#[derive(Debug, PartialEq)]
pub(super) enum Wish {
    /// Place one order or a batch.
    Place(Bytes),
    /// Read an order.
    Order(OrderId),
    /// Read a SKU.
    Sku(String),
}

/// Orders that a connection has placed and may read; the oldest is forgotten first.
const REMEMBERED: usize = 1_024;

/// Draws orders and writes them down, always into the same memory.
pub(super) struct Orders {
    /// What SKUs are called, up to the number.
    prefix: String,
    skus: u32,
    users: u32,
    lines: Lines,
    batch: u32,
    /// An order that is placed by itself has its key inside.
    gathered: bool,
    /// Requests in a hundred that read.
    reads: u8,
    placed: VecDeque<OrderId>,
    /// Of each order of the last request.
    lines_drawn: Vec<u32>,
    run: u64,
    worker: u32,
    orders: u64,
    draws: SmallRng,
    buffer: BytesMut,
}

impl Orders {
    pub(super) fn new(options: &BenchOptions, worker: u32) -> Self {
        Self {
            prefix: sku(options, 0).trim_end_matches('0').to_owned(),
            skus: options.workload.skus(options.skus),
            users: options.users,
            lines: options.lines,
            batch: options.batch,
            gathered: options.gather.is_some(),
            reads: if options.workload == Workload::ReadMix { options.reads } else { 0 },
            placed: VecDeque::new(),
            lines_drawn: Vec::new(),
            run: options.run,
            worker,
            orders: 0,
            draws: SmallRng::seed_from_u64(options.run ^ u64::from(worker).rotate_left(32)),
            buffer: BytesMut::with_capacity(64 << 10),
        }
    }

    /// What to ask for next. An order is read once there is one, until then a SKU.
    pub(super) fn next(&mut self) -> Wish {
        self.lines_drawn.clear();
        if self.reads == 0 || self.draws.random_range(0..100) >= self.reads {
            return Wish::Place(if self.batch > 1 { self.many() } else { self.one() });
        }
        if !self.placed.is_empty() && self.draws.random() {
            return Wish::Order(self.placed[self.draws.random_range(0..self.placed.len())]);
        }
        Wish::Sku(format!("{}{}", self.prefix, self.draws.random_range(0..self.skus)))
    }

    /// An order was placed and can be read from now on.
    pub(super) fn remember(&mut self, order: OrderId) {
        if self.placed.len() == REMEMBERED {
            self.placed.pop_front();
        }
        self.placed.push_back(order);
    }

    /// How many lines an order of the last request has.
    pub(super) fn lines_of(&self, at: u32) -> u32 {
        self.lines_drawn[at as usize]
    }

    /// The body of a request that takes a step for orders of the last request: which, and what the step calls each.
    pub(super) fn commands(&mut self, step: Step, of: &[(u32, String)]) -> Bytes {
        self.buffer.extend_from_slice(br#"{"commands":["#);
        for (index, (at, name)) in of.iter().enumerate() {
            let (noun, verb) = match step {
                Step::Pay => ("orders", "payments"),
                Step::Pick => ("orders", "fulfilments"),
                _ => ("fulfilments", step.word()),
            };
            let (comma, number) = (if index == 0 { "" } else { "," }, self.number(*at));
            write!(self.buffer, r#"{comma}{{"path":"/v1/{noun}/{name}/{verb}","idempotency_key":""#).expect(GROWS);
            write!(self.buffer, r#"{:x}-{}-{number}-{}""#, self.run, self.worker, step.word()).expect(GROWS);
            if step == Step::Pay {
                let amount = i64::from(self.lines_of(*at)) * PRICE;
                write!(self.buffer, r#","body":{{"provider_payment_id":"{name}","status":"captured","#).expect(GROWS);
                write!(self.buffer, r#""amount":{amount},"currency":"GBP"}}"#).expect(GROWS);
            }
            self.buffer.extend_from_slice(b"}");
        }
        self.buffer.extend_from_slice(b"]}");
        self.buffer.split().freeze()
    }

    /// The key of an order of the last request, counted from its first, with a word for the step.
    pub(super) fn key(&mut self, at: u32, step: &str) -> HeaderValue {
        let number = self.number(at);
        write!(self.buffer, "{:x}-{}-{number}{step}", self.run, self.worker).expect(GROWS);
        HeaderValue::from_maybe_shared(self.buffer.split().freeze()).expect("digits and letters")
    }

    /// The number of an order of the last request.
    fn number(&self, at: u32) -> u64 {
        self.orders - u64::from(self.batch) + 1 + u64::from(at)
    }

    /// The body of a request that places one order.
    fn one(&mut self) -> Bytes {
        self.orders += 1;
        self.buffer.extend_from_slice(b"{");
        if self.gathered {
            self.inner_key();
        }
        self.order();
        self.buffer.split().freeze()
    }

    /// The body of a request that places a batch.
    fn many(&mut self) -> Bytes {
        self.buffer.extend_from_slice(br#"{"orders":["#);
        for at in 0..self.batch {
            self.orders += 1;
            self.buffer.extend_from_slice(if at == 0 { b"{" } else { b",{" });
            self.inner_key();
            self.order();
        }
        self.buffer.extend_from_slice(b"]}");
        self.buffer.split().freeze()
    }

    /// The key of the last order, as a field of it.
    fn inner_key(&mut self) {
        let (run, worker, orders) = (self.run, self.worker, self.orders);
        write!(self.buffer, r#""idempotency_key":"{run:x}-{worker}-{orders}","#).expect(GROWS);
    }

    /// What follows the key, up to the closing brace.
    fn order(&mut self) {
        let user = self.draws.random_range(0..self.users);
        write!(self.buffer, r#""user_id":"u{user}","currency":"GBP","lines":["#).expect(GROWS);
        if self.lines.most == 1 {
            let number = self.draws.random_range(0..self.skus);
            self.line("", number);
            self.lines_drawn.push(1);
        } else {
            let lines = self.draws.random_range(self.lines.range());
            self.lines_drawn.push(lines);
            let numbers = sample(&mut self.draws, self.skus as usize, lines as usize);
            for (at, number) in numbers.iter().enumerate() {
                let number = u32::try_from(number).expect("there are as many SKUs at most");
                self.line(if at == 0 { "" } else { "," }, number);
            }
        }
        self.buffer.extend_from_slice(b"]}");
    }

    fn line(&mut self, comma: &str, number: u32) {
        let prefix = &self.prefix;
        write!(self.buffer, r#"{comma}{{"sku":"{prefix}{number}","quantity":1,"unit_price":{PRICE}}}"#).expect(GROWS);
    }
}

const GROWS: &str = "a buffer grows as it is written to";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::options;
    use super::*;
    use ordergrid_api::wire::{PlaceBatch, PlaceOrder};

    fn orders(workload: Workload, skus: u32, lines: (u32, u32), batch: u32) -> Orders {
        let lines = Lines { least: lines.0, most: lines.1 };
        Orders::new(&BenchOptions { skus, lines, batch, ..options(workload) }, 3)
    }

    fn order(body: &Bytes) -> PlaceOrder {
        serde_json::from_slice(body).expect("an order")
    }

    #[test]
    fn bodies_are_what_the_server_reads() {
        let order = order(&orders(Workload::Uniform, 5, (1, 1), 1).one());
        assert_eq!((order.lines.len(), order.currency.to_string().as_str()), (1, "GBP"));
        let batch: PlaceBatch = serde_json::from_slice(&orders(Workload::Uniform, 5, (1, 1), 3).many()).expect("a batch");
        let keys: Vec<_> = batch.orders.iter().map(|order| order.idempotency_key.as_ref().expect("a key").as_str()).collect();
        assert_eq!(keys, ["7-3-1", "7-3-2", "7-3-3"]);
    }

    #[test]
    fn hot_is_one_sku_uniform_all_and_a_flash_sale_one_of_its_own() {
        let drawn = |workload| {
            let mut orders = orders(workload, 4, (1, 1), 1);
            (0..200).map(|_| order(&orders.one()).lines[0].sku.as_str().to_owned()).collect::<BTreeSet<_>>()
        };
        assert_eq!(drawn(Workload::Hot), BTreeSet::from(["bench-0".to_owned()]));
        assert_eq!(drawn(Workload::Flash), BTreeSet::from(["bench-flash-7-0".to_owned()]));
        assert_eq!(drawn(Workload::Uniform), (0..4).map(|number| format!("bench-{number}")).collect());
    }

    #[test]
    fn a_cart_has_as_many_lines_as_asked_each_of_another_sku() {
        let mut orders = orders(Workload::Cart, 6, (2, 4), 1);
        let mut counts = BTreeSet::new();
        for _ in 0..200 {
            let order = order(&orders.one());
            let skus: BTreeSet<_> = order.lines.iter().map(|line| line.sku.as_str().to_owned()).collect();
            assert_eq!(skus.len(), order.lines.len());
            counts.insert(order.lines.len());
        }
        assert_eq!(counts, BTreeSet::from([2, 3, 4]));
    }

    #[test]
    fn a_mix_reads_as_often_as_asked_and_orders_once_there_are_some() {
        let mut orders = orders(Workload::ReadMix, 4, (1, 1), 1);
        let count = |orders: &mut Orders| {
            let wishes: Vec<_> = (0..1_000).map(|_| orders.next()).collect();
            let of = |wanted: fn(&Wish) -> bool| wishes.iter().filter(|wish| wanted(wish)).count();
            (of(|wish| matches!(wish, Wish::Place(_))), of(|wish| matches!(wish, Wish::Order(_))))
        };
        let (placing, reading) = count(&mut orders);
        assert!((50..200).contains(&placing), "10 in a hundred: {placing}");
        assert_eq!(reading, 0);
        orders.remember("17".parse().expect("an id"));
        let (_, reading) = count(&mut orders);
        assert!((350..550).contains(&reading), "half of what reads: {reading}");
    }

    #[test]
    fn keys_name_the_order_and_the_step() {
        let mut single = orders(Workload::Uniform, 4, (1, 1), 1);
        drop(single.next());
        assert_eq!((single.key(0, ""), single.key(0, "-pay")), ("7-3-1".parse().unwrap(), "7-3-1-pay".parse().unwrap()));
        let mut batch = orders(Workload::Uniform, 4, (1, 1), 3);
        drop((batch.next(), batch.next()));
        assert_eq!(batch.key(2, "-ship"), "7-3-6-ship", "the third of the second batch");
    }
}
