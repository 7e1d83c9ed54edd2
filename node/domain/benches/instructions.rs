//! The same work so many times over, for whoever counts instructions: `tests/instructions.sh`. A clock is of little use on a
//! busy machine; the number of instructions is the same every time.
//!
//! Arguments: what to do, and for how many entries of 100 commands.

mod cases;

use std::process::ExitCode;

use cases::{Market, Shop};
use ordergrid_domain::Entry;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let (work, entries) = match &arguments[..] {
        [work, entries] => (work.as_str(), entries.parse::<u32>().ok()),
        // How `cargo bench` calls it: there is nothing to time.
        _ => return ExitCode::SUCCESS,
    };
    let Some(entries) = entries else { return ExitCode::from(2) };
    let mut market = Market::new(if work.ends_with("-of-4") { 4 } else { 2 });
    let mut shop = Shop::new();
    let sample = shop.places(3);
    let bytes = sample.to_bytes();
    let mut done = 0;
    for _ in 0..entries {
        done += match work {
            "place-1" | "place-3" => {
                let entry = shop.places(if work == "place-1" { 1 } else { 3 });
                shop.apply(&entry)
            }
            "lives" => shop.lives(3),
            // What the others spend on making their entries.
            "make-1" => shop.places(1).commands.len(),
            "make-3" => shop.places(3).commands.len(),
            "make-hold" => shop.holds().commands.len(),
            "hold" => {
                let entry = shop.holds();
                shop.apply(&entry)
            }
            "encode" => sample.to_bytes().len(),
            "decode" => Entry::from_bytes(&bytes).map_or(0, |entry| entry.commands.len()),
            "cross-1" | "cross-1-of-4" => market.cross(1).len(),
            "cross-3" | "cross-3-of-4" => market.cross(3).len(),
            "cross-pay" => market.pay(3),
            "cross-stored" => {
                market.cross(1);
                market.checkpoint()
            }
            "checkpoint" => {
                let entry = shop.places(1);
                shop.apply(&entry);
                shop.checkpoint()
            }
            _ => return ExitCode::from(2),
        };
    }
    std::hint::black_box(done);
    ExitCode::SUCCESS
}
