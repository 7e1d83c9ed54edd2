//! What the orders of one entry tell the SKUs of other shards. It is gathered while the entry is applied, and is one message for
//! each destination and kind when the entry is over: the messages of a hundred orders are put away, sent, applied and trimmed as
//! those of one.

use super::ShardMachine;
use crate::command::{HeldPart, KeptAttempt, KeptList, Message, Release};
use crate::ids::{AttemptId, GroupId, OrderId, SkuId};
use crate::money::Quantity;
use crate::order::StockEffect;

/// Items after which a list is told although the entry is not over: so that a message fits into a run.
const ITEMS: usize = 4_096;

/// What one destination is to be told.
///
/// Of one attempt, what decides it comes first, and a commit before units are freed or leave. Between units that are freed and
/// those that leave the order does not matter: both go down by as much.
#[derive(Debug, Default)]
pub(super) struct EntryTells {
    decided: KeptList,
    commits: Vec<(SkuId, AttemptId)>,
    frees: Vec<HeldPart>,
    ships: Vec<HeldPart>,
}

impl EntryTells {
    fn keep(&mut self, attempt: AttemptId, order: OrderId, committed: bool, item: (SkuId, Quantity)) {
        let KeptList { kept, items, .. } = &mut self.decided;
        items.push(item);
        match kept.last_mut().filter(|last| last.attempt == attempt) {
            Some(last) => last.items += 1,
            None => kept.push(KeptAttempt { attempt, order, committed, items: 1 }),
        }
    }

    fn is_full(&self) -> bool {
        let Self { decided, commits, frees, ships } = self;
        [decided.items.len(), decided.released.len(), commits.len(), frees.len(), ships.len()]
            .iter()
            .any(|items| *items >= ITEMS)
    }

    fn messages(mut self) -> impl Iterator<Item = Message> {
        self.commits.sort_by(|one, other| one.0.cmp(&other.0));
        self.frees.sort_by(|one, other| one.sku.cmp(&other.sku));
        self.ships.sort_by(|one, other| one.sku.cmp(&other.sku));
        let Self { decided, commits, frees, ships } = self;
        let decides = !decided.kept.is_empty() || !decided.released.is_empty();
        let changes = [
            (!commits.is_empty()).then_some(Message::Commits(commits)),
            (!frees.is_empty()).then_some(Message::Frees(frees)),
            (!ships.is_empty()).then_some(Message::Ships(ships)),
        ];
        decides.then_some(Message::Decided(decided)).into_iter().chain(changes.into_iter().flatten())
    }
}

impl ShardMachine {
    /// What an order wants done to stock: told to other shards when the entry is over, to this one at the end of the command.
    pub(super) fn post_stock(&mut self, attempt: AttemptId, order: OrderId, effects: Vec<StockEffect>) {
        let part = |(sku, quantity)| HeldPart { sku, attempt, quantity };
        for effect in effects {
            let mine = match effect {
                StockEffect::Keep { committed, items } => {
                    let tell = |told: &mut EntryTells, item| told.keep(attempt, order, committed, item);
                    let items = self.gather(items, |item| &item.0, tell);
                    (!items.is_empty()).then_some(Message::Keep { attempt, order, committed, items })
                }
                StockEffect::Commit { skus } => {
                    let skus = self.gather(skus, |sku| sku, |told, sku| told.commits.push((sku, attempt)));
                    (!skus.is_empty()).then_some(Message::Commit { attempt, skus })
                }
                StockEffect::Free { items } => {
                    let items = self.gather(items, |item| &item.0, |told, item| told.frees.push(part(item)));
                    (!items.is_empty()).then_some(Message::Free { attempt, items })
                }
                StockEffect::Ship { items } => {
                    let items = self.gather(items, |item| &item.0, |told, item| told.ships.push(part(item)));
                    (!items.is_empty()).then_some(Message::Ship { attempt, items })
                }
            };
            self.local.extend(mine);
        }
    }

    /// An attempt gives its tentative holds of these SKUs up, wherever they are.
    pub(super) fn post_release(&mut self, release: &Release) {
        for (to, skus) in self.split(release.skus.clone(), |sku| sku) {
            let release = Release { skus, ..*release };
            if to == self.config.shard {
                self.local.push_back(Message::Release(release));
            } else {
                self.gathered.entry(to).or_default().decided.released.push(release);
                self.tell_full(to);
            }
        }
    }

    /// Gathers what concerns SKUs of other shards; what concerns those of this one is left.
    fn gather<T>(&mut self, items: Vec<T>, sku: impl Fn(&T) -> &SkuId, tell: impl Fn(&mut EntryTells, T)) -> Vec<T> {
        let mut mine = Vec::new();
        for item in items {
            // A slot that nobody owns has no shard to tell; the order shard's map names an owner for every slot.
            let Some(to) = self.owner(sku(&item).slot()) else { continue };
            if to == self.config.shard {
                mine.push(item);
            } else {
                tell(self.gathered.entry(to).or_default(), item);
                self.tell_full(to);
            }
        }
        mine
    }

    fn tell_full(&mut self, to: GroupId) {
        if self.gathered.get(&to).is_some_and(EntryTells::is_full)
            && let Some(gathered) = self.gathered.remove(&to)
        {
            gathered.messages().for_each(|message| self.post(to, message));
        }
    }

    /// Has every destination be told what was gathered for it.
    pub(super) fn tell_gathered(&mut self) {
        while let Some((to, gathered)) = self.gathered.pop_first() {
            gathered.messages().for_each(|message| self.post(to, message));
        }
    }
}
