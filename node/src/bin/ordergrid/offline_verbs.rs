//! `ordergrid offline`: inspects a stopped node's replicas, and accepts the loss of a damaged log.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use ordergrid_cli::{Exit, Format, GlobalArgs, Screen, VerbFailure};
use ordergrid_node::NodeConfig;
use ordergrid_node::recovery::offline::{Found, Offline, OfflineError};
use serde::Serialize;

use crate::cli::{environment, failed, runtime};
use crate::serve::ServeArgs;

/// Commands on a node that does not run.
#[derive(Debug, Subcommand)]
pub(crate) enum OfflineCommand {
    /// Show the replicas of the node, and the log entries that they have vouched for and lost
    Status(DataArgs),
    /// Go on without the lost entries of a shard's log; without --yes, only show what is lost
    AcceptLoss(AcceptArgs),
}

/// The node.
#[derive(Args, Debug)]
pub(crate) struct DataArgs {
    /// The node's configuration, a TOML file
    #[arg(long, value_name = "FILE", env = "ORDERGRID_CONFIG")]
    config: PathBuf,
    /// Folder of the node's data: node.data
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

/// The loss to accept.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["shard", "all", "log"]))]
pub(crate) struct AcceptArgs {
    #[command(flatten)]
    place: DataArgs,
    /// The shard; 0 is the meta group. Repeatable
    #[arg(long, value_name = "N")]
    shard: Vec<u32>,
    /// Every shard that has lost entries
    #[arg(long)]
    all: bool,
    /// The whole damaged log database: every shard goes on with its state database
    #[arg(long)]
    log: bool,
    /// Confirm: accept the loss
    #[arg(long)]
    yes: bool,
}

/// The JSON output.
#[derive(Serialize)]
struct Answer<'a> {
    accepted: bool,
    /// The damage to the log database, if it cannot be used.
    damage: Option<&'a str>,
    replicas: &'a [Found],
}

impl OfflineCommand {
    /// Runs the command.
    pub(crate) fn run(&self, global: &GlobalArgs, screen: &Screen) -> Result<Exit, VerbFailure> {
        let place = match self {
            Self::Status(place) => place,
            Self::AcceptLoss(args) => &args.place,
        };
        let config = place.load()?;
        let runtime = runtime(1).map_err(|wrong| failed(&wrong.into()))?;
        let done = runtime.block_on(self.done(&config))?;
        screen.data(&match global.output {
            Format::Table => table(&done),
            Format::Json => json(&done),
        });
        match self {
            Self::AcceptLoss(args) if !args.yes => {
                let hint = "nothing has changed; with --yes the loss is accepted, and entries acknowledged there are lost";
                Err(VerbFailure::new(Exit::Unsafe, "not_confirmed", "the loss is not accepted without --yes").with_hint(hint))
            }
            _ => Ok(Exit::Done),
        }
    }

    async fn done(&self, config: &NodeConfig) -> Result<Done, VerbFailure> {
        let offline = Offline::open(config).await.map_err(|wrong| unusable(&wrong))?;
        let replicas = offline.look().await.map_err(|wrong| unusable(&wrong))?;
        let damage = offline.damage().map(str::to_owned);
        let args = match self {
            Self::Status(_) => return Ok(Done { replicas, damage, accepted: false }),
            Self::AcceptLoss(args) if args.log => {
                let replicas: Vec<_> = replicas.into_iter().filter(|found| found.log_lost).collect();
                if replicas.is_empty() {
                    return Err(unusable(&OfflineError::LogWhole));
                }
                if args.yes {
                    offline.accept_lost_log().await.map_err(|wrong| unusable(&wrong))?;
                }
                return Ok(Done { replicas, damage, accepted: args.yes });
            }
            Self::AcceptLoss(args) => args,
        };
        if replicas.iter().any(|found| found.log_lost) {
            return Err(unusable(&OfflineError::LogLost));
        }
        let lost = |found: &Found| found.vouched.is_some() && (args.all || args.shard.contains(&found.shard));
        let chosen: Vec<_> = replicas.into_iter().filter(lost).collect();
        let whole = args.shard.iter().find(|shard| chosen.iter().all(|found| found.shard != **shard));
        if let Some(shard) = whole {
            return Err(unusable(&OfflineError::Whole(*shard)));
        }
        if let Some(empty) = chosen.iter().find(|found| found.last().is_none()) {
            return Err(unusable(&OfflineError::NothingLeft(empty.shard)));
        }
        if args.yes {
            for found in &chosen {
                offline.accept_loss(found.shard).await.map_err(|wrong| unusable(&wrong))?;
            }
        }
        Ok(Done { replicas: chosen, damage, accepted: args.yes })
    }
}

/// What was found, and done.
struct Done {
    replicas: Vec<Found>,
    damage: Option<String>,
    accepted: bool,
}

impl DataArgs {
    fn load(&self) -> Result<NodeConfig, VerbFailure> {
        let args = ServeArgs::of(self.config.clone(), self.data.clone());
        let loaded = args.load(environment());
        Ok(loaded.map_err(|wrong| VerbFailure::new(Exit::Usage, "invalid_config", wrong.to_string()))?.config)
    }
}

fn unusable(wrong: &OfflineError) -> VerbFailure {
    VerbFailure::new(Exit::Failed, "offline", wrong.to_string())
}

/// One line per replica, and the losses in words.
fn table(done: &Done) -> String {
    let index = |index: Option<u64>| index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    let mut out = format!("{:<7}{:<9}{:>12}{:>12}{:>12}\n", "SHARD", "REPLICA", "LOG", "STATE", "VOUCHED");
    for found in &done.replicas {
        let shard = if found.shard == 0 { "meta".to_owned() } else { found.shard.to_string() };
        let log = if found.log_lost { "lost".to_owned() } else { index(found.log) };
        let (state, vouched) = (index(found.state), index(found.vouched));
        out += &format!("{shard:<7}{:<9}{log:>12}{state:>12}{vouched:>12}\n", found.replica);
    }
    if let Some(damage) = &done.damage {
        out += &format!("the log database is damaged, and no log in it can be used: {damage}\n");
    }
    done.replicas.iter().for_each(|found| out += &lost(found, done.accepted));
    out
}

/// The loss of a replica, in words.
fn lost(found: &Found, accepted: bool) -> String {
    let from = found.last().map_or(0, |last| last + 1);
    let entries = match found.vouched {
        Some(vouched) => format!("entries {from} to {vouched}"),
        // Entries that were written last before a power loss may not be vouched for.
        None if found.log_lost => format!("what there was from entry {from} on, if anything"),
        None => return String::new(),
    };
    let verb = if accepted { "the loss is accepted of" } else { "lost" };
    let mut out = format!("shard {}: {verb} {entries}\n", found.shard);
    if !accepted && found.replicas > 1 {
        let others = "the other replicas refill it when the node starts. Accept the loss only if they are gone for good, or have lost \
                      entries too: then on those nodes of which `offline status` finds the most entries, and on as many as are a majority";
        out += &format!("shard {}: {others}\n", found.shard);
    }
    out
}

fn json(done: &Done) -> String {
    let answer = Answer { accepted: done.accepted, damage: done.damage.as_deref(), replicas: &done.replicas };
    serde_json::to_string(&answer).expect("numbers and texts are JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_with_its_entries() {
        let found =
            Found { shard: 2, replica: 3, replicas: 1, log: Some(90), state: Some(99), vouched: Some(200), log_lost: false };
        let told = |found: &Found, accepted| table(&Done { replicas: vec![found.clone()], damage: None, accepted });
        let text = told(&found, false);
        assert!(text.contains("2      3                  90          99         200\n"), "{text}");
        assert!(text.ends_with("shard 2: lost entries 100 to 200\n"), "{text}");
        assert!(told(&found, true).ends_with("shard 2: the loss is accepted of entries 100 to 200\n"));
        let gone = Found { log: None, vouched: None, log_lost: true, ..found };
        let text = told(&gone, false);
        assert!(text.contains("2      3                lost          99           -\n"), "{text}");
        assert!(text.ends_with("shard 2: lost what there was from entry 100 on, if anything\n"), "{text}");
    }
}
