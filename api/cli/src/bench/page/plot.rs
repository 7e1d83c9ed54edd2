//! Plots as inline SVG: no script, no colour of their own (the page's style has them), figures on hovering as titles.

use std::fmt::Write;

use crate::bench::figures::{short, time};

/// Width of a plot, in its own units; the page scales it.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 30.0;
/// Height of a row in plots that have rows.
const ROW: f64 = 24.0;
/// Colours that the style has.
pub(super) const COLOURS: usize = 8;

/// From values to places.
#[derive(Clone, Copy, Debug)]
struct Scale {
    from: f64,
    to: f64,
    log: bool,
    start: f64,
    end: f64,
}

impl Scale {
    /// From nothing to at least `most`.
    fn linear(most: f64, start: f64, end: f64) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let step = nice_step(most / 4.0);
        Self { from: 0.0, to: (most / step).ceil() * step, log: false, start, end }
    }

    /// From the next of 1, 2, 5, 10, ... below all values above nothing to the next above, a decade at least.
    fn log(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (least, most) = (least.min(value), most.max(value));
        }
        if most <= 0.0 {
            (least, most) = (0.1, 1.0);
        }
        // The greatest step that is not more is the one before the first that is more.
        let from = nice_step(least * 1.001);
        let from = if from > least { step_before(from) } else { from };
        Self { from, to: nice_step(most).max(from * 10.0), log: true, start, end }
    }

    fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        self.start + (self.end - self.start) * share.clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let all = std::iter::successors(Some(self.from), |tick| Some(nice_step(tick * 1.5)));
            let ticks: Vec<_> = all.take_while(|tick| *tick <= self.to * 1.001).collect();
            // More than some would run into each other: whole decades are enough then, or some of them.
            if ticks.len() <= 6 {
                return ticks;
            }
            let decade = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-6;
            let decades: Vec<_> = ticks.into_iter().filter(decade).collect();
            let every = decades.len().div_ceil(6);
            return decades.into_iter().step_by(every).collect();
        }
        let step = nice_step(self.to / 4.0);
        (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= self.to * 1.001).collect()
    }
}

/// The next of 1, 2, 5, 10, ... that is not less.
fn nice_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * decade).into_iter().find(|step| *step >= least * 0.999).unwrap_or(decade * 10.0)
}

/// The step before one of 1, 2, 5, 10, ...
fn step_before(step: f64) -> f64 {
    let decade = 10_f64.powf((step * 0.999).log10().floor());
    [5.0, 2.0].map(|before| before * decade).into_iter().find(|before| *before < step * 0.999).unwrap_or(decade)
}

/// Text that stands for itself in HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// An SVG under construction.
struct Svg(String);

impl Svg {
    fn new(height: f64, says: &str) -> Self {
        let says = escaped(says);
        Self(format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{says}">"#))
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#));
    }

    fn text(&mut self, class: &str, anchor: &str, at: (f64, f64), text: &str) {
        let (x, y) = at;
        let text = escaped(text);
        self.put(format_args!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#));
    }

    /// The values at the left side, each with a line across.
    fn values(&mut self, scale: &Scale, label: fn(f64) -> String) {
        for tick in scale.ticks() {
            let y = scale.at(tick);
            self.line("grid", (LEFT, y), (WIDTH - RIGHT, y));
            self.text("", "end", (LEFT - 8.0, y + 4.0), &label(tick));
        }
    }

    /// Something to point at, with what it says.
    fn spot(&mut self, at: (f64, f64), radius: f64, style: &str, says: &str) {
        let ((x, y), says) = (at, escaped(says));
        self.put(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" style="{style}"><title>{says}</title></circle>"#
        ));
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        self.0.write_fmt(what).expect("writing to a string cannot fail");
    }

    fn end(self) -> String {
        self.0 + "</svg>"
    }
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (at, (x, y)) in points.iter().enumerate() {
        write!(path, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" }).expect("writing to a string cannot fail");
    }
    path
}

/// Values over time, each for a stretch of `step_s`, as an area from nothing up.
pub(super) fn course(step_s: f64, values: &[f64], says: &str, label: fn(f64) -> String) -> String {
    let mut svg = Svg::new(HEIGHT, says);
    let (bottom, most) = (HEIGHT - BOTTOM, values.iter().copied().fold(0.0, f64::max));
    let up = Scale::linear(most, bottom, TOP);
    let end = (step_s * values.len() as f64).max(f64::MIN_POSITIVE);
    let along = Scale { from: 0.0, to: end, log: false, start: LEFT, end: WIDTH - RIGHT };
    svg.values(&up, label);
    for tick in along.ticks() {
        svg.text("", "middle", (along.at(tick), bottom + 19.0), &format!("{} s", short(tick)));
    }
    let points: Vec<_> =
        values.iter().enumerate().map(|(at, value)| (along.at((at as f64 + 0.5) * step_s), up.at(*value))).collect();
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let area = format!("{}L{:.1} {bottom}L{:.1} {bottom}Z", path(&points), last.0, first.0);
        svg.put(format_args!(r#"<path class="area" d="{area}"/>"#));
        svg.put(format_args!(r#"<path class="curve" style="stroke:var(--c0)" d="{}"/>"#, path(&points)));
    }
    svg.line("axis", (LEFT, bottom), (WIDTH - RIGHT, bottom));
    let width = (WIDTH - LEFT - RIGHT) / values.len().max(1) as f64;
    for (at, value) in values.iter().enumerate() {
        let (x, height) = (along.at(at as f64 * step_s), bottom - TOP);
        svg.put(format_args!(
            r#"<rect x="{x:.1}" y="{TOP}" width="{width:.1}" height="{height}" fill="transparent"><title>{} s: {}</title></rect>"#,
            short(at as f64 * step_s),
            label(*value),
        ));
    }
    svg.end()
}

/// Curves of latency over the share of requests that were faster: each more nine gets as much room as the one before.
pub(super) fn percentiles(curves: &[(&str, &[(f64, f64)])], says: &str) -> String {
    const NINES: [(f64, &str); 6] =
        [(0.0, "fastest"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"), (1.0, "slowest")];
    let mut svg = Svg::new(HEIGHT, says);
    let bottom = HEIGHT - BOTTOM;
    let up = Scale::log(curves.iter().flat_map(|(_, curve)| curve.iter().map(|(_, ms)| *ms)), bottom, TOP);
    let along = Scale { from: 0.0, to: 5.0, log: false, start: LEFT, end: WIDTH - RIGHT - 14.0 };
    let nines = |quantile: f64| if quantile >= 1.0 { 5.0 } else { (-(1.0 - quantile).log10()).min(4.9) };
    svg.values(&up, time);
    for (quantile, name) in NINES {
        let x = along.at(nines(quantile));
        svg.line("grid", (x, TOP), (x, bottom));
        svg.text("", "middle", (x, bottom + 19.0), name);
    }
    svg.line("axis", (LEFT, bottom), (WIDTH - RIGHT, bottom));
    for (number, (name, curve)) in curves.iter().enumerate() {
        let colour = number % COLOURS;
        let points: Vec<_> = curve.iter().map(|(quantile, ms)| (along.at(nines(*quantile)), up.at(*ms))).collect();
        svg.put(format_args!(r#"<path class="curve" style="stroke:var(--c{colour})" d="{}"/>"#, path(&points)));
        for (point, (quantile, ms)) in points.iter().zip(*curve) {
            let says = format!("{name}: {} of requests took {} or less", share(*quantile), time(*ms));
            svg.spot(*point, 3.0, &format!("fill:var(--c{colour})"), &says);
        }
    }
    svg.end()
}

fn share(quantile: f64) -> String {
    let percent = format!("{:.3}", quantile * 100.0);
    format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// As much of a name as fits into `room`.
fn fitting(name: &str, room: f64) -> String {
    /// Width of a letter, on average.
    const LETTER: f64 = 5.8;
    let most = (room / LETTER) as usize;
    if name.chars().count() <= most { name.to_owned() } else { name.chars().take(most - 1).chain(['\u{2026}']).collect() }
}

/// A row of [`ranges`]: a name, the range of most of it, its mean, and a word at the end.
pub(super) struct Range {
    pub(super) name: String,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) mean: f64,
    pub(super) note: String,
}

/// Ranges on a common scale of milliseconds, one below the other.
pub(super) fn ranges(rows: &[Range], says: &str) -> String {
    const NAMES: f64 = 208.0;
    const NOTES: f64 = 84.0;
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let mut svg = Svg::new(height, says);
    let values = rows.iter().flat_map(|row| [row.p50, row.p99, row.mean]);
    let along = Scale::log(values, NAMES, WIDTH - NOTES);
    let bottom = height - BOTTOM;
    for tick in along.ticks() {
        let x = along.at(tick);
        svg.line("grid", (x, TOP), (x, bottom));
        svg.text("", "middle", (x, bottom + 19.0), &time(tick));
    }
    for (at, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (at as f64 + 0.5);
        svg.text("strong", "end", (NAMES - 10.0, y + 4.0), &fitting(&row.name, NAMES - 10.0));
        let (from, to) = (along.at(row.p50), along.at(row.p99));
        svg.put(format_args!(
            r#"<line class="range" style="stroke:var(--c0)" x1="{from:.1}" y1="{y:.1}" x2="{to:.1}" y2="{y:.1}"/>"#
        ));
        let says = format!("{}: mean {}, median {}, 99 % {}", row.name, time(row.mean), time(row.p50), time(row.p99));
        svg.spot((along.at(row.mean), y), 4.5, "fill:var(--c0)", &says);
        svg.text("", "start", (WIDTH - NOTES + 10.0, y + 4.0), &row.note);
    }
    svg.end()
}

/// A row of [`bars`]: a name, a value, and the number of its colour.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) colour: usize,
}

/// Bars on a common scale from nothing on, one below the other.
pub(super) fn bars(rows: &[Bar], says: &str) -> String {
    const NAMES: f64 = 232.0;
    const VALUES: f64 = 56.0;
    let height = ROW * rows.len() as f64 + 4.0;
    let mut svg = Svg::new(height, says);
    let most = rows.iter().map(|row| row.value).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let along = Scale { from: 0.0, to: most, log: false, start: NAMES, end: WIDTH - VALUES };
    for (at, row) in rows.iter().enumerate() {
        let y = ROW * (at as f64 + 0.5) + 2.0;
        svg.text("strong", "end", (NAMES - 10.0, y + 4.0), &fitting(&row.name, NAMES - 10.0));
        let (width, colour, value) = ((along.at(row.value) - NAMES).max(1.0), row.colour % COLOURS, short(row.value));
        svg.put(format_args!(
            r#"<rect x="{NAMES}" y="{:.1}" width="{width:.1}" height="14" rx="3" style="fill:var(--c{colour})"/>"#,
            y - 7.0,
        ));
        svg.text("strong", "start", (NAMES + width + 8.0, y + 4.0), &value);
    }
    svg.line("axis", (NAMES, 0.0), (NAMES, height));
    svg.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_put_values_where_they_belong() {
        let linear = Scale::linear(930.0, 100.0, 0.0);
        assert_eq!((linear.to, linear.at(0.0), linear.at(500.0), linear.at(1_000.0)), (1_000.0, 100.0, 50.0, 0.0));
        assert_eq!(linear.ticks(), [0.0, 500.0, 1_000.0]);
        let log = Scale::log([0.13, 72.0].into_iter(), 0.0, 90.0);
        for (value, place) in [(0.1, 0.0), (1.0, 30.0), (10.0, 60.0), (100.0, 90.0), (0.0, 0.0), (1e9, 90.0)] {
            assert!((log.at(value) - place).abs() < 1e-9, "{value}: {}", log.at(value));
        }
        // values, from, to, ticks
        for (values, from, to, ticks) in [
            ([0.13, 72.0], 0.1, 100.0, 4),
            ([3.0, 40.0], 2.0, 50.0, 5),
            ([20.0, 30.0], 20.0, 200.0, 4),
            ([5.0, 999.0], 5.0, 1e3, 3),
            ([1e-4, 1e4], 1e-4, 1e4, 5),
        ] {
            let log = Scale::log(values.into_iter(), 0.0, 1.0);
            assert!((log.from / from - 1.0).abs() < 1e-6 && (log.to / to - 1.0).abs() < 1e-6, "{values:?}: {log:?}");
            assert_eq!(log.ticks().len(), ticks, "{values:?}: {:?}", log.ticks());
        }
        assert!(
            Scale::log(std::iter::empty(), 0.0, 1.0).at(0.5).is_finite() && Scale::linear(0.0, 0.0, 1.0).at(0.0).is_finite()
        );
    }

    #[test]
    fn long_names_are_cut() {
        for (length, kept) in [(34, 34), (35, 34)] {
            let name = fitting(&"\u{e9}".repeat(length), 200.0);
            assert_eq!((name.chars().count(), name.ends_with('\u{2026}')), (kept, length > 34), "{name}");
        }
    }

    #[test]
    fn names_cannot_break_out() {
        let row = Bar { name: "<script>\"&".to_owned(), value: 1.0, colour: 0 };
        let svg = bars(&[row], "a \"title\"");
        assert!(svg.contains("&lt;script&gt;&quot;&amp;") && !svg.contains("<script>"), "{svg}");
        assert!(svg.contains("aria-label=\"a &quot;title&quot;\""), "{svg}");
    }

    #[test]
    fn no_plot_has_a_place_that_is_none() {
        let nothing = [course(1.0, &[], "x", short), percentiles(&[], "x"), ranges(&[], "x"), bars(&[], "x")];
        let zero = Range { name: String::new(), p50: 0.0, p99: 0.0, mean: 0.0, note: String::new() };
        let flat = [course(0.5, &[0.0, 0.0], "x", short), percentiles(&[("a", &[(0.5, 0.0)])], "x"), ranges(&[zero], "x")];
        for svg in nothing.iter().chain(&flat) {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
