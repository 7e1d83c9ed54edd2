//! How a replay tells how far it is: a bar for people, lines of JSON for programs that act at exact moments.

use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::summary::Tally;
use crate::screen::Screen;

/// What is written to stderr while a replay runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// A progress bar on a terminal, otherwise nothing.
    #[default]
    Auto,
    /// A line of JSON every N acknowledged orders.
    Json,
    /// Nothing.
    None,
}

/// Tells how far a replay is.
#[derive(Clone)]
pub struct Progress {
    teller: Teller,
}

#[derive(Clone)]
enum Teller {
    Silent,
    Bar(ProgressBar),
    Lines { every: u64, of: u64, screen: Screen },
}

impl Progress {
    /// Progress of `of` orders, told as `kind` says; `every` counts for JSON only.
    #[must_use]
    pub fn new(kind: ProgressKind, every: u64, of: u64, screen: &Screen) -> Self {
        let teller = match kind {
            ProgressKind::Json => Teller::Lines { every, of, screen: screen.clone() },
            ProgressKind::Auto if screen.talk_is_watched() => Teller::Bar(bar(of)),
            ProgressKind::Auto | ProgressKind::None => Teller::Silent,
        };
        Self { teller }
    }

    /// Tells nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { teller: Teller::Silent }
    }

    /// A new stage has begun.
    pub(super) fn says(&self, stage: &'static str) {
        if let Teller::Bar(bar) = &self.teller {
            bar.set_message(stage);
        }
    }

    /// One more order was acknowledged. Called with the tally locked, so that lines come in order and none is left out.
    pub(super) fn acknowledged(&self, tally: &Tally, elapsed: Duration) {
        match &self.teller {
            Teller::Silent => {}
            Teller::Bar(bar) => bar.set_position(tally.placed),
            Teller::Lines { every, of, screen } if tally.placed.is_multiple_of(*every) => {
                let refused: u64 = tally.refused.values().sum();
                let line = json!({
                    "acknowledged": tally.placed, "of": of, "refused": refused, "unknown": tally.unknown,
                    "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                });
                screen.talk(&format!("{line}\n"));
            }
            Teller::Lines { .. } => {}
        }
    }

    /// The replay is over: nothing of the bar stays.
    pub(super) fn ends(&self) {
        if let Teller::Bar(bar) = &self.teller {
            bar.finish_and_clear();
        }
    }
}

fn bar(of: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:16} [{bar:40}] {human_pos}/{human_len} orders  {per_sec}  {eta} left")
        .expect("the template is well formed")
        .progress_chars("=> ");
    ProgressBar::new(of).with_style(style)
}
