//! What the machine costs, in time: `cargo bench -p ordergrid-domain --bench machine`. Each figure is for an entry of 100
//! commands, or for a checkpoint of 10,000 orders.

mod cases;

use cases::{COMMANDS, Market, Shop};
use divan::Bencher;
use divan::counter::ItemsCount;
use ordergrid_domain::Entry;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// Orders of one line and of three, hold and place in one.
#[divan::bench(args = [1, 3], sample_count = 200)]
fn place(bencher: Bencher<'_, '_>, lines: u64) {
    let mut shop = Shop::new();
    let mut entries = Vec::new();
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| {
        let entry = shop.places(lines);
        let outcomes = shop.apply(&entry);
        entries.push(entry);
        outcomes
    });
}

/// Orders of three lines, placed, paid, picked, shipped and delivered: five entries.
#[divan::bench(sample_count = 200)]
fn lives(bencher: Bencher<'_, '_>) {
    let mut shop = Shop::new();
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| shop.lives(3));
}

/// Orders of one line and of three over four shards, from their holds to the end of their messages.
#[divan::bench(args = [1, 3], sample_count = 200)]
fn cross(bencher: Bencher<'_, '_>, lines: u64) {
    let mut market = Market::new(4);
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| market.cross(lines));
}

/// Orders of three lines over four shards, placed and paid.
#[divan::bench(sample_count = 200)]
fn cross_pay(bencher: Bencher<'_, '_>) {
    let mut market = Market::new(4);
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| market.pay(3));
}

/// A checkpoint of the four shards after a hundred orders of one line.
#[divan::bench(sample_count = 200)]
fn cross_freeze(bencher: Bencher<'_, '_>) {
    let mut market = Market::new(4);
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| (market.cross(1).len(), market.checkpoint()));
}

/// One SKU, held for orders of other shards.
#[divan::bench(sample_count = 200)]
fn hold(bencher: Bencher<'_, '_>) {
    let mut shop = Shop::new();
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| {
        let entry = shop.holds();
        shop.apply(&entry)
    });
}

/// An entry of orders with three lines, to bytes.
#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let entry = Shop::new().places(3);
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| entry.to_bytes());
}

/// And back.
#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let bytes = Shop::new().places(3).to_bytes();
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| Entry::from_bytes(&bytes).expect("it was just written"));
}

/// What a checkpoint takes while nothing can be applied.
#[divan::bench(sample_count = 20)]
fn freeze(bencher: Bencher<'_, '_>) {
    let filled = || {
        let mut shop = Shop::new();
        for _ in 0..10_000 / COMMANDS {
            let entry = shop.places(1);
            shop.apply(&entry);
        }
        shop
    };
    bencher.counter(ItemsCount::new(10_000_u64)).with_inputs(filled).bench_local_refs(Shop::checkpoint);
}
