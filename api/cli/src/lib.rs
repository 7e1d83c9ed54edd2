//! The verbs that need nothing but HTTP, and the conventions that every verb keeps.
//!
//! Data goes to stdout, talk to stderr; `-o json` holds for errors too; the exit code says how it ended ([`Exit`]). A
//! binary puts [`GlobalArgs`] and [`ClientCommand`] into its own command line, reads it with [`parse`], and hands what is a
//! client's verb to [`run`]; its own verbs end through [`finish`], so that they keep the same conventions.

pub mod bench;
mod clock;
mod cluster;
mod context;
mod exit;
mod failure;
mod lookup;
mod repair;
pub mod replay;
mod screen;
mod streams;
mod table;
mod units;

use std::ffi::OsString;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use ordergrid_api::client::Connector;

pub use context::{DEFAULT_ENDPOINT, GlobalArgs};
pub use exit::Exit;
pub use failure::VerbFailure;
pub use screen::{Format, Paint, Screen};
pub use units::duration;

use context::Context;

/// The verbs that need nothing but HTTP.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Feed orders from CSV files through the API: place, pay, pick, ship, deliver
    Replay(replay::ReplayArgs),
    /// Put load on a grid and measure it
    Bench(bench::BenchArgs),
    /// Ask about the cluster
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Ask about orders
    #[command(subcommand)]
    Order(lookup::OrderCommand),
    /// Ask about SKUs
    #[command(subcommand)]
    Sku(lookup::SkuCommand),
}

/// Reads a command line. Help, version and mistakes are written to `screen`, the latter as JSON where `-o json` is asked for.
///
/// # Errors
/// The exit code, when there is nothing to run.
pub fn parse<C: Parser>(arguments: impl IntoIterator<Item = OsString>, screen: &Screen) -> Result<C, u8> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    C::try_parse_from(&arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            screen.data(&error.render().to_string());
            Exit::Done.code()
        }
        _ if wants_json(&arguments) => {
            let text = error.render().to_string();
            let detail = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            finish(Err(VerbFailure::new(Exit::Usage, "usage", detail)), Format::Json, screen)
        }
        _ => {
            screen.talk(&error.render().to_string());
            Exit::Usage.code()
        }
    })
}

/// Whether a command line that could not be read asks for JSON.
fn wants_json(arguments: &[OsString]) -> bool {
    let texts: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
    texts.iter().any(|text| matches!(text.as_ref(), "-ojson" | "-o=json" | "--output=json"))
        || texts.windows(2).any(|two| matches!(two[0].as_ref(), "-o" | "--output") && two[1] == "json")
}

/// Runs a verb; what comes back is the exit code of the process.
pub async fn run(command: ClientCommand, global: &GlobalArgs, connector: Arc<dyn Connector>, screen: &Screen) -> u8 {
    let context = Context { global, connector, screen };
    let ended = match command {
        ClientCommand::Replay(arguments) => replay::verb(arguments, &context).await,
        ClientCommand::Bench(arguments) => bench::verb(arguments, &context).await,
        ClientCommand::Cluster(command) => cluster::verb(&command, &context).await,
        ClientCommand::Order(command) => lookup::order(&command, &context).await,
        ClientCommand::Sku(command) => lookup::sku(&command, &context).await,
    };
    finish(ended, global.output, screen)
}

/// Tells how a verb ended and gives its exit code.
#[must_use]
pub fn finish(ended: Result<Exit, VerbFailure>, output: Format, screen: &Screen) -> u8 {
    match ended {
        Ok(exit) => exit.code(),
        Err(failure) => {
            screen.talk(&failure.text(output));
            failure.exit().code()
        }
    }
}

#[cfg(test)]
mod tests;
