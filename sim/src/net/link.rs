//! One direction between two hosts: how long bytes take, and whether they come through.

use std::time::Duration;

use crate::dice::Dice;

/// How long the sender waits before it sends a lost packet again; doubles with each loss in a row.
const RESEND_AFTER: Duration = Duration::from_millis(200);
/// Losses in a row after which a packet gets through.
const LOSSES: u32 = 5;

/// One direction between two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// The shortest time on the way.
    pub fastest: Duration,
    /// The longest.
    pub slowest: Duration,
    /// Packets lost, in a thousand.
    pub loss: u64,
    /// Nothing comes through; what is sent waits until the link is mended.
    pub cut: bool,
}

impl Default for LinkState {
    fn default() -> Self {
        Self { fastest: Duration::ZERO, slowest: super::CALM_LATENCY, loss: 0, cut: false }
    }
}

impl LinkState {
    /// How long this packet takes.
    pub(super) fn draw(&self, dice: &mut Dice) -> Duration {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut takes = Duration::from_micros(dice.between(micros(self.fastest), micros(self.slowest.max(self.fastest))));
        let mut losses = 0;
        while losses < LOSSES && self.loss > 0 && dice.below(1_000) < self.loss {
            takes += RESEND_AFTER * 2_u32.pow(losses);
            losses += 1;
        }
        takes
    }
}
