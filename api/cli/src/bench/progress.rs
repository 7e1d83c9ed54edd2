//! How far a bench is, for a person who watches: a bar on stderr, and nothing where nobody does.

use std::convert::Infallible;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, interval};

use super::options::BenchOptions;
use super::tally::Book;
use crate::screen::Screen;
use crate::units;

/// How often the bar moves.
const BEAT: Duration = Duration::from_millis(250);

/// Tells how far a bench is.
#[derive(Clone)]
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A progress bar on a terminal, otherwise nothing.
    #[must_use]
    pub fn new(screen: &Screen) -> Self {
        if !screen.talk_is_watched() {
            return Self::silent();
        }
        let style = ProgressStyle::with_template("{prefix:14} [{bar:40}] {msg}")
            .expect("the template is well formed")
            .progress_chars("=> ");
        Self { bar: Some(ProgressBar::new(1_000).with_style(style)) }
    }

    /// Tells nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { bar: None }
    }

    /// A new stage has begun.
    pub fn says(&self, stage: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(0);
            bar.set_prefix(stage.to_owned());
            bar.set_message("");
            bar.tick();
        }
    }

    /// Follows a run for as long as it is polled.
    pub(super) async fn follow(&self, options: &BenchOptions, run: u32, starts: Instant, book: &Book) -> Infallible {
        let Some(bar) = &self.bar else { return std::future::pending().await };
        let length = options.warmup + options.duration;
        let (mut beat, mut before) = (interval(BEAT), (Instant::now(), 0));
        loop {
            let now = beat.tick().await;
            let done = book.so_far();
            let rate = (done - before.1) as f64 / (now - before.0).as_secs_f64().max(BEAT.as_secs_f64() / 2.0);
            before = (now, done);
            let share = match options.total {
                Some(total) => done as f64 / total as f64,
                None => (now - starts).as_secs_f64() / length.as_secs_f64(),
            };
            let warming = now < starts + options.warmup;
            bar.set_position((share * 1e3) as u64);
            bar.set_prefix(if warming { "warming up".to_owned() } else { format!("run {} of {}", run + 1, options.runs) });
            bar.set_message(format!("{} {}s/s", units::count(rate.round() as u64), options.workload.work()));
        }
    }

    /// It is over: nothing of the bar stays.
    pub fn ends(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
