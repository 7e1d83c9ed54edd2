//! The bytes of every request and of its response, as hashes. A difference means that nodes of the version before do not understand
//! this one: give the request another version (and leave the old one readable), or raise the mesh's protocol.

use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use ordergrid_api::grid::{OrderChanged, ReferenceQuery, SkuChanged, UserOrders, UserOrdersQuery};
use ordergrid_api::wire::{AcceptClock, AskedRepair, NodeClock, RepairState, RightClock, ShardRepair};
use ordergrid_api::{Answer, Failure, Refusal, Token};
use ordergrid_domain::audit::{Audit, Moment};
use ordergrid_domain::command::{Created, OrderAction, OrderCommand, OrderRequest, Place, Position, SkuAction, SkuCommand};
use ordergrid_domain::order::{CancelReason, LineRequest, Operator, Terms};
use ordergrid_domain::reconcile::HeldUnits;
use ordergrid_domain::{
    AttemptId, Command, Currency, Deadline, Entry, FulfilmentId, GroupId, Key, Money, Moved, Order, OrderId, Outcome, Quantity,
    Reference, Repair, ShardConfig, ShardMachine, Sku, SkuId, SlotOwners, Text, Timestamp, UserId, WarehouseId,
};

use super::request::{Answered, NodeRequest, frame};
use super::requests::{
    AuditCut, CommandOrder, CommandOrders, CommandSku, FindOrders, HashMark, MarkShard, PlaceOrder, PlaceOrders, PreviewRepair,
    ReadDisk, ReadOrder, ReadOrders, ReadSku, RepairShard, ReportNode, StepStream, TakeCut, TellClock,
};
use crate::operators::report::NodeReport;
use crate::operators::streams::{Step, Stepped};
use crate::operators::verify::marks::HashAt;
use crate::operators::verify::stored::OnDisk;
use crate::peers::{decode, encode};

const GROUP: GroupId = GroupId(1);

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_790_000_000_000 + ms)
}

fn key(name: &str) -> Key {
    Key::new(name).expect("short")
}

fn sku_id() -> SkuId {
    SkuId::new("BANK CHARGES").expect("short")
}

fn user() -> UserId {
    UserId::new("17850").expect("short")
}

fn request() -> OrderRequest {
    let line =
        LineRequest { sku: sku_id(), quantity: Quantity(300), unit_price: Money(255), discount: Money::ZERO, tax: Money(7) };
    OrderRequest {
        user: user(),
        key: key("k"),
        body_hash: 1 << 40,
        reference: None,
        currency: Currency::new("GBP").expect("a currency"),
        lines: vec![line],
        discount: Money::ZERO,
        shipping_fee: Money(300),
        total: None,
        terms: Terms::Invoice,
        payment_method: None,
        payment_window: Duration::from_secs(900),
        ship_to: None,
        metadata: Vec::new(),
    }
}

fn order_command() -> OrderCommand {
    let action = OrderAction::Cancel { reason: CancelReason::User, note: None, lines: vec![(1, Quantity(1))] };
    OrderCommand {
        order: OrderId(7 << 40),
        key: key("c"),
        body_hash: 9,
        expect_version: Some(3),
        operator: Operator::Merchant,
        action,
    }
}

fn sku_command(action: SkuAction) -> SkuCommand {
    SkuCommand { sku: sku_id(), key: Some(key("s")), body_hash: 2, expect_version: None, action }
}

/// An order and its SKU, as a shard makes them.
fn shop() -> (Arc<Order>, Box<Sku>) {
    let mut shard = ShardMachine::new(ShardConfig::new(GROUP, SlotOwners::even(&[GROUP])));
    let put = SkuCommand { key: None, ..sku_command(SkuAction::Put { name: Text::new("a name").expect("short") }) };
    let receive = sku_command(SkuAction::Receive { warehouse: WarehouseId::default(), quantity: Quantity(1_000) });
    let attempt = AttemptId { slot: user().slot(), group: GROUP, term: 1, counter: 1 };
    let place = Place { attempt, request: request().into(), names: Vec::new() };
    let commands = vec![Command::Sku(Box::new(put)), Command::Sku(Box::new(receive)), Command::PlaceLocal(Box::new(place))];
    let mut outcomes = shard.apply(Position { term: 1, index: 1 }, &Entry { at: at(0), commands }).into_iter();
    let (_, second, third) = (outcomes.next(), outcomes.next(), outcomes.next());
    match (second, third) {
        (Some(Outcome::Sku { sku, .. }), Some(Outcome::Placed { order, .. })) => (order, sku),
        other => panic!("an order and a SKU were expected: {other:?}"),
    }
}

/// FNV-1a: short, and written down here.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Both must be read again as they were written.
fn again<T: Encode + Decode<()>>(bytes: &[u8]) -> Vec<u8> {
    encode(&decode::<T>(bytes).expect("what was written is read again")).to_vec()
}

fn row<R: NodeRequest>(name: &str, request: R, response: R::Response) -> String {
    let (asked, said) = (encode(&request), encode(&Answered::Done(response)));
    assert_eq!((again::<R>(&asked), again::<Answered<R::Response>>(&said)), (asked.to_vec(), said.to_vec()), "{name}");
    let frame = frame(&request, 5);
    format!("{name} {}.{} {:016x} {:016x}", R::TAG, R::VERSION, hash(&frame), hash(&said))
}

fn orders() -> Vec<String> {
    let (order, sku) = shop();
    let token = Token { shard: 1, index: 300 };
    let placed = Answer::new(Arc::clone(&order), token);
    let created = Some(Created::Fulfilment(FulfilmentId { order: order.id, number: 1 }));
    let changed =
        Answer { replayed: true, ..Answer::new(OrderChanged { order: Arc::clone(&order), created, version: 2 }, token) };
    let page = UserOrders { orders: vec![order.as_ref().clone()], next: Some(order.id), total: Some(1) };
    let query = UserOrdersQuery { user: user(), status: None, page: 2, size: 20, cursor: Some(order.id) };
    let adjust = SkuAction::Adjust { warehouse: WarehouseId::default(), delta: -3, reason: None };
    let sku_changed = SkuChanged { sku: sku.clone(), created: true, version: 2 };
    let no = Err(Failure::refused(Refusal::Overloaded));
    vec![
        row("PlaceOrder", PlaceOrder(Arc::new(request())), placed.clone()),
        row("PlaceOrders", PlaceOrders(vec![Arc::new(request())]), vec![Ok(placed.clone()), no]),
        row("CommandOrder", CommandOrder(order_command()), changed.clone()),
        row("CommandOrders", CommandOrders(vec![order_command()]), vec![Ok(changed)]),
        row("CommandSku", CommandSku(sku_command(adjust)), Answer::new(sku_changed, token)),
        row("ReadOrder", ReadOrder(order.id), placed),
        row("ReadOrders", ReadOrders(query), Answer { age_ms: Some(5), ..Answer::new(page, token) }),
        row("ReadSku", ReadSku(sku_id()), Answer::new(sku, token)),
    ]
}

fn operators() -> Vec<String> {
    let report = NodeReport {
        failing: Vec::new(),
        uptime_seconds: 300,
        disk_bytes: 1 << 33,
        resident_bytes: 7,
        clock: Some("why".to_owned()),
        draining: true,
        stopped: Vec::new(),
        replicas: Vec::new(),
    };
    let clock = NodeClock {
        id: 1,
        name: "n1".to_owned(),
        reachable: true,
        wall: Some(at(1)),
        grid: None,
        log: None,
        becomes: None,
        expires: false,
        wrong: None,
    };
    let repaired = ShardRepair {
        shard: 1,
        state: RepairState::Repaired,
        log: Some(at(9)),
        right: Some(at(2)),
        since: None,
        why: None,
        deadlines: Vec::new(),
    };
    let accept = AcceptClock { right: RightClock::Wall, dry_run: true };
    let repair = Repair { log: at(9), right: at(2), since: at(5) };
    let moved = Moved { count: 1, first: (at(9), at(2)), last: (at(9), at(2)), stay: 3 };
    let attempt = AttemptId { slot: user().slot(), group: GROUP, term: 7, counter: 70_000 };
    let by_reference = ReferenceQuery { reference: Reference::new("536365").expect("short"), user: Some(user()) };
    let held = HeldUnits { attempt, sku: sku_id(), order: Some(OrderId(300)), quantity: Quantity(3), committed: true };
    vec![
        row("MarkShard", MarkShard(GROUP), 300),
        row("ReportNode", ReportNode(), report),
        row("HashMark", HashMark(GROUP, 300), HashAt::Hash(1 << 63)),
        row("TakeCut", TakeCut(GROUP), (9, Box::new(Moment::default()))),
        row("AuditCut", AuditCut(GROUP, 9), Box::new(Audit::of(GROUP))),
        row("TellClock", TellClock(Some(accept)), clock),
        row("ReadDisk", ReadDisk(GROUP), OnDisk::Damaged("why".to_owned())),
        row("RepairShard", RepairShard(GROUP, AskedRepair { dry_run: true, since: Some(at(3)) }), repaired),
        row("PreviewRepair", PreviewRepair(GROUP, repair), vec![(Deadline::Payment, moved)]),
        row("FindOrders", FindOrders(GROUP, by_reference), Answer::new(vec![shop().0.as_ref().clone()], Token::default())),
        row("StepStream", StepStream(GROUP, Step::Holds(GroupId(2))), Stepped::Holds(vec![held])),
    ]
}

const GOLDEN: &str = include_str!("conformance.txt");

#[test]
fn requests_and_responses_keep_their_bytes() {
    let now = [orders(), operators()].concat();
    let then: Vec<&str> = GOLDEN.lines().collect();
    assert_eq!(now, then, "each request has a row:\n{}", now.join("\n"));
}
