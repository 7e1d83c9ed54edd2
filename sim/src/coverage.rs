//! The product's own counters, counted for one history: what happened inside that no client can see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;

type Counters = BTreeMap<String, Arc<AtomicU64>>;

static COUNTERS: Mutex<Counters> = Mutex::new(BTreeMap::new());

/// Counts from now on. The process runs one history.
pub fn start() {
    // A second history in a test's process counts on.
    metrics::set_global_recorder(Counting).ok();
}

/// What was counted, by the counter's name and those labels that say what and not who.
#[must_use]
pub fn counted() -> BTreeMap<String, u64> {
    let counters = COUNTERS.lock();
    let read = counters.iter().map(|(name, count)| (name.clone(), count.load(Ordering::Relaxed)));
    read.filter(|(_, count)| *count > 0).collect()
}

struct Counting;

struct Count(Arc<AtomicU64>);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Recorder for Counting {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels = key.labels().filter(|label| matches!(label.key(), "by" | "reason" | "outcome" | "code"));
        let named: String = labels.map(|label| format!(" {}", label.value())).collect();
        let name = format!("{}{named}", key.name());
        Counter::from_arc(Arc::new(Count(Arc::clone(COUNTERS.lock().entry(name).or_default()))))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
