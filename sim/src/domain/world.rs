//! What there is: shards with two replicas each, a network of letters, clients, clocks. And what may happen to it.

use std::collections::BTreeMap;
use std::ops::Bound;

use ordergrid_domain::command::{Deliver, Holds, OrderRequest, Position, Release};
use ordergrid_domain::placing::{HoldResult, Looked};
use ordergrid_domain::rows::{TIMER, list_of, listed_order};
use ordergrid_domain::{
    AttemptId, Audit, AuditReport, Command, Entry, GroupId, Law, OrderId, Outcome, ShardConfig, ShardMachine, SkuId,
    SlotOwners, Timestamp, UserId,
};

use crate::dice::Dice;
use crate::domain::Violation;
use crate::domain::leader::{Leading, Unanswered};
use crate::domain::letters::Question;
use crate::domain::oracle::{Applied, Oracle};
use crate::domain::report::Counts;
use crate::domain::workload::Plan;

/// Where clocks start.
pub const START: u64 = 1_790_000_000_000;

/// One shard: a replica that keeps everything in memory, and one that lives from a store.
pub struct Shard {
    /// Never evicts, never restarts.
    pub plain: ShardMachine,
    /// Evicts, checkpoints, crashes.
    pub stored: ShardMachine,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
    /// One that has begun.
    checkpoint: Option<Checkpoint>,
    log: Vec<(Position, Vec<u8>)>,
    /// The term of the leader.
    pub term: u64,
    /// How far its leader's clock is off, in milliseconds.
    pub skew: i64,
    /// The leader of this term.
    pub leader: Leading,
    /// It is to hand over once nothing is under way.
    pub leaving: bool,
    /// Deposed ones that do not know it, or cannot stop what they began.
    pub deposed: Vec<Leading>,
    config: ShardConfig,
}

/// A checkpoint whose rows are being taken.
struct Checkpoint {
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Entries of the log that it covers.
    entries: usize,
}

/// What the network carries. Each may be lost, come twice, late, or after what was sent later.
#[derive(Clone, Debug)]
pub enum Letter {
    /// Order leader to the leader of SKUs: a call with a number.
    Hold(Back, u64, GroupId, Holds),
    /// And its answer.
    Held(Back, u64, Vec<HoldResult>),
    /// Order leader to the leader of SKUs.
    Release(GroupId, Release),
    /// SKU leader to order leader.
    Ask(Question),
    /// The order leader has looked at its table, and takes a barrier.
    Barrier(Back, Looked, Question),
    /// And the answer that frees (to).
    Gone(usize, AttemptId, Vec<SkuId>),
    /// A run of a stream (to).
    Run(usize, Deliver),
    /// How far a stream (of) was applied (by).
    Applied(usize, GroupId, u64),
}

/// Which leader an answer goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back {
    /// The shard.
    pub shard: usize,
    /// Its term.
    pub term: u64,
}

/// A client that wants an order, and asks again with its key until it knows.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it wants.
    pub request: OrderRequest,
    /// What it knows.
    pub knows: Knows,
    /// Tries so far.
    pub tries: u32,
}

/// What a client knows of its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knows {
    /// Nothing, or that it may have happened.
    Nothing,
    /// That a leader works on it.
    Running,
    /// That it is placed.
    Placed(OrderId),
    /// That it was refused for good.
    Refused,
}

/// Everything.
pub struct World {
    /// What was drawn for this history.
    pub plan: Plan,
    /// Chance.
    pub dice: Dice,
    /// True time, in milliseconds.
    pub now: u64,
    /// The shards; shard i is group i + 1.
    pub shards: Vec<Shard>,
    /// The network.
    pub letters: Vec<Letter>,
    /// Calls made so far.
    pub calls: u64,
    /// Who was dropped without an answer.
    pub unanswered: Unanswered,
    /// Which shard owns which slot.
    pub owners: SlotOwners,
    /// Those who buy.
    pub clients: Vec<Client>,
    /// All SKUs.
    pub skus: Vec<SkuId>,
    /// All users.
    pub users: Vec<UserId>,
    /// The judge.
    pub oracle: Oracle,
    /// What was seen.
    pub counts: Counts,
    /// The network and the stores still fail.
    pub faulty: bool,
}

impl World {
    /// An empty grid.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let groups: Vec<GroupId> = (1..=plan.shards).map(GroupId).collect();
        let owners = SlotOwners::even(&groups);
        let shards = groups.iter().map(|group| Shard::new(ShardConfig::new(*group, owners.clone()))).collect();
        let skus = (0..plan.skus).map(|n| SkuId::new(format!("SKU {n}")).expect("a valid id")).collect();
        let users = (0..plan.users).map(|n| UserId::new(format!("user-{n}")).expect("a valid id")).collect();
        Self {
            dice: Dice::new(plan.seed),
            now: START,
            shards,
            letters: Vec::new(),
            calls: 0,
            unanswered: Unanswered::default(),
            owners: owners.clone(),
            clients: Vec::new(),
            skus,
            users,
            oracle: Oracle::new(owners, plan.mistake),
            counts: Counts::default(),
            faulty: true,
            plan,
        }
    }

    /// Index of the shard that owns a slot.
    #[must_use]
    pub fn home(&self, slot: ordergrid_domain::Slot) -> usize {
        let ranges = self.shards.len();
        // The same rule as `SlotOwners::even`.
        slot.index() * ranges / ordergrid_domain::Slot::COUNT
    }

    /// The clock of a shard's leader.
    #[must_use]
    pub fn clock(&self, shard: usize) -> Timestamp {
        Timestamp::from_ms(self.now.saturating_add_signed(self.shards[shard].skew))
    }

    /// Applies commands as one entry to both replicas of a shard, and has the oracle judge.
    ///
    /// # Errors
    /// The replicas or the oracle disagree.
    pub fn apply(&mut self, shard: usize, commands: Vec<Command>) -> Result<Vec<Outcome>, Violation> {
        let (term, at) = (self.shards[shard].term, self.clock(shard));
        self.apply_in(shard, term, Entry { at, commands })
    }

    /// The same, in a term of choice: entries of an old term may still be in the log when the new leader begins.
    ///
    /// # Errors
    /// The replicas or the oracle disagree.
    pub fn apply_in(&mut self, shard: usize, term: u64, entry: Entry) -> Result<Vec<Outcome>, Violation> {
        let it = &mut self.shards[shard];
        let position = Position { term, index: it.plain.position().index + 1 };
        let bytes = entry.to_bytes();
        let entry = Entry::from_bytes(&bytes).map_err(|error| Violation(format!("an entry does not read back: {error}")))?;
        self.counts.add("cold row loaded", it.load(&entry));
        let at = Applied { shard: it.plain.shard(), term, stamp: entry.at };
        let mut outcomes = Vec::new();
        let (applied, stored) = (it.plain.apply(position, &entry), it.stored.apply(position, &entry));
        it.take_rows(4);
        it.stored.evict_timers(1);
        if applied != stored {
            return Err(Violation(format!("{}: {applied:?} and {stored:?} for {entry:?}", Law::ReplicasAgree)));
        }
        it.log.push((position, bytes));
        self.oracle.advance(at);
        for (command, outcome) in entry.commands.iter().zip(applied) {
            let judged = self.oracle.judge(at, command, &outcome, &mut self.counts);
            judged.map_err(|violation| Violation(format!("{}: shard {}, term {term}: {command:?}", violation.0, at.shard)))?;
            outcomes.push(outcome);
        }
        let compared = self.oracle.compare(&self.shards[shard].plain);
        compared.map_err(|violation| Violation(format!("{}: shard {}, {entry:?}", violation.0, at.shard)))?;
        Ok(outcomes)
    }

    /// Something happens to a store between two entries.
    ///
    /// # Errors
    /// The replicas no longer agree.
    pub fn disturb(&mut self, shard: usize) -> Result<(), Violation> {
        let choice = self.dice.below(8);
        let target = self.dice.below(20_000);
        let it = &mut self.shards[shard];
        match choice {
            0 => it.checkpoint(),
            1 | 2 => {
                it.checkpoint();
                it.stored.evict(0);
            }
            3 => {
                it.stored.evict(target);
                it.stored.evict_timers(usize::MAX);
            }
            // Its rows are taken while entries are applied.
            4 | 5 => it.begin_checkpoint(),
            _ => {
                self.counts.note(if it.disk.is_empty() { "restored from the log alone" } else { "restored from checkpoint" });
                it.crash();
            }
        }
        it.agree()?;
        self.users.iter().try_for_each(|user| it.agree_on_list(user))
    }

    /// The laws, from the stored rows of all shards.
    #[must_use]
    pub fn audit(&mut self) -> AuditReport {
        let mut whole: Option<Audit> = None;
        for it in &mut self.shards {
            it.checkpoint();
            let mut audit = Audit::of(it.plain.shard());
            for (key, value) in &it.disk {
                audit.add(key, value);
            }
            match &mut whole {
                Some(whole) => whole.merge(audit),
                None => whole = Some(audit),
            }
        }
        whole.expect("there is a shard").finish()
    }

    /// Rows of a shard as they are stored: for those who damage them.
    #[must_use]
    pub fn disk(&mut self, shard: usize) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        &mut self.shards[shard].disk
    }

    /// Judges the healed world: replicas, laws, and the oracle's last look.
    ///
    /// # Errors
    /// What is wrong.
    pub fn judge(&mut self) -> Result<(), Violation> {
        for it in &mut self.shards {
            it.agree()?;
            it.plain.check();
            it.crash();
            it.agree()?;
        }
        let report = self.audit();
        if let Some((law, text)) = report.violations().next() {
            return Err(Violation(format!("{law}: {text}")));
        }
        if report.in_flight != ordergrid_domain::audit::InFlight::default() || !report.torn.is_empty() {
            return Err(Violation(format!("{}: {:?} is under way, {:?} is torn", Law::Heals, report.in_flight, report.torn)));
        }
        self.counts.add("rows audited", report.counts.rows);
        let machines = self.shards.iter().map(|it| (it.plain.shard(), &it.plain)).collect();
        self.oracle.judge_all(&machines)
    }
}

impl Shard {
    fn new(config: ShardConfig) -> Self {
        Self {
            plain: ShardMachine::new(config.clone()),
            stored: ShardMachine::new(config.clone()),
            disk: BTreeMap::new(),
            checkpoint: None,
            log: Vec::new(),
            term: 1,
            skew: 0,
            leader: Leading::new(config.shard, 1, config.owners.clone()),
            leaving: false,
            deposed: Vec::new(),
            config,
        }
    }

    /// Loads what an entry needs; says how many rows were there.
    fn load(&mut self, entry: &Entry) -> u64 {
        let mut loaded = self.load_timers(entry);
        loop {
            // As a filter says it: no is certain, and a few keys are taken for others.
            let may_have = |key: &[u8]| self.disk.contains_key(key) || key.len().is_multiple_of(4);
            self.stored.warm(entry);
            let missing = self.stored.missing(entry, &may_have);
            self.stored.admit_absent(missing.absent);
            if missing.cold.is_empty() {
                return loaded;
            }
            let epoch = self.stored.load_epoch();
            for key in missing.cold {
                let value = self.disk.get(key.as_bytes()).map(Vec::as_slice);
                loaded += u64::from(value.is_some());
                assert!(self.stored.admit(key, value, epoch), "nothing happens between the read and its use here");
            }
        }
    }

    /// Loads the timers that its ticks may reach, a few at a time.
    fn load_timers(&mut self, entry: &Entry) -> u64 {
        let mut loaded = 0;
        while let Some(scan) = self.stored.missing_timers(entry) {
            let rows = self.disk.range((Bound::Excluded(scan.after()), Bound::Excluded(vec![TIMER + 1])));
            let rows: Vec<(&[u8], &[u8])> = rows.take(5).map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
            loaded += rows.len() as u64;
            let admitted = self.stored.admit_timers(&scan, rows).expect("what was stored reads back");
            assert!(admitted, "nothing happens between the read and its use here");
        }
        loaded
    }

    fn checkpoint(&mut self) {
        self.take_rows(usize::MAX);
        self.begin_checkpoint();
        self.take_rows(usize::MAX);
    }

    fn begin_checkpoint(&mut self) {
        if self.checkpoint.is_none() {
            self.stored.begin_checkpoint();
            self.checkpoint = Some(Checkpoint { rows: Vec::new(), entries: self.log.len() });
        }
    }

    /// Goes on with a checkpoint that has begun, and writes it once it has all its rows.
    fn take_rows(&mut self, limit: usize) {
        let Some(checkpoint) = &mut self.checkpoint else { return };
        let rows = &mut checkpoint.rows;
        if !self.stored.checkpoint_step(limit, &mut |key, value| rows.push((key.to_vec(), value.map(<[u8]>::to_vec)))) {
            return;
        }
        for (key, value) in rows.drain(..) {
            match value {
                Some(bytes) => drop(self.disk.insert(key, bytes)),
                None => drop(self.disk.remove(&key)),
            }
        }
        self.log.drain(..checkpoint.entries);
        self.checkpoint = None;
        self.stored.checkpoint_durable();
    }

    /// Memory is lost: start from the last checkpoint, and apply the log after it again.
    fn crash(&mut self) {
        self.checkpoint = None;
        self.stored = ShardMachine::new(self.config.clone());
        let resident = self.stored.resident_tables();
        for (key, value) in self.disk.iter().filter(|(key, _)| resident.contains(&key[0])) {
            self.stored.restore(key, value).expect("what was stored reads back");
        }
        for (position, bytes) in std::mem::take(&mut self.log) {
            let entry = Entry::from_bytes(&bytes).expect("what was logged reads back");
            self.load(&entry);
            self.stored.apply(position, &entry);
            self.log.push((position, bytes));
        }
    }

    fn agree(&mut self) -> Result<(), Violation> {
        let (plain, stored) = (self.plain.state_hash(), self.stored.state_hash());
        if plain == stored {
            Ok(())
        } else {
            Err(Violation(format!("{}: hashes {plain:x} and {stored:x}", Law::ReplicasAgree)))
        }
    }

    /// The orders of a user are the same where all are in memory and where most are in the store.
    fn agree_on_list(&self, user: &UserId) -> Result<(), Violation> {
        let start = list_of(user);
        let rows = self.disk.range(start.as_bytes().to_vec()..).map(|(key, _)| key);
        let stored = rows.take_while(|key| key.starts_with(start.as_bytes()));
        let stored = stored.map(|key| listed_order(key).expect("what was stored reads back"));
        let listed: Vec<OrderId> = self.stored.unlisted(user).chain(stored).collect();
        let expected: Vec<OrderId> = self.plain.unlisted(user).collect();
        if listed == expected {
            return Ok(());
        }
        Err(Violation(format!("{}: the orders of {user} are {expected:?}, listed are {listed:?}", Law::ReadsAreCurrent)))
    }
}
