//! `replay`: feeds real orders through the API, each placed, paid, picked, shipped and delivered.
//!
//! Every idempotency key is made of the order's id, so a replay that is started again, after a crash of either side, goes
//! on where it was and does nothing twice. Read next: `sales` (the files), `catalogue` (stock before and after), `walk`
//! (one order), `summary` (what comes out).

mod catalogue;
mod options;
mod progress;
mod sales;
mod stock;
mod summary;
mod walk;

use std::sync::Arc;

use ordergrid_api::client::{Client, ClientOptions, Connector, Endpoint, RetryPolicy};

pub use options::{ReplayArgs, ReplayOptions};
pub use progress::{Progress, ProgressKind};
pub use sales::{Files, Sale, SaleLine, Sales, SalesError};
pub use stock::{Ratio, Stock};
pub use summary::{StockCheck, Summary};

use crate::context::{Context, Ended};
use crate::exit::Exit;
use crate::failure::VerbFailure;
use crate::screen::Format;

/// Replays sales against the grid that the endpoints belong to: receives the stock, walks every order through its life,
/// checks the stock.
///
/// # Errors
/// When it cannot start: no node answers, or the grid's stock was received differently (then nothing was changed).
/// Whatever happens to single orders is in the summary.
pub async fn run(
    sales: Arc<Sales>,
    options: &ReplayOptions,
    endpoints: &[Endpoint],
    connector: Arc<dyn Connector>,
    progress: Progress,
) -> Result<Summary, VerbFailure> {
    let retry = RetryPolicy::patient(options.patience);
    let client = Client::new(endpoints, connector, ClientOptions { retry, seed: options.seed, ..ClientOptions::default() });
    let catalogue = catalogue::Catalogue { client: &client, sales: &sales, options };
    progress.says("receiving stock");
    let received = catalogue.prepare().await?;
    progress.says("replaying");
    let (mut summary, sold) = walk::all(client.clone(), Arc::clone(&sales), *options, progress.clone()).await;
    summary.received_units = received;
    if options.check && summary.is_complete() {
        progress.says("checking stock");
        summary.check = Some(catalogue.check(&sold).await?);
    }
    progress.ends();
    Ok(summary)
}

/// Runs `replay`.
pub(super) async fn verb(arguments: ReplayArgs, context: &Context<'_>) -> Ended {
    context.refuse_curl("replay")?;
    let sales = read(&arguments)?;
    let options = ReplayOptions {
        stock: arguments.stock,
        concurrency: usize::from(arguments.concurrency),
        patience: context.global.timeout.unwrap_or(arguments.patience),
        currency: arguments.currency,
        check: !arguments.no_check,
        stop_after: arguments.stop_after,
        seed: rand::random(),
    };
    let progress = Progress::new(arguments.progress, arguments.progress_every, sales.sales.len() as u64, context.screen);
    let endpoints = context.global.endpoints_or_default();
    let summary = run(Arc::new(sales), &options, &endpoints, Arc::clone(&context.connector), progress).await?;
    match context.global.output {
        Format::Json => context.screen.data(&(serde_json::to_string(&summary).expect("a summary is JSON") + "\n")),
        Format::Table => context.screen.data(&summary.table(context.screen.paint())),
    }
    summary.end()
}

fn read(arguments: &ReplayArgs) -> Result<Sales, VerbFailure> {
    let mut files =
        Files { orders: arguments.orders.clone(), lines: arguments.lines.clone(), products: arguments.products.clone() };
    files.add_by_header(&arguments.files)?;
    if files.orders.is_empty() || files.lines.is_empty() {
        let detail = "a replay needs a file of orders and a file of their lines";
        return Err(VerbFailure::new(Exit::Usage, "usage", detail).with_hint("ordergrid replay --orders FILE --lines FILE"));
    }
    Ok(files.read()?)
}

impl From<SalesError> for VerbFailure {
    fn from(error: SalesError) -> Self {
        match &error {
            SalesError::Unreadable { .. } => Self::new(Exit::Usage, "unreadable_file", error.to_string()),
            _ => Self::new(Exit::Failed, "malformed_file", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
