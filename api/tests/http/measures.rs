//! What is measured: the names and labels that dashboards are built on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder};

use crate::site::{SMALLEST, Site};

/// Remembers what was registered, as `name{label=value,…}`.
#[derive(Default)]
struct Names(Arc<Mutex<BTreeSet<String>>>);

impl Names {
    fn seen(&self, key: &Key) {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        self.0.lock().expect("no panic").insert(name);
    }
}

impl Recorder for Names {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.seen(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.seen(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.seen(key);
        Histogram::noop()
    }
}

#[test]
fn a_request_is_measured_by_route_stage_and_ending() {
    let names = Names::default();
    let seen = Arc::clone(&names.0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    with_local_recorder(&names, || {
        runtime.block_on(async {
            let site = Site::new();
            site.post("/v1/orders", "k1", SMALLEST).await;
            site.get("/v1/orders/7").await;
        });
    });
    let expected = [
        "ordergrid_http_request_seconds{route=GET /v1/orders/{id},outcome=refused}",
        "ordergrid_http_requests_in_flight{}",
        "ordergrid_stage_seconds{work=place,stage=body}",
        "ordergrid_stage_seconds{work=place,stage=grid}",
        "ordergrid_stage_seconds{work=place,stage=parse}",
        "ordergrid_stage_seconds{work=place,stage=write}",
    ];
    let seen = seen.lock().expect("no panic");
    // Codes and routes begin at 0, whether or not they are ever met.
    let begins = |name: &str| name.starts_with("ordergrid_http_problems_total{") || name.ends_with(",outcome=done}");
    let (begun, met): (Vec<_>, Vec<_>) = seen.iter().map(String::as_str).partition(|name| begins(name));
    assert_eq!(met, expected);
    for name in
        ["ordergrid_http_problems_total{code=overloaded}", "ordergrid_http_request_seconds{route=GET /livez,outcome=done}"]
    {
        assert!(begun.contains(&name), "{name} is not in {begun:?}");
    }
}
