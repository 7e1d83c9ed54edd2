//! CommittedIsDurable.

super::found::judge_of_disks! {
    /// When an entry is first known to be committed, a majority of its group's disks can no longer lose it. This sees an
    /// acknowledgement before its sync in the moment in which it counts, and not only after a power loss.
    CommittedIsDurable
}
