//! One request in a handler: its path, query and headers, parsed strictly, and its stage clock.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use ordergrid_domain::Key;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::entry::{Idempotency, PathId, Segments};
use super::{Api, Route};
use crate::account::Taken;
use crate::body;
use crate::fault::{Fault, kinds};
use crate::grid::{ReadOptions, Token};
use crate::request_id::RequestId;
use crate::routes::meters::Stage;
use crate::wire::{GRID_TOKEN, IDEMPOTENCY_KEY, WireText};

static KEY: HeaderName = HeaderName::from_static(IDEMPOTENCY_KEY);
static TOKEN: HeaderName = HeaderName::from_static(GRID_TOKEN);

/// A request.
pub(crate) struct Call {
    pub(super) head: Parts,
    body: Body,
    pub(super) id: RequestId,
    route: Route,
    since: Instant,
    /// Memory of a body that is not small, and of the request made of it. Released when the body is processed.
    taken: Option<Arc<Taken>>,
}

impl Call {
    pub(super) fn new(head: Parts, body: Body, id: RequestId, route: Route, since: Instant) -> Self {
        Self { head, body, id, route, since, taken: None }
    }

    /// Ends a stage and begins the next.
    pub(super) fn ends(&mut self, api: &Api, stage: Stage) {
        let now = Instant::now();
        api.meters.stage(self.route.work(), stage, now - self.since);
        self.since = now;
    }

    /// Reads the whole body, at most `limit` bytes, if the server has memory for it.
    pub(super) async fn body(&mut self, api: &Api, limit: usize) -> Result<Bytes, Fault> {
        if let Some(encoding) = self.head.headers.get(CONTENT_ENCODING)
            && encoding.as_bytes() != b"identity"
        {
            return Err(
                Fault::new(&kinds::UNSUPPORTED_ENCODING, "send the body without a content encoding").at("Content-Encoding")
            );
        }
        let body = std::mem::take(&mut self.body);
        let (bytes, taken) = body::read(body, limit, api.limits.body_patience, api.account()).await?;
        self.taken = taken.map(Arc::new);
        self.ends(api, Stage::Body);
        Ok(bytes)
    }

    /// The memory of the body, for work that outlives this request.
    pub(super) fn taken(&self) -> Option<Arc<Taken>> {
        self.taken.clone()
    }

    /// The segments of the path in the places of the route's parameters.
    pub(super) fn segments(&self) -> Segments<'_> {
        let template = self.route.entry().map_or("", |entry| entry.path);
        Segments::of(template, self.head.uri.path()).unwrap_or_default()
    }

    /// The ids in the path.
    pub(super) fn at<T: PathId>(&self) -> Result<T, Fault> {
        T::from_path(&self.segments())
    }

    /// Whether the route requires an idempotency key.
    pub(super) fn needs_key(&self) -> bool {
        self.route.entry().is_some_and(|entry| entry.idempotency == Idempotency::Key)
    }

    /// The idempotency key, which every POST that moves stock or money requires.
    pub(super) fn key(&self) -> Result<Key, Fault> {
        let missing = || Fault::new(&kinds::MISSING_IDEMPOTENCY_KEY, "send the header Idempotency-Key").at("Idempotency-Key");
        let given = single(&self.head.headers, &KEY).map_err(invalid_key)?;
        let given = given.filter(|value| !value.is_empty()).ok_or_else(missing)?;
        let text = given.to_str().map_err(|_| invalid_key("must be visible ASCII characters only"))?;
        Key::read(text).map_err(invalid_key)
    }

    /// Whether the object must not be there yet: `If-None-Match: *`.
    pub(super) fn must_be_new(&self) -> Result<bool, Fault> {
        let invalid = |detail: &'static str| Fault::new(&kinds::INVALID_IF_NONE_MATCH, detail).at("If-None-Match");
        match single(&self.head.headers, &IF_NONE_MATCH).map_err(invalid)? {
            None => Ok(false),
            Some(_) if self.head.headers.contains_key(IF_MATCH) => Err(invalid("does not go together with If-Match")),
            Some(value) if value.as_bytes() == b"*" => Ok(true),
            Some(_) => Err(invalid("must be *")),
        }
    }

    /// The version of `If-Match: "7"`; `None` for `*` or without the header. Of what is changed, and so is there,
    /// `If-None-Match` can only be a mistake.
    pub(super) fn expected_version(&self) -> Result<Option<u64>, Fault> {
        if self.head.headers.contains_key(IF_NONE_MATCH) {
            let fault = Fault::new(&kinds::INVALID_IF_NONE_MATCH, "is understood where a SKU is created, and not here");
            return Err(fault.at("If-None-Match"));
        }
        let invalid = || Fault::new(&kinds::INVALID_IF_MATCH, "must be one version in quotes, as \"7\"").at("If-Match");
        let Some(value) = single(&self.head.headers, &IF_MATCH).map_err(|_| invalid())? else {
            return Ok(None);
        };
        match value.as_bytes() {
            b"*" => Ok(None),
            [b'"', version @ .., b'"'] => {
                let version = std::str::from_utf8(version).map_err(|_| invalid())?;
                u64::read(version).map(Some).map_err(|_| invalid())
            }
            _ => Err(invalid()),
        }
    }

    /// The required consistency of a read: `Grid-Token`, `?consistency=`.
    pub(super) fn read_options(&self, consistency: Option<&str>) -> Result<ReadOptions, Fault> {
        let invalid = || Fault::new(&kinds::INVALID_GRID_TOKEN, "must be shard:index").at("Grid-Token");
        let token = single(&self.head.headers, &TOKEN).map_err(|_| invalid())?;
        let token = token.map(|value| value.to_str().ok().and_then(|text| Token::from_str(text).ok()).ok_or_else(invalid));
        let stale = match consistency {
            None | Some("strong") => false,
            Some("stale") => true,
            Some(_) => {
                let fault = Fault::new(&kinds::INVALID_CONSISTENCY, "must be one of strong stale");
                return Err(fault.at("consistency"));
            }
        };
        Ok(ReadOptions { token: token.transpose()?, stale })
    }

    /// The query. Its parameters must be among `known`, each at most once.
    pub(super) fn query<const N: usize>(&self, known: [&'static str; N]) -> Result<[Option<String>; N], Fault> {
        let mut values = [const { None }; N];
        for pair in self.head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(position) = known.iter().position(|known| *known == name) else {
                let fault = Fault::new(&kinds::UNKNOWN_PARAMETER, format!("known are: {}", known.join(" ")));
                return Err(fault.at(name.to_owned()));
            };
            let value = value.replace('+', " ");
            let invalid = |detail: &'static str| Fault::new(&kinds::INVALID_PARAMETER, detail).at(known[position]);
            let value = percent_decode_str(&value).decode_utf8().map_err(|_| invalid("is not UTF-8"))?.into_owned();
            if values[position].replace(value).is_some() {
                return Err(invalid("is given more than once"));
            }
        }
        Ok(values)
    }
}

fn invalid_key(detail: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(&kinds::INVALID_IDEMPOTENCY_KEY, detail).at("Idempotency-Key")
}

/// The value of a header that may be given at most once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err("is given more than once"),
    }
}
