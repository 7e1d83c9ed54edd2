//! The leader of a shard and term, as protocol.md wants it: the table of running attempts, busy keys, holds in parallel,
//! one place, releases. A deposed one goes on answering what it began, and can no longer place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ordergrid_domain::command::{Deliver, Hold, Place, Release};
use ordergrid_domain::machine::{HOLD_VALIDITY, HoldView};
use ordergrid_domain::{AttemptId, Command, Key, Lookup, Outcome, Rejection, SkuId, Text, Timestamp, UserId};

use crate::domain::Violation;
use crate::domain::workload::Mutant;
use crate::domain::world::{Back, Knows, Letter, World};

/// A leader of one term.
#[derive(Debug)]
pub struct Leader {
    /// Its term.
    pub term: u64,
    counter: u64,
    /// Rule 3: what runs lives as long as the term.
    pub running: BTreeMap<AttemptId, Running>,
    /// Rule 4: busy as long as the attempt runs.
    busy: BTreeSet<(UserId, Key)>,
}

/// An attempt under way.
#[derive(Debug)]
pub struct Running {
    client: usize,
    valid_until: Timestamp,
    holds: BTreeMap<SkuId, Option<Result<Text, Rejection>>>,
}

impl Leader {
    /// A new leader: nothing runs.
    #[must_use]
    pub fn new(term: u64) -> Self {
        Self { term, counter: 0, running: BTreeMap::new(), busy: BTreeSet::new() }
    }
}

impl World {
    /// A client asks the leader of its shard.
    ///
    /// # Errors
    /// A violation.
    pub fn ask_to_place(&mut self, client: usize) -> Result<(), Violation> {
        let request = self.clients[client].request.clone();
        let home = self.home(request.user.slot());
        let name = (request.user.clone(), request.key.clone());
        if self.shards[home].leader.busy.contains(&name) {
            return Ok(()); // waits for the one in flight
        }
        self.clients[client].tries += 1;
        if self.clients[client].tries > 1 {
            self.counts.note("key retried");
        }
        // An early look saves work; one that came just before the first place was applied finds nothing.
        let early = !self.faulty || self.dice.percent(60);
        if let Some(Lookup::Found(first)) = early.then(|| self.shards[home].plain.key_record(&request.user, &request.key)) {
            let same = first.body_hash == request.body_hash;
            self.clients[client].knows = if same { Knows::Placed(first.order) } else { Knows::Refused };
            return Ok(());
        }
        let leader = &mut self.shards[home].leader;
        leader.counter += 1;
        let group = ordergrid_domain::GroupId(home as u32 + 1);
        let attempt = AttemptId { slot: request.user.slot(), group, term: leader.term, counter: leader.counter };
        let wanted = request.wanted();
        if wanted.iter().all(|(sku, _)| self.home(sku.slot()) == home) && self.plan.fast_path {
            let place = Place { attempt, request: request.into(), names: Vec::new() };
            let outcome = self.apply(home, vec![Command::PlaceLocal(Box::new(place))])?.pop();
            self.learn(client, outcome.as_ref());
            return Ok(());
        }
        let clock = self.clock(home);
        let from = self.clients[client].valid_from.map_or(clock, |from| from.max(clock));
        let valid_until = from.after(HOLD_VALIDITY);
        let holds = wanted.iter().map(|(sku, _)| (sku.clone(), None)).collect();
        let leader = &mut self.shards[home].leader;
        leader.busy.insert(name);
        leader.running.insert(attempt, Running { client, valid_until, holds });
        self.clients[client].knows = Knows::Running;
        let back = Back { shard: home, term: attempt.term };
        for (sku, units) in wanted {
            self.letters.push(Letter::Hold(back, Hold { attempt, sku, quantity: units, valid_until }));
        }
        Ok(())
    }

    /// The SKU's leader hears of a hold.
    ///
    /// # Errors
    /// A violation.
    pub fn hear_hold(&mut self, hold: Hold, back: Back) -> Result<(), Violation> {
        let home = self.home(hold.sku.slot());
        let machine = &self.shards[home].plain;
        // Rules 9 and 12: sold out from memory, after a look at the attempt itself; nothing is unapplied here.
        let unknown = self.plan.fast_path && !machine.may_know(hold.attempt, &hold.sku, hold.valid_until);
        let sold_out = match machine.available(&hold.sku) {
            Lookup::Found(row) if unknown && row.available < hold.quantity => Some(row.available),
            _ => None,
        };
        let (attempt, sku) = (hold.attempt, hold.sku.clone());
        let answer = if let Some(available) = sold_out.filter(|_| self.clock(home) <= hold.valid_until) {
            self.counts.note("sold out from memory");
            Err(Rejection::OutOfStock { sku: sku.clone(), asked: hold.quantity, available })
        } else {
            match self.apply(home, vec![Command::Hold(hold)])?.pop() {
                Some(Outcome::Held { name }) => Ok(name),
                Some(Outcome::Rejected(rejection)) => Err(rejection),
                other => return Err(Violation(format!("a hold was answered with {other:?}"))),
            }
        };
        self.letters.push(Letter::Held(back, attempt, sku, answer));
        Ok(())
    }

    /// The order's leader, deposed or not, hears what became of a hold.
    ///
    /// # Errors
    /// A violation.
    pub fn hear_held(
        &mut self,
        back: Back,
        attempt: AttemptId,
        sku: &SkuId,
        answer: Result<Text, Rejection>,
    ) -> Result<(), Violation> {
        let it = &mut self.shards[back.shard];
        let leader = std::iter::once(&mut it.leader).chain(&mut it.deposed).find(|leader| leader.term == back.term);
        let Some(running) = leader.and_then(|leader| leader.running.get_mut(&attempt)) else { return Ok(()) };
        let slot = running.holds.get_mut(sku).expect("only what was asked is answered");
        if slot.is_none() {
            *slot = Some(answer);
        }
        if running.holds.values().all(Option::is_some) {
            self.decide(back, attempt)?;
        }
        Ok(())
    }

    /// Every hold has been answered: place, or give up.
    fn decide(&mut self, back: Back, attempt: AttemptId) -> Result<(), Violation> {
        let running = &self.find(back).expect("it was just found").running[&attempt];
        let client = running.client;
        let refused: Vec<Rejection> = running.holds.values().flatten().filter_map(|answer| answer.clone().err()).collect();
        if refused.is_empty() {
            return self.propose(back, attempt);
        }
        self.give_up(back, attempt);
        let late = refused.iter().find_map(|rejection| match rejection {
            Rejection::HoldExpired { now, .. } => Some(*now),
            _ => None,
        });
        // Rule 6: before a 409, look the key up again.
        let request = &self.clients[client].request;
        let machine = &self.shards[back.shard].plain;
        let first = machine.key_record(&request.user, &request.key);
        self.clients[client].knows = match (first, late) {
            (Lookup::Found(first), _) if first.body_hash == request.body_hash => Knows::Placed(first.order),
            (_, Some(now)) => {
                self.clients[client].valid_from = Some(now); // rule 11
                Knows::Nothing
            }
            _ if refused.iter().any(|rejection| matches!(rejection, Rejection::OutOfStock { .. })) => Knows::Refused,
            _ => Knows::Nothing,
        };
        Ok(())
    }

    fn propose(&mut self, back: Back, attempt: AttemptId) -> Result<(), Violation> {
        let running = self.find(back).and_then(|leader| leader.running.remove(&attempt)).expect("it runs");
        let request = self.clients[running.client].request.clone();
        let deposed = self.shards[back.shard].term != back.term;
        let name = |sku: &SkuId| match running.holds.get(sku) {
            Some(Some(Ok(name))) => name.clone(),
            _ => unreachable!("every hold is granted"),
        };
        let names = request.lines.iter().map(|line| name(&line.sku)).collect();
        let place = Command::Place(Box::new(Place { attempt, request: request.into(), names }));
        self.free_key(back, running.client);
        if deposed && !self.dice.percent(30) {
            // The proposal is fenced with the term: not appended. Nothing is released; the SKUs will ask.
            self.counts.note("place lost with its leader");
            self.clients[running.client].knows = Knows::Nothing;
            return Ok(());
        }
        // A deposed leader's place that slips through is refused by apply (rule 2).
        let outcome = self.apply(back.shard, vec![place])?.pop();
        if self.faulty && self.dice.percent(10) {
            self.counts.note("answer of a place lost");
            self.clients[running.client].knows = Knows::Nothing;
            if self.plan.mutant == Mutant::ReleaseWhenUnknown {
                let skus = running.holds.into_keys();
                self.letters.extend(skus.map(|sku| Letter::Release(attempt, sku, running.valid_until)));
            }
        } else {
            self.learn(running.client, outcome.as_ref());
        }
        Ok(())
    }

    fn learn(&mut self, client: usize, outcome: Option<&Outcome>) {
        self.clients[client].knows = match outcome {
            Some(Outcome::Placed { order, .. }) => Knows::Placed(order.id),
            Some(Outcome::Rejected(Rejection::StaleAttempt { .. })) | None => Knows::Nothing,
            Some(_) => Knows::Refused,
        };
    }

    /// Rule 8: release goes to every SKU that was asked, granted or not known.
    fn give_up(&mut self, back: Back, attempt: AttemptId) {
        let running = self.find(back).and_then(|leader| leader.running.remove(&attempt)).expect("it runs");
        self.free_key(back, running.client);
        for sku in running.holds.into_keys() {
            self.letters.push(Letter::Release(attempt, sku, running.valid_until));
        }
    }

    fn free_key(&mut self, back: Back, client: usize) {
        let request = &self.clients[client].request;
        let name = (request.user.clone(), request.key.clone());
        if let Some(leader) = self.find(back) {
            leader.busy.remove(&name);
        }
    }

    fn find(&mut self, back: Back) -> Option<&mut Leader> {
        let it = &mut self.shards[back.shard];
        std::iter::once(&mut it.leader).chain(&mut it.deposed).find(|leader| leader.term == back.term)
    }

    /// Rule 7: an attempt whose holds take too long gives up, as long as nothing was proposed.
    pub fn time_out(&mut self, shard: usize, which: usize) {
        let it = &self.shards[shard];
        let leaders = std::iter::once(&it.leader).chain(&it.deposed);
        let all: Vec<Back> = leaders.map(|leader| Back { shard, term: leader.term }).collect();
        let back = all[which % all.len()];
        let leader = self.find(back).expect("it was just listed");
        let Some((attempt, client)) =
            leader.running.iter().nth(which % leader.running.len().max(1)).map(|(a, r)| (*a, r.client))
        else {
            return;
        };
        self.counts.note("attempt timed out");
        self.give_up(back, attempt);
        self.clients[client].knows = Knows::Nothing;
    }

    /// A new term: the old leader goes on without knowing.
    ///
    /// # Errors
    /// A violation.
    pub fn depose(&mut self, shard: usize) -> Result<(), Violation> {
        let it = &mut self.shards[shard];
        it.term += 1;
        let old = std::mem::replace(&mut it.leader, Leader::new(it.term));
        if !old.running.is_empty() {
            self.counts.note("leader deposed with attempts running");
        }
        for running in old.running.values() {
            self.clients[running.client].knows = Knows::Nothing;
        }
        let it = &mut self.shards[shard];
        it.deposed.push(old);
        // Rule 1: the first entry of the term is applied before its first request.
        self.apply(shard, Vec::new()).map(drop)
    }

    /// Rule 14: a SKU's leader asks about what has been tentative for long.
    pub fn ask_about_holds(&mut self, shard: usize) {
        if self.plan.mutant == Mutant::NeverAsks {
            return;
        }
        let now = self.clock(shard);
        for (attempt, skus) in self.shards[shard].plain.asks(now, Duration::from_secs(10), 100) {
            self.letters.push(Letter::Ask(shard, attempt, skus));
        }
    }

    /// And the order's leader answers *gone*, or *later* by saying nothing.
    pub fn hear_ask(&mut self, from: usize, attempt: AttemptId, skus: Vec<SkuId>) {
        let home = self.home(attempt.slot);
        let it = &self.shards[home];
        let mutant = self.plan.mutant;
        let later = (it.leader.running.contains_key(&attempt) && mutant != Mutant::GoneWhileRunning)
            || (it.plain.placed(attempt).is_some() && mutant != Mutant::GoneWhilePlaced)
            || attempt.term > it.leader.term;
        if later {
            self.counts.note("ask answered later");
        } else {
            self.letters.push(Letter::Gone(from, attempt, skus));
        }
    }

    /// The SKU's leader frees what is gone.
    ///
    /// # Errors
    /// A violation.
    pub fn hear_gone(&mut self, shard: usize, attempt: AttemptId, skus: Vec<SkuId>) -> Result<(), Violation> {
        let machine = &self.shards[shard].plain;
        let tentative = |sku: &SkuId| matches!(machine.hold_of(attempt, sku), Lookup::Found(HoldView::Tentative(_)));
        if skus.iter().any(tentative) {
            self.counts.note("orphan hold asked and freed");
        }
        self.apply(shard, vec![Command::Gone(skus.into_iter().map(|sku| (attempt, sku)).collect())]).map(drop)
    }

    /// A release arrives.
    ///
    /// # Errors
    /// A violation.
    pub fn hear_release(&mut self, attempt: AttemptId, sku: SkuId, valid_until: Timestamp) -> Result<(), Violation> {
        let home = self.home(sku.slot());
        if self.shards[home].plain.hold_of(attempt, &sku) == Lookup::Absent {
            self.counts.note("unknown hold released");
        }
        self.apply(home, vec![Command::Release(Release { attempt, skus: vec![sku], valid_until })]).map(drop)
    }

    /// Sends a run of one stream, from a number the source believes the destination to be at.
    pub fn send_run(&mut self, from: usize, to: usize) {
        let (source, target) = (&self.shards[from].plain, &self.shards[to].plain);
        let high = target.high(source.shard());
        let believed = if self.faulty { high.saturating_sub(self.dice.below(3)) + self.dice.below(2) } else { high };
        let limit = if self.faulty { 1 + self.dice.index(4) } else { usize::MAX };
        let trimmed = source.streams().find(|stream| stream.to == target.shard()).map_or(0, |stream| stream.trimmed);
        let first = believed.max(trimmed) + 1;
        match source.outbox(target.shard(), first, limit, usize::MAX) {
            Ok(Some(run)) => {
                if self.plan.mutant == Mutant::TrimsUnapplied {
                    let sent = run.first - 1 + run.messages.len() as u64;
                    self.letters.push(Letter::Applied(from, target.shard(), sent));
                }
                self.letters.push(Letter::Run(to, run));
            }
            // Everything was applied, and the answer that said so was lost: ask how far it is.
            Ok(None) if high > trimmed => self.letters.push(Letter::Applied(from, target.shard(), high)),
            Ok(None) | Err(_) => {}
        }
    }

    /// A run arrives; the source is told how far the destination is.
    ///
    /// # Errors
    /// A violation.
    pub fn hear_run(&mut self, to: usize, run: Deliver) -> Result<(), Violation> {
        let from = run.from.0 as usize - 1;
        let group = self.shards[to].plain.shard();
        if let Some(Outcome::Delivered { high }) = self.apply(to, vec![Command::Deliver(run)])?.pop() {
            self.letters.push(Letter::Applied(from, group, high));
        }
        Ok(())
    }
}
