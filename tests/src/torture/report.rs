//! All rounds of a run in one page: what held, and how long clients had no answer after each kind of trouble.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::outage::{Outage, quantile};
use super::plan::Kind;
use super::round::Round;

/// A run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every round so far.
    pub rounds: Vec<Round>,
}

impl Report {
    /// Outages by kind.
    #[must_use]
    pub fn outages(&self) -> BTreeMap<Kind, Outage> {
        let mut outages: BTreeMap<Kind, Outage> = BTreeMap::new();
        for (kind, _, outage) in self.rounds.iter().flat_map(|round| &round.strikes) {
            outages.entry(*kind).or_default().add(outage);
        }
        outages
    }

    /// Rounds in which a law was broken.
    #[must_use]
    pub fn broken(&self) -> usize {
        self.rounds.iter().filter(|round| !round.violations.is_empty()).count()
    }

    /// As a table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |words: String| writeln!(text, "{words}").expect("a string takes everything");
        let sum = |of: fn(&Round) -> usize| self.rounds.iter().map(of).sum::<usize>();
        let operations = sum(|round| round.ends.iter().sum());
        line(format!(
            "{} rounds, {} with five nodes; {operations} operations, {} done, {} refused, {} refused for now, {} unknown; {} orders",
            self.rounds.len(),
            sum(|round| usize::from(round.nodes == 5)),
            sum(|round| round.ends[0]),
            sum(|round| round.ends[1]),
            sum(|round| round.ends[2]),
            sum(|round| round.ends[3]),
            sum(|round| round.orders),
        ));
        line(
            "Longest time without an answer, of each client, from a strike until the next or the end of the load, in ms:"
                .to_owned(),
        );
        line(format!(
            "{:<16}{:>8}{:>8}{:>8}{:>8}{:>8}   up to 50, 100, 200, 500, 1000, 2000, 5000, 10000, more",
            "strike", "strikes", "clients", "p50", "p90", "max"
        ));
        for (kind, outage) in self.outages() {
            let [p50, p90, max] = [0.5, 0.9, 1.0].map(|part| quantile(&outage.gaps_ms, part));
            let classes: Vec<String> = outage.classes().iter().map(ToString::to_string).collect();
            let (name, strikes, clients) = (kind.name(), outage.strikes, outage.gaps_ms.len());
            line(format!("{name:<16}{strikes:>8}{clients:>8}{p50:>8}{p90:>8}{max:>8}   {}", classes.join(" ")));
        }
        let ready: Vec<u64> = self.rounds.iter().map(|round| round.ready_ms).collect();
        let [p50, p90, max] = [0.5, 0.9, 1.0].map(|part| quantile(&ready, part));
        line(format!("Ready again, everything being mended: p50 {p50}, p90 {p90}, max {max} ms"));
        let took: Duration = self.rounds.iter().map(|round| round.took).sum();
        line(format!("{} rounds in which a law was broken; {} s in all", self.broken(), took.as_secs()));
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let outages: serde_json::Map<String, Value> =
            self.outages().iter().map(|(kind, outage)| (kind.name().to_owned(), outage.json())).collect();
        let rounds: Vec<Value> = self.rounds.iter().map(Round::json).collect();
        json!({"rounds": rounds.len(), "broken": self.broken(), "outages": outages, "each": rounds})
    }
}
