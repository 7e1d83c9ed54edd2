//! What goes wrong in a history, and when.

use std::time::Duration;

use super::Profile;
use crate::dice::Dice;
use crate::faults::{Planned, Trouble, Who};
use crate::grid::Shape;

/// A kind of trouble and how often it is drawn.
type Kind = (fn(&mut Dice, &Shape) -> Trouble, u64);

/// What goes wrong while clients ask.
pub(super) fn drawn(profile: Profile, dice: &mut Dice, shape: &Shape, unrest: Duration) -> Vec<Planned> {
    let kinds = kinds(profile, dice);
    let all: u64 = kinds.iter().map(|(_, weight)| weight).sum();
    if all == 0 {
        return Vec::new();
    }
    // Calm at first in some histories, so that there is something to lose.
    let mut at = Duration::from_millis(dice.between(0, 3_000));
    let pace = *dice.pick(&[300, 1_000, 3_000]);
    let mut planned = Vec::new();
    while at < unrest {
        let mut number = dice.below(all);
        let (make, _) = kinds
            .iter()
            .find(|(_, weight)| {
                let here = number < *weight;
                number = number.saturating_sub(*weight);
                here
            })
            .expect("the number is below the sum");
        let lasts = Duration::from_millis(match dice.below(10) {
            0 => dice.between(3_000, 8_000),
            1..4 => dice.between(500, 3_000),
            _ => dice.between(10, 900),
        });
        planned.push(Planned { at, lasts, trouble: make(dice, shape) });
        at += Duration::from_millis(dice.between(10, pace * 2));
    }
    if profile.has_partitions() && dice.percent(20) {
        let begins = Duration::from_millis(dice.below(u64::try_from(unrest.as_millis()).unwrap_or(1)));
        planned.extend(waves(dice, shape, begins));
        planned.sort_by_key(|planned| planned.at);
    }
    planned
}

fn kinds(profile: Profile, dice: &mut Dice) -> Vec<Kind> {
    let crashes: [Kind; 4] = [(kill, 4), (kill_losing, 2), (power, 4), (blackout, 1)];
    let leaders: [Kind; 5] = [(transfer, 5), (depose, 3), (pause, 3), (suspend, 2), (stop, 3)];
    let network: [Kind; 6] = [(isolate, 3), (split, 3), (one_way, 3), (slow, 3), (lossy, 2), (reset, 3)];
    let disks: [Kind; 11] = [
        (slow_sync, 4),
        (stall, 3),
        (fail_write, 2),
        (fail_reads, 1),
        (full, 1),
        (flip, 2),
        (rot, 2),
        (lose_log, 1),
        (old_copy, 2),
        (damage, 1),
        (checkpoint, 4),
    ];
    let clocks: [Kind; 3] = [(step, 2), (leap, 2), (rate, 1)];
    let mut kinds: Vec<Kind> = match profile {
        Profile::Quick | Profile::Nightly | Profile::Flash => {
            let all = crashes.into_iter().chain(leaders).chain(network).chain(disks).chain(clocks);
            // Swarm: each history has some kinds of trouble and not others.
            return all.filter(|_| dice.percent(60)).collect();
        }
        Profile::Timers => leaders.into_iter().chain(clocks).chain(crashes).collect(),
        Profile::Membership => leaders.into_iter().chain(crashes).chain(network).collect(),
        Profile::Storage => disks.into_iter().chain(crashes).collect(),
        Profile::Crashes => crashes.to_vec(),
        Profile::Leaders => leaders.to_vec(),
        Profile::SlowDisk => vec![(slow_sync, 3), (stall, 2)],
        Profile::Partitions => network.to_vec(),
    };
    kinds.retain(|(_, weight)| *weight > 0);
    kinds
}

fn who(dice: &mut Dice, shape: &Shape) -> Who {
    match dice.below(3) {
        0 => Who::Leader(u32::try_from(dice.between(0, u64::from(shape.shards))).expect("few")),
        _ => Who::Node(dice.between(1, shape.nodes)),
    }
}

fn kill(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::Kill { who: who(dice, shape), buffers: false }
}

fn kill_losing(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::Kill { who: who(dice, shape), buffers: true }
}

fn power(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::PowerLoss { who: who(dice, shape) }
}

fn blackout(_: &mut Dice, _: &Shape) -> Trouble {
    Trouble::Blackout
}

fn pause(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::Pause { who: who(dice, shape) }
}

fn stop(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::Stop { who: who(dice, shape) }
}

fn suspend(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::Suspend { who: who(dice, shape) }
}

fn transfer(dice: &mut Dice, shape: &Shape) -> Trouble {
    let group = u32::try_from(dice.between(0, u64::from(shape.shards))).expect("few");
    Trouble::Transfer { group, to: dice.between(1, shape.nodes) }
}

fn depose(dice: &mut Dice, shape: &Shape) -> Trouble {
    let group = u32::try_from(dice.between(0, u64::from(shape.shards))).expect("few");
    Trouble::Isolate { who: Who::Leader(group), inwards: true, outwards: true, clients: false }
}

fn isolate(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::Isolate { who: who(dice, shape), inwards: true, outwards: true, clients: dice.percent(50) }
}

fn one_way(dice: &mut Dice, shape: &Shape) -> Trouble {
    let inwards = dice.percent(50);
    Trouble::Isolate { who: who(dice, shape), inwards, outwards: !inwards, clients: false }
}

fn split(dice: &mut Dice, shape: &Shape) -> Trouble {
    let mut nodes: Vec<u64> = (1..=shape.nodes).collect();
    dice.shuffle(&mut nodes);
    nodes.truncate(usize::try_from(shape.nodes / 2).expect("few"));
    Trouble::Split { minority: nodes }
}

fn slow(dice: &mut Dice, _: &Shape) -> Trouble {
    Trouble::SlowNet { most: Duration::from_millis(dice.between(20, 800)) }
}

fn lossy(dice: &mut Dice, _: &Shape) -> Trouble {
    Trouble::Lossy { permille: dice.between(10, 300) }
}

fn reset(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::Reset { one: dice.between(1, shape.nodes), other: dice.between(1, shape.nodes) }
}

/// Swizzle-clog: nodes are cut off one after the other in a drawn order, and come back in another; flapping: one node, often.
fn waves(dice: &mut Dice, shape: &Shape, at: Duration) -> Vec<Planned> {
    let mut order: Vec<u64> = (1..=shape.nodes).collect();
    if dice.percent(50) {
        order = vec![*dice.pick(&order); 6];
    }
    dice.shuffle(&mut order);
    let mut begins = at;
    let mut planned = Vec::new();
    for node in order {
        begins += Duration::from_millis(dice.between(20, 600));
        let lasts = Duration::from_millis(dice.between(50, 2_000));
        let trouble = Trouble::Isolate { who: Who::Node(node), inwards: true, outwards: true, clients: false };
        planned.push(Planned { at: begins, lasts, trouble });
    }
    planned
}

fn slow_sync(dice: &mut Dice, shape: &Shape) -> Trouble {
    let most = Duration::from_millis(*dice.pick(&[20, 60, 300]));
    Trouble::SlowSync { who: who(dice, shape), log: dice.percent(70), most }
}

fn stall(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::StallSync { who: who(dice, shape), log: dice.percent(60) }
}

fn fail_write(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::FailWrite { who: who(dice, shape), log: dice.percent(60), after: dice.below(20), written: dice.percent(50) }
}

fn fail_reads(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::FailReads { who: who(dice, shape), log: dice.percent(50) }
}

fn full(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::DiskFull { who: who(dice, shape) }
}

fn flip(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::FlipBit { who: who(dice, shape), after: dice.below(30), bit: dice.below(1 << 20), restart: dice.percent(50) }
}

fn rot(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::RotLog { who: who(dice, shape), permille: dice.below(1_000) }
}

fn lose_log(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::LoseLog { who: who(dice, shape) }
}

fn old_copy(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::OldCopy { who: who(dice, shape), cold: dice.percent(50) }
}

fn damage(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::DamageRead { who: who(dice, shape), log: dice.percent(40), after: dice.below(30) }
}

fn checkpoint(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::Checkpoint { who: who(dice, shape) }
}

fn step(dice: &mut Dice, shape: &Shape) -> Trouble {
    let most = 900;
    let by = i64::try_from(dice.below(most)).expect("small") - i64::try_from(most / 2).expect("small");
    Trouble::ClockStep { who: who(dice, shape), offset_ms: by }
}

/// Far beyond what a clock may be off, which a plan's settings make a second, and a start may find, which they make five
/// minutes: of any nodes, all of them too. Near, in between: of fewer than half, since what more than half of the clocks
/// say at a start is believed up to five minutes.
fn leap(dice: &mut Dice, shape: &Shape) -> Trouble {
    const MINUTE: i64 = 60;
    const DAY: i64 = 24 * 60 * MINUTE;
    let near = i64::try_from(dice.between(4, 60)).expect("small");
    let far = *dice.pick(&[10 * MINUTE, 60 * MINUTE, DAY, 8 * DAY, 365 * DAY, 7_000 * DAY]);
    let minority = shape.nodes.div_ceil(2) - 1;
    let (most, seconds) = if minority > 0 && dice.percent(30) { (minority, near) } else { (shape.nodes, far) };
    let mut nodes: Vec<u64> = (1..=shape.nodes).collect();
    dice.shuffle(&mut nodes);
    nodes.truncate(usize::try_from(dice.between(1, most)).expect("few"));
    let sign = if dice.percent(50) { 1 } else { -1 };
    Trouble::ClockLeap { nodes, offset_ms: sign * seconds * 1_000 }
}

fn rate(dice: &mut Dice, shape: &Shape) -> Trouble {
    Trouble::ClockRate { who: who(dice, shape), rate: dice.between(960, 1_040) }
}
