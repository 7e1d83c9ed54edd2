//! Benches of scripted grids, in simulated time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use ordergrid_api::client::scripted::{Asked, Scripted, Told};
use serde_json::{Value, json};

use super::*;

pub(super) fn options(workload: Workload) -> BenchOptions {
    BenchOptions {
        workload,
        rate: None,
        skus: 5,
        users: 100,
        lines: Lines::just(1),
        units: 10,
        reads: 90,
        connections: 3,
        to: Route::All,
        streams: None,
        batch: 1,
        gather: None,
        duration: Duration::from_secs(10),
        warmup: Duration::from_secs(2),
        runs: 1,
        total: None,
        verify: false,
        profile: false,
        title: None,
        run: 7,
    }
}

/// A grid with stock that answers each request that moves something by `script`, and counts in its metrics how many it got.
fn grid(script: impl Fn(&Asked) -> Told + Send + Sync + 'static) -> Scripted {
    let got = AtomicU64::new(0);
    Scripted::new(move |asked| {
        if asked.path == "/metrics" {
            let (node, got) = (&asked.node, got.load(Ordering::Relaxed));
            let text = format!(
                "ordergrid_process_info{{instance=\"{node}\"}} 1\nordergrid_log_entries_total {got}\nprocess_cpu_seconds_total {got}\n\
                 ordergrid_apply_seconds_sum{{group=\"1\"}} {got}\nordergrid_apply_seconds_count{{group=\"1\"}} {got}\n\
                 ordergrid_stage_seconds_sum{{work=\"place\",stage=\"parse\"}} {got}\n\
                 ordergrid_stage_seconds_count{{work=\"place\",stage=\"parse\"}} {got}\n\
                 process_thread_cpu_seconds_total{{threads=\"runtime\"}} {}\n\
                 process_thread_cpu_seconds_total{{threads=\"log_writer\"}} {got}\n",
                2 * got,
            );
            return Told::Answer(200, Vec::new(), text);
        }
        if !asked.path.starts_with("/v1/skus") {
            got.fetch_add(1, Ordering::Relaxed);
            return script(asked);
        }
        let stock = json!({
            "on_hand": 0, "unavailable": 0, "reserved": 0, "committed": 0, "available": 0, "backordered": 0, "sold": 0,
            "received": 0, "restocked": 0, "adjusted": 0,
        });
        Told::json(200, &json!({"id": "s", "name": "n", "version": 1, "index": 1, "stock": stock, "warehouses": []}))
    })
}

async fn bench(options: &BenchOptions, network: &Scripted) -> BenchReport {
    let endpoints = vec![Endpoint::new("a", 80), Endpoint::new("b", 80)];
    let subject = Subject { endpoints, connector: Arc::new(network.clone()), started: None };
    run_by(options, &subject, &Progress::silent(), &Timer::coarse()).await.expect("the grid can be stocked")
}

/// Refuses for one second, so that simulated time goes on.
fn busy() -> Told {
    let body = json!({"code": "overloaded", "retryable": true, "outcome": "refused"});
    Told::Answer(503, vec![("retry-after", "1".to_owned())], body.to_string())
}

fn made() -> Told {
    Told::json(201, &json!({"id": "17"}))
}

fn arguments(out: &[&Path]) -> BenchArgs {
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }
    let files = out.iter().flat_map(|file| ["--out", file.to_str().expect("temporary folders have plain names")]);
    Line::try_parse_from(["bench"].into_iter().chain(files)).expect("the flags exist").bench
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_code_and_only_inside_the_window() {
    let report = bench(&options(Workload::Uniform), &grid(|_| busy())).await;
    // Three connections, ten seconds, a tenth of a second per refusal; one more or less at the edges.
    assert!((297..=303).contains(&report.refused), "{report:?}");
    assert_eq!((report.refused_by_code.get("overloaded"), report.placed, report.unknown), (Some(&report.refused), 0, 0));
    let (screen, _, _) = crate::screen::tests::kept();
    let failure = end(&report, &arguments(&[]), Format::Json, &screen).expect_err("nothing was placed");
    assert_eq!(failure.exit(), Exit::Failed);
}

#[tokio::test(start_paused = true)]
async fn connections_go_to_the_nodes_that_lead_if_these_are_known() {
    let node = |id: &str, http: &str| json!({"id": id, "name": id, "zone": "z", "http": http, "state": "ok", "reachable": true, "leaders": 1, "replicas": 2});
    let shard = |id: &str, leader: &str, slots: Value| {
        let mut shard = json!({"shard": id, "leader": leader, "term": 1, "replicas": []});
        shard.as_object_mut().unwrap().extend(slots.as_object().unwrap().clone());
        shard
    };
    // The meta group, which owns no slot, is led by the other node.
    let shards = [shard("0", "1", json!({})), shard("1", "2", json!({"first_slot": 0, "last_slot": 4_095}))];
    for (http, nodes) in [("http://b:80", ["b"].as_slice()), ("http://elsewhere:80", &["a", "b"])] {
        let status = json!({
            "cluster": "c", "cluster_id": "1", "version": "1", "health": "healthy",
            "nodes": [node("1", "http://a:80"), node("2", http)], "shards": shards,
        });
        let network = grid(move |asked| match asked.path.as_str() {
            "/admin/v1/cluster/status" => Told::json(200, &status),
            _ => busy(),
        });
        bench(&BenchOptions { to: Route::Leaders, ..options(Workload::Uniform) }, &network).await;
        let placed = network.asked().into_iter().filter(|asked| asked.path == "/v1/orders");
        assert_eq!(
            placed.map(|asked| asked.node).collect::<BTreeSet<_>>(),
            nodes.iter().map(|node| (*node).to_owned()).collect()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn skus_are_stocked_first_and_connections_spread_over_the_nodes() {
    for streams in [None, Some(2)] {
        let network = grid(|_| busy());
        bench(&BenchOptions { streams, ..options(Workload::Uniform) }, &network).await;
        let received: Vec<_> = network.asked().into_iter().filter(|asked| asked.path.ends_with("/receive")).collect();
        assert_eq!(received.len(), 5);
        assert!(received.iter().all(|asked| asked.json() == json!({"quantity": 1_000_000_000})), "{received:?}");
        let placed_at = |node: &str| network.asked().iter().any(|asked| asked.path == "/v1/orders" && asked.node == node);
        assert!(placed_at("a") && placed_at("b"), "{streams:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_counts_every_result() {
    let turn = AtomicU64::new(0);
    let network = grid(move |asked| {
        assert_eq!(asked.line(), "POST /v1/orders/batch?return=minimal");
        assert_eq!(asked.key, None, "every order has its own");
        // Every other request is refused whole, so that simulated time goes on.
        if turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return busy();
        }
        let error =
            |code: &str, outcome: &str| json!({"status": 409, "error": {"code": code, "retryable": false, "outcome": outcome}});
        Told::json(
            200,
            &json!({"results": [
                {"status": 201, "order": {"id": "1"}}, error("out_of_stock", "refused"), error("outcome_unknown", "unknown"),
            ]}),
        )
    });
    let report = bench(&BenchOptions { batch: 3, ..options(Workload::Hot) }, &network).await;
    assert!(report.placed > 0, "{report:?}");
    assert_eq!(report.refused_by_code.get("out_of_stock"), Some(&report.placed));
    assert_eq!(report.unknown, report.placed);
    assert!(report.refused_by_code["overloaded"] % 3 == 0, "a batch that is refused counts for all its orders: {report:?}");
    assert_eq!((report.setup.batch, report.setup.skus), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lifecycle_goes_through_every_step() {
    let network = grid(|asked| match asked.path.as_str() {
        "/v1/orders" => made(),
        "/v1/orders/17/payments" => Told::json(201, &json!({})),
        "/v1/orders/17/fulfilments" => Told::json(201, &json!({"id": "17-f1"})),
        "/v1/fulfilments/17-f1/ship" => Told::json(200, &json!({})),
        "/v1/fulfilments/17-f1/deliver" => busy(),
        path => panic!("{path} is no step"),
    });
    let report = bench(&options(Workload::Lifecycle), &network).await;
    assert!(report.placed > 0 && report.refused >= report.placed - 3, "{report:?}");
    let asked = network.asked();
    let keys: Vec<_> =
        asked.iter().filter_map(|asked| asked.key.as_deref()).filter(|key| key.starts_with("7-0-")).take(5).collect();
    assert_eq!(keys, ["7-0-1", "7-0-1-pay", "7-0-1-pick", "7-0-1-ship", "7-0-1-deliver"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_lifecycles_takes_each_step_together_and_pays_for_every_line() {
    let network = grid(move |asked| match asked.path.as_str() {
        "/v1/orders/batch?return=minimal" => {
            let results = [17, 18, 19].map(|id| json!({"status": 201, "order": {"id": id.to_string()}}));
            Told::json(200, &json!({"results": results}))
        }
        "/v1/commands/batch?return=minimal" => {
            let commands = asked.json()["commands"].as_array().expect("a list").clone();
            let result = |command: &Value| {
                let path = command["path"].as_str().expect("a path");
                let id = path.split('/').nth(3).expect("an id");
                match path.rsplit('/').next() {
                    // The warehouse does not find the second order.
                    Some("fulfilments") if id == "18" => {
                        json!({"status": 409, "error": {"code": "wrong_phase", "retryable": false, "outcome": "refused"}})
                    }
                    Some("fulfilments") => json!({"status": 201, "created": format!("{id}-f1"), "order": {"id": id}}),
                    _ => json!({"status": 200, "order": {"id": "17"}}),
                }
            };
            Told::json(200, &json!({"results": commands.iter().map(result).collect::<Vec<_>>()}))
        }
        path => panic!("{path} is no step"),
    });
    let lines = Lines::just(2);
    let whole = BenchOptions { batch: 3, total: Some(12), warmup: Duration::ZERO, lines, ..options(Workload::Lifecycle) };
    let report = bench(&whole, &network).await;
    assert_eq!((report.placed, report.latencies["lifecycle"].count, report.latencies["deliver"].count), (12, 8, 4));
    assert_eq!((report.work.as_str(), report.refused_by_code.get("wrong_phase")), ("lifecycle", Some(&4)));
    let asked = network.asked();
    let batches =
        asked.iter().filter(|asked| asked.path.starts_with("/v1/commands")).map(|asked| asked.json()["commands"].clone());
    let commands: Vec<_> = batches.flat_map(|batch| batch.as_array().expect("a list").clone()).collect();
    let of = |word: &str| commands.iter().filter(|one| one["path"].as_str().is_some_and(|path| path.ends_with(word))).collect();
    let (paid, shipped): (Vec<&Value>, Vec<&Value>) = (of("/payments"), of("-f1/ship"));
    assert!(paid.iter().all(|one| one["body"]["amount"] == 510), "{paid:?}");
    assert_eq!((paid.len(), shipped.len()), (12, 8));
    let keys: BTreeSet<_> = commands.iter().map(|one| one["idempotency_key"].as_str().expect("a key")).collect();
    assert_eq!(keys.len(), commands.len(), "every command has a key of its own");
}

#[tokio::test(start_paused = true)]
async fn orders_of_callers_that_come_one_by_one_are_gathered() {
    let network = grid(|asked| {
        let orders = asked.json()["orders"].as_array().expect("a batch").len();
        let result = json!({"status": 201, "order": {"id": "17"}});
        Told::json(200, &json!({"results": vec![result; orders]}))
    });
    let gather = Some(Coalescing { callers: 10, orders: 4 });
    let report =
        bench(&BenchOptions { gather, total: Some(100), warmup: Duration::ZERO, ..options(Workload::Uniform) }, &network).await;
    assert_eq!((report.placed, report.refused, report.unknown, report.latencies["place"].count), (100, 0, 0, 100));
    assert_eq!((report.setup.callers, report.setup.batch, report.setup.connections), (Some(10), 4, 3));
    let batches: Vec<_> = network.asked().into_iter().filter(|asked| asked.path.starts_with("/v1/orders/batch")).collect();
    let orders = |asked: &Asked| asked.json()["orders"].as_array().expect("a batch").clone();
    assert!(batches.iter().all(|asked| orders(asked).len() <= 4) && batches.len() < 50, "{} requests", batches.len());
    let keys: BTreeSet<_> = batches.iter().flat_map(orders).map(|order| order["idempotency_key"].to_string()).collect();
    assert_eq!(keys.len(), 100, "every order has a key of its own");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_away_costs_its_connections_nothing_but_the_request() {
    for streams in [None, Some(1)] {
        let hung_up = AtomicBool::new(false);
        let network = grid(move |asked| {
            let first = asked.node == "a" && !hung_up.swap(true, Ordering::Relaxed);
            if first { Told::HangUp } else { busy() }
        });
        let report = bench(&BenchOptions { warmup: Duration::ZERO, streams, ..options(Workload::Uniform) }, &network).await;
        assert_eq!(report.unknown, 1, "{report:?}");
        assert!(report.refused > 250, "the other node is asked from there on: {report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_sends_on_schedule_and_a_stall_counts_for_all_it_kept_waiting() {
    let every = BenchOptions { rate: Some(100), ..options(Workload::Uniform) };
    let report = bench(&every, &grid(|_| made())).await;
    let schedule = report.schedule.expect("the loop is open");
    assert_eq!(
        (schedule.scheduled, schedule.never_sent, report.placed, report.setup.r#loop.as_str()),
        (1_000, 0, 1_000, "open")
    );
    assert_eq!(report.latencies["place"].count, 1_000);
    assert!(report.max_ms <= 2.0, "{report:?}");

    // All three connections wait for an answer that never comes.
    let report = bench(&every, &grid(|_| Told::Silence)).await;
    let schedule = report.schedule.expect("the loop is open");
    assert_eq!((schedule.scheduled, schedule.never_sent, report.placed), (1_000, 1_000, 0));
    assert_eq!(report.latencies["place"].count, 1_000, "what was never sent has waited all the same");
    assert!((4_900.0..5_100.0).contains(&report.p50_ms), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flash_sale_measures_refusals_and_what_they_cost() {
    let sold = AtomicU64::new(0);
    // An order and a refusal each take a request; simulated time goes on by the schedule.
    let network = grid(move |asked| {
        assert_eq!(asked.json()["lines"][0]["sku"], "bench-flash-7-0");
        if sold.fetch_add(1, Ordering::Relaxed) < 10 { made() } else { Told::problem(409, "out_of_stock", false) }
    });
    let report = bench(&BenchOptions { rate: Some(50), ..options(Workload::Flash) }, &network).await;
    let flash = report.flash.expect("it is a flash sale");
    assert_eq!((flash.units, flash.sold, report.placed, report.work.as_str()), (10, 10, 0, "refusal"));
    assert_eq!(flash.refusals_per_s, 50.0);
    // The metrics of this grid count every request as an entry, and both nodes say so.
    assert!(flash.log_entries_per_refusal.is_some_and(|entries| (1.9..2.1).contains(&entries)), "{flash:?}");
    let received: Vec<_> = network.asked().into_iter().filter(|asked| asked.path.ends_with("/receive")).collect();
    assert_eq!(received[0].json(), json!({"quantity": 10}));
    let (screen, _, _) = crate::screen::tests::kept();
    assert_eq!(end(&report, &arguments(&[]), Format::Json, &screen).expect("refusals are what it is about"), Exit::Done);
    let oversold = BenchReport { flash: Some(Flash { sold: 11, ..flash }), ..report };
    assert!(end(&oversold, &arguments(&[]), Format::Json, &screen).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_mix_reads_what_it_has_placed() {
    let network = grid(|asked| match asked.line().as_str() {
        "POST /v1/orders" => made(),
        "GET /v1/orders/17" => Told::json(200, &json!({"id": "17"})),
        line => panic!("{line} is not asked"),
    });
    let report = bench(&BenchOptions { rate: Some(100), ..options(Workload::ReadMix) }, &network).await;
    let counted = |kind: &str| report.latencies[kind].count;
    assert_eq!(counted("place") + counted("read_order") + counted("read_sku"), 1_000);
    assert_eq!((report.placed, report.work_per_s), (counted("place"), 100.0));
    assert!(counted("read_order") > 300 && counted("read_sku") > 300, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_grid_spent_is_the_difference_of_its_metrics() {
    let report = bench(&BenchOptions { rate: Some(100), ..options(Workload::Uniform) }, &grid(|_| made())).await;
    // Two nodes that each say what both got.
    let near = |figure: Option<f64>| figure.is_some_and(|figure| (1.9..2.1).contains(&figure));
    assert!(near(report.cost_of_one.server_cpu_s) && near(report.cost_of_one.log_entries), "{:?}", report.cost_of_one);
    assert_eq!(report.cost.log_syncs, Some(0.0));
    assert_eq!(report.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["apply", "stage place parse"]);
    assert_eq!(report.profile, None, "nobody asked");
}

#[tokio::test(start_paused = true)]
async fn where_the_time_goes_is_told_to_whoever_asks() {
    let asked = BenchOptions { rate: Some(100), profile: true, ..options(Workload::Uniform) };
    let report = bench(&asked, &grid(|_| made())).await;
    let profile = report.profile.as_ref().expect("it was asked for");
    // Two nodes that each say what both got; a request at an edge of the window may be of either side.
    let near = |figure: f64, expected: f64| (figure - expected).abs() < 0.05 * expected;
    let stages: Vec<_> = profile.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(stages, ["parse"], "what is not told is left out");
    assert!(near(profile.stages[0].each, 2.0) && profile.stages[0].cpu_s.is_some_and(|cpu| near(cpu, 2.0)), "{profile:?}");
    let parts: Vec<_> = profile.cpu.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(parts, ["stages", "everything_else", "log_writer"]);
    assert!(profile.cpu.iter().all(|part| near(part.cpu_s, 2.0) && near(part.share, 1.0 / 3.0)), "{profile:?}");

    let folder = tempfile::tempdir().expect("there is a place for temporary folders");
    let (json, html) = (folder.path().join("a.json"), folder.path().join("a.html"));
    let (screen, data, _) = crate::screen::tests::kept();
    end(&report, &arguments(&[&json, &html]), Format::Table, &screen).expect("orders were placed");
    assert!(data.text().contains("\nWHERE THE TIME GOES"), "{}", data.text());
    assert_eq!(read_one(&json).expect("it was written").benches, std::slice::from_ref(&report));
    let page = std::fs::read_to_string(&html).expect("it was written");
    assert!(page.contains("everything else (HTTP, scheduling)") && !page.contains("NaN"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn the_report_is_that_of_the_median_run() {
    let turn = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&turn);
    // Each run asks under keys of its own: in run 7 one in two is placed, in run 8 all, in run 9 none.
    let network = grid(move |asked| {
        let placed = match asked.key.as_deref().and_then(|key| key.split('-').next()) {
            Some("7") => counted.fetch_add(1, Ordering::Relaxed).is_multiple_of(2),
            Some("8") => true,
            _ => false,
        };
        if placed { made() } else { Told::problem(409, "out_of_stock", false) }
    });
    let report = bench(&BenchOptions { rate: Some(100), runs: 3, ..options(Workload::Uniform) }, &network).await;
    let rates: Vec<_> = report.runs.iter().map(|run| run.work_per_s).collect();
    assert_eq!((rates, report.work_per_s, report.placed), (vec![50.0, 100.0, 0.0], 50.0, 500));
}

#[tokio::test(start_paused = true)]
async fn reports_are_written_and_put_together() {
    let report = bench(&BenchOptions { rate: Some(100), ..options(Workload::Uniform) }, &grid(|_| made())).await;
    let folder = tempfile::tempdir().expect("there is a place for temporary folders");
    let file = |name: &str| folder.path().join("made").join(name);
    let (json, html, both) = (file("a.json"), file("a.html"), file("both.json"));
    let (screen, data, _) = crate::screen::tests::kept();
    end(&report, &arguments(&[&json, &html]), Format::Json, &screen).expect("orders were placed");
    assert_eq!(serde_json::from_str::<BenchReport>(&data.text()).expect("stdout is JSON"), report);
    let page = std::fs::read_to_string(&html).expect("it was written");
    for needed in ["<svg", "prefers-color-scheme: dark", "uniform, open loop 100/s"] {
        assert!(page.contains(needed), "{needed}");
    }
    for foreign in ["<script", "http://", "https://", "url(", "@import", "NaN"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    write_all(std::slice::from_ref(&both), &read_all(&[json.clone(), json]).expect("it was written")).expect("it can be");
    assert_eq!(read_one(&both).expect("it was written").benches, [report.clone(), report]);
    assert!(read_one(&html).is_err(), "a page is no report");
}

#[tokio::test(start_paused = true)]
async fn a_broken_law_is_the_answer_no() {
    for ok in [true, false] {
        let broken = if ok { Vec::new() } else { vec!["sku A: promised twice"] };
        let network = grid(move |asked| match asked.path.as_str() {
            "/admin/v1/cluster/verify" => Told::json(
                200,
                &json!({"ok": ok, "shards": [], "counts": {}, "laws": [{"law": "NoOversell", "ok": ok, "violations": broken}],
                        "in_flight": {"tentative_holds": 0, "undelivered_messages": 0, "running_attempts": 0}}),
            ),
            _ => made(),
        });
        let report = bench(&BenchOptions { rate: Some(10), verify: true, ..options(Workload::Uniform) }, &network).await;
        let (screen, _, _) = crate::screen::tests::kept();
        let ended = end(&report, &arguments(&[]), Format::Json, &screen).expect("orders were placed");
        assert_eq!((report.laws_hold, ended), (Some(ok), if ok { Exit::Done } else { Exit::AnswerIsNo }));
    }
}
