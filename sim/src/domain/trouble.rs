//! What happens to leaders: answers that are lost, orders that are lost with their actor, terms that end, hand-overs.

use std::time::Duration;

use ordergrid_domain::placing::{HoldResult, OrdersEffect};

use crate::domain::Violation;
use crate::domain::leader::Leading;
use crate::domain::world::{Back, Knows, Shard, World};

impl World {
    /// Every leader of a shard that still acts.
    pub fn leaders(&self, shard: usize) -> Vec<Back> {
        let it = &self.shards[shard];
        std::iter::once(&it.leader).chain(&it.deposed).map(|leader| Back { shard, term: leader.term }).collect()
    }

    /// The answer to a call for holds is lost: nobody knows whether they are held.
    ///
    /// # Errors
    /// A violation.
    pub fn time_out(&mut self, back: Back, which: usize) -> Result<(), Violation> {
        let Some(leading) = self.find(back) else { return Ok(()) };
        let calls: Vec<_> = leading.working.iter().flat_map(|working| &working.awaited).collect();
        let Some((call, (_, attempts))) = calls.get(which % calls.len().max(1)).copied() else { return Ok(()) };
        let (call, results) = (*call, vec![HoldResult::Unknown; attempts.len()]);
        self.counts.note("call for holds timed out");
        self.hear_held(back, call, results)
    }

    /// Shards that could not be reached are asked again.
    ///
    /// # Errors
    /// A violation.
    pub fn ask_again(&mut self, back: Back) -> Result<(), Violation> {
        let now = self.now;
        let count = self.find(back).map_or(0, |leading| leading.working.len());
        for at in 0..count {
            let Some(working) = self.find(back).and_then(|leading| leading.working.get_mut(at)) else { continue };
            if !std::mem::take(&mut working.again) {
                continue;
            }
            let mut effects = Vec::new();
            working.orders.ask_again(Duration::from_millis(now - working.since), &mut effects);
            if effects.iter().any(|effect| matches!(effect, OrdersEffect::Hold { .. })) {
                self.counts.note("hold asked for again");
            }
            self.carry_out_for_orders(back, at, effects)?;
        }
        self.sweep(back);
        Ok(())
    }

    /// Whoever drives some orders fails: their attempts are over, and nobody answers their callers.
    ///
    /// # Errors
    /// A violation.
    pub fn lose_orders(&mut self, back: Back) -> Result<(), Violation> {
        let Some(leading) = self.find(back) else { return Ok(()) };
        if leading.working.pop().is_none() {
            return Ok(());
        }
        let lost = leading.door.lost();
        self.counts.note("orders lost with their actor");
        lost.into_iter().try_for_each(|over| self.over(back, over))
    }

    /// A new term: the old leader goes on without knowing.
    ///
    /// # Errors
    /// A violation.
    pub fn depose(&mut self, shard: usize) -> Result<(), Violation> {
        let owners = self.owners.clone();
        let it = &mut self.shards[shard];
        it.term += 1;
        let old = std::mem::replace(&mut it.leader, Leading::new(it.plain.shard(), it.term, owners));
        if old.leader.running() > 0 {
            self.counts.note("leader deposed with attempts running");
        }
        it.deposed.push(old);
        for client in 0..self.clients.len() {
            if self.home(self.clients[client].request.user.slot()) == shard && self.clients[client].knows == Knows::Running {
                self.clients[client].knows = Knows::Nothing;
            }
        }
        // Rule 1: the first entry of the term is applied before its first request.
        self.apply(shard, Vec::new()).map(drop)
    }

    /// A hand-over is planned: the leader lets its attempts come to their end first. One that has not come there stays.
    ///
    /// # Errors
    /// A violation.
    pub fn hand_over(&mut self, shard: usize) -> Result<(), Violation> {
        let it = &mut self.shards[shard];
        let back = Back { shard, term: it.term };
        it.leaving = !it.leaving;
        if it.leaving {
            it.leader.leader.leave();
        } else {
            it.leader.leader.stay();
        }
        self.go_if_quiet(back)
    }

    /// A leader that is to hand over does so once nothing is under way.
    pub(super) fn go_if_quiet(&mut self, back: Back) -> Result<(), Violation> {
        let it = &mut self.shards[back.shard];
        if it.term != back.term || !it.leader.leader.may_leave() {
            return Ok(());
        }
        it.leaving = false;
        self.counts.note("leadership handed over");
        self.depose(back.shard)
    }

    /// Rule 3: nothing of an earlier term acts any more, and the leader stays.
    ///
    /// # Errors
    /// A violation.
    pub fn calm(&mut self, shard: usize) -> Result<(), Violation> {
        let it: &mut Shard = &mut self.shards[shard];
        it.deposed.clear();
        it.leaving = false;
        it.leader.leader.stay();
        let back = Back { shard, term: it.term };
        self.take_note();
        self.start_all(back)?;
        while !self.letters.is_empty() {
            self.carry_letter()?;
        }
        while self.shards[shard].leader.working.iter().any(|working| !working.awaited.is_empty()) {
            self.time_out(back, 0)?;
        }
        self.ask_again(back)
    }
}
