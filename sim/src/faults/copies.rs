//! Copies of disks, taken while their nodes ran or between two of their lives, and put back later.
//!
//! A copy is put back only where it does no harm that nobody could mend: in grids of three and more, always the same node's, and while
//! every other node is there to tell, and has heard how far the log was. Then nothing else goes wrong until they have told.

use std::time::Duration;

use super::strike::{SUPERVISOR, Striking};
use crate::grid::{Down, SimGrid};
use crate::history::SimTime;
use crate::trace;

/// Nodes that have been connected for so long have told each other of their logs.
const TOLD: Duration = Duration::from_secs(2);
/// A node that starts has asked the others by then.
const ASKED: Duration = Duration::from_secs(5);

/// The copies of one history.
#[derive(Default)]
pub(super) struct Copies {
    /// One that is kept: of which node, and when it is to be put back.
    kept: Option<(u64, SimTime)>,
    /// It is to be taken when this node is off, and put back so long after.
    wanted: Option<(u64, Duration)>,
    /// Nothing has gone wrong since, while one is due.
    quiet: Option<SimTime>,
    /// Nothing goes wrong before.
    hush: SimTime,
    /// The node on which one was put back: it ends once it is told of it, which may be after the faults.
    put_back: Option<u64>,
}

impl Copies {
    /// Nothing else may begin to go wrong.
    pub(super) fn hushed(&self, now: SimTime) -> bool {
        now < self.hush || self.kept.is_some_and(|(_, due)| due <= now)
    }

    /// None is left to be put back.
    pub(super) fn is_over(&self) -> bool {
        self.kept.is_none() && self.wanted.is_none()
    }

    /// None is put back any more.
    pub(super) fn forget(&mut self) {
        *self = Self { put_back: self.put_back, ..Self::default() };
    }

    /// A node may end by itself.
    pub(super) fn excuse(&self, node: u64) -> bool {
        self.put_back == Some(node)
    }
}

impl Striking {
    /// A copy is taken of a node's disk: now, or between this life and the next one. Answers whether there will be one.
    pub(super) fn copy(&mut self, grid: &mut SimGrid, node: u64, cold: bool, lasts: Duration) -> bool {
        if !self.copies.is_over() {
            return false;
        }
        if cold {
            self.switch_off(grid, node, Down::Killed, grid.now().after(SUPERVISOR));
            self.copies.wanted = Some((node, lasts));
            return true;
        }
        self.keep_copy(grid, node, lasts)
    }

    fn keep_copy(&mut self, grid: &SimGrid, node: u64, lasts: Duration) -> bool {
        let kept = grid.nodes[&node].disk.keep_copy();
        self.copies.kept = kept.then(|| (node, grid.now().after(lasts)));
        kept
    }

    /// Takes a copy that is wanted, and puts one back that is due.
    pub(super) fn see_copies(&mut self, grid: &mut SimGrid) {
        if let Some((node, lasts)) = self.copies.wanted.filter(|(node, _)| !grid.is_on(*node)) {
            self.copies.wanted = None;
            self.keep_copy(grid, node, lasts);
        }
        let now = grid.now();
        let Some((node, _)) = self.copies.kept.filter(|(_, due)| *due <= now) else { return };
        if !self.is_calm(grid) {
            self.copies.quiet = None;
        } else if self.copies.quiet.get_or_insert(now).after(TOLD) <= now {
            trace::note(format_args!("an older copy of the disk of node {node} is put back"));
            self.copies = Copies { hush: now.after(SUPERVISOR).after(ASKED), put_back: Some(node), ..Copies::default() };
            self.switch_off(grid, node, Down::Killed, now.after(SUPERVISOR));
            grid.nodes[&node].disk.put_back();
        }
    }
}
