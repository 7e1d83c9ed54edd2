//! Numbers, times and sizes as people read them. JSON has plain integers and RFC 3339 instead.

use std::time::Duration;

use ordergrid_api::wire::WireText;
use ordergrid_domain::Timestamp;

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Minor units with two decimals: `1390` as `13.90`.
pub(super) fn amount(minor: i64) -> String {
    let sign = if minor < 0 { "-" } else { "" };
    let whole = minor.unsigned_abs();
    format!("{sign}{}.{:02}", count(whole / 100), whole % 100)
}

/// Bytes in decimal units: `210 GB`.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would be printed as 1000.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value < 9.95);
    format!("{value:.decimals$} {}", units[unit])
}

/// The largest unit that fits: `12d`, `4m`, `0s`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A span of time by its two largest units: `31d 8h`, `4m 5s`, `20s`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// A time that may not be known, as tables show it.
pub(super) fn moment(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.write(str::to_owned))
}

/// A latency with three significant digits: `11.2 ms`.
pub(super) fn latency(ms: f64) -> String {
    match ms {
        ms if ms >= 9_995.0 => format!("{:.1} s", ms / 1_000.0),
        ms if ms >= 99.95 => format!("{ms:.0} ms"),
        ms if ms >= 9.995 => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

/// At most three decimals.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

/// Reads a time: `30`, `30s`, `500ms`, `2m`, `1h`; a number alone is seconds.
///
/// # Errors
/// A sentence for the person who typed it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let end_of_number = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end_of_number);
    let in_ms = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let ms = number.parse::<u64>().ok().zip(in_ms).and_then(|(number, in_ms)| number.checked_mul(in_ms));
    ms.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is not a duration such as 30s, 500ms, 2m or 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (245, "4m 5s"), (3_600, "1h 0m"), (691_200, "8d 0h")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (74_215, "74,215"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (minor, text) in [(0, "0.00"), (5, "0.05"), (-1_390, "-13.90"), (821_969_877, "8,219,698.77")] {
            assert_eq!(amount(minor), text);
        }
    }

    #[test]
    fn sizes_ages_and_latencies_are_short() {
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (999_600, "1.0 MB"), (210_000_000_000, "210 GB")] {
            assert_eq!(size(bytes), text);
        }
        for (seconds, text) in [(0, "0s"), (59, "59s"), (240, "4m"), (7_200, "2h"), (1_036_800, "12d")] {
            assert_eq!(age(seconds), text);
        }
        for (ms, text) in [(0.5, "0.50 ms"), (11.24, "11.2 ms"), (99.97, "100 ms"), (12_345.0, "12.3 s")] {
            assert_eq!(latency(ms), text);
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, ms) in
            [("30", Some(30_000)), ("30s", Some(30_000)), ("500ms", Some(500)), ("2m", Some(120_000)), ("1h", Some(3_600_000))]
        {
            assert_eq!(duration(text).ok(), ms.map(Duration::from_millis), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1d", "99999999999999999999", "99999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
