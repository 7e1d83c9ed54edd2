//! LogsReadable.

super::found::judge_of_disks! {
    /// Whatever a node writes into its log database can be read: rows of its own replicas, and removals of whole ranges.
    LogsReadable
}
