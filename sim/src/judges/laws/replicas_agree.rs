//! ReplicasAgree: every replica has the state that the committed chain comes to.

use ordergrid_api::wire::VerifyReport;
use ordergrid_domain::{GroupId, Law};

use crate::chronicle::Reference;
use crate::history::{Ending, Operation, Said};
use crate::judges::Evidence;
use crate::verdict::Violation;

/// Every replica that hashed its state at a mark came to what a machine comes to that has never failed, stored or evicted.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Vec<Violation> {
    let said = |operation: &Operation| match &operation.ending {
        Ending::Done { answer, .. } => match &**answer {
            Said::Verify(report) => check(report, evidence.reference).err(),
            _ => None,
        },
        _ => None,
    };
    evidence.history.operations.iter().filter_map(said).collect()
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
                return Err(Violation::new(Law::ReplicasAgree, text));
            }
        }
    }
    Ok(())
}
