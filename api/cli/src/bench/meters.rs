//! What the grid says about itself: `/metrics` before and after, and the difference.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ordergrid_api::client::{Call, Client, ClientOptions, Connector, Endpoint, RetryPolicy};

/// How long a node may take to answer; one under full load takes longer than an idle one.
const PATIENCE: Duration = Duration::from_secs(10);
/// Labels that say where and not what: series that differ in them alone are added up.
const WHERE: [&str; 8] = ["le", "group", "shard", "peer", "node", "from", "to", "instance"];

/// The nodes' metrics at one moment, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// What tells the processes apart.
    instances: Vec<String>,
    /// Counters and gauges by name.
    numbers: BTreeMap<String, f64>,
    /// CPU seconds by what the threads are for.
    threads: BTreeMap<String, f64>,
    /// Histograms by name and labels.
    histograms: BTreeMap<String, Buckets>,
}

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Buckets {
    pub(super) count: f64,
    pub(super) sum: f64,
    /// Samples up to a bound, by the bound's bits, which for bounds above zero are in its order.
    upto: BTreeMap<u64, f64>,
}

/// Reads the metrics of nodes.
pub(super) struct Meters {
    nodes: Vec<Client>,
}

impl Meters {
    pub(super) fn new(endpoints: &[Endpoint], connector: &Arc<dyn Connector>) -> Self {
        let node =
            |endpoint: &Endpoint| Client::new(std::slice::from_ref(endpoint), Arc::clone(connector), ClientOptions::default());
        Self { nodes: endpoints.iter().map(node).collect() }
    }

    /// What all nodes say; none if one of them does not answer. Nodes that are one process say the same, and count once.
    pub(super) async fn read(&self) -> Option<Reading> {
        let (call, policy) = (Call::get("/metrics"), RetryPolicy::once(PATIENCE));
        let answers = join_all(self.nodes.iter().map(|node| node.send(&call, &policy))).await;
        let mut all = Reading::default();
        for answer in answers {
            let reading = Reading::of(std::str::from_utf8(&answer.ok()?.body).ok()?);
            if reading.instances.is_empty() || !reading.instances.iter().all(|instance| all.instances.contains(instance)) {
                all.add(&reading);
            }
        }
        Some(all)
    }
}

impl Reading {
    /// Reads Prometheus text.
    pub(super) fn of(text: &str) -> Self {
        let mut reading = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels_of(labels.trim_end_matches('}'));
            if let Some((_, instance)) = labels.iter().find(|(label, _)| *label == "instance") {
                reading.instances.push((*instance).to_owned());
            }
            reading.take(name, &labels, value);
        }
        reading
    }

    fn take(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let is = |suffix: &str| name.strip_suffix(suffix).filter(|name| name.ends_with("_seconds"));
        let bound = labels.iter().find(|(label, _)| *label == "le").and_then(|(_, bound)| bound.parse::<f64>().ok());
        if let (Some(name), Some(bound)) = (is("_bucket"), bound) {
            *self.histogram(name, labels).upto.entry(bound.to_bits()).or_default() += value;
        } else if let Some(name) = is("_sum") {
            self.histogram(name, labels).sum += value;
        } else if let Some(name) = is("_count") {
            self.histogram(name, labels).count += value;
        } else if let Some((_, threads)) = labels.iter().find(|(label, _)| *label == "threads") {
            *self.threads.entry((*threads).to_owned()).or_default() += value;
        } else {
            *self.numbers.entry(name.to_owned()).or_default() += value;
        }
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)]) -> &mut Buckets {
        let what: Vec<_> = labels.iter().filter(|(label, _)| !WHERE.contains(label)).map(|(_, value)| *value).collect();
        let name = name.trim_start_matches("ordergrid_").trim_end_matches("_seconds");
        let name = if what.is_empty() { name.to_owned() } else { format!("{name} {}", what.join(" ")) };
        self.histograms.entry(name).or_default()
    }

    fn add(&mut self, other: &Self) {
        self.instances.extend(other.instances.iter().cloned());
        for (name, value) in &other.numbers {
            *self.numbers.entry(name.clone()).or_default() += value;
        }
        for (threads, value) in &other.threads {
            *self.threads.entry(threads.clone()).or_default() += value;
        }
        for (name, more) in &other.histograms {
            self.histograms.entry(name.clone()).or_default().change(more, 1.0);
        }
    }

    /// Processes that were asked.
    pub(super) fn processes(&self) -> usize {
        self.instances.len()
    }

    /// The sum of a counter or gauge.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.numbers.get(name).copied()
    }

    /// What has happened since `before`; none if a process was started anew in between, whose counters began at zero.
    pub(super) fn since(&self, before: &Self) -> Option<Self> {
        let mut since = self.clone();
        let (mut ours, mut theirs) = (self.instances.clone(), before.instances.clone());
        ours.sort();
        theirs.sort();
        if ours != theirs {
            return None;
        }
        for (name, value) in &mut since.numbers {
            *value -= before.number(name).unwrap_or(0.0);
        }
        for (threads, value) in &mut since.threads {
            *value -= before.threads.get(threads).copied().unwrap_or(0.0);
        }
        for (name, buckets) in &mut since.histograms {
            if let Some(before) = before.histograms.get(name) {
                buckets.change(before, -1.0);
            }
        }
        Some(since)
    }

    /// CPU seconds by what the threads are for; empty where the nodes do not tell.
    pub(super) fn threads(&self) -> &BTreeMap<String, f64> {
        &self.threads
    }

    /// A stage of an order's way, over every kind of work that it is measured for apart.
    pub(super) fn stage(&self, stage: &str) -> Option<Buckets> {
        let is = |name: &str| name.strip_prefix("stage ").and_then(|labels| labels.rsplit(' ').next()) == Some(stage);
        let mut found = self.histograms.iter().filter(|(name, _)| is(name)).map(|(_, buckets)| buckets);
        let mut all = found.next()?.clone();
        found.for_each(|buckets| all.change(buckets, 1.0));
        Some(all)
    }

    /// The histograms with samples, by name.
    pub(super) fn histograms(&self) -> impl Iterator<Item = (&str, &Buckets)> {
        self.histograms.iter().map(|(name, buckets)| (name.as_str(), buckets)).filter(|(_, buckets)| buckets.count > 0.0)
    }
}

impl Buckets {
    fn change(&mut self, other: &Self, sign: f64) {
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        for (bound, samples) in &other.upto {
            *self.upto.entry(*bound).or_default() += sign * samples;
        }
    }

    /// The value below which a share of the samples lies, as far as the buckets tell: between two bounds in proportion.
    pub(super) fn quantile(&self, quantile: f64) -> f64 {
        let wanted = self.count * quantile;
        let (mut bound_below, mut samples_below) = (0.0, 0.0);
        for (bound, samples) in &self.upto {
            let bound = f64::from_bits(*bound);
            if *samples >= wanted && bound.is_finite() {
                let share = if *samples > samples_below { (wanted - samples_below) / (samples - samples_below) } else { 1.0 };
                return bound_below + (bound - bound_below) * share;
            }
            if bound.is_finite() {
                (bound_below, samples_below) = (bound, *samples);
            }
        }
        bound_below
    }
}

/// Reads `a="b",c="d"`; values may hold commas and brackets, and quotes behind a backslash.
fn labels_of(text: &str) -> Vec<(&str, &str)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(end) = end else { break };
        labels.push((name.trim_start_matches(','), &after[..end]));
        rest = &after[end + 1..];
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# TYPE ordergrid_log_syncs_total counter
ordergrid_process_info{instance=\"a\"} 1
ordergrid_log_syncs_total 10
process_thread_cpu_seconds_total{threads=\"runtime\"} 1
ordergrid_replicated_bytes_total{peer=\"2\"} 5
ordergrid_apply_seconds_bucket{group=\"1\",le=\"0.001\"} 4
ordergrid_apply_seconds_bucket{group=\"1\",le=\"0.002\"} 4
ordergrid_apply_seconds_bucket{group=\"1\",le=\"+Inf\"} 4
ordergrid_apply_seconds_sum{group=\"1\"} 0.002
ordergrid_apply_seconds_count{group=\"1\"} 4
";
    const AFTER: &str = "\
ordergrid_process_info{instance=\"a\"} 1
ordergrid_log_syncs_total 25
ordergrid_replicated_bytes_total{peer=\"2\"} 7
ordergrid_replicated_bytes_total{peer=\"3\"} 3
ordergrid_apply_seconds_bucket{group=\"1\",le=\"0.001\"} 8
ordergrid_apply_seconds_bucket{group=\"1\",le=\"0.002\"} 12
ordergrid_apply_seconds_bucket{group=\"1\",le=\"+Inf\"} 14
ordergrid_apply_seconds_sum{group=\"1\"} 0.022
ordergrid_apply_seconds_count{group=\"1\"} 14
ordergrid_stage_seconds_sum{work=\"place\",stage=\"grid\"} 3
ordergrid_stage_seconds_count{work=\"place\",stage=\"grid\"} 2
ordergrid_stage_seconds_sum{work=\"batch\",stage=\"grid\"} 1
ordergrid_stage_seconds_count{work=\"batch\",stage=\"grid\"} 2
ordergrid_stage_seconds_sum{stage=\"pack\"} 5
ordergrid_stage_seconds_count{stage=\"pack\"} 6
process_thread_cpu_seconds_total{threads=\"log_writer\"} 1.5
process_thread_cpu_seconds_total{threads=\"runtime\"} 4
";

    #[test]
    fn a_difference_is_what_happened_in_between() {
        let since = Reading::of(AFTER).since(&Reading::of(BEFORE)).expect("the same process");
        assert_eq!((since.number("ordergrid_log_syncs_total"), since.number("no_such")), (Some(15.0), None));
        assert_eq!(since.number("ordergrid_replicated_bytes_total"), Some(5.0), "over all peers");
        let names: Vec<_> = since.histograms().map(|(name, buckets)| (name, buckets.count)).collect();
        assert_eq!(names, [("apply", 10.0), ("stage batch grid", 2.0), ("stage pack", 6.0), ("stage place grid", 2.0)]);
        let stage = |name| since.stage(name).map(|buckets| (buckets.count, buckets.sum));
        assert_eq!((stage("grid"), stage("pack"), stage("batch")), (Some((4.0, 4.0)), Some((6.0, 5.0)), None));
        let threads: Vec<_> = since.threads().iter().map(|(threads, seconds)| (threads.as_str(), *seconds)).collect();
        assert_eq!(threads, [("log_writer", 1.5), ("runtime", 3.0)]);
        let apply = &since.histograms["apply"];
        assert!((apply.sum - 0.02).abs() < 1e-9, "{apply:?}");
        // 4 up to 1 ms, 4 more up to 2 ms, 2 beyond all bounds.
        for (quantile, ms) in [(0.2, 0.5), (0.4, 1.0), (0.6, 1.5), (0.8, 2.0), (0.99, 2.0)] {
            assert!((apply.quantile(quantile) * 1e3 - ms).abs() < 1e-9, "{quantile}: {}", apply.quantile(quantile));
        }
    }

    #[test]
    fn a_process_that_was_started_anew_gives_no_difference() {
        let other = Reading::of(&AFTER.replace("\"a\"", "\"b\""));
        assert_eq!(other.since(&Reading::of(BEFORE)), None);
    }

    #[test]
    fn labels_may_hold_anything() {
        let text = r#"route="POST /v1/orders/{id}, \"x\"",outcome="done""#;
        assert_eq!(labels_of(text), [("route", r#"POST /v1/orders/{id}, \"x\""#), ("outcome", "done")]);
        assert_eq!(labels_of(""), []);
    }

    #[test]
    fn nodes_are_added_up() {
        let mut all = Reading::of(BEFORE);
        all.add(&Reading::of(&BEFORE.replace("\"a\"", "\"b\"")));
        assert_eq!((all.processes(), all.number("ordergrid_log_syncs_total")), (2, Some(20.0)));
        assert_eq!((all.histograms["apply"].count, all.threads()["runtime"]), (8.0, 2.0));
    }
}
