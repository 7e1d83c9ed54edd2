//! What no chain may ever show, read off its commands and what they came to: the cause of a broken law, where clients
//! would see at most a rare consequence.
//!
//! Nothing here asks the machine whether it was right: an attempt that was released is remembered here, and so is one that
//! was placed.

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_cluster::EntryId;
use ordergrid_domain::command::{Deliver, Place};
use ordergrid_domain::{AttemptId, Command, Entry, GroupId, Message, Outcome, SkuId, Timestamp};

use super::rare::{Before, fresh};
use crate::verdict::Violation;

/// Rule 2 of placing.
const TERM: &str = "PlacedInItsTerm";
/// Rule 10 of placing.
const TOMBSTONE: &str = "TombstonesHold";
/// The law that rules 14 to 18 of placing serve.
const UNITS: &str = "AllOrNothing";

/// What one shard's chain has shown so far.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Attempts that have placed an order.
    placed: BTreeSet<AttemptId>,
    /// Until when nothing may be granted to an attempt that was released.
    released: BTreeMap<(AttemptId, SkuId), Timestamp>,
}

impl Promises {
    /// Looks at an entry that was run at log time `now`.
    pub(super) fn look(
        &mut self,
        (group, at): (GroupId, EntryId),
        now: Timestamp,
        entry: &Entry,
        before: &[Before],
        outcomes: &[Outcome],
    ) -> Result<(), Violation> {
        for ((command, before), outcome) in entry.commands.iter().zip(before).zip(outcomes) {
            let broken = match (command, before) {
                (Command::Place(place) | Command::PlaceLocal(place), _) => self.place(at, place, outcome),
                (Command::Release(release), _) => {
                    let ended = |sku: &SkuId| ((release.attempt, sku.clone()), release.valid_until);
                    self.released.extend(release.skus.iter().map(ended));
                    None
                }
                (Command::Hold(hold), _) if matches!(outcome, Outcome::Held { .. }) => {
                    let until = self.released.get(&(hold.attempt, hold.sku.clone()));
                    until.filter(|until| now <= **until).map(|until| {
                        let text = format!("{:?} was released, and is granted {} before {until:?}", hold.attempt, hold.sku);
                        (TOMBSTONE, text)
                    })
                }
                (Command::Deliver(run), Before::Stream(high)) => self.deliver(run, *high),
                _ => None,
            };
            if let Some((name, text)) = broken {
                return Err(Violation::new(name, format!("group {group}, entry {at}: {text}")));
            }
        }
        Ok(())
    }

    fn place(&mut self, at: EntryId, place: &Place, outcome: &Outcome) -> Option<(&'static str, String)> {
        let Outcome::Placed { order, .. } = outcome else { return None };
        let first = order.attempt == place.attempt && self.placed.insert(place.attempt);
        (first && place.attempt.term != at.term)
            .then(|| (TERM, format!("order {} is placed by {:?} in another term", order.id, place.attempt)))
    }

    /// A promised unit is there: no verb takes units from a hold, so no *keep* may find fewer than its order counts on.
    fn deliver(&mut self, run: &Deliver, high: u64) -> Option<(&'static str, String)> {
        fresh(run, high).find_map(|message| match message {
            Message::Shortfall { order, .. } => {
                Some((UNITS, format!("order {order} counts on units that nobody holds: {message:?}")))
            }
            Message::Release(release) => {
                let ended = |sku: &SkuId| ((release.attempt, sku.clone()), release.valid_until);
                self.released.extend(release.skus.iter().map(ended));
                None
            }
            _ => None,
        })
    }
}
