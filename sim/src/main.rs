//! `ordergrid-sim run`: histories drawn from seeds, one line for each violation that repeats it.

mod determinism;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};
use ordergrid_sim::domain::{Counts, run_seed};

/// Asked whether everything holds, and the answer is no.
const VIOLATED: u8 = 10;

#[derive(Parser)]
#[command(name = "ordergrid-sim", about = "Whether OrderGrid holds: histories drawn from a seed, against an oracle")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs the histories of seeds N, N+1, ...
    Run {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds.
        #[arg(long, default_value_t = 200)]
        count: u64,
        /// How to answer.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    if let Ok(seed) = std::env::var("SKEL") {
        ordergrid_sim::run::skeleton(seed.parse().unwrap()).unwrap();
        return ExitCode::SUCCESS;
    }
    let Verb::Run { seed, count, output } = Arguments::parse().verb;
    // A panic is a violation like any other; its message is in the report.
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let mut counts = Counts::default();
    let mut violations = Vec::new();
    for seed in seed..seed.saturating_add(count) {
        match run_seed(seed) {
            Ok(seen) => counts.merge(&seen),
            Err(violation) => violations.push((seed, violation.0)),
        }
    }
    let per_minute = count as f64 * 60.0 / start.elapsed().as_secs_f64().max(0.001);
    if let Err(error) = tell(output, count, per_minute, &counts, &violations) {
        eprintln!("cannot tell the result: {error}");
        return ExitCode::FAILURE;
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(VIOLATED) }
}

fn tell(output: Output, count: u64, per_minute: f64, counts: &Counts, violations: &[(u64, String)]) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let repeat = |seed: &u64| format!("ordergrid-sim run --seed {seed} --count 1");
    if output == Output::Json {
        let violations: Vec<_> = violations
            .iter()
            .map(|(seed, text)| serde_json::json!({ "seed": seed.to_string(), "violation": text, "repeat": repeat(seed) }))
            .collect();
        let reached: serde_json::Map<_, _> = counts.iter().map(|(state, times)| (state.to_owned(), times.into())).collect();
        let report = serde_json::json!({
            "seeds": count,
            "seeds_per_minute": per_minute.round(),
            "reached": reached,
            "violations": violations,
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    writeln!(out, "{count} seeds, {per_minute:.0} a minute")?;
    for (state, times) in counts.iter() {
        writeln!(out, "{times:>10}  {state}")?;
    }
    for (seed, text) in violations {
        writeln!(out, "seed {seed} violates: {text}\n  repeat: {}", repeat(seed))?;
    }
    Ok(())
}
