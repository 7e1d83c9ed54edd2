//! What was asked, what came of each attempt, and when: everything that the judges know.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

/// Microseconds since the round began.
pub(super) type Moment = u64;

/// A line of an order as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineAsked {
    /// Which SKU.
    pub sku: String,
    /// Units.
    pub quantity: u64,
    /// Price of one.
    pub unit_price: i64,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To place an order.
    Place {
        /// Whose.
        user: String,
        /// What.
        lines: Vec<LineAsked>,
        /// Seconds to pay it.
        window_s: u64,
    },
    /// To take a payment, whose provider's id is the key.
    Pay {
        /// Of which order.
        order: String,
        /// How much.
        amount: i64,
    },
    /// To cancel an order.
    Cancel {
        /// Which.
        order: String,
    },
    /// To receive units.
    Receive {
        /// Of which SKU.
        sku: String,
        /// How many.
        quantity: u64,
    },
    /// To see an order.
    Order {
        /// Which.
        order: String,
    },
    /// To see a SKU.
    Sku {
        /// Which.
        sku: String,
    },
    /// To see a user's newest orders.
    List {
        /// Whose.
        user: String,
    },
}

/// One request, and how it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Which node was asked.
    pub node: usize,
    /// When.
    pub began: Moment,
    /// When it was over.
    pub ended: Moment,
    /// How.
    pub end: End,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It was done.
    Done(Seen),
    /// It was refused: nothing happened.
    Refused {
        /// The word for it.
        code: String,
        /// Asking again may help.
        retryable: bool,
    },
    /// Nobody knows.
    Unknown(String),
    /// Nobody was there: nothing happened.
    NotSent,
    /// It was none of the three.
    Odd(String),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// It was done before, under the same key.
    pub replayed: bool,
    /// Shard and index of the answer.
    pub token: Option<(u64, u64)>,
    /// What it was about.
    pub what: What,
}

/// What an answer was about.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// An order.
    Order(Box<OrderSeen>),
    /// A SKU.
    Sku(SkuSeen),
    /// A user's newest orders, and whether there are more.
    List(Vec<OrderSeen>, bool),
}

/// An order as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderSeen {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// The key it was placed under, as its metadata say.
    pub key: String,
    /// Whose it is.
    pub user: String,
    /// Its phase.
    pub phase: String,
    /// Why it was cancelled, if it was.
    pub cancel_reason: String,
    /// What is due.
    pub total: i64,
    /// SKU, units ordered, price, units held, of each line.
    pub lines: Vec<(LineAsked, u64)>,
    /// Provider's id and amount of each captured payment.
    pub payments: Vec<(String, i64)>,
    /// A hash of everything that it said.
    pub content: u64,
}

/// A SKU as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkuSeen {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// Physically there.
    pub on_hand: u64,
    /// Held for orders, paid or not.
    pub held: u64,
    /// For sale.
    pub available: u64,
    /// Ever received.
    pub received: u64,
    /// A hash of its stock.
    pub content: u64,
}

/// One thing that somebody wanted, with every attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Who.
    pub client: usize,
    /// Under which key.
    pub key: Option<String>,
    /// What.
    pub ask: Ask,
    /// What came of it.
    pub attempts: Vec<Attempt>,
    /// The client asks once, and leaves it open if there is no answer.
    pub once: bool,
    /// It was asked after everything was healed and nothing was under way.
    pub late: bool,
}

impl Operation {
    /// The answer, if there was one, and the attempt that had it.
    #[must_use]
    pub fn done(&self) -> Option<(&Attempt, &Seen)> {
        self.attempts.iter().find_map(|attempt| match &attempt.end {
            End::Done(seen) => Some((attempt, seen)),
            _ => None,
        })
    }

    /// The order of the answer.
    #[must_use]
    pub fn order(&self) -> Option<(&Attempt, &Seen, &OrderSeen)> {
        let (attempt, seen) = self.done()?;
        match &seen.what {
            What::Order(order) => Some((attempt, seen, order)),
            _ => None,
        }
    }

    /// Some attempt may have had an effect.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        self.attempts.iter().any(|attempt| matches!(attempt.end, End::Done(_) | End::Unknown(_) | End::Odd(_)))
    }

    /// It was refused for good, at last.
    #[must_use]
    pub fn refused(&self) -> bool {
        matches!(self.attempts.last().map(|last| &last.end), Some(End::Refused { retryable: false, .. }))
    }
}

/// Reads an order.
#[must_use]
pub(super) fn order_seen(value: &Value) -> Option<OrderSeen> {
    let line = |line: &Value| {
        let asked = LineAsked {
            sku: text(&line["sku"]),
            quantity: line["ordered"].as_u64()?,
            unit_price: line["unit_price"].as_i64()?,
        };
        Some((asked, line["held"].as_u64()?))
    };
    let captured = |payment: &&Value| payment["status"] == "captured";
    let mut whole = value.clone();
    // Only the answer to a command that made something has it.
    whole.as_object_mut()?.remove("created");
    Some(OrderSeen {
        id: value["id"].as_str()?.to_owned(),
        version: value["version"].as_u64()?,
        key: text(&value["metadata"]["key"]),
        user: text(&value["user_id"]),
        phase: text(&value["phase"]),
        cancel_reason: text(&value["cancel_reason"]),
        total: value["total"].as_i64()?,
        lines: value["lines"].as_array()?.iter().map(line).collect::<Option<_>>()?,
        payments: value["payments"]
            .as_array()?
            .iter()
            .filter(captured)
            .map(|payment| (text(&payment["provider_payment_id"]), payment["amount"].as_i64().unwrap_or_default()))
            .collect(),
        content: hash(&whole),
    })
}

/// Reads a SKU.
#[must_use]
pub(super) fn sku_seen(value: &Value) -> Option<SkuSeen> {
    let stock = &value["stock"];
    Some(SkuSeen {
        id: value["id"].as_str()?.to_owned(),
        version: value["version"].as_u64()?,
        on_hand: stock["on_hand"].as_u64()?,
        held: stock["reserved"].as_u64()? + stock["committed"].as_u64()?,
        available: stock["available"].as_u64()?,
        received: stock["received"].as_u64()?,
        content: hash(stock),
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Equal for equal values: objects keep their members in the order of their names.
fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}
