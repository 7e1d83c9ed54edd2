//! What a simulated disk tells whoever follows it.

use ordergrid_storage::Batch;

/// The two databases of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Database {
    /// Votes and entries.
    Log,
    /// Rows.
    State,
}

/// Told of every batch in the order in which it takes effect on the disk of a node, and of what a power loss took away.
pub trait DiskWatch: Send + Sync {
    /// A batch has taken effect: it can be read, and may still be lost.
    fn wrote(&self, node: u64, database: Database, batch: &Batch);

    /// So many batches since the disk was made can no longer be lost.
    fn durable(&self, node: u64, database: Database, batches: u64);

    /// Batches numbered `kept` and above since the disk was made are gone.
    fn lost(&self, node: u64, database: Database, kept: u64);
}
