//! temp skeleton
use std::sync::Arc;
use std::time::Duration;
use ordergrid_storage::Batch;
use ordergrid_api::wire::{PutSku, ReceiveStock};
use ordergrid_domain::{Key, Text};
use crate::clients::{Action, Clients, Mix};
use crate::dice::Dice;
use crate::disk::{Database, DiskWatch};
use crate::grid::{Down, Shape, SimGrid};
use crate::history::{Ask, Ending, SimTime};
use crate::trace;

struct Nothing;
impl DiskWatch for Nothing { fn wrote(&self, _n: u64, _d: Database, _b: &Batch) {} fn durable(&self, _: u64, _: Database, _: u64) {} fn lost(&self, _: u64, _: Database, _: u64) {} }

pub fn skeleton(seed: u64) -> anyhow::Result<()> {
    let mut dice = Dice::new(seed);
    let shape = Shape { nodes: 3, shards: 2, settings: vec![], tick: Duration::from_millis(2), rocksdb: false };
    let watch: Arc<dyn DiskWatch> = Arc::new(Nothing);
    let mut grid = SimGrid::new(&shape, &mut dice, &watch)?;
    for n in 1..=3 { grid.start(n)?; }
    let clients = Clients::new(3, &grid.net);
    while grid.nodes.values().any(|n| !n.was_ready()) {
        grid.step();
        if grid.now() > SimTime::secs(30) { anyhow::bail!("not ready: {:?}", grid.statuses()); }
    }
    eprintln!("ready at {}", grid.now());
    let mix = Mix { clients: 4, pause: (Duration::from_millis(1), Duration::from_millis(50)), patience: Duration::from_secs(10), users: 8, skus: 5, hot_percent: 30, lines: 3, units: 3, window: (1, 10), owed_percent: 10, attempts: 4, retry_percent: 80, abandon_percent: 5,
        weights: vec![(Action::Place, 30), (Action::PlaceBatch, 1), (Action::Pay, 20), (Action::Cancel, 8), (Action::Pick, 8), (Action::MoveParcel, 8), (Action::Complete, 2), (Action::Refund, 4), (Action::Stock, 5), (Action::Read, 20), (Action::Repeat, 5), (Action::MisuseKey, 2)] };
    let mut setup = vec![];
    for n in 0..mix.skus { setup.push(Ask::PutSku(mix.sku(n), PutSku { name: Text::new(format!("name {n}")).unwrap(), backorder_limit: Default::default(), purchase_limit: Default::default(), safety_stock: Default::default() }));
        setup.push(Ask::Receive(Key::new(format!("setup{n}")).unwrap(), mix.sku(n), ReceiveStock { quantity: 200, warehouse: None })); }
    clients.insist(&mut grid, 0, setup);
    while !clients.idle() { grid.step(); }
    eprintln!("set up at {}", grid.now());
    clients.start(&mut grid, &mix, &mut dice);
    let t0 = grid.now();
    let mut down: Option<(u64, SimTime)> = None;
    let mut next = t0.after(Duration::from_secs(3));
    while grid.now() < t0.after(Duration::from_secs(30)) {
        grid.step();
        if let Some((n, until)) = down { if grid.now() >= until { grid.start(n)?; down = None; next = grid.now().after(Duration::from_millis(dice.between(500, 4000))); } }
        else if grid.now() >= next { let n = dice.between(1, 3); grid.down(n, if dice.percent(50) { Down::Killed } else { Down::PowerLost }); down = Some((n, grid.now().after(Duration::from_millis(dice.between(100, 3000))))); }
        for n in grid.nodes.values() { if let Some(w) = n.ended() { anyhow::bail!("node ended {w}"); } }
    }
    clients.stop();
    if let Some((n, _)) = down { grid.start(n)?; }
    while !clients.idle() { grid.step(); }
    eprintln!("idle at {}", grid.now());
    let end = grid.now().after(Duration::from_secs(30));
    while grid.now() < end { grid.step(); }
    clients.reopen();
    clients.insist(&mut grid, 99, vec![Ask::Verify]);
    while !clients.idle() { grid.step(); }
    let known = clients.record.known();
    let mut count = std::collections::BTreeMap::new();
    for op in &known.history.operations { let e = match &op.ending { Ending::Done { .. } => "done".to_owned(), Ending::Refused { code, .. } => code.clone(), Ending::Unknown(_) => "unknown".to_owned(), Ending::Abandoned => "abandoned".to_owned() }; *count.entry(e).or_insert(0) += 1; }
    eprintln!("{count:?}");
    eprintln!("{:?}", known.history.operations.last().unwrap().ending);
    let (hash, events) = trace::digest();
    eprintln!("{} hash {hash:016x} events {events}", grid.now());
    Ok(())
}
