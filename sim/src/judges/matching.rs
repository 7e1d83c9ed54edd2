//! LogMatching.

super::found::judge_of_disks! {
    /// Entries of the same index and term are the same bytes on every disk, after the same log.
    LogMatching
}
