//! T1, placing: what a request is refused for without looking at any state, and the order that it makes.

use super::effects::{Effects, StockEffect, TimerKind};
use super::units::per_sku;
use super::{Event, EventKind, Line, LineRequest, Operator, Order, Phase, Terms, limits};
use crate::command::OrderRequest;
use crate::ids::{AttemptId, OrderId, SkuId, Text};
use crate::money::{Money, Quantity};
use crate::rejection::Rejection;
use crate::time::Timestamp;

impl OrderRequest {
    /// Everything that can be refused without looking at any state. Gives the total.
    ///
    /// # Errors
    /// In this order: number of lines, number of metadata pairs, payment window, each line (quantity, then amounts), the
    /// order's amounts and their sum, the client's own total. Answer 422, nothing happened.
    pub fn check(&self) -> Result<Money, Rejection> {
        if self.lines.is_empty() {
            return Err(Rejection::NoLines);
        }
        if self.lines.len() > limits::LINES {
            return Err(Rejection::TooManyLines { count: self.lines.len(), limit: limits::LINES });
        }
        if self.metadata.len() > limits::METADATA {
            return Err(Rejection::TooManyMetadata { count: self.metadata.len(), limit: limits::METADATA });
        }
        if !(limits::PAYMENT_WINDOW_MIN..=limits::PAYMENT_WINDOW_MAX).contains(&self.payment_window) {
            return Err(Rejection::PaymentWindowOutOfRange);
        }
        let mut total = Money::ZERO;
        for (number, line) in (1..).zip(&self.lines) {
            // Cannot overflow: at most 1,000 lines of at most `limits::AMOUNT`.
            total.0 += line.check(number)?.0;
        }
        let total = self.with_order_amounts(total).ok_or(Rejection::AmountOutOfRange)?;
        match self.total {
            Some(claimed) if claimed != total => Err(Rejection::TotalMismatch { claimed, actual: total }),
            _ => Ok(total),
        }
    }

    /// Units of each SKU, summed over the lines, ordered by SKU: what has to be held.
    #[must_use]
    pub fn wanted(&self) -> Vec<(SkuId, Quantity)> {
        per_sku(self.lines.iter().map(|line| (&line.sku, line.quantity)))
    }

    fn with_order_amounts(&self, lines: Money) -> Option<Money> {
        let in_range = |amount: Money| (Money::ZERO..=limits::AMOUNT).contains(&amount).then_some(amount);
        let total = lines.0 - in_range(self.discount)?.0 + in_range(self.shipping_fee)?.0;
        in_range(Money(total))
    }
}

impl LineRequest {
    /// Checks line `number` and gives what it comes to, at most `limits::AMOUNT`.
    fn check(&self, number: u32) -> Result<Money, Rejection> {
        if self.quantity == Quantity::ZERO || self.quantity > Quantity::LIMIT {
            return Err(Rejection::LineQuantityOutOfRange { line: number, quantity: self.quantity });
        }
        self.amount().ok_or(Rejection::LineAmountOutOfRange { line: number })
    }

    fn amount(&self) -> Option<Money> {
        let in_range = |amount: Money, limit: Money| (Money::ZERO..=limit).contains(&amount).then_some(amount);
        let price = in_range(self.unit_price, limits::AMOUNT)?;
        let gross = in_range(price.checked_mul(self.quantity)?, limits::AMOUNT)?;
        let net = Money(gross.0 - in_range(self.discount, gross)?.0);
        in_range(net.checked_add(in_range(self.tax, limits::AMOUNT)?)?, limits::AMOUNT)
    }
}

impl Order {
    /// The order that `request`, which has passed [`OrderRequest::check`], makes. `names` has the catalogue name per line;
    /// a line without one is called by its SKU.
    #[must_use]
    pub fn place(id: OrderId, attempt: AttemptId, request: &OrderRequest, names: &[Text], now: Timestamp) -> (Self, Effects) {
        let lines: Vec<Line> = request.lines.iter().enumerate().map(|(at, line)| Line::placed(line, names.get(at))).collect();
        let lines_amount: i64 = lines.iter().map(|line| line.amount().0).sum();
        let total = Money(lines_amount - request.discount.0 + request.shipping_fee.0);
        let mut order = Self {
            id,
            user: request.user.clone(),
            key: request.key.clone(),
            attempt,
            reference: request.reference.clone(),
            currency: request.currency,
            phase: Phase::PendingPayment,
            cancel_reason: None,
            version: 1,
            created_at: now,
            updated_at: now,
            payment_due_at: None,
            grace_used: false,
            completes_at: None,
            terms: request.terms,
            payment_method: request.payment_method.clone(),
            lines,
            discount: request.discount,
            shipping_fee: request.shipping_fee,
            total,
            ship_to: request.ship_to.clone(),
            metadata: request.metadata.clone(),
            payments: Vec::new(),
            refunds: Vec::new(),
            fulfilments: Vec::new(),
            events: Vec::new(),
            payment_window: request.payment_window,
        };
        order.begin();
        let mut effects = Effects::default();
        let committed = order.phase == Phase::Confirmed;
        effects.stock.push(StockEffect::Keep { committed, items: request.wanted() });
        effects.timers.extend(order.payment_due_at.map(|due| (TimerKind::PaymentDeadline, Some(due))));
        order.check();
        (order, effects)
    }

    /// The order as [`Order::place`] made it: the first answer of its idempotency key, whatever has happened since.
    #[must_use]
    pub fn as_placed(&self) -> Self {
        let mut placed = Self {
            lines: self.lines.iter().map(Line::as_placed).collect(),
            user: self.user.clone(),
            key: self.key.clone(),
            reference: self.reference.clone(),
            payment_method: self.payment_method.clone(),
            ship_to: self.ship_to.clone(),
            metadata: self.metadata.clone(),
            phase: Phase::PendingPayment,
            cancel_reason: None,
            version: 1,
            updated_at: self.created_at,
            payment_due_at: None,
            grace_used: false,
            completes_at: None,
            payments: Vec::new(),
            refunds: Vec::new(),
            fulfilments: Vec::new(),
            events: Vec::new(),
            ..*self
        };
        placed.begin();
        placed
    }

    /// The first phase with its deadline, and the first event. Confirmed at once when nothing is to be paid before picking.
    fn begin(&mut self) {
        if self.terms == Terms::Prepaid && self.total > Money::ZERO {
            self.payment_due_at = Some(self.created_at.after(self.payment_window));
        } else {
            self.phase = Phase::Confirmed;
        }
        self.events.push(Event {
            number: 1,
            at: self.created_at,
            kind: EventKind::Created,
            from: None,
            to: self.status(),
            operator: Operator::User,
            reason: None,
        });
    }
}

impl Line {
    fn placed(request: &LineRequest, name: Option<&Text>) -> Self {
        Self {
            sku: request.sku.clone(),
            name: name.cloned().unwrap_or_else(|| named_by_sku(&request.sku)),
            unit_price: request.unit_price,
            discount: request.discount,
            tax: request.tax,
            ordered: request.quantity,
            cancelled: Quantity::ZERO,
            backordered: Quantity::ZERO,
            held: request.quantity,
            picking: Quantity::ZERO,
            shipped: Quantity::ZERO,
            delivered: Quantity::ZERO,
            returned: Quantity::ZERO,
        }
    }

    fn as_placed(&self) -> Self {
        Self {
            cancelled: Quantity::ZERO,
            backordered: Quantity::ZERO,
            held: self.ordered,
            picking: Quantity::ZERO,
            shipped: Quantity::ZERO,
            delivered: Quantity::ZERO,
            returned: Quantity::ZERO,
            ..self.clone()
        }
    }
}

fn named_by_sku(sku: &SkuId) -> Text {
    Text::new(sku.as_str()).expect("a SKU's id is a shorter text of the same kind")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::order::Status;
    use crate::order::testing::{Play, at, effects_text, place, request, sku, text, units, words};

    #[test]
    #[rustfmt::skip]
    fn a_request_adds_up_or_is_refused_in_this_order() {
        let rows = [
            // request                                          total or refusal
            ("A*6@255",                                         "1530"),
            ("A*6@0",                                           "0"),
            ("A*74215@104",                                     "7718360"),
            ("A*6@255-30+5",                                    "1505"),
            ("A*6@255-1530",                                    "0"),
            ("A*6@255 A*1@3 B*2@100-1+2 discount=50 shipping=30", "1714"),
            ("A*6@255 total=1530",                              "1530"),
            ("A*6@255 total=0",                                 "the total is 1530, not 0"),
            ("A*6@255 window=1",                                "1530"),
            ("A*6@255 window=2592000",                          "1530"),
            ("A*1000000000@100000",                             "100000000000000"),
            ("A*1@5 discount=5",                                "0"),
            ("A*1@5 discount=9 shipping=4",                     "0"),
            ("",                                                "an order needs at least one line"),
            ("window=0",                                        "an order needs at least one line"),
            ("A*0@5 window=0 total=9" ,                         "the payment window must be between 1 second and 30 days"),
            ("A*1@5 window=2592001",                            "the payment window must be between 1 second and 30 days"),
            ("A*1@5 B*0@5 C*0@5" ,                              "line 2 has quantity 0, it must be between 1 and 1000000000"),
            ("A*1@5 B*1000000001@5",                            "line 2 has quantity 1000000001, it must be between 1 and 1000000000"),
            ("A*1@100000000000001",                             "line 1 has an amount that is out of range"),
            ("A*1000000000@100001",                             "line 1 has an amount that is out of range"),
            ("A*1000000000@99999999999999",                     "line 1 has an amount that is out of range"),
            ("A*1@5 B*1@5-6",                                   "line 2 has an amount that is out of range"),
            ("A*1@5-6+5",                                       "line 1 has an amount that is out of range"),
            ("A*1@5+100000000000000",                           "line 1 has an amount that is out of range"),
            ("A*1@5 discount=6",                                "an amount is out of range"),
            ("A*1@5 discount=-1",                               "an amount is out of range"),
            ("A*1@5 shipping=-1",                               "an amount is out of range"),
            ("A*1@100000000000000 shipping=1",                  "an amount is out of range"),
            ("A*1@5 shipping=-1 total=1",                       "an amount is out of range"),
        ];
        for (spec, expected) in rows {
            let told = request(spec).check().map_or_else(|rejection| rejection.to_string(), |total| total.to_string());
            assert_eq!(told, expected, "{spec}");
        }
    }

    #[test]
    fn negative_amounts_of_a_line_are_refused() {
        for change in [
            (|line: &mut LineRequest| line.unit_price = Money(-1)) as fn(&mut LineRequest),
            |line| line.discount = Money(-1),
            |line| line.tax = Money(-1),
        ] {
            let mut request = request("A*1@5 B*1@5");
            change(&mut request.lines[1]);
            assert_eq!(request.check(), Err(Rejection::LineAmountOutOfRange { line: 2 }));
        }
    }

    #[test]
    fn lines_and_metadata_have_limits() {
        let with = |lines: usize, pairs: usize| {
            let mut request = request("A*1@5");
            request.lines = vec![request.lines[0].clone(); lines];
            request.metadata = vec![(text("k"), text("v")); pairs];
            request.check()
        };
        assert_eq!(with(1_000, 50), Ok(Money(5_000)));
        assert_eq!(with(1_001, 51), Err(Rejection::TooManyLines { count: 1_001, limit: 1_000 }));
        assert_eq!(with(1_000, 51), Err(Rejection::TooManyMetadata { count: 51, limit: 50 }));
    }

    #[test]
    fn repeated_skus_are_summed_before_asking() {
        let wanted = request("B*1@5 a*3@5 B*2@0 BANK*1@5 b*4@1").wanted();
        let expected = [("B", 3), ("BANK", 1), ("a", 3), ("b", 4)];
        assert_eq!(wanted, expected.map(|(id, units)| (sku(id), Quantity(units))));
    }

    #[test]
    fn the_real_order_of_705_lines_adds_up() {
        let spec: Vec<String> = (0..705u64).map(|at| format!("S{}*{}@{}", at % 500, at % 7 + 1, at % 11 * 37)).collect();
        let request = request(&spec.join(" "));
        let total: u64 = (0..705).map(|at| (at % 7 + 1) * (at % 11 * 37)).sum();
        assert_eq!(request.check(), Ok(Money(i64::try_from(total).expect("small"))));
        let wanted = request.wanted();
        assert_eq!(wanted.len(), 500);
        assert!(wanted.is_sorted_by(|a, b| a.0 < b.0), "ordered by SKU, each once");
        assert_eq!(wanted.iter().map(|(_, units)| units.0).sum::<u64>(), (0..705).map(|at| at % 7 + 1).sum());
    }

    #[test]
    #[rustfmt::skip]
    fn an_order_begins_where_its_terms_say() {
        let rows = [
            // order                             words                    effects
            ("A*6@255 B*2@100",                  "PendingPayment Unpaid", "reserve A*6 B*2; deadline +900"),
            ("B*2@100 A*1@1 B*1@1",              "PendingPayment Unpaid", "reserve A*1 B*3; deadline +900"),
            ("A*6@255 window=60",                "PendingPayment Unpaid", "reserve A*6; deadline +60"),
            ("A*6@255 terms=on_delivery",        "Confirmed Unpaid",      "keep committed A*6"),
            ("A*6@255 terms=invoice",            "Confirmed Unpaid",      "keep committed A*6"),
            ("A*6@0",                            "Paid Paid",             "keep committed A*6"),
            ("A*1@5 discount=5",                 "Paid Paid",             "keep committed A*1"),
            ("A*1@0 shipping=1",                 "PendingPayment Unpaid", "reserve A*1; deadline +900"),
        ];
        for (spec, expected_words, expected_effects) in rows {
            let (order, effects) = place(spec);
            assert_eq!((words(&order).as_str(), effects_text(&effects).as_str()), (expected_words, expected_effects), "{spec}");
        }
    }

    #[test]
    fn a_placed_order_keeps_what_was_asked() {
        let (order, _) = place("A*6@255-30+5 B*2@100 discount=50 shipping=30");
        let line = &order.lines[0];
        assert_eq!((line.unit_price, line.discount, line.tax), (Money(255), Money(30), Money(5)));
        assert_eq!(line.name, text("NAME OF A"));
        assert_eq!((order.total, order.discount, order.shipping_fee), (Money(1_685), Money(50), Money(30)));
        assert_eq!((order.version, order.created_at, order.updated_at), (1, at(0), at(0)));
        assert_eq!(units(&order), "6 held, 2 held");
        let first = &order.events[0];
        assert_eq!((order.events.len(), first.number, first.from, first.to), (1, 1, None, Status::PendingPayment));
    }

    #[test]
    fn a_line_without_a_name_is_called_by_its_sku() {
        let request = request("BANK*1@5 B*1@5");
        let placed = place("BANK*1@5 B*1@5").0;
        let (order, _) = Order::place(placed.id, placed.attempt, &request, &[text("CHARGES")], at(0));
        assert_eq!((&order.lines[0].name, &order.lines[1].name), (&text("CHARGES"), &text("B")));
    }

    #[test]
    fn the_first_answer_can_be_given_again_whatever_happened() {
        let stories = [
            "",
            "@9 pay p captured 1730; pick; ship 1; deliver 1; complete; refund 5; refund-failed 1",
            "@9 cancel user",
            "@800 pay p processing 5; @900 deadline",
            "@800 pay p processing 5; @900 deadline; @1020 deadline",
            "@9 pay p captured 1730; cancel user 1:2; short A 4",
        ];
        for spec in ["A*6@255 B*2@100", "A*6@255 B*2@100 window=300", "A*6@255 B*2@100 terms=invoice"] {
            let (placed, _) = place(spec);
            for story in stories.iter().filter(|story| placed.payment_due_at.is_some() || !story.contains("deadline")) {
                if spec.contains("window") && story.contains("deadline") {
                    continue;
                }
                assert_eq!(Play::new(spec, story).order.as_placed(), placed, "{spec} | {story}");
            }
        }
    }

    #[test]
    fn the_window_counts_in_milliseconds() {
        let mut request = request("A*1@5");
        request.payment_window = Duration::from_millis(1_500);
        let placed = place("A*1@5").0;
        let (order, _) = Order::place(placed.id, placed.attempt, &request, &[], at(0));
        assert_eq!(order.payment_due_at, Some(at(0).after(Duration::from_millis(1_500))));
    }
}
