//! The domain alone, against an independent model: no nodes, and thousands of histories a minute.

use std::time::Instant;

use clap::Args;

use super::{HELD, Output, VIOLATED};
use crate::domain::{Counts, run_seed};

#[derive(Clone, Debug, Args)]
pub(super) struct DomainArguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    count: u64,
    /// How to answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The verb `domain`.
pub(super) fn run(arguments: &DomainArguments) -> anyhow::Result<u8> {
    // A panic is a violation like any other; its message is in the report.
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let mut counts = Counts::default();
    let mut violations = Vec::new();
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.count) {
        match run_seed(seed) {
            Ok(seen) => counts.merge(&seen),
            Err(violation) => violations.push((seed, violation.0)),
        }
    }
    let per_minute = arguments.count as f64 * 60.0 / start.elapsed().as_secs_f64().max(0.001);
    tell(arguments.output, arguments.count, per_minute, &counts, &violations)?;
    Ok(if violations.is_empty() { HELD } else { VIOLATED })
}

fn tell(output: Output, count: u64, per_minute: f64, counts: &Counts, violations: &[(u64, String)]) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let repeat = |seed: &u64| format!("ordergrid-sim domain --seed {seed} --count 1");
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
