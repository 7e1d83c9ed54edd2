//! Fixed scripts, each in a process of its own.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::campaign::{jobs, told_by_process};
use super::one::{Told, tell};
use super::{HARNESS, HELD, Output, SEED_VARIABLE, VIOLATED, this_program};
use crate::run::watch_panics;
use crate::scenarios::{ALL, Scenario, UNSCRIPTED, find};
use crate::trace;

/// Arguments of `scenarios`.
#[derive(Clone, Debug, Args)]
pub(super) struct ScenarioArguments {
    /// Those whose names contain one of these; all of them by default.
    names: Vec<String>,
    /// Say what there is, and what cannot be scripted; run nothing.
    #[arg(long)]
    list: bool,
    /// Print everything that happens, on standard error; with one name.
    #[arg(long)]
    trace: bool,
    /// Processes at a time; by default one per core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Other chance than usual: for the network, the disks and the elections.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Run the one scenario in this process; what the verb starts.
    #[arg(long, hide = true)]
    here: bool,
}

/// A scenario as it is told.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    rule: &'static str,
    story: &'static str,
    mutant: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<Told>,
}

impl Line {
    fn of(scenario: &Scenario, told: Option<Told>) -> Self {
        Self { name: scenario.name, rule: scenario.rule, story: scenario.story, mutant: scenario.mutant, told }
    }

    fn text(&self) -> String {
        let Some(told) = &self.told else {
            return format!("{:<58} {:<24} {}", self.name, self.rule, self.mutant.unwrap_or("-"));
        };
        let end = match told.end.as_str() {
            "held" => "ok".to_owned(),
            "violated" => format!("VIOLATED {}: {}", told.judge, told.text),
            _ => format!("HARNESS: {}", told.text),
        };
        format!("{:<58} {:<24} {end}", self.name, self.rule)
    }
}

/// The verb `scenarios`.
pub(super) fn run(arguments: &ScenarioArguments) -> anyhow::Result<u8> {
    if arguments.here {
        let [name] = &arguments.names[..] else { anyhow::bail!("one scenario runs in a process") };
        return here(find(name).with_context(|| format!("there is no scenario {name}"))?, arguments);
    }
    let wanted = wanted(&arguments.names)?;
    if arguments.list {
        print(arguments.output, &wanted.into_iter().map(|scenario| Line::of(scenario, None)).collect::<Vec<_>>())?;
        if matches!(arguments.output, Output::Table) {
            println!();
            UNSCRIPTED.iter().for_each(|(rule, why)| println!("{rule:<10} {why}"));
        }
        return Ok(HELD);
    }
    if arguments.trace {
        let [scenario] = wanted[..] else { anyhow::bail!("--trace is for one scenario") };
        let status = process(scenario, arguments)?.status().context("the scenario's process")?;
        return status.code().and_then(|code| u8::try_from(code).ok()).context("the scenario's process was ended by a signal");
    }
    let lines = played(&wanted, arguments)?;
    print(arguments.output, &lines)?;
    Ok(code(&lines))
}

/// A failed harness is not a violation, and outranks it: nothing is known then.
fn code(lines: &[Line]) -> u8 {
    let ends: Vec<_> = lines.iter().filter_map(|line| line.told.as_ref()).map(|told| told.end.as_str()).collect();
    if ends.iter().any(|end| *end != "held" && *end != "violated") {
        HARNESS
    } else if ends.contains(&"violated") {
        VIOLATED
    } else {
        HELD
    }
}

fn wanted(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    let named = |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| scenario.name.contains(name.as_str()));
    let wanted: Vec<_> = ALL.iter().copied().flatten().filter(named).collect();
    anyhow::ensure!(!wanted.is_empty(), "no scenario has such a name; `scenarios --list` says which there are");
    Ok(wanted)
}

fn played(wanted: &[&'static Scenario], arguments: &ScenarioArguments) -> anyhow::Result<Vec<Line>> {
    let next = AtomicUsize::new(0);
    let told = Mutex::new(BTreeMap::new());
    let work = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(scenario) = wanted.get(number) else { return Ok(()) };
            let one = told_by_process(process(scenario, arguments)?)?;
            told.lock().map_err(|_| anyhow::anyhow!("a worker panicked"))?.insert(number, one);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs(arguments.jobs)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })?;
    let told = told.into_inner().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
    Ok(told.into_iter().map(|(number, told)| Line::of(wanted[number], Some(told))).collect())
}

fn process(scenario: &Scenario, arguments: &ScenarioArguments) -> anyhow::Result<Command> {
    let (mut process, seed) = (Command::new(this_program()?), arguments.seed.to_string());
    process.args(["scenarios", "--here", scenario.name, "--seed", &seed]).args(arguments.trace.then_some("--trace"));
    process.env_clear().env(SEED_VARIABLE, format!("{}-{seed}", scenario.name));
    for kept in ["RUST_BACKTRACE", "ORDERGRID_SIM_LOG"] {
        process.envs(std::env::var_os(kept).map(|value| (kept, value)));
    }
    Ok(process)
}

/// Plays it in this process, and tells.
fn here(scenario: &Scenario, arguments: &ScenarioArguments) -> anyhow::Result<u8> {
    anyhow::ensure!(std::env::var_os(SEED_VARIABLE).is_some(), "`--here` is for the processes that this verb starts");
    if arguments.trace {
        trace::tell(Box::new(BufWriter::new(std::io::stderr())));
    }
    if let Ok(filter) = std::env::var("ORDERGRID_SIM_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    }
    watch_panics();
    let (plan, outcome) = scenario.play(arguments.seed);
    trace::flush();
    let told = tell(&plan, &outcome);
    println!("{}", serde_json::to_string(&told)?);
    std::io::stdout().flush()?;
    Ok(match told.end.as_str() {
        "held" => HELD,
        "violated" => VIOLATED,
        _ => HARNESS,
    })
}

fn print(output: Output, lines: &[Line]) -> anyhow::Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string(lines)?,
        Output::Table => lines.iter().map(Line::text).collect::<Vec<_>>().join("\n"),
    };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(end: &str) -> Line {
        let told = serde_json::json!({
            "end": end, "judge": "", "text": "", "hash": "", "events": 0, "seconds": 0.0, "operations": 0, "troubles": 0,
            "clients": 0, "rare": {},
        });
        Line::of(&ALL[0][0], Some(serde_json::from_value(told).expect("it is one")))
    }

    #[test]
    fn a_failed_harness_outranks_a_violation() {
        for (ends, expected) in [
            (vec!["held", "held"], HELD),
            (vec!["held", "violated"], VIOLATED),
            (vec!["violated", "harness"], HARNESS),
            (vec!["held", "harness"], HARNESS),
        ] {
            assert_eq!(code(&ends.iter().map(|end| line(end)).collect::<Vec<_>>()), expected, "{ends:?}");
        }
    }

    #[test]
    fn scenarios_are_found_by_a_part_of_their_names() {
        assert_eq!(wanted(&[]).expect("all of them").len(), ALL.iter().map(|theme| theme.len()).sum::<usize>());
        assert!(wanted(&["no such thing".to_owned()]).is_err());
        let first = ALL[0][0].name;
        assert!(wanted(&[first.to_owned()]).expect("it is there").iter().any(|scenario| scenario.name == first));
    }
}
