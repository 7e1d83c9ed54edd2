//! The command line: every verb with `-o json`, its exit code and what it printed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{PATIENCE, program};

/// The program, pointed at the nodes of a grid.
#[derive(Clone, Debug)]
pub struct Cli {
    program: PathBuf,
    endpoints: String,
}

/// A verb that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Cli {
    /// The program, pointed at these URLs.
    ///
    /// # Errors
    /// If the program is not there.
    pub fn new(urls: &[String]) -> Result<Self> {
        Ok(Self { program: program()?, endpoints: urls.join(",") })
    }

    /// A verb with `-o json`, ready to be started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["-o", "json"]).env("ORDERGRID_ENDPOINTS", &self.endpoints);
        command
    }

    /// Runs a verb to its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let output = self.command(arguments).stdin(Stdio::null()).output().with_context(|| format!("run {arguments:?}"))?;
        Ok(Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a verb that must end with exit code 0, and reads what it printed.
    ///
    /// # Errors
    /// If it ends otherwise, or prints something other than JSON.
    pub fn ok(&self, arguments: &[&str]) -> Result<Value> {
        let ran = self.run(arguments)?;
        ensure!(ran.code == Some(0), "{arguments:?} ended with {:?}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
        ran.json()
    }

    /// Proves the laws, and counts what there is once nothing is under way any more. Left out is what comes and goes by itself, such as rows that only
    /// remember for a while.
    ///
    /// # Errors
    /// If a law is broken, the cluster cannot be asked, or something stays under way.
    pub fn counts(&self) -> Result<BTreeMap<String, u64>> {
        let since = Instant::now();
        let report = loop {
            let report = self.verify()?;
            let flying = report["in_flight"].as_object().with_context(|| format!("nothing under way in {report}"))?;
            if flying.values().all(|number| number == 0) {
                break report;
            }
            ensure!(since.elapsed() < PATIENCE, "still under way: {report}");
        };
        let counts = report["counts"].as_object().with_context(|| format!("no counts in {report}"))?;
        let lasting = |name: &str| ["orders", "skus", "units"].iter().any(|kind| name.starts_with(kind));
        Ok(counts
            .iter()
            .filter(|(name, _)| lasting(name))
            .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
            .collect())
    }

    /// Proves the laws: the report of `cluster verify`, which must find none broken.
    ///
    /// # Errors
    /// If it finds a violation, or cannot ask.
    pub fn verify(&self) -> Result<Value> {
        let report = self.ok(&["cluster", "verify"])?;
        ensure!(report["ok"] == true, "exit code 0, and yet: {report}");
        Ok(report)
    }
}

impl Ran {
    /// What it printed, as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON:\n{}\n{}", self.stdout, self.stderr))
    }
}
