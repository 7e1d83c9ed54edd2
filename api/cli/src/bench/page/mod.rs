//! A document of benches as one page that needs nothing beside itself, in light and in dark.

mod plot;

use std::collections::BTreeSet;
use std::fmt::Write;

use self::plot::{Bar, COLOURS, Range, escaped};
use super::figures::{short, time};
use super::profile::{CpuPart, Profile, ProfileStage};
use super::report::{BenchReport, Document, StageReport};
use super::table::costs;
use crate::units;

const STYLE: &str = include_str!("style.css");
/// Stages that a plot shows.
const STAGES: usize = 14;
const FITS: &str = "writing to a string cannot fail";

/// The page.
pub(super) fn page(document: &Document) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>OrderGrid bench</title><style>{STYLE}</style></head><body><main>"
    );
    html += &head(document);
    html += &overview(&document.benches);
    html += "<h2>Each bench</h2>";
    for (number, bench) in document.benches.iter().enumerate() {
        html += &section(number, bench);
    }
    html + HOW + "</main></body></html>\n"
}

const HOW: &str = "<h2>How to read this</h2><div class=\"card\">\
<p><b>Closed loop</b>: every connection asks again as soon as it was answered; the rate is what the grid sustains, the latencies \
are those at full load. Latencies in the overview are those of requests that place. <b>Open loop</b>: requests are sent on a fixed schedule, and latency counts from the moment a request \
should have been sent. A stall therefore counts once for every request that it kept waiting.</p>\
<p><b>Every order is durable</b>: it is synced to the disks of a majority of the nodes before it is answered. Syncs are never \
turned off. Requests that ended in the warm-up are not counted. Nothing is asked twice.</p>\
<p><b>CPU</b> is user and system time, of the grid's processes and of the load generator apart; on one machine they share the \
same processors. Costs are differences of the grid's own metrics over the measured time, all nodes together.</p>\
<p><b>Stages</b> come from the grid's histograms, over all nodes. They overlap: a stage that waits for another has the other's \
time in its own. The bar runs from the median to the 99th percentile, the dot is the mean.</p>\
<p><b>CPU by stage</b> is the time of stages that never wait; where the machine has more to do than processors, that is too much. \
CPU by thread is the system's own account.</p></div>";

fn head(document: &Document) -> String {
    let machine = &document.machine;
    let memory = machine.memory_bytes.map(|bytes| format!(", {} memory", units::size(bytes))).unwrap_or_default();
    let cpu = machine.cpu.as_deref().unwrap_or("processor unknown");
    format!(
        "<h1>OrderGrid bench</h1><p class=\"soft\">{} &middot; version {} &middot; {} &times; {}{memory}, {}</p>",
        escaped(&document.written_at.chars().take(16).collect::<String>().replace('T', " ")),
        escaped(&document.version),
        machine.cores,
        escaped(cpu),
        escaped(&machine.system),
    )
}

/// All benches side by side: bars by what they count, then a table.
fn overview(benches: &[BenchReport]) -> String {
    let mut html = String::from("<h2>Overview</h2><div class=\"card\">");
    let mut works: Vec<&str> = Vec::new();
    for bench in benches {
        if !works.contains(&bench.work.as_str()) {
            works.push(&bench.work);
        }
    }
    let colours: BTreeSet<_> = benches.iter().map(|bench| bench.setup.nodes).collect();
    let colour = |bench: &BenchReport| colours.iter().position(|nodes| *nodes == bench.setup.nodes).unwrap_or(0);
    if colours.len() > 1 {
        for (number, nodes) in colours.iter().enumerate() {
            let name = match nodes {
                None => "a grid that was running".to_owned(),
                Some(1) => "1 node".to_owned(),
                Some(nodes) => format!("{nodes} nodes"),
            };
            html += &key(number, &name);
        }
    }
    html += "<div class=\"plots\">";
    for work in works {
        let of: Vec<_> = benches.iter().filter(|bench| bench.work == work).collect();
        let bar = |bench: &&BenchReport| Bar { name: bench.title.clone(), value: bench.work_per_s, colour: colour(bench) };
        let rows: Vec<_> = of.iter().map(bar).collect();
        let name = plural(work);
        write!(html, "<div><h4>{name} per second</h4>{}</div>", plot::bars(&rows, &format!("{name} per second"))).expect(FITS);
    }
    html + "</div></div>" + &table(benches)
}

fn plural(work: &str) -> String {
    let name = format!("{work}s");
    name[..1].to_uppercase() + &name[1..]
}

fn key(colour: usize, name: &str) -> String {
    format!("<span class=\"key\"><i style=\"background:var(--c{})\"></i>{}</span>", colour % COLOURS, escaped(name))
}

fn table(benches: &[BenchReport]) -> String {
    let mut html = String::from(
        "<div class=\"card wide\"><table><thead><tr><th>bench</th><th>per second</th><th>p50</th><th>p90</th><th>p99</th>\
         <th>p99.9</th><th>max</th><th>server CPU<br>each, us</th><th>client CPU<br>each, us</th><th>syncs<br>each</th>\
         <th>disk bytes<br>each</th><th>log entries<br>each</th></tr></thead><tbody>",
    );
    for (number, bench) in benches.iter().enumerate() {
        let of_one = &bench.cost_of_one;
        let known = |figure: Option<f64>, shown: fn(f64) -> String| figure.map_or_else(|| "&ndash;".to_owned(), shown);
        let micros = |seconds: f64| format!("{:.1}", seconds * 1e6);
        let cells = [
            units::count(bench.work_per_s.round() as u64),
            time(bench.p50_ms),
            time(bench.p90_ms),
            time(bench.p99_ms),
            time(bench.p999_ms),
            time(bench.max_ms),
            known(of_one.server_cpu_s, micros),
            known(of_one.client_cpu_s, micros),
            known(of_one.log_syncs, |syncs| format!("{syncs:.3}")),
            known(of_one.disk_bytes.or(of_one.log_bytes), |bytes| units::count(bytes.round() as u64)),
            known(of_one.log_entries, |entries| format!("{entries:.3}")),
        ];
        write!(html, "<tr><td><a href=\"#b{number}\">{}</a></td>", escaped(&bench.title)).expect(FITS);
        for cell in cells {
            write!(html, "<td>{cell}</td>").expect(FITS);
        }
        html += "</tr>";
    }
    html + "</tbody></table></div>"
}

/// One bench: its figures, its plots, and the rest behind a fold.
fn section(number: usize, bench: &BenchReport) -> String {
    let mut html = format!("<div class=\"card\" id=\"b{number}\"><h3>{}</h3>", escaped(&bench.title));
    write!(html, "<p class=\"soft\">{}</p>", escaped(&how(bench))).expect(FITS);
    html += &warnings(bench);
    html += "<div class=\"tiles\">";
    for (name, value) in tiles(bench) {
        write!(html, "<div class=\"tile\"><b>{value}</b><span>{}</span></div>", escaped(&name)).expect(FITS);
    }
    html += "</div><div class=\"plots\">";
    let course = &bench.course;
    let name = plural(&bench.work);
    let rate = plot::course(course.step_s, &course.work_per_s, &format!("{name} per second over time"), short);
    write!(html, "<div><h4>{name} per second, over time</h4>{rate}</div>").expect(FITS);
    let slowest = plot::course(course.step_s, &course.slowest_ms, "the slowest request over time", time);
    write!(html, "<div><h4>Slowest request, over time</h4>{slowest}</div>").expect(FITS);
    let curves: Vec<_> = bench.latencies_in_order().into_iter().map(|(kind, of)| (kind, of.curve.as_slice())).collect();
    let keys: String = (0..).zip(&curves).map(|(number, (kind, _))| key(number, &kind.replace('_', " "))).collect();
    let latencies = plot::percentiles(&curves, "latency by share of requests");
    write!(html, "<div><h4>Latency, by share of requests</h4>{keys}{latencies}</div>").expect(FITS);
    let stages = if bench.stages.is_empty() {
        "<p class=\"soft\">The grid's metrics could not be read.</p>".to_owned()
    } else {
        plot::ranges(&rows(bench), "time in the stages of the grid")
    };
    write!(html, "<div><h4>Stages in the grid, and how often per {}</h4>{stages}</div>", bench.work).expect(FITS);
    if let Some(profile) = &bench.profile {
        html += &where_it_goes(profile, &bench.work);
    }
    html + "</div>" + &fold(bench) + "</div>"
}

/// An order's way through the grid in its order, and the CPU that it takes there.
fn where_it_goes(profile: &Profile, work: &str) -> String {
    let told =
        |plot: String, known: bool| if known { plot } else { "<p class=\"soft\">The nodes do not report this.</p>".to_owned() };
    let row = |stage: &ProfileStage| Range {
        name: stage.name.replace('_', " "),
        p50: stage.p50_ms,
        p99: stage.p99_ms,
        mean: stage.mean_ms,
        note: stage.cpu_s.map_or_else(String::new, |seconds| time(seconds * 1e3)),
    };
    let stages: Vec<_> = profile.stages.iter().map(row).collect();
    let way = told(plot::ranges(&stages, "stages of the way through the grid"), !stages.is_empty());
    let bar = |part: &CpuPart| Bar { name: part.called(), value: part.cpu_s * 1e6, colour: 0 };
    let parts: Vec<_> = profile.cpu.iter().map(bar).collect();
    let cpu = told(plot::bars(&parts, "CPU by what it is for"), !parts.is_empty());
    format!(
        "<div><h4>The way through the grid, and the CPU of stages that never wait, per {work}</h4>{way}</div>\
         <div><h4>CPU of the grid, us per {work}</h4>{cpu}</div>"
    )
}

/// How it was measured, in a sentence.
fn how(bench: &BenchReport) -> String {
    let setup = &bench.setup;
    let asked = counted(setup.endpoints as u64, "node") + " asked";
    let grid = setup.nodes.map_or(asked, |nodes| counted(nodes.into(), "node") + " on this machine");
    let shards = setup.shards.map(|shards| format!(", {}", counted(shards.into(), "shard"))).unwrap_or_default();
    let streams = if setup.streams > 1 { format!(" of {} streams", setup.streams) } else { String::new() };
    let orders = match setup.callers {
        Some(callers) => {
            format!("{} gathered into up to {}", counted(callers.into(), "caller"), counted(setup.batch.into(), "order"))
        }
        None => counted(setup.batch.into(), "order"),
    };
    let lines = match setup.lines {
        (least, most) if least == most => counted(least.into(), "line"),
        (least, most) => format!("{least} to {most} lines"),
    };
    let rates: Vec<_> = bench.runs.iter().map(|run| units::count(run.work_per_s.round() as u64)).collect();
    let runs =
        if rates.len() > 1 { format!("; the median of {} runs: {}", rates.len(), rates.join(", ")) } else { String::new() };
    format!(
        "{} loop over HTTP/{}, {}{streams}{}, {orders} a request, {lines} an order, {}; {grid}{shards}; {} s after {} s of warm-up{runs}.",
        if setup.r#loop == "open" { "Open" } else { "Closed" },
        setup.http,
        counted(setup.connections.into(), "connection"),
        setup.whither(),
        counted(setup.skus.into(), "SKU"),
        setup.duration_s,
        setup.warm_up_s,
    )
}

fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", units::count(number), if number == 1 { "" } else { "s" })
}

/// What somebody who reads the figures must know.
fn warnings(bench: &BenchReport) -> String {
    let mut said = Vec::new();
    if bench.laws_hold == Some(false) {
        said.push("A law of stock is broken.".to_owned());
    }
    if bench.unknown > 0 {
        said.push(format!("The outcome of {} is unknown.", units::count(bench.unknown)));
    }
    if bench.profile.as_ref().is_some_and(Profile::were_interrupted) {
        said.push("Stages took longer than their threads ran: the machine was too busy for a CPU by stage.".to_owned());
    }
    if let Some(schedule) = bench.schedule.filter(|schedule| schedule.never_sent > 0) {
        said.push(format!("{} requests of the schedule were never sent.", units::count(schedule.never_sent)));
    }
    let cost = &bench.cost;
    if let (Some(other), Some(server), Some(client)) = (cost.other_cpu_s, cost.server_cpu_s, cost.client_cpu_s) {
        let share = other / (other + server + client).max(f64::MIN_POSITIVE);
        if share > 0.05 {
            said.push(format!(
                "Other processes took {:.0} % of the CPU time that was spent: the figures are too low.",
                share * 100.0
            ));
        }
    }
    said.iter().map(|text| format!("<p class=\"bad\">{text}</p>")).collect()
}

fn tiles(bench: &BenchReport) -> Vec<(String, String)> {
    let mut tiles = vec![
        (format!("{} per second", plural(&bench.work).to_lowercase()), units::count(bench.work_per_s.round() as u64)),
        ("placing, p50".to_owned(), time(bench.p50_ms)),
        ("placing, p99".to_owned(), time(bench.p99_ms)),
        ("placing, p99.9".to_owned(), time(bench.p999_ms)),
        ("placing, slowest".to_owned(), time(bench.max_ms)),
    ];
    for (name, value) in costs(&bench.cost_of_one) {
        tiles.push((format!("{name} per {}", bench.work), value));
    }
    if let Some(schedule) = &bench.schedule {
        let late = format!("{} of {}", units::count(schedule.late), units::count(schedule.scheduled));
        tiles.push(("requests sent late (over 1 ms)".to_owned(), late));
    }
    if let Some(flash) = &bench.flash {
        tiles.push(("units sold".to_owned(), format!("{} of {}", units::count(flash.sold), units::count(flash.units))));
    }
    if bench.laws_hold == Some(true) {
        tiles.push(("laws of stock, proven afterwards".to_owned(), "all hold".to_owned()));
    }
    tiles
}

/// The stages that took longest in all. Whole requests are in the plot of latencies already, as the client sees them.
fn rows(bench: &BenchReport) -> Vec<Range> {
    let work = (bench.work_per_s * bench.setup.duration_s).max(1.0);
    let row = |stage: &StageReport| Range {
        name: stage.name.replace('_', " "),
        p50: stage.p50_ms,
        p99: stage.p99_ms,
        mean: stage.mean_ms,
        note: format!("{} each", short(stage.count as f64 / work)),
    };
    let stages = bench.stages.iter().filter(|stage| !stage.name.starts_with("http_request"));
    stages.take(STAGES).map(row).collect()
}

/// Everything else, as tables.
fn fold(bench: &BenchReport) -> String {
    let mut html = String::from("<details><summary>All figures</summary><div class=\"wide\"><table><tbody>");
    let mut row = |name: &str, value: String| {
        write!(html, "<tr><td>{}</td><td>{value}</td></tr>", escaped(name)).expect(FITS);
    };
    row("orders placed", units::count(bench.placed));
    row("refused", units::count(bench.refused));
    for (code, number) in &bench.refused_by_code {
        row(&format!("refused: {code}"), units::count(*number));
    }
    row("outcome unknown", units::count(bench.unknown));
    row("requests per second", units::count(bench.requests_per_s.round() as u64));
    let cost = &bench.cost;
    for (name, seconds) in
        [("server CPU", cost.server_cpu_s), ("client CPU", cost.client_cpu_s), ("CPU of other processes", cost.other_cpu_s)]
    {
        if let Some(seconds) = seconds {
            row(name, format!("{seconds:.2} s"));
        }
    }
    if let Some(bytes) = cost.resident_bytes {
        row("server memory at the end", units::size(bytes as u64));
    }
    html += "</tbody></table><table><thead><tr><th>request</th><th>count</th><th>mean</th><th>p50</th><th>p90</th><th>p99</th>\
             <th>p99.9</th><th>max</th></tr></thead><tbody>";
    for (kind, of) in bench.latencies_in_order() {
        write!(html, "<tr><td>{}</td><td>{}</td>", escaped(&kind.replace('_', " ")), units::count(of.count)).expect(FITS);
        for ms in [of.mean_ms, of.p50_ms, of.p90_ms, of.p99_ms, of.p999_ms, of.max_ms] {
            write!(html, "<td>{}</td>", time(ms)).expect(FITS);
        }
        html += "</tr>";
    }
    html += "</tbody></table><table><thead><tr><th>stage</th><th>count</th><th>in all</th><th>mean</th><th>p50</th><th>p99</th>\
             </tr></thead><tbody>";
    for stage in &bench.stages {
        write!(html, "<tr><td>{}</td><td>{}</td>", escaped(&stage.name), units::count(stage.count)).expect(FITS);
        for ms in [stage.total_s * 1e3, stage.mean_ms, stage.p50_ms, stage.p99_ms] {
            write!(html, "<td>{}</td>", time(ms)).expect(FITS);
        }
        html += "</tr>";
    }
    html + "</tbody></table></div></details>"
}
