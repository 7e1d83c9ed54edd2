//! A process that a test has started: read from, signalled, and gone when the test is over, however it ends.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for anything that a process is to say or do. A test that gets here has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The program under test.
///
/// # Errors
/// Says what to set when nobody said where it is.
pub fn program() -> Result<PathBuf> {
    let path = std::env::var_os("ORDERGRID_BIN")
        .context("ORDERGRID_BIN is not set: these tests run the built program. `make test` builds it and says where it is")?;
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "ORDERGRID_BIN is {}, and there is no such file", path.display());
    Ok(path)
}

/// What a grid says when it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// URLs of its HTTP API, one per node in this process.
    pub endpoints: Vec<String>,
}

/// A running process. Dropped, it is killed and waited for.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts a command. What it writes to stderr is added to the file `log`; stdout is read line by line.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let stderr = File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
        command.stderr(stderr);
        let (reader, writer) = io::pipe()?;
        command.stdout(writer);
        Self::spawn(name, command, reader, log)
    }

    /// Starts a command of which stdout and stderr are read together, line by line.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_talking(name: &str, mut command: Command) -> Result<Self> {
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        Self::spawn(name, command, reader, Path::new(""))
    }

    /// The command is dropped here, and with it our copies of what the process inherits: only the process keeps its pipe
    /// open, and only a running node its ports.
    fn spawn(name: &str, mut command: Command, output: PipeReader, log: &Path) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("start {name}: {command:?}"))?;
        let (sender, lines) = mpsc::channel();
        // Ends with the process, whose end of the pipe it reads.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, lines, log: log.to_owned() })
    }

    /// The next line on stdout; none when it has ended.
    ///
    /// # Errors
    /// If nothing comes.
    pub fn line(&self) -> Result<Option<String>> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("{} said nothing for {PATIENCE:?}", self.name),
        }
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// If it ends first, or says something else.
    pub fn ready(&self) -> Result<Ready> {
        let Some(line) = self.line()? else { bail!("{} ended before it served:\n{}", self.name, self.log_tail()) };
        let said: Value = serde_json::from_str(&line).with_context(|| format!("{} said: {line}", self.name))?;
        ensure!(said["ready"] == true, "{} said: {line}", self.name);
        let endpoints = said["endpoints"].as_array().with_context(|| format!("no endpoints in: {line}"))?;
        let endpoints = endpoints.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Ready { endpoints })
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Errors
    /// If it had ended by itself.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} had ended by itself ({status}):\n{}", self.name, self.log_tail());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// If there is nobody to ask.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If there is nobody to send it to.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process has a positive id")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If nobody knows.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Ends it at once, unless it has ended already.
    ///
    /// # Errors
    /// If it cannot be ended.
    pub fn end(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end. Its remaining lines are thrown away.
    ///
    /// # Errors
    /// If it does not end.
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.rest()?;
        Ok(self.child.wait()?)
    }

    /// Waits for its end: what else it said, and how it ended.
    ///
    /// # Errors
    /// If it does not end.
    pub fn finish(mut self) -> Result<(ExitStatus, Vec<String>)> {
        let rest = self.rest()?;
        Ok((self.child.wait()?, rest))
    }

    /// Asks it to stop and waits.
    ///
    /// # Errors
    /// If it does not end.
    pub fn stop(self) -> Result<ExitStatus> {
        self.terminate()?;
        self.wait()
    }

    /// What it wrote to stderr, this process and those before it in the same log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The lines up to the end of the stream. A process that ends closes it.
    fn rest(&self) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return Ok(rest),
                Err(RecvTimeoutError::Timeout) => bail!("{} did not end within {PATIENCE:?}", self.name),
            }
        }
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the last words of {}:\n{}", self.name, self.log_tail());
        }
        // Either may fail because the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
