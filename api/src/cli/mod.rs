//! The verbs that need nothing but HTTP, and the conventions that every verb keeps.
//!
//! Data goes to stdout, talk to stderr; `-o json` holds for errors too; the exit code says how it ended ([`Exit`]). A
//! binary puts [`GlobalArgs`] and [`ClientCommand`] into its own command line, reads it with [`parse`], and hands what is a
//! client's verb to [`run`]; its own verbs end through [`finish`], so that they keep the same conventions.

pub mod bench;
mod clock;
mod cluster;
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
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use exit::Exit;
pub use failure::VerbFailure;
pub use screen::{Paint, Screen};
pub use units::duration;

use crate::client::{Call, Client, ClientOptions, Connector, Endpoint, RawAnswer, RetryPolicy};

/// Where a grid is looked for when nothing else is said; `ordergrid dev` listens there.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8080";

/// Stands for `--endpoint`.
const ENDPOINTS_VARIABLE: &str = "ORDERGRID_ENDPOINTS";

/// URLs of nodes as people list them: commas between them, blanks around them, perhaps a comma at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct EndpointList(Vec<Endpoint>);

fn named_endpoints(text: &str) -> Result<EndpointList, String> {
    // A variable that is set to nothing counts as one that is not set. Nobody means that by a flag.
    let blank = std::env::var(ENDPOINTS_VARIABLE).is_ok_and(|variable| variable.trim().is_empty());
    endpoints_in(text, blank)
}

fn endpoints_in(text: &str, may_be_none: bool) -> Result<EndpointList, String> {
    let named = text.split(',').map(str::trim).filter(|url| !url.is_empty());
    let named: Result<Vec<Endpoint>, _> = named.map(str::parse).collect();
    let named = named.map_err(|wrong| wrong.to_string())?;
    if named.is_empty() && !may_be_none {
        return Err("names no node".to_owned());
    }
    Ok(EndpointList(named))
}

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// One JSON document for programs.
    Json,
}

/// What every verb understands.
#[derive(Clone, Debug, Default, Args)]
pub struct GlobalArgs {
    /// URLs of nodes, any number; each can answer everything
    #[arg(
        long = "endpoint",
        global = true,
        env = ENDPOINTS_VARIABLE,
        value_parser = named_endpoints,
        value_name = "URL[,URL]",
        help_heading = "Global options"
    )]
    endpoints: Vec<EndpointList>,
    /// How to write the result
    #[arg(
        short = 'o',
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub output: Format,
    /// Print the HTTP call as a curl command and do not send it
    #[arg(long, global = true, help_heading = "Global options")]
    pub curl: bool,
    /// How long to try one call, retries included [default: 30s]
    #[arg(long, global = true, value_parser = duration, value_name = "TIME", help_heading = "Global options")]
    pub timeout: Option<Duration>,
}

impl GlobalArgs {
    /// The endpoints named.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.endpoints.iter().flat_map(|list| list.0.iter().cloned()).collect()
    }

    /// The endpoints named, or the default one.
    #[must_use]
    pub fn endpoints_or_default(&self) -> Vec<Endpoint> {
        let named = self.endpoints();
        if named.is_empty() { vec![DEFAULT_ENDPOINT.parse().expect("the default is an endpoint")] } else { named }
    }
}

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

/// What a verb works with.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a GlobalArgs,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) screen: &'a Screen,
}

/// How a verb ends: with a code, or with an error that is still to be told.
type Ended = Result<Exit, VerbFailure>;

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

impl Context<'_> {
    fn client(&self) -> Client {
        let options = ClientOptions { seed: rand::random(), ..ClientOptions::default() };
        Client::new(&self.global.endpoints_or_default(), Arc::clone(&self.connector), options)
    }

    /// Sends the one call of a verb; nothing comes back where it was only to be shown.
    async fn ask(&self, call: &Call) -> Result<Option<RawAnswer>, VerbFailure> {
        let policy = self.global.timeout.map_or_else(RetryPolicy::default, RetryPolicy::patient);
        self.ask_under(call, &policy).await
    }

    /// The same with a policy of its own.
    async fn ask_under(&self, call: &Call, policy: &RetryPolicy) -> Result<Option<RawAnswer>, VerbFailure> {
        if self.global.curl {
            self.screen.data(&(call.to_curl(&self.global.endpoints_or_default()[0]) + "\n"));
            return Ok(None);
        }
        Ok(Some(self.client().send(call, policy).await?))
    }

    /// A verb of many calls has no line to show.
    fn refuse_curl(&self, verb: &str) -> Result<(), VerbFailure> {
        if self.global.curl {
            let detail = format!("{verb} makes many calls; --curl shows those of verbs that make one");
            return Err(VerbFailure::new(Exit::Usage, "usage", detail));
        }
        Ok(())
    }

    /// Writes the answer as it came, or as `table` shows it.
    fn show(&self, answer: &RawAnswer, table: impl FnOnce() -> String) {
        match self.global.output {
            Format::Json => self.screen.data(&(String::from_utf8_lossy(&answer.body).trim_end().to_owned() + "\n")),
            Format::Table => self.screen.data(&table()),
        }
    }
}

#[cfg(test)]
mod tests;
