//! What a replay is asked to do: as typed, and as it is done.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ordergrid_api::wire::WireText;
use ordergrid_domain::Currency;

use super::progress::ProgressKind;
use super::stock::Stock;
use crate::units::duration;

/// The command line of `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// CSV files, plain or gzip; orders, lines and products are recognised by their header rows
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// File of orders
    #[arg(long, value_name = "FILE")]
    pub orders: Vec<PathBuf>,
    /// File of lines of the orders
    #[arg(long, value_name = "FILE")]
    pub lines: Vec<PathBuf>,
    /// File of products, for their names
    #[arg(long, value_name = "FILE")]
    pub products: Vec<PathBuf>,
    /// Stock to receive first per SKU: `full` (all units sold in the files) or a ratio of it, rounded down
    #[arg(long, default_value = "full", value_name = "full|RATIO")]
    pub stock: Stock,
    /// Number of orders processed at the same time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096), value_name = "N")]
    pub concurrency: u16,
    /// Time limit of one call, retries included; past it the replay ends with an unknown outcome (--timeout takes precedence)
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub patience: Duration,
    /// Currency of the prices
    #[arg(long, default_value = "GBP", value_parser = Currency::read, value_name = "CODE")]
    pub currency: Currency,
    /// At the end, check the stock of every SKU against what was sold (the default)
    #[arg(long, overrides_with = "no_check")]
    pub check: bool,
    /// Do not check the stock at the end
    #[arg(long)]
    pub no_check: bool,
    /// Start no further order once N were acknowledged
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub stop_after: Option<u64>,
    /// How to report progress on stderr
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub progress: ProgressKind,
    /// With `--progress json`: acknowledged orders per line
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub progress_every: u64,
}

/// How orders are replayed.
#[derive(Clone, Copy, Debug)]
pub struct ReplayOptions {
    /// Stock to receive first.
    pub stock: Stock,
    /// Orders under way at the same time, at least 1.
    pub concurrency: usize,
    /// Deadline of one call, retries included.
    pub patience: Duration,
    /// Currency of the prices.
    pub currency: Currency,
    /// Check the stock at the end.
    pub check: bool,
    /// Take no new order once this many were acknowledged.
    pub stop_after: Option<u64>,
    /// Of the jitter between retries.
    pub seed: u64,
}
