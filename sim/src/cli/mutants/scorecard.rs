//! How the results are told: for people, for programs, for the README of sim.

use std::fmt::Write;

use serde_json::json;

use super::{Fate, Mutant};

/// A mutant and what became of it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) mutant: Mutant,
    pub(super) fate: Fate,
}

impl Row {
    /// The judge that caught it, and the expected one if that was another.
    fn judge(&self) -> String {
        match &self.fate {
            Fate::Caught(caught) if caught.judge == self.mutant.expected => caught.judge.clone(),
            Fate::Caught(caught) => format!("{} (expected {})", caught.judge, self.mutant.expected),
            Fate::Scripted { judge, .. } => judge.clone(),
            Fate::Survived { .. } => "nobody".to_owned(),
            Fate::Unproven(_) => "unproven".to_owned(),
        }
    }

    /// Seeds needed, or run in vain.
    fn seeds(&self) -> String {
        match &self.fate {
            Fate::Caught(caught) => caught.seeds.to_string(),
            Fate::Scripted { scenario, .. } => format!("scenario {scenario}"),
            Fate::Survived { seeds } => format!("> {seeds}"),
            Fate::Unproven(_) => "-".to_owned(),
        }
    }
}

/// Aligned columns; a line below for whatever a reader has to act on.
pub(super) fn table(rows: &[Row]) -> String {
    let head = ["mutant", "profile", "caught by", "seeds", "breaks"].map(str::to_owned);
    let mut lines = vec![head];
    for row in rows {
        let Mutant { name, profile, breaks, .. } = &row.mutant;
        lines.push([name.clone(), profile.clone(), row.judge(), row.seeds(), breaks.clone()]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 4] = std::array::from_fn(width);
    let mut out = String::new();
    for [name, profile, judge, seeds, breaks] in &lines {
        let [w, x, y, z] = widths;
        writeln!(out, "{name:w$}  {profile:x$}  {judge:y$}  {seeds:>z$}  {breaks}").expect(INTO_A_STRING);
    }
    let alive = |row: &&Row| !matches!(row.fate, Fate::Caught(_) | Fate::Scripted { .. });
    for row in rows.iter().filter(alive) {
        writeln!(out, "{}: {}", row.mutant.name, row.fate).expect(INTO_A_STRING);
    }
    let caught = rows.len() - rows.iter().filter(alive).count();
    writeln!(out, "{caught} of {} caught", rows.len()).expect(INTO_A_STRING);
    out
}

/// The table of the README.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut out = String::from("| Mutant | Breaks | Profile | Caught by | Seeds |\n|---|---|---|---|---:|\n");
    for row in rows {
        let Mutant { name, breaks, profile, .. } = &row.mutant;
        let (judge, seeds, breaks) = (row.judge(), row.seeds(), breaks.replace('|', "\\|"));
        writeln!(out, "| `{name}` | {breaks} | {profile} | {judge} | {seeds} |").expect(INTO_A_STRING);
    }
    out
}

/// One object.
pub(super) fn json(rows: &[Row]) -> String {
    let mutants = rows.iter().map(|row| {
        let Mutant { name, breaks, expected, profile, .. } = &row.mutant;
        let mut told = json!({ "mutant": name, "breaks": breaks, "expected": expected, "profile": profile });
        let fate = match &row.fate {
            Fate::Caught(caught) => json!({
                "fate": "caught",
                "judge": caught.judge,
                "violation": caught.violation,
                "seed": caught.seed.to_string(),
                "seeds": caught.seeds,
                "repeat": caught.repeat,
            }),
            Fate::Scripted { seeds, scenario, judge, violation } => json!({
                "fate": "scripted",
                "judge": judge,
                "violation": violation,
                "scenario": scenario,
                "seeds": seeds,
            }),
            Fate::Survived { seeds } => json!({ "fate": "survived", "seeds": seeds }),
            Fate::Unproven(why) => json!({ "fate": "unproven", "why": why }),
        };
        if let (Some(told), serde_json::Value::Object(fate)) = (told.as_object_mut(), fate) {
            told.extend(fate);
        }
        told
    });
    format!("{}\n", json!({ "mutants": mutants.collect::<Vec<_>>() }))
}

const INTO_A_STRING: &str = "writing into a string cannot fail";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::mutants::{Caught, patch, trial};

    fn rows() -> Vec<Row> {
        let row = |name: &str, fate| Row { mutant: patch::tests::sample(name), fate };
        let expected = Caught { judge: "AllOrNothing".to_owned(), ..trial::tests::caught(12) };
        vec![
            row("ack-early", Fate::Caught(expected)),
            row("twice", Fate::Caught(trial::tests::caught(3))),
            row("alive", Fate::Survived { seeds: 1_000 }),
            row("stuck", Fate::Unproven("no compiler".to_owned())),
        ]
    }

    #[test]
    fn the_table_is_aligned_and_names_what_was_not_caught() {
        let expected = "\
mutant     profile  caught by                            seeds  breaks
ack-early  quick    AllOrNothing                            12  rule 7: nothing is released
twice      quick    NoOversell (expected AllOrNothing)       3  rule 7: nothing is released
alive      quick    nobody                              > 1000  rule 7: nothing is released
stuck      quick    unproven                                 -  rule 7: nothing is released
alive: SURVIVED 1000 seeds and every script
stuck: unproven: no compiler
2 of 4 caught
";
        assert_eq!(table(&rows()), expected);
    }

    #[test]
    fn the_readme_gets_one_row_a_mutant() {
        let mut rows = rows();
        rows.truncate(3);
        rows[2].mutant.breaks = "a|b".to_owned();
        let expected = "\
| Mutant | Breaks | Profile | Caught by | Seeds |
|---|---|---|---|---:|
| `ack-early` | rule 7: nothing is released | quick | AllOrNothing | 12 |
| `twice` | rule 7: nothing is released | quick | NoOversell (expected AllOrNothing) | 3 |
| `alive` | a\\|b | quick | nobody | > 1000 |
";
        assert_eq!(markdown(&rows), expected);
    }

    #[test]
    fn a_program_reads_the_same() {
        let told: serde_json::Value = serde_json::from_str(&json(&rows())).expect("it is JSON");
        let field = |name: &str| told["mutants"].as_array().unwrap().iter().map(|row| row[name].clone()).collect::<Vec<_>>();
        assert_eq!(field("mutant"), ["ack-early", "twice", "alive", "stuck"]);
        assert_eq!(field("fate"), ["caught", "caught", "survived", "unproven"]);
        assert_eq!(field("seeds"), [json!(12), json!(3), json!(1000), json!(null)]);
        assert_eq!(told["mutants"][1]["repeat"], "ordergrid-sim replay --seed 3");
        assert_eq!(told["mutants"][3]["why"], "no compiler");
    }
}
