//! tmp
use ordergrid_domain::command::*;
use ordergrid_domain::order::*;
use ordergrid_domain::*;
use std::time::Duration;
struct Instant(f64);
fn cpu() -> f64 {
    let t = std::fs::read_to_string("/proc/self/stat").unwrap();
    let r = t.rsplit(')').next().unwrap();
    let f: Vec<&str> = r.split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
impl Instant {
    fn now() -> Self {
        Self(cpu())
    }
    fn elapsed(&self) -> Duration {
        Duration::from_secs_f64(cpu() - self.0)
    }
}

fn main() {
    let n: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(400_000);
    let g = GroupId(1);
    let mut m = ShardMachine::new(ShardConfig::new(g, SlotOwners::even(&[g])));
    let t0 = 1_790_000_000_000u64;
    let skus: Vec<SkuId> = (0..1000).map(|i| SkuId::new(format!("sku-{i}")).unwrap()).collect();
    let mut index = 0;
    let mut cmds = vec![];
    for s in &skus {
        cmds.push(Command::Sku(Box::new(SkuCommand {
            sku: s.clone(),
            key: None,
            body_hash: 0,
            expect_version: None,
            action: SkuAction::Put { name: Text::new("a name of it").unwrap() },
        })));
        cmds.push(Command::Sku(Box::new(SkuCommand {
            sku: s.clone(),
            key: None,
            body_hash: 0,
            expect_version: None,
            action: SkuAction::Receive { warehouse: WarehouseId::default(), quantity: Quantity(1_000_000) },
        })));
    }
    index += 1;
    m.apply(Position { term: 1, index }, &Entry { at: Timestamp::from_ms(t0), commands: cmds });
    let mut entries = vec![];
    let mut c = 0u64;
    for e in 0..n / 256 {
        let mut commands = vec![];
        for _ in 0..256 {
            c += 1;
            let user = UserId::new(format!("user-{}", c % 50_000)).unwrap();
            let r = OrderRequest {
                user: user.clone(),
                key: Key::new(format!("key-{c}")).unwrap(),
                body_hash: c,
                reference: None,
                currency: Currency::new("GBP").unwrap(),
                lines: vec![LineRequest {
                    sku: skus[(c * 7919 % 1000) as usize].clone(),
                    quantity: Quantity(1),
                    unit_price: Money(100),
                    discount: Money(0),
                    tax: Money(0),
                }],
                discount: Money(0),
                shipping_fee: Money(0),
                total: None,
                terms: Terms::Prepaid,
                payment_method: None,
                payment_window: Duration::from_secs(900),
                ship_to: None,
                metadata: vec![],
            };
            commands.push(Command::PlaceLocal(Box::new(Place {
                attempt: AttemptId { slot: user.slot(), group: g, term: 1, counter: c },
                request: r,
                names: vec![],
            })));
        }
        entries.push(Entry { at: Timestamp::from_ms(t0 + e as u64), commands });
    }
    let bytes: Vec<Vec<u8>> = {
        let s = Instant::now();
        let b = entries.iter().map(|e| e.to_bytes()).collect();
        println!("encode {:?}/cmd", s.elapsed() / n as u32);
        b
    };
    let s = Instant::now();
    let decoded: Vec<Entry> = bytes.iter().map(|b| Entry::from_bytes(b).unwrap()).collect();
    println!("decode {:?}/cmd, {} B/cmd", s.elapsed() / n as u32, bytes[0].len() / 256);
    let s = Instant::now();
    let mut k = 0;
    let mut ids = vec![];
    for e in &decoded {
        index += 1;
        for o in m.apply(Position { term: 1, index }, e) {
            if let Outcome::Placed { order, .. } = o {
                k += 1;
                ids.push(order.id);
            }
        }
    }
    println!("apply place_local {:?}/cmd placed {k}", s.elapsed() / n as u32);
    let s = Instant::now();
    println!("hash {:x} {:?}", m.state_hash(), s.elapsed());
    let s = Instant::now();
    let rows = m.freeze();
    println!("freeze {} rows {:?}; resident {} MB", rows.len(), s.elapsed(), m.resident_bytes() >> 20);
    let s = Instant::now();
    m.frozen_durable();
    println!("durable {:?}", s.elapsed());
    let s = Instant::now();
    for (i, chunk) in ids.chunks(256).enumerate() {
        index += 1;
        let commands = chunk
            .iter()
            .map(|id| {
                Command::Order(Box::new(OrderCommand {
                    order: *id,
                    key: Key::new("pay").unwrap(),
                    body_hash: 1,
                    expect_version: None,
                    operator: Operator::Provider,
                    action: OrderAction::Pay {
                        provider_payment_id: ProviderPaymentId::new("pi_1").unwrap(),
                        state: PaymentState::Captured,
                        amount: Money(100),
                        currency: Currency::new("GBP").unwrap(),
                    },
                }))
            })
            .collect();
        m.apply(Position { term: 1, index }, &Entry { at: Timestamp::from_ms(t0 + 10_000 + i as u64), commands });
    }
    println!("apply pay {:?}/cmd", s.elapsed() / n as u32);
    let s = Instant::now();
    let r = m.resident_bytes();
    m.freeze();
    m.frozen_durable();
    m.evict(r / 2);
    println!("freeze+evict half {:?}", s.elapsed());
    println!("rss {}", std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmRSS")).unwrap());
}
