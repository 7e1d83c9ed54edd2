//! Grids and their settings.

use std::time::Duration;

use super::Profile;
use crate::dice::Dice;
use crate::grid::{Shape, Squeeze};

/// The grid of a history.
pub(super) fn shape(profile: Profile, dice: &mut Dice, tick: Duration) -> Shape {
    let nodes = match profile {
        Profile::Membership | Profile::Leaders | Profile::Partitions => *dice.pick(&[3, 3, 5]),
        _ => *dice.pick(&[1, 3, 3, 3, 3, 5]),
    };
    let shards = u16::try_from(*dice.pick(&[1, 2, 2, 3, 4])).expect("small");
    let heartbeat = Duration::from_millis(*dice.pick(&[50, 100, 200]));
    let election_min = heartbeat * u32::try_from(dice.between(3, 5)).expect("small");
    let settings = settings(profile, dice, heartbeat, election_min);
    Shape { nodes, shards, settings, election_min, squeeze: squeeze(dice), tick, rocksdb: false }
}

fn settings(profile: Profile, dice: &mut Dice, heartbeat: Duration, election_min: Duration) -> Vec<(String, String)> {
    let election_max = election_min + heartbeat * u32::try_from(dice.between(1, 3)).expect("small");
    let margin = election_max / *dice.pick(&[10, 10, 5]);
    let hold_valid = if profile == Profile::Flash { dice.between(2, 4) } else { *dice.pick(&[2, 3, 6, 10]) };
    let kept = *dice.pick(&[0, 8, 64, 1_000, 50_000]);
    let drawn = [
        ("raft.heartbeat", ms(heartbeat)),
        ("raft.election_min", ms(election_min)),
        ("raft.election_max", ms(election_max)),
        ("raft.lease_margin", ms(margin)),
        ("checkpoint.every", format!("{}ms", dice.between(300, 8_000))),
        ("log.kept", kept.to_string()),
        ("clock.skew", "1s".to_owned()),
        ("clock.leap", "5m".to_owned()),
        ("orders.hold_valid", format!("{hold_valid}s")),
        ("http.drain", format!("{}ms", dice.between(0, 500))),
        ("limits.request", format!("{}ms", dice.between(1_500, 10_000))),
        ("limits.actor_idle", format!("{}ms", dice.between(20, 10_000))),
        ("limits.entry_commands", dice.pick(&["1", "4", "1024"]).to_string()),
        ("limits.entries_in_flight", dice.pick(&["0", "1", "2", "4", "16"]).to_string()),
        ("limits.shard_queue", dice.pick(&["8", "64", "32768"]).to_string()),
        ("limits.sku_in_flight", dice.pick(&["4", "4096"]).to_string()),
        ("limits.shard_in_flight", dice.pick(&["4", "16384"]).to_string()),
        ("limits.mesh_queue", dice.pick(&["16", "4096"]).to_string()),
    ];
    drawn.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn ms(span: Duration) -> String {
    format!("{}ms", span.as_millis())
}

/// Sizes far below what a configuration may say, so that minutes do what else takes days.
fn squeeze(dice: &mut Dice) -> Squeeze {
    Squeeze {
        memory: dice.percent(50).then(|| dice.between(8 << 10, 512 << 10)),
        log_tail: dice.percent(50).then(|| usize::try_from(dice.between(1 << 10, 64 << 10)).expect("small")),
        checkpoint_bytes: dice.percent(30).then(|| dice.between(4 << 10, 256 << 10)),
        entry_bytes: dice.percent(30).then(|| usize::try_from(dice.between(1 << 9, 8 << 10)).expect("small")),
        snapshot_chunk: dice.percent(50).then(|| usize::try_from(dice.between(256, 16 << 10)).expect("small")),
    }
}

/// How far the nodes' times of day are off, and how fast their clocks run. Two clocks differ by less than the margin of a
/// lease allows, which is a tenth at the least.
pub(super) fn clocks(profile: Profile, dice: &mut Dice, shape: &Shape) -> Vec<(i64, u64)> {
    let skewed = profile == Profile::Timers || dice.percent(30);
    let one = |dice: &mut Dice| {
        if skewed { (i64::try_from(dice.below(900)).expect("small") - 450, dice.between(960, 1_040)) } else { (0, 1_000) }
    };
    (0..shape.nodes).map(|_| one(dice)).collect()
}
