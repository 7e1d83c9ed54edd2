//! The routes over a scripted grid, and requests to them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use ordergrid_api::Limits;
use ordergrid_api::routes::{entries, router};
use serde_json::Value;

use crate::scripted::Scripted;

/// Routes over a grid.
pub(crate) struct Site {
    pub(crate) grid: Arc<Scripted>,
    routes: TowerToHyperService<Router>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let grid = Arc::new(Scripted::default());
        let routes = TowerToHyperService::new(router(grid.clone(), limits, 0xabc));
        Self { grid, routes }
    }

    /// A site whose small limits are easy to reach.
    pub(crate) fn tight() -> Self {
        Self::with(Limits {
            body_bytes: 2_000,
            batch_bytes: 4_000,
            batch_orders: 3,
            order_lines: 4,
            body_patience: Duration::from_secs(5),
            grid_patience: Duration::from_secs(5),
            page_depth: 20,
            ..Limits::default()
        })
    }

    /// The answer, its body still to be taken.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        self.routes.call(request).await.expect("the routes always answer")
    }

    /// Sends a request; a problem that comes back has to be one that the table of routes has for it.
    pub(crate) async fn send(&self, request: Request<Body>) -> Told {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let told = self.send_for_anything(request).await;
        told.is_documented(&method, &path);
        told
    }

    /// Sends a request to a grid that may answer what no grid would.
    pub(crate) async fn send_for_anything(&self, request: Request<Body>) -> Told {
        let response = self.answer(request).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("bodies are whole").to_bytes();
        Told { status: head.status.as_u16(), headers: head.headers, bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Told {
        self.send(request("GET", path, &[], "")).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: &str) -> Told {
        self.send(request("POST", path, &[("idempotency-key", key)], body)).await
    }

    /// Places the smallest order of user 17850 and gives its id.
    pub(crate) async fn placed(&self, key: &str) -> String {
        let told = self.post("/v1/orders", key, SMALLEST).await;
        assert_eq!(told.status, 201, "{told:?}");
        told.text("id")
    }

    /// Places and pays an order, and gives its id.
    pub(crate) async fn paid(&self, key: &str) -> String {
        let order = self.placed(key).await;
        let told = self.post(&format!("/v1/orders/{order}/payments"), "pay", CAPTURE).await;
        assert_eq!(told.status, 201, "{told:?}");
        order
    }

    /// Starts a fulfilment of a paid order and gives its id.
    pub(crate) async fn picked(&self, key: &str) -> String {
        let order = self.paid(key).await;
        let told = self.post(&format!("/v1/orders/{order}/fulfilments"), "pick", "{}").await;
        assert_eq!(told.status, 201, "{told:?}");
        told.text("id")
    }
}

/// The smallest order.
pub(crate) const SMALLEST: &str =
    r#"{"user_id":"17850","currency":"GBP","lines":[{"sku":"85123A","quantity":6,"unit_price":255}]}"#;

/// What pays it.
pub(crate) const CAPTURE: &str = r#"{"provider_payment_id":"pi_1","status":"captured","amount":1530,"currency":"GBP"}"#;

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).expect("a valid request")
}

impl Told {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or_else(|| panic!("no {field} in {self:?}")).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("readable headers"))
    }

    /// Checks that a problem is one that the table of routes has for its route.
    fn is_documented(&self, method: &Method, path: &str) {
        if self.header("content-type") != Some("application/problem+json") {
            return;
        }
        let code = self.text("code");
        match entries().iter().find(|entry| entry.takes(method, path)) {
            Some(entry) => {
                assert!(entry.errors().any(|kind| kind.code == code), "{code} is not documented for {}", entry.label);
            }
            None => assert!(["no_such_route", "method_not_allowed"].contains(&code.as_str()), "{code} for {method} {path}"),
        }
    }

    /// Checks that this is a problem, well formed, and gives code and param.
    pub(crate) fn problem(&self) -> (String, Option<String>) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: ordergrid_api::wire::Problem = serde_json::from_slice(&self.bytes).expect("a problem");
        assert_eq!(problem.status, self.status);
        assert_eq!(problem.kind, format!("urn:ordergrid:problem:{}", problem.code));
        assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{problem:?}");
        assert_eq!(Some(problem.request_id.as_str()), self.header("x-request-id"));
        assert!(["refused", "unknown"].contains(&problem.outcome.as_str()), "{problem:?}");
        assert_eq!(self.header("retry-after").is_some(), [429, 503].contains(&self.status), "{self:?}");
        (problem.code, problem.param)
    }
}

/// Status, and code or status word, of each result of a batch.
pub(crate) fn results(told: &Told) -> Vec<(u64, String)> {
    assert_eq!(told.status, 200, "{told:?}");
    let word = |result: &Value| match &result["error"]["code"] {
        Value::String(code) => code.clone(),
        _ => result["order"]["status"].as_str().expect("a status").to_owned(),
    };
    let results = told.json()["results"].as_array().expect("a list").clone();
    results.iter().map(|result| (result["status"].as_u64().expect("a number"), word(result))).collect()
}

/// What the results of a batch should be.
pub(crate) fn expected(rows: &[(u64, &str)]) -> Vec<(u64, String)> {
    rows.iter().map(|(status, word)| (*status, (*word).to_owned())).collect()
}
