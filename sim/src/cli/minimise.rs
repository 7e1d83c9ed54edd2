//! Leaves out what a failing history does not need to fail.

use clap::Args;

use super::campaign::told_by;
use super::one::OneArguments;
use super::{Drawn, HARNESS, HELD, VIOLATED};

#[derive(Clone, Debug, Args)]
pub(super) struct MinimiseArguments {
    /// The seed.
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    drawn: Drawn,
}

/// The verb `minimise`.
pub(super) fn run(arguments: &MinimiseArguments) -> anyhow::Result<u8> {
    let mut least = OneArguments::of(arguments.seed, &arguments.drawn);
    let whole = told_by(&least)?;
    match whole.end.as_str() {
        "held" => {
            println!("this history holds");
            return Ok(HELD);
        }
        "harness" => {
            println!("the harness fails: {}", whole.text);
            return Ok(HARNESS);
        }
        _ => println!("{}: {}", whole.judge, whole.text),
    }
    let fails = |candidate: &OneArguments| -> anyhow::Result<bool> {
        let told = told_by(candidate)?;
        Ok(told.end == whole.end && told.judge == whole.judge)
    };
    let mut left: Vec<usize> = (0..whole.troubles).collect();
    let mut share = left.len();
    // Halves first, then quarters, down to single troubles.
    while share > 0 {
        let mut from = 0;
        while from < left.len() {
            let without: Vec<usize> = left[from..left.len().min(from + share)].to_vec();
            let skip = least.skip.iter().copied().chain(without.iter().copied()).collect();
            let candidate = OneArguments { skip, ..least.clone() };
            if fails(&candidate)? {
                left.retain(|number| !without.contains(number));
                least = candidate;
                println!("{} troubles left", left.len());
            } else {
                from += share;
            }
        }
        share /= 2;
    }
    for clients in 1..whole.clients {
        let candidate = OneArguments { clients: Some(clients), ..least.clone() };
        if fails(&candidate)? {
            least = candidate;
            break;
        }
    }
    least.skip.sort_unstable();
    for planned in &least.plan().troubles {
        println!(
            "after {:>7.3} s, for {:>6.3} s: {:?}",
            planned.at.as_secs_f64(),
            planned.lasts.as_secs_f64(),
            planned.trouble
        );
    }
    println!("ordergrid-sim replay {} --trace", least.words().join(" "));
    Ok(VIOLATED)
}
