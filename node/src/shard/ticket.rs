//! Holds under way. Their ticket belongs to their command from the proposal on, so that the accounts of their SKUs are settled
//! whatever became of the actor that proposed them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ordergrid_domain::placing::{HoldResult, NotLanded};
use ordergrid_domain::{Outcome, SkuId};
use parking_lot::{Mutex, MutexGuard};
use ractor::ActorRef;

use super::holds::HoldSink;
use super::landings::Landings;
use super::sku_actor::SkuMessage;

/// What has been asked of the log for the SKUs of a led shard and not been heard of.
#[derive(Default)]
pub(crate) struct Accounts(Mutex<OpenAccounts>);

/// The same, locked.
#[derive(Default)]
pub(crate) struct OpenAccounts {
    /// Units in holds under way, of each SKU that has any.
    units: HashMap<SkuId, u64>,
    /// Of all SKUs.
    total: u64,
    /// SKUs in whose actors somebody waits for the account to settle.
    parked: BTreeMap<SkuId, Parked>,
}

/// Somebody waits in a SKU's actor.
struct Parked {
    actor: ActorRef<SkuMessage>,
    /// The actor has been told that the account has changed.
    told: bool,
}

impl Accounts {
    /// Nobody else changes them meanwhile.
    pub(crate) fn open(&self) -> MutexGuard<'_, OpenAccounts> {
        self.0.lock()
    }

    /// Holds have been heard of, or never will be.
    fn settle(&self, holds: &[HoldUnderWay]) {
        let mut accounts = self.open();
        for HoldUnderWay { sku, units, .. } in holds {
            accounts.settle(sku, *units);
        }
    }
}

impl OpenAccounts {
    /// Units of a SKU in holds under way.
    pub(crate) fn units(&self, sku: &SkuId) -> u64 {
        self.units.get(sku).copied().unwrap_or(0)
    }

    /// Units of all SKUs in holds under way.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// A hold is on its way.
    pub(crate) fn begin(&mut self, sku: &SkuId, units: u64) {
        self.total += units;
        match self.units.get_mut(sku) {
            Some(known) => *known += units,
            None => drop(self.units.insert(sku.clone(), units)),
        }
    }

    /// Somebody waits in the SKU's actor, which is told when the account changes: once.
    pub(crate) fn park(&mut self, sku: &SkuId, actor: ActorRef<SkuMessage>) {
        self.parked.insert(sku.clone(), Parked { actor, told: false });
    }

    /// Nobody waits for the SKU's account any more.
    pub(crate) fn unpark(&mut self, sku: &SkuId) {
        self.parked.remove(sku);
    }

    /// Something of a SKU is under way, or waits for that.
    pub(crate) fn is_open(&self, sku: &SkuId) -> bool {
        self.units.contains_key(sku) || self.parked.contains_key(sku)
    }

    fn settle(&mut self, sku: &SkuId, units: u64) {
        let known = self.units.get_mut(sku).filter(|known| **known >= units);
        let known = known.expect("rule 12: a hold that settles has been counted");
        *known -= units;
        if *known == 0 {
            self.units.remove(sku);
        }
        self.total -= units;
        if !self.parked.is_empty()
            && let Some(Parked { actor, told }) = self.parked.get_mut(sku)
            && !std::mem::replace(told, true)
        {
            // An actor that is gone has dropped those who waited.
            actor.send_message(SkuMessage::Settled).ok();
        }
    }
}

/// A hold that was asked of the log.
struct HoldUnderWay {
    sku: SkuId,
    units: u64,
    /// Its place among those that are answered together.
    place: usize,
}

/// Holds under way that are answered together, some of them from memory. Dropped in any way, it settles the accounts.
pub(crate) struct HoldTicket {
    accounts: Arc<Accounts>,
    under_way: Vec<HoldUnderWay>,
    /// One per hold; unknown until the log has decided.
    results: Vec<HoldResult>,
    sink: Option<HoldSink>,
}

impl HoldTicket {
    /// With room for so many holds.
    pub(crate) fn new(accounts: &Arc<Accounts>, holds: usize) -> Self {
        let (under_way, results) = (Vec::with_capacity(holds), Vec::with_capacity(holds));
        Self { accounts: Arc::clone(accounts), under_way, results, sink: None }
    }

    /// The log decides the next hold, whose units have been counted.
    pub(crate) fn waits(&mut self, sku: &SkuId, units: u64) {
        self.under_way.push(HoldUnderWay { sku: sku.clone(), units, place: self.results.len() });
        self.results.push(HoldResult::Unknown);
    }

    /// The next hold has its answer.
    pub(crate) fn knows(&mut self, result: HoldResult) {
        self.results.push(result);
    }

    /// How many holds are answered together.
    pub(crate) fn len(&self) -> usize {
        self.results.len()
    }

    /// That is all, and it is answered there.
    pub(crate) fn answers(&mut self, sink: HoldSink) {
        self.sink = Some(sink);
    }

    /// The log has decided.
    pub(crate) fn land(mut self, outcome: Outcome, landings: &mut Landings) {
        match outcome {
            Outcome::Holds(_) => self.fill(HoldResult::landed_together(outcome)),
            one => self.fill(std::iter::once(HoldResult::landed(one))),
        }
        self.send(landings);
    }

    /// The log has not decided.
    pub(crate) fn fail(mut self, why: NotLanded, landings: &mut Landings) {
        self.fill(std::iter::repeat(HoldResult::not_landed(why)));
        self.send(landings);
    }

    fn fill(&mut self, decided: impl Iterator<Item = HoldResult>) {
        for (hold, result) in self.under_way.iter().zip(decided) {
            self.results[hold.place] = result;
        }
    }

    /// Answers what is known; what the log has not decided is unknown.
    pub(crate) fn send(&mut self, landings: &mut Landings) {
        if let Some(sink) = self.sink.take() {
            sink.send(std::mem::take(&mut self.results), landings);
        }
    }
}

impl Drop for HoldTicket {
    fn drop(&mut self) {
        self.send(&mut Landings::default());
        if !self.under_way.is_empty() {
            self.accounts.settle(&self.under_way);
        }
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_domain::command::{HoldAsked, Holds};
    use ordergrid_domain::{GroupId, Quantity, Rejection, Slot, Text, Timestamp};
    use tokio::sync::oneshot;

    use super::*;
    use crate::shard::holds::HoldCaller;

    fn sku(name: &str) -> SkuId {
        SkuId::new(name).unwrap()
    }

    /// Two holds of A that the log decides, with one of B between them that memory has answered.
    fn ticket(accounts: &Arc<Accounts>) -> (HoldTicket, oneshot::Receiver<Vec<HoldResult>>) {
        let row = |name| HoldAsked { slot: Slot::new(1).unwrap(), counter: 1, sku: sku(name), quantity: Quantity(2) };
        let rows = ["A", "B", "A"].map(row).into();
        let holds = Holds { group: GroupId(1), term: 1, valid_until: Timestamp::from_ms(0), rows };
        let (caller, answer) = oneshot::channel();
        let mut ticket = HoldTicket::new(accounts, 3);
        for row in &holds.rows {
            if row.sku == sku("B") {
                ticket.knows(HoldResult::Overloaded);
            } else {
                accounts.open().begin(&row.sku, 2);
                ticket.waits(&row.sku, 2);
            }
        }
        ticket.answers(HoldSink::new(&holds, HoldCaller::Task(caller)));
        (ticket, answer)
    }

    #[tokio::test]
    async fn a_ticket_answers_and_settles_whatever_becomes_of_it() {
        let granted = || HoldResult::Granted(Text::new("lamp").unwrap());
        let ended = || HoldResult::Refused(Rejection::HoldEnded);
        type Becomes = fn(HoldTicket);
        let both = |first: Result<Text, Rejection>| Outcome::Holds(vec![first, Err(Rejection::HoldEnded)]);
        let landed = both(Ok(Text::new("lamp").unwrap()));
        let cases: [(&str, Becomes, [HoldResult; 2]); 3] = [
            ("lost", drop, [HoldResult::Unknown, HoldResult::Unknown]),
            (
                "not appended",
                |ticket| ticket.fail(NotLanded::NotAppended, &mut Landings::default()),
                [HoldResult::NoLeader, HoldResult::NoLeader],
            ),
            (
                "too late",
                |ticket| ticket.fail(NotLanded::TooLate, &mut Landings::default()),
                [HoldResult::Overloaded, HoldResult::Overloaded],
            ),
        ];
        let accounts = Arc::<Accounts>::default();
        let counted = || {
            let open = accounts.open();
            (open.units(&sku("A")), open.total(), open.is_open(&sku("A")))
        };
        for (what, becomes, [first, second]) in cases {
            let (ticket, answer) = ticket(&accounts);
            assert_eq!(counted(), (4, 4, true), "{what}");
            becomes(ticket);
            assert_eq!(counted(), (0, 0, false), "{what}");
            assert_eq!(answer.await.unwrap(), [first, HoldResult::Overloaded, second], "{what}");
        }
        let (ticket, answer) = ticket(&accounts);
        ticket.land(landed, &mut Landings::default());
        assert_eq!(answer.await.unwrap(), [granted(), HoldResult::Overloaded, ended()]);
        assert_eq!(counted(), (0, 0, false));
    }
}
