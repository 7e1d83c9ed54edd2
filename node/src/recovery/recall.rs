//! Recall: asks the other nodes what a local replica can have promised, if its log was lost. See
//! [`ordergrid_cluster::recall()`].

use std::time::Duration;

use futures::future::join_all;
use openraft::impls::TokioRuntime;
use ordergrid_cluster::{Mesh, NodeId, Promised, recall};
use ordergrid_domain::GroupId;
use ordergrid_storage::LogWriter;

use crate::adapters;
use crate::front::Front;
use crate::recovery::aside::named;
use crate::recovery::lost_log::ALONE;
use crate::recovery::refill::{self, RefillService};

/// Pause between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// The state of a waiting start, and advice for the case that the other nodes cannot answer.
const WAITS: &str =
    "its log was lost, or its disk is an older copy: it waits until all other nodes have reported what it had promised";
const HELPS: &str = "if they are gone for good, or have lost theirs too, stop this node and run `ordergrid offline accept-loss --log --yes \
                     --config FILE`: it then continues with what it has";

/// A recall for one replica.
pub(crate) struct Recall<'a> {
    pub(crate) mesh: &'a Mesh,
    pub(crate) writer: &'a LogWriter,
    pub(crate) refills: &'a RefillService,
    pub(crate) front: &'a Front,
    pub(crate) group: GroupId,
    pub(crate) replica: u64,
    /// All other nodes with a replica of the group.
    pub(crate) others: Vec<NodeId>,
}

impl Recall<'_> {
    /// Returns once the replica knows what it can have promised, or at once if its log was not lost.
    ///
    /// # Errors
    /// If nobody can know it, or the disk failed.
    pub(crate) async fn run(&self) -> Result<(), String> {
        let forgotten = adapters::is_forgotten::<TokioRuntime>(self.writer, self.replica).await;
        if !forgotten.map_err(|error| error.to_string())? {
            return Ok(());
        }
        if self.others.is_empty() {
            return Err(format!("its log was lost; {ALONE}"));
        }
        self.refills.forgotten(self.group, true);
        let mut told = String::new();
        let promised = loop {
            match self.ask().await {
                Ok(promised) => break promised,
                Err(error) if error != told => {
                    tracing::warn!(
                        shard = %self.group,
                        error,
                        effect = "the replica takes no part until all other nodes have reported what it promised",
                        "promises lost with the log or missing from an older copy of it"
                    );
                    self.front.waits(Some(format!("{WAITS} ({}: {error}); {HELPS}", named(self.group))));
                    told = error;
                }
                Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        };
        adapters::remember::<TokioRuntime>(self.writer, self.replica, &promised).await.map_err(|error| error.to_string())?;
        self.refills.forgotten(self.group, false);
        self.front.waits(None);
        let vouched = promised.last.map_or_else(|| "nothing".to_owned(), |last| last.to_string());
        tracing::info!(shard = %self.group, vouched, vote = %promised.vote, "promises recalled from the other nodes");
        Ok(())
    }

    async fn ask(&self) -> Result<Promised, String> {
        let asked = self.others.iter().map(|node| refill::promised(self.mesh, *node, self.group));
        let (mut said, mut silent) = (Vec::new(), Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(recalled) => said.push(recalled),
                Err(why) => silent.push(why),
            }
        }
        if !silent.is_empty() {
            return Err(silent.join("; "));
        }
        recall(self.replica, &said).map_err(|few| few.to_string())
    }
}
