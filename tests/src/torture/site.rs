//! What this machine lets the run do. What it does not is left out, and said.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Kind;
use super::plan::Need;

/// Set in the process that runs in namespaces of its own.
const INSIDE: &str = "ORDERGRID_TORTURE_INSIDE";

/// What can be done here, or why it cannot.
#[derive(Clone, Debug)]
pub struct Site {
    network: Result<(), String>,
    volume: Result<(), String>,
    clock: Result<PathBuf, String>,
}

impl Site {
    /// Namespaces of its own for this process, if it may have them: the same program is started again inside. Returns only
    /// if it is there already or cannot.
    ///
    /// # Errors
    /// If the program cannot be started again.
    pub fn enter() -> Result<()> {
        if std::env::var_os(INSIDE).is_some() || !rustix::process::geteuid().is_root() || !there("unshare", "--version") {
            return Ok(());
        }
        let mut command = Command::new("unshare");
        // With processes of its own too, so that every node goes with the run, however it ends.
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"]);
        command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(INSIDE, "1");
        Err(command.exec()).context("start again in namespaces")
    }

    /// Looks around.
    #[must_use]
    pub fn survey() -> Self {
        let inside = if std::env::var_os(INSIDE).is_some() {
            Ok(())
        } else {
            Err("it is not run by root, or `unshare` is not installed".to_owned())
        };
        let with = |program: &str, argument: &str| {
            inside.clone().and_then(|()| if there(program, argument) { Ok(()) } else { Err(format!("`{program}` is missing")) })
        };
        Self {
            network: with("ip", "-V").and(with("nsenter", "--version")),
            volume: with("mkfs.ext4", "-V").and(with("fsfreeze", "--version")),
            clock: crate::clock::faketime(),
        }
    }

    /// Nothing but what every machine can do: no namespaces, no mounts, no clocks.
    #[must_use]
    pub fn plain() -> Self {
        let unasked = || "it was not asked for".to_owned();
        Self { network: Err(unasked()), volume: Err(unasked()), clock: Err(unasked()) }
    }

    /// A machine that can do everything, for drawing.
    #[cfg(test)]
    pub(super) fn of_everything() -> Self {
        Self { network: Ok(()), volume: Ok(()), clock: Ok(PathBuf::new()) }
    }

    /// Whether a kind of trouble can be done here.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn can(&self, kind: Kind) -> Result<(), String> {
        match kind.need() {
            Need::Nothing => Ok(()),
            Need::Network => self.network.clone(),
            Need::Volume => self.volume.clone(),
            Need::Clock => self.clock.clone().map(drop),
        }
    }

    /// The nodes have namespaces of their own.
    pub(super) fn namespaces(&self) -> bool {
        self.network.is_ok()
    }

    /// The library that answers for the clock.
    pub(super) fn faketime(&self) -> Option<&PathBuf> {
        self.clock.as_ref().ok()
    }
}

fn there(program: &str, argument: &str) -> bool {
    let quiet = Command::new(program).arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok()
}

/// Runs a command of the system to its end.
///
/// # Errors
/// If it fails; with what it said.
pub(super) fn system(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("a command has a name")?;
    let output = Command::new(program).args(words).stdin(Stdio::null()).output().with_context(|| format!("run `{line}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{line}` ended with {}: {}", output.status, said.trim());
    Ok(())
}
