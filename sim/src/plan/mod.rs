//! What a seed draws: the grid, the clients, and everything that goes wrong and when.
//!
//! All of it is drawn before the history begins, so that a failing one can be made smaller by leaving things out.

mod profile;
mod shape;
mod troubles;

use std::time::Duration;

use crate::clients::Mix;
use crate::dice::Dice;
use crate::disk::ReadTime;
use crate::faults::Planned;
use crate::grid::Shape;
pub use profile::Profile;

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The profile it was drawn for.
    pub profile: Profile,
    /// The grid.
    pub shape: Shape,
    /// The clients.
    pub mix: Mix,
    /// Units of each SKU in the beginning; the hot one has its own number.
    pub stock: (u64, u64),
    /// How long clients ask while things go wrong.
    pub unrest: Duration,
    /// What goes wrong.
    pub troubles: Vec<Planned>,
    /// How far each node's time of day is off at the beginning, in milliseconds, and the speed of its clock, in thousandths.
    pub clocks: Vec<(i64, u64)>,
    /// Network: least and most time on the way.
    pub latency: (Duration, Duration),
    /// Disks: least and most time of a sync.
    pub sync: (Duration, Duration),
    /// Disks: time of a look at rows of the state.
    pub reads: ReadTime,
    /// Messages between nodes, in a thousand: lost, repeated, put behind the next one.
    pub frames: (u64, u64, u64),
}

impl Plan {
    /// What this seed draws for this profile.
    #[must_use]
    pub fn drawn(seed: u64, profile: Profile) -> Self {
        let mut dice = Dice::new(seed ^ (profile as u64) << 56);
        let tick = Duration::from_millis(*dice.pick(&[1, 2, 2, 5, 5]));
        let shape = shape::shape(profile, &mut dice, tick);
        let mix = profile::mix(profile, &mut dice);
        let unrest = Duration::from_secs(dice.between(profile.unrest().0, profile.unrest().1));
        let clocks = shape::clocks(profile, &mut dice, &shape);
        let troubles = troubles::drawn(profile, &mut dice, &shape, unrest);
        let ms = Duration::from_millis;
        // A calm grid must be able to elect: what is slow without any trouble is fast beside an election.
        let calm = shape.election_min / 8;
        let latency = (ms(0), if dice.percent(20) { ms(dice.between(10, 120)).min(calm) } else { ms(dice.between(0, 5)) });
        let sync = (ms(0), if dice.percent(20) { ms(dice.between(5, 60)).min(calm) } else { ms(dice.between(0, 4)) });
        let frames =
            if dice.percent(profile.frame_percent()) { (dice.below(12), dice.below(12), dice.below(12)) } else { (0, 0, 0) };
        let stock = if profile == Profile::Flash {
            (100, dice.between(20, 100))
        } else {
            (dice.between(50, 400), dice.between(10, 200))
        };
        let reads = match dice.below(4) {
            0 | 1 => ReadTime::AtOnce,
            2 => ReadTime::Below(ms(dice.between(1, 30))),
            _ => ReadTime::Below(ms(dice.between(100, 800))),
        };
        Self { seed, profile, shape, mix, stock, unrest, troubles, clocks, latency, sync, reads, frames }
    }
}
