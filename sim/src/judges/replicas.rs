//! ReplicasAgree.

use ordergrid_api::wire::VerifyReport;
use ordergrid_domain::GroupId;

use super::{Evidence, Judge};
use crate::chronicle::Reference;
use crate::history::{Ending, Said};
use crate::verdict::Violation;

/// Every replica that hashed its state at a mark came to what a machine comes to that has never failed, stored or evicted.
#[derive(Debug, Default)]
pub struct ReplicasAgree;

const NAME: &str = "ReplicasAgree";

impl Judge for ReplicasAgree {
    fn name(&self) -> &'static str {
        NAME
    }

    fn end(&mut self, evidence: &Evidence<'_>) -> Result<(), Violation> {
        for operation in &evidence.history.operations {
            if let Ending::Done { answer, .. } = &operation.ending
                && let Said::Verify(report) = &**answer
            {
                check(report, evidence.reference)?;
            }
        }
        Ok(())
    }
}

fn check(report: &VerifyReport, reference: &Reference) -> Result<(), Violation> {
    for shard in &report.shards {
        let expected = reference.hash_at(GroupId(shard.shard), shard.index).map(|hash| format!("{hash:016x}"));
        for replica in shard.replicas.iter().filter(|replica| replica.hash.is_some() && replica.index == shard.index) {
            if replica.hash != expected {
                let (told, expected) = (replica.hash.as_deref().unwrap_or_default(), expected.as_deref().unwrap_or("no mark"));
                let text = format!(
                    "shard {}, index {}: node {} told {told}, the chain comes to {expected}",
                    shard.shard, shard.index, replica.node
                );
                return Err(Violation::new(NAME, text));
            }
        }
    }
    Ok(())
}
