//! `ordergrid offline`: what a stopped node's replicas have, and going on without what a damaged log has lost.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ordergrid_api::cli::{Exit, Format, GlobalArgs, Screen, VerbFailure};
use ordergrid_node::NodeConfig;
use ordergrid_node::offline::{Found, Offline, OfflineError};
use serde::Serialize;

use crate::cli::{environment, failed, runtime};
use crate::serve::ServeArgs;

/// What can be done with a node that does not run.
#[derive(Debug, Subcommand)]
pub(crate) enum OfflineCommand {
    /// What each replica of the node has, and what its log vouched for and has not
    Status(Place),
    /// Go on without what a shard's log has lost; without --yes only tells what that is
    AcceptLoss(AcceptArgs),
}

/// Which node.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// The node's configuration, a TOML file
    #[arg(long, value_name = "FILE", env = "ORDERGRID_CONFIG")]
    config: PathBuf,
    /// Folder of the node's data: node.data
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

/// Which loss.
#[derive(Args, Debug)]
pub(crate) struct AcceptArgs {
    #[command(flatten)]
    place: Place,
    /// The shard; 0 is the meta group. May be given several times
    #[arg(long, value_name = "N", required_unless_present = "all")]
    shard: Vec<u32>,
    /// Every shard that has lost something
    #[arg(long, conflicts_with = "shard")]
    all: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// The answer for programs.
#[derive(Serialize)]
struct Answer<'a> {
    accepted: bool,
    replicas: &'a [Found],
}

impl OfflineCommand {
    /// Runs it.
    pub(crate) fn run(&self, global: &GlobalArgs, screen: &Screen) -> Result<Exit, VerbFailure> {
        let place = match self {
            Self::Status(place) => place,
            Self::AcceptLoss(args) => &args.place,
        };
        let config = place.load()?;
        let runtime = runtime(1).map_err(|wrong| failed(&wrong.into()))?;
        let (replicas, accepted) = runtime.block_on(self.done(&config))?;
        screen.data(&match global.output {
            Format::Table => table(&replicas, accepted),
            Format::Json => json(&replicas, accepted),
        });
        match self {
            Self::AcceptLoss(args) if !args.yes => {
                let hint =
                    "nothing has changed; with --yes the node goes on without it, and what was acknowledged there is lost";
                Err(VerbFailure::new(Exit::Unsafe, "not_confirmed", "the loss is not accepted without --yes").with_hint(hint))
            }
            _ => Ok(Exit::Done),
        }
    }

    async fn done(&self, config: &NodeConfig) -> Result<(Vec<Found>, bool), VerbFailure> {
        let offline = Offline::open(config).map_err(|wrong| unusable(&wrong))?;
        let replicas = offline.look().await.map_err(|wrong| unusable(&wrong))?;
        let Self::AcceptLoss(args) = self else { return Ok((replicas, false)) };
        let lost = |found: &Found| found.has_lost() && (args.all || args.shard.contains(&found.shard));
        let chosen: Vec<_> = replicas.into_iter().filter(lost).collect();
        let whole = args.shard.iter().find(|shard| chosen.iter().all(|found| found.shard != **shard));
        if let Some(shard) = whole {
            return Err(unusable(&OfflineError::Whole(*shard)));
        }
        if args.yes {
            for found in &chosen {
                offline.accept_loss(found.shard).await.map_err(|wrong| unusable(&wrong))?;
            }
        }
        Ok((chosen, args.yes))
    }
}

impl Place {
    fn load(&self) -> Result<NodeConfig, VerbFailure> {
        let args = ServeArgs::of(self.config.clone(), self.data.clone());
        let loaded = args.load(environment());
        Ok(loaded.map_err(|wrong| VerbFailure::new(Exit::Usage, "invalid_config", wrong.to_string()))?.config)
    }
}

fn unusable(wrong: &OfflineError) -> VerbFailure {
    VerbFailure::new(Exit::Failed, "offline", wrong.to_string())
}

/// A line for each replica, and what is lost in words.
fn table(replicas: &[Found], accepted: bool) -> String {
    let index = |index: Option<u64>| index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    let mut out = format!("{:<7}{:<9}{:>12}{:>12}{:>12}\n", "SHARD", "REPLICA", "LOG", "STATE", "VOUCHED");
    for found in replicas {
        let shard = if found.shard == 0 { "meta".to_owned() } else { found.shard.to_string() };
        let (log, state, vouched) = (index(found.log), index(found.state), index(found.vouched));
        out += &format!("{shard:<7}{:<9}{log:>12}{state:>12}{vouched:>12}\n", found.replica);
    }
    for found in replicas.iter().filter(|found| found.older) {
        let what = match accepted {
            true => "goes on with what an older copy of the disk has",
            false => {
                "the disk is an older copy; the others tell the node when it starts what it has forgotten: accept the loss only if they are \
                 gone for good, or older themselves"
            }
        };
        out += &format!("shard {}: {what}\n", found.shard);
    }
    for found in replicas {
        let Some(vouched) = found.vouched else { continue };
        let from = found.last().map_or(0, |last| last + 1);
        let verb = if accepted { "the loss is accepted of" } else { "lost" };
        out += &format!("shard {}: {verb} entries {from} to {vouched}\n", found.shard);
        if !accepted && found.replicas > 1 {
            let others = "the other replicas refill it when the node starts: accept the loss only if they are gone for good";
            out += &format!("shard {}: {others}\n", found.shard);
        }
    }
    out
}

fn json(replicas: &[Found], accepted: bool) -> String {
    serde_json::to_string(&Answer { accepted, replicas }).expect("numbers are JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_with_its_entries() {
        let found =
            Found { shard: 2, replica: 3, replicas: 1, log: Some(90), state: Some(99), vouched: Some(200), older: false };
        let text = table(std::slice::from_ref(&found), false);
        assert!(text.contains("2      3                  90          99         200\n"), "{text}");
        assert!(text.ends_with("shard 2: lost entries 100 to 200\n"), "{text}");
        assert!(table(std::slice::from_ref(&found), true).ends_with("shard 2: the loss is accepted of entries 100 to 200\n"));
        let older = table(&[Found { vouched: None, older: true, ..found }], false);
        assert!(older.contains("shard 2: the disk is an older copy"), "{older}");
    }
}
