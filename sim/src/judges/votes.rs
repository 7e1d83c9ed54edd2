//! VotesMonotonic.

super::found::judge_of_disks! {
    /// A replica's vote never goes back on its disk, and it votes for one replica per term.
    VotesMonotonic
}
