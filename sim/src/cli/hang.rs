//! When the process of a history hangs. On a machine with much else to do a sound history may take minutes of real time, so its own
//! time on a processor is what counts.

use std::time::Duration;

/// A history that needs more time on a processor than this hangs in a circle.
const BUSY: Duration = Duration::from_secs(120);
/// A process that has used no time on a processor for so long waits for what will not come.
const IDLE: Duration = Duration::from_secs(120);
/// Longest time a history may take in any case.
const WALL: Duration = Duration::from_secs(3_600);
/// How often the time on a processor is looked up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Ticks of a second, in which Linux tells the time of a process on every machine that it runs on.
const TICKS: u64 = 100;

/// What is known of the progress of a process.
pub(super) struct HangWatch {
    process: u32,
    looked: Duration,
    used: Duration,
    /// When it was last seen to have used a processor.
    moved: Duration,
}

impl HangWatch {
    /// Of a process that begins now.
    pub(super) fn of(process: u32) -> Self {
        Self { process, looked: Duration::ZERO, used: Duration::ZERO, moved: Duration::ZERO }
    }

    /// Why the process hangs, in words; `None` if it does not. `wall` is the time since it began.
    pub(super) fn hangs(&mut self, wall: Duration) -> Option<String> {
        if wall < self.looked + LOOK_EVERY {
            return None;
        }
        self.looked = wall;
        // Where nobody tells the time on a processor, real time stands for it.
        let used = used_by(self.process).unwrap_or(wall);
        self.judged(wall, used)
    }

    fn judged(&mut self, wall: Duration, used: Duration) -> Option<String> {
        if used > self.used {
            (self.used, self.moved) = (used, wall);
        }
        let idle = wall.saturating_sub(self.moved);
        let why = [
            (used > BUSY, format!("used a processor for {} s", used.as_secs())),
            (idle > IDLE, format!("used no processor for {} s", idle.as_secs())),
            (wall > WALL, format!("ran for {} s", wall.as_secs())),
        ];
        why.into_iter().find_map(|(hangs, why)| hangs.then_some(why))
    }
}

/// The time that a process has used processors.
fn used_by(process: u32) -> Option<Duration> {
    used_in(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// The same, from what the kernel tells. The name of a program, in brackets, may have blanks and brackets.
fn used_in(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (user, system) = (fields.nth(11)?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(Duration::from_millis((user + system) * 1_000 / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    /// Real seconds and seconds on a processor at each look, and why the process hangs at the last one.
    type Looks<'a> = (&'a [(u64, u64)], Option<&'a str>);

    #[test]
    fn who_waits_for_a_processor_does_not_hang_and_who_goes_round_in_a_circle_does() {
        #[rustfmt::skip]
        let cases: [Looks; 5] = [
            (&[(60, 30), (130, 40), (250, 60), (369, 119)],    None),
            (&[(119, 10), (238, 20), (357, 30), (476, 40)],    None),
            (&[(119, 119), (121, 121)],                        Some("used a processor for 121 s")),
            (&[(1, 1), (121, 1)],                              None),
            (&[(1, 1), (122, 1)],                              Some("used no processor for 121 s")),
        ];
        for (looks, hangs) in cases {
            let mut progress = HangWatch::of(0);
            let told: Vec<_> = looks.iter().map(|(wall, used)| progress.judged(S(*wall), S(*used))).collect();
            assert_eq!(told.last().cloned().flatten().as_deref(), hangs, "{looks:?}");
        }
        let mut progress = HangWatch::of(0);
        let slow = (1..=3_700).map(|wall| progress.judged(S(wall), Duration::from_millis(wall * 30))).find_map(|told| told);
        assert_eq!(slow.as_deref(), Some("ran for 3601 s"));
    }

    #[test]
    fn the_time_of_a_process_is_read_behind_its_name() {
        let stat = "7 (a b) c) R 1 7 7 0 -1 4194304 100 0 0 0 250 75 0 0 20 0 1 0 100 200 300";
        assert_eq!(used_in(stat), Some(Duration::from_millis(3_250)));
        assert_eq!(used_in("7 (a"), None);
        assert!(used_by(std::process::id()).is_some());
    }
}
