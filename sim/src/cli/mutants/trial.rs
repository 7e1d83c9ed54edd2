//! Whether a run caught the bug, let it live, or proves nothing. Decided from exit code and report alone.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// The seed that trials start with.
const FIRST_SEED: u64 = 1;
/// How `run` says that a judge objected.
const VIOLATED: i32 = 10;
/// Lines of a failed program's last words that are told.
const LAST_WORDS: usize = 12;

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A judge objected.
    Caught(Caught),
    /// All seeds were clean, and a fixed script was not.
    Scripted {
        /// How many seeds there were.
        seeds: u64,
        /// The script.
        scenario: String,
        /// The judge that objected.
        judge: String,
        /// What it saw.
        violation: String,
    },
    /// All seeds were clean, and all scripts.
    Survived {
        /// How many there were.
        seeds: u64,
    },
    /// The harness failed before there was an answer.
    Unproven(String),
}

/// How a mutant was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The judge that objected.
    pub judge: String,
    /// What it saw.
    pub violation: String,
    /// The seed.
    pub seed: u64,
    /// Seeds run until then, this one included.
    pub seeds: u64,
    /// The line that repeats it, in the mutant's program.
    pub repeat: String,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught(caught) => write!(f, "caught by {} with seed {}: {}", caught.judge, caught.seed, caught.violation),
            Self::Scripted { scenario, judge, violation, .. } => write!(f, "caught by {judge} in {scenario}: {violation}"),
            Self::Survived { seeds } => write!(f, "SURVIVED {seeds} seeds and every script"),
            Self::Unproven(why) => write!(f, "unproven: {why}"),
        }
    }
}

/// Runs that are to catch a mutant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial<'a> {
    pub(super) profile: &'a str,
    pub(super) seeds: u64,
    pub(super) jobs: usize,
}

/// What `run -o json` says, as far as it matters here.
#[derive(Deserialize)]
struct Report {
    seeds: u64,
    failures: Vec<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    seed: String,
    judge: String,
    violation: String,
    repeat: String,
}

/// What `scenarios -o json` says, as far as it matters here.
#[derive(Deserialize)]
struct Played {
    name: String,
    told: PlayedEnd,
}

#[derive(Deserialize)]
struct PlayedEnd {
    end: String,
    judge: String,
    text: String,
}

impl Trial<'_> {
    /// Runs the mutant's program until a judge objects, in drawn histories first and then in fixed scripts.
    pub(super) fn run(&self, mutant: impl Program) -> anyhow::Result<Fate> {
        let drawn = self.judge(&mutant(&self.arguments(FIRST_SEED))?)?;
        let Fate::Survived { seeds } = drawn else { return Ok(drawn) };
        let scripts = scripts(&mutant(&words(&["scenarios", "-o", "json", "--jobs", &self.jobs.to_string()]))?)?;
        let objected = scripts.into_iter().find(|script| script.told.end == "violated");
        Ok(objected.map_or(drawn, |Played { name: scenario, told: PlayedEnd { judge, text: violation, .. } }| Fate::Scripted {
            seeds,
            scenario,
            judge,
            violation,
        }))
    }

    /// A catch counts only if the same seed is clean in the program without the mutant: else the seed shows another bug,
    /// or a judge that objects to everything.
    pub(super) fn confirm(&self, fate: Fate, sound: impl Program) -> anyhow::Result<Fate> {
        if let Fate::Scripted { scenario, .. } = &fate {
            let scripts = scripts(&sound(&words(&["scenarios", "-o", "json", scenario]))?).context("without the mutant")?;
            let clean = |script: &Played| script.name != *scenario || script.told.end == "held";
            ensure!(scripts.iter().all(clean), "{scenario} objects without the mutant too");
        }
        if let Fate::Caught(caught) = &fate {
            let alone = Trial { seeds: 1, jobs: 1, ..*self };
            let answer = sound(&alone.arguments(caught.seed)).and_then(|ended| alone.judge(&ended));
            match answer.context("without the mutant")? {
                Fate::Survived { .. } => {}
                without => bail!("seed {} objects without the mutant too: {without}", caught.seed),
            }
        }
        Ok(fate)
    }

    fn arguments(&self, first: u64) -> Vec<String> {
        let (first, count, jobs) = (first.to_string(), self.seeds.to_string(), self.jobs.to_string());
        let fixed = ["run", "--profile", self.profile, "--until-violation", "-o", "json"];
        let drawn = ["--seed", &first, "--count", &count, "--jobs", &jobs];
        words(&[&fixed[..], &drawn].concat())
    }

    /// Reads an answer. Anything but a clean run of every seed, or a violation with its seed, proves nothing.
    fn judge(&self, ended: &Ended) -> anyhow::Result<Fate> {
        let report = || serde_json::from_str::<Report>(&ended.said).context("the report of the run cannot be read");
        match ended.code {
            Some(0) => {
                let report = report()?;
                ensure!(report.failures.is_empty(), "the run ended clean and reports {} failures", report.failures.len());
                ensure!(report.seeds >= self.seeds, "the run ended after {} of {} seeds", report.seeds, self.seeds);
                Ok(Fate::Survived { seeds: report.seeds })
            }
            Some(VIOLATED) => self.first_of(report()?).map(Fate::Caught),
            Some(code) => bail!("the run failed with exit code {code}: {}", last_words(&ended.complained)),
            None => bail!("the run was ended by a signal: {}", last_words(&ended.complained)),
        }
    }

    /// The failure of the lowest seed: with several jobs a later one may have ended earlier.
    fn first_of(&self, report: Report) -> anyhow::Result<Caught> {
        let mut first = None;
        for failure in report.failures {
            let seed: u64 = failure.seed.parse().with_context(|| format!("\"{}\" is no seed", failure.seed))?;
            if first.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                first = Some((seed, failure));
            }
        }
        let (seed, Failure { judge, violation, repeat, .. }) =
            first.context("the run ended with a violation and names none")?;
        let seeds = seed.saturating_sub(FIRST_SEED) + 1;
        Ok(Caught { judge, violation, seed, seeds, repeat })
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// How every script ended. A mutant may keep one from getting as far as its scene; the others count all the same.
fn scripts(ended: &Ended) -> anyhow::Result<Vec<Played>> {
    serde_json::from_str(&ended.said).with_context(|| format!("the scripts cannot be read: {}", last_words(&ended.complained)))
}

/// A simulator, called with these arguments.
pub(super) trait Program: Fn(&[String]) -> anyhow::Result<Ended> {}

impl<F: Fn(&[String]) -> anyhow::Result<Ended>> Program for F {}

/// How a program ended.
#[derive(Clone)]
pub(super) struct Ended {
    /// `None`: by a signal.
    code: Option<i32>,
    said: String,
    complained: String,
}

/// The simulator that lies there.
pub(super) fn at(path: &Path) -> impl Program {
    move |arguments| {
        let ended = Command::new(path).args(arguments).output().with_context(|| format!("cannot run {}", path.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ended { code: ended.status.code(), said: text(&ended.stdout), complained: text(&ended.stderr) })
    }
}

/// The end of what a program complained about.
pub(super) fn last_words(complained: &str) -> String {
    let lines: Vec<&str> = complained.lines().collect();
    lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn caught(seed: u64) -> Caught {
        Caught {
            judge: "NoOversell".to_owned(),
            violation: "A-1: 7 promised, 5 there".to_owned(),
            seed,
            seeds: seed,
            repeat: format!("ordergrid-sim replay --seed {seed}"),
        }
    }

    fn failure(seed: &str) -> String {
        let repeat = format!("ordergrid-sim replay --seed {seed}");
        serde_json::json!({ "seed": seed, "judge": "NoOversell", "violation": "A-1: 7 promised, 5 there", "repeat": repeat })
            .to_string()
    }

    #[test]
    fn only_a_clean_run_of_all_seeds_and_a_named_violation_prove_anything() {
        let report = |seeds: u64, failures: &[&str]| {
            let failures: Vec<String> = failures.iter().map(|seed| failure(seed)).collect();
            format!("{{\"seeds\":{seeds},\"more\":1,\"failures\":[{}]}}\n", failures.join(","))
        };
        let no = |said: &str| Err(said.to_owned());
        #[rustfmt::skip]
        let cases = [
            // exit code, report,                     fate
            (Some(0),     report(100, &[]),           Ok(Fate::Survived { seeds: 100 })),
            (Some(0),     report(99, &[]),            no("the run ended after 99 of 100 seeds")),
            (Some(0),     report(100, &["3"]),        no("the run ended clean and reports 1 failures")),
            (Some(0),     String::new(),              no("the report of the run cannot be read")),
            (Some(10),    report(7, &["7"]),          Ok(Fate::Caught(caught(7)))),
            (Some(10),    report(9, &["9", "8"]),     Ok(Fate::Caught(caught(8)))),
            (Some(10),    report(7, &[]),             no("the run ended with a violation and names none")),
            (Some(10),    report(7, &["x"]),          no("\"x\" is no seed")),
            (Some(10),    "thread panicked".into(),   no("the report of the run cannot be read")),
            (Some(1),     report(7, &["7"]),          no("the run failed with exit code 1: no place left")),
            (Some(2),     report(7, &["7"]),          no("the run failed with exit code 2: no place left")),
            (None,        report(7, &["7"]),          no("the run was ended by a signal: no place left")),
        ];
        let trial = Trial { profile: "quick", seeds: 100, jobs: 2 };
        for (code, said, expected) in cases {
            let ended = Ended { code, said, complained: "no place left\n".to_owned() };
            let fate = trial.judge(&ended).map_err(|error| error.to_string());
            assert_eq!(fate, expected, "{code:?} {}", ended.said);
        }
    }

    #[test]
    fn a_catch_counts_only_when_its_seed_is_clean_without_the_mutant() {
        let ended = |code, said: &str| Ended { code: Some(code), said: said.to_owned(), complained: String::new() };
        let clean = ended(0, "{\"seeds\":1,\"failures\":[]}");
        let objects = ended(10, &format!("{{\"seeds\":1,\"failures\":[{}]}}", failure("7")));
        let broken = ended(1, "");
        let asked = std::cell::RefCell::new(String::new());
        let program = |ended: &Ended| {
            let (ended, asked) = (ended.clone(), &asked);
            move |arguments: &[String]| {
                *asked.borrow_mut() = arguments.join(" ");
                Ok(ended.clone())
            }
        };
        let trial = Trial { profile: "flash", seeds: 100, jobs: 2 };
        let fate = trial.run(program(&objects)).expect("it answers");
        assert_eq!(fate, Fate::Caught(caught(7)));
        assert_eq!(*asked.borrow(), "run --profile flash --until-violation -o json --seed 1 --count 100 --jobs 2");

        assert_eq!(trial.confirm(fate.clone(), program(&clean)).expect("it is clean"), fate);
        assert_eq!(*asked.borrow(), "run --profile flash --until-violation -o json --seed 7 --count 1 --jobs 1");
        let other = trial.confirm(fate.clone(), program(&objects)).expect_err("it objects too").to_string();
        assert!(other.starts_with("seed 7 objects without the mutant too"), "{other}");
        assert!(trial.confirm(fate, program(&broken)).is_err(), "nothing is known without an answer");
        let survived = Fate::Survived { seeds: 100 };
        assert_eq!(trial.confirm(survived.clone(), program(&broken)).expect("nothing is asked"), survived);
    }

    #[test]
    fn what_no_history_shows_is_tried_on_the_scripts() {
        let program = |end: &'static str| {
            move |arguments: &[String]| {
                let script = |name, end| serde_json::json!({ "name": name, "told": { "end": end, "judge": "J", "text": "t" } });
                let said = match arguments[0].as_str() {
                    "run" => "{\"seeds\":100,\"failures\":[]}".to_owned(),
                    _ => serde_json::json!([script("one", "harness"), script("two", end)]).to_string(),
                };
                Ok(Ended { code: Some(if arguments[0] == "run" { 0 } else { VIOLATED }), said, complained: String::new() })
            }
        };
        let trial = Trial { profile: "flash", seeds: 100, jobs: 2 };
        assert_eq!(trial.run(program("held")).expect("it answers"), Fate::Survived { seeds: 100 });
        let fate = trial.run(program("violated")).expect("it answers");
        let expected =
            Fate::Scripted { seeds: 100, scenario: "two".to_owned(), judge: "J".to_owned(), violation: "t".to_owned() };
        assert_eq!(fate, expected);
        assert_eq!(trial.confirm(fate.clone(), program("held")).expect("it is clean"), expected);
        assert!(trial.confirm(fate, program("violated")).is_err(), "it objects without the mutant");
    }

    #[test]
    fn the_end_of_a_long_complaint_is_told() {
        let long: Vec<String> = (0..100).map(|line| line.to_string()).collect();
        assert_eq!(last_words(&long.join("\n")), long[100 - LAST_WORDS..].join("\n"));
        assert_eq!((last_words(""), last_words("a\nb\n")), (String::new(), "a\nb".to_owned()));
    }
}
