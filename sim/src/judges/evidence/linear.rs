//! A checker of histories without any log: is there an order of the calls, each somewhere between its beginning and its end,
//! in which a small sequential model gives every answer?
//!
//! The search is Wing and Gong's with Lowe's memory of what was tried. Two models are exact whatever else goes on: what was
//! received and adjusted of a SKU, and the payments of an order; only calls change them. An unknown call may have its effect
//! at any time after its beginning, or never. A key has its effect once: an answer that is a replay is a read after it.
//! Searches that take too long are counted as undecided, never as wrong.

use std::collections::{BTreeMap, BTreeSet};

use ordergrid_api::wire::{Order, PayOrder, Payment};
use ordergrid_domain::{OrderId, ProviderPaymentId, SkuId};

use crate::domain::oracle::AttemptModel;

use super::book::{Book, How, Sighting, ended, surely_nothing};
use crate::history::{Ask, Ending, Operation, SimTime};

/// Steps after which a search is given up.
const BUDGET: usize = 100_000;

/// What is sequential: states, and what acts do to them.
trait Model {
    /// A state; the default is the first.
    type State: Clone + Ord + Default;
    /// A change.
    type Change;
    /// What an answer shows of the state.
    type View: PartialEq;

    /// The state after a change; none if it cannot be done there.
    fn change(state: &Self::State, change: &Self::Change) -> Option<Self::State>;

    /// What can be seen of a state.
    fn view(state: &Self::State) -> Self::View;
}

/// One thing that takes place at one moment.
struct Act<M: Model> {
    began: SimTime,
    /// None: at any time after `began`, or never.
    ended: Option<SimTime>,
    /// Has this effect, once per number.
    effect: Option<(M::Change, usize)>,
    /// Comes after the effect of this number.
    after: Option<usize>,
    /// Shows this.
    view: Option<M::View>,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// There is an order.
    Linear,
    /// There is none.
    Impossible,
    /// It took too long.
    Undecided,
}

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Set(Vec<u64>);

impl Set {
    fn of(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)])
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn with(&self, at: usize) -> Self {
        let mut more = self.clone();
        more.0[at / 64] |= 1 << (at % 64);
        more
    }
}

/// A point of the search: which acts took place, which effects that came to, and where that led.
struct Point<M: Model> {
    placed: Set,
    effects: Set,
    state: M::State,
}

fn search<M: Model>(mut acts: Vec<Act<M>>, effects: usize, budget: usize) -> Finding {
    acts.sort_by_key(|act| (act.began, act.ended));
    let mut points = vec![Point::<M> { placed: Set::of(acts.len()), effects: Set::of(effects), state: M::State::default() }];
    let mut seen = BTreeSet::new();
    let mut steps = 0;
    while let Some(point) = points.pop() {
        if !seen.insert((point.placed.clone(), point.state.clone())) {
            continue;
        }
        let Some(next) = next(&acts, &point) else { return Finding::Linear };
        steps += next.len() + 1;
        if steps > budget {
            return Finding::Undecided;
        }
        // A view that fits now may as well be placed now: it changes nothing for the others.
        let looks = |at: &&usize| acts[**at].effect.is_none();
        if let Some(after) = next.iter().filter(looks).find_map(|at| place(&acts[*at], *at, &point)) {
            points.push(after);
            continue;
        }
        // What is open is tried last, since it may never have been.
        let (closed, open): (Vec<usize>, Vec<usize>) = next.iter().partition(|at| acts[**at].ended.is_some());
        points.extend(open.iter().chain(&closed).filter_map(|at| place(&acts[*at], *at, &point)));
    }
    Finding::Impossible
}

/// The acts that may be the next: none that is left has ended before they began. None if all that ended are placed.
fn next<M: Model>(acts: &[Act<M>], point: &Point<M>) -> Option<Vec<usize>> {
    let left = || (0..acts.len()).filter(|at| !point.placed.has(*at));
    let horizon = left().filter_map(|at| acts[at].ended).min()?;
    Some(left().take_while(|at| acts[*at].began <= horizon).collect())
}

fn place<M: Model>(act: &Act<M>, at: usize, point: &Point<M>) -> Option<Point<M>> {
    if act.after.is_some_and(|effect| !point.effects.has(effect)) {
        return None;
    }
    let mut after = Point { placed: point.placed.with(at), effects: point.effects.clone(), state: point.state.clone() };
    if let Some((change, number)) = &act.effect {
        if point.effects.has(*number) {
            return None;
        }
        after.state = M::change(&point.state, change)?;
        after.effects = point.effects.with(*number);
    }
    let seen = act.view.as_ref().is_none_or(|view| *view == M::view(&after.state));
    seen.then_some(after)
}

/// A call, what it asked for and what it was shown.
type Call<'a, M> = (&'a Operation, <M as Model>::Change, Option<<M as Model>::View>);

/// Acts of one entity, gathered.
struct Acts<M: Model> {
    acts: Vec<Act<M>>,
    effects: usize,
}

impl<M: Model> Acts<M> {
    fn new() -> Self {
        Self { acts: Vec::new(), effects: 0 }
    }

    fn look(&mut self, op: &Operation, view: M::View, after: Option<usize>) {
        self.acts.push(Act { began: op.began, ended: Some(ended(op)), effect: None, after, view: Some(view) });
    }

    /// The calls of one key.
    fn key(&mut self, calls: Vec<Call<'_, M>>) {
        let number = self.effects;
        self.effects += 1;
        let first = |op: &Operation| matches!(op.ending, Ending::Done { replayed: false, .. });
        let placed = calls.iter().any(|(op, ..)| first(op));
        let mut open = false;
        for (op, change, view) in calls {
            let effect = Some((change, number));
            if first(op) {
                self.acts.push(Act { began: op.began, ended: Some(ended(op)), effect, after: None, view });
                continue;
            }
            // One open effect is enough: the first call's, since it may be the latest too.
            if !placed && !open {
                open = true;
                self.acts.push(Act { began: op.began, ended: None, effect, after: None, view: None });
            }
            if let Some(view) = view {
                self.look(op, view, Some(number));
            }
        }
    }

    fn finding(self) -> Finding {
        search(self.acts, self.effects, BUDGET)
    }
}

/// What was received and adjusted of a SKU.
struct Stock;

impl Model for Stock {
    type State = (i128, i128);
    type Change = (i128, i128);
    type View = (i128, i128);

    fn change(state: &Self::State, change: &Self::Change) -> Option<Self::State> {
        Some((state.0 + change.0, state.1 + change.1))
    }

    fn view(state: &Self::State) -> Self::View {
        *state
    }
}

/// The payments of an order, with what was told of each.
struct Ledger;

impl Model for Ledger {
    type State = Vec<(ProviderPaymentId, AttemptModel)>;
    type Change = PayOrder;
    type View = Vec<(ProviderPaymentId, AttemptModel)>;

    fn change(state: &Self::State, pay: &PayOrder) -> Option<Self::State> {
        let mut after = state.clone();
        let at = after.iter().position(|one| one.0 == pay.provider_payment_id).unwrap_or_else(|| {
            after.push((pay.provider_payment_id.clone(), AttemptModel::default()));
            after.len() - 1
        });
        after[at].1.tell(pay.status, pay.amount)?;
        Some(after)
    }

    fn view(state: &Self::State) -> Self::View {
        state.clone()
    }
}

fn ledger(order: &Order) -> <Ledger as Model>::View {
    let told = |one: &Payment| AttemptModel(one.facts.iter().map(|fact| (fact.status, fact.amount)).collect());
    order.payments.iter().map(|one| (one.provider_payment_id.clone(), told(one))).collect()
}

/// Searches for every SKU, those without a shortfall, and for every order; with the name of each.
#[must_use]
pub fn findings(book: &Book<'_>) -> Vec<(String, Finding)> {
    let short = book.short_skus();
    let skus = book.skus.keys().filter(|sku| !short.contains(*sku)).map(|sku| (format!("SKU {sku}"), of_sku(book, sku)));
    let mut paid: BTreeMap<OrderId, Vec<&[&Operation]>> = BTreeMap::new();
    for ((id, _), calls) in &book.commands {
        paid.entry(*id).or_default().push(calls);
    }
    let paid = |id: &OrderId| paid.get(id).map_or(&[][..], Vec::as_slice);
    let orders = book.orders.iter().map(|(id, sightings)| (format!("order {id}"), of_order(book, paid(id), sightings)));
    skus.chain(orders).collect()
}

fn of_sku(book: &Book<'_>, sku: &SkuId) -> Finding {
    let view = |stock: &ordergrid_api::wire::Stock| (i128::from(stock.received), i128::from(stock.adjusted));
    let mut shown: BTreeMap<u64, (i128, i128)> = BTreeMap::new();
    let mut acts = Acts::<Stock>::new();
    for sighting in &book.skus[sku] {
        let view = view(&sighting.what.stock);
        shown.insert(sighting.op.number, view);
        if !matches!(sighting.op.ask, Ask::Receive(..) | Ask::Adjust(..)) {
            acts.look(sighting.op, view, None);
        }
    }
    for calls in book.stock_commands.iter().filter(|((of, _), _)| of == sku).map(|(_, calls)| calls) {
        let calls = calls.iter().filter(|op| !surely_nothing(op, &book.setting));
        let call = |op: &&Operation| match &op.ask {
            Ask::Receive(_, _, receive) => Some((i128::from(receive.quantity), 0)),
            Ask::Adjust(_, _, adjust) => Some((0, i128::from(adjust.delta))),
            _ => None,
        };
        acts.key(calls.filter_map(|op| Some((*op, call(op)?, shown.get(&op.number).copied()))).collect());
    }
    acts.finding()
}

fn of_order(book: &Book<'_>, keys: &[&[&Operation]], sightings: &[Sighting<'_, Order>]) -> Finding {
    let mut shown = BTreeMap::new();
    let mut acts = Acts::<Ledger>::new();
    for sighting in sightings.iter().filter(|sighting| sighting.how != How::Placed) {
        let view = ledger(sighting.what);
        if matches!(sighting.op.ask, Ask::Pay(..)) {
            shown.insert(sighting.op.number, view);
        } else {
            acts.look(sighting.op, view, None);
        }
    }
    for calls in keys {
        let calls = calls.iter().filter(|op| !surely_nothing(op, &book.setting));
        let paid = |op: &&Operation| if let Ask::Pay(_, _, pay) = &op.ask { Some(pay.clone()) } else { None };
        let calls: Vec<_> = calls.filter_map(|op| Some((*op, paid(op)?, shown.remove(&op.number)))).collect();
        if !calls.is_empty() {
            acts.key(calls);
        }
    }
    acts.finding()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::testing::{Shop, key, setting, sku};

    fn act(began: u64, ended: Option<u64>, change: Option<(i128, usize)>, view: Option<i128>) -> Act<Stock> {
        let effect = change.map(|(units, number)| ((units, 0), number));
        let ended = ended.map(SimTime);
        Act { began: SimTime(began), ended, effect, after: None, view: view.map(|units| (units, 0)) }
    }

    #[test]
    #[rustfmt::skip]
    fn histories_of_a_counter() {
        use Finding::{Impossible, Linear};
        let write = |began, ended, units, number| act(began, Some(ended), Some((units, number)), None);
        let open = |began, units, number| act(began, None, Some((units, number)), None);
        let read = |began, ended, units| act(began, Some(ended), None, Some(units));
        for (name, acts, expected) in [
            ("one after the other",         vec![write(0, 1, 5, 0), read(2, 3, 5)],                         Linear),
            ("a stale read",                vec![write(0, 1, 5, 0), read(2, 3, 0)],                         Impossible),
            ("during it, either",           vec![write(0, 9, 5, 0), read(2, 3, 0), read(4, 5, 5)],          Linear),
            ("and not back",                vec![write(0, 9, 5, 0), read(2, 3, 5), read(4, 5, 0)],          Impossible),
            ("open, never",                 vec![open(0, 5, 0), read(2, 3, 0), read(4, 5, 0)],              Linear),
            ("open, late",                  vec![open(0, 5, 0), read(2, 3, 0), read(4, 5, 5)],              Linear),
            ("open, and not back",          vec![open(0, 5, 0), read(2, 3, 5), read(4, 5, 0)],              Impossible),
            ("not before it began",         vec![open(4, 5, 0), read(2, 3, 5)],                             Impossible),
            ("two at once, one of them",    vec![write(0, 9, 5, 0), write(0, 9, 7, 1), read(2, 3, 7)],      Linear),
            ("two at once, nothing else",   vec![write(0, 9, 5, 0), write(0, 9, 7, 1), read(2, 3, 6)],      Impossible),
            ("once",                        vec![open(0, 5, 0), open(0, 5, 0), read(2, 3, 10)],             Impossible),
            ("at the same moment, either",  vec![write(0, 2, 5, 0), read(2, 3, 0)],                         Linear),
        ] {
            assert_eq!(search(acts, 2, BUDGET), expected, "{name}");
        }
    }

    #[test]
    fn a_search_that_takes_too_long_is_undecided() {
        let mut acts: Vec<Act<Stock>> = (0..30).map(|number| act(0, None, Some((1 << number, number)), None)).collect();
        acts.push(act(1, Some(2), None, Some(-1)));
        assert_eq!(search(acts, 30, 10_000), Finding::Undecided);
    }

    fn linear(shop: &Shop) -> bool {
        findings(&Book::new(&shop.history, setting())).iter().all(|(_, finding)| *finding == Finding::Linear)
    }

    #[test]
    fn a_shop_is_linear() {
        let mut shop = Shop::with(100);
        let order = shop.order("u", "k", "A*6@255");
        let lost = shop.receive("A", 5);
        shop.steps(order, "pay p processing 1530; pay p captured 1530");
        let lost_pay = shop.steps(order, "pay q captured 7");
        let again = shop.history.operations[lost].ask.clone();
        shop.ask(1, again);
        shop.finish();
        assert!(linear(&shop));
        shop.lose(lost);
        shop.lose(lost_pay);
        assert!(linear(&shop));
        shop.refuse(lost_pay, 409, "wrong_payment_state");
        assert!(!linear(&shop));
    }

    #[test]
    fn a_lost_receipt_that_shows_is_not_linear() {
        let mut shop = Shop::with(100);
        shop.receive("A", 5);
        let before = shop.ask(1, Ask::ReadSku(sku("A")));
        let stock = shop.answered_sku(before);
        stock.stock.received -= 5;
        assert!(!linear(&shop));
    }

    #[test]
    fn the_first_answer_lost_and_the_second_a_replay() {
        let mut shop = Shop::with(100);
        let ask = Ask::Receive(key("r"), sku("A"), ordergrid_api::wire::ReceiveStock { quantity: 5, warehouse: None });
        let first = shop.ask(1, ask.clone());
        shop.ask(1, Ask::ReadSku(sku("A")));
        shop.receive("A", 7);
        shop.ask(1, ask);
        shop.lose(first);
        assert!(linear(&shop));
    }
}
