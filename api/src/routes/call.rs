//! One request on its way through a handler: its path, query and headers, read strictly, and the clock of its stages.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, HeaderName, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use ordergrid_domain::{Key, OrderId, SkuId, UserId};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::Api;
use super::commands::order_at;
use crate::account::Taken;
use crate::body;
use crate::fault::{Fault, kinds};
use crate::grid::{ReadOptions, Token};
use crate::metrics::{Stage, Work};
use crate::request_id::RequestId;
use crate::wire::{GRID_TOKEN, IDEMPOTENCY_KEY, WireText};

static KEY: HeaderName = HeaderName::from_static(IDEMPOTENCY_KEY);
static TOKEN: HeaderName = HeaderName::from_static(GRID_TOKEN);

/// A request.
pub(crate) struct Call {
    pub(super) head: Parts,
    body: Body,
    pub(super) id: RequestId,
    work: Work,
    since: Instant,
    /// Memory of a body that is not small, and of what it becomes; given back when nobody works on it any more.
    taken: Option<Arc<Taken>>,
}

impl Call {
    pub(super) fn new(head: Parts, body: Body, id: RequestId, work: Work, since: Instant) -> Self {
        Self { head, body, id, work, since, taken: None }
    }

    /// Ends a stage and begins the next.
    pub(super) fn ends(&mut self, api: &Api, stage: Stage) {
        let now = Instant::now();
        api.meters.stage(self.work, stage, now - self.since);
        self.since = now;
    }

    /// Reads the whole body, at most `limit` bytes of it, while the server as a whole has room.
    pub(super) async fn body(&mut self, api: &Api, limit: usize) -> Result<Bytes, Fault> {
        if let Some(encoding) = self.head.headers.get(CONTENT_ENCODING)
            && encoding.as_bytes() != b"identity"
        {
            return Err(Fault::new(&kinds::UNSUPPORTED_ENCODING, "send the body as it is").at("Content-Encoding"));
        }
        let body = std::mem::take(&mut self.body);
        let (bytes, taken) = body::read(body, limit, api.limits.body_patience, api.account()).await?;
        self.taken = taken.map(Arc::new);
        self.ends(api, Stage::Body);
        Ok(bytes)
    }

    /// The memory of the body, for whoever works on it longer than this request lasts.
    pub(super) fn taken(&self) -> Option<Arc<Taken>> {
        self.taken.clone()
    }

    /// A segment of the path as it was sent.
    fn raw_segment(&self, position: usize) -> Option<&str> {
        self.head.uri.path().split('/').nth(position + 1)
    }

    /// A segment of the path, decoded: `BANK%20CHARGES` is `BANK CHARGES`.
    fn segment(&self, position: usize) -> Option<Cow<'_, str>> {
        percent_decode_str(self.raw_segment(position)?).decode_utf8().ok()
    }

    /// The order of `/v1/orders/{id}/…`. What is no order id names no order.
    pub(super) fn order(&self) -> Result<OrderId, Fault> {
        order_at(self.raw_segment(2).unwrap_or_default())
    }

    /// The user of `/v1/users/{id}/…`.
    pub(super) fn user(&self) -> Result<UserId, Fault> {
        let given = self.segment(2).ok_or_else(|| not_text(&kinds::INVALID_USER_ID, "user_id"))?;
        UserId::read(&given).map_err(|detail| Fault::new(&kinds::INVALID_USER_ID, detail).at("user_id"))
    }

    /// The SKU of `/v1/skus/{id}/…`.
    pub(super) fn sku(&self) -> Result<SkuId, Fault> {
        let given = self.segment(2).ok_or_else(|| not_text(&kinds::INVALID_SKU, "sku"))?;
        SkuId::read(&given).map_err(|detail| Fault::new(&kinds::INVALID_SKU, detail).at("sku"))
    }

    /// The idempotency key, which every POST that moves stock or money must have.
    pub(super) fn key(&self) -> Result<Key, Fault> {
        let missing = || Fault::new(&kinds::MISSING_IDEMPOTENCY_KEY, "send the header Idempotency-Key").at("Idempotency-Key");
        let given = single(&self.head.headers, &KEY).map_err(invalid_key)?;
        let given = given.filter(|value| !value.is_empty()).ok_or_else(missing)?;
        let text = given.to_str().map_err(|_| invalid_key("must be visible ASCII characters only"))?;
        Key::read(text).map_err(invalid_key)
    }

    /// The version of `If-Match: "7"`; `*` means any.
    pub(super) fn expected_version(&self) -> Result<Option<u64>, Fault> {
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

    /// How current a read has to be: `Grid-Token`, `?consistency=`.
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

    /// The query, whose parameters must be among `known`, each at most once.
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
                return Err(invalid("stands there twice"));
            }
        }
        Ok(values)
    }
}

fn invalid_key(detail: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(&kinds::INVALID_IDEMPOTENCY_KEY, detail).at("Idempotency-Key")
}

fn not_text(kind: &'static kinds::Kind, param: &'static str) -> Fault {
    Fault::new(kind, "is not UTF-8").at(param)
}

/// The value of a header that may stand there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err("stands there twice"),
    }
}
