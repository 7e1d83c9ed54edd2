//! What every verb works with: the options that all of them understand, the grid, the screen.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ordergrid_api::client::{Call, Client, ClientOptions, Connector, Endpoint, RawAnswer, RetryPolicy};

use crate::exit::Exit;
use crate::failure::VerbFailure;
use crate::screen::{Format, Screen};
use crate::units::duration;

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
        return Err("names no endpoint".to_owned());
    }
    Ok(EndpointList(named))
}

/// What every verb understands.
#[derive(Clone, Debug, Default, Args)]
pub struct GlobalArgs {
    /// URLs of one or more nodes; any node answers every request
    #[arg(
        long = "endpoint",
        global = true,
        env = ENDPOINTS_VARIABLE,
        value_parser = named_endpoints,
        value_name = "URL[,URL]",
        help_heading = "Global options"
    )]
    endpoints: Vec<EndpointList>,
    /// Output format
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
    /// Print the equivalent curl command instead of sending the request
    #[arg(long, global = true, help_heading = "Global options")]
    pub curl: bool,
    /// Time limit of one call, retries included [default: 30s]
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

/// What a verb works with.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a GlobalArgs,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) screen: &'a Screen,
}

/// How a verb ends: with a code, or with an error that is still to be told.
pub(crate) type Ended = Result<Exit, VerbFailure>;

/// How a verb ends that has only shown what it would do, without having been asked for no more than that.
pub(crate) fn not_done(what: &str, hint: &str) -> Ended {
    Err(VerbFailure::new(Exit::Unsafe, "not_confirmed", what).with_hint(hint))
}

impl Context<'_> {
    fn client(&self) -> Client {
        let options = ClientOptions { seed: rand::random(), ..ClientOptions::default() };
        Client::new(&self.global.endpoints_or_default(), Arc::clone(&self.connector), options)
    }

    /// Sends the one call of a verb; nothing comes back where it was only to be shown.
    pub(crate) async fn ask(&self, call: &Call) -> Result<Option<RawAnswer>, VerbFailure> {
        let policy = self.global.timeout.map_or_else(RetryPolicy::default, RetryPolicy::patient);
        self.ask_under(call, &policy).await
    }

    /// The same with a policy of its own.
    pub(crate) async fn ask_under(&self, call: &Call, policy: &RetryPolicy) -> Result<Option<RawAnswer>, VerbFailure> {
        if self.global.curl {
            self.screen.data(&(call.to_curl(&self.global.endpoints_or_default()[0]) + "\n"));
            return Ok(None);
        }
        Ok(Some(self.client().send(call, policy).await?))
    }

    /// A verb of many calls has no line to show.
    pub(crate) fn refuse_curl(&self, verb: &str) -> Result<(), VerbFailure> {
        if self.global.curl {
            let detail = format!("{verb} makes many calls; --curl works only with verbs that make one");
            return Err(VerbFailure::new(Exit::Usage, "usage", detail));
        }
        Ok(())
    }

    /// Writes the answer as it came, or as `table` shows it.
    pub(crate) fn show(&self, answer: &RawAnswer, table: impl FnOnce() -> String) {
        match self.global.output {
            Format::Json => self.screen.data(&(String::from_utf8_lossy(&answer.body).trim_end().to_owned() + "\n")),
            Format::Table => self.screen.data(&table()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_people_list_them() {
        let read = |text: &str, may_be_none| {
            let list = endpoints_in(text, may_be_none).map(|list| list.0.iter().map(ToString::to_string).collect::<Vec<_>>());
            list.map(|list| list.join(" "))
        };
        let (one, two) = ("http://a:1", "http://a:1 http://b:2");
        #[rustfmt::skip]
        let cases = [
            ("http://a:1",             Some(one)),
            (" http://a:1 ",           Some(one)),
            ("http://a:1,",            Some(one)),
            ("a:1,b:2",                Some(two)),
            (" http://a:1 , b:2 ",     Some(two)),
            ("http://a:1,,http://b:2", Some(two)),
            ("",                       None),
            (" , ",                    None),
            ("http://a:1,http://",     None),
            ("http://a:1 http://b:2",  None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text, false).ok().as_deref(), expected, "{text:?}");
        }
        assert_eq!(read("", true), Ok(String::new()), "a variable that is set to nothing");
    }
}
